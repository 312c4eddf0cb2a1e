"""What callbacks that watch a figure share."""

from __future__ import annotations

from typing import Any

__all__ = ["Monitor"]


class Monitor:
    """A figure that is watched: which way it improves, and by how much it has to.

    Args:
        owner: Name of the callback, for messages.
        name: Name of the figure, as in `History.history`.
        mode: `"min"`, `"max"`, or `"auto"`: as the model's metric of that name says, which a loss and
            every metric of `tinyconv.metrics` with a best value does.
        min_delta: The least change that counts as an improvement; its sign does not matter. Defaults to 0.

    Raises:
        ValueError: If there is no such mode.
    """

    def __init__(self, owner: str, name: str, mode: str, min_delta: float = 0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{owner} expected mode to be 'auto', 'min' or 'max'. Received: mode={mode!r}")
        self._owner = owner
        self.name = name
        self.mode = mode
        self.min_delta = abs(min_delta)
        self._sign = -1 if mode == "min" else 1

    def begin(self, model: Any) -> None:
        """Finds out which way the figure of this model improves; to be called when training begins.

        Raises:
            ValueError: If the mode is "auto" and no metric tells.
        """
        if self.mode != "auto":
            return
        metric = self.name.removeprefix("val_")
        direction = "down" if metric == "loss" else model._metric_direction(metric)
        if direction is None:
            raise ValueError(f"{self._owner} cannot tell whether {self.name!r} should grow or shrink; pass mode='max' "
                             f"or mode='min'. Received: monitor={self.name!r}, mode={self.mode!r}")
        self._sign = 1 if direction == "up" else -1

    def improves(self, value: float, reference: float | None) -> bool:
        """Whether a value is better than the reference by more than `min_delta`; None is worse than all."""
        return reference is None or self._sign * value - self.min_delta > self._sign * reference

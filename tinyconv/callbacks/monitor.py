"""What callbacks that watch a figure share."""

from __future__ import annotations

__all__ = ["Monitor", "is_larger_better"]

_LARGER_IS_BETTER = ("acc", "auc", "top_k", "precision", "recall", "f1", "fmeasure")
_SMALLER_IS_BETTER = ("loss", "error", "entropy", "mse", "mae", "divergence")


def is_larger_better(owner: str, monitor: str, mode: str) -> bool:
    """Which way a monitored figure improves."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"{owner} expected mode to be 'auto', 'min' or 'max'. Received: mode={mode!r}")
    if mode != "auto":
        return mode == "max"
    name = monitor.lower()
    if any(part in name for part in _SMALLER_IS_BETTER):
        return False
    if any(part in name for part in _LARGER_IS_BETTER):
        return True
    raise ValueError(f"{owner} cannot tell whether {monitor!r} should grow or shrink; pass mode='max' or "
                     f"mode='min'. Received: monitor={monitor!r}, mode={mode!r}")


class Monitor:
    """A figure that is watched, and its best value so far.

    Args:
        owner: Name of the callback, for messages.
        name: Name of the figure, as in `History.history`.
        mode: `"min"`, `"max"`, or `"auto"`: by the name of the figure.
        min_delta: The least change that counts as an improvement, >= 0.
    """

    def __init__(self, owner: str, name: str, mode: str, min_delta: float = 0) -> None:
        self.mode = "max" if is_larger_better(owner, name, mode) else "min"
        self.min_delta = abs(min_delta)

    def improves(self, value: float, reference: float | None) -> bool:
        """Whether a value is better than the reference by more than `min_delta`; None is worse than all."""
        if reference is None:
            return True
        if self.mode == "max":
            return value - self.min_delta > reference
        return value + self.min_delta < reference

"""Rows, columns or steps that an exporter repeats by way of one more axis: Unsqueeze, Tile or Expand, Reshape."""

from __future__ import annotations

from typing import Any

from tinyconv.formats.onnx.chain import Chain
from tinyconv.formats.onnx.file import Node
from tinyconv.formats.onnx.fold import integers, unsqueezed

__all__ = ["Repeats"]

_NEW = -1  # the axis along which values are repeated, among those of the tensor


class Repeats:
    """A value with one more axis, which a Reshape will take back.

    Args:
        chain: The layers so far.
        axes: Of the Unsqueeze, the batch counted: one.

    Attributes:
        sizes: The shape of a sample, the further axis included.
    """

    def __init__(self, chain: Chain, axes: tuple[int, ...] | None) -> None:
        self._chain = chain
        self.sizes: tuple[int, ...] = unsqueezed((0, *chain.sizes), axes)[1:]
        if len(self.sizes) != len(chain.sizes) + 1 or axes is None:
            raise ValueError("expected one more axis")
        place = axes[0] + len(self.sizes) + 1 if axes[0] < 0 else axes[0]
        self._axes = [*range(len(chain.sizes))]
        self._axes.insert(place - 1, _NEW)

    def step(self, node: Node, values: list[Any]) -> bool:
        """Takes an operator in; returns whether it was the last of them.

        Raises:
            ValueError: If it does anything else than to repeat.
        """
        if node.op in ("Cast", "Identity"):
            return False
        if node.op == "Transpose":
            axes = node.attributes.get("perm") or []
            if sorted(axes) != list(range(len(self.sizes) + 1)) or axes[0] != 0:
                raise ValueError("expected a permutation of axes")
            self.sizes = tuple(self.sizes[axis - 1] for axis in axes[1:])
            self._axes = [self._axes[axis - 1] for axis in axes[1:]]
            return False
        target = integers(values[1]) if len(values) > 1 else ()
        if node.op == "Reshape":
            self._finish(target[1:])
            return True
        if node.op not in ("Tile", "Expand") or len(target) != len(self.sizes) + 1:
            raise ValueError("expected values to be repeated along one more axis")
        place = self._axes.index(_NEW) + 1
        # Of an Expand 1, or the size that is there, changes nothing.
        same = [(1,) if node.op == "Tile" else (None, 1, size) for size in (None, *self.sizes)]
        count = target[place]
        if count is None or count < 1 or any(given not in allowed for axis, (given, allowed) in enumerate(
                zip(target, same, strict=True)) if axis != place):
            raise ValueError("expected values to be repeated along one more axis")
        self.sizes = (*self.sizes[:place - 1], count, *self.sizes[place:])
        return False

    def _finish(self, target: tuple[int | None, ...]) -> None:
        """Makes a layer of what was repeated, where a shape takes the further axis into the one before it."""
        place = self._axes.index(_NEW)
        count = self.sizes[place]
        kept = [axis for axis in self._axes if axis != _NEW]
        merged = list(self.sizes[:place] + self.sizes[place + 1:])
        if place == 0:
            raise ValueError("expected rows, columns or steps to be repeated")
        merged[place - 1] *= count
        if list(target) != merged:
            raise ValueError(f"expected a shape of {merged} for a sample")
        self._chain.transpose([0, *(1 + axis for axis in kept)])
        self._chain.repeat(place - 1, count)

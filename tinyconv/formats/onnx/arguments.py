"""What the functions that read ONNX' operators share: their arguments, and padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv import layers
from tinyconv.formats.onnx.chain import Chain, Weight
from tinyconv.formats.onnx.file import Tensor
from tinyconv.formats.onnx.fold import integers

__all__ = ["Pads", "Shape", "add_zeros", "as_image", "check_margins", "optional", "short", "tensor", "vector", "whole"]

Shape = tuple[int, ...]
Pads = list[tuple[int, int]]

# Kernels and pads of more than this many times the image (and a few) are no network's.
_WINDOW_FACTOR, _WINDOW_EXTRA = 4, 64


def tensor(values: list[Any], index: int, what: str) -> Tensor:
    """The input of a node that has to be a constant; raises ValueError where it is none."""
    value = values[index] if len(values) > index else None
    if not isinstance(value, Tensor):
        raise ValueError(f"expected a constant {what}")  # noqa: TRY004 (it is what the file holds that is wrong)
    return value


def optional(values: list[Any], index: int, what: str) -> Tensor | None:
    """As `tensor`, but None where the node has no such input."""
    return tensor(values, index, what) if len(values) > index and values[index] is not None else None


def whole(value: Any, what: str) -> list[int]:
    """Whole numbers, of an attribute or a constant, that do not depend on the batch."""
    found = value if isinstance(value, list) else integers(value)
    if any(type(item) is not int for item in found):
        raise ValueError(f"expected {what} of whole numbers")
    return list(found)


def vector(tensor: Tensor, size: int, what: str) -> Weight:
    """A constant with a number for each of `size`, whatever its number of dimensions."""
    if tensor.size != size:
        raise ValueError(f"expected {size} numbers as {what}")
    return Weight.of(tensor, (size,))


def short(value: float) -> float:
    """A float32 attribute as it was written before it was rounded."""
    return float(str(np.float32(value)))


def add_zeros(chain: Chain, pads: Pads) -> None:
    """Appends the layer that pads with zeros along one axis or two."""
    if len(pads) == 1:
        chain.add(layers.ZeroPadding1D, {"padding": pads[0]})
    else:
        chain.add(layers.ZeroPadding2D, {"padding": tuple(pads)})


def as_image(chain: Chain, rank: int) -> Shape:
    """Brings the channels last; returns the sizes of the other axes."""
    if len(chain.sizes) != rank + 1 or rank not in (1, 2):
        raise ValueError("expected a sequence or an image, channels first")
    chain.channels_last()
    return chain.shape[:-1]


def check_margins(pads: list[int], sizes: Shape) -> None:
    """Raises ValueError where pads are larger than any network's."""
    limit = _WINDOW_FACTOR * max(sizes) + _WINDOW_EXTRA
    if any(abs(pad) > limit for pad in pads):
        raise ValueError("expected pads no larger than a few times the image")

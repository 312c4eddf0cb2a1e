"""Constant linear maps of images: what padding, cropping, resizing and permuting are made of.

An `Axis` says how one axis of the output comes from the same axis of the input; `of_image` makes
two of them the attributes of a "gather" operation, `of_permutation` makes them of a transposition
(see tinyconv.engine.program), and tinyconv.image applies them to arrays.  Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "INTERPOLATIONS", "MAX_ENTRIES", "Axis", "area", "between", "check_entries", "of_image", "of_permutation",
    "repeat", "resize", "shifted", "undoes", "window",
]

# No map has more entries: 64 MB of indices, as much of weights.
MAX_ENTRIES = 2**24

Attributes = dict[str, Any]


class Axis(NamedTuple):
    """Position i of the output is the sum over k of weights[i, k] * input[indices[i, k]].

    Entries whose index lies outside the input, or whose weight is 0, add nothing.
    """

    indices: np.ndarray  # int64 (outputs, entries)
    weights: np.ndarray  # float64, the same shape


def window(start: int, size: int) -> Axis:
    """Positions start, start + 1, ... of the input: zeros where they lie outside."""
    indices = np.arange(start, start + size)[:, None]
    return Axis(indices, np.ones(indices.shape))


def repeat(size: int, times: int) -> Axis:
    """Every position `times` times in a row."""
    indices = np.repeat(np.arange(size), times)[:, None]
    return Axis(indices, np.ones(indices.shape))


def shifted(axis: Axis, start: int) -> Axis:
    """An axis that reads position start + i of its input where `axis` reads position i."""
    return Axis(axis.indices + start, axis.weights)


def _cubic(t: np.ndarray) -> np.ndarray:
    # Keys, Cubic convolution interpolation for digital image processing (1981); a = -1/2.
    near = ((1.5 * t - 2.5) * t) * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def _lanczos(radius: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: np.where(t < radius, np.sinc(t) * np.sinc(t / radius), 0)


# name -> (how far the kernel reaches, the kernel of the distance)
_KERNELS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "bilinear": (1, lambda t: np.maximum(0, 1 - t)),
    "bicubic": (2, _cubic),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
}
INTERPOLATIONS = ("nearest", *_KERNELS)


def resize(size: int, outputs: int, interpolation: str = "bilinear", antialias: bool = False) -> Axis:
    """`size` positions as `outputs`, whose centres lie at halves: (i + 1/2) * size / outputs - 1/2.

    Beyond the border nothing is read; what is left of a kernel there is scaled to the sum 1.

    Args:
        size: Positions of the input.
        outputs: Positions of the output.
        interpolation: One of INTERPOLATIONS.
        antialias: Whether a shrinking axis widens the kernel by as much.
    """
    if interpolation == "nearest":
        indices = (2 * np.arange(outputs)[:, None] + 1) * size // (2 * outputs)
        return Axis(indices, np.ones(indices.shape))
    reach, kernel = _KERNELS[interpolation]
    scale = max(1.0, size / outputs) if antialias else 1.0
    taps = math.ceil(2 * reach * scale) + 1
    check_entries(outputs * taps, (1, outputs))
    centres = (np.arange(outputs)[:, None] + 0.5) * (size / outputs) - 0.5
    indices = np.floor(centres - reach * scale).astype(np.int64) + 1 + np.arange(taps)
    weights = kernel(np.abs(indices - centres) / scale)
    weights[(indices < 0) | (indices >= size)] = 0
    return Axis(indices, weights / weights.sum(axis=1, keepdims=True))


def between(size: int, outputs: int, align_corners: bool = False, half_pixel_centers: bool = False) -> Axis:
    """Two neighbours for every output: TensorFlow's and TensorFlow.js' bilinear resizing, of which there are three.

    Output i lies at i * size / outputs; with `align_corners` at i * (size - 1) / (outputs - 1), so that the
    first and the last pixel stay; with `half_pixel_centers` at (i + 1/2) * size / outputs - 1/2.  No index
    is outside the input.

    Args:
        size: Positions of the input.
        outputs: Positions of the output.
        align_corners: Of a single output it changes nothing.
        half_pixel_centers: Not together with `align_corners`.
    """
    if align_corners and outputs > 1:
        size_from, size_to = size - 1, outputs - 1
    else:
        size_from, size_to = size, outputs
    ratio = size_from / size_to
    steps = np.arange(outputs)
    places = ratio * (steps + 0.5) - 0.5 if half_pixel_centers else ratio * steps
    low = np.maximum(np.floor(places), 0)
    share = places - low
    high = np.minimum(np.ceil(places), size - 1)
    indices = np.stack([low, high], axis=1).astype(np.int64)
    return Axis(indices, np.stack([1 - share, share], axis=1))


def area(size: int, outputs: int) -> Axis:
    """Means over the stretch of the input that an output covers; pixels at its ends count by their share."""
    edges = np.arange(outputs + 1) * (size / outputs)
    edges[-1] = size
    first = np.floor(edges[:-1]).astype(np.int64)
    indices = first[:, None] + np.arange(math.ceil(size / outputs) + 1)
    weights = np.minimum(indices + 1, edges[1:, None]) - np.maximum(indices, edges[:-1, None])
    weights[(indices >= size) | (weights < 0)] = 0
    return Axis(indices, weights / weights.sum(axis=1, keepdims=True))


def check_entries(count: int, size: tuple[int, int]) -> None:
    """Raises ValueError where the map to an image of `size` would have more than MAX_ENTRIES entries."""
    if count > MAX_ENTRIES:
        raise ValueError(f"Expected an image whose map has at most {MAX_ENTRIES} entries. "
                         f"Received: {count} for {size[0]} x {size[1]} pixels")


def of_image(rows: Axis, columns: Axis, input_shape: tuple[int, int, int]) -> Attributes:
    """The attributes of the gather whose rows and columns come from those of (height, width, channels).

    Raises:
        ValueError: If the map would have more than MAX_ENTRIES entries.
    """
    height, width, channels = input_shape
    check_entries(rows.indices.size * columns.indices.size, (len(rows.indices), len(columns.indices)))
    down, right = _pruned(rows, height), _pruned(columns, width)
    indices = (down.indices * width)[:, None, :, None] + right.indices[None, :, None, :]
    weights = down.weights[:, None, :, None] * right.weights[None, :, None, :]
    pixels = len(down.indices) * len(right.indices)
    return _attributes(indices.reshape(pixels, -1), weights.reshape(pixels, -1), channels)


def _pruned(axis: Axis, size: int) -> Axis:
    outside = (axis.indices < 0) | (axis.indices >= size)
    return Axis(np.where(outside, 0, axis.indices), np.where(outside, 0, axis.weights))


def _attributes(indices: np.ndarray, weights: np.ndarray, run: int) -> Attributes:
    factors = weights.astype(np.float32)
    kept = factors != 0
    starts = np.zeros(len(indices) + 1, np.int32)
    np.cumsum(kept.sum(axis=1), out=starts[1:])
    factors = factors[kept]
    return {"starts": starts, "indices": indices[kept].astype(np.int32),
            "factors": None if (factors == 1).all() else factors, "run": run}


def of_permutation(shape: tuple[int, ...], axes: tuple[int, ...]) -> Attributes:
    """The attributes of the gather that does np.transpose(x, axes) to a sample of `shape`.

    Raises:
        ValueError: If the map would have more than MAX_ENTRIES entries.
    """
    run = shape[-1] if axes[-1] == len(shape) - 1 else 1
    count = math.prod(shape) // run
    if count > MAX_ENTRIES:
        raise ValueError(f"Expected a shape whose map has at most {MAX_ENTRIES} entries. "
                         f"Received: {count} for the shape {shape}")
    kept = (*shape[:-1], shape[-1] // run)
    indices = np.arange(count, dtype=np.int32).reshape(kept).transpose(axes).ravel()
    return {"starts": np.arange(count + 1, dtype=np.int32), "indices": indices, "factors": None, "run": run}


def undoes(second: Attributes, first: Attributes) -> bool:
    """Whether one gather after another leaves every value where it was."""
    if first["factors"] is not None or second["factors"] is not None or first["run"] != second["run"]:
        return False
    rows = np.arange(len(second["starts"]))
    return (np.array_equal(first["starts"], rows) and np.array_equal(second["starts"], rows)
            and np.array_equal(first["indices"][second["indices"]], rows[:-1]))

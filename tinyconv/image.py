"""Images as arrays: resizing, grey levels, cutting drawings out and centring them.

Pure NumPy functions.  An image is an array (height, width, channels), a batch (N, height, width,
channels), of any real type; what is computed is float32, in the units of the input (0 to 255 stays
0 to 255).  Drawings are bright on a black ground, as those of MNIST and Quick, Draw!.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinyconv import maps
from tinyconv.maps import Axis
from tinyconv.shapes import check_integer, describe, standardize_pair
from tinyconv.utils import check_flag, check_number, refuse_mask

__all__ = [
    "batch", "bounding_box", "center_of_mass", "crop_to_content", "even_light", "fit_by_mass", "flatten_alpha",
    "invert", "is_dark_on_light", "resize_area", "resize_bilinear", "stretch_levels", "to_grayscale",
]

# Rec. 601 luma, as Keras and TensorFlow have it.
_LUMA = np.array([0.2989, 0.5870, 0.1140])
# The ground of a drawing is what lies this near to its border, as a share of the shorter side; what differs from it
# by less than so many levels may be grain.
_BORDER, _GRAIN = 0.03, 16
# No image is resized, cut out or placed so that it has more values.
_MAX_VALUES = 2**28

Box = tuple[int, int, int, int]


# --- resizing ---


def resize_bilinear(images: Any, size: Any, align_corners: bool = False,
                    half_pixel_centers: bool = False) -> np.ndarray:
    """Resizes images as tf.image.resizeBilinear of TensorFlow.js does, bit for bit on its CPU backend.

    Where an image shrinks by more than half this skips pixels; `resize_area` averages them.

    Args:
        images: (height, width, channels) or (N, height, width, channels).
        size: (new height, new width), or one number for both.
        align_corners: Whether the first and the last pixel of each axis keep their values. Defaults to False.
        half_pixel_centers: Whether pixels lie at halves, as in Keras, PyTorch and Pillow. Defaults to
            False. Not together with `align_corners`.

    Returns:
        float32 (new height, new width, channels), or (N, new height, new width, channels).

    Raises:
        ValueError: If a shape or a size does not fit, or both options are True.
    """
    values = _as_images(images, "images")
    height, width = _check_size(values, size)
    if check_flag(align_corners, "align_corners") and check_flag(half_pixel_centers, "half_pixel_centers"):
        raise ValueError("Expected one of align_corners and half_pixel_centers. Received: both")
    down = maps.between(values.shape[-3], height, align_corners, half_pixel_centers)
    right = maps.between(values.shape[-2], width, align_corners, half_pixel_centers)
    # The order of the operations is TensorFlow.js', in double precision: along rows first.
    return _mix(_mix(values, right, -2), down, -3).astype(np.float32)


def resize_area(images: Any, size: Any) -> np.ndarray:
    """Resizes images so that a pixel is the mean of the area that it covers; the best way to shrink drawings.

    Args:
        images: (height, width, channels) or (N, height, width, channels).
        size: (new height, new width), or one number for both.

    Returns:
        float32 (new height, new width, channels), or (N, new height, new width, channels).
    """
    values = _as_images(images, "images")
    height, width = _check_size(values, size)
    rows = _apply(values, maps.area(values.shape[-3], height), -3)
    return _apply(rows, maps.area(values.shape[-2], width), -2).astype(np.float32)


def _mix(values: np.ndarray, axis: Axis, dimension: int) -> np.ndarray:
    """Two neighbours a, b of each output as a + (b - a) * share, float64."""
    low = np.take(values, axis.indices[:, 0], dimension).astype(np.float64)
    high = np.take(values, axis.indices[:, 1], dimension)
    return low + (high - low) * _along(axis.weights[:, 1], dimension)


def _apply(values: np.ndarray, axis: Axis, dimension: int) -> np.ndarray:
    """The sum over an axis' entries, float64; they are added one after the other."""
    total = None
    last = values.shape[dimension] - 1
    for indices, weights in zip(axis.indices.T, axis.weights.T, strict=True):
        part = np.take(values, np.clip(indices, 0, last), dimension) * _along(weights, dimension)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


def _along(weights: np.ndarray, dimension: int) -> np.ndarray:
    """(outputs,) as it broadcasts along the dimension -3 or -2."""
    return weights.reshape(-1, *[1] * (-1 - dimension))


# --- values ---


def to_grayscale(images: Any) -> np.ndarray:
    """One grey channel: 0.2989 red + 0.587 green + 0.114 blue, as Keras computes it.

    Args:
        images: (..., height, width, channels) with 1 or 3 channels.

    Returns:
        float32 (..., height, width, 1); one channel stays as it is.

    Raises:
        ValueError: If there are other numbers of channels.
    """
    values = _as_images(images, "images")
    if values.shape[-1] == 1:
        return values.astype(np.float32)
    if values.shape[-1] != 3:
        raise ValueError(f"Expected images to have 1 or 3 channels. Received: images.shape={values.shape}")
    return (values @ _LUMA)[..., None].astype(np.float32)


def flatten_alpha(images: Any, background: float = 255) -> np.ndarray:
    """Lays images with an alpha channel, from 0 to 255, on a ground of one colour.

    Args:
        images: (..., height, width, channels) with 4 channels (RGBA) or 2 (grey and alpha).
        background: Value of every channel of the ground. Defaults to 255, white.

    Returns:
        float32 (..., height, width, channels - 1).

    Raises:
        ValueError: If there are other numbers of channels.
    """
    values = _as_images(images, "images")
    if values.shape[-1] not in (2, 4):
        raise ValueError(f"Expected images to have 2 or 4 channels. Received: images.shape={values.shape}")
    ground = check_number(background, "background")
    opacity = values[..., -1:] / 255.0
    return (values[..., :-1] * opacity + ground * (1 - opacity)).astype(np.float32)


def invert(images: Any, maximum: float = 255) -> np.ndarray:
    """maximum - images: what is dark becomes bright.

    Args:
        images: (..., height, width, channels).
        maximum: White. Defaults to 255.

    Returns:
        float32 of the same shape.
    """
    return (check_number(maximum, "maximum") - _as_images(images, "images").astype(np.float64)).astype(np.float32)


def is_dark_on_light(image: Any, maximum: float = 255) -> bool:
    """Whether a drawing is dark on a bright ground: the median of the pixels at its border is the brighter half.

    Args:
        image: (height, width, channels).
        maximum: White. Defaults to 255.
    """
    grey = _as_image(image).mean(axis=-1)
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    return bool(np.median(border) > check_number(maximum, "maximum") / 2)


# --- drawings ---


def even_light(image: Any, maximum: float = 255) -> np.ndarray:
    """Takes the ground away from a drawing that was photographed or scanned.

    The ground is the plane, along which light grows or fades, through the pixels near the border but for
    lines that reach it. A drawing on a ground that is black stays as it is.

    Args:
        image: (height, width, channels), brighter than its ground.
        maximum: White. Defaults to 255.

    Returns:
        float32 of the same shape: 0 where nothing is drawn, `maximum` at the strongest line. An image that
        nowhere differs from its ground by more than a sixteenth of `maximum` is left as it is.
    """
    values, white = _as_image(image).astype(np.float32), check_number(maximum, "maximum")
    lines = np.maximum(values - _ground(values, white * _GRAIN / 255), 0)
    return stretch_levels(lines, white) if lines.max() > white * _GRAIN / 255 else values


def _ground(values: np.ndarray, grain: float) -> np.ndarray:
    """The plane through the pixels near the border, as float32 (height, width, 1)."""
    height, width = values.shape[:2]
    edge = max(1, round(_BORDER * min(height, width)))
    down, right = (np.linspace(-1, 1, length)[:, None] for length in (height, width))
    near = np.ones((height, width), bool)
    near[edge:-edge, edge:-edge] = False
    levels = values[near].mean(axis=-1, dtype=np.float64)
    rows, columns = np.nonzero(near)
    places = np.column_stack([np.ones(len(levels)), down[rows], right[columns]])
    kept = np.ones(len(levels), bool)
    for _ in range(3):  # without what lies off the plane: lines, most of all
        plane = np.linalg.lstsq(places[kept], levels[kept], rcond=None)[0]
        away = np.abs(levels - places @ plane)
        kept = away <= max(grain / 2, 2.5 * np.median(away))
    return (plane[0] + plane[1] * down + plane[2] * right.T)[..., None].astype(np.float32)


def stretch_levels(image: Any, maximum: float = 255) -> np.ndarray:
    """Multiplies an image so that its largest value becomes `maximum`.

    Args:
        image: (height, width, channels), no value negative.
        maximum: White. Defaults to 255.

    Returns:
        float32 of the same shape; an image that is black stays so.
    """
    values, white = _as_image(image).astype(np.float32), check_number(maximum, "maximum")
    largest = float(values.max())
    return values if largest in (0, white) else np.minimum(values * np.float32(white / largest), np.float32(white))


def bounding_box(image: Any, threshold: float = 0.0) -> Box:
    """The smallest box around what is drawn.

    Args:
        image: (height, width, channels), bright on black.
        threshold: A pixel belongs to the drawing where a channel is above this. Defaults to 0.

    Returns:
        (top, left, bottom, right), `bottom` and `right` one past the last pixel: the drawing is
        `image[top:bottom, left:right]`. The whole image where nothing is drawn.
    """
    values = _as_image(image)
    drawn = values.max(axis=-1) > check_number(threshold, "threshold")
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if not len(rows):
        return 0, 0, values.shape[0], values.shape[1]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def crop_to_content(image: Any, margin: float = 0.0, square: bool = True, threshold: float = 0.0) -> np.ndarray:
    """Cuts a drawing out, with black around it.

    Args:
        image: (height, width, channels), bright on black.
        margin: Black on every side, as a share of the box's longer side, in [0, 1]. Defaults to 0.
        square: Whether to add black to the shorter side, so that resizing to a square keeps the
            drawing's shape. Defaults to True.
        threshold: See `bounding_box`.

    Returns:
        (new height, new width, channels), of the image's type: the drawing in the middle.

    Raises:
        ValueError: If that would be more than 2^28 values.
    """
    values = _as_image(image)
    top, left, bottom, right = bounding_box(values, threshold)
    height, width = bottom - top, right - left
    longer = max(height, width)
    border = math.floor(check_number(margin, "margin", 0, 1) * longer + 0.5)  # as JavaScript's Math.round
    inner = (longer, longer) if check_flag(square, "square") else (height, width)
    shape = (inner[0] + 2 * border, inner[1] + 2 * border, values.shape[2])
    if math.prod(shape) > _MAX_VALUES:
        raise ValueError(f"Expected a drawing that, cut out, has at most {_MAX_VALUES} values. Received: {shape}")
    out = np.zeros(shape, values.dtype)
    y, x = (out.shape[0] - height) // 2, (out.shape[1] - width) // 2
    out[y:y + height, x:x + width] = values[top:bottom, left:right]
    return out


def center_of_mass(image: Any) -> tuple[float, float]:
    """(row, column) of the mean pixel, each weighted with its value; the middle of an image that is black.

    Args:
        image: (height, width, channels), no value negative.
    """
    grey = _as_image(image).sum(axis=-1, dtype=np.float64)
    total = grey.sum()
    if total <= 0:
        return (grey.shape[0] - 1) / 2, (grey.shape[1] - 1) / 2
    return (float(grey.sum(axis=1) @ np.arange(grey.shape[0]) / total),
            float(grey.sum(axis=0) @ np.arange(grey.shape[1]) / total))


def fit_by_mass(image: Any, size: int = 28, box: int = 20, threshold: float = 0.0) -> np.ndarray:
    """Places a drawing as MNIST's digits are placed.

    It is cut out and scaled, keeping its shape, so that it just fits a box of 20 x 20 pixels; then it is
    shifted by whole pixels so that its centre of mass comes to row and column 14 of 28 x 28 (the
    procedure of http://yann.lecun.com/exdb/mnist; 14 is measured on its test images: 13.99 and 14.01).

    Args:
        image: (height, width, channels), bright on black.
        size: Height and width of the result. Defaults to 28.
        box: Height and width of the box, at most `size`. Defaults to 20.
        threshold: See `bounding_box`.

    Returns:
        float32 (size, size, channels).

    Raises:
        ValueError: If box is larger than size, or image has another number of dimensions.
    """
    size, box = check_integer(size, "size"), check_integer(box, "box")
    if box > size:
        raise ValueError(f"Expected box to be at most size={size}. Received: box={box}")
    values = _as_image(image)
    _check_size(values, size)
    if not np.isfinite(values).all():  # they have no centre of mass
        raise ValueError("Expected image to be finite. Received: an image with NaN or infinite values")
    top, left, bottom, right = bounding_box(values, threshold)
    scale = box / max(bottom - top, right - left)
    inner = [max(1, round(length * scale)) for length in (bottom - top, right - left)]
    cut = values[top:bottom, left:right]
    small = resize_area(cut, inner) if scale < 1 else resize_bilinear(cut, inner, half_pixel_centers=True)
    out = np.zeros((size, size, values.shape[2]), np.float32)
    # Rarely the mass is so far aside that the drawing would leave the image: then it touches the border.
    y, x = (min(max(round(size / 2 - centre), 0), size - length)
            for centre, length in zip(center_of_mass(small), inner, strict=True))
    out[y:y + inner[0], x:x + inner[1]] = small
    return out


def batch(images: Iterable[Any]) -> np.ndarray:
    """Images of one shape as a batch.

    Args:
        images: Arrays (height, width, channels), or (height, width) for one channel.

    Returns:
        float32 (N, height, width, channels).

    Raises:
        ValueError: If shapes differ, or there is no image.
    """
    arrays = [np.asarray(image) for image in images]
    arrays = [_as_image(array[..., None] if array.ndim == 2 else array) for array in arrays]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        received = describe(sorted(shapes)) if shapes else "no images"
        raise ValueError(f"Expected images of one shape. Received: {received}")
    return np.stack(arrays).astype(np.float32)


# --- checks ---


def _as_images(images: Any, name: str, dimensions: tuple[int, ...] = (3, 4)) -> np.ndarray:
    refuse_mask(images, name)
    values = np.asarray(images)
    if values.dtype.kind not in "buif":
        raise TypeError(f"Expected {name} to be numbers. Received: {name}.dtype={values.dtype}")
    if values.ndim not in dimensions or 0 in values.shape[-3:]:
        batched = " or (N, height, width, channels)" if 4 in dimensions else ""
        raise ValueError(f"Expected {name} to have the shape (height, width, channels){batched}, not empty. "
                         f"Received: {name}.shape={values.shape}")
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _as_image(image: Any) -> np.ndarray:
    return _as_images(image, "image", (3,))


def _check_size(values: np.ndarray, size: Any) -> tuple[int, int]:
    height, width = standardize_pair(size, "size")
    if height * width * values.shape[-1] > _MAX_VALUES:
        raise ValueError(f"Expected size to give an image of at most {_MAX_VALUES} values. Received: size={size}")
    return height, width

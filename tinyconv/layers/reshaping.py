"""Layers that move pixels: padding, cropping, repeating, resizing, permuting.

Each of them is a constant linear map of an image (`tinyconv.maps`), one "gather" operation.
"""

from __future__ import annotations

import math
from typing import Any

from tinyconv import maps, shapes
from tinyconv.engine.program import ProgramBuilder, as_image_shape
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.layout import (
    add_permutation,
    from_channels_last,
    image_of,
    shape_of,
    to_channels_last,
)
from tinyconv.shapes import describe
from tinyconv.utils import check_flag, check_number

__all__ = [
    "CenterCrop", "Cropping1D", "Cropping2D", "ImageMap", "Permute", "RepeatVector", "Resizing", "UpSampling1D",
    "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D",
]

Pair = tuple[int, int]


class ImageMap(Layer):
    """Base of the layers whose output's rows and columns come from those of the input.

    A part of the image, perhaps beyond its border where there are zeros (`box`), is resized to the output's
    size; a sequence (steps, channels) is an image of one row.
    """

    rank = 2
    data_format = "channels_last"
    interpolation = "nearest"
    antialias = False

    def box(self, height: int, width: int) -> tuple[Pair, Pair]:
        """The part of an image: its first row and column, its height and width."""
        return (0, 0), (height, width)

    def output_size(self, height: int, width: int) -> Pair:
        """Height and width of the output; raises ValueError where the input is too small."""
        return height, width

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        image = image_of(input_shape, self.rank, self.data_format)
        return shape_of((*self.output_size(*image[:2]), image[2]), self.rank, self.data_format)

    def lower(self, builder: ProgramBuilder) -> None:
        image = image_of(self.input_shape, self.rank, self.data_format)
        output = image_of(self.output_shape, self.rank, self.data_format)
        maps.check_entries(output[0] * output[1], output[:2])  # before an axis takes memory
        rows, columns = (
            maps.shifted(maps.resize(size, wanted, self.interpolation, self.antialias), start)
            for start, size, wanted in zip(*self.box(*image[:2]), output[:2], strict=True))
        attributes = maps.of_image(rows, columns, image)
        to_channels_last(builder, self.input_shape, self.data_format, self.name)
        builder.add("gather", output, layer=self.name, **attributes)
        from_channels_last(builder, self.output_shape, self.data_format, self.name)


class ZeroPadding2D(ImageMap):
    """Rows and columns of zeros around an image.

    Args:
        padding: An integer: so many on every side; two integers: above and below, left and right; or
            two pairs, ((top, bottom), (left, right)). Defaults to (1, 1).
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the same with the padding added.
    """

    def __init__(self, padding: Any = (1, 1), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = _margins2d(padding, "padding")
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def output_size(self, height: int, width: int) -> Pair:
        return height + sum(self.padding[0]), width + sum(self.padding[1])

    def box(self, height: int, width: int) -> tuple[Pair, Pair]:
        return (-self.padding[0][0], -self.padding[1][0]), self.output_size(height, width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": [list(pair) for pair in self.padding],
                "data_format": self.data_format}


class ZeroPadding1D(ImageMap):
    """Zeros before and after a sequence.

    Args:
        padding: An integer: so many at both ends; or (before, after). Defaults to 1.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: the same with the padding added.
    """

    rank = 1

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = _margins(padding, "padding")
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def output_size(self, height: int, width: int) -> Pair:
        return height, width + sum(self.padding)

    def box(self, height: int, width: int) -> tuple[Pair, Pair]:
        return (0, -self.padding[0]), self.output_size(height, width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": list(self.padding), "data_format": self.data_format}


class Cropping2D(ImageMap):
    """Cuts rows and columns off an image.

    Args:
        cropping: An integer: so many on every side; two integers: above and below, left and right;
            or two pairs, ((top, bottom), (left, right)). Defaults to ((0, 0), (0, 0)).
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: what is left of it.

    Raises:
        ValueError: If nothing is left.
    """

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cropping = _margins2d(cropping, "cropping")
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def output_size(self, height: int, width: int) -> Pair:
        return _left(height, self.cropping[0]), _left(width, self.cropping[1])

    def box(self, height: int, width: int) -> tuple[Pair, Pair]:
        return (self.cropping[0][0], self.cropping[1][0]), self.output_size(height, width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cropping": [list(pair) for pair in self.cropping],
                "data_format": self.data_format}


class Cropping1D(ImageMap):
    """Cuts steps off both ends of a sequence.

    Args:
        cropping: An integer: so many at both ends; or (before, after). Defaults to (1, 1).

    Input shape: (steps, channels). Output shape: what is left of it.

    Raises:
        ValueError: If nothing is left.
    """

    rank = 1

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cropping = _margins(cropping, "cropping")

    def output_size(self, height: int, width: int) -> Pair:
        return height, _left(width, self.cropping)

    def box(self, height: int, width: int) -> tuple[Pair, Pair]:
        return (0, self.cropping[0]), self.output_size(height, width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cropping": list(self.cropping)}


class UpSampling2D(ImageMap):
    """Enlarges an image by whole factors.

    Args:
        size: Factors of height and width, an integer or two. Defaults to (2, 2).
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        interpolation: "nearest" (pixels are repeated), "bilinear", "bicubic", "lanczos3" or
            "lanczos5". Defaults to "nearest".

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the same, enlarged.
    """

    def __init__(self, size: Any = (2, 2), data_format: str | None = None, interpolation: str = "nearest",
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = shapes.standardize_pair(size, "size")
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)
        self.interpolation = _check_interpolation(interpolation)

    def output_size(self, height: int, width: int) -> Pair:
        return height * self.size[0], width * self.size[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": list(self.size), "data_format": self.data_format,
                "interpolation": self.interpolation}


class UpSampling1D(ImageMap):
    """Repeats every step of a sequence.

    Args:
        size: How many times. Defaults to 2.

    Input shape: (steps, channels). Output shape: (steps * size, channels).
    """

    rank = 1

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = shapes.check_integer(size, "size")

    def output_size(self, height: int, width: int) -> Pair:
        return height, width * self.size

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


class Resizing(ImageMap):
    """Resizes an image to a given height and width.

    Args:
        height: Height of the output.
        width: Width of the output.
        interpolation: "nearest", "bilinear", "bicubic", "lanczos3" or "lanczos5". Defaults to "bilinear".
        crop_to_aspect_ratio: Whether to cut the image first, about its middle, to the output's
            aspect ratio. Defaults to False.
        pad_to_aspect_ratio: Whether to pad it first, with zeros, to that ratio. Defaults to False.
        fill_mode: "constant".
        fill_value: 0.
        antialias: Whether shrinking averages over more pixels. Defaults to False.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (any height, any width, channels), or channels first. Output shape:
    (height, width, channels), or channels first.
    """

    def __init__(self, height: int, width: int, interpolation: str = "bilinear", crop_to_aspect_ratio: bool = False,
                 pad_to_aspect_ratio: bool = False, fill_mode: str = "constant", fill_value: float = 0.0,
                 antialias: bool = False, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height = shapes.check_integer(height, "height")
        self.width = shapes.check_integer(width, "width")
        self.interpolation = _check_interpolation(interpolation)
        self.crop_to_aspect_ratio = check_flag(crop_to_aspect_ratio, "crop_to_aspect_ratio")
        self.pad_to_aspect_ratio = check_flag(pad_to_aspect_ratio, "pad_to_aspect_ratio")
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise ValueError("Expected one of crop_to_aspect_ratio and pad_to_aspect_ratio. Received: both")
        if fill_mode != "constant":
            raise ValueError(f"Expected fill_mode to be 'constant'. Received: fill_mode={describe(fill_mode)}")
        if check_number(fill_value, "fill_value"):
            raise ValueError(f"Expected fill_value to be 0. Received: fill_value={describe(fill_value)}")
        self.antialias = check_flag(antialias, "antialias")
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def output_size(self, height: int, width: int) -> Pair:
        return self.height, self.width

    def box(self, height: int, width: int) -> tuple[Pair, Pair]:
        if self.crop_to_aspect_ratio:
            size = _largest_box(height, width, self.height, self.width)
            return ((height - size[0]) // 2, (width - size[1]) // 2), size
        if not self.pad_to_aspect_ratio:
            return (0, 0), (height, width)
        above = (max(0, width * self.height // self.width - height)) // 2
        left = 0 if above else (max(0, height * self.width // self.height - width)) // 2
        return (-above, -left), (height + 2 * above, width + 2 * left)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width,
                "interpolation": self.interpolation, "crop_to_aspect_ratio": self.crop_to_aspect_ratio,
                "pad_to_aspect_ratio": self.pad_to_aspect_ratio, "fill_mode": "constant", "fill_value": 0.0,
                "antialias": self.antialias, "data_format": self.data_format}


class CenterCrop(ImageMap):
    """The middle of an image; one that is too small is cut to the aspect ratio and enlarged.

    Args:
        height: Height of the output.
        width: Width of the output.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (any height, any width, channels), or channels first. Output shape:
    (height, width, channels), or channels first.
    """

    interpolation = "bilinear"

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height = shapes.check_integer(height, "height")
        self.width = shapes.check_integer(width, "width")
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def output_size(self, height: int, width: int) -> Pair:
        return self.height, self.width

    def box(self, height: int, width: int) -> tuple[Pair, Pair]:
        size = self.height, self.width
        if height < self.height or width < self.width:
            size = _largest_box(height, width, *size)
        return ((height - size[0]) // 2, (width - size[1]) // 2), size

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width, "data_format": self.data_format}


class Permute(Layer):
    """Permutes the axes of a sample.

    Args:
        dims: The axes of the input, counted from 1, in the order of the output: (2, 1) turns a
            matrix around.

    Input shape: any of as many dimensions. Output shape: the input's, permuted.
    """

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(dims, (tuple, list)) or sorted(map(str, dims)) != [
                str(i + 1) for i in range(len(dims))] or not 1 <= len(dims) <= 3:
            raise ValueError(f"Expected dims to be 1 to 3 axes from 1 on, each once. Received: dims={describe(dims)}")
        self.dims = tuple(shapes.check_integer(axis, "dims") for axis in dims)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != len(self.dims):
            raise ValueError(f"Expected an input of {len(self.dims)} dimensions. Received: input_shape={input_shape}")
        return tuple(input_shape[axis - 1] for axis in self.dims)

    def lower(self, builder: ProgramBuilder) -> None:
        if self.dims != tuple(range(1, len(self.dims) + 1)):
            add_permutation(builder, self.input_shape, tuple(axis - 1 for axis in self.dims), self.name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dims": list(self.dims)}


class RepeatVector(Layer):
    """A vector, n times in a row.

    Args:
        n: How many times.

    Input shape: (features,). Output shape: (n, features).
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = shapes.check_integer(n, "n")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(f"Expected an input of shape (features,). Received: input_shape={input_shape}")
        return (self.n, *input_shape)

    def lower(self, builder: ProgramBuilder) -> None:
        maps.check_entries(self.n, (1, self.n))
        attributes = maps.of_image(maps.window(0, 1), maps.repeat(1, self.n), (1, 1, self.input_shape[0]))
        builder.add("gather", as_image_shape(self.output_shape), layer=self.name, **attributes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n": self.n}


# --- arguments ---


def _margins(value: Any, name: str) -> Pair:
    """(before, after) from an integer or two."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    try:
        before, after = (shapes.check_integer(size, name, minimum=0) for size in pair)
    except ValueError:
        raise ValueError(f"Expected {name} to be a non-negative integer or 2 of them. "
                         f"Received: {name}={describe(value)}") from None
    return before, after


def _margins2d(value: Any, name: str) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) from an integer, two, or two pairs."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    try:
        vertical, horizontal = (_margins(margin, name) for margin in pair)
    except ValueError:
        raise ValueError(f"Expected {name} to be a non-negative integer, 2 of them, or 2 pairs of them. "
                         f"Received: {name}={describe(value)}") from None
    return vertical, horizontal


def _left(size: int, cropping: Pair) -> int:
    if sum(cropping) >= size:
        raise ValueError(f"Expected cropping to leave something of {size}. Received: cropping={cropping}")
    return size - sum(cropping)


def _check_interpolation(value: Any) -> str:
    name = value.lower() if isinstance(value, str) else value
    if name not in maps.INTERPOLATIONS:
        raise ValueError(f"Expected interpolation to be one of {maps.INTERPOLATIONS}. "
                         f"Received: interpolation={describe(value)}")
    return name


def _largest_box(height: int, width: int, rows: int, columns: int) -> Pair:
    """The largest part of an image that has the aspect ratio of rows : columns."""
    return (max(1, min(height, math.floor(width * rows / columns))),
            max(1, min(width, math.floor(height * columns / rows))))

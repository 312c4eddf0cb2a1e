"""Pooling layers."""

from __future__ import annotations

from typing import Any, ClassVar

from tinyconv import shapes
from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.layout import from_channels_last, image_of, pair_of, shape_of, to_channels_last
from tinyconv.utils import check_flag

__all__ = [
    "AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "MaxPooling1D", "MaxPooling2D",
]


class Pooling(Layer):
    """Base of the pooling layers with a window, along a sequence (rank 1) or over an image (rank 2).

    `kind` is the engine's operation; a sequence (steps, channels) is an image of one row.
    """

    kind: ClassVar[str] = ""
    rank: ClassVar[int] = 2

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: str = "valid",
                 data_format: str | None = None, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.pool_size = shapes.standardize_sizes(pool_size, self.rank, "pool_size")
        self.strides = self.pool_size if strides is None else shapes.standardize_sizes(strides, self.rank, "strides")
        self.padding = shapes.standardize_padding(padding)
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        image = image_of(input_shape, self.rank, self.data_format)
        pooled = shapes.pool2d_output_shape(image, pair_of(self.pool_size), pair_of(self.strides), self.padding)
        return shape_of(pooled, self.rank, self.data_format)

    def lower(self, builder: ProgramBuilder) -> None:
        image = image_of(self.input_shape, self.rank, self.data_format)
        window, strides = shapes.clip_window(image, pair_of(self.pool_size), pair_of(self.strides))
        padding = shapes.window_padding(image, window, strides, self.padding)
        to_channels_last(builder, self.input_shape, self.data_format, self.name)
        builder.add(self.kind, image_of(self.output_shape, self.rank, self.data_format), layer=self.name,
                    pool_size=window, strides=strides, padding=padding)
        from_channels_last(builder, self.output_shape, self.data_format, self.name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": list(self.pool_size), "padding": self.padding,
                "strides": list(self.strides), "data_format": self.data_format}


class MaxPooling1D(Pooling):
    """The maximum of every window; the padding of "same" never wins.

    Args:
        pool_size: Length of the window. Defaults to 2.
        strides: Steps between windows. Defaults to None: pool_size.
        padding: "valid" or "same". Defaults to "valid".
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: (new steps, channels).

    Raises:
        ValueError: If an argument is out of range, or the pool is larger than its input.
    """

    kind = "max_pool2d"
    rank = 1


class MaxPooling2D(Pooling):
    """The maximum of every window; the padding of "same" never wins.

    Args:
        pool_size: Height and width of the window, an integer or two. Defaults to 2.
        strides: Steps between windows. Defaults to None: pool_size.
        padding: "valid" or "same". Defaults to "valid".
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: (new height, new width, channels).

    Raises:
        ValueError: If an argument is out of range, or the pool is larger than its input.
    """

    kind = "max_pool2d"


class AveragePooling1D(Pooling):
    """The mean of every window; the padding of "same" is left out of the count.

    Args:
        pool_size: Length of the window. Defaults to 2.
        strides: Steps between windows. Defaults to None: pool_size.
        padding: "valid" or "same". Defaults to "valid".
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: (new steps, channels).

    Raises:
        ValueError: If an argument is out of range, or the pool is larger than its input.
    """

    kind = "average_pool2d"
    rank = 1


class AveragePooling2D(Pooling):
    """The mean of every window; the padding of "same" is left out of the count.

    Args:
        pool_size: Height and width of the window, an integer or two. Defaults to 2.
        strides: Steps between windows. Defaults to None: pool_size.
        padding: "valid" or "same". Defaults to "valid".
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: (new height, new width, channels).

    Raises:
        ValueError: If an argument is out of range, or the pool is larger than its input.
    """

    kind = "average_pool2d"


class GlobalPooling(Layer):
    """Base of the pooling layers whose window is the whole sequence (rank 1) or image (rank 2)."""

    kind: ClassVar[str] = ""
    rank: ClassVar[int] = 2

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)
        self.keepdims = check_flag(keepdims, "keepdims")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        channels = image_of(input_shape, self.rank, self.data_format)[2]
        return shape_of((1, 1, channels), self.rank if self.keepdims else 0, self.data_format)

    def lower(self, builder: ProgramBuilder) -> None:
        *window, channels = image_of(self.input_shape, self.rank, self.data_format)
        to_channels_last(builder, self.input_shape, self.data_format, self.name)
        builder.add(self.kind, (1, 1, channels), layer=self.name, pool_size=tuple(window), strides=tuple(window),
                    padding=((0, 0), (0, 0)))
        from_channels_last(builder, self.output_shape, self.data_format, self.name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format, "keepdims": self.keepdims}


class GlobalMaxPooling1D(GlobalPooling):
    """The maximum of every channel.

    Args:
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        keepdims: Whether the output keeps a length of 1. Defaults to False.

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: (channels,) or (1, channels).
    """

    kind = "max_pool2d"
    rank = 1


class GlobalMaxPooling2D(GlobalPooling):
    """The maximum of every channel.

    Args:
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        keepdims: Whether the output keeps height and width 1. Defaults to False.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: (channels,) or (1, 1, channels).
    """

    kind = "max_pool2d"


class GlobalAveragePooling1D(GlobalPooling):
    """The mean of every channel.

    Args:
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        keepdims: Whether the output keeps a length of 1. Defaults to False.

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: (channels,) or (1, channels).
    """

    kind = "average_pool2d"
    rank = 1


class GlobalAveragePooling2D(GlobalPooling):
    """The mean of every channel.

    Args:
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        keepdims: Whether the output keeps height and width 1. Defaults to False.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: (channels,) or (1, 1, channels).
    """

    kind = "average_pool2d"

"""Pooling layers."""

from __future__ import annotations

from typing import Any

from tinyconv import shapes
from tinyconv.engine.program import ProgramBuilder, as_image_shape
from tinyconv.layers.base import Layer, Shape
from tinyconv.utils import check_flag

__all__ = ["AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D"]


class Pooling2D(Layer):
    """Base of the pooling layers with a window; `kind` is the engine's operation."""

    kind = ""

    def __init__(self, pool_size: Any = (2, 2), strides: Any = None, padding: str = "valid",
                 data_format: str | None = None, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.pool_size = shapes.standardize_pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else shapes.standardize_pair(strides, "strides")
        self.padding = shapes.standardize_padding(padding)
        self.data_format = shapes.standardize_data_format(data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return shapes.pool2d_output_shape(input_shape, self.pool_size, self.strides, self.padding)

    def lower(self, builder: ProgramBuilder) -> None:
        window, strides = shapes.clip_window(self.input_shape, self.pool_size, self.strides)
        padding = shapes.window_padding(self.input_shape, window, strides, self.padding)
        builder.add(self.kind, as_image_shape(self.output_shape), layer=self.name,
                    pool_size=window, strides=strides, padding=padding)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": list(self.pool_size), "padding": self.padding,
                "strides": list(self.strides), "data_format": self.data_format}


class MaxPooling2D(Pooling2D):
    """The maximum of every window; the padding of "same" never wins.

    Args:
        pool_size: Height and width of the window, an integer or two. Defaults to (2, 2).
        strides: Steps between windows. Defaults to None: pool_size.
        padding: "valid" or "same". Defaults to "valid".
        data_format: None or "channels_last".

    Input shape: (height, width, channels). Output shape: (new height, new width, channels).

    Raises:
        ValueError: If an argument is out of range, or the pool is larger than its input.
    """

    kind = "max_pool2d"


class AveragePooling2D(Pooling2D):
    """The mean of every window; the padding of "same" is left out of the count.

    Args:
        pool_size: Height and width of the window, an integer or two. Defaults to (2, 2).
        strides: Steps between windows. Defaults to None: pool_size.
        padding: "valid" or "same". Defaults to "valid".
        data_format: None or "channels_last".

    Input shape: (height, width, channels). Output shape: (new height, new width, channels).

    Raises:
        ValueError: If an argument is out of range, or the pool is larger than its input.
    """

    kind = "average_pool2d"


class GlobalPooling2D(Layer):
    """Base of the pooling layers whose window is the whole image."""

    kind = ""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = shapes.standardize_data_format(data_format)
        self.keepdims = check_flag(keepdims, "keepdims")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ValueError(
                f"Expected an input of shape (height, width, channels). Received: input_shape={input_shape}"
            )
        return (1, 1, input_shape[2]) if self.keepdims else (input_shape[2],)

    def lower(self, builder: ProgramBuilder) -> None:
        window = self.input_shape[:2]
        builder.add(self.kind, as_image_shape(self.output_shape), layer=self.name,
                    pool_size=window, strides=window, padding=((0, 0), (0, 0)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format, "keepdims": self.keepdims}


class GlobalMaxPooling2D(GlobalPooling2D):
    """The maximum of every channel.

    Args:
        data_format: None or "channels_last".
        keepdims: Whether the output keeps height and width 1. Defaults to False.

    Input shape: (height, width, channels). Output shape: (channels,) or (1, 1, channels).
    """

    kind = "max_pool2d"


class GlobalAveragePooling2D(GlobalPooling2D):
    """The mean of every channel.

    Args:
        data_format: None or "channels_last".
        keepdims: Whether the output keeps height and width 1. Defaults to False.

    Input shape: (height, width, channels). Output shape: (channels,) or (1, 1, channels).
    """

    kind = "average_pool2d"

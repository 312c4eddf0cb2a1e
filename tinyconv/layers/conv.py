"""Convolution layers of sequences and images."""

from __future__ import annotations

from typing import Any, ClassVar

from tinyconv import initializers, shapes
from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.arguments import get_initializer
from tinyconv.layers.base import Layer, Shape, Weight
from tinyconv.layers.layout import Image, from_channels_last, image_of, pair_of, shape_of, to_channels_last
from tinyconv.layers.nonlinear import (
    activation_operation,
    add_activation,
    get_activation,
    serialize_activation,
)
from tinyconv.utils import check_flag

__all__ = ["BaseConvolution", "Conv1D", "Conv2D"]


class BaseConvolution(Layer):
    """Base of the layers that slide a kernel along a sequence (rank 1) or over an image (rank 2).

    A sequence (steps, channels) is an image of one row.
    """

    rank: ClassVar[int] = 2
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")

    def _set_window(self, kernel_size: Any, strides: Any, padding: Any, data_format: Any, dilation_rate: Any) -> None:
        self.kernel_size = shapes.standardize_sizes(kernel_size, self.rank, "kernel_size")
        self.strides = shapes.standardize_sizes(strides, self.rank, "strides")
        self.padding = shapes.standardize_padding(padding, allowed=self.paddings)
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)
        self.dilation_rate = shapes.standardize_sizes(dilation_rate, self.rank, "dilation_rate")

    def _set_output(self, activation: Any, use_bias: Any, bias_initializer: Any) -> None:
        self.activation = get_activation(activation)
        self.use_bias = check_flag(use_bias, "use_bias")
        self.bias_initializer = get_initializer(bias_initializer, "bias")

    def image_of(self, input_shape: Shape) -> Image:
        """The input as (height, width, channels)."""
        return image_of(input_shape, self.rank, self.data_format)

    def shape_of(self, image: Image) -> Shape:
        """The output's shape, of (height, width, channels)."""
        return shape_of(image, self.rank, self.data_format)

    def convolved(self, image: Image, filters: int) -> Image:
        """What a convolution with this layer's window makes of an image."""
        return shapes.conv2d_output_shape(image, filters, pair_of(self.kernel_size), pair_of(self.strides),
                                          self.padding, pair_of(self.dilation_rate))

    def window(self, image: Image) -> dict[str, Any]:
        """The attributes of the engine's operation on an image."""
        size = pair_of(self.kernel_size)
        _, strides = shapes.clip_window(image, size, pair_of(self.strides))
        dilation = shapes.clip_dilation(image, pair_of(self.dilation_rate))
        padding = shapes.window_padding(image, size, strides, self.padding, dilation)
        return {"kernel_size": size, "strides": strides, "padding": padding, "dilation_rate": dilation}

    def lower(self, builder: ProgramBuilder) -> None:
        # Functions of one value are the same before the channels move, and fuse there.
        across = activation_operation(self.activation)[0] in ("softmax", "log_softmax")
        to_channels_last(builder, self.input_shape, self.data_format, self.name)
        self.lower_convolution(builder, self.image_of(self.input_shape), self.lower_weights(builder))
        if not across:
            add_activation(builder, self.activation, self.name)
        from_channels_last(builder, self.output_shape, self.data_format, self.name)
        if across:
            add_activation(builder, self.activation, self.name)

    def lower_convolution(self, builder: ProgramBuilder, image: Image, weights: tuple[int, ...]) -> None:
        """Appends the operations between the input, as an image, and the activation."""

    def window_config(self) -> dict[str, Any]:
        """The settings of `_set_window`, for `get_config`."""
        return {"kernel_size": list(self.kernel_size), "strides": list(self.strides), "padding": self.padding,
                "data_format": self.data_format, "dilation_rate": list(self.dilation_rate)}

    def output_config(self) -> dict[str, Any]:
        """The settings of `_set_output`, for `get_config`."""
        return {"activation": serialize_activation(self.activation), "use_bias": self.use_bias,
                "bias_initializer": initializers.serialize(self.bias_initializer)}


class Convolution(BaseConvolution):
    """Base of Conv1D and Conv2D: y = activation(conv(x, kernel) + bias)."""

    kernel: Weight
    bias: Weight

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Any = 1, groups: int = 1,
                 activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: None = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = shapes.check_integer(filters, "filters")
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.groups = shapes.check_integer(groups, "groups")
        if self.filters % self.groups:
            raise ValueError("Expected groups to divide the number of filters. "
                             f"Received: groups={groups}, filters={filters}")
        self._set_output(activation, use_bias, bias_initializer)
        self.kernel_initializer = get_initializer(kernel_initializer, "kernel")
        self.set_rules(activity_regularizer, kernel_regularizer=kernel_regularizer,
                       bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
                       bias_constraint=bias_constraint)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        image = self.image_of(input_shape)
        if image[2] % self.groups:
            raise ValueError("Expected groups to divide the number of input channels. "
                             f"Received: groups={self.groups}, input_shape={input_shape}")
        return self.shape_of(self.convolved(image, self.filters))

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        channels = self.image_of(input_shape)[2]
        weights: dict[str, Shape] = {"kernel": (*self.kernel_size, channels // self.groups, self.filters)}
        return {**weights, "bias": (self.filters,)} if self.use_bias else weights

    def lower_convolution(self, builder: ProgramBuilder, image: Image, weights: tuple[int, ...]) -> None:
        builder.add("conv2d", self.convolved(image, self.filters), weights, self.name, **self.window(image),
                    groups=self.groups)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, **self.window_config(), "groups": self.groups,
                **self.output_config(), "kernel_initializer": initializers.serialize(self.kernel_initializer)}


class Conv1D(Convolution):
    """1D convolution, along a sequence: y = activation(conv(x, kernel) + bias).

    Args:
        filters: Number of output channels.
        kernel_size: Length of the kernel.
        strides: Steps between windows. Defaults to 1.
        padding: "valid" (no padding), "same" (output of ceil(input / stride)), or "causal" (no output
            sees what comes after it). Defaults to "valid".
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        dilation_rate: Steps between the kernel's taps. Defaults to 1.
        groups: Number of groups of channels, each convolved with filters of its own. Defaults to 1.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per filter. Defaults to True.
        kernel_initializer: Initializer of the kernel, (kernel_size, channels / groups, filters).
            Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        kernel_regularizer, bias_regularizer: Penalties in the loss, such as "l2". Default to None.
        kernel_constraint, bias_constraint: What an update is put back to, such as "non_neg". Default to
            None.
        activity_regularizer: None.

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: (new steps, filters), or (filters, new steps).

    Raises:
        ValueError: If an argument is out of range, groups does not divide channels and filters, or no
            window fits into the input.
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class Conv2D(Convolution):
    """2D convolution: y = activation(conv(x, kernel) + bias).

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the kernel, an integer or two.
        strides: Steps between windows, an integer or two. Defaults to 1.
        padding: "valid" (no padding) or "same" (output of ceil(input / stride)). Defaults to "valid".
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        dilation_rate: Steps between the kernel's taps, an integer or two. Defaults to 1.
        groups: Number of groups of channels, each convolved with filters of its own. Defaults to 1.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per filter. Defaults to True.
        kernel_initializer: Initializer of the kernel, (height, width, channels / groups, filters).
            Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        kernel_regularizer, bias_regularizer: Penalties in the loss, such as "l2". Default to None.
        kernel_constraint, bias_constraint: What an update is put back to, such as "non_neg". Default to
            None.
        activity_regularizer: None.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: (new height, new width, filters), or (filters, new height, new width).

    Raises:
        ValueError: If an argument is out of range, groups does not divide channels and filters, or no
            window fits into the input.
    """

    rank = 2

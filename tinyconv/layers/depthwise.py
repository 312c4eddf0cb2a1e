"""Convolutions that treat every channel alone, and what mixes them afterwards."""

from __future__ import annotations

from typing import Any, ClassVar

from tinyconv import initializers, shapes
from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.arguments import get_initializer
from tinyconv.layers.base import Shape, Weight
from tinyconv.layers.conv import BaseConvolution
from tinyconv.layers.layout import Image

__all__ = ["DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"]


class DepthwiseConvolution(BaseConvolution):
    """Base of DepthwiseConv1D and DepthwiseConv2D."""

    _argument_names: ClassVar[dict[str, str]] = {"kernel": "depthwise"}

    kernel: Weight
    bias: Weight

    def __init__(self, kernel_size: Any, strides: Any = 1, padding: str = "valid", depth_multiplier: int = 1,
                 data_format: str | None = None, dilation_rate: Any = 1, activation: Any = None,
                 use_bias: bool = True, depthwise_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", depthwise_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: None = None,
                 depthwise_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.depth_multiplier = shapes.check_integer(depth_multiplier, "depth_multiplier")
        self._set_output(activation, use_bias, bias_initializer)
        self.depthwise_initializer = get_initializer(depthwise_initializer, "kernel")
        self.set_rules(activity_regularizer, depthwise_regularizer=depthwise_regularizer,
                       bias_regularizer=bias_regularizer, depthwise_constraint=depthwise_constraint,
                       bias_constraint=bias_constraint)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        image = self.image_of(input_shape)
        return self.shape_of(self.convolved(image, image[2] * self.depth_multiplier))

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        channels = self.image_of(input_shape)[2]
        weights: dict[str, Shape] = {"kernel": (*self.kernel_size, channels, self.depth_multiplier)}
        return {**weights, "bias": (channels * self.depth_multiplier,)} if self.use_bias else weights

    def lower_convolution(self, builder: ProgramBuilder, image: Image, weights: tuple[int, ...]) -> None:
        add_depthwise(builder, self, image, self.depth_multiplier, weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.window_config(), "depth_multiplier": self.depth_multiplier,
                **self.output_config(),
                "depthwise_initializer": initializers.serialize(self.depthwise_initializer)}


def add_depthwise(builder: ProgramBuilder, layer: BaseConvolution, image: Image, depth_multiplier: int,
                  weights: tuple[int, ...]) -> None:
    """Appends the convolution with as many groups as the image has channels."""
    channels = image[2]
    builder.add("conv2d", layer.convolved(image, channels * depth_multiplier), weights, layer.name,
                **layer.window(image), groups=channels)


class DepthwiseConv1D(DepthwiseConvolution):
    """1D convolution of every channel alone, with depth_multiplier kernels for each.

    Args:
        kernel_size: Length of the kernel.
        strides: Steps between windows. Defaults to 1.
        padding: "valid" (no padding) or "same" (output of ceil(input / stride)). Defaults to "valid".
        depth_multiplier: Output channels for each input channel. Defaults to 1.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        dilation_rate: Steps between the kernel's taps. Defaults to 1.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per output channel. Defaults to True.
        depthwise_initializer: Initializer of the kernel, (kernel_size, channels, depth_multiplier).
            Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        depthwise_regularizer, bias_regularizer: Penalties in the loss, such as "l2". Default to None.
        depthwise_constraint, bias_constraint: What an update is put back to, such as "non_neg". Default to
            None.
        activity_regularizer: None.

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: (new steps, channels * depth_multiplier), or (channels * depth_multiplier, new steps).

    Raises:
        ValueError: If an argument is out of range, or no window fits into the input.
    """

    rank = 1


class DepthwiseConv2D(DepthwiseConvolution):
    """2D convolution of every channel alone, with depth_multiplier kernels for each.

    Args:
        kernel_size: Height and width of the kernel, an integer or two.
        strides: Steps between windows, an integer or two. Defaults to 1.
        padding: "valid" (no padding) or "same" (output of ceil(input / stride)). Defaults to "valid".
        depth_multiplier: Output channels for each input channel. Defaults to 1.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        dilation_rate: Steps between the kernel's taps, an integer or two. Defaults to 1.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per output channel. Defaults to True.
        depthwise_initializer: Initializer of the kernel, (height, width, channels, depth_multiplier).
            Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        depthwise_regularizer, bias_regularizer: Penalties in the loss, such as "l2". Default to None.
        depthwise_constraint, bias_constraint: What an update is put back to, such as "non_neg". Default to
            None.
        activity_regularizer: None.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: (new height, new width, channels * depth_multiplier), or the same with the channels
    first.

    Raises:
        ValueError: If an argument is out of range, or no window fits into the input.
    """

    rank = 2


class SeparableConvolution(BaseConvolution):
    """Base of SeparableConv1D and SeparableConv2D."""

    _argument_names: ClassVar[dict[str, str]] = {"depthwise_kernel": "depthwise", "pointwise_kernel": "pointwise"}

    depthwise_kernel: Weight
    pointwise_kernel: Weight
    bias: Weight

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Any = 1, depth_multiplier: int = 1,
                 activation: Any = None, use_bias: bool = True, depthwise_initializer: Any = "glorot_uniform",
                 pointwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
                 depthwise_regularizer: Any = None, pointwise_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: None = None,
                 depthwise_constraint: Any = None, pointwise_constraint: Any = None,
                 bias_constraint: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = shapes.check_integer(filters, "filters")
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.depth_multiplier = shapes.check_integer(depth_multiplier, "depth_multiplier")
        self._set_output(activation, use_bias, bias_initializer)
        self.depthwise_initializer = get_initializer(depthwise_initializer, "kernel")
        self.pointwise_initializer = get_initializer(pointwise_initializer, "kernel")
        self.set_rules(activity_regularizer, depthwise_regularizer=depthwise_regularizer,
                       pointwise_regularizer=pointwise_regularizer, bias_regularizer=bias_regularizer,
                       depthwise_constraint=depthwise_constraint, pointwise_constraint=pointwise_constraint,
                       bias_constraint=bias_constraint)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.shape_of(self.convolved(self.image_of(input_shape), self.filters))

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        channels = self.image_of(input_shape)[2]
        weights: dict[str, Shape] = {
            "depthwise_kernel": (*self.kernel_size, channels, self.depth_multiplier),
            "pointwise_kernel": (*(1,) * self.rank, channels * self.depth_multiplier, self.filters),
        }
        return {**weights, "bias": (self.filters,)} if self.use_bias else weights

    def lower_convolution(self, builder: ProgramBuilder, image: Image, weights: tuple[int, ...]) -> None:
        depthwise, *pointwise = weights
        add_depthwise(builder, self, image, self.depth_multiplier, (depthwise,))
        height, width, _ = builder.shape
        builder.add("conv2d", (height, width, self.filters), tuple(pointwise), self.name, kernel_size=(1, 1),
                    strides=(1, 1), padding=((0, 0), (0, 0)), dilation_rate=(1, 1), groups=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, **self.window_config(),
                "depth_multiplier": self.depth_multiplier, **self.output_config(),
                "depthwise_initializer": initializers.serialize(self.depthwise_initializer),
                "pointwise_initializer": initializers.serialize(self.pointwise_initializer)}


class SeparableConv1D(SeparableConvolution):
    """1D convolution of every channel alone, then one of kernel size 1 that mixes them.

    Args:
        filters: Number of output channels.
        kernel_size: Length of the first kernel.
        strides: Steps between its windows. Defaults to 1.
        padding: "valid" (no padding) or "same" (output of ceil(input / stride)). Defaults to "valid".
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        dilation_rate: Steps between the first kernel's taps. Defaults to 1.
        depth_multiplier: Channels that the first kernel makes of each. Defaults to 1.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per filter. Defaults to True.
        depthwise_initializer: Initializer of the first kernel, (kernel_size, channels, depth_multiplier).
            Defaults to "glorot_uniform".
        pointwise_initializer: Initializer of the second kernel,
            (1, channels * depth_multiplier, filters). Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        depthwise_regularizer, pointwise_regularizer, bias_regularizer: Penalties in the loss, such as "l2".
            Default to None.
        depthwise_constraint, pointwise_constraint, bias_constraint: What an update is put back to, such as
            "non_neg". Default to None.
        activity_regularizer: None.

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: (new steps, filters), or (filters, new steps).

    Raises:
        ValueError: If an argument is out of range, or no window fits into the input.
    """

    rank = 1


class SeparableConv2D(SeparableConvolution):
    """2D convolution of every channel alone, then one of kernel size 1 that mixes them.

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the first kernel, an integer or two.
        strides: Steps between its windows, an integer or two. Defaults to 1.
        padding: "valid" (no padding) or "same" (output of ceil(input / stride)). Defaults to "valid".
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        dilation_rate: Steps between the first kernel's taps, an integer or two. Defaults to 1.
        depth_multiplier: Channels that the first kernel makes of each. Defaults to 1.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per filter. Defaults to True.
        depthwise_initializer: Initializer of the first kernel, (height, width, channels,
            depth_multiplier). Defaults to "glorot_uniform".
        pointwise_initializer: Initializer of the second kernel,
            (1, 1, channels * depth_multiplier, filters). Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        depthwise_regularizer, pointwise_regularizer, bias_regularizer: Penalties in the loss, such as "l2".
            Default to None.
        depthwise_constraint, pointwise_constraint, bias_constraint: What an update is put back to, such as
            "non_neg". Default to None.
        activity_regularizer: None.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: (new height, new width, filters), or (filters, new height, new width).

    Raises:
        ValueError: If an argument is out of range, or no window fits into the input.
    """

    rank = 2

"""Transposed convolutions: from the output of a convolution to the size of its input."""

from __future__ import annotations

from typing import Any

from tinyconv import initializers, shapes
from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.arguments import get_initializer
from tinyconv.layers.base import Shape, Weight
from tinyconv.layers.conv import BaseConvolution
from tinyconv.layers.layout import Image, pair_of
from tinyconv.shapes import describe

__all__ = ["Conv1DTranspose", "Conv2DTranspose"]


class TransposedConvolution(BaseConvolution):
    """Base of Conv1DTranspose and Conv2DTranspose."""

    kernel: Weight
    bias: Weight

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
                 output_padding: Any = None, data_format: str | None = None, dilation_rate: Any = 1,
                 activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: None = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = shapes.check_integer(filters, "filters")
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.output_padding = None if output_padding is None else self._check_output_padding(output_padding)
        self._set_output(activation, use_bias, bias_initializer)
        self.kernel_initializer = get_initializer(kernel_initializer, "kernel")
        self.set_rules(activity_regularizer, kernel_regularizer=kernel_regularizer,
                       bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
                       bias_constraint=bias_constraint)

    def _check_output_padding(self, value: Any) -> tuple[int, ...]:
        sizes = tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.rank
        if len(sizes) != self.rank:
            raise ValueError(f"Expected output_padding to be an integer or {self.rank} of them. "
                             f"Received: output_padding={describe(value)}")
        sizes = tuple(shapes.check_integer(size, "output_padding", 0) for size in sizes)
        if any(size >= stride for size, stride in zip(sizes, self.strides, strict=True)):
            raise ValueError(f"Expected output_padding to be less than strides, {self.strides}. "
                             f"Received: output_padding={describe(value)}")
        return sizes

    def _output_image(self, image: Image) -> Image:
        extra: tuple[int | None, ...] = self.output_padding or (None,) * self.rank
        if self.rank == 1:
            extra = (None, *extra)
        height, width = (
            shapes.transposed_size(image[axis], shapes.dilated_size(taps, rate), stride, self.padding, extra[axis])
            for axis, taps, rate, stride in self._axes())
        return height, width, self.filters

    def _axes(self) -> list[tuple[int, int, int, int]]:
        """(axis, kernel size, dilation, stride) along height and width."""
        return list(zip((0, 1), pair_of(self.kernel_size), pair_of(self.dilation_rate), pair_of(self.strides),
                        strict=True))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        output = self._output_image(self.image_of(input_shape))
        if min(output) < 1:
            raise ValueError(f"Expected an output of positive size. Received: {output[:2]} for "
                             f"input_shape={input_shape}, output_padding={self.output_padding}")
        return self.shape_of(output)

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        weights: dict[str, Shape] = {"kernel": (*self.kernel_size, self.filters, self.image_of(input_shape)[2])}
        return {**weights, "bias": (self.filters,)} if self.use_bias else weights

    def lower_convolution(self, builder: ProgramBuilder, image: Image, weights: tuple[int, ...]) -> None:
        output = self._output_image(image)
        dilation = shapes.clip_dilation(output, pair_of(self.dilation_rate))
        padding = tuple(
            shapes.transposed_padding(image[axis], output[axis], shapes.dilated_size(taps, dilation[axis]), stride)
            for axis, taps, _, stride in self._axes())
        builder.add("conv2d_transpose", output, weights, self.name, kernel_size=pair_of(self.kernel_size),
                    strides=pair_of(self.strides), padding=padding, dilation_rate=dilation)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, **self.window_config(),
                "output_padding": None if self.output_padding is None else list(self.output_padding),
                **self.output_config(), "kernel_initializer": initializers.serialize(self.kernel_initializer)}


class Conv1DTranspose(TransposedConvolution):
    """1D transposed convolution: the gradient of a convolution with respect to its input.

    Args:
        filters: Number of output channels.
        kernel_size: Length of the kernel.
        strides: Steps between the kernel's places in the output. Defaults to 1.
        padding: "valid" (all that the windows cover) or "same" (output of input * stride).
            Defaults to "valid".
        output_padding: Values added after the output of the smallest size, less than strides. Defaults
            to None: the size is what padding says.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        dilation_rate: Steps between the kernel's taps. Defaults to 1.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per filter. Defaults to True.
        kernel_initializer: Initializer of the kernel, (kernel_size, filters, channels).
            Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        kernel_regularizer, bias_regularizer: Penalties in the loss, such as "l2". Default to None.
        kernel_constraint, bias_constraint: What an update is put back to, such as "non_neg". Default to
            None.
        activity_regularizer: None.

    Input shape: (steps, channels), or (channels, steps) with "channels_first".
    Output shape: (new steps, filters), or (filters, new steps).

    Raises:
        ValueError: If an argument is out of range, or nothing is left of the output.
    """

    rank = 1


class Conv2DTranspose(TransposedConvolution):
    """2D transposed convolution: the gradient of a convolution with respect to its input.

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the kernel, an integer or two.
        strides: Steps between the kernel's places in the output, an integer or two. Defaults to 1.
        padding: "valid" (all that the windows cover) or "same" (output of input * stride).
            Defaults to "valid".
        output_padding: Rows and columns added after the output of the smallest size, less than
            strides, an integer or two. Defaults to None: the size is what padding says.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        dilation_rate: Steps between the kernel's taps, an integer or two. Defaults to 1.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per filter. Defaults to True.
        kernel_initializer: Initializer of the kernel, (height, width, filters, channels).
            Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        kernel_regularizer, bias_regularizer: Penalties in the loss, such as "l2". Default to None.
        kernel_constraint, bias_constraint: What an update is put back to, such as "non_neg". Default to
            None.
        activity_regularizer: None.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: (new height, new width, filters), or (filters, new height, new width).

    Raises:
        ValueError: If an argument is out of range, or nothing is left of the output.
    """

    rank = 2

"""Convolution layers."""

from __future__ import annotations

from typing import Any

from tinyconv import initializers, shapes
from tinyconv.engine.program import ProgramBuilder, as_image_shape
from tinyconv.layers.base import Layer, Shape, Weight, get_initializer
from tinyconv.layers.nonlinear import add_activation, get_activation, serialize_activation
from tinyconv.utils import check_flag

__all__ = ["Conv2D"]


class Conv2D(Layer):
    """2D convolution: y = activation(conv(x, kernel) + bias).

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the kernel, an integer or two.
        strides: Steps between windows, an integer or two. Defaults to (1, 1).
        padding: "valid" (no padding) or "same" (output of ceil(input / stride)). Defaults to "valid".
        data_format: None or "channels_last".
        dilation_rate: Steps between the kernel's taps, an integer or two. Defaults to (1, 1).
        groups: 1, the only number of groups there is.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per filter. Defaults to True.
        kernel_initializer: Initializer of the kernel. Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        kernel_regularizer, bias_regularizer: Penalties in the loss, such as "l2". Default to None.
        kernel_constraint, bias_constraint: What an update is put back to, such as "non_neg". Default
            to None.
        activity_regularizer: None.

    Input shape: (height, width, channels). Output shape: (new height, new width, filters).

    Raises:
        ValueError: If an argument is out of range, or no window fits into the input.
    """

    kernel: Weight
    bias: Weight

    def __init__(self, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Any = (1, 1), groups: int = 1,
                 activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: None = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = shapes.check_integer(filters, "filters")
        self.kernel_size = shapes.standardize_pair(kernel_size, "kernel_size")
        self.strides = shapes.standardize_pair(strides, "strides")
        self.padding = shapes.standardize_padding(padding)
        self.data_format = shapes.standardize_data_format(data_format)
        self.dilation_rate = shapes.standardize_pair(dilation_rate, "dilation_rate")
        self.groups = shapes.check_integer(groups, "groups")
        if self.groups != 1:
            raise ValueError(f"Expected `groups` to be 1: more are not supported. Received: groups={groups}")
        self.activation = get_activation(activation)
        self.use_bias = check_flag(use_bias, "use_bias")
        self.kernel_initializer = get_initializer(kernel_initializer, "kernel")
        self.bias_initializer = get_initializer(bias_initializer, "bias")
        self.set_rules(activity_regularizer, kernel_regularizer=kernel_regularizer,
                       bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
                       bias_constraint=bias_constraint)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return shapes.conv2d_output_shape(input_shape, self.filters, self.kernel_size, self.strides,
                                          self.padding, self.dilation_rate)

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        weights: dict[str, Shape] = {"kernel": (*self.kernel_size, input_shape[-1], self.filters)}
        return {**weights, "bias": (self.filters,)} if self.use_bias else weights

    def lower(self, builder: ProgramBuilder) -> None:
        _, strides = shapes.clip_window(self.input_shape, self.kernel_size, self.strides)
        dilation = shapes.clip_dilation(self.input_shape, self.dilation_rate)
        padding = shapes.window_padding(self.input_shape, self.kernel_size, strides, self.padding, dilation)
        builder.add("conv2d", as_image_shape(self.output_shape), self.lower_weights(builder), self.name,
                    kernel_size=self.kernel_size, strides=strides, padding=padding,
                    dilation_rate=dilation)
        add_activation(builder, self.activation, self.name)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": list(self.kernel_size),
            "strides": list(self.strides),
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": list(self.dilation_rate),
            "groups": self.groups,
            "activation": serialize_activation(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }

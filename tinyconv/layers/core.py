"""Input, Dense, Flatten, Reshape."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tinyconv import initializers, shapes
from tinyconv.engine.program import ProgramBuilder, as_image_shape
from tinyconv.layers.arguments import BatchShape, get_initializer, refuse_unsupported
from tinyconv.layers.base import Layer, Shape, Weight
from tinyconv.layers.layout import add_reshape, to_channels_last
from tinyconv.layers.nonlinear import add_activation, get_activation, serialize_activation
from tinyconv.shapes import describe
from tinyconv.utils import check_flag

__all__ = ["Dense", "Flatten", "Input", "InputLayer", "Reshape"]


class InputLayer(Layer):
    """Says what shape a model's input has; computes nothing.

    Args:
        shape: Shape of a sample: (28, 28, 1).
        batch_size: Batch size, where it is fixed. Defaults to None.
        dtype: Type of the data, any NumPy number; it is converted. Defaults to "float32".
        batch_shape: Batch size (or None) and shape: (None, 28, 28, 1).

    Input shape: `shape`. Output shape: `shape`.
    """

    _renamed_keys: ClassVar[dict[str, str]] = {"batch_input_shape": "batch_shape", "input_shape": "shape"}

    def __init__(self, shape: Any = None, batch_size: int | None = None, dtype: Any = None,
                 sparse: bool | None = None, ragged: bool | None = None, batch_shape: Any = None,
                 input_tensor: None = None, optional: bool = False, name: str | None = None,
                 **kwargs: Any) -> None:
        shape = kwargs.pop("input_shape", shape)
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        refuse_unsupported(sparse=sparse or None, ragged=ragged or None, input_tensor=input_tensor,
                           optional=optional or None)
        if shape is None and batch_shape is None:
            raise ValueError("Expected shape or batch_shape, such as (28, 28, 1). Received: shape=None")
        super().__init__(name=name, input_shape=shape, batch_input_shape=batch_shape,
                         batch_size=batch_size, **kwargs)
        self.dtype = _name_of_type("float32" if dtype is None else dtype)

    @property
    def batch_shape(self) -> BatchShape:
        """Batch size, None where it is free, and shape."""
        assert self.batch_input_shape is not None  # __init__ takes no other
        return self.batch_input_shape

    @property
    def shape(self) -> Shape:
        """The shape of a sample."""
        return self.batch_shape[1:]

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "batch_shape": list(self.batch_shape), "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        arguments = {cls._renamed_keys.get(key, key): value for key, value in config.items()}
        keys = ("shape", "batch_size", "batch_shape", "dtype", "sparse", "ragged", "optional", "name")
        return cls(**{key: arguments[key] for key in keys if key in arguments})


# Of all NumPy's numbers, and Python's.
_TYPES = {np.dtype(code).name for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"} | {"float", "int"}


def _name_of_type(dtype: Any) -> str:
    """The name of a number's type; texts are compared, not parsed: NumPy's have a grammar of their own."""
    try:
        if not isinstance(dtype, (str, dict)) and (name := np.dtype(dtype).name) in _TYPES:
            return name
    except (TypeError, ValueError):
        pass
    if isinstance(dtype, str) and dtype in _TYPES:
        return np.dtype(dtype).name
    raise TypeError(f"Expected dtype to be a number's type. Received: dtype={describe(dtype)}")


def Input(shape: Any = None, batch_size: int | None = None, dtype: Any = None, sparse: bool | None = None,
          ragged: bool | None = None, batch_shape: Any = None, name: str | None = None, tensor: None = None,
          optional: bool = False) -> InputLayer:
    """The first entry of a Sequential: `Input(shape=(28, 28, 1))`. See `InputLayer` for the arguments."""
    return InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name)


class Dense(Layer):
    """Fully connected: y = activation(x @ kernel + bias) over the last axis.

    Args:
        units: Number of outputs.
        activation: Name, function or layer. Defaults to None: linear.
        use_bias: Whether to add a bias per unit. Defaults to True.
        kernel_initializer: Initializer of the kernel. Defaults to "glorot_uniform".
        bias_initializer: Initializer of the bias. Defaults to "zeros".
        kernel_regularizer, bias_regularizer: Penalties in the loss, such as "l2". Default to None.
        kernel_constraint, bias_constraint: What an update is put back to, such as "non_neg". Default
            to None.
        activity_regularizer, lora_rank: None.

    Input shape: (..., inputs). Output shape: (..., units).

    Raises:
        ValueError: If an argument is out of range.
    """

    kernel: Weight
    bias: Weight

    def __init__(self, units: int, activation: Any = None, use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
                 kernel_regularizer: Any = None, bias_regularizer: Any = None,
                 activity_regularizer: None = None, kernel_constraint: Any = None,
                 bias_constraint: Any = None, lora_rank: None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = shapes.check_integer(units, "units")
        self.activation = get_activation(activation)
        self.use_bias = check_flag(use_bias, "use_bias")
        self.kernel_initializer = get_initializer(kernel_initializer, "kernel")
        self.bias_initializer = get_initializer(bias_initializer, "bias")
        refuse_unsupported(lora_rank=lora_rank)
        self.set_rules(activity_regularizer, kernel_regularizer=kernel_regularizer,
                       bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
                       bias_constraint=bias_constraint)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        weights: dict[str, Shape] = {"kernel": (input_shape[-1], self.units)}
        return {**weights, "bias": (self.units,)} if self.use_bias else weights

    def lower(self, builder: ProgramBuilder) -> None:
        output_shape = as_image_shape(self.output_shape)
        if len(self.input_shape) == 1:
            builder.add("dense", output_shape, self.lower_weights(builder), self.name)
        else:
            # Over the last axis of an image: a convolution of one tap. The reshaped kernel is a
            # view, so training writes into this layer's array.
            weights = [self.lower_weight(builder, self.kernel, self.kernel.value[None, None])]
            if self.use_bias:
                weights.append(self.lower_weight(builder, self.bias))
            builder.add("conv2d", output_shape, tuple(weights), self.name, kernel_size=(1, 1),
                        strides=(1, 1), padding=((0, 0), (0, 0)), dilation_rate=(1, 1))
        add_activation(builder, self.activation, self.name)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": serialize_activation(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }


class Flatten(Layer):
    """All values of a sample in one row, in row-major order.

    Args:
        data_format: None, "channels_last" or "channels_first": the first axis is then taken to the end
            before. Defaults to None: "channels_last".

    Input shape: any. Output shape: (values,).
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (shapes.element_count(input_shape),)

    def lower(self, builder: ProgramBuilder) -> None:
        to_channels_last(builder, self.input_shape, self.data_format, self.name)
        add_reshape(builder, as_image_shape(self.output_shape), self.name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(Layer):
    """The same values, in row-major order, in another shape.

    Args:
        target_shape: Shape of a sample of 1 to 3 dimensions; one of them may be -1, for what is left.

    Input shape: any. Output shape: `target_shape`.

    Raises:
        ValueError: If the input has another number of values.
    """

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sizes = tuple(target_shape) if isinstance(target_shape, (tuple, list)) else (target_shape,)
        valid = sizes.count(-1) <= 1
        try:
            shapes.check_shape(tuple(1 if size == -1 else size for size in sizes), "target_shape")
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(
                "Expected target_shape to be 1 to 3 positive integers, one of which may be -1. "
                f"Received: target_shape={describe(target_shape)}"
            )
        self.target_shape = tuple(int(size) for size in sizes)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return shapes.reshape_target(input_shape, self.target_shape)

    def lower(self, builder: ProgramBuilder) -> None:
        add_reshape(builder, as_image_shape(self.output_shape), self.name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target_shape": list(self.target_shape)}

"""Element-wise functions as layers: Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from tinyconv import activations, initializers
from tinyconv.engine.program import ProgramBuilder, as_image_shape
from tinyconv.layers.arguments import get_initializer
from tinyconv.layers.base import Layer, Shape, Weight
from tinyconv.layers.layout import axes_last, axes_of, check_axes
from tinyconv.named import serialize_object
from tinyconv.shapes import describe
from tinyconv.utils import check_number

__all__ = ["ELU", "Activation", "ActivationLayer", "LeakyReLU", "PReLU", "ReLU", "Softmax"]


class ActivationLayer(Layer):
    """Base of the layers that are one activation function.

    Input shape: any. Output shape: the input's.
    """

    def operation(self) -> tuple[str, tuple[float, ...]]:
        """(function, parameters) of the engine's "activation" operation."""
        return "linear", ()

    def lower(self, builder: ProgramBuilder) -> None:
        add_activation(builder, self, self.name)


class Activation(ActivationLayer):
    """Applies an activation function.

    Args:
        activation: Name or function of `tinyconv.activations`.

    Input shape: any. Output shape: the input's.
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = get_activation(activation)

    def operation(self) -> tuple[str, tuple[float, ...]]:
        return activation_operation(self.activation)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": serialize_activation(self.activation)}


class ReLU(ActivationLayer):
    """Rectified linear unit: x where x > threshold, at most max_value; a slope below.

    Args:
        max_value: Upper limit. Defaults to None: no limit.
        negative_slope: Slope below the threshold. Defaults to 0.
        threshold: Beyond which x comes through. Defaults to 0.

    Input shape: any. Output shape: the input's.
    """

    def __init__(self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else check_number(max_value, "max_value", 0.0)
        # TensorFlow.js writes null for its defaults.
        self.negative_slope = check_number(negative_slope or 0.0, "negative_slope", 0.0)
        self.threshold = check_number(threshold or 0.0, "threshold", 0.0)

    def operation(self) -> tuple[str, tuple[float, ...]]:
        limit = math.inf if self.max_value is None else self.max_value
        return "relu", (self.negative_slope, limit, self.threshold)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_value": self.max_value, "negative_slope": self.negative_slope,
                "threshold": self.threshold}


class LeakyReLU(ActivationLayer):
    """x where x >= 0, negative_slope * x below.

    Args:
        negative_slope: Slope below zero. Defaults to 0.3.

    Input shape: any. Output shape: the input's.
    """

    _renamed_keys: ClassVar[dict[str, str]] = {"alpha": "negative_slope"}

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        # Keras 2 and TensorFlow.js call the slope alpha.
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self.negative_slope = check_number(negative_slope, "negative_slope", 0.0)

    def operation(self) -> tuple[str, tuple[float, ...]]:
        return "leaky_relu", (self.negative_slope,)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative_slope": self.negative_slope}


class PReLU(Layer):
    """x where x >= 0, alpha * x below, with an alpha that is trained.

    He, Zhang, Ren and Sun: Delving deep into rectifiers: surpassing human-level performance on ImageNet
    classification (2015).

    Args:
        alpha_initializer: Initializer of the slopes. Defaults to "Zeros".
        alpha_regularizer: Penalty in the loss, such as "l2". Defaults to None.
        alpha_constraint: What an update is put back to, such as "non_neg". Defaults to None.
        shared_axes: Axes along which there is one slope, the batch counted: [1, 2] for one a channel
            of an image. Defaults to None: a slope for every value.

    Input shape: any. Output shape: the input's. Weights: alpha, of the input's shape with 1 for the
    shared axes.

    Raises:
        ValueError: If an argument is out of range, or a shared axis is not one of the input's.
    """

    alpha: Weight

    def __init__(self, alpha_initializer: Any = "Zeros", alpha_regularizer: Any = None, alpha_constraint: Any = None,
                 shared_axes: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = get_initializer(alpha_initializer, "alpha")
        self.set_rules(alpha_regularizer=alpha_regularizer, alpha_constraint=alpha_constraint)
        axes = shared_axes
        if axes is not None:
            axes = list(axes) if isinstance(axes, (list, tuple)) else [axes]
            if any(isinstance(axis, bool) or not isinstance(axis, int) or axis < 1 for axis in axes):
                raise ValueError("Expected shared_axes to be None, or axes from 1 on. "
                                 f"Received: shared_axes={describe(shared_axes)}")
        self.shared_axes: list[int] | None = axes

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if max(self.shared_axes or [1]) > len(input_shape):
            raise ValueError(f"Expected shared_axes in [1, {len(input_shape)}]. "
                             f"Received: shared_axes={self.shared_axes}")
        return input_shape

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        shared = self.shared_axes or []
        return {"alpha": tuple(1 if axis in shared else size for axis, size in enumerate(input_shape, 1))}

    def lower(self, builder: ProgramBuilder) -> None:
        shape = as_image_shape(self.alpha.shape)
        weight = self.lower_weight(builder, self.alpha, self.alpha.value.reshape(shape))
        builder.add("prelu", builder.shape, (weight,), self.name, shared=tuple(size == 1 for size in shape))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha_initializer": initializers.serialize(self.alpha_initializer),
                "shared_axes": self.shared_axes}


class ELU(ActivationLayer):
    """x where x > 0, alpha * (exp(x) - 1) below.

    Args:
        alpha: Minus the limit for small x. Defaults to 1.

    Input shape: any. Output shape: the input's.
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = check_number(alpha, "alpha")

    def operation(self) -> tuple[str, tuple[float, ...]]:
        return "elu", (self.alpha,)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


class Softmax(ActivationLayer):
    """exp(x) / sum(exp(x)) along an axis, or several.

    Args:
        axis: Any but the batch's, which is counted: -1, or 3, is the last of an image; or a tuple of them,
            over whose values together the sum is. Defaults to -1.

    Input shape: any. Output shape: the input's.
    """

    def __init__(self, axis: int | tuple[int, ...] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        axes = check_axes(axis, least=1)
        self.axis: Any = axes if isinstance(axis, (tuple, list)) else axes[0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        axes_of(self.axis, input_shape)
        return input_shape

    def lower(self, builder: ProgramBuilder) -> None:
        with axes_last(builder, self.input_shape, axes_of(self.axis, self.input_shape), self.name):
            super().lower(builder)

    def operation(self) -> tuple[str, tuple[float, ...]]:
        return "softmax", ()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": list(self.axis) if isinstance(self.axis, tuple) else self.axis}


_CLASSES: dict[str, type[ActivationLayer]] = {
    cls.__name__: cls for cls in (Activation, ReLU, LeakyReLU, ELU, Softmax)
}


def get_activation(identifier: Any) -> Any:
    """A function of `tinyconv.activations`, or a layer of this module where one was given."""
    if isinstance(identifier, ActivationLayer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, ActivationLayer):
        return identifier()
    if isinstance(identifier, dict) and identifier.get("class_name") in _CLASSES:
        return _CLASSES[identifier["class_name"]].from_config(identifier.get("config", {}))
    return activations.get(identifier)


def serialize_activation(activation: Any) -> Any:
    """The name of an activation function, or the config of an activation layer."""
    if isinstance(activation, ActivationLayer):
        return serialize_object(activation)
    return activations.serialize(activation)


def activation_operation(activation: Any) -> tuple[str, tuple[float, ...]]:
    """(function, parameters) of an activation function or layer."""
    if isinstance(activation, ActivationLayer):
        return activation.operation()
    return activations.lower(activation)


def add_activation(builder: ProgramBuilder, activation: Any, layer: str) -> None:
    """Appends the operation of an activation; a linear one needs none."""
    function, parameters = activation_operation(activation)
    if function != "linear":
        builder.add("activation", builder.shape, layer=layer, function=function, parameters=parameters)

"""Layer: what every layer is.

Shapes are per sample, without the batch dimension, everywhere but in the
arguments and configs that carry "batch" in their name.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tinyconv import constraints, regularizers, shapes
from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.arguments import arguments_of, batch_shape_of, get_initializer, refuse_unsupported
from tinyconv.layers.owners import Owners, change, is_setting
from tinyconv.layers.weight import Weight
from tinyconv.left_out import KERAS_1_ARGUMENTS, refuse_methods
from tinyconv.named import serialize_object
from tinyconv.shapes import describe
from tinyconv.utils import (
    check_dtype,
    check_flag,
    check_list,
    default_seed,
    derive_seed,
    to_snake_case,
    unique_name,
)

__all__ = ["Layer", "Spec", "Weight"]

Shape = tuple[int, ...]


class Spec(NamedTuple):
    """What a layer takes or gives."""

    shape: tuple[int | None, ...]  # with the batch, whose size is free, in front
    dtype: str = "float32"


class Layer:
    """Base of all layers.

    A layer validates its arguments when it is created, gets its shapes and weights in `build`,
    and appends its operations to a program in `lower`.

    Args:
        name: Name, unique in a model. Defaults to the class's, numbered: "conv2d", "conv2d_1".
        trainable: Whether training changes the weights. Defaults to True.
        dtype: None or "float32", the only type of weights and activations.
        input_shape: Shape of a sample, for the first layer of a model: (28, 28, 1).
        batch_input_shape: The same with the batch size, or None, in front: (None, 28, 28, 1).
        **kwargs: `input_dim=n` and `batch_size`, as in Keras 2.
    """

    dtype = "float32"  # of weights and activations

    # Keras 2 and tfjs names of arguments -> the names here.
    _renamed_keys: ClassVar[dict[str, str]] = {}
    # Weights that training does not change by their gradient.
    _fixed_weights: ClassVar[tuple[str, ...]] = ()
    # Names of weights -> the first words of their arguments, where those differ: "depthwise" for
    # depthwise_initializer.
    _argument_names: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_methods(cls, "call")

    def __init__(self, name: str | None = None, trainable: bool = True, dtype: Any = None,
                 input_shape: Any = None, batch_input_shape: Any = None, **kwargs: Any) -> None:
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise ValueError(
                f"Expected name to be a non-empty string without '/'. "
                f"Received: name={describe(name)}"
            )
        input_dim, batch_size = kwargs.pop("input_dim", None), kwargs.pop("batch_size", None)
        for key, value in kwargs.items():
            hint = f" (Keras 1's name of {KERAS_1_ARGUMENTS[key]})" if key in KERAS_1_ARGUMENTS else ""
            raise TypeError(f"{type(self).__name__} got an unexpected argument. "
                            f"Received: {key}={describe(value)}{hint}")
        check_dtype(dtype)
        if input_dim is not None and input_shape is None:
            input_shape = (input_dim,)
        self.batch_input_shape = batch_shape_of(input_shape, batch_input_shape, batch_size)
        self.name = name if name is not None else unique_name(to_snake_case(type(self).__name__))
        self.trainable = trainable
        self.built = False
        self._input_shape: Shape = ()  # of a sample, once the layer is built
        self._output_shape: Shape = ()
        self.weights: list[Weight] = []
        self._rule_names: tuple[str, ...] = ()
        # Set by the model that owns the layer.
        self._seed: int | None = None
        self._on_change: Callable[[], None] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; where it is a setting, models that hold the layer compute with it from now on.

        Raises:
            ValueError: If the setting cannot be, or the model does not fit together with it; it stays as it was.
            TypeError: If the attribute is a weight, which its `assign` writes.
        """
        if name == "trainable":
            value = check_flag(value, name)
        owners = self.__dict__.get("_on_change")
        if not isinstance(owners, Owners) or hasattr(getattr(type(self), name, None), "__set__"):
            super().__setattr__(name, value)  # nobody to tell; or a property, which knows what to do
            return
        counts, changes = is_setting(self, name), change(self, owners, name, value)
        kept = {key: self.__dict__[key] for key in changes if key in self.__dict__}
        self.__dict__.update(changes)
        if not counts:
            return
        try:
            self._settle(name, owners)
        except Exception:
            self.__dict__.update(kept)
            self._settle(name, owners)
            raise

    def _settle(self, name: str, owners: Owners) -> None:
        """What follows from a changed setting: rules of weights, shapes, programs; ValueError where it cannot be."""
        if name in self._rule_names:
            self._renew_rules()
        if self.built:
            self.build(self._input_shape)
        owners.lower_anew()

    def _renew_rules(self) -> None:
        for weight in self.weights:
            names = self.argument_of(weight.name, "regularizer"), self.argument_of(weight.name, "constraint")
            if set(names) <= set(self._rule_names):
                try:
                    weight.regularizer = regularizers.get(getattr(self, names[0]))
                    weight.constraint = constraints.get(getattr(self, names[1]))
                    _ = weight.rules
                except ValueError as error:
                    raise ValueError(f"Layer '{self.name}', {weight.name}: {error}") from None

    # --- what a subclass writes ---

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of a sample's output; raises ValueError where the input does not fit."""
        return input_shape

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Name and shape of every weight, in order, without allocating any."""
        return {}

    def lower(self, builder: ProgramBuilder) -> None:
        """Appends this layer's operations; the layer is built."""

    def set_rules(self, activity_regularizer: None = None, **rules: Any) -> None:
        """Takes over regularizers and constraints of weights; a subclass calls it in `__init__`.

        Args:
            activity_regularizer: None: it is not supported.
            **rules: By Keras' names: kernel_regularizer="l2", bias_constraint=None, ...; they become
                attributes, and settings in `get_config`.

        Raises:
            ValueError: If a rule is unknown or not supported.
        """
        refuse_unsupported(activity_regularizer=activity_regularizer)
        for name, value in rules.items():
            try:
                rule = (regularizers if name.endswith("_regularizer") else constraints).get(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            setattr(self, name, rule)
        self._rule_names = tuple(rules)

    @classmethod
    def argument_of(cls, weight: str, what: str) -> str:
        """The argument that says `what` about a weight: "kernel", "initializer" -> "kernel_initializer"."""
        return f"{cls._argument_names.get(weight, weight)}_{what}"

    # --- building ---

    def build(self, input_shape: Any) -> None:
        """Fixes the shapes and creates the weights; keeps weights that are there and still fit.

        Args:
            input_shape: Shape of a sample; or as Keras has it, with None for the batch in front.

        Raises:
            ValueError: If the layer cannot take such an input.
        """
        if isinstance(input_shape, (tuple, list)) and len(input_shape) > 1 and input_shape[0] is None:
            input_shape = tuple(input_shape[1:])
        input_shape = shapes.check_shape(input_shape)
        try:
            output_shape = shapes.check_shape(self.compute_output_shape(input_shape), "output_shape")
        except ValueError as error:
            raise ValueError(f"Layer '{self.name}' ({type(self).__name__}): {error}") from None
        expected = self.weight_shapes(input_shape)
        present = {weight.name: weight.shape for weight in self.weights}
        if self.built and expected != present:
            raise ValueError(
                f"Layer '{self.name}' has weights for inputs of shape {self.input_shape}. "
                f"Received: input_shape={input_shape}"
            )
        if not self.built:
            for name, shape in expected.items():
                self.add_weight(name, shape, getattr(self, self.argument_of(name, "initializer")),
                                trainable=name not in self._fixed_weights,
                                regularizer=getattr(self, self.argument_of(name, "regularizer"), None),
                                constraint=getattr(self, self.argument_of(name, "constraint"), None))
        self._input_shape, self._output_shape = input_shape, output_shape
        self.built = True

    @property
    def input_shape(self) -> Shape:
        """The shape of a sample of the input; AttributeError before `build`."""
        self._check_shapes_known()
        return self._input_shape

    @property
    def output_shape(self) -> Shape:
        """The shape of a sample of the output; AttributeError before `build`."""
        self._check_shapes_known()
        return self._output_shape

    @property
    def input(self) -> Spec:
        """Shape and type of the layer's input; AttributeError before `build`."""
        return Spec((None, *self.input_shape))

    @property
    def output(self) -> Spec:
        """Shape and type of the layer's output; AttributeError before `build`."""
        return Spec((None, *self.output_shape))

    def _check_shapes_known(self) -> None:
        if not self._output_shape:
            raise AttributeError(f"Layer '{self.name}' has no shapes yet: it was never built.")

    def add_weight(self, name: str, shape: Shape, initializer: Any = "glorot_uniform", trainable: bool = True,
                   regularizer: Any = None, constraint: Any = None) -> Weight:
        """Creates a weight, also found as the attribute `name`.

        Args:
            name: "kernel", ...
            shape: Its shape.
            initializer: Where its first values come from. Defaults to "glorot_uniform".
            trainable: Whether training changes it. Defaults to True.
            regularizer: Its penalty in the loss. Defaults to None.
            constraint: What it is put back to after every update. Defaults to None.

        Raises:
            ValueError: If the weight would be too large, or its constraint does not fit its shape.
        """
        if self._seed is None:
            self._seed = default_seed()
        if shapes.element_count(shape) > shapes.MAX_SIZE:
            raise ValueError(
                f"Layer '{self.name}': expected {name} to have at most {shapes.MAX_SIZE} values. "
                f"Received: shape={shape}"
            )
        initializer = get_initializer(initializer, name)
        value = initializer(shape, np.float32, derive_seed(self._seed, len(self.weights)))
        try:
            weight = Weight(name, value, initializer, trainable, self._changed, regularizers.get(regularizer),
                            constraints.get(constraint))
        except ValueError as error:
            raise ValueError(f"Layer '{self.name}', {name}: {error}") from None
        self.weights.append(weight)
        setattr(self, name, weight)
        return weight

    def lower_weights(self, builder: ProgramBuilder) -> tuple[int, ...]:
        """Registers all weights with the program and returns their indices."""
        return tuple(self.lower_weight(builder, weight) for weight in self.weights)

    def lower_weight(self, builder: ProgramBuilder, weight: Weight, value: np.ndarray | None = None) -> int:
        """Registers a weight, or the view `value` of it, with the program and returns its index."""
        return builder.weight(weight.value if value is None else value, self.trainable and weight.trainable,
                              weight.rules)

    # --- weights ---

    @property
    def trainable_weights(self) -> list[Weight]:
        """The weights that training changes."""
        return [weight for weight in self.weights if self.trainable and weight.trainable]

    @property
    def non_trainable_weights(self) -> list[Weight]:
        """The weights that training leaves to themselves: all, while the layer is frozen."""
        return [weight for weight in self.weights if not (self.trainable and weight.trainable)]

    @property
    def variables(self) -> list[Weight]:
        """Another name of `weights`."""
        return self.weights

    trainable_variables, non_trainable_variables = trainable_weights, non_trainable_weights

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the weights' values."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: Any) -> None:
        """Overwrites all weights in place; nothing is changed where one does not fit.

        Args:
            weights: List of arrays, as from `get_weights`.

        Raises:
            ValueError: If their number or a shape differs.
            TypeError: If one does not hold real numbers.
        """
        weights = check_list(weights, "weights")
        if len(weights) != len(self.weights):
            raise ValueError(
                f"Layer '{self.name}' expected {len(self.weights)} weight arrays. "
                f"Received: {len(weights)} arrays"
            )
        try:
            arrays = [weight.checked(array) for weight, array in zip(self.weights, weights, strict=True)]
        except (TypeError, ValueError) as error:
            raise type(error)(f"Layer '{self.name}': {error}") from None
        for weight, array in zip(self.weights, arrays, strict=True):
            weight.value[...] = array
        self._changed()

    def count_params(self) -> int:
        """The number of values in all weights.

        Raises:
            ValueError: If the layer is not built.
        """
        if not self.built:
            raise ValueError(f"Layer '{self.name}' has no weights yet: build it or give an input_shape.")
        return sum(weight.value.size for weight in self.weights)

    def _changed(self) -> None:
        """Tells the owning model that weights were written."""
        if self._on_change is not None:
            self._on_change()

    # --- configuration ---

    def get_config(self) -> dict[str, Any]:
        """The arguments that create this layer again, as JSON can hold them."""
        config: dict[str, Any] = {"name": self.name, "trainable": self.trainable}
        if self.batch_input_shape is not None:
            config["batch_input_shape"] = list(self.batch_input_shape)
        for name in self._rule_names:
            rule = getattr(self, name)
            config[name] = None if rule is None else serialize_object(rule)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """Creates a layer from its config, or from one written by Keras or TensorFlow.js.

        An activity regularizer in the config is left out with a warning: it matters only to training.

        Raises:
            ValueError: If the config has a setting that this layer does not have.
        """
        return cls(**arguments_of(cls, config, cls._renamed_keys, {*inspect.signature(Layer).parameters}))

    @property
    def losses(self) -> list[float]:
        """The penalties of the regularizers of the weights that are trained."""
        return [weight.regularizer(weight.value) for weight in self.trainable_weights if weight.regularizer is not None]

    def __call__(self, x: Any, training: bool | None = None) -> np.ndarray:
        """The layer's outputs for one batch, to look at them; in a model it is many times as fast.

        Args:
            x: Array (N, ...). A layer that is not built yet is built for it.
            training: As of a model's call.

        Returns:
            float32 array (N, *output shape).

        Raises:
            TypeError: If x is no array: there are no graphs of layers.
        """
        if not hasattr(x, "__array__") and not isinstance(x, (list, tuple)):
            raise TypeError("A layer is called with arrays; a network is a Sequential model of layers. "
                            f"Received: a call of '{self.name}' with {describe(x)}")
        from tinyconv.models import Sequential

        return Sequential([self], name=self.name)(np.asarray(x), training=training)

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a layer belongs to no model."""
        return {**self.__dict__, "_on_change": None}

    def __copy__(self) -> Layer:
        """As in Keras with weights of its own: models of the one are not told what training does to the other."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

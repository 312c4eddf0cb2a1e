"""A stack of layers: their shapes, weights and program.

`Network` is what `Sequential` is before it learns: it builds the layers, lowers them to a program and keeps the
executor that runs it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv import engine, shapes, utils
from tinyconv.data import as_inputs, only_array
from tinyconv.engine.program import Loss, Program, ProgramBuilder, as_image_shape
from tinyconv.layers import BatchNormalization, InputLayer, Layer, Spec
from tinyconv.layers.owners import Owners

if TYPE_CHECKING:
    from tinyconv.engine.reference import Executor
    from tinyconv.layers import Weight

__all__ = ["Network"]

Shape = tuple[int, ...]

# Training never counts this far: calls with training=True get random numbers of their own.
_FIRST_CALL = 1 << 62
_NO_LOSS = Loss("inner_product")


class Network:
    """Layers in a row.  See `tinyconv.models.Sequential`."""

    def __init__(self, layers: Iterable[Layer | Network] | None = None, name: str | None = None,
                 seed: int | None = None, trainable: bool = True) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"Expected name to be a string. Received: name={name!r}")
        if isinstance(layers, Layer) or not isinstance(layers, Iterable | None):
            raise TypeError(f"Expected layers to be a list of layers. Received: layers={layers!r}")
        self.name = name or utils.unique_name(utils.to_snake_case(type(self).__name__))
        self.built = False
        self._trainable = utils.check_flag(trainable, "trainable")
        self._seed = utils.default_seed() if seed is None else utils.check_seed(seed)
        self._layers: list[Layer] = []
        self._input_shape: Shape = ()  # of a sample, once it is known
        self._output_shape: Shape = ()  # of a sample, once the layers are built
        self._shape_declared = False  # by an Input or a layer's input_shape, not by data
        self._weights_made = 0
        self._calls = 0
        self._lock = threading.RLock()
        self._program: Program | None = None
        self._run: Executor | None = None  # executes the program
        self._run_noisy: Executor | None = None  # the same without trainable weights
        self._augments: bool | None = None  # whether a call draws images anew; found out when it is asked for
        for layer in layers or ():
            self.add(layer)

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("A model is not copied or pickled: use save() and load_model(), or from_config() and "
                        f"set_weights(). Received: model '{self.name}'")

    # --- the stack ---

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the input layer."""
        return list(self._layers)

    @property
    def seed(self) -> int:
        """What all random numbers of the model follow from."""
        return self._seed

    def add(self, layer: Layer | Network) -> None:
        """Puts a layer on top of the stack.

        Args:
            layer: A layer; `Input(shape=...)` is allowed in the first place. Of a model, its layers are
                taken, one by one: they are shared.

        Raises:
            TypeError: If it is not a layer.
            ValueError: If its name is taken, or it cannot follow the layer before; the model is as before then.
        """
        if isinstance(layer, Network):
            self._add_layers_of(layer)
            return
        if not isinstance(layer, Layer):
            raise TypeError(f"Expected layer to be an instance of tinyconv.layers.Layer. Received: {layer!r}")
        declared: Any = tuple(layer.batch_input_shape or ())[1:]
        if isinstance(layer, InputLayer):
            if self._layers or self._shape_declared:
                raise ValueError(f"Expected an input layer only in the first place. Received: '{layer.name}' "
                                 f"as layer {len(self._layers) + self._shape_declared}")
            self._input_shape, self._shape_declared = declared, True
            return
        kept = self._input_shape, self._shape_declared, self._weights_made, layer.name, layer._seed
        self._check_name(layer)
        if not self._layers and not self._shape_declared and declared:
            self._input_shape, self._shape_declared = declared, True
        self._layers.append(layer)
        try:
            if self._input_shape:
                self._build_layers(len(self._layers) - 1 if self.built else 0)
        except Exception:
            self._layers.pop()
            self._input_shape, self._shape_declared, self._weights_made, layer.name, layer._seed = kept
            raise
        self._adopt(layer)
        self._forget_program()

    def _add_layers_of(self, model: Network) -> None:
        kept, count = (self._input_shape, self._shape_declared), len(self._layers)
        if not self._layers and not self._shape_declared and model._shape_declared:
            self._input_shape, self._shape_declared = model._input_shape, True
        try:
            for layer in model.layers:
                self.add(layer)
        except Exception:
            while len(self._layers) > count:
                self.pop()
            self._input_shape, self._shape_declared = kept
            raise

    def pop(self) -> Layer:
        """Takes the last layer off the stack and returns it; ValueError where there is none."""
        if not self._layers:
            raise ValueError("Expected a model with layers to pop one from. Received: a model without layers")
        layer = self._layers.pop()
        owners = layer._on_change
        if isinstance(owners, Owners):
            owners.discard(self)
        if self.built and self._layers:
            self._build_layers()
        else:
            self.built = False
        self._forget_program()
        return layer

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name, or at an index (from 0, input layer not counted); ValueError where there is none."""
        if (name is None) == (index is None):
            raise ValueError(f"Expected either a name or an index. Received: name={name!r}, index={index!r}")
        if index is not None:
            if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
                raise TypeError(f"Expected index to be an integer. Received: index={index!r}")
            if not -len(self._layers) <= index < len(self._layers):
                raise ValueError(f"Expected index to be below {len(self._layers)}. Received: index={index}")
            return self._layers[index]
        for layer in self._layers:
            if layer.name == name:
                return layer
        raise ValueError(f"No such layer. Expected one of {[layer.name for layer in self._layers]}. "
                         f"Received: name={name!r}")

    def _check_name(self, layer: Layer) -> None:
        """Names are unique; one that was given automatically makes way, as after loading a model."""
        taken = {other.name for other in self._layers}
        if layer.name not in taken:
            return
        prefix = utils.to_snake_case(type(layer).__name__)
        if layer in self._layers or not re.fullmatch(rf"{prefix}(_\d+)?", layer.name):
            raise ValueError(f"Expected layers with unique names. Received: a second layer '{layer.name}'")
        while layer.name in taken:
            layer.name = utils.unique_name(prefix)

    def _adopt(self, layer: Layer) -> None:
        owners = layer._on_change if isinstance(layer._on_change, Owners) else Owners()
        owners.add(self)
        layer._on_change = owners

    # --- shapes and building ---

    def build(self, input_shape: Any = None) -> None:
        """Fixes all shapes and creates the weights.

        Args:
            input_shape: Shape with the batch dimension: (None, 28, 28, 1). Not needed where
                the first layer declares its shape.

        Raises:
            ValueError: If no shape is known, or a layer cannot take its input.
        """
        shape = self._input_shape
        if input_shape is not None:
            if not isinstance(input_shape, (tuple, list)) or len(input_shape) < 2:
                raise ValueError("Expected input_shape to be (batch size or None, ...), such as "
                                 f"(None, 28, 28, 1). Received: input_shape={input_shape!r}")
            shape = shapes.check_shape(tuple(input_shape[1:]))
        if not shape:
            raise ValueError("Expected an input_shape to build a model whose layers declare none. "
                             "Received: input_shape=None")
        self._build(shape)

    def _build(self, shape: Shape) -> None:
        with self._lock:
            if not self._layers:
                raise ValueError("Expected a model with at least one layer. Received: a model without layers")
            if (self._shape_declared or self.built) and shape != self._input_shape:
                raise ValueError(f"Expected inputs of shape {(None, *self._input_shape)}. "
                                 f"Received: shape {(None, *shape)}")
            previous, self._input_shape = self._input_shape, shape
            try:
                self._build_layers()
            except ValueError:
                self._input_shape = previous
                raise

    def _build_layers(self, first: int = 0) -> None:
        """Gives the layers from one on, those before it being built, their shapes and weights."""
        shape = self._output_shape if first else self._input_shape
        for layer in self._layers[first:]:
            if not layer.built:
                layer._seed = utils.derive_seed(self._seed, self._weights_made)
            made = len(layer.weights)
            layer.build(shape)
            self._weights_made += len(layer.weights) - made
            shape = layer.output_shape
        self._output_shape = shape
        self.built = True

    def _ensure_built(self, x: Any) -> None:
        """Builds for data, where no shape was declared."""
        if self.built:
            return
        shape = self._input_shape
        if not shape:
            shape = np.shape(only_array(x))[1:]
            if not 1 <= len(shape) <= 3 or 0 in shape:
                raise ValueError("Expected x to have 1 to 3 dimensions per sample, none of them 0. "
                                 f"Received: x.shape={np.shape(x)}")
        self._build(tuple(shape))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """(None, ...): the batch size is free; AttributeError before it is known."""
        if not self._input_shape:
            raise AttributeError(f"Model '{self.name}' has no input_shape yet: it was never built.")
        return (None, *self._input_shape)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """(None, ...): the batch size is free; AttributeError before it is known."""
        if not self.built:
            raise AttributeError(f"Model '{self.name}' has no output_shape yet: it was never built.")
        return (None, *self._output_shape)

    # --- weights ---

    @property
    def weights(self) -> list[Weight]:
        """All weights, layer by layer."""
        return [weight for layer in self._layers for weight in layer.weights]

    @property
    def trainable_weights(self) -> list[Weight]:
        """The weights that training changes, layer by layer."""
        return [weight for layer in self._layers for weight in layer.trainable_weights if self._trainable]

    @property
    def non_trainable_weights(self) -> list[Weight]:
        """The other weights, layer by layer; all where the model is frozen."""
        if not self._trainable:
            return self.weights
        return [weight for layer in self._layers for weight in layer.non_trainable_weights]

    variables, trainable_variables, non_trainable_variables = weights, trainable_weights, non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether training changes the model at all; setting it sets all layers that are there, too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = utils.check_flag(value, "trainable")
        for layer in self._layers:
            layer.trainable = self._trainable

    def _trained(self) -> list[bool]:
        """Of every weight, whether training changes it."""
        return [self._trainable and layer.trainable and weight.trainable
                for layer in self._layers for weight in layer.weights]

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, layer by layer."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: Any) -> None:
        """Overwrites all weights; nothing is changed where one does not fit.

        Args:
            weights: List of arrays, as from `get_weights`.

        Raises:
            ValueError: If their number or a shape differs.
        """
        own, given = self.weights, utils.check_list(weights, "weights")
        if len(given) != len(own):
            raise ValueError(f"Expected {len(own)} weight arrays for model '{self.name}'. "
                             f"Received: {len(given)} arrays")
        arrays = [weight.checked(array) for weight, array in zip(own, given)]
        for weight, array in zip(own, arrays):
            weight.value[...] = array
        for layer in self._layers:
            layer._changed()

    def count_params(self) -> int:
        """The number of values in all weights."""
        self._check_built()
        return sum(layer.count_params() for layer in self._layers)

    def _check_built(self, what: str = "weights") -> None:
        if not self.built:
            raise ValueError(f"Model '{self.name}' has no {what} yet: build it or give an input_shape.")

    def _weights_changed(self) -> None:
        for executor in (self._run, self._run_noisy):
            if executor is not None:
                executor.weights_changed()

    def _notify_sharers(self) -> None:
        """Tells other networks with the same layers that training wrote the weights."""
        if self._run_noisy is not None:
            self._run_noisy.weights_changed()
        for layer in self._layers:
            owners = layer._on_change
            if layer.weights and isinstance(owners, Owners):
                owners(self)

    # --- the program ---

    @property
    def program(self) -> Program:
        """The operations that the model lowers to."""
        self._check_built("program")
        with self._lock:
            if self._program is None:
                self._build_layers()  # a layer that was built elsewhere since gets its shapes back
                builder = ProgramBuilder(as_image_shape(self._input_shape), self._seed)
                for layer in self._layers:
                    layer.lower(builder)
                program = builder.build()
                self._program = program if self._trainable else program.frozen()
            return self._program

    def _executor(self) -> Executor:
        run = self._run
        if run is None:
            with self._lock:
                run = self._run = self._run or engine.Executor(self.program)
        return run

    def _forget_program(self) -> None:
        """After a change of the layers or the seed."""
        with self._lock:
            self._program = self._run = self._run_noisy = self._augments = None

    def _lower_anew(self) -> None:
        """After a change of a layer's settings, which shapes may follow from."""
        with self._lock:
            self._forget_program()
            if self.built:
                self._build_layers()

    def _refresh_trainable(self) -> None:
        """Lowers anew where a layer was frozen or thawed since."""
        if self._program is not None:
            flags = tuple(self._trained())
            # What other layers lower to a normalization is always frozen.
            trainable = {layer.name for layer in self._layers if layer.trainable
                         and isinstance(layer, BatchNormalization)}
            if flags != self._program.trainable[:len(flags)] or any(
                    op.attributes["frozen"] == (op.layer in trainable) for op in self._program.ops
                    if op.kind == "batch_normalization"):
                self._forget_program()

    @property
    def inputs(self) -> list[Spec]:
        """Shape and type of the input, in a list of one."""
        return [Spec(self.input_shape)]

    @property
    def outputs(self) -> list[Spec]:
        """Shape and type of the output, in a list of one."""
        return [Spec(self.output_shape)]

    @property
    def losses(self) -> list[float]:
        """The penalties of the regularizers, layer by layer."""
        return [penalty for layer in self._layers for penalty in layer.losses]

    # --- running ---

    def __call__(self, x: Any, training: bool | None = None) -> np.ndarray:
        """The outputs for one batch.

        Args:
            x: Array (N, ...), as in `fit`.
            training: Whether dropout is active, and batch normalization takes the statistics of
                the batch and moves its own towards them. Defaults to `None`: `False`, but where
                augmentation is all that training would change, as in Keras.

        Returns:
            float32 array (N, *output shape).
        """
        if not self.built:
            self._ensure_built(x)
        x = as_inputs(x, self._input_shape)
        if len(x) == 0:
            return np.empty((0, *self._output_shape), np.float32)
        if training is None:
            training = self._augments if self._augments is not None else self._find_augmentation()
        if training:
            return self._call_noisy(x)
        return self._forward(x)

    def _find_augmentation(self) -> bool:
        active = {op.kind for op in self.program.ops if not op.attributes.get("frozen")}
        self._augments = (not active.isdisjoint({"random_affine", "random_levels"})
                          and active.isdisjoint({"dropout", "batch_normalization"}))
        return self._augments

    def _forward(self, x: np.ndarray) -> np.ndarray:
        y = (self._run or self._executor()).predict(x)
        return y if y.ndim == len(self._output_shape) + 1 else y.reshape(len(y), *self._output_shape)

    def _call_noisy(self, x: np.ndarray) -> np.ndarray:
        """A training step that changes no trainable weight, for its predictions."""
        with self._lock:
            self._refresh_trainable()
            program = self.program
            self._run_noisy = self._run_noisy or engine.Executor(program.frozen())
            step = _FIRST_CALL + self._calls
            self._calls += 1
            predictions = np.empty((len(x), *self._output_shape), np.float32)
            state: list[list[np.ndarray]] = [[] for _ in program.weights]
            try:
                self._run_noisy.train_step(x, np.zeros_like(predictions), _NO_LOSS, "sgd", (0.0,), state, step,
                                           predictions=predictions)
            finally:  # Ctrl-C strikes as soon as the step is done
                if any(op.kind == "batch_normalization" for op in program.ops):
                    self._weights_changed()
                    self._notify_sharers()
            return predictions

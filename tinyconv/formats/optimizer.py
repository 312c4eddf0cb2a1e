"""The optimizer's state among a file's weights, in the order that TensorFlow.js wants it.

It begins with the number of batches, "iter".  Then, for Adam, the first moments of all
trainable weights ("conv2d/kernel/m") and after them the second moments ("/v"); for the
other optimizers their state arrays, each kind for all weights, by Keras' names.  For
momentum, TensorFlow.js accumulates gradients where Keras accumulates steps: its
"/momentum" is the velocity here divided by minus the learning rate.  The exact
velocity follows under "/velocity", which TensorFlow.js carries along unused; it
counts only while it agrees with "/momentum", that is, until somebody trains there.

State of weights that are frozen now comes last in each of these runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.formats.guard import fail, shorten
from tinyconv.formats.manifest import WeightSpec
from tinyconv.formats.names import named_weights

__all__ = ["StateReader", "write_state"]

_NAMES = {"adam": {"momentum": "m", "velocity": "v"}, "momentum": {"momentum": "velocity"},
          "rmsprop": {"velocity": "rms", "average_gradient": "mg"}}
_STEPS = "iter"
# Places that are none in the state here: what TensorFlow.js accumulates for a velocity, and zeros that it wants.
_ACCUMULATION, _UNUSED = -1, -2


def write_state(model: Any) -> list[tuple[str, np.ndarray]]:
    """Names and arrays of the optimizer's state, none where it has not made a step yet."""
    optimizer = model.optimizer
    if not optimizer.built:
        return []
    tensors = [(_STEPS, np.array(optimizer.batches, np.int32))]
    names = list(named_weights(model))
    order = [index for index, trains in _by_training(model)
             if trains or optimizer.state_of(model.weights[index])]
    for slot, position in _slots(optimizer).items():
        for index in order:
            weight = model.weights[index].value
            arrays = optimizer.state_of(weight) or optimizer.new_state(weight)
            if position == _UNUSED:
                array = np.zeros_like(weight)
            elif position == _ACCUMULATION:
                array = _accumulation(arrays[0], optimizer.learning_rate)
            else:
                array = arrays[position]
            tensors.append((f"{names[index]}/{slot}", array.reshape(weight.shape)))
    return tensors


def _slots(optimizer: Any) -> dict[str, int]:
    """Names of a weight's arrays in the file and their places in its state, in the file's order."""
    kind = "rmsprop" if optimizer.kind.startswith("rmsprop") else optimizer.kind
    renamed = _NAMES.get(kind, {})
    places = {renamed.get(slot, slot): place for place, slot in enumerate(optimizer.slots)}
    if kind == "momentum":
        return {"momentum": _ACCUMULATION, **places}
    if kind == "rmsprop":  # TensorFlow.js keeps momentums even where there is no momentum
        return {"rms": places.pop("rms"), "momentum": places.pop("momentum", _UNUSED), **places}
    return places


def _by_training(model: Any) -> list[tuple[int, bool]]:
    """(index of a weight, whether it is trained), those that are first."""
    return sorted(enumerate(model._trained()), key=lambda item: not item[1])


def _accumulation(velocity: np.ndarray, learning_rate: float) -> np.ndarray:
    """TensorFlow.js' form of a velocity."""
    if learning_rate == 0:
        return np.zeros_like(velocity)
    with np.errstate(over="ignore", invalid="ignore"):
        return (velocity.astype(np.float64) / -learning_rate).astype(np.float32)


class StateReader:
    """Takes the optimizer's state out of a file into a compiled model.

    Args:
        model: The model; it gets an optimizer that no weight is known to yet.
        specs: The manifest's optimizer weights, in order.
        restore: Whether to; otherwise everything is skipped.

    Raises:
        FormatError: If the state is not that of the model's optimizer.
    """

    def __init__(self, model: Any, specs: list[WeightSpec], restore: bool) -> None:
        self._optimizer: Any = None
        self._steps = np.zeros(1, np.int64)
        self._arrays: dict[str, np.ndarray] = {}  # where the weights of the file go
        self._pairs: list[tuple[str, str, np.ndarray]] = []  # momentum, velocity, state array
        if not restore or not specs:
            return
        self._optimizer = model.optimizer = model.optimizer.fresh()
        if specs[0].shape not in ((), (1,)) or specs[0].dtype != "int32":
            fail("optimizer weights", "the number of steps, an int32, first", specs[0].name)
        self._assign(model, specs)
        self._arrays[specs[0].name] = self._steps

    def _assign(self, model: Any, specs: list[WeightSpec]) -> None:
        slots = _slots(self._optimizer)
        names = list(named_weights(model))
        shapes = {f"{name}/{slot}": (index, slot, weight.shape)
                  for index, (name, weight) in enumerate(zip(names, model.weights)) for slot in slots}
        if all(spec.name in shapes for spec in specs[1:]):
            found = [shapes[spec.name] for spec in specs[1:]]
        else:
            found = self._in_order(model, slots, specs[1:])
        for spec, (index, slot, shape) in zip(specs[1:], found):
            if spec.shape != shape or spec.dtype != "float32":
                fail(f"optimizer weight {shorten(spec.name)}", f"float32 of shape {list(shape)}",
                     [spec.dtype, *spec.shape])
        held = {index for index, _, _ in found}  # of weights that are frozen now, some may have state
        program = model.program
        self._optimizer.build(program.weights, [index in held or trains
                                                for index, trains in enumerate(program.trainable)])
        for spec, (index, slot, _) in zip(specs[1:], found):
            self._arrays[spec.name] = self._state_array(index, slot, slots)
        kinds = {(index, slot): spec.name for spec, (index, slot, _) in zip(specs[1:], found)}
        exact = "velocity" if slots.get("momentum") == _ACCUMULATION else None
        for index in {index for index, _ in kinds}:
            missing = [slot for slot in slots if (index, slot) not in kinds and slot != exact]
            if missing:
                fail(f"optimizer state of '{names[index]}'", f"{list(slots)}", f"none for {missing}")
            if exact is not None:
                self._pairs.append((kinds[index, "momentum"], kinds.get((index, exact), ""),
                                    self._optimizer.state[index][0]))

    def _in_order(self, model: Any, slots: dict[str, int],
                  specs: list[WeightSpec]) -> list[tuple[int, str, tuple[int, ...]]]:
        """For names that are not the model's: TensorFlow.js numbers them when it loads a model twice."""
        trained = [index for index, trains in _by_training(model) if trains]
        is_momentum = slots.get("momentum") == _ACCUMULATION
        order = [slot for slot in slots if not (is_momentum and slot == "velocity")]
        if len(specs) != len(trained) * len(order):
            fail("optimizer weights", f"{len(trained) * len(order)} after the number of steps", len(specs))
        return [(index, slot, model.weights[index].shape) for slot in order for index in trained]

    def _state_array(self, index: int, slot: str, slots: dict[str, int]) -> np.ndarray:
        """Where to read to: the state itself, but momentum's two forms are compared afterwards."""
        arrays, place = self._optimizer.state[index], slots[slot]
        if place < 0 or (slot == "velocity" and slots.get("momentum") == _ACCUMULATION):
            return np.empty_like(self._optimizer._weights[index] if place == _UNUSED else arrays[0])
        return arrays[place]

    def target(self, spec: WeightSpec) -> np.ndarray | None:
        """The array that a weight of the file is read into; None: it is skipped."""
        return self._arrays.get(spec.name)

    def finish(self) -> None:
        """Call it when everything was read."""
        if self._optimizer is None:
            return
        if self._steps[0] < 0:
            fail("optimizer iterations", "a non-negative integer", int(self._steps[0]))
        self._optimizer.batches = int(self._steps[0])
        rate = self._optimizer.learning_rate
        for momentum, velocity, state in self._pairs:
            accumulation, exact = self._arrays[momentum], self._arrays.get(velocity)
            if exact is not None and _accumulation(exact, rate).tobytes() == accumulation.tobytes():
                state[...] = exact
            else:
                state[...] = accumulation * np.float32(-rate)

"""The optimizer's state among a file's weights, in the order that TensorFlow.js wants it.

It begins with the number of steps, "iter".  Then, for Adam, the first moments of all
trainable weights ("conv2d/kernel/m") and after them the second moments ("/v").  For
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

__all__ = ["StateReader", "write_state"]

_SLOTS = {"sgd": (), "momentum": ("momentum", "velocity"), "adam": ("m", "v")}
_STEPS = "iter"


def write_state(model: Any) -> list[tuple[str, np.ndarray]]:
    """Names and arrays of the optimizer's state, none where it has not made a step yet."""
    optimizer = model.optimizer
    if not optimizer.built:
        return []
    tensors = [(_STEPS, np.array(optimizer.iterations, np.int32))]
    names = _weight_names(model)
    order = [index for index, trains in _by_training(model)
             if trains or len(optimizer.state[index])]
    slots = _SLOTS[optimizer.kind]
    for position, slot in enumerate(slots):
        for index in order:
            shape = model.weights[index].shape
            arrays = optimizer.state[index] or [np.zeros(shape, np.float32)] * len(slots)
            if slot == "momentum":
                array = _accumulation(arrays[0], optimizer.learning_rate)
            else:
                array = arrays[0 if slot == "velocity" else position]
            tensors.append((f"{names[index]}/{slot}", array.reshape(shape)))
    return tensors


def _weight_names(model: Any) -> list[str]:
    return [f"{layer.name}/{weight.name}" for layer in model.layers for weight in layer.weights]


def _by_training(model: Any) -> list[tuple[int, bool]]:
    """(index of a weight, whether it is trained), those that are first."""
    flags = [layer.trainable and weight.trainable for layer in model.layers for weight in layer.weights]
    return sorted(enumerate(flags), key=lambda item: not item[1])


def _accumulation(velocity: np.ndarray, learning_rate: float) -> np.ndarray:
    """TensorFlow.js' form of a velocity."""
    if learning_rate == 0:
        return np.zeros_like(velocity)
    with np.errstate(over="ignore", invalid="ignore"):
        return (velocity.astype(np.float64) / -learning_rate).astype(np.float32)


class StateReader:
    """Takes the optimizer's state out of a file into a compiled model.

    Args:
        model: The model, its optimizer not built yet.
        specs: The manifest's optimizer weights, in order.
        restore: Whether to; otherwise everything is skipped.

    Raises:
        FormatError: If the state is not that of the model's optimizer.
    """

    def __init__(self, model: Any, specs: list[WeightSpec], restore: bool) -> None:
        self._optimizer: Any = model.optimizer if restore and specs else None
        self._steps = np.zeros(1, np.int64)
        self._arrays: dict[str, np.ndarray] = {}  # where the weights of the file go
        self._pairs: list[tuple[str, str, np.ndarray]] = []  # momentum, velocity, state array
        if self._optimizer is None:
            return
        if specs[0].shape not in ((), (1,)) or specs[0].dtype != "int32":
            fail("optimizer weights", "the number of steps, an int32, first", specs[0].name)
        self._optimizer.build(model.program.weights, model.program.trainable)
        self._assign(model, specs)
        self._arrays[specs[0].name] = self._steps

    def _assign(self, model: Any, specs: list[WeightSpec]) -> None:
        slots = _SLOTS[self._optimizer.kind]
        names = _weight_names(model)
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
            self._arrays[spec.name] = self._state_array(index, slot, slots)
        kinds = {(index, slot): spec.name for spec, (index, slot, _) in zip(specs[1:], found)}
        for index in {index for index, _ in kinds}:
            missing = [slot for slot in slots if (index, slot) not in kinds and slot != "velocity"]
            if missing:
                fail(f"optimizer state of '{names[index]}'", f"{list(slots)}", f"none for {missing}")
            if "momentum" in slots:
                self._pairs.append((kinds[index, "momentum"], kinds.get((index, "velocity"), ""),
                                    self._optimizer.state[index][0]))

    def _in_order(self, model: Any, slots: tuple[str, ...],
                  specs: list[WeightSpec]) -> list[tuple[int, str, tuple[int, ...]]]:
        """For names that are not the model's: TensorFlow.js numbers them when it loads a model twice."""
        trained = [index for index, trains in _by_training(model) if trains]
        slots = tuple(slot for slot in slots if slot != "velocity")
        if len(specs) != len(trained) * len(slots):
            fail("optimizer weights", f"{len(trained) * len(slots)} after the number of steps", len(specs))
        return [(index, slot, model.weights[index].shape) for slot in slots for index in trained]

    def _state_array(self, index: int, slot: str, slots: tuple[str, ...]) -> np.ndarray:
        """Where to read to: Adam's moments directly, for momentum both forms are compared afterwards."""
        state = self._optimizer.state
        if not state[index]:  # of a weight that is frozen now
            shape = self._optimizer._weights[index].shape
            count = 1 if "momentum" in slots else len(slots)
            state[index] = [np.zeros(shape, np.float32) for _ in range(count)]
        return np.empty_like(state[index][0]) if "momentum" in slots else state[index][slots.index(slot)]

    def target(self, spec: WeightSpec) -> np.ndarray | None:
        """The array that a weight of the file is read into; None: it is skipped."""
        return self._arrays.get(spec.name)

    def finish(self) -> None:
        """Call it when everything was read."""
        if self._optimizer is None:
            return
        if self._steps[0] < 0:
            fail("optimizer iterations", "a non-negative integer", int(self._steps[0]))
        self._optimizer.iterations = int(self._steps[0])
        rate = self._optimizer.learning_rate
        for momentum, velocity, state in self._pairs:
            accumulation, exact = self._arrays[momentum], self._arrays.get(velocity)
            if exact is not None and _accumulation(exact, rate).tobytes() == accumulation.tobytes():
                state[...] = exact
            else:
                state[...] = accumulation * np.float32(-rate)

"""What an optimizer knows of the weights that it was built for: state arrays and counts of steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyconv.shapes import check_integer, describe
from tinyconv.utils import check_list

__all__ = ["Stateful"]

# The address and the size of a weight: another view of the same numbers is the same weight.
Place = tuple[int, int]


class Stateful:
    """What `Optimizer` builds on, which says by its settings what the state is."""

    name: str
    use_ema: bool
    gradient_accumulation_steps: int | None

    def _begin(self) -> None:
        """Before any weight is known."""
        # Weights that do not decay; and by their names.
        self._not_decaying: tuple[list[np.ndarray], re.Pattern[str] | None] = ([], None)
        self._batches = 0
        self._built = False
        self.state: list[list[np.ndarray]] = []
        # Every weight that this optimizer was built for, by its place in memory, with its state arrays.
        self._known: dict[Place, tuple[np.ndarray, list[np.ndarray]]] = {}
        self._weights: list[np.ndarray] = []  # what `state` is the state of
        self._undecayed: frozenset[int] = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to no weights, as in Keras: places in memory would be those of others, or of nothing."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._begin()
        other._not_decaying = ([], self._not_decaying[1])
        return other.__dict__

    @property
    def batches(self) -> int:
        """Number of batches seen."""
        return self._batches

    @batches.setter
    def batches(self, value: int) -> None:
        self._batches = _count(value, "batches")

    @property
    def iterations(self) -> int:
        """Number of updates made."""
        return self._batches // (self.gradient_accumulation_steps or 1)

    @iterations.setter
    def iterations(self, value: int) -> None:
        self._batches = _count(value, "iterations") * (self.gradient_accumulation_steps or 1)

    def _updates(self, step: int | None) -> int:
        """Updates made before the batch number `step`."""
        return (self._batches if step is None else step) // (self.gradient_accumulation_steps or 1)

    @property
    def built(self) -> bool:
        """Whether it has state arrays: whether it knows its weights."""
        return self._built

    @property
    def slots(self) -> tuple[str, ...]:
        """Keras' names of a weight's state arrays, in the order of `state`: the rule's come first."""
        return (*self._rule_slots(), *(("gradient_accumulator",) if self.gradient_accumulation_steps else ()),
                *(("average",) if self.use_ema else ()))

    def _rule_slots(self) -> tuple[str, ...]:
        """Keras' names of the rule's state arrays."""
        return ()

    def _slot_groups(self) -> list[tuple[str, ...]]:
        """The rule's slots as Keras orders them: the arrays of a group come weight by weight."""
        return [self._rule_slots()]

    def _first_value(self, slot: str) -> float:
        """What the rule's state arrays are filled with."""
        return 0.0

    def build(self, weights: Sequence[Any], trainable: Sequence[bool] | None = None,
              names: Sequence[str] | None = None) -> None:
        """Allocates the state of the trained weights, once; then only says which weights come now.

        As in Keras, an optimizer belongs to the weights that it was built for. It goes on where some of
        them are frozen since, or are trained again, and keeps the state of all.

        Args:
            weights: A model's weights, or their arrays.
            trainable: Which of them are trained; the others have no state. Defaults to all.
            names: Their names, for `exclude_from_weight_decay`.

        Raises:
            ValueError: If it was built, but not for a weight that is trained now.
        """
        arrays = [getattr(weight, "value", weight) for weight in weights]
        flags = [True] * len(arrays) if trainable is None else list(trainable)
        if len(flags) != len(arrays):
            raise ValueError(f"Expected trainable to have {len(arrays)} entries. Received: {len(flags)} entries")
        if not self._built:
            self._known = {_place(array): (array, self.new_state(array))
                           for array, trains in zip(arrays, flags, strict=True) if trains}
            self._built = True
        for index, (array, trains) in enumerate(zip(arrays, flags, strict=True)):
            if trains and _place(array) not in self._known:
                which = names[index] if names is not None and index < len(names) else f"weight {index}"
                raise ValueError(f"Optimizer '{self.name}' was built for other weights: compile the model with a new "
                                 f"optimizer. Received: {which} of shape {array.shape}")
        self.state = [self._known[_place(array)][1] if trains else []
                      for array, trains in zip(arrays, flags, strict=True)]
        self._weights = arrays
        self._undecayed = self._find_undecayed(names)

    def state_of(self, weight: Any) -> list[np.ndarray]:
        """The state arrays of a weight that the optimizer was built for, trained now or not; else none."""
        return self._known.get(_place(getattr(weight, "value", weight)), (None, []))[1]

    def new_state(self, weight: np.ndarray) -> list[np.ndarray]:
        """The state arrays that a weight begins with."""
        return [weight.copy() if slot == "average" else np.full(weight.shape, self._first_value(slot), np.float32)
                for slot in self.slots]

    def exclude_from_weight_decay(self, var_list: Sequence[Any] | None = None,
                                  var_names: Sequence[str] | None = None) -> None:
        """Keeps weights from decaying; to be called before training.

        Args:
            var_list: Weights of layers.
            var_names: Regular expressions; a weight whose name one of them is found in does not
                decay: ["bias"] for all biases.

        Raises:
            ValueError: If training has begun, or an expression is none.
            TypeError: If var_names is a string, whose characters would be taken for expressions.
        """
        if self.built:
            raise ValueError("Expected exclude_from_weight_decay to be called before training. "
                             f"Received: optimizer '{self.name}', which has begun")
        if isinstance(var_names, str):
            raise TypeError(f"Expected var_names to be a list of strings. Received: var_names={describe(var_names)}")
        try:
            pattern = re.compile("|".join(var_names)) if var_names else None
        except re.error as error:
            raise ValueError("Expected var_names to be regular expressions. "
                             f"Received: var_names={describe(var_names)} ({error})") from None
        self._not_decaying = ([getattr(weight, "value", weight) for weight in var_list or ()], pattern)

    def _find_undecayed(self, names: Sequence[str] | None) -> frozenset[int]:
        weights, pattern = self._not_decaying
        if not weights and pattern is None:
            return frozenset()
        addresses = {_address(weight) for weight in weights}
        found = {index for index, weight in enumerate(self._weights) if _address(weight) in addresses}
        if pattern is not None and names is not None:
            found |= {index for index, name in enumerate(names) if pattern.search(name)}
        return frozenset(found)

    def finalize_variable_values(self, var_list: Any = None) -> None:
        """Overwrites the weights with their average, where `use_ema` keeps one; `fit` calls it at its end.

        Args:
            var_list: Keras' argument; meant are always the weights that are trained.
        """
        if self.use_ema and self._batches:
            place = self.slots.index("average")
            for weight, arrays in zip(self._weights, self.state, strict=True):
                if arrays:
                    weight[...] = arrays[place].reshape(weight.shape)

    def _in_order(self) -> list[np.ndarray]:
        """The state arrays in the order of Keras' optimizer variables."""
        slots = self.slots
        groups = [(slot,) for slot in ("average", "gradient_accumulator") if slot in slots]
        return [arrays[slots.index(slot)] for group in groups + self._slot_groups()
                for _, arrays in self._known.values() for slot in group]

    def get_weights(self) -> list[np.ndarray]:
        """Copies: `batches`, then the state arrays in the order of Keras' optimizer variables.

        Those of weights that are frozen since are among them, as in Keras.
        What Keras keeps among them and follows from the settings and `batches` is left out: the
        learning rate, and Nadam's product.
        """
        return [np.array(self._batches, np.int64), *(array.copy() for array in self._in_order())]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Overwrites the state in place; nothing is changed where something does not fit.

        Args:
            weights: As from `get_weights`; the optimizer is built.

        Raises:
            ValueError: If the number of arrays or a shape differs.
        """
        arrays = self._in_order()
        given = check_list(weights, "weights")
        if len(given) != len(arrays) + 1:
            raise ValueError(f"Optimizer '{self.name}' expected {len(arrays) + 1} arrays. "
                             f"Received: {len(given)} arrays")
        batches = _count(given[0], "iterations")
        for position, array in enumerate(arrays, start=1):
            value = given[position] = np.asarray(given[position])
            if array.shape != value.shape or value.dtype.kind not in "fiub":
                raise ValueError(f"Optimizer '{self.name}' expected an array of numbers of shape {array.shape} at "
                                 f"position {position}. Received: shape={value.shape}, dtype={value.dtype}")
        self.batches = batches
        for array, value in zip(arrays, given[1:], strict=True):
            array[...] = value

def _count(value: Any, name: str) -> int:
    """Returns a number of steps, which is an int64 in files."""
    return check_integer(value, name, 0, 2**63 - 1)


def _place(array: np.ndarray) -> Place:
    return _address(array), array.size


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]

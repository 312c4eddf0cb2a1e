"""Weight: an array that a layer owns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.constraints import Constraint
from tinyconv.engine.program import WeightRules
from tinyconv.initializers import Initializer
from tinyconv.regularizers import Regularizer
from tinyconv.utils import refuse_mask

__all__ = ["Weight"]

Shape = tuple[int, ...]


class Weight:
    """An array that a layer owns and training changes in place.

    Attributes:
        name: "kernel", "bias", ...
        value: The float32 array itself. After writing into it, call the layer's `set_weights` or
            this weight's `assign` instead where you can: they tell the model.
        trainable: Whether training changes it (while its layer is trainable).
        initializer: Where its first values came from.
        regularizer: Its penalty in the loss, or None.
        constraint: What it is put back to after every update, or None.
    """

    def __init__(self, name: str, value: np.ndarray, initializer: Initializer, trainable: bool = True,
                 on_change: Callable[[], None] | None = None, regularizer: Regularizer | None = None,
                 constraint: Constraint | None = None) -> None:
        self.name = name
        self.value = value
        self.initializer = initializer
        self.trainable = trainable
        self.regularizer = regularizer
        self.constraint = constraint
        self._on_change = on_change
        _ = self.rules  # refuses a constraint that does not fit

    @property
    def rules(self) -> WeightRules | None:
        """What the engine makes of the regularizer and the constraint; None is nothing.

        Raises:
            ValueError: If the constraint does not fit the shape.
        """
        if self.regularizer is None and self.constraint is None:
            return None
        rules = WeightRules() if self.constraint is None else self.constraint.rules(self.shape)
        if self.regularizer is None:
            return rules
        return dataclasses.replace(rules, l1=self.regularizer.l1, l2=self.regularizer.l2)

    @property
    def shape(self) -> Shape:
        """The shape of the values."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of the values: float32."""
        return self.value.dtype

    def numpy(self) -> np.ndarray:
        """A copy of the values."""
        return self.value.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """A copy for `np.asarray(weight)`: what is written into it must not change the model."""
        if copy is False:
            raise ValueError("A Weight becomes an array by copying; use its value. Received: copy=False")
        return np.array(self.value, dtype=dtype)

    def assign(self, value: Any) -> None:
        """Overwrites the values in place with an array of the same shape."""
        self.value[...] = self.checked(value)
        if self._on_change is not None:
            self._on_change()

    def checked(self, value: Any) -> np.ndarray:
        """Returns `value` as an array; raises where it does not fit this weight.

        Raises:
            ValueError: If the shape is another.
            TypeError: If it does not hold real numbers.
        """
        refuse_mask(value, f"weight '{self.name}'")
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(f"Weight '{self.name}' expected an array of shape {self.shape}. "
                             f"Received: a ragged {type(value).__name__}") from None
        if array.dtype.kind not in "fiub":
            raise TypeError(f"Weight '{self.name}' expected real numbers. Received: dtype={array.dtype}")
        if array.shape != self.shape:
            raise ValueError(
                f"Weight '{self.name}' expected an array of shape {self.shape}. Received: shape={array.shape}"
            )
        return array

    def __repr__(self) -> str:
        return f"<Weight {self.name}, shape={self.shape}, trainable={self.trainable}>"

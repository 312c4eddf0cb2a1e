"""Learning rates: what a user asks an optimizer for, and gives one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from tinyconv.optimizers.base import Optimizer

__all__ = ["Rate", "of_step"]


class Rate(float):
    """A learning rate: a number that, as a variable of Keras, has `assign` and `numpy` as well."""

    _optimizer: Optimizer

    def __new__(cls, value: float, optimizer: Optimizer) -> Self:
        rate = super().__new__(cls, value)
        rate._optimizer = optimizer
        return rate

    def assign(self, value: Any) -> None:
        """Sets the optimizer's learning rate."""
        self._optimizer.learning_rate = value

    def numpy(self) -> np.float32:
        """The number."""
        return np.float32(self)

    def __reduce__(self) -> Any:
        return float, (float(self),)


def of_step(function: Callable[..., Any]) -> Callable[[int], Any]:
    """A function of the step from one of the step or of nothing, as Keras calls it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of a built-in function nothing is known
        return function
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                  inspect.Parameter.VAR_POSITIONAL)
    takes_step = any(parameter.kind in positional for parameter in parameters)
    return function if takes_step else lambda step: function()

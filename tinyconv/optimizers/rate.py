"""Learning rates: what a user asks an optimizer for, and gives one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tinyconv.optimizers.schedules import InverseTimeDecay
from tinyconv.shapes import describe
from tinyconv.utils import check_number

if TYPE_CHECKING:
    from tinyconv.optimizers.base import Optimizer

__all__ = ["Rate", "of_step", "rate_of_keras_2"]


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


class _OfNothing:
    """A function of the step from one of nothing; unlike a lambda it can be pickled where that one can."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, step: int) -> Any:
        return self.function()


def of_step(function: Callable[..., Any]) -> Callable[[int], Any]:
    """A function of the step from one of the step or of nothing, as Keras calls it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of a built-in function nothing is known
        return function
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                  inspect.Parameter.VAR_POSITIONAL)
    takes_step = any(parameter.kind in positional for parameter in parameters)
    return function if takes_step else _OfNothing(function)


def rate_of_keras_2(learning_rate: Any, lr: Any, decay: Any) -> Any:
    """The learning rate where Keras 2's arguments may say it, each None where it is not given.

    Raises:
        ValueError: If a schedule and a decay are given.
    """
    rate = learning_rate if lr is None else lr
    decay = 0.0 if decay is None else check_number(decay, "decay", 0.0)
    if not decay:
        return rate
    if callable(rate):
        raise ValueError(  # noqa: TRY004 (the two do not go together)
            "Expected decay to be 0 where a schedule says the learning rate. "
            f"Received: decay={describe(decay)}"
        )
    return InverseTimeDecay(rate, 1, decay)

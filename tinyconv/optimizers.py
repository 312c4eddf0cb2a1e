"""Optimizers, with Keras' names, defaults and formulas.

The update itself is one of the engine's rules (`engine.program.OPTIMIZERS`).
An optimizer holds what the rule needs: hyperparameters, the number of steps
made, and state arrays per weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyconv.engine.program import OPTIMIZERS
from tinyconv.shapes import check_integer, describe
from tinyconv.utils import check_flag, check_list, check_number, deserialize_object, serialize_object

__all__ = ["SGD", "Adam", "Optimizer", "adam", "deserialize", "get", "serialize", "sgd"]

# Settings of Keras' optimizers that do nothing at these values, and are refused at others.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "amsgrad": (False, None),
    "weight_decay": (None, 0),
    "clipnorm": (None,),
    "clipvalue": (None,),
    "global_clipnorm": (None,),
    "use_ema": (False, None),
    "loss_scale_factor": (None,),
    "gradient_accumulation_steps": (None,),
    "decay": (None, 0),
}
# Settings that do nothing unless another one, refused above, is on.
_IDLE = {"ema_momentum", "ema_overwrite_frequency", "is_legacy_optimizer", "jit_compile"}
# Names in the configs of Keras 2 and TensorFlow.js.
_RENAMED = {"lr": "learning_rate", "beta1": "beta_1", "beta2": "beta_2", "use_nesterov": "nesterov",
            "useNesterov": "nesterov"}


class Optimizer:
    """Base of all optimizers.

    Args:
        learning_rate: Size of a step, a finite number >= 0. Defaults to 0.01.
        name: Name. Defaults to the class's.
        **kwargs: Keras' other settings, at the values that switch them off.

    Attributes:
        iterations: Number of steps made.
        state: List of state arrays of every weight that `build` was given, in order; the engine
            updates them in place.
    """

    def __init__(self, learning_rate: float = 0.01, name: str | None = None, **kwargs: Any) -> None:
        for key, value in kwargs.items():
            if key in _IDLE:
                continue
            if key not in _NEUTRAL:
                raise TypeError(
                    f"{type(self).__name__} got an unexpected argument. Received: {key}={describe(value)}"
                )
            if value not in _NEUTRAL[key]:
                raise ValueError(f"Expected `{key}` to be {_NEUTRAL[key][0]}: it is not supported. "
                                 f"Received: {key}={describe(value)}")
        self.name = name or type(self).__name__.lower()
        self.learning_rate = learning_rate
        self.iterations = 0
        self.state: list[list[np.ndarray]] = []
        # The arrays that the state belongs to; holding them keeps their addresses from being reused.
        self._weights: list[np.ndarray] = []

    @property
    def learning_rate(self) -> float:
        """Size of a step; may be set at any time."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = check_number(value, "learning_rate", 0.0)

    @property
    def iterations(self) -> int:
        """Number of steps made."""
        return self._iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ValueError(
                f"Expected `iterations` to be a non-negative integer. Received: iterations={describe(value)}"
            )
        self._iterations = int(value)

    @property
    def built(self) -> bool:
        return bool(self._weights)

    @property
    def kind(self) -> str:
        """The engine's update rule."""
        return type(self).__name__.lower()

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        """The numbers of the engine's rule, in double precision.

        Args:
            step: Number of steps made before this one. Defaults to `iterations`.
        """
        return (self.learning_rate,)

    def build(self, weights: Sequence[np.ndarray], trainable: Sequence[bool] | None = None) -> None:
        """Allocates the state, zeros, and starts counting steps; keeps both for the same weights.

        Args:
            weights: The program's weights.
            trainable: Which of them are trained; the others have no state. Defaults to all.
        """
        trainable = [True] * len(weights) if trainable is None else list(trainable)
        if len(trainable) != len(weights):
            raise ValueError(
                f"Expected `trainable` to have {len(weights)} entries. Received: {len(trainable)} entries"
            )
        count = OPTIMIZERS[self.kind][1]
        known = self._weights
        if len(known) != len(weights) or not all(map(_same_place, known, weights)):
            self.iterations, self.state = 0, [[] for _ in weights]
        for index, (weight, trains) in enumerate(zip(weights, trainable, strict=True)):
            if trains and len(self.state[index]) != count:
                self.state[index] = [np.zeros(weight.shape, np.float32) for _ in range(count)]
        self._weights = list(weights)

    def get_weights(self) -> list[np.ndarray]:
        """Copies: the number of steps, then every weight's state arrays in order."""
        state = [array.copy() for arrays in self.state for array in arrays]
        return [np.array(self.iterations, np.int64), *state]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Overwrites the state in place; nothing is changed where something does not fit.

        Args:
            weights: As from `get_weights`; the optimizer is built.
        """
        arrays = [array for state in self.state for array in state]
        given = check_list(weights, "weights")
        if len(given) != len(arrays) + 1:
            raise ValueError(f"Optimizer '{self.name}' expected {len(arrays) + 1} arrays. "
                             f"Received: {len(given)} arrays")
        iterations = check_integer(given[0], "iterations", 0)
        for position, array in enumerate(arrays, start=1):
            value = given[position] = np.asarray(given[position])
            if array.shape != value.shape or value.dtype.kind not in "fiub":
                raise ValueError(f"Optimizer '{self.name}' expected an array of numbers of shape {array.shape} at "
                                 f"position {position}. Received: shape={value.shape}, dtype={value.dtype}")
        self.iterations = iterations
        for array, value in zip(arrays, given[1:], strict=True):
            array[...] = value

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "learning_rate": self.learning_rate}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Optimizer:
        """Creates an optimizer from its config, or from one written by Keras or TensorFlow.js."""
        return cls(**{_RENAMED.get(key, key): value for key, value in config.items()})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class SGD(Optimizer):
    """Gradient descent: w -= learning_rate * g.

    With momentum: m = momentum * m - learning_rate * g, then w += m, or with Nesterov's form
    w += momentum * m - learning_rate * g.

    Args:
        learning_rate: Defaults to 0.01.
        momentum: In [0, 1]. Defaults to 0.
        nesterov: Whether to use Nesterov's form. Defaults to False.
        name: Defaults to "sgd".
        **kwargs: See `Optimizer`.
    """

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: None = None, clipnorm: None = None, clipvalue: None = None,
                 global_clipnorm: None = None, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, name, weight_decay=weight_decay, clipnorm=clipnorm,
                         clipvalue=clipvalue, global_clipnorm=global_clipnorm, **kwargs)
        self.momentum = check_number(momentum, "momentum", 0.0, 1.0)
        self.nesterov = check_flag(nesterov, "nesterov")

    @property
    def kind(self) -> str:
        return "momentum" if self.momentum else "sgd"

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        if not self.momentum:
            return (self.learning_rate,)
        return (self.learning_rate, self.momentum, float(self.nesterov))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2014), in Keras' form.

    m += (g - m) * (1 - beta_1);  v += (g*g - v) * (1 - beta_2);  w -= alpha * m / (sqrt(v) + epsilon)
    with alpha = learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) at the t-th step.

    Args:
        learning_rate: Defaults to 0.001.
        beta_1: Decay of the mean of the gradients, in [0, 1). Defaults to 0.9.
        beta_2: Decay of the mean of their squares, in [0, 1). Defaults to 0.999.
        epsilon: What keeps the division finite, >= 0. Defaults to 1e-7.
        amsgrad: False.
        name: Defaults to "adam".
        **kwargs: See `Optimizer`.
    """

    def __init__(self, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999,
                 epsilon: float | None = 1e-7, amsgrad: bool = False, weight_decay: None = None,
                 clipnorm: None = None, clipvalue: None = None, global_clipnorm: None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, name, amsgrad=amsgrad, weight_decay=weight_decay, clipnorm=clipnorm,
                         clipvalue=clipvalue, global_clipnorm=global_clipnorm, **kwargs)
        self.beta_1 = check_number(beta_1, "beta_1", 0.0, 1.0, exclusive=True)
        self.beta_2 = check_number(beta_2, "beta_2", 0.0, 1.0, exclusive=True)
        # TensorFlow.js writes null for its default.
        self.epsilon = 1e-7 if epsilon is None else check_number(epsilon, "epsilon", 0.0)

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        t = (self.iterations if step is None else step) + 1
        alpha = self.learning_rate * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return alpha, self.beta_1, self.beta_2, self.epsilon

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


def _same_place(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are the same numbers in memory."""
    return one is other or (one.shape == other.shape
                            and one.__array_interface__["data"] == other.__array_interface__["data"])


# Keras' names and TensorFlow.js' factories.
adam = Adam
sgd = SGD
_CLASSES: dict[str, type[Optimizer]] = {"Adam": Adam, "SGD": SGD}
_NAMES: dict[str, type[Optimizer]] = {**_CLASSES, "adam": Adam, "sgd": SGD}


def get(identifier: Any) -> Optimizer:
    """Returns an optimizer from its name, class, config or itself.

    Raises:
        ValueError: If there is no such optimizer.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str) and identifier.lower() in _NAMES:
        return _NAMES[identifier.lower()]()
    if isinstance(identifier, type) and identifier in _CLASSES.values():
        return identifier()
    raise ValueError(f"Unknown optimizer. Expected one of {sorted(map(str.lower, _CLASSES))}, an Optimizer "
                     f"or its config. Received: {describe(identifier)}")


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(optimizer)


def deserialize(config: dict[str, Any]) -> Optimizer:
    """Creates an optimizer from what `serialize`, Keras or TensorFlow.js wrote."""
    return deserialize_object(config, _NAMES, "optimizer")

"""Optimizer: what every optimizer is.

The update itself is one of the engine's rules (`engine.program.OPTIMIZERS`).
An optimizer holds what the rule needs: hyperparameters here; the number of batches
seen and state arrays per weight in `optimizers.state`.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from tinyconv.engine.program import UpdateOptions
from tinyconv.left_out import explain_attributes
from tinyconv.optimizers import schedules
from tinyconv.optimizers.rate import Rate, of_step, rate_of_keras_2
from tinyconv.optimizers.schedules import LearningRateSchedule
from tinyconv.optimizers.state import Stateful
from tinyconv.shapes import check_integer, describe
from tinyconv.utils import check_flag, check_number, warn

__all__ = ["Optimizer"]

# Settings of other writers' configs that do nothing at these values, and are refused at others.
_NEUTRAL: dict[str, tuple[Any, ...]] = {"loss_scale_factor": (None,)}
# Settings of theirs that do nothing here.
_IDLE = {"is_legacy_optimizer", "jit_compile"}
# Names in the configs of Keras 2 and TensorFlow.js.
_RENAMED = {"lr": "learning_rate", "beta1": "beta_1", "beta2": "beta_2", "use_nesterov": "nesterov",
            "useNesterov": "nesterov"}


class Optimizer(Stateful):
    """Base of all optimizers.

    A copy, also a deep or a pickled one, is not built for any weight, as in Keras.

    Args:
        learning_rate: Size of a step, a finite number >= 0; or a schedule of `optimizers.schedules`;
            or a function that returns it, of the number of batches seen or of nothing.
        weight_decay: Before every update a weight w loses weight_decay * learning_rate * w (Loshchilov
            and Hutter, Decoupled weight decay regularization, 2019). Defaults to None.
        clipnorm: The gradient of each weight is scaled to at most this norm. Defaults to None.
        clipvalue: Every value of a gradient is brought into [-clipvalue, clipvalue]. Defaults to None.
        global_clipnorm: All gradients together are scaled to at most this norm. Defaults to None.
            Of the three at most one may be set; 0 does nothing.
        use_ema: Whether to keep an exponential moving average of every weight, which becomes the
            weight when `fit` ends. Defaults to False.
        ema_momentum: average = ema_momentum * average + (1 - ema_momentum) * w, in [0, 1]; the average
            begins as the weights after the first update. Defaults to 0.99.
        ema_overwrite_frequency: Every so many updates the weights become their average. Defaults to
            None: never before `fit` ends.
        loss_scale_factor: None: a loss in float32 needs no scaling.
        gradient_accumulation_steps: Weights are updated after every so many batches, an integer >= 2, by
            the mean of their gradients. Defaults to None: after every batch.
        name: Name. Defaults to the class's.
        **kwargs: Keras 2's `lr`, which is learning_rate, and `decay`, by which that falls: it is divided by
            1 + decay * updates, as by `schedules.InverseTimeDecay`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If there is no such argument, or the name is no string.

    Attributes:
        iterations: Number of updates made.
        batches: Number of batches seen: `iterations`, but where gradients are accumulated.
        state: List of state arrays of every weight that `build` was last given, in order, none for one
            that is not trained; the engine updates them in place.
    """

    def __init__(self, learning_rate: Any = 0.01, weight_decay: float | None = None, clipnorm: float | None = None,
                 clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
                 ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
                 loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        rate = rate_of_keras_2(learning_rate, kwargs.pop("lr", None), kwargs.pop("decay", None))
        for key, value in {"loss_scale_factor": loss_scale_factor, **kwargs}.items():
            if key in _IDLE:
                continue
            if key not in _NEUTRAL:
                raise TypeError(
                    f"{type(self).__name__} got an unexpected argument. Received: {key}={describe(value)}"
                )
            if value not in _NEUTRAL[key]:
                raise ValueError(f"Expected {key} to be {_NEUTRAL[key][0]}: it is not supported. "
                                 f"Received: {key}={describe(value)}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"Expected name to be a string. Received: name={describe(name)}")
        self.name = name or type(self).__name__.lower()
        self.weight_decay = _optional(weight_decay, "weight_decay")
        self.clipnorm = _optional(clipnorm, "clipnorm")
        self.clipvalue = _optional(clipvalue, "clipvalue")
        self.global_clipnorm = _optional(global_clipnorm, "global_clipnorm")
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        if sum(limit is not None for limit in limits.values()) > 1:
            raise ValueError("Expected at most one of clipnorm, clipvalue and global_clipnorm. Received: "
                             + ", ".join(f"{key}={describe(limit)}" for key, limit in limits.items()))
        self.use_ema = check_flag(False if use_ema is None else use_ema, "use_ema")
        self.ema_momentum = check_number(0.99 if ema_momentum is None else ema_momentum, "ema_momentum", 0.0, 1.0)
        self.ema_overwrite_frequency = (check_integer(ema_overwrite_frequency, "ema_overwrite_frequency")
                                        if ema_overwrite_frequency else None)
        self.gradient_accumulation_steps = (
            check_integer(gradient_accumulation_steps, "gradient_accumulation_steps", 2)
            if gradient_accumulation_steps else None)
        self._learning_rate: Any = 0.0
        self.learning_rate = rate
        self._begin()

    def fresh(self, learning_rate: Any = None) -> Optimizer:
        """Another optimizer of these settings, not built for any weight yet.

        Args:
            learning_rate: As of the class; replaces the one that is there, also a schedule. Defaults to
                None: the same.
        """
        other = copy.copy(self)
        other._not_decaying = self._not_decaying
        if learning_rate is not None:
            other._learning_rate = 0.0
            other.learning_rate = learning_rate
        return other

    # --- learning rate and steps ---

    @property
    def learning_rate(self) -> Any:
        """Size of the next step, a float; may be set at any time where it is not a schedule's."""
        return Rate(self._rate(self._batches), self)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if callable(value):
            self._learning_rate = value if isinstance(value, LearningRateSchedule) else of_step(value)
            return
        if isinstance(self._learning_rate, LearningRateSchedule):
            raise TypeError("Expected an optimizer with a number as its learning_rate: a schedule's cannot be set. "
                            f"Received: learning_rate={describe(value)}")
        self._learning_rate = check_number(value, "learning_rate", 0.0)

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate is a schedule or a function."""
        return callable(self._learning_rate)

    def _rate(self, step: int) -> float:
        if isinstance(self._learning_rate, float):
            return self._learning_rate
        try:
            rate = self._learning_rate(step)
        except OverflowError:  # of a schedule that grows, in the end
            rate = math.inf
        return check_number(rate, "learning_rate", 0.0)

    # --- what the engine is given ---

    @property
    def kind(self) -> str:
        """The engine's update rule."""
        return type(self).__name__.lower()

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        """The numbers of the engine's rule, in double precision.

        Args:
            step: Number of batches seen before this one. Defaults to `batches`.
        """
        return (self._rate(self._batches if step is None else step),)

    def options(self, step: int | None = None) -> UpdateOptions | None:
        """What the engine does around the rule; None is nothing.

        Args:
            step: As for `hyperparameters`.
        """
        if not (self.weight_decay or self.clipnorm or self.clipvalue or self.global_clipnorm or self.use_ema
                or self.gradient_accumulation_steps):
            return None
        step = self._batches if step is None else step
        updates = self._updates(step)
        frequency = self.ema_overwrite_frequency if self.use_ema else None
        return UpdateOptions(
            accumulation_steps=self.gradient_accumulation_steps or 0,
            applies=(step + 1) % (self.gradient_accumulation_steps or 1) == 0,
            clipvalue=self.clipvalue or 0.0, clipnorm=self.clipnorm or 0.0,
            global_clipnorm=self.global_clipnorm or 0.0,
            decay=self.weight_decay * self._rate(step) if self.weight_decay else 0.0,
            undecayed=self._undecayed,
            average_momentum=(self.ema_momentum if updates else 0.0) if self.use_ema else None,
            overwrites=frequency is not None and (updates + 1) % frequency == 0,
        )

    # --- configuration ---

    def get_config(self) -> dict[str, Any]:
        """The arguments that create this optimizer again, as JSON can hold them.

        A learning rate that is a function is written as the number that it is now, with a warning.
        """
        rate = self._learning_rate
        if isinstance(rate, LearningRateSchedule):
            rate = schedules.serialize(rate)
        elif callable(rate):
            warn("A config cannot hold a learning_rate that is a Python function: its value now "
                 "takes its place.")
            rate = self.learning_rate
        return {
            "name": self.name,
            "learning_rate": rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": None,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Optimizer:
        """Creates an optimizer from its config, or from one written by Keras or TensorFlow.js."""
        arguments = {_RENAMED.get(key, key): value for key, value in config.items()}
        if isinstance(arguments.get("learning_rate"), dict):
            arguments["learning_rate"] = schedules.deserialize(arguments["learning_rate"])
        return cls(**arguments)

    def __repr__(self) -> str:
        rate = self._learning_rate
        return f"<{type(self).__name__} name={self.name}, learning_rate={getattr(rate, '__name__', rate)!r}>"

    if not TYPE_CHECKING:
        __getattr__ = explain_attributes("Optimizer")


def _optional(value: float | None, name: str) -> float | None:
    return None if value is None else check_number(value, name, 0.0)

"""Learning rates that follow from the number of batches seen, with Keras' names and formulas.

They are evaluated once a step, in Python and in double precision; the engine gets the
number.  `OneCycle` is this package's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinyconv.named import Configured, Named, serialize_object
from tinyconv.shapes import check_integer, describe
from tinyconv.utils import check_flag, check_number

__all__ = [
    "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay", "LearningRateSchedule", "OneCycle",
    "PiecewiseConstantDecay", "PolynomialDecay", "deserialize", "serialize",
]


class LearningRateSchedule(Configured):
    """Base of all schedules: a subclass writes `__call__` and `get_config`."""

    def __call__(self, step: int) -> float:
        """The learning rate after `step` batches."""
        raise NotImplementedError(f"{type(self).__name__} must override `__call__(self, step)`.")

    def get_config(self) -> dict[str, Any]:
        """The arguments that create this schedule again."""
        raise NotImplementedError(f"{type(self).__name__} must override `get_config()`.")


class _Decay(LearningRateSchedule):
    """What falls from an initial learning rate over a number of steps."""

    def _set(self, initial_learning_rate: float, decay_steps: float, name: str) -> None:
        self.initial_learning_rate = check_number(initial_learning_rate, "initial_learning_rate", 0.0)
        self.decay_steps = _positive(decay_steps, "decay_steps")
        self.name = name

    def get_config(self) -> dict[str, Any]:
        return {"initial_learning_rate": self.initial_learning_rate, "decay_steps": self.decay_steps,
                "name": self.name}


class _SteppedDecay(_Decay):
    """What falls by a rate, smoothly or in steps of `decay_steps`."""

    def _set_rate(self, decay_rate: float, staircase: bool) -> None:
        self.decay_rate = check_number(decay_rate, "decay_rate", 0.0)
        self.staircase = check_flag(staircase, "staircase")

    def _periods(self, step: int) -> float:
        """How many times decay_steps have passed."""
        periods = step / self.decay_steps
        return math.floor(periods) if self.staircase else periods

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay_rate": self.decay_rate, "staircase": self.staircase}


class ExponentialDecay(_SteppedDecay):
    """initial_learning_rate * decay_rate ** (step / decay_steps).

    Args:
        initial_learning_rate: Where it begins, >= 0.
        decay_steps: Steps in which it falls by the factor decay_rate, > 0.
        decay_rate: The factor, >= 0.
        staircase: Whether step / decay_steps is rounded down. Defaults to False.
        name: Defaults to "ExponentialDecay".
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False,
                 name: str = "ExponentialDecay") -> None:
        self._set(initial_learning_rate, decay_steps, name)
        self._set_rate(decay_rate, staircase)

    def __call__(self, step: int) -> float:
        return self.initial_learning_rate * self.decay_rate ** self._periods(step)


class InverseTimeDecay(_SteppedDecay):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps).

    Args:
        initial_learning_rate: Where it begins, >= 0.
        decay_steps: The unit of time, > 0.
        decay_rate: How fast it falls, >= 0.
        staircase: Whether step / decay_steps is rounded down. Defaults to False.
        name: Defaults to "InverseTimeDecay".
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False,
                 name: str = "InverseTimeDecay") -> None:
        self._set(initial_learning_rate, decay_steps, name)
        self._set_rate(decay_rate, staircase)

    def __call__(self, step: int) -> float:
        return self.initial_learning_rate / (1 + self.decay_rate * self._periods(step))


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and with step boundaries[0], then values[1] up to boundaries[1], ...

    Args:
        boundaries: Steps in increasing order.
        values: Learning rates, one more than boundaries.
        name: Defaults to "PiecewiseConstant".
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float],
                 name: str = "PiecewiseConstant") -> None:
        for key, given in (("boundaries", boundaries), ("values", values)):
            if not isinstance(given, (list, tuple)):
                raise TypeError(f"Expected {key} to be a list of numbers. Received: {key}={describe(given)}")
        if not boundaries or len(values) != len(boundaries) + 1:
            raise ValueError("Expected one or more numbers in boundaries, and one more in values. "
                             f"Received: {len(boundaries)} boundaries, {len(values)} values")
        for key, given in (("boundaries", boundaries), ("values", values)):
            for number in given:
                check_number(number, key, 0.0)
        if list(boundaries) != sorted(boundaries):
            raise ValueError(f"Expected boundaries in increasing order. Received: boundaries={describe(boundaries)}")
        self.boundaries = [_plain(boundary) for boundary in boundaries]
        self.values = [float(value) for value in values]
        self.name = name

    def __call__(self, step: int) -> float:
        for boundary, value in zip(self.boundaries, self.values, strict=False):
            if step <= boundary:
                return value
        return self.values[-1]

    def get_config(self) -> dict[str, Any]:
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class PolynomialDecay(_Decay):
    """(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power + end_learning_rate.

    From decay_steps on it stays at end_learning_rate; with cycle it begins again, decay_steps
    being the smallest multiple of itself that is not below step.

    Args:
        initial_learning_rate: Where it begins, >= 0.
        decay_steps: Steps that it takes, > 0.
        end_learning_rate: Where it ends, >= 0. Defaults to 0.0001.
        power: > 0. Defaults to 1.
        cycle: Whether it begins again. Defaults to False.
        name: Defaults to "PolynomialDecay".
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, end_learning_rate: float = 0.0001,
                 power: float = 1.0, cycle: bool = False, name: str = "PolynomialDecay") -> None:
        self._set(initial_learning_rate, decay_steps, name)
        self.end_learning_rate = check_number(end_learning_rate, "end_learning_rate", 0.0)
        self.power = check_number(power, "power", 0.0)
        self.cycle = check_flag(cycle, "cycle")

    def __call__(self, step: int) -> float:
        steps = self.decay_steps
        if self.cycle:
            steps *= max(1, math.ceil(step / steps))
        p = min(step / steps, 1.0)
        return (self.initial_learning_rate - self.end_learning_rate) * (1 - p) ** self.power + self.end_learning_rate

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "end_learning_rate": self.end_learning_rate, "power": self.power,
                "cycle": self.cycle}


class CosineDecay(_Decay):
    """Half a cosine wave (Loshchilov and Hutter, SGDR, 2017), behind a linear rise where there is a target.

    Without a warm-up: initial_learning_rate * ((1 - alpha) * (1 + cos(pi * p)) / 2 + alpha) with
    p = step / decay_steps, at most 1.  With one it rises from initial_learning_rate to
    warmup_target over warmup_steps, and then falls from there over decay_steps.

    Args:
        initial_learning_rate: Where it begins, >= 0.
        decay_steps: Steps of the fall, > 0.
        alpha: What is left at the end, as a share. Defaults to 0.
        name: Defaults to "CosineDecay".
        warmup_target: Where the rise ends. Defaults to None: no rise.
        warmup_steps: Steps of the rise. Defaults to 0.
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, alpha: float = 0.0,
                 name: str = "CosineDecay", warmup_target: float | None = None, warmup_steps: float = 0) -> None:
        self._set(initial_learning_rate, decay_steps, name)
        self.alpha = check_number(alpha, "alpha", 0.0)
        self.warmup_target = None if warmup_target is None else check_number(warmup_target, "warmup_target", 0.0)
        check_number(warmup_steps, "warmup_steps", 0.0)
        self.warmup_steps = _plain(warmup_steps)

    def __call__(self, step: float) -> float:
        top = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return (self.warmup_target - top) * (step / self.warmup_steps) + top
            top, step = self.warmup_target, step - self.warmup_steps
        return top * _cosine(min(step / self.decay_steps, 1.0), 1.0, self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha, "warmup_target": self.warmup_target,
                "warmup_steps": self.warmup_steps}


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosine waves, one behind the other (Loshchilov and Hutter, SGDR, 2017).

    The first takes first_decay_steps and begins at initial_learning_rate; each takes t_mul
    times as long as the one before and begins m_mul times as high.

    Args:
        initial_learning_rate: Where it begins, >= 0.
        first_decay_steps: Steps of the first wave, > 0.
        t_mul: Factor of their lengths, >= 1. Defaults to 2.
        m_mul: Factor of their heights, >= 0. Defaults to 1.
        alpha: What is left at the end of a wave, as a share of initial_learning_rate. Defaults to 0.
        name: Defaults to "SGDRDecay".
    """

    def __init__(self, initial_learning_rate: float, first_decay_steps: float, t_mul: float = 2.0,
                 m_mul: float = 1.0, alpha: float = 0.0, name: str = "SGDRDecay") -> None:
        self.initial_learning_rate = check_number(initial_learning_rate, "initial_learning_rate", 0.0)
        self.first_decay_steps = _positive(first_decay_steps, "first_decay_steps")
        self.t_mul = check_number(t_mul, "t_mul", 1.0)
        self.m_mul = check_number(m_mul, "m_mul", 0.0)
        self.alpha = check_number(alpha, "alpha", 0.0)
        self.name = name

    def __call__(self, step: int) -> float:
        done = step / self.first_decay_steps  # in lengths of the first wave
        if self.t_mul == 1.0:
            wave = math.floor(done)
            fraction = done - wave
        else:
            wave = math.floor(math.log(1 - done * (1 - self.t_mul)) / math.log(self.t_mul))
            # At the very first step of a wave the logarithm may have rounded to either side.
            wave += (self._start(wave + 1) <= done) - (self._start(wave) > done)
            fraction = (done - self._start(wave)) / self.t_mul**wave
        return self.initial_learning_rate * _cosine(fraction, self.m_mul**wave, self.alpha)

    def _start(self, wave: int) -> float:
        """Where a wave begins, in lengths of the first one."""
        return (1 - self.t_mul**wave) / (1 - self.t_mul)

    def get_config(self) -> dict[str, Any]:
        return {"initial_learning_rate": self.initial_learning_rate, "first_decay_steps": self.first_decay_steps,
                "t_mul": self.t_mul, "m_mul": self.m_mul, "alpha": self.alpha, "name": self.name}


class OneCycle(LearningRateSchedule):
    """One rise and one long fall (Smith and Topin, Super-convergence, 2018).  Keras has no such class.

    From max_learning_rate / div_factor it rises to max_learning_rate over the first
    pct_start * total_steps steps, and falls to max_learning_rate / div_factor / final_div_factor
    over the rest, along half cosine waves; afterwards it stays there.

    Args:
        max_learning_rate: The peak, >= 0.
        total_steps: Steps of the whole cycle, a positive integer.
        pct_start: Share of the steps in which it rises, in [0, 1]. Defaults to 0.3.
        div_factor: Peak divided by the beginning, > 0. Defaults to 25.
        final_div_factor: Beginning divided by the end, > 0. Defaults to 10000.
        name: Defaults to "OneCycle".
    """

    def __init__(self, max_learning_rate: float, total_steps: int, pct_start: float = 0.3, div_factor: float = 25.0,
                 final_div_factor: float = 1e4, name: str = "OneCycle") -> None:
        self.max_learning_rate = check_number(max_learning_rate, "max_learning_rate", 0.0)
        self.total_steps = check_integer(total_steps, "total_steps")
        self.pct_start = check_number(pct_start, "pct_start", 0.0, 1.0)
        self.div_factor = _positive(div_factor, "div_factor")
        self.final_div_factor = _positive(final_div_factor, "final_div_factor")
        self.name = name

    def __call__(self, step: int) -> float:
        first = self.max_learning_rate / self.div_factor
        last = first / self.final_div_factor
        rise = self.pct_start * self.total_steps
        if step < rise:
            return self.max_learning_rate + (first - self.max_learning_rate) * _cosine(step / rise, 1.0, 0.0)
        fraction = (step - rise) / (self.total_steps - rise) if step < self.total_steps else 1.0
        return last + (self.max_learning_rate - last) * _cosine(fraction, 1.0, 0.0)

    def get_config(self) -> dict[str, Any]:
        return {"max_learning_rate": self.max_learning_rate, "total_steps": self.total_steps,
                "pct_start": self.pct_start, "div_factor": self.div_factor,
                "final_div_factor": self.final_div_factor, "name": self.name}


def _cosine(fraction: float, height: float, alpha: float) -> float:
    """Half a cosine wave from (1 - alpha) * height + alpha down to alpha."""
    return (1 - alpha) * (0.5 * height * (1 + math.cos(math.pi * fraction))) + alpha


def _positive(value: Any, name: str) -> Any:
    """The number, an integer where one was given."""
    if check_number(value, name, 0.0) == 0:
        raise ValueError(f"Expected {name} to be > 0. Received: {name}={describe(value)}")
    return _plain(value)


def _plain(value: Any) -> int | float:
    """A checked number as JSON can hold it; steps stay integers, as Keras writes them."""
    return value.__index__() if hasattr(value, "__index__") and not hasattr(value, "__len__") else float(value)


_TABLE: Named[LearningRateSchedule] = Named("schedule", (
    CosineDecay, CosineDecayRestarts, ExponentialDecay, InverseTimeDecay, OneCycle, PiecewiseConstantDecay,
    PolynomialDecay,
))


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(learning_rate_schedule)


def deserialize(config: dict[str, Any]) -> LearningRateSchedule:
    """The reverse of `serialize`, of Keras' too; the class must be one of this module's."""
    return _TABLE.deserialize(config)

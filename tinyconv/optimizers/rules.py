"""The optimizers, with Keras' names, defaults and formulas.

Every class takes, beside its own arguments, those of `Optimizer`.
"""

from __future__ import annotations

import math
from typing import Any

from tinyconv.optimizers.base import Optimizer
from tinyconv.shapes import describe
from tinyconv.utils import check_flag, check_number

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Nadam", "RMSprop"]


class SGD(Optimizer):
    """Gradient descent: w -= learning_rate * g.

    With momentum: m = momentum * m - learning_rate * g, then w += m, or with Nesterov's form
    w += momentum * m - learning_rate * g.

    Args:
        learning_rate: Defaults to 0.01.
        momentum: In [0, 1]. Defaults to 0.
        nesterov: Whether to use Nesterov's form. Defaults to False.
        name: Defaults to "sgd". The others are those of `Optimizer`.
    """

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: float | None = None, clipnorm: float | None = None,
                 clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
                 ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
                 loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.momentum = check_number(momentum, "momentum", 0.0, 1.0)
        self.nesterov = check_flag(nesterov, "nesterov")

    @property
    def kind(self) -> str:
        return "momentum" if self.momentum else "sgd"

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        rate = super().hyperparameters(step)
        return (*rate, self.momentum, float(self.nesterov)) if self.momentum else rate

    def _rule_slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(Optimizer):
    """RMSprop (Hinton, Neural networks for machine learning, lecture 6, 2012), in Keras' form.

    v = rho * v + (1 - rho) * g*g;  w -= learning_rate * g / sqrt(v + epsilon).
    With momentum: m = momentum * m + that step, then w -= m.  Centered: a = rho * a + (1 - rho) * g,
    and v - a*a takes the place of v in the root; where rounding makes that negative it is 0.

    Args:
        learning_rate: Defaults to 0.001.
        rho: Decay of the mean of the squares, in [0, 1]. Defaults to 0.9.
        momentum: In [0, 1]. Defaults to 0.
        epsilon: What keeps the division finite, >= 0. Defaults to 1e-7.
        centered: Whether to divide by the deviation instead of the mean square. Defaults to False.
        name: Defaults to "rmsprop". The others are those of `Optimizer`.
    """

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.9, momentum: float = 0.0,
                 epsilon: float | None = 1e-7, centered: bool = False, weight_decay: float | None = None,
                 clipnorm: float | None = None,
                 clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
                 ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
                 loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.rho = check_number(rho, "rho", 0.0, 1.0)
        self.momentum = check_number(momentum, "momentum", 0.0, 1.0)
        self.epsilon = _epsilon(epsilon)
        self.centered = check_flag(centered, "centered")

    @property
    def kind(self) -> str:
        return f"rmsprop{'_centered' if self.centered else ''}{'_momentum' if self.momentum else ''}"

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        return (*super().hyperparameters(step), self.rho, self.momentum, self.epsilon)

    def _rule_slots(self) -> tuple[str, ...]:
        return ("velocity", *(("momentum",) if self.momentum else ()),
                *(("average_gradient",) if self.centered else ()))

    def _slot_groups(self) -> list[tuple[str, ...]]:
        return [(slot,) for slot in self._rule_slots()]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon,
                "centered": self.centered}


class _Moments(Optimizer):
    """What keeps means of the gradients and of their sizes: the family of Adam."""

    _second = "velocity"

    def _set_betas(self, beta_1: float, beta_2: float, epsilon: float | None) -> None:
        self.beta_1 = check_number(beta_1, "beta_1", 0.0, 1.0, exclusive=True)
        self.beta_2 = check_number(beta_2, "beta_2", 0.0, 1.0, exclusive=True)
        self.epsilon = _epsilon(epsilon)

    def _rule_slots(self) -> tuple[str, ...]:
        return ("momentum", self._second)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


class Adam(_Moments):
    """Adam (Kingma and Ba, 2014), in Keras' form.

    m += (g - m) * (1 - beta_1);  v += (g*g - v) * (1 - beta_2);  w -= alpha * m / (sqrt(v) + epsilon)
    with alpha = learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) at the t-th update.
    With amsgrad (Reddi et al., 2018) the largest v so far takes its place in the root.

    Args:
        learning_rate: Defaults to 0.001.
        beta_1: Decay of the mean of the gradients, in [0, 1). Defaults to 0.9.
        beta_2: Decay of the mean of their squares, in [0, 1). Defaults to 0.999.
        epsilon: What keeps the division finite, >= 0. Defaults to 1e-7.
        amsgrad: Whether to divide by the largest v. Defaults to False.
        name: Defaults to "adam". The others are those of `Optimizer`.
    """

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999,
                 epsilon: float | None = 1e-7, amsgrad: bool = False, weight_decay: float | None = None,
                 clipnorm: float | None = None,
                 clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
                 ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
                 loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self._set_betas(beta_1, beta_2, epsilon)
        self.amsgrad = check_flag(False if amsgrad is None else amsgrad, "amsgrad")

    @property
    def kind(self) -> str:
        return "amsgrad" if self.amsgrad else "adam"

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        (rate,) = super().hyperparameters(step)
        t = self._updates(step) + 1
        alpha = rate * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return alpha, self.beta_1, self.beta_2, self.epsilon

    def _rule_slots(self) -> tuple[str, ...]:
        return (*super()._rule_slots(), "velocity_hat") if self.amsgrad else super()._rule_slots()

    def _slot_groups(self) -> list[tuple[str, ...]]:
        return [("momentum", "velocity"), *([("velocity_hat",)] if self.amsgrad else [])]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "amsgrad": self.amsgrad}


class AdamW(Adam):
    """Adam with weights that decay (Loshchilov and Hutter, 2019): see `Adam` and `Optimizer`.

    Args:
        learning_rate: Defaults to 0.001.
        weight_decay: Defaults to 0.004.
        beta_1, beta_2, epsilon, amsgrad: As `Adam`.
        name: Defaults to "adamw". The others are those of `Optimizer`.
    """

    def __init__(self, learning_rate: Any = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9,
                 beta_2: float = 0.999, epsilon: float | None = 1e-7, amsgrad: bool = False,
                 clipnorm: float | None = None, clipvalue: float | None = None,
                 global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
                 ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
                 gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any) -> None:
        if weight_decay is None:
            raise ValueError(f"Expected weight_decay to be a number. Received: weight_decay={describe(None)}")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, clipnorm, clipvalue,
                         global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor,
                         gradient_accumulation_steps, name, **kwargs)


class Adamax(_Moments):
    """Adamax (Kingma and Ba, 2014, section 7), in Keras' form.

    m as `Adam`;  u = max(beta_2 * u, |g|);  w -= learning_rate / (1 - beta_1**t) * m / (u + epsilon).

    Args:
        learning_rate: Defaults to 0.001.
        beta_1: Decay of the mean of the gradients, in [0, 1). Defaults to 0.9.
        beta_2: Decay of the largest size, in [0, 1). Defaults to 0.999.
        epsilon: What keeps the division finite, >= 0. Defaults to 1e-7.
        name: Defaults to "adamax". The others are those of `Optimizer`.
    """

    _second = "norm"

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999,
                 epsilon: float | None = 1e-7, weight_decay: float | None = None, clipnorm: float | None = None,
                 clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
                 ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
                 loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self._set_betas(beta_1, beta_2, epsilon)

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        (rate,) = super().hyperparameters(step)
        return rate / (1 - self.beta_1 ** (self._updates(step) + 1)), self.beta_1, self.beta_2, self.epsilon


class Nadam(_Moments):
    """Adam with Nesterov's momentum (Dozat, 2016), in Keras' form.

    m, v as `Adam`.  With u(t) = beta_1 * (1 - 0.96**t / 2) and U(t) = u(1) * ... * u(t),
    w -= learning_rate * (u(t+1) * m / (1 - U(t+1)) + (1 - u(t)) * g / (1 - U(t)))
    / (sqrt(v / (1 - beta_2**t)) + epsilon) at the t-th update.

    Args:
        learning_rate: Defaults to 0.001.
        beta_1: Decay of the mean of the gradients, in [0, 1). Defaults to 0.9.
        beta_2: Decay of the mean of their squares, in [0, 1). Defaults to 0.999.
        epsilon: What keeps the division finite, >= 0. Defaults to 1e-7.
        name: Defaults to "nadam". The others are those of `Optimizer`.
    """

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999,
                 epsilon: float | None = 1e-7, weight_decay: float | None = None, clipnorm: float | None = None,
                 clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
                 ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
                 loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self._set_betas(beta_1, beta_2, epsilon)
        self._product = (0, 1.0)  # (t, U(t)) of the last step

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        (rate,) = super().hyperparameters(step)
        t = self._updates(step) + 1
        now, following, product = self._share(t), self._share(t + 1), self._share_product(t)
        return (rate * following / (1 - product * following), rate * (1 - now) / (1 - product),
                self.beta_1, self.beta_2, 1 / (1 - self.beta_2**t), self.epsilon)

    def _share(self, t: int) -> float:
        """u(t)."""
        return self.beta_1 * (1 - 0.5 * 0.96**t)

    def _share_product(self, t: int) -> float:
        """U(t), from that of an earlier update where it is known; it soon becomes 0."""
        done, product = self._product if self._product[0] <= t else (0, 1.0)
        while done < t and product > 0:
            done += 1
            product *= self._share(done)
        self._product = (t, product)
        return product


class Adagrad(Optimizer):
    """Adagrad (Duchi et al., 2011), in Keras' form: a += g*g;  w -= learning_rate * g / sqrt(a + epsilon).

    Args:
        learning_rate: Defaults to 0.001.
        initial_accumulator_value: What the sums of squares begin with, >= 0. Defaults to 0.1.
        epsilon: What keeps the division finite, >= 0. Defaults to 1e-7.
        name: Defaults to "adagrad". The others are those of `Optimizer`.
    """

    def __init__(self, learning_rate: Any = 0.001, initial_accumulator_value: float = 0.1,
                 epsilon: float | None = 1e-7, weight_decay: float | None = None, clipnorm: float | None = None,
                 clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
                 ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
                 loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.initial_accumulator_value = check_number(initial_accumulator_value, "initial_accumulator_value", 0.0)
        self.epsilon = _epsilon(epsilon)

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        return (*super().hyperparameters(step), self.epsilon)

    def _rule_slots(self) -> tuple[str, ...]:
        return ("accumulator",)

    def _first_value(self, slot: str) -> float:
        return self.initial_accumulator_value if slot == "accumulator" else 0.0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_accumulator_value": self.initial_accumulator_value,
                "epsilon": self.epsilon}


class Adadelta(Optimizer):
    """Adadelta (Zeiler, 2012), in Keras' form.

    a = rho * a + (1 - rho) * g*g;  d = g * sqrt(b + epsilon) / sqrt(a + epsilon);
    b = rho * b + (1 - rho) * d*d;  w -= learning_rate * d.

    Args:
        learning_rate: Defaults to 0.001; the paper's form has 1.
        rho: Decay of the means, in [0, 1]. Defaults to 0.95.
        epsilon: What keeps the division finite, >= 0. Defaults to 1e-7.
        name: Defaults to "adadelta". The others are those of `Optimizer`.
    """

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float | None = 1e-7,
                 weight_decay: float | None = None, clipnorm: float | None = None,
                 clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
                 ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
                 loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
                 name: str | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.rho = check_number(rho, "rho", 0.0, 1.0)
        self.epsilon = _epsilon(epsilon)

    def hyperparameters(self, step: int | None = None) -> tuple[float, ...]:
        return (*super().hyperparameters(step), self.rho, self.epsilon)

    def _rule_slots(self) -> tuple[str, ...]:
        return ("accumulated_grad", "accumulated_delta_var")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon}


def _epsilon(value: float | None) -> float:
    """TensorFlow.js writes null for its default."""
    return 1e-7 if value is None else check_number(value, "epsilon", 0.0)

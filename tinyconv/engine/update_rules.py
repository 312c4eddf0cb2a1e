"""What a training step does to the weights: optimizers' rules, penalties, constraints, and their options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["CONSTRAINTS", "OPTIMIZERS", "UpdateOptions", "WeightRules"]

# Optimizer update rules: name -> (names of the hyperparameters of one step, number
# of state arrays per weight).  Python computes the per-step scalars in double
# precision; the update itself is one pass over the weights.  The order is the
# numbering in csrc/tinyconv.h.
#   sgd:       w -= learning_rate * g
#   momentum:  m = momentum * m - learning_rate * g;  w += m
#              (nesterov: w += momentum * m - learning_rate * g)
#   adam:      m += (g - m) * (1 - beta_1);  v += (g*g - v) * (1 - beta_2);
#              w -= m * alpha / (sqrt(v) + epsilon)
#   amsgrad:   as adam, with h = max(h, v) in the place of v in the root
#   rmsprop:   v = rho * v + (1 - rho) * g*g;  w -= learning_rate * g / sqrt(v + epsilon)
#              (momentum: m = momentum * m + that step, w -= m;
#              centered: a = rho * a + (1 - rho) * g, and max(v - a*a, 0) in the place of v in the root)
#   adamax:    m as adam;  u = max(beta_2 * u, |g|);  w -= alpha * m / (u + epsilon)
#   nadam:     m, v as adam;
#              w -= (momentum_rate * m + gradient_rate * g) / (sqrt(velocity_scale * v) + epsilon)
#   adagrad:   a += g*g;  w -= learning_rate * g / sqrt(a + epsilon)
#   adadelta:  a = rho * a + (1 - rho) * g*g;  d = g * sqrt(b + epsilon) / sqrt(a + epsilon);
#              b = rho * b + (1 - rho) * d*d;  w -= learning_rate * d
_RMSPROP = ("learning_rate", "rho", "momentum", "epsilon")
OPTIMIZERS: dict[str, tuple[tuple[str, ...], int]] = {
    "sgd": (("learning_rate",), 0),
    "momentum": (("learning_rate", "momentum", "nesterov"), 1),
    "adam": (("alpha", "beta_1", "beta_2", "epsilon"), 2),
    "amsgrad": (("alpha", "beta_1", "beta_2", "epsilon"), 3),
    "rmsprop": (_RMSPROP, 1),
    "rmsprop_momentum": (_RMSPROP, 2),
    "rmsprop_centered": (_RMSPROP, 2),
    "rmsprop_centered_momentum": (_RMSPROP, 3),
    "adamax": (("alpha", "beta_1", "beta_2", "epsilon"), 2),
    "nadam": (("momentum_rate", "gradient_rate", "beta_1", "beta_2", "velocity_scale", "epsilon"), 2),
    "adagrad": (("learning_rate", "epsilon"), 1),
    "adadelta": (("learning_rate", "rho", "epsilon"), 2),
}

# What a weight is put back to after an update; the order is the numbering in csrc/tinyconv.h.
CONSTRAINTS = ("none", "non_neg", "norm")


@dataclass(frozen=True)
class WeightRules:
    """What training does to a weight beside the optimizer's rule.

    A trainable weight's penalty, l1 * sum |w| + l2 * sum w*w, is part of every loss but
    "inner_product": the mean loss of a batch is larger by it, and so is its gradient.

    The constraint "non_neg" makes negative values 0.  "norm" sees the weight as an array of
    the five axes `shape` and scales its vectors along the second and fourth of them, of norm
    r, by (rate * clip(r, minimum, maximum) + (1 - rate) * r) / (r + 1e-7).
    """

    l1: float = 0.0
    l2: float = 0.0
    constraint: str = "none"
    minimum: float = 0.0
    maximum: float = 0.0
    rate: float = 1.0
    shape: tuple[int, int, int, int, int] | None = None

    def penalty(self, weight: np.ndarray) -> float:
        """The penalty of a weight.  A factor of 0 is none, even on infinity."""
        weight = weight.astype(np.float64)
        return float((self.l1 * np.abs(weight).sum() if self.l1 else 0.0)
                     + (self.l2 * np.square(weight).sum() if self.l2 else 0.0))

    def constrain(self, weight: np.ndarray) -> None:
        """Puts a C-contiguous weight back, in place."""
        if self.constraint == "non_neg":
            np.maximum(weight, 0, out=weight)
        elif self.constraint == "norm" and self.shape is not None:
            vectors = weight.reshape(self.shape)
            norms = np.sqrt(np.square(vectors).sum(axis=(1, 3), keepdims=True))
            wanted = self.rate * np.clip(norms, self.minimum, self.maximum) + (1 - self.rate) * norms
            vectors *= wanted / (norms + 1e-7)


class UpdateOptions(NamedTuple):
    """What an update does around the optimizer's rule, in this order.

    The state of a weight has the rule's arrays, then the sum of the gradients where
    accumulation_steps is not 0, then the average of the weight where there is a momentum.
    """

    accumulation_steps: int = 0  # the update is by the mean of so many gradients
    applies: bool = True  # False: not the last of them, which is only added to the sum
    clipvalue: float = 0.0  # every value of the gradient to [-clipvalue, clipvalue]; 0: no clipping
    clipnorm: float = 0.0  # a weight's gradient to this norm
    global_clipnorm: float = 0.0  # all gradients together
    decay: float = 0.0  # w -= decay * w
    undecayed: frozenset[int] = frozenset()  # weights that do not decay
    average_momentum: float | None = None  # average = momentum * average + (1 - momentum) * w
    overwrites: bool = False  # w = average

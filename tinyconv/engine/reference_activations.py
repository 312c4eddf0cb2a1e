"""Activation functions of the NumPy reference and their derivatives.

Formulas are Keras 3's.  `FORWARD[name](x, *parameters)` gives y; `BACKWARD[name](dy, x, y,
*parameters)` gives dx.  All keep the dtype of x, float32 or float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from tinyconv.engine.program import ACTIVATIONS

__all__ = ["BACKWARD", "FORWARD", "erf", "log_softmax", "parameters_of", "sigmoid", "softmax", "softplus"]

# Klambauer et al., Self-normalizing neural networks (2017).
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805
_GELU_SCALE = math.sqrt(2 / math.pi)  # of the tanh approximation
_GELU_CUBIC = 0.044715


def parameters_of(attributes: dict) -> tuple[float, ...]:
    """The parameters of an activation operation, the missing ones by default."""
    given = tuple(attributes.get("parameters") or ())
    return given + ACTIVATIONS[attributes["function"]][len(given):]


def relu(x: np.ndarray, negative_slope: float, max_value: float, threshold: float) -> np.ndarray:
    if negative_slope == 0 and threshold == 0:
        y = np.maximum(x, 0)
        return y if math.isinf(max_value) else np.minimum(y, x.dtype.type(max_value))
    # 0 * -inf would be NaN: a slope of 0 is not multiplied.
    real = x.dtype.type
    below = real(negative_slope) * (x - real(threshold)) if negative_slope else np.zeros_like(x)
    return np.where(x <= threshold, below, np.minimum(x, real(max_value)))


def relu_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray, negative_slope: float, max_value: float,
                  threshold: float) -> np.ndarray:
    dx = np.where(x > threshold, dy, dy * dy.dtype.type(negative_slope) if negative_slope else 0)
    return dx if math.isinf(max_value) else np.where(x >= max_value, 0, dx)


def leaky_relu(x: np.ndarray, negative_slope: float) -> np.ndarray:
    return relu(x, negative_slope, math.inf, 0.0)


def leaky_relu_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray, negative_slope: float) -> np.ndarray:
    return relu_backward(dy, x, y, negative_slope, math.inf, 0.0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x < 0, small, 1) / (1 + small)


def elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def elu_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    return dy * np.where(x > 0, 1, x.dtype.type(alpha) * np.exp(np.minimum(x, 0)))


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), without overflow."""
    return np.logaddexp(x, x.dtype.type(0))


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / 6 + x.dtype.type(0.5), 0, 1)


def hard_silu_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return dy * np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + x.dtype.type(0.5)))


def silu_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    s = sigmoid(x)
    return dy * s * (1 + x * (1 - s))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * _normal_distribution(x)


def gelu_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    density = np.exp(x * x * x.dtype.type(-0.5)) * x.dtype.type(1 / math.sqrt(2 * math.pi))
    return dy * (_normal_distribution(x) + x * density)


def _normal_distribution(x: np.ndarray) -> np.ndarray:
    return (1 + erf(x * x.dtype.type(math.sqrt(0.5)))) * x.dtype.type(0.5)


def _gelu_tanh_inner(x: np.ndarray) -> np.ndarray:
    real = x.dtype.type
    return np.tanh(real(_GELU_SCALE) * x * (1 + real(_GELU_CUBIC) * x * x))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x * x.dtype.type(0.5) * (1 + _gelu_tanh_inner(x))


def gelu_tanh_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    real = x.dtype.type
    t = _gelu_tanh_inner(x)
    slope = real(_GELU_SCALE) * (1 + real(3 * _GELU_CUBIC) * x * x)
    return dy * real(0.5) * (1 + t + x * (1 - t * t) * slope)


def mish(x: np.ndarray) -> np.ndarray:
    return x * np.tanh(softplus(x))


def mish_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    t = np.tanh(softplus(x))
    return dy * (t + x * sigmoid(x) * (1 - t * t))


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x) / sum(exp(x)) along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def log_softmax(x: np.ndarray) -> np.ndarray:
    """log(softmax(x)) along the last axis."""
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def log_softmax_backward(dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


def erf(x: np.ndarray) -> np.ndarray:
    """The error function: Taylor series about a grid of nodes where its values are known."""
    nodes, coefficients = _erf_table()
    last = len(nodes) - 1
    magnitude = np.minimum(np.abs(x.astype(np.float64)), nodes[-1])  # keeps NaN
    nearest = np.rint(np.nan_to_num(magnitude) * (last / nodes[-1])).astype(np.intp)
    offset = magnitude - nodes[nearest]
    y = coefficients[-1][nearest]
    for row in coefficients[-2::-1]:
        y = y * offset + row[nearest]
    return np.copysign(y, x).astype(x.dtype)


@lru_cache(maxsize=1)
def _erf_table() -> tuple[np.ndarray, np.ndarray]:
    """Nodes from 0 to 6, where 1 - erf is below float64's resolution, and Taylor coefficients (9, nodes).

    The derivatives are Hermite's: f'(a) = 2 / sqrt(pi) * exp(-a*a) and, from it on,
    f[n + 1] = -2 a f[n] - 2 (n - 1) f[n - 1].
    """
    nodes = np.linspace(0, 6, 6 * 32 + 1)
    derivatives = [np.array([math.erf(a) for a in nodes]), 2 / math.sqrt(math.pi) * np.exp(-nodes * nodes)]
    for n in range(1, 8):
        derivatives.append(-2 * nodes * derivatives[n] - 2 * (n - 1) * derivatives[n - 1])
    return nodes, np.array([row / math.factorial(n) for n, row in enumerate(derivatives)])


def celu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0) / x.dtype.type(alpha)))


def squareplus(x: np.ndarray, b: float) -> np.ndarray:
    root = np.sqrt(x * x + x.dtype.type(b))
    return np.where(x < 0, x.dtype.type(b / 2) / (root - x), (x + root) / 2)  # neither form cancels


def sparse_plus(x: np.ndarray) -> np.ndarray:
    return np.where(x <= -1, 0, np.where(x >= 1, x, np.square((x + 1) / 2)))


FORWARD: dict[str, Callable[..., np.ndarray]] = {
    "linear": lambda x: x,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softmax": softmax,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": lambda x: x.dtype.type(_SELU_SCALE) * elu(x, _SELU_ALPHA),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "hard_sigmoid": hard_sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "hard_silu": lambda x: x * hard_sigmoid(x),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "mish": mish,
    "log_softmax": log_softmax,
    "celu": celu,
    "log_sigmoid": lambda x: -softplus(-x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "soft_shrink": lambda x, threshold: x - np.clip(x, -x.dtype.type(threshold), x.dtype.type(threshold)),
    "hard_shrink": lambda x, threshold: np.where(np.abs(x) <= x.dtype.type(threshold), 0, x),
    "squareplus": squareplus,
    "sparse_plus": sparse_plus,
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
}

BACKWARD: dict[str, Callable[..., np.ndarray]] = {
    "linear": lambda dy, x, y: dy,
    "relu": relu_backward,
    "sigmoid": lambda dy, x, y: dy * y * (1 - y),
    "tanh": lambda dy, x, y: dy * (1 - y * y),
    "softmax": softmax_backward,
    "leaky_relu": leaky_relu_backward,
    "elu": elu_backward,
    "selu": lambda dy, x, y: x.dtype.type(_SELU_SCALE) * elu_backward(dy, x, y, _SELU_ALPHA),
    "softplus": lambda dy, x, y: dy * sigmoid(x),
    "softsign": lambda dy, x, y: dy / np.square(1 + np.abs(x)),
    "exponential": lambda dy, x, y: dy * y,
    "hard_sigmoid": lambda dy, x, y: np.where(np.abs(x) < 3, dy / 6, 0),
    "silu": silu_backward,
    "hard_silu": hard_silu_backward,
    "gelu": gelu_backward,
    "gelu_tanh": gelu_tanh_backward,
    "mish": mish_backward,
    "log_softmax": log_softmax_backward,
    "celu": lambda dy, x, y, alpha: dy * np.where(x > 0, 1, np.exp(np.minimum(x, 0) / x.dtype.type(alpha))),
    "log_sigmoid": lambda dy, x, y: dy * sigmoid(-x),
    "hard_tanh": lambda dy, x, y: np.where(np.abs(x) < 1, dy, 0),
    "tanh_shrink": lambda dy, x, y: dy * np.square(np.tanh(x)),
    "soft_shrink": lambda dy, x, y, threshold: np.where(y == 0, 0, dy),
    "hard_shrink": lambda dy, x, y, threshold: np.where(y == 0, 0, dy),
    "squareplus": lambda dy, x, y, b: dy * (y * y / (y * y + x.dtype.type(b / 4))),
    "sparse_plus": lambda dy, x, y: dy * np.clip((x + 1) / 2, 0, 1),
    "sparse_sigmoid": lambda dy, x, y: np.where(np.abs(x) < 1, dy / 2, 0),
}

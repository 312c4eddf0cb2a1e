"""Activation functions on NumPy arrays, each known by name.

`get` finds one, `lower` says which operation of the engine computes it.
Formulas are Keras 3's; every function keeps the dtype of a floating input and
turns other numbers into float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.shapes import describe

__all__ = [
    "Activation", "celu", "deserialize", "elu", "exponential", "gelu", "gelu_tanh", "get", "hard_shrink",
    "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax",
    "lower", "mish", "relu", "relu6", "selu", "serialize", "sigmoid", "silu", "soft_shrink", "softmax", "softplus",
    "softsign", "sparse_plus", "sparse_sigmoid", "squareplus", "swish", "tanh", "tanh_shrink",
]

Activation = Callable[..., np.ndarray]

# Klambauer et al., Self-normalizing neural networks (2017).
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def _floating(x: Any) -> np.ndarray:
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def linear(x: Any) -> np.ndarray:
    """x."""
    return _floating(x)


def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None,
         threshold: float = 0.0) -> np.ndarray:
    """x where x > threshold, at most max_value; negative_slope * (x - threshold) elsewhere."""
    x = _floating(x)
    above = x if max_value is None else np.minimum(x, x.dtype.type(max_value))
    # A slope of 0 is not multiplied: 0 times minus infinity would be NaN.
    slope = x.dtype.type(negative_slope)
    below = slope * (x - x.dtype.type(threshold)) if negative_slope else x.dtype.type(0)
    return np.where(x <= threshold, below, above)


def relu6(x: Any) -> np.ndarray:
    """min(max(x, 0), 6)."""
    return relu(x, max_value=6.0)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> np.ndarray:
    """x where x >= 0, negative_slope * x below."""
    return relu(x, negative_slope=negative_slope)


def elu(x: Any, alpha: float = 1.0) -> np.ndarray:
    """x where x > 0, alpha * (exp(x) - 1) below."""
    x = _floating(x)
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def selu(x: Any) -> np.ndarray:
    """The scaled elu whose outputs keep mean 0 and variance 1."""
    x = _floating(x)
    return x.dtype.type(SELU_SCALE) * elu(x, SELU_ALPHA)


def exponential(x: Any) -> np.ndarray:
    """exp(x)."""
    return np.exp(_floating(x))


def sigmoid(x: Any) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    x = _floating(x)
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def hard_sigmoid(x: Any) -> np.ndarray:
    """min(max(x / 6 + 1/2, 0), 1)."""
    x = _floating(x)
    return np.clip(x / 6 + x.dtype.type(0.5), 0, 1)


def tanh(x: Any) -> np.ndarray:
    """The hyperbolic tangent."""
    return np.tanh(_floating(x))


def softplus(x: Any) -> np.ndarray:
    """log(1 + exp(x)), without overflow."""
    x = _floating(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softsign(x: Any) -> np.ndarray:
    """x / (1 + |x|)."""
    x = _floating(x)
    return x / (1 + np.abs(x))


def silu(x: Any) -> np.ndarray:
    """x * sigmoid(x), also called swish."""
    x = _floating(x)
    return x * sigmoid(x)


def hard_silu(x: Any) -> np.ndarray:
    """x * hard_sigmoid(x), also called hard_swish."""
    x = _floating(x)
    return x * hard_sigmoid(x)


def mish(x: Any) -> np.ndarray:
    """x * tanh(softplus(x))."""
    x = _floating(x)
    return x * np.tanh(softplus(x))


def gelu(x: Any, approximate: bool = False) -> np.ndarray:
    """x times the normal distribution function of x; `approximate` by its tanh form."""
    x = _floating(x)
    if approximate:
        return x * x.dtype.type(0.5) * (1 + np.tanh(x.dtype.type(math.sqrt(2 / math.pi))
                                                    * (x + x.dtype.type(0.044715) * x**3)))
    erf = np.array([math.erf(value / math.sqrt(2)) for value in x.ravel().tolist()], x.dtype)
    return x * x.dtype.type(0.5) * (1 + erf.reshape(x.shape))


def gelu_tanh(x: Any) -> np.ndarray:
    """gelu(x, approximate=True)."""
    return gelu(x, approximate=True)


def softmax(x: Any, axis: int = -1) -> np.ndarray:
    """exp(x) / sum(exp(x)) along `axis`, without overflow."""
    x = _floating(x)
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> np.ndarray:
    """log(softmax(x)), without overflow."""
    x = _floating(x)
    x = x - x.max(axis=axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def celu(x: Any, alpha: float = 1.0) -> np.ndarray:
    """x where x > 0, alpha * (exp(x / alpha) - 1) below."""
    x = _floating(x)
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0) / x.dtype.type(alpha)))


def log_sigmoid(x: Any) -> np.ndarray:
    """log(sigmoid(x)), without overflow."""
    return -softplus(-_floating(x))


def hard_tanh(x: Any) -> np.ndarray:
    """min(max(x, -1), 1)."""
    return np.clip(_floating(x), -1, 1)


def tanh_shrink(x: Any) -> np.ndarray:
    """x - tanh(x)."""
    x = _floating(x)
    return x - np.tanh(x)


def soft_shrink(x: Any, threshold: float = 0.5) -> np.ndarray:
    """x moved towards 0 by `threshold`; 0 where |x| is less."""
    x = _floating(x)
    return x - np.clip(x, -x.dtype.type(threshold), x.dtype.type(threshold))


def hard_shrink(x: Any, threshold: float = 0.5) -> np.ndarray:
    """x where |x| > threshold, else 0."""
    x = _floating(x)
    return np.where(np.abs(x) <= x.dtype.type(threshold), x.dtype.type(0), x)


def squareplus(x: Any, b: float = 4) -> np.ndarray:
    """(x + sqrt(x**2 + b)) / 2."""
    x = _floating(x)
    root = np.sqrt(x * x + x.dtype.type(b))
    return np.where(x < 0, x.dtype.type(b / 2) / (root - x), (x + root) / 2)


def sparse_plus(x: Any) -> np.ndarray:
    """0 up to -1, (x + 1)**2 / 4 up to 1, then x."""
    x = _floating(x)
    return np.where(x <= -1, x.dtype.type(0), np.where(x >= 1, x, np.square((x + 1) / 2)))


def sparse_sigmoid(x: Any) -> np.ndarray:
    """min(max((x + 1) / 2, 0), 1)."""
    return np.clip((_floating(x) + 1) / 2, 0, 1)


swish = silu
hard_swish = hard_silu

# function -> (its operation in engine/program.py, that operation's parameters)
_LOWERED: dict[Activation, tuple[str, tuple[float, ...]]] = {
    linear: ("linear", ()),
    relu: ("relu", (0.0, math.inf, 0.0)),
    relu6: ("relu", (0.0, 6.0, 0.0)),
    leaky_relu: ("leaky_relu", (0.2,)),
    elu: ("elu", (1.0,)),
    selu: ("selu", ()),
    exponential: ("exponential", ()),
    sigmoid: ("sigmoid", ()),
    hard_sigmoid: ("hard_sigmoid", ()),
    tanh: ("tanh", ()),
    softplus: ("softplus", ()),
    softsign: ("softsign", ()),
    silu: ("silu", ()),
    hard_silu: ("hard_silu", ()),
    mish: ("mish", ()),
    gelu: ("gelu", ()),
    gelu_tanh: ("gelu_tanh", ()),
    softmax: ("softmax", ()),
    log_softmax: ("log_softmax", ()),
    celu: ("celu", (1.0,)),
    log_sigmoid: ("log_sigmoid", ()),
    hard_tanh: ("hard_tanh", ()),
    tanh_shrink: ("tanh_shrink", ()),
    soft_shrink: ("soft_shrink", (0.5,)),
    hard_shrink: ("hard_shrink", (0.5,)),
    squareplus: ("squareplus", (4.0,)),
    sparse_plus: ("sparse_plus", ()),
    sparse_sigmoid: ("sparse_sigmoid", ()),
}
_NAMES: dict[str, Activation] = {
    **{function.__name__: function for function in _LOWERED},
    "hard_swish": hard_silu, "swish": silu,
}


def get(identifier: str | Activation | dict[str, Any] | None) -> Activation:
    """Returns an activation function from its name, config or itself; None is `linear`.

    Raises:
        ValueError: If there is no such function.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, dict):
        # Keras 3 writes functions as {"class_name": "function", "config": name}.
        identifier = identifier.get("config")
    if isinstance(identifier, str) and identifier in _NAMES:
        return _NAMES[identifier]
    if callable(identifier) and identifier in _LOWERED:
        return identifier
    why = ": the engine computes it, and takes no function of one's own" if callable(identifier) else ""
    raise ValueError(f"Unknown activation{why}. Expected one of {sorted(_NAMES)}. Received: {describe(identifier)}")


def serialize(activation: Activation) -> str:
    """Returns the name of an activation function."""
    return get(activation).__name__


deserialize = get


def lower(activation: Activation) -> tuple[str, tuple[float, ...]]:
    """Returns (function, parameters) of the engine's "activation" operation."""
    return _LOWERED[get(activation)]

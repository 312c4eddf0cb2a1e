"""Activation functions in ONNX' operators, both ways.

`express` says how a function is written: as one operator where the opset has it, else as a few.
`identify` recognizes a function in whatever operators another exporter put together for it: by its
values, so that the form of the expression does not matter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyconv import activations
from tinyconv.activations import SELU_ALPHA, SELU_SCALE

__all__ = ["ELEMENTWISE", "INPUT", "Call", "express", "identify"]

# What stands for the function's argument.
INPUT = "x"


class Call(NamedTuple):
    """An operator of ONNX on arguments: numbers, `INPUT`, or other calls."""

    op: str
    args: tuple[Any, ...]
    attributes: dict[str, Any]


def _call(op: str, *args: Any, **attributes: Any) -> Call:
    return Call(op, args, attributes)


# --- writing ---


def express(function: str, parameters: tuple[float, ...], opset: int) -> Call:
    """An elementwise activation of the engine in operators of opset 13 or later.

    Args:
        function: A name in `engine.program.ACTIVATIONS`, but for the softmaxes and "linear".
        parameters: As of the engine's operation.
        opset: Which operators there are.
    """
    x = INPUT
    if function == "relu":
        return _relu(*parameters)
    if function in ("gelu", "gelu_tanh", "mish", "hard_silu"):
        return _newer(function, opset)
    if function in _SINGLE:
        op, names, attributes = _SINGLE[function]
        return Call(op, (x,), {**attributes, **dict(zip(names, parameters, strict=True))})
    match function:
        case "silu":
            return _call("Mul", x, _call("Sigmoid", x))
        case "hard_tanh":
            return _call("Clip", x, -1.0, 1.0)
        case "log_sigmoid":
            return _call("Neg", _call("Softplus", _call("Neg", x)))
        case "tanh_shrink":
            return _call("Sub", x, _call("Tanh", x))
        case "soft_shrink":
            return _call("Shrink", x, lambd=parameters[0], bias=parameters[0])
        case "squareplus":  # of x < 0 nothing is left of x + sqrt(x * x + b): relu(x) + b / 2 / (root + |x|)
            root = _call("Sqrt", _call("Add", _call("Mul", x, x), parameters[0]))
            rest = _call("Div", parameters[0] / 2, _call("Add", root, _call("Abs", x)))
            return _call("Add", _call("Relu", x), rest)
        case "sparse_plus":
            half = _call("Mul", _call("Add", _call("Clip", x, -1.0, 1.0), 1.0), 0.5)
            return _call("Add", _call("Mul", half, half), _call("Relu", _call("Sub", x, 1.0)))
    raise ValueError(f"ONNX has no operators for the activation '{function}'.")


# One operator: function -> (operator, its attributes for the parameters, others)
_SINGLE: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "leaky_relu": ("LeakyRelu", ("alpha",), {}),
    "elu": ("Elu", ("alpha",), {}),
    "celu": ("Celu", ("alpha",), {}),
    "hard_shrink": ("Shrink", ("lambd",), {"bias": 0.0}),
    "selu": ("Selu", (), {"alpha": SELU_ALPHA, "gamma": SELU_SCALE}),
    "exponential": ("Exp", (), {}),
    "sigmoid": ("Sigmoid", (), {}),
    "hard_sigmoid": ("HardSigmoid", (), {"alpha": 1 / 6, "beta": 0.5}),
    "sparse_sigmoid": ("HardSigmoid", (), {"alpha": 0.5, "beta": 0.5}),
    "softplus": ("Softplus", (), {}),
    "softsign": ("Softsign", (), {}),
    "tanh": ("Tanh", (), {}),
}


def _relu(slope: float, limit: float, threshold: float) -> Call:
    x = INPUT
    if threshold and slope:
        above = x if limit == math.inf else _call("Min", x, limit)
        return _call("Where", _call("Greater", x, threshold), above, _call("Mul", _call("Sub", x, threshold), slope))
    if threshold:
        y = _call("ThresholdedRelu", x, alpha=threshold)
    elif not slope:
        return _call("Relu", x) if limit == math.inf else _call("Clip", x, 0.0, limit)
    else:
        y = _call("LeakyRelu", x, alpha=slope)
    return y if limit == math.inf else _call("Min", y, limit)


def _newer(function: str, opset: int) -> Call:
    """Functions that became operators after opset 13."""
    x = INPUT
    if function == "hard_silu":
        inner = _call("HardSigmoid", x, alpha=1 / 6, beta=0.5)
        return _call("HardSwish", x) if opset >= 14 else _call("Mul", x, inner)
    if function == "mish":
        return _call("Mish", x) if opset >= 18 else _call("Mul", x, _call("Tanh", _call("Softplus", x)))
    if opset >= 20:
        return _call("Gelu", x, approximate="tanh" if function == "gelu_tanh" else "none")
    if function == "gelu":
        inner = _call("Erf", _call("Mul", x, math.sqrt(0.5)))
    else:
        cubed = _call("Mul", _call("Mul", x, x), x)
        inner = _call("Tanh", _call("Mul", _call("Add", x, _call("Mul", cubed, 0.044715)), math.sqrt(2 / math.pi)))
    return _call("Mul", _call("Mul", x, 0.5), _call("Add", inner, 1.0))


# --- reading ---


def _erf(x: Any) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _clip(x: Any, low: Any = None, high: Any = None, **attributes: float) -> Any:
    low, high = attributes.get("min", low), attributes.get("max", high)  # attributes until opset 10
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _hard_sigmoid(x: Any, alpha: float = 0.2, beta: float = 0.5) -> Any:
    return np.clip(alpha * x + beta, 0, 1)


def _leaky_relu(x: Any, alpha: float = 0.01) -> Any:
    return np.where(x < 0, alpha * x, x)


def _elu(x: Any, alpha: float = 1.0) -> Any:
    return activations.elu(x, alpha)


# Operators whose values at a position depend on their arguments' at that position only, on float64.
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Abs": np.abs, "Add": np.add, "Cast": lambda x, to=1: x, "Clip": _clip, "Div": np.divide, "Elu": _elu, "Erf": _erf,
    "Exp": np.exp, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "HardSigmoid": _hard_sigmoid,
    "HardSwish": activations.hard_silu, "Identity": lambda x: x, "LeakyRelu": _leaky_relu, "Less": np.less,
    "LessOrEqual": np.less_equal, "Log": np.log, "Max": np.maximum, "Min": np.minimum, "Mul": np.multiply,
    "Neg": np.negative, "Not": np.logical_not, "Pow": np.power, "Reciprocal": np.reciprocal, "Relu": activations.relu,
    "Sigmoid": activations.sigmoid, "Sign": np.sign, "Softplus": activations.softplus,
    "Softsign": activations.softsign, "Sqrt": np.sqrt, "Sub": np.subtract, "Sum": lambda *args: sum(args),
    "Tanh": np.tanh, "Where": np.where,
}

# Where functions are compared, and how well a form in float32 constants agrees there.
_POINTS = np.concatenate([np.linspace(-9, 9, 181), [-250.0, -60.0, -20.0, -15.0, 15.0, 20.0, 60.0, 250.0]]) + 0.003
_TOLERANCE = 2e-6


def identify(function: Callable[[np.ndarray], Any]) -> Any:
    """The activation that a function is: a name, a layer as {class_name, config}, or None.

    Args:
        function: From a float64 array to one of its shape.
    """
    with np.errstate(all="ignore"):
        values = np.asarray(function(_POINTS), np.float64)
        if values.shape != _POINTS.shape or not np.isfinite(values).all():
            return None
        for name, expected in _known().items():
            if _agrees(expected, values):
                return name
        ends = np.asarray(function(np.array([-1e4, -1e3, -1.0, 1e4])), np.float64)
        for found in [*_parameterized(*ends.tolist()), *_thresholds(function)]:
            if _agrees(_values(found), values):
                return found
    return None


_UNPARAMETERIZED = (
    "linear", "relu", "relu6", "silu", "gelu", "gelu_tanh", "mish", "hard_silu", "hard_sigmoid", "hard_tanh", "sigmoid",
    "tanh", "softplus", "softsign", "exponential", "elu", "selu", "log_sigmoid", "tanh_shrink", "soft_shrink",
    "hard_shrink", "squareplus", "sparse_plus", "sparse_sigmoid",
)


@functools.cache
def _known() -> dict[str, np.ndarray]:
    return {name: activations.get(name)(_POINTS) for name in _UNPARAMETERIZED}


def _parameterized(far: float, lower: float, below: float, above: float) -> list[dict[str, Any]]:
    """Layers that a function with these values at -10000, -1000, -1 and 10000 may be."""
    found: list[dict[str, Any]] = []
    slope = (lower - far) / 9e3
    limit = None if abs(above - 1e4) < 1e-2 else above
    if limit is None and 0 <= -below <= 10:
        found.append({"class_name": "LeakyReLU", "config": {"negative_slope": _rounded(-below)}})
    if math.isfinite(slope) and 0 < slope <= 10 and (limit is None or limit >= 0):
        threshold = max(0.0, -1e3 - lower / slope)
        found.append({"class_name": "ReLU", "config": {
            "max_value": limit if limit is None else _rounded(limit), "negative_slope": _rounded(slope),
            "threshold": _rounded(threshold) if threshold > 1e-3 else 0.0}})
    if limit is None and 0 < -far <= 1e3:
        found.append({"class_name": "ELU", "config": {"alpha": _rounded(-far)}})
    return found


def _thresholds(function: Callable[[np.ndarray], Any]) -> list[dict[str, Any]]:
    """The ReLU whose first value above 0 is this function's."""
    low, high = 0.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.asarray(function(np.array([middle]))).item() > 0:
            high = middle
        else:
            low = middle
    return [{"class_name": "ReLU", "config": {"threshold": _rounded(high)}}]


def _rounded(value: float) -> float:
    """A number as it was before it was rounded to float32 and calculated with."""
    return float(f"{value:.6g}")


def _values(found: dict[str, Any]) -> np.ndarray:
    config = found["config"]
    if found["class_name"] == "ELU":
        return activations.elu(_POINTS, config["alpha"])
    return activations.relu(_POINTS, **config)


def _agrees(expected: np.ndarray, values: np.ndarray) -> bool:
    return bool((np.abs(values - expected) <= _TOLERANCE * np.maximum(1, np.abs(expected))).all())

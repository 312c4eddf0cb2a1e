"""Activation functions among ONNX' operators, as layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.formats.onnx.arguments import optional, short, tensor
from tinyconv.formats.onnx.chain import Chain
from tinyconv.formats.onnx.file import Node
from tinyconv.formats.onnx.fold import number

__all__ = ["POINTWISE"]


# --- activations ---


def _single(name: str) -> Callable[..., None]:
    return lambda chain, node, values, opset: chain.activation(name)


def _leaky_relu(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    chain.activation({"class_name": "LeakyReLU",
                      "config": {"negative_slope": short(node.attributes.get("alpha", 0.01))}})


def _elu(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    alpha = short(node.attributes.get("alpha", 1.0))
    chain.activation("elu" if alpha == 1 else {"class_name": "ELU", "config": {"alpha": alpha}})


def _fixed(name: str, **expected: float) -> Callable[..., None]:
    """A function that this package has with certain attributes only."""
    def read(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
        for key, value in expected.items():
            if abs(node.attributes.get(key, value) - value) > 1e-6:
                raise ValueError(f"expected {key}={value:.6g}")
        chain.activation(name)
    return read


def _hard_sigmoid(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    for name, slope in (("hard_sigmoid", 1 / 6), ("sparse_sigmoid", 0.5)):
        if abs(alpha - slope) < 1e-6 and beta == 0.5:
            chain.activation(name)
            return
    chain.affine(short(alpha), short(beta))
    chain.activation({"class_name": "ReLU", "config": {"max_value": 1.0}})


def _clip(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    bounds = []
    for index, name in enumerate(("min", "max"), 1):
        given = optional(values, index, "bound")
        bound = number(given) if given is not None else node.attributes.get(name)
        if given is not None and bound is None:
            raise ValueError("expected a number as bound")
        infinity = math.inf if name == "max" else -math.inf
        bounds.append(infinity if bound is None or abs(bound) > 3.4e38 else float(bound))
    _add_clip(chain, bounds[0], bounds[1])


def _add_clip(chain: Chain, low: float, high: float) -> None:
    names = {(0.0, math.inf): "relu", (0.0, 6.0): "relu6", (-1.0, 1.0): "hard_tanh", (-math.inf, math.inf): "linear"}
    if (low, high) in names:
        chain.activation(names[low, high])
    elif low >= 0:
        chain.affine(1, -low)
        limit = None if high == math.inf else high - low
        chain.activation({"class_name": "ReLU", "config": {"max_value": limit}})
        chain.affine(1, low)
    elif high <= 0:  # as far as below
        chain.affine(-1, 0)
        _add_clip(chain, -high, -low)
        chain.affine(-1, 0)
    else:  # nothing is added where values are small beside the bounds
        _add_minimum(chain, high)
        chain.affine(-1, 0)
        _add_minimum(chain, -low)
        chain.affine(-1, 0)


def _add_minimum(chain: Chain, high: float) -> None:
    """The smaller one of the value and a positive number."""
    if high != math.inf:
        chain.activation({"class_name": "ReLU", "config": {"max_value": high, "negative_slope": 1.0}})


def _bound(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    """Max and Min of the value and a number."""
    bound = number(values[1]) if len(values) == 2 else None
    if bound is None:
        raise ValueError("expected a number as bound")
    _add_clip(chain, *((bound, math.inf) if node.op == "Max" else (-math.inf, bound)))


def _thresholded(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    threshold = float(np.float32(node.attributes.get("alpha", 1.0)))
    chain.activation({"class_name": "ReLU", "config": {"threshold": threshold}})


def _shrink(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    pair = node.attributes.get("lambd", 0.5), node.attributes.get("bias", 0.0)
    names = {(0.5, 0.5): "soft_shrink", (0.5, 0.0): "hard_shrink"}
    if pair not in names:
        raise ValueError("expected lambd=0.5 and bias 0 or 0.5")
    chain.activation(names[pair])


def _gelu(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    chain.activation("gelu_tanh" if node.attributes.get("approximate") == "tanh" else "gelu")


def _prelu(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    chain.prelu(tensor(values, 1, "slope"), 1)


def _softmax(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    rank = len(chain.sizes)
    axis = node.attributes.get("axis", -1 if opset >= 13 else 1)
    axis = axis + rank + 1 if axis < 0 else axis
    # Before opset 13 it runs along all axes from this one on together.
    if not 1 <= axis <= rank or (opset < 13 and any(size != 1 for size in chain.sizes[axis:])):
        raise ValueError(f"expected an axis of the {rank} of a sample")
    chain.activation("softmax" if node.op == "Softmax" else "log_softmax", axis - 1)


def _log(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    if not chain.replace_activation({"sigmoid": "log_sigmoid", "softmax": "log_softmax"}):
        raise ValueError("expected the logarithm of a sigmoid or a softmax")


POINTWISE: dict[str, Callable[[Chain, Node, list[Any], int], None]] = {
    **dict.fromkeys(("LogSoftmax", "Softmax"), _softmax),
    **dict.fromkeys(("Max", "Min"), _bound),
    "Celu": _fixed("celu", alpha=1.0),
    "Clip": _clip,
    "Elu": _elu,
    "Exp": _single("exponential"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _single("hard_silu"),
    "LeakyRelu": _leaky_relu,
    "Log": _log,
    "Mish": _single("mish"),
    "PRelu": _prelu,
    "Relu": _single("relu"),
    "Selu": _fixed("selu", alpha=1.6732632, gamma=1.0507010),
    "Shrink": _shrink,
    "Sigmoid": _single("sigmoid"),
    "Softplus": _single("softplus"),
    "Softsign": _single("softsign"),
    "Swish": _fixed("silu", alpha=1.0),
    "Tanh": _single("tanh"),
    "ThresholdedRelu": _thresholded,
}

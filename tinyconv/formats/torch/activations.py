"""The modules of torch.nn that compute the engine's activations."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["Unmapped", "module_of_activation"]

_PLAIN = {
    "gelu": "GELU", "hard_sigmoid": "Hardsigmoid", "hard_silu": "Hardswish", "hard_tanh": "Hardtanh",
    "log_sigmoid": "LogSigmoid", "mish": "Mish", "selu": "SELU", "sigmoid": "Sigmoid", "silu": "SiLU",
    "softplus": "Softplus", "softsign": "Softsign", "tanh": "Tanh", "tanh_shrink": "Tanhshrink",
}
# Those of one parameter, and what PyTorch calls it.
_WITH_PARAMETER = {
    "celu": ("CELU", "alpha"), "elu": ("ELU", "alpha"), "hard_shrink": ("Hardshrink", "lambd"),
    "leaky_relu": ("LeakyReLU", "negative_slope"), "soft_shrink": ("Softshrink", "lambd"),
}
_ACROSS = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}


class Unmapped(ValueError):
    """torch.nn has no modules for a layer."""


def module_of_activation(function: str, parameters: tuple[float, ...],
                         axis: int) -> tuple[str, dict[str, Any]] | None:
    """Class and arguments of the module of an activation; None for the linear one.

    Args:
        function, parameters: As of the engine's "activation" operation.
        axis: What PyTorch calls the axis that a softmax goes along.

    Raises:
        Unmapped: If torch.nn has no such module.
    """
    if function == "linear":
        return None
    if function in _PLAIN:
        return _PLAIN[function], {}
    if function in _WITH_PARAMETER:
        name, argument = _WITH_PARAMETER[function]
        return name, {argument: parameters[0]}
    if function in _ACROSS:
        return _ACROSS[function], {"dim": axis}
    if function == "gelu_tanh":
        return "GELU", {"approximate": "tanh"}
    if function == "relu":
        return _relu(*parameters)
    raise Unmapped(f"with the activation {function}")


def _relu(slope: float, limit: float, threshold: float) -> tuple[str, dict[str, Any]]:
    if threshold == 0 and limit == math.inf:
        return ("LeakyReLU", {"negative_slope": slope}) if slope else ("ReLU", {})
    if threshold == 0 == slope and limit > 0:
        return ("ReLU6", {}) if limit == 6 else ("Hardtanh", {"min_val": 0.0, "max_val": limit})
    raise Unmapped(f"with a ReLU of max_value={limit}, negative_slope={slope}, threshold={threshold}")

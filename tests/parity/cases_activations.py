"""Activation functions: a line is a name and its arguments after x."""

from __future__ import annotations

from typing import Any

CASES: list[tuple[str, dict[str, Any]]] = [
    ("celu", {}), ("celu", {"alpha": 0.4}),
    ("elu", {}), ("elu", {"alpha": 0.4}),
    ("exponential", {}),
    ("gelu", {}), ("gelu", {"approximate": True}),
    ("glu", {}),
    ("hard_shrink", {}), ("hard_shrink", {"threshold": 0.8}),
    ("hard_sigmoid", {}), ("hard_silu", {}), ("hard_swish", {}), ("hard_tanh", {}),
    ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.05}),
    ("linear", {}),
    ("log_sigmoid", {}),
    ("log_softmax", {}), ("log_softmax", {"axis": 1}),
    ("mish", {}),
    ("relu", {}), ("relu", {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5}),
    ("relu6", {}),
    ("selu", {}), ("sigmoid", {}), ("silu", {}), ("swish", {}),
    ("soft_shrink", {}), ("soft_shrink", {"threshold": 0.8}),
    ("softmax", {}), ("softmax", {"axis": 1}),
    ("softplus", {}), ("softsign", {}),
    ("sparse_plus", {}), ("sparse_sigmoid", {}), ("sparsemax", {}),
    ("squareplus", {}), ("squareplus", {"b": 2}),
    ("tanh", {}), ("tanh_shrink", {}),
    ("threshold", {"threshold": 0.5, "default_value": -1.0}),
]

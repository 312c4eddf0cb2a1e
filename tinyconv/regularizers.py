"""Penalties on the size of weights, with Keras' names and defaults.

A penalty is part of the loss that is trained by and reported, in training and in
evaluation; the engine computes it and its gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.engine.program import WeightRules
from tinyconv.named import Configured, Named, serialize_object
from tinyconv.utils import check_number

__all__ = ["L1", "L1L2", "L2", "Regularizer", "deserialize", "get", "l1", "l1_l2", "l2", "serialize"]


class Regularizer(Configured):
    """Base of all regularizers: l1 * sum |w| + l2 * sum w*w.

    Attributes:
        l1, l2: The factors, 0 where a class has none of that name.
    """

    l1 = 0.0
    l2 = 0.0

    def __call__(self, x: Any) -> float:
        """The penalty of an array."""
        return WeightRules(self.l1, self.l2).penalty(np.asarray(x))


class L1L2(Regularizer):
    """l1 * sum |w| + l2 * sum w*w.

    Args:
        l1: Factor of the sum of sizes, >= 0. Defaults to 0.
        l2: Factor of the sum of squares, >= 0. Defaults to 0.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = check_number(0.0 if l1 is None else l1, "l1", 0.0)
        self.l2 = check_number(0.0 if l2 is None else l2, "l2", 0.0)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """l1 * sum |w|.

    Args:
        l1: The factor, >= 0. Defaults to 0.01.
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = check_number(0.01 if l1 is None else l1, "l1", 0.0)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}


class L2(Regularizer):
    """l2 * sum w*w.

    Args:
        l2: The factor, >= 0. Defaults to 0.01.
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = check_number(0.01 if l2 is None else l2, "l2", 0.0)

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}


# TensorFlow.js writes "L1L2" and reads "l1l2".
_TABLE: Named[Regularizer] = Named("regularizer", (L1, L1L2, L2), {"l1": L1, "l2": L2, "l1_l2": L1L2, "l1l2": L1L2})


def serialize(regularizer: Regularizer) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(regularizer)


def deserialize(config: dict[str, Any]) -> Regularizer:
    """The reverse of `serialize`; the class must be one of this module's."""
    return _TABLE.deserialize(config)


def get(identifier: Any) -> Regularizer | None:
    """Returns a regularizer from its name, class, config or itself; None stays None.

    Raises:
        ValueError: If there is no such regularizer.
    """
    return None if identifier is None else _TABLE.get(identifier)


# Keras' functional spellings.
l1, l2, l1_l2 = L1, L2, L1L2

"""What weights are put back to after every update, with Keras' names and defaults.

The engine does it behind the optimizer's rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.engine.program import WeightRules
from tinyconv.named import Configured, Named, serialize_object
from tinyconv.shapes import describe
from tinyconv.utils import check_number

__all__ = [
    "Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "deserialize", "get", "max_norm", "min_max_norm",
    "non_neg", "serialize", "unit_norm",
]

Shape = tuple[int, ...]


class Constraint(Configured):
    """Base of all constraints."""

    def __call__(self, w: Any) -> np.ndarray:
        """What an array becomes, float32."""
        array = np.array(w, np.float32, order="C")
        self.rules(array.shape).constrain(array)
        return array

    def rules(self, shape: Shape) -> WeightRules:
        """What the engine does to a weight of this shape.

        Raises:
            ValueError: If the weight has no such axis.
        """
        return WeightRules()


class NonNeg(Constraint):
    """Negative values become 0."""

    def rules(self, shape: Shape) -> WeightRules:
        return WeightRules(constraint="non_neg")


class MinMaxNorm(Constraint):
    """Vectors of norm r are scaled by (rate * clip(r, min_value, max_value) + (1 - rate) * r) / (r + 1e-7).

    Args:
        min_value: Smallest norm, >= 0. Defaults to 0.
        max_value: Largest norm, >= 0. Defaults to 1.
        rate: How much of the way to go, in [0, 1]. Defaults to 1.
        axis: The axis that vectors lie along, or a list of axes. Defaults to 0: the vectors are what
            each unit of a `Dense` sums up; for a `Conv2D` that is [0, 1, 2].
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0) -> None:
        self.min_value = check_number(min_value, "min_value", 0.0)
        self.max_value = check_number(max_value, "max_value", 0.0)
        self.rate = check_number(rate, "rate", 0.0, 1.0)
        self.axis = _check_axis(axis)

    def rules(self, shape: Shape) -> WeightRules:
        return WeightRules(constraint="norm", minimum=self.min_value, maximum=self.max_value, rate=self.rate,
                           shape=_layout(shape, self.axis))

    def get_config(self) -> dict[str, Any]:
        return {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate, "axis": self.axis}


class MaxNorm(Constraint):
    """Vectors of norm r are scaled by min(r, max_value) / (r + 1e-7).

    Args:
        max_value: Largest norm, >= 0. Defaults to 2.
        axis: As `MinMaxNorm`.
    """

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        number = check_number(max_value, "max_value", 0.0)
        self.max_value = max_value if isinstance(max_value, int) else number
        self.axis = _check_axis(axis)

    def rules(self, shape: Shape) -> WeightRules:
        return WeightRules(constraint="norm", maximum=float(self.max_value), shape=_layout(shape, self.axis))

    def get_config(self) -> dict[str, Any]:
        return {"max_value": self.max_value, "axis": self.axis}


class UnitNorm(Constraint):
    """Vectors of norm r are divided by r + 1e-7.

    Args:
        axis: As `MinMaxNorm`.
    """

    def __init__(self, axis: Any = 0) -> None:
        self.axis = _check_axis(axis)

    def rules(self, shape: Shape) -> WeightRules:
        return WeightRules(constraint="norm", minimum=1.0, maximum=1.0, shape=_layout(shape, self.axis))

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


def _check_axis(axis: Any) -> int | list[int]:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    if not axes or any(isinstance(one, bool) or not hasattr(one, "__index__") for one in axes):
        raise ValueError(f"Expected axis to be an integer or a list of them. Received: axis={describe(axis)}")
    axes = [one.__index__() for one in axes]
    return axes if isinstance(axis, (list, tuple)) else axes[0]


def _layout(shape: Shape, axis: int | list[int]) -> tuple[int, int, int, int, int]:
    """The shape as five axes, neighbours joined: the norms are of vectors along the second and the fourth."""
    axes = axis if isinstance(axis, list) else [axis]
    summed = {one % len(shape) for one in axes if -len(shape) <= one < len(shape)}
    if len(summed) != len(axes) or len(shape) > 4:
        raise ValueError(f"Expected axis to be different axes of a weight of shape {shape}. Received: axis={axis}")
    sizes = [1]
    for position, size in enumerate(shape):
        if (position in summed) == (len(sizes) % 2 == 0):
            sizes[-1] *= size
        else:
            sizes.append(size)
    first, second, third, fourth, fifth = sizes + [1] * (5 - len(sizes))
    return first, second, third, fourth, fifth


_TABLE: Named[Constraint] = Named("constraint", (MaxNorm, MinMaxNorm, NonNeg, UnitNorm), {
    "max_norm": MaxNorm, "min_max_norm": MinMaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm,
})


def serialize(constraint: Constraint) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(constraint)


def deserialize(config: dict[str, Any]) -> Constraint:
    """The reverse of `serialize`; the class must be one of this module's."""
    return _TABLE.deserialize(config)


def get(identifier: Any) -> Constraint | None:
    """Returns a constraint from its name, class, config or itself; None stays None.

    Raises:
        ValueError: If there is no such constraint.
    """
    return None if identifier is None else _TABLE.get(identifier)


# Keras' functional spellings.
max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm

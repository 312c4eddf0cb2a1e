"""Functions of one value that an exporter wrote as several operators: x * sigmoid(x).

Where a value goes to more than one operator, what they calculate is collected until the branches
have met again.  Then it is either a function that this package has, or the file is no chain.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.formats.onnx.file import Node, Tensor
from tinyconv.formats.onnx.fold import number
from tinyconv.formats.onnx.functions import ELEMENTWISE, identify

__all__ = ["Branches"]

_MAX_STEPS = 64
# Slopes by which a PReLU is recognized.
_SLOPES = (0.25, -1.5)


class Branches:
    """What operators make of a value x that several of them take.

    Args:
        name: The tensor with x.
        order: How the axes of x lie in it.

    Attributes:
        live: The tensors that are still to be taken, and the order of each.
        slopes: The only constant of more than one number, and the order in which it lies, or None.
    """

    def __init__(self, name: str, order: tuple[int, ...]) -> None:
        self.live = {name: order}
        self.slopes: tuple[Tensor, tuple[int, ...]] | None = None
        self._places: dict[str, int] = {name: 0}
        self._steps: list[tuple[str, dict[str, Any], list[Any]]] = []

    @staticmethod
    def takes(node: Node) -> bool:
        """Whether an operator may be part of a function."""
        return node.op == "Transpose" or node.op in ELEMENTWISE

    def add(self, node: Node, values: list[Any]) -> tuple[int, ...]:
        """Takes an operator in, whose values are constants or None, or names of tensors here.

        Returns:
            The order of the axes in its result.

        Raises:
            ValueError: If it cannot be part of a function; the message says what was expected.
        """
        orders = {self.live[value] for value in values if isinstance(value, str)}
        if len(orders) != 1 or len(self._steps) >= _MAX_STEPS:
            raise ValueError("expected operators one behind the other")
        order = orders.pop()
        if node.op == "Transpose":
            axes = node.attributes.get("perm") or []
            if sorted(axes) != list(range(len(order) + 1)) or axes[0] != 0:
                raise ValueError("expected a permutation of axes")
            order = tuple(order[axis - 1] for axis in axes[1:])
        function = ELEMENTWISE.get(node.op)
        if isinstance(function, np.ufunc) and len(values) != function.nin:  # one more would be written to
            raise ValueError(f"expected {function.nin} inputs")
        references = [self._reference(value, order) for value in values]
        attributes = {key: value for key, value in node.attributes.items() if isinstance(value, (int, float))}
        self._steps.append((node.op, attributes, references))
        self._places[node.outputs[0]] = len(self._steps)
        self.live[node.outputs[0]] = order
        return order

    def _reference(self, value: Any, order: tuple[int, ...]) -> Any:
        """The place of a tensor among the steps, or a number in a list, or an empty list for the slopes."""
        if value is None:
            return None
        if isinstance(value, str):
            return self._places[value]
        found = number(value) if isinstance(value, Tensor) else None
        if found is not None:
            return [found]
        if not isinstance(value, Tensor) or self.slopes is not None:
            raise ValueError("expected numbers in an activation function")
        self.slopes = value, order
        return []

    def __call__(self, x: np.ndarray, slope: float = 0.0) -> np.ndarray:
        """What the operators make of x, in float64."""
        values: list[Any] = [x]
        for op, attributes, references in self._steps:
            arguments = [None if reference is None else values[reference] if isinstance(reference, int)
                         else np.float64(reference[0] if reference else slope) for reference in references]
            values.append(arguments[0] if op == "Transpose" else ELEMENTWISE[op](*arguments, **attributes))
        return np.broadcast_to(np.asarray(values[-1], np.float64), x.shape)

    def identify(self) -> Any:
        """The activation that the operators so far are, or None; "prelu" and "-prelu" with `slopes`,
        which are those of the layer or minus those."""
        try:
            if self.slopes is None:
                return identify(self)
            with np.errstate(all="ignore"):
                x = np.linspace(-5, 5, 41)
                for sign, name in ((1, "prelu"), (-1, "-prelu")):
                    if all(np.allclose(self(x, slope), np.where(x < 0, sign * slope * x, x), rtol=0, atol=1e-6)
                           for slope in _SLOPES):
                        return name
        except (ArithmeticError, TypeError, ValueError):  # attributes or arguments that no such operator has
            pass
        return None

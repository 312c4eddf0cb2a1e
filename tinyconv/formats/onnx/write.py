"""The nodes of an ONNX file as they are written.

Convolutions and pools of ONNX want channels first.  The writer therefore keeps, beside a value's
shape as the layers see it, the order in which its axes lie in the file's tensor: a Permute layer
changes names of axes only, a Transpose is written where an operator needs another order, and a
Dense layer after a Flatten has its rows permuted instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyconv.formats.onnx.functions import INPUT, Call, express
from tinyconv.layers import Activation
from tinyconv.layers.nonlinear import activation_operation

__all__ = ["Node", "Writer"]

Shape = tuple[int, ...]
Node = tuple[str, list[str], str, str, dict[str, Any]]  # operator, inputs, output, name, attributes

_COPIED = 0  # in the shape of a Reshape: the size that is there


class Writer:
    """Nodes and constants, and where the last value lies.

    Args:
        shape: The shape of a sample.
        opset: Which operators there are, 13 or later.
        channels_first: Whether images and sequences enter and leave with their channels first.

    Attributes:
        nodes: What was written so far.
        constants: The arrays that nodes read, by their names.
        output_sizes: Of `finish`: the shape of a sample's output in the file.
    """

    def __init__(self, shape: Shape, opset: int, channels_first: bool = False) -> None:
        self.opset = opset
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self._names = {"input", "output"}
        self._is_first = channels_first
        self.shape = shape
        self.value = "input"
        # Axis i of the tensor is axis order[i] of the sample.
        self.order = self._edge_order()
        self.input_sizes = self.sizes
        # After a Flatten of a tensor in another order: value i of it is value rows[i] of the sample.
        self.rows: np.ndarray | None = None
        # Whether such rows can be those of a Dense layer's kernel.
        self.meets_dense = False

    # --- the file's parts ---

    @property
    def sizes(self) -> Shape:
        """The shape of a sample as it lies in the file's tensor."""
        return tuple(self.shape[axis] for axis in self.order)

    def _unique(self, name: str) -> str:
        found, count = name, 1
        while found in self._names:
            found, count = f"{name}_{count}", count + 1
        self._names.add(found)
        return found

    def constant(self, array: Any, name: str) -> str:
        """The name of a new constant."""
        name = self._unique(name)
        self.constants[name] = np.ascontiguousarray(array).reshape(np.shape(array))
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Writes a node; returns the name of its output."""
        name = self._unique(name)
        self.nodes.append((op, list(inputs), name, name, attributes))
        return name

    def append(self, op: str, layer: Any, *inputs: str, **attributes: Any) -> None:
        """Writes a node whose first input is the value so far; the first of a layer has its name."""
        self.value = self.add(op, [self.value, *inputs], self._node_name(op, layer), **attributes)

    def _node_name(self, op: str, layer: Any) -> str:
        return layer.name if layer.name not in self._names else f"{layer.name}/{op}"

    def number(self, value: float, layer: Any) -> str:
        """The name of a constant of one value."""
        return self.constant(np.float32(value), f"{layer.name}/constant")

    # --- order of axes ---

    def _edge_order(self) -> Shape:
        rank = len(self.shape)
        return (rank - 1, *range(rank - 1)) if self._is_first else tuple(range(rank))

    def arrange(self, order: Shape, layer: Any) -> None:
        """Brings the tensor's axes into an order."""
        if order != self.order:
            permutation = [0, *(1 + self.order.index(axis) for axis in order)]
            self.value = self.add("Transpose", [self.value], f"{layer.name}/Transpose", perm=permutation)
            self.order = order

    def in_order(self, layer: Any) -> None:
        """Brings the tensor's axes into the sample's order."""
        self.arrange(tuple(range(len(self.shape))), layer)

    def channels_first(self, layer: Any) -> None:
        """Brings the channels, wherever a layer has them, to the front."""
        rank = len(self.shape)
        is_first = getattr(layer, "data_format", "channels_last") == "channels_first"
        self.arrange(tuple(range(rank)) if is_first else (rank - 1, *range(rank - 1)), layer)

    # --- a model ---

    def finish(self) -> None:
        """Gives the result its name."""
        end = Activation("linear", name="end")
        self.arrange(self._edge_order(), end)
        self.output_sizes = self.sizes
        if not self.nodes:
            self.append("Identity", end)
        op, inputs, _, name, attributes = self.nodes[-1]
        self.nodes[-1] = (op, inputs, "output", name, attributes)

    def activation(self, activation: Any, layer: Any) -> None:
        """Writes an activation function, or a layer that is one."""
        function, parameters = activation_operation(activation)
        if function in ("softmax", "log_softmax"):
            self.softmax(function, len(self.shape) - 1, layer)
        elif function != "linear":
            self.value = self._express(express(function, parameters, self.opset), layer, {})

    def softmax(self, function: str, axis: int, layer: Any) -> None:
        """Appends a softmax, or its logarithm, along an axis of the layer's."""
        self.append("Softmax" if function == "softmax" else "LogSoftmax", layer, axis=1 + self.order.index(axis))

    def _express(self, call: Any, layer: Any, written: dict[int, str]) -> str:
        """Writes a function's operators, each once; `written` are the outputs of those that are there."""
        if call == INPUT:
            return self.value
        if not isinstance(call, Call):
            return self.number(call, layer)
        if id(call) not in written:
            inputs = [self._express(argument, layer, written) for argument in call.args]
            written[id(call)] = self.add(call.op, inputs, self._node_name(call.op, layer), **call.attributes)
        return written[id(call)]

    def reshape(self, shape: Shape, layer: Any) -> None:
        """Takes the values, which lie in the sample's order, for a sample of another shape."""
        self.append("Reshape", layer, self.constant(np.array([_COPIED, *shape], np.int64), f"{layer.name}/shape"))
        self.order = tuple(range(len(shape)))

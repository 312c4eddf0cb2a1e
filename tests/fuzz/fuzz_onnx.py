"""Changes of ONNX models: of their operators, how these hang together, and their tensors."""

from __future__ import annotations

import random
from typing import Any

__all__ = ["change_onnx"]

_OPERATORS = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "Gemm", "MatMul", "Add", "Mul", "Relu", "Flatten",
              "Reshape", "Transpose", "Softmax", "Identity", "Pad", "Clip", "Cast", "Shape", "Gather", "Concat",
              "Constant", "Loop", "If", "BatchNormalization", "ConvTranspose", "Resize", "Squeeze", "Unsqueeze",
              "Slice", "Expand", "Tile", "Range")
_NUMBERS = (-2**63, -2**31, -1000, -2, -1, 0, 1, 2, 3, 7, 255, 65536, 2**31, 2**40, 2**63 - 1)
_REALS = (0.0, -1.0, 1e-30, 1e30, float("inf"), float("nan"))


def change_onnx(data: bytes, source: random.Random) -> bytes:
    """A changed copy of a model; what is none stays as it is."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(data)
        for _ in range(source.choice((1, 1, 2, 3))):
            graph = model.graph
            change = source.choice((_change_attribute, _change_attribute, _change_node, _change_nodes, _change_tensor,
                                    _change_tensor, _change_ends))
            change(onnx, graph, source)
        if source.random() < 0.05 and model.opset_import:
            model.opset_import[0].version = source.choice(_NUMBERS)
        return bytes(model.SerializeToString())
    except (ValueError, TypeError, IndexError, DecodeError):
        return data


def _change_attribute(onnx: Any, graph: Any, source: random.Random) -> None:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    if not attributes:
        return
    attribute = source.choice(attributes)
    choice = source.randrange(6)
    if choice == 0:
        attribute.type = source.randrange(15)
    elif choice == 1:
        attribute.name += source.choice(("x", "_", "\n"))
    elif attribute.ints:
        place = source.randrange(len(attribute.ints))
        values = list(attribute.ints)
        values[place] = source.choice(_NUMBERS)
        del attribute.ints[:]
        attribute.ints.extend(source.choice((values, (values * 2)[:64], values[:place], values[:1] * 1000)))
    elif attribute.HasField("i"):
        attribute.i = source.choice(_NUMBERS)
    elif attribute.HasField("f"):
        attribute.f = source.choice(_REALS)
    elif attribute.HasField("s"):
        attribute.s = source.choice((b"", b"SAME_UPPER", b"SAME_LOWER", b"VALID", b"\xff", b"x" * 1000))


def _change_node(onnx: Any, graph: Any, source: random.Random) -> None:
    if not graph.node:
        return
    node = source.choice(graph.node)
    names = [name for other in graph.node for name in (*other.input, *other.output)] + ["", "input", "nothing"]
    choice = source.randrange(6)
    if choice == 0:
        node.op_type = source.choice(_OPERATORS)
    elif choice == 1 and node.input:
        node.input[source.randrange(len(node.input))] = source.choice(names)
    elif choice == 2 and node.output:
        node.output[source.randrange(len(node.output))] = source.choice(names)
    elif choice == 3 and node.input:
        del node.input[source.randrange(len(node.input))]
    elif choice == 4:
        node.domain = source.choice(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "\n"))
    elif node.attribute:
        del node.attribute[source.randrange(len(node.attribute))]


def _change_nodes(onnx: Any, graph: Any, source: random.Random) -> None:
    if not graph.node:
        return
    place = source.randrange(len(graph.node))
    nodes = list(graph.node)
    choice = source.randrange(4)
    if choice == 0:
        del nodes[place]
    elif choice == 1:
        nodes.insert(source.randrange(len(nodes)), nodes[place])
    elif choice == 2:
        nodes.reverse()
    else:
        nodes.insert(place, onnx.helper.make_node(source.choice(_OPERATORS), list(nodes[place].input), [f"new{place}"]))
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _change_tensor(onnx: Any, graph: Any, source: random.Random) -> None:
    if not graph.initializer:
        return
    tensor = source.choice(graph.initializer)
    choice = source.randrange(8)
    if choice == 0 and tensor.dims:
        tensor.dims[source.randrange(len(tensor.dims))] = source.choice(_NUMBERS)
    elif choice == 1:
        tensor.dims.append(source.choice(_NUMBERS))
    elif choice == 2:
        tensor.data_type = source.randrange(24)
    elif choice == 3:
        tensor.raw_data = tensor.raw_data[:source.randrange(len(tensor.raw_data) + 1)]
    elif choice == 4:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=source.choice(("/etc/passwd", "../x", "m.onnx")))
    elif choice == 5:
        tensor.float_data.extend([1.0] * source.choice((1, 9, 1000)))
    elif choice == 6:
        tensor.name = source.choice(("", "input", graph.initializer[0].name, "\n"))
    elif len(tensor.raw_data) % 4 == 0:
        tensor.raw_data = source.choice((b"\xff", b"\0", b"\x7f")) * len(tensor.raw_data)


def _change_ends(onnx: Any, graph: Any, source: random.Random) -> None:
    ends = [*graph.input, *graph.output]
    if not ends:
        return
    end = source.choice(ends)
    sizes = end.type.tensor_type.shape.dim
    choice = source.randrange(5)
    if choice == 0 and sizes:
        sizes[source.randrange(len(sizes))].dim_value = source.choice(_NUMBERS)
    elif choice == 1:
        sizes.add(dim_value=source.choice(_NUMBERS))
    elif choice == 2:
        end.type.tensor_type.elem_type = source.randrange(24)
    elif choice == 3:
        end.name = source.choice(("", "x", graph.output[0].name if graph.output else ""))
    elif sizes:
        del sizes[source.randrange(len(sizes))]

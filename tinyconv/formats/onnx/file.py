"""ONNX files that are not trusted: what is in them, checked, before anything is made of it.

A file is a protocol buffer, in which two bytes can ask for an object of a hundred: all fields are
counted before they become objects (`parse`).  Tensors are compared with their bytes, which may lie in
files of the same folder (`external`).  Needs onnx, the extra `[onnx]`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyconv.formats.guard import MissingFileError, checked_integer, checked_product, fail, shorten, unique
from tinyconv.formats.onnx.external import DataFiles
from tinyconv.utils import import_extra

__all__ = ["Graph", "Node", "Tensor", "import_onnx", "read_graph"]

# The newest networks that run here have a few hundred operators of ten fields each, PyTorch's notes among them.
_MAX_FIELDS = 200_000
_MAX_NOTES = 16 << 20  # bytes of everything that is no tensor's values
_MAX_BYTES = (1 << 31) - 1  # a protocol buffer holds less than 2 GiB
_MAX_RANK = 8
_LEAST_OPSET = 7
_MAX_NODES = 5000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def import_onnx() -> Any:
    """The module onnx; where it is missing, one line says what to install."""
    return import_extra("onnx", "onnx", "ONNX files")


# --- the protocol buffer ---


class _Kind(NamedTuple):
    """What there may be in a field: a message, packed numbers, or the values of a tensor."""

    message: Any = None
    is_packed: bool = False
    is_values: bool = False


# Protocol buffers' numbers of the types of fields in memory.
_REALS, _TEXT = (5, 6), 9


@functools.cache
def _fields(descriptor: Any) -> dict[int, _Kind]:
    """The fields of a message, by their numbers."""
    return {field.number: _Kind(field.message_type, field.cpp_type not in (*_REALS, _TEXT),
                                field.cpp_type in _REALS or field.name == "raw_data")
            for field in descriptor.fields}


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number has no end")


def _count(data: bytes, descriptor: Any) -> None:
    """Walks through all fields; raises ValueError where they are too many, or not within each other."""
    fields, notes = 0, 0
    stack = [(0, len(data), descriptor)]
    while stack:
        position, end, descriptor = stack.pop()
        kinds = _fields(descriptor)
        while position < end:
            fields += 1
            key, position = _varint(data, position, end)
            wire = key & 7
            if wire == _BYTES:
                size, position = _varint(data, position, end)
                if size > end - position:
                    raise ValueError("a field is longer than what holds it")
                kind = kinds.get(key >> 3, _Kind())
                if kind.message is not None:
                    stack.append((position, position + size, kind.message))
                elif kind.is_packed:
                    fields += size
                elif not kind.is_values:
                    notes += size
                position += size
            elif wire == _VARINT:
                _, position = _varint(data, position, end)
            elif wire in (_FIXED32, _FIXED64):
                position += 4 if wire == _FIXED32 else 8
            else:
                raise ValueError(f"a field has the wire type {wire}")
            if fields > _MAX_FIELDS:
                raise ValueError(f"there are more than {_MAX_FIELDS} fields")
        if position > end:
            raise ValueError("a field is longer than what holds it")
    if notes > _MAX_NOTES:
        raise ValueError(f"there are {notes} bytes beside the weights")


def parse(data: bytes, what: str) -> Any:
    """The ModelProto in a file's bytes."""
    onnx = import_onnx()
    from google.protobuf.message import DecodeError

    try:
        _count(data, onnx.ModelProto.DESCRIPTOR)
        return onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError) as error:
        fail(what, "a readable ONNX file", str(error))


# --- tensors ---

# Number of TensorProto.DataType -> (type, the field of values where they are not raw, its type)
_TYPES: dict[int, tuple[str, str, str]] = {
    1: ("<f4", "float_data", "<f4"), 2: ("u1", "int32_data", "<i4"), 3: ("i1", "int32_data", "<i4"),
    4: ("<u2", "int32_data", "<i4"), 5: ("<i2", "int32_data", "<i4"), 6: ("<i4", "int32_data", "<i4"),
    7: ("<i8", "int64_data", "<i8"), 9: ("?", "int32_data", "<i4"), 10: ("<f2", "int32_data", "<i4"),
    11: ("<f8", "double_data", "<f8"), 16: ("<u2", "int32_data", "<i4"),
}
_FLOAT16, _BFLOAT16 = 10, 16


class Tensor(NamedTuple):
    """A constant: its shape, whether it holds floating numbers, and how to get its values."""

    shape: tuple[int, ...]
    is_float: bool
    load: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape, dtype=np.int64))


def read_tensor(proto: Any, what: str, files: DataFiles | None = None) -> Tensor:
    """A tensor of the file, its shape compared with the bytes that are there.

    Args:
        proto: The tensor.
        what: Subject of the error messages.
        files: Where its values may lie. Defaults to None: in the file alone.

    Raises:
        FormatError: If its values are not there, of another type, or not as many as its shape says.
    """
    if proto.data_type not in _TYPES or proto.HasField("segment"):
        fail(what, "a tensor of numbers", f"data type {proto.data_type}")
    dtype, field, held = _TYPES[proto.data_type]
    if len(proto.dims) > _MAX_RANK:
        fail(what, f"at most {_MAX_RANK} dimensions", list(proto.dims[:_MAX_RANK + 1]))
    shape = tuple(checked_integer(size, what) for size in proto.dims)
    count = checked_product(shape, what)
    is_raw, size = proto.HasField("raw_data"), count * np.dtype(dtype).itemsize
    read: Callable[[], bytes] | None = None
    if proto.data_location or len(proto.external_data):
        if files is None or is_raw:
            fail(what, "values in the file itself", "external data")
        read = files.find(proto.external_data, size, what)
    else:
        found, expected = (len(proto.raw_data), size) if is_raw else (len(getattr(proto, field)), count)
        if found != expected:
            fail(what, f"{expected} {'bytes' if is_raw else 'values'} for shape {list(shape)}", found)

    def load() -> np.ndarray:
        if is_raw or read is not None:
            values = np.frombuffer(proto.raw_data if read is None else read(), dtype)
        else:
            values = np.array(getattr(proto, field), held)
            values = values.astype("<u2").view(dtype) if proto.data_type == _FLOAT16 else values.astype(dtype)
        if proto.data_type == _BFLOAT16:
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(shape)

    return Tensor(shape, np.dtype(dtype).kind == "f" or proto.data_type == _BFLOAT16, load)


# --- the graph ---


# Numbers of AttributeProto.AttributeType, and the names of those that operators here read.
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS = 1, 2, 3, 4, 6, 7
_KINDS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("alpha", "beta", "bias", "cubic_coeff_a", "epsilon", "gamma", "lambd", "max", "min", "momentum",
                     "ratio", "value_float"), (_FLOAT,)),
    **dict.fromkeys(("allowzero", "antialias", "axis", "ceil_mode", "count_include_pad", "end", "exclude_outside",
                     "group", "keepdims", "spatial", "start", "to", "training_mode", "transA", "transB",
                     "value_int"), (_INT,)),
    **dict.fromkeys(("approximate", "auto_pad", "coordinate_transformation_mode", "keep_aspect_ratio_policy", "mode",
                     "nearest_mode"), (_STRING,)),
    **dict.fromkeys(("axes", "dilations", "ends", "kernel_shape", "output_padding", "output_shape", "pads", "perm",
                     "shape", "starts", "strides", "value_ints"), (_INTS,)),
    **dict.fromkeys(("scales", "value_floats"), (_FLOATS,)),
    "value": (_FLOAT, _TENSOR),
}


class Node(NamedTuple):
    """An operator."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        op = self.op if self.op.isidentifier() else shorten(self.op, 60)
        return f"{op} {shorten(self.name, 60)}" if self.name else op


class Graph(NamedTuple):
    """A model's only graph: operators in order, constants, and the one input and output."""

    nodes: list[Node]
    constants: dict[str, Tensor]
    input: str
    sizes: tuple[int, ...]  # of a sample, as they lie in the tensor
    output: str
    opset: int
    name: str
    producer: str
    metadata: dict[str, str]


def read_graph(path: Path) -> Graph:
    """What an ONNX file holds.

    Raises:
        FormatError: If it is damaged, or more than one graph of ONNX' own operators.
    """
    what = str(path)
    if not path.exists():
        raise MissingFileError(f"{what}: no such file")
    if not path.is_file():
        fail(what, "a plain file", what)
    size = path.stat().st_size
    if size > _MAX_BYTES:
        fail(what, f"at most {_MAX_BYTES} bytes", f"{size} bytes")
    with path.open("rb") as file:
        model = parse(file.read(size), what)
    graph = model.graph
    opset = _opset(model, what)
    if len(graph.node) > _MAX_NODES:
        fail(what, f"at most {_MAX_NODES} operators", len(graph.node))
    if len(model.functions) or len(graph.sparse_initializer):
        fail(what, "operators and plain tensors alone", "functions" if len(model.functions) else "sparse tensors")
    unique([tensor.name for tensor in graph.initializer], f"{what}: constants")
    files = DataFiles(path.parent)
    constants = {_text(tensor.name, what): read_tensor(tensor, f"{what}: {shorten(tensor.name, 60)}", files)
                 for tensor in graph.initializer}
    inputs = [value for value in graph.input if _text(value.name, what) not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        fail(what, "one input and one output", f"{len(inputs)} inputs and {len(graph.output)} outputs, "
             f"{[value.name for value in (*inputs, *graph.output)][:8]}")
    nodes = [_node(node, what) for node in graph.node]
    unique([inputs[0].name, *constants, *(name for node in nodes for name in node.outputs if name)], f"{what}: tensors")
    entries = {_text(entry.key, what): _text(entry.value, what) for entry in model.metadata_props}
    return Graph(nodes, constants, inputs[0].name, _sizes(inputs[0], what), _text(graph.output[0].name, what), opset,
                 _text(graph.name, what), _text(model.producer_name, what), entries)


def _text(value: Any, what: str) -> str:
    """A text of a protocol buffer, which comes as bytes where it is none."""
    if not isinstance(value, str):
        fail(what, "texts in UTF-8", value)
    return value


def _opset(model: Any, what: str) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions and len(model.opset_import):
        fail(what, "operators of ONNX", [entry.domain for entry in model.opset_import][:8])
    newest = import_onnx().defs.onnx_opset_version()
    if len(versions) != 1 or not _LEAST_OPSET <= versions[0] <= newest:
        fail(what, f"an opset from {_LEAST_OPSET} to {newest} (what the installed onnx knows)", versions)
    return versions[0]


def _sizes(value: Any, what: str) -> tuple[int, ...]:
    """The shape of a sample: the batch's size is free, whatever the file says."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape") or kind.elem_type not in _TYPES:
        fail(f"{what}: input {shorten(value.name, 60)}", "a tensor of numbers whose shape is known",
             f"type {kind.elem_type}")
    dims = list(kind.shape.dim)[1:]
    if not 1 <= len(dims) <= 3 or not all(dim.HasField("dim_value") for dim in dims):
        fail(f"{what}: input {shorten(value.name, 60)}", "a batch of samples of 1 to 3 known dimensions",
             [dim.dim_value or dim.dim_param or "?" for dim in kind.shape.dim][:8])
    return tuple(checked_integer(dim.dim_value, f"{what}: input", 1) for dim in dims)


def _node(proto: Any, what: str) -> Node:
    named = f"{shorten(proto.op_type, 60)} {shorten(proto.name, 60)}"
    if proto.domain not in ("", "ai.onnx"):
        fail(what, "operators of ONNX", f"{shorten(proto.domain, 40)} {named}")
    attributes = {_text(entry.name, what): _attribute(entry, f"{what}: {named}") for entry in proto.attribute}
    inputs, outputs = ([_text(name, what) for name in names] for names in (proto.input, proto.output))
    return Node(_text(proto.op_type, what), _text(proto.name, what), inputs, outputs, attributes)


def _attribute(proto: Any, what: str) -> Any:
    if proto.ref_attr_name:
        fail(what, "attributes with values", f"a reference, {shorten(proto.name, 40)}")
    if proto.type not in _KINDS.get(proto.name, (proto.type,)):
        fail(what, f"the attribute {proto.name} as ONNX defines it", f"type {proto.type}")
    match proto.type:
        case proto.FLOAT:
            return proto.f
        case proto.INT:
            return proto.i
        case proto.STRING:
            return proto.s.decode(errors="replace")
        case proto.TENSOR:
            return read_tensor(proto.t, what)
        case proto.FLOATS:
            return list(proto.floats)
        case proto.INTS:
            return list(proto.ints)
    return None  # of a kind that no operator here reads

"""Weights alone, in a safetensors file: laid out for PyTorch.  Needs the package, the extra `[safetensors]`.

The tensors are those of the torch.nn.Sequential of the same layers (`formats.torch.network`):
`load_state_dict(safetensors.torch.load_file(path))` takes them, and what PyTorch saves there is
read here.  Where torch.nn lacks a layer, they are the model's own arrays under the names
"layer/weight", as in `.npz` files.  The names in a file tell which it is.

A file is the length of a header (8 bytes, little-endian), the header (JSON: for every name
a type, a shape and where its bytes begin and end) and the bytes of the tensors.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyconv.formats.guard import (
    MAX_JSON_BYTES,
    FormatError,
    MismatchError,
    checked_dict,
    checked_integer,
    checked_list,
    checked_product,
    checked_string,
    fail,
    parse_json,
    shorten,
)
from tinyconv.formats.names import named_weights
from tinyconv.formats.store import put, write_file
from tinyconv.formats.torch.activations import Unmapped
from tinyconv.formats.torch.chain import Tensor
from tinyconv.formats.torch.network import modules_of
from tinyconv.utils import import_extra, warn

__all__ = ["import_safetensors", "load_weights", "save_weights"]

# Types of tensors that are read: kind and bytes of a value.
_TYPES = {"F64": ("f", 8), "F32": ("f", 4), "F16": ("f", 2), "BF16": ("f", 2), "I64": ("i", 8), "I32": ("i", 4)}
_MAX_DIMENSIONS = 8
_LENGTH_BYTES = 8
# "0", or "layers.0" where the Sequential is an attribute of another module.
_NUMBERED = re.compile(r"(?:(.*)\.)?([0-9]{1,9})", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
_COUNTER = "num_batches_tracked"

Tensors = dict[str, Tensor]


class _Entry(NamedTuple):
    """A tensor as the header has it."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def import_safetensors() -> Any:
    """The module safetensors with its part for NumPy; where it is missing, one line says what to install."""
    import_extra("safetensors.numpy", "safetensors", ".safetensors files")
    return import_extra("safetensors", "safetensors", ".safetensors files")


# --- saving ---


def save_weights(model: Any, target: Path) -> None:
    """Writes all weights of a built model; whenever the process ends, the old file or the new one is there."""
    package = import_safetensors()
    try:
        tensors, layout = _torch_tensors(model), "pt"
    except Unmapped as error:
        warn(f"PyTorch will not take these weights as they are, tinyconv reads them: {error}")
        tensors, layout = _own_tensors(model), "np"
    arrays = {name: _to_file(tensor) for name, tensor in tensors.items()}
    data = package.numpy.save(arrays, {"format": layout})
    write_file(target, lambda file: put(file, data))


def _torch_tensors(model: Any) -> Tensors:
    return {f"{number}.{name}": tensor for number, module in enumerate(modules_of(model))
            for name, tensor in module.tensors.items()}


def _own_tensors(model: Any) -> Tensors:
    return {name: Tensor(weight, name.rpartition("/")[0], np.arange(weight.value.size).reshape(weight.shape))
            for name, weight in named_weights(model).items()}


def _to_file(tensor: Tensor) -> np.ndarray:
    """The array of a tensor; counters are integers in PyTorch."""
    if tensor.weight is None:
        values = np.full(tensor.places.shape, tensor.constant)
    else:
        values = tensor.weight.value.reshape(-1)[tensor.places]
    with np.errstate(invalid="ignore"):  # a counter that is none
        return np.asarray(values, "<i8" if tensor.is_counter else "<f4", order="C")


# --- loading ---


def load_weights(model: Any, target: Path, skip_mismatch: bool = False) -> list[str]:
    """Overwrites all weights of a built model; nothing is changed where something does not fit.

    Args:
        model: The model.
        target: The file.
        skip_mismatch: Whether layers keep their weights where those of the file are others.

    Returns:
        A line for each layer that was skipped.
    """
    skipped: dict[str, str] | None = {} if skip_mismatch else None
    import_safetensors()  # the extra is one for reading and writing; the checks here are the package's, and more
    with open(target, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_LENGTH_BYTES)
        length = checked_integer(int.from_bytes(head, "little"), f"{target}: the length of the header", 2,
                                 max(2, min(MAX_JSON_BYTES, size - _LENGTH_BYTES)))
        header = file.read(length)
        if len(head) + len(header) != _LENGTH_BYTES + length:
            fail(str(target), f"a header of {length} bytes", f"{len(header)} bytes")
        held = size - _LENGTH_BYTES - length
        entries = _parse_header(header, held, str(target))
        tensors = _match(entries, model, str(target), skipped)
        # Types and shapes are the model's, and the bytes are no more than they say: memory is taken now.
        data = file.read(held + 1)
    if len(data) != held:
        fail(str(target), f"{held} bytes of tensors", f"{'more' if len(data) > held else len(data)}")
    arrays = {id(weight): weight.value.copy() for weight in named_weights(model).values()}
    for name, tensor in tensors.items():
        values = _values(data, entries[name])
        if tensor.weight is not None:
            arrays[id(tensor.weight)].reshape(-1)[tensor.places] = values.reshape(tensor.places.shape)
        elif not tensor.is_counter and not (values == tensor.constant).all():
            fail(f"{target}, {name}", f"{tensor.constant:g} alone: '{tensor.owner}' has no such weight", "others")
    model.set_weights(list(arrays.values()))
    return list((skipped or {}).values())


def _parse_header(header: bytes, held: int, what: str) -> dict[str, _Entry]:
    """Checks the header: every byte of the `held` ones belongs to one tensor."""
    document = checked_dict(parse_json(header, f"{what}, the header"), f"{what}, the header")
    metadata = checked_dict(document.pop("__metadata__", {}), f"{what}, __metadata__")
    if not all(isinstance(value, str) for value in metadata.values()):
        fail(f"{what}, __metadata__", "texts", metadata)
    entries = {}
    for name, value in document.items():
        entries[checked_string(name, f"{what}, a tensor's name")] = _parse_entry(value, f"{what}, {shorten(name)}")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != end:
            fail(f"{what}, {shorten(name)}", f"bytes from {end} on, where those of the tensor before end", entry.begin)
        end = entry.end
    if end != held:
        fail(what, f"{end} bytes of tensors", f"{held} bytes")
    return entries


def _parse_entry(value: Any, what: str) -> _Entry:
    value = checked_dict(value, what)
    dtype = value.get("dtype")
    if not isinstance(dtype, str) or dtype not in _TYPES:
        fail(f"{what} dtype", f"one of {sorted(_TYPES)}", dtype)
    dimensions = checked_list(value.get("shape"), f"{what} shape")
    if len(dimensions) > _MAX_DIMENSIONS:
        fail(f"{what} shape", f"at most {_MAX_DIMENSIONS} dimensions", dimensions)
    size = checked_product(tuple(dimensions), f"{what} shape") * _TYPES[dtype][1]
    offsets = checked_list(value.get("data_offsets"), f"{what} data_offsets")
    if len(offsets) != 2:
        fail(f"{what} data_offsets", "where its bytes begin and end", offsets)
    begin, end = (checked_integer(offset, f"{what} data_offsets") for offset in offsets)
    if end - begin != size:
        fail(f"{what} data_offsets", f"{size} bytes for {dtype} of shape {dimensions}", offsets)
    return _Entry(dtype, tuple(dimensions), begin, end)


def _match(entries: dict[str, _Entry], model: Any, what: str, skipped: dict[str, str] | None) -> Tensors:
    """The model's tensor for every name of the file, each of the right type and shape.

    Where `skipped` is not None, it gets a line for each layer of other shapes; its tensors are left out.  So they
    are where the file has no such names, if those are the model's own: PyTorch's go by their order.
    """
    has_own_names = all("/" in name for name in entries)
    if has_own_names:
        tensors = _own_tensors(model)
    else:
        try:
            tensors = _renamed(_torch_tensors(model), entries, what)
        except Unmapped as error:
            raise FormatError(f"{what}: expected the arrays {shorten(list(named_weights(model)))}, these are "
                              f"PyTorch's. {error}") from None
    counters = {name for name, tensor in tensors.items() if tensor.is_counter}
    missing, extra = tensors.keys() - entries.keys() - counters, entries.keys() - tensors.keys()
    if (missing or extra) and (skipped is None or not has_own_names):
        raise FormatError(f"{what}: expected the tensors {shorten(list(tensors))}. Received: "
                          f"missing {shorten(sorted(missing)[:2])}, unknown {shorten(sorted(extra)[:2])}")
    for name, tensor in tensors.items():
        try:
            _check(entries.get(name), tensor, f"{what}, {name}")
        except MismatchError as error:
            if skipped is None:
                raise
            skipped.setdefault(tensor.owner, f"Layer '{tensor.owner}' keeps its weights. {error}")
    return {name: tensor for name, tensor in tensors.items()
            if name in entries and (skipped is None or tensor.owner not in skipped)}


def _check(entry: _Entry | None, tensor: Tensor, what: str) -> None:
    """Raises where a tensor of the file is not of the type and shape of the model's."""
    if entry is None:
        if not tensor.is_counter:
            fail(what, "such a tensor", "none", MismatchError)
        return
    if _TYPES[entry.dtype][0] not in ("fi" if tensor.is_counter else "f"):
        fail(f"{what} dtype", "a type of floats", entry.dtype)
    if entry.shape != tensor.places.shape and not (tensor.is_counter and entry.shape == (1,)):
        fail(what, f"shape {list(tensor.places.shape)}", list(entry.shape), MismatchError)


def _renamed(tensors: Tensors, entries: dict[str, _Entry], what: str) -> Tensors:
    """The tensors under the file's names of their modules.

    Numbers may be others there, as modules without tensors count in PyTorch: their order says which module is
    which.  Modules with names ("conv1", "fc") are found by the shapes of their tensors, and those of equal shapes
    by the numbers in their names.
    """
    modules = _by_module({name: tensor.places.shape for name, tensor in tensors.items() if not tensor.is_counter})
    held = _by_module({name: entry.shape for name, entry in entries.items() if not name.endswith(_COUNTER)})
    found = [_NUMBERED.fullmatch(name) for name in held]
    stems = {part[1] for part in found if part}
    if all(found) and len(stems) == 1:
        if len(held) != len(modules):
            return tensors
        pairs = dict(zip(modules, sorted(held, key=_numbers_in), strict=True))
    else:
        pairs = _paired_by_shape(modules, held, what)
    return {f"{pairs[module]}.{part}".removeprefix("."): tensor for name, tensor in tensors.items()
            for module, _, part in [name.rpartition(".")]}


def _by_module(shapes: dict[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of tensors by the module and the tensor's name in it."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        module, _, part = name.rpartition(".")
        modules.setdefault(module, {})[part] = shape
    return modules


def _paired_by_shape(modules: dict[str, dict[str, tuple[int, ...]]], held: dict[str, dict[str, tuple[int, ...]]],
                     what: str) -> dict[str, str]:
    """For each of the model's modules the file's one whose tensors have the same names and shapes."""
    pairs: dict[str, str] = {}
    for shapes in modules.values():
        own = [module for module in modules if modules[module] == shapes]
        others = sorted((module for module in held if held[module] == shapes), key=_numbers_in)
        if len(own) != len(others):
            rest = [f"{module} of {_text(found)}" for module, found in held.items() if found not in modules.values()]
            fail(what, f"{len(own)} modules of {_text(shapes)}", f"{len(others)}{', ' * bool(rest)}{', '.join(rest)}")
        if len({_DIGITS.sub("", module) for module in others}) > 1:
            fail(what, f"numbers that say the order of the modules of {_text(shapes)}", others)
        pairs.update(zip(own, others, strict=True))
    if len(pairs) < len(held):
        fail(what, f"{len(pairs)} modules with tensors", f"{len(held)}, {shorten(list(held))}")
    return pairs


def _text(shapes: dict[str, tuple[int, ...]]) -> str:
    return shorten(", ".join(f"{part} {list(shape)}" for part, shape in sorted(shapes.items())))


def _numbers_in(name: str) -> list[int]:
    return [int(number) for number in _DIGITS.findall(name)]


def _values(data: bytes, entry: _Entry) -> np.ndarray:
    """The numbers of a tensor in a row, as float32; what is too large becomes infinite."""
    kind, size = _TYPES[entry.dtype]
    count = (entry.end - entry.begin) // size
    if entry.dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2", count, entry.begin).astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.frombuffer(data, f"<{kind}{size}", count, entry.begin).astype(np.float32, copy=False)

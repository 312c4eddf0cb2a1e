"""Changes that get past the first checks of a format: each kind of file is changed in its own terms."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from fuzz_cases import ARCHIVE, PATCH, Files
from fuzz_onnx import change_onnx

__all__ = ["mutate"]

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 256, 65536, 2**31 - 1, 2**31, 2**53, 2**63, -2**31, 0.5, -0.5, 1e-9,
    1e9, 1e308, 2.0, "", "a", "same", "valid", "relu", "softmax", "channels_first", "adam", "conv2d", "../x",
    "/etc/passwd", "weights.bin", "\u202e", "a\nb", "x" * 300, [], [0], [1, 1], [3, 3], [None, 8, 8, 1], {},
    {"class_name": "Zeros", "config": {}},
    [[]], [[1, 2], [3, 4]], {"value": 1},
)
_NUMBERS = (0, 1, 2, 3, 4, 8, 127, 128, 255, 256, 1000, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63)
_LARGEST = 1 << 18
_HDF5 = (".h5", ".hdf5")


def mutate(files: Files, source: random.Random, raw: Callable[[bytes], bytes]) -> Files:
    """A changed copy of an input.

    Args:
        files: The input.
        source: What the change follows from.
        raw: The fuzzer's own change of bytes.
    """
    changed = dict(files)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        names = [name for name in changed if not name.endswith(PATCH)]
        if not names:
            break
        name = source.choice(names)
        choice = source.random()
        if choice < 0.15:
            _add_patch(changed, name, source)
        elif choice < 0.2:
            _change_names(changed, name, source)
        elif choice < 0.3 and not name.endswith(_HDF5):  # which stays one that h5py can edit
            changed[name] = raw(changed[name])[:_LARGEST]
        else:
            changed[name] = _mutator(name)(changed[name], source)[:_LARGEST]
    return changed


def _mutator(name: str) -> Callable[[bytes, random.Random], bytes]:
    if name.endswith(".json"):
        return _change_json
    if name.endswith(".ndjson"):
        return _change_lines
    if name.endswith(_HDF5):
        return _change_hdf5
    if name.endswith(".npy"):
        return _change_npy
    if name.endswith(".png"):
        return _change_png
    if name.endswith(".onnx"):
        return change_onnx
    if name.endswith(".safetensors"):
        return _change_safetensors
    if name.endswith((".csv", ".txt")):
        return _change_text
    return _change_bytes


# --- files ---


def _add_patch(files: Files, name: str, source: random.Random) -> None:
    """Changes single bytes behind all checksums, or cuts the file; of an archive those of the whole file, too."""
    if ARCHIVE in name and source.random() < 0.3:
        name = name.partition(ARCHIVE)[0]
    elif name.endswith(".gz") and source.random() < 0.5:
        name += PATCH
    records = bytearray(files.get(name + PATCH, b"") if source.random() < 0.5 else b"")
    size = max(1, len(files.get(name, b"")) or 4096)
    reach = source.choice((min(size, 256), min(size, 4096), size))
    for _ in range(source.choice((1, 1, 2, 4, 8))):
        place, value = source.randrange(reach), source.choice((0, 1, 127, 128, 255, 256, source.randrange(256)))
        records += struct.pack("<IH", place, value)
    files[name + PATCH] = bytes(records[-96:])


def _change_names(files: Files, name: str, source: random.Random) -> None:
    """Leaves a file out, empties it, or gives it another's content."""
    choice = source.randrange(4)
    if choice == 0:
        del files[name]
    elif choice == 1:
        files[name] = b""
    elif choice == 2:
        files[name] = files[source.choice([other for other in files if not other.endswith(PATCH)])]
    else:
        files.pop(name + PATCH, None)


def _change_bytes(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 4))):
        size = len(changed)
        place = source.randrange(min(size, source.choice((64, 1024, size))) or 1) if size else 0
        choice = source.randrange(6)
        if choice == 0 and size:
            changed[place] ^= 1 << source.randrange(8)
        elif choice == 1:
            number = source.choice(_NUMBERS)
            width = source.choice((1, 2, 4, 8))
            changed[place:place + width] = (number % (1 << 8 * width)).to_bytes(width, source.choice(("big", "little")))
        elif choice == 2:
            del changed[place:place + source.choice((1, 2, 8, 64, 1024))]
        elif choice == 3:
            changed[place:place] = source.randbytes(source.choice((1, 2, 8, 64)))
        elif choice == 4:
            changed[place:place] = changed[place:place + source.choice((4, 16, 256))]
        else:
            del changed[source.randrange(size) if size else 0:]
    return bytes(changed)


# --- JSON ---


def _change_json(data: bytes, source: random.Random) -> bytes:
    try:
        document = json.loads(data)
    except ValueError:
        return _change_bytes(data, source)
    if source.random() < 0.05:  # what a writer of JSON does not write
        text = json.dumps(document)
        place = source.randrange(len(text) + 1)
        extra = source.choice(("NaN", "Infinity", "1e999", "9" * 400, "[" * 90, '{"a":1,"a":2}', "\ufeff",
                               "\\ud800", "\0"))
        return (text[:place] + extra + text[place:]).encode()
    return json.dumps(_changed_document(document, source)).encode()


def _changed_document(document: Any, source: random.Random) -> Any:
    document = copy.deepcopy(document)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            return source.choice(_VALUES)
        holder, key = source.choice(places)
        value = holder[key]
        choice = source.randrange(8)
        if choice < 3:
            holder[key] = copy.deepcopy(source.choice(_VALUES))
        elif choice == 3:
            other, place = source.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif choice == 4:
            del holder[key]
        elif choice == 5 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(source.choice(holder)))
        elif choice == 5:
            holder[source.choice([str(place) for _, place in places])] = copy.deepcopy(value)
        elif choice == 6 and type(value) in (int, float):
            holder[key] = source.choice((value + 1, value - 1, value * 2, -value, value * 1000))
        else:
            _change_leaf(holder, key, source)
    return document


def _places(node: Any) -> Any:
    """Every (list or object, index or key) of a document."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from _places(node[key])


def _change_leaf(holder: Any, key: Any, source: random.Random) -> None:
    value = holder[key]
    if isinstance(value, str):
        place = source.randrange(len(value) + 1)
        holder[key] = source.choice((value[:place], value + value, value.upper(), value[:place] + "/" + value[place:]))
    elif isinstance(value, list):
        holder[key] = source.choice((value[::-1], value * 2, value[1:], value * 50 if len(value) < 50 else value,
                                     [value]))
    else:
        holder[key] = [value]


def _change_lines(data: bytes, source: random.Random) -> bytes:
    lines = data.split(b"\n")
    row = source.randrange(len(lines))
    choice = source.randrange(8)
    if choice == 0:
        lines[row:row] = [lines[row]] * source.choice((1, 2, 100))
    elif choice == 1:
        del lines[row]
    else:
        lines[row] = _change_json(lines[row], source) if lines[row].strip() else b"{}"
    return b"\n".join(lines)


def _change_text(data: bytes, source: random.Random) -> bytes:
    words = (b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"../", b"/etc/passwd", b";", b"99999", b"-1", b"label",
             b"x" * 5000, b"a/0.png", b"\xef\xbb\xbf", b"''")
    place = source.randrange(len(data) + 1)
    end = place + source.choice((0, 0, 1, 4, 20))
    return data[:place] + source.choice(words) * source.choice((1, 1, 2, 100)) + data[end:]


# --- arrays ---


def _change_npy(data: bytes, source: random.Random) -> bytes:
    if source.random() < 0.3 or len(data) < 10:
        return _change_bytes(data, source)
    size = struct.unpack_from("<H", data, 8)[0]
    header, rest = data[10:10 + size], data[10 + size:]
    choice = source.randrange(6)
    if choice == 0:
        header = _change_text(header, source)
    elif choice == 1:
        shape = tuple(source.choice(_NUMBERS) for _ in range(source.randrange(5)))
        header = _npy_header(source.choice(("|u1", "<f4")), source.random() < 0.5, shape)
    elif choice == 2:
        kinds = ("<f8", ">f4", "<f2", "|O", "|S4", "<U8", "<c8", "|b1", "<M8[s]", "|V4", "<f4,<i4", "float", "", "<f16")
        header = _npy_header(source.choice(kinds), False, source.choice(((4,), (3, 3, 1, 3), (2, 784), (), (1,) * 40)))
    elif choice == 3:
        rest = rest[:source.randrange(len(rest) + 1)] + source.choice((b"", b"\0", rest))
    elif choice == 4:
        header = source.choice((b"", b"{", b"{}" + b" " * 60, b"[" * 500, b"(" * 3000, b"-" * 5000, b"9" * 9000,
                                header[:-3]))
    else:
        version = bytes([source.choice((0, 1, 2, 3, 9)), source.choice((0, 0, 1))])
        return data[:6] + version + data[8:]
    return data[:8] + struct.pack("<H", len(header) & 0xFFFF) + header + rest


def _npy_header(kind: str, by_columns: bool, shape: tuple[int, ...]) -> bytes:
    return f"{{'descr': {kind!r}, 'fortran_order': {by_columns}, 'shape': {shape!r}, }}\n".encode()


def _change_safetensors(data: bytes, source: random.Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    if source.random() < 0.2 or size > len(data):
        return _change_bytes(data, source)
    header, values = data[8:8 + size], data[8 + size:]
    if source.random() < 0.8:
        header = _change_json(header, source)
    else:
        values = _change_bytes(values, source)
    return len(header).to_bytes(8, "little") + header + values


def _change_png(data: bytes, source: random.Random) -> bytes:
    """Changes chunks, with the right checksums."""
    chunks = []
    place = 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place:place + 4], "big")
        chunks.append((data[place + 4:place + 8], data[place + 8:place + 8 + size]))
        place += 12 + size
    if not chunks:
        return _change_bytes(data, source)
    index = source.randrange(len(chunks))
    kind, content = chunks[index]
    choice = source.randrange(6)
    if choice == 0 and chunks[0][0] == b"IHDR":
        chunks[0] = (b"IHDR", _changed_header(chunks[0][1], source))
    elif choice == 1 and b"IDAT" in dict(chunks):
        index = [name for name, _ in chunks].index(b"IDAT")
        chunks[index] = (b"IDAT", _changed_stream(chunks[index][1], source))
    elif choice == 2:
        chunks[index] = (kind, _change_bytes(content, source))
    elif choice == 3:
        del chunks[index]
    elif choice == 4:
        chunks.insert(index, source.choice(chunks))
    else:
        extra = source.choice((b"tRNS", b"PLTE", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"gAMA",
                               b"eXIf", b"pHYs", b"sRGB", b"cHRM", b"IEND", b"ABCD"))
        content = source.choice((b"", source.randbytes(source.choice((1, 2, 6, 12, 26, 256, 768))),
                                 b"a\0\0" + zlib.compress(bytes(1 << source.choice((4, 16, 22))))))
        chunks.insert(max(1, index), (extra, content))
    return data[:8] + b"".join(len(part).to_bytes(4, "big") + name + part + zlib.crc32(name + part).to_bytes(4, "big")
                               for name, part in chunks)


def _changed_header(header: bytes, source: random.Random) -> bytes:
    changed = bytearray(header.ljust(13, b"\0")[:13])
    for _ in range(source.choice((1, 1, 2))):
        place = source.choice((0, 4, 8, 9, 10, 11, 12))
        if place < 8:
            changed[place:place + 4] = (source.choice(_NUMBERS) % 2**32).to_bytes(4, "big")
        else:
            changed[place] = source.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return bytes(changed)


def _changed_stream(data: bytes, source: random.Random) -> bytes:
    try:
        rows = zlib.decompress(data)
    except zlib.error:
        return _change_bytes(data, source)
    rows = source.choice((rows[:source.randrange(len(rows) + 1)], rows * 2, bytes(1 << 20),
                          _change_bytes(rows, source)))
    return zlib.compress(rows, source.choice((0, 1, 9)))


# --- HDF5 ---


def _change_hdf5(data: bytes, source: random.Random) -> bytes:
    import h5py

    buffer = io.BytesIO(data)
    try:
        with warnings.catch_warnings(), h5py.File(buffer, "r+") as file:
            warnings.simplefilter("ignore")
            nodes: list[Any] = [file]
            file.visititems(lambda _, node: nodes.append(node))
            for _ in range(source.choice((1, 1, 2))):
                _change_node(h5py, file, source.choice(nodes), source)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError):
        return data
    return buffer.getvalue()


def _change_node(h5py: Any, file: Any, node: Any, source: random.Random) -> None:
    attributes = list(node.attrs)
    if attributes and source.random() < 0.6:
        _change_attribute(h5py, node.attrs, source.choice(attributes), source)
    elif isinstance(node, h5py.Dataset):
        _change_dataset(h5py, file, node, source)
    elif len(node):
        name = source.choice(list(node))
        choice = source.randrange(6)
        if choice == 0:
            del node[name]
        elif choice == 1:
            found = node[name]  # not moved: libhdf5 itself does not survive that in odd files
            del node[name]
            node[name + source.choice(("_1", "x"))] = found
        else:
            del node[name]
            node[name] = source.choice((h5py.SoftLink("/"), h5py.SoftLink(name), h5py.ExternalLink("/etc/passwd", "/"),
                                        h5py.ExternalLink("other.h5", name), node, np.zeros(3, np.float32)))


def _change_attribute(h5py: Any, attributes: Any, name: str, source: random.Random) -> None:
    value = attributes[name]
    choice = source.randrange(8)
    if choice == 0:
        del attributes[name]
    elif choice < 4 and isinstance(value, bytes | str):
        text = value.encode() if isinstance(value, str) else value
        attributes[name] = np.bytes_(_change_json(text, source)) if text[:1] in b"{[" else _change_text(text, source)
    elif choice < 4 and isinstance(value, np.ndarray) and value.size and value.dtype.kind in "SO":
        texts = [item if isinstance(item, bytes) else str(item).encode() for item in value.ravel()]
        place = source.randrange(len(texts))
        texts = source.choice((texts[::-1], texts[1:], texts * 2, texts[:place] + [_change_text(texts[place], source)]))
        attributes[name] = np.array(texts or [b""], source.choice(("S", object)))
    elif choice == 4:
        attributes.create(name, source.choice((0, 1.5, b"", b"2.4.0", b"1.0.8", b"3.0.0", b"theano", np.zeros(3),
                                               np.zeros((2, 2)), np.array([b"a", b"b"]), h5py.Empty("S10"), "a",
                                               ["a", "b"])))
    elif choice == 5:
        attributes.create(name, source.choice((np.zeros(0), np.zeros((0, 3)), np.array([[b"a"]]), True, 2**62,
                                               np.complex64(1))))
    elif choice == 6:
        attributes.create(name + "0", np.array([b"conv2d", b"dense"]))
    else:
        attributes.create(name, file_reference(h5py, attributes), dtype=h5py.ref_dtype)


def file_reference(h5py: Any, attributes: Any) -> Any:
    """A reference to an object, what Keras' files never have."""
    return h5py.h5r.create(attributes._id, b".", h5py.h5r.OBJECT)


def _change_dataset(h5py: Any, file: Any, dataset: Any, source: random.Random) -> None:
    if dataset.size is None or dataset.size > _LARGEST:
        return
    name, value = dataset.name, dataset[()]
    parent, _, last = name.rpartition("/")
    group = file[parent] if parent else file
    shape = tuple(value.shape)
    del group[last]
    choice = source.randrange(9)
    if choice == 0:
        dtype = source.choice(("f8", "f2", ">f4", "i4", "u1", "c8", "S4"))
        group.create_dataset(last, data=np.asarray(value).astype(dtype))
    elif choice == 1:
        group.create_dataset(last, shape[::-1] + source.choice(((), (1,), (2,))), "f4")
    elif choice == 2 and shape:
        group.create_dataset(last, data=value,
                             chunks=tuple(source.choice((1, size, max(1, size // 2))) for size in shape),
                             maxshape=(None,) * len(shape), compression=source.choice((None, "gzip", "lzf")),
                             shuffle=source.random() < 0.5, fletcher32=source.random() < 0.5)
    elif choice == 3 and shape:
        group.create_dataset(last, shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    elif choice == 4 and shape:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource("other.h5", "x", shape)
        group.create_virtual_dataset(last, layout)
    elif choice == 5:
        group.create_dataset(last, source.choice(((2**31,), (2**20, 2**20), (10**9, 4), (2**40,))), "f4", chunks=True,
                             compression=source.choice((None, "gzip")))
    elif choice == 6:
        group.create_dataset(last, data=h5py.Empty("f4"))
    elif choice == 7:
        group.create_dataset(last, data=np.full(shape, source.choice((np.nan, np.inf, -np.inf, 1e38, 1e-45)), "f4"))
    else:
        group.create_group(last)

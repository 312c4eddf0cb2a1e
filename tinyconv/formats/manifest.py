"""The weights manifest of TensorFlow.js: what is in the binary files, and reading it.

A manifest is a list of groups.  A group's files ("paths"), one after the other, hold
its weights one after the other, little-endian, in row-major order.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.formats.guard import (
    FormatError,
    checked_dict,
    checked_list,
    checked_number,
    checked_product,
    checked_shape,
    checked_string,
    fail,
    open_inside,
    shorten,
    unique,
)

__all__ = ["Group", "Shards", "WeightSpec", "match", "parse_manifest"]

_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "|u1"}
_QUANTIZED = {"uint8": "|u1", "uint16": "<u2", "float16": "<f2"}
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_MAX_BYTES = 2**40
# Values decoded at a time: the float64 values in between stay small.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class WeightSpec:
    """One weight of a manifest."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # "float32", "int32" or "bool"
    stored: np.dtype  # of the bytes in the file
    scale: float | None  # with `offset`: value = stored * scale + offset
    offset: float
    is_optimizer: bool
    size: int
    nbytes: int


@dataclass(frozen=True)
class Group:
    """Files and the weights in them; `digests` are the files' SHA-256, where this package wrote them."""

    paths: tuple[str, ...]
    digests: tuple[str, ...]
    specs: tuple[WeightSpec, ...]
    nbytes: int


def parse_manifest(value: Any) -> list[Group]:
    """Checks a manifest; no name of a file or weight may occur twice.

    Raises:
        FormatError: If it is not a manifest, or its sizes are out of bounds.
    """
    groups = [_parse_group(group) for group in checked_list(value, "weightsManifest")]
    unique([spec.name for group in groups for spec in group.specs], "weightsManifest weights")
    unique([path for group in groups for path in group.paths], "weightsManifest paths")
    return groups


def _parse_group(value: Any) -> Group:
    value = checked_dict(value, "weightsManifest group")
    paths = tuple(checked_string(path, "weightsManifest paths")
                  for path in checked_list(value.get("paths"), "weightsManifest paths"))
    specs = tuple(_parse_spec(spec) for spec in checked_list(value.get("weights"), "weightsManifest weights"))
    digests = tuple(checked_string(digest, "weightsManifest sha256")
                    for digest in checked_list(value.get("sha256", []), "weightsManifest sha256"))
    if digests and len(digests) != len(paths):
        fail("weightsManifest sha256", f"{len(paths)} digests", f"{len(digests)} digests")
    return Group(paths, digests, specs, sum(spec.nbytes for spec in specs))


def _parse_spec(value: Any) -> WeightSpec:
    value = checked_dict(value, "weightsManifest weights")
    name = checked_string(value.get("name"), "weightsManifest weight name")
    what = f"weight '{name}'"
    shape = checked_shape(value.get("shape"), f"{what} shape")
    dtype = value.get("dtype")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        fail(f"{what} dtype", f"one of {sorted(_DTYPES)}", dtype)
    stored, scale, offset = _DTYPES[dtype], None, 0.0
    if value.get("quantization") is not None:
        stored, scale, offset = _parse_quantization(value["quantization"], dtype, f"{what} quantization")
    size = checked_product(shape, f"{what} shape")
    nbytes = checked_product((size, np.dtype(stored).itemsize), f"{what} bytes", _MAX_BYTES)
    return WeightSpec(name, shape, dtype, np.dtype(stored), scale, offset,
                      value.get("group") == "optimizer", size, nbytes)


def _parse_quantization(value: Any, dtype: str, what: str) -> tuple[str, float | None, float]:
    value = checked_dict(value, what)
    stored = value.get("dtype")
    allowed = {"float32": ("float16", "uint16", "uint8"), "int32": ("uint16", "uint8"), "bool": ()}[dtype]
    if not isinstance(stored, str) or stored not in allowed:
        fail(f"{what} dtype of {dtype}", f"one of {list(allowed)}", stored)
    if stored == "float16":
        return _QUANTIZED[stored], None, 0.0
    # Bounded so that no stored number leads out of float32.
    scale = checked_number(value.get("scale"), f"{what} scale", _FLOAT32_MAX / 2**17)
    return _QUANTIZED[stored], scale, checked_number(value.get("min"), f"{what} min", _FLOAT32_MAX / 2)


class Shards:
    """The open files of one group, read from front to end.

    Args:
        folder: The model's folder.
        group: What should be in the files; their sizes are checked at once.
        opened: (device, inode) of the files opened so far: each may occur once.

    Raises:
        FormatError: If a file is missing, foreign or not of the stated size.
    """

    def __init__(self, folder: Path, group: Group, opened: set[tuple[int, int]]) -> None:
        self._files: list[tuple[FileIO, str]] = []
        self._digests = group.digests
        self._hash: Any = None
        self._index = 0
        try:
            sizes = [self._open(folder, path, opened) for path in group.paths]
        except BaseException:
            self.close()
            raise
        if sum(sizes) != group.nbytes:
            self.close()
            fail(f"weights in {list(group.paths)}", f"{group.nbytes} bytes for {len(group.specs)} weights",
                 f"{sum(sizes)} bytes")

    def _open(self, folder: Path, path: str, opened: set[tuple[int, int]]) -> int:
        file, size = open_inside(folder, path, "weightsManifest paths")
        self._files.append((file, path))
        status = os.fstat(file.fileno())
        place = (status.st_dev, status.st_ino)
        if place in opened and status.st_ino:
            fail("weightsManifest paths", "every file once", path)
        opened.add(place)
        return size

    def close(self) -> None:
        """Closes the files."""
        for file, _ in self._files:
            file.close()

    def read(self, spec: WeightSpec, out: np.ndarray | None) -> None:
        """Reads the next weight into `out`, C-contiguous with spec.size values; None skips it."""
        if out is not None and spec.stored == np.dtype("<f4") == out.dtype and sys.byteorder == "little":
            self._read_into(out.reshape(-1).view(np.uint8).data, spec.name)
            return
        flat = None if out is None else out.reshape(-1)
        for start in range(0, spec.size, _CHUNK):
            stored = np.empty(min(_CHUNK, spec.size - start), spec.stored)
            self._read_into(stored.view(np.uint8).data, spec.name)
            if flat is not None:
                flat[start:start + stored.size] = _decode(stored, spec)

    def _read_into(self, buffer: memoryview, name: str) -> None:
        while buffer:
            count = self._files[self._index][0].readinto(buffer) if self._index < len(self._files) else None
            if count is None:
                fail(f"weight '{name}'", f"{len(buffer)} bytes more", "the end of the files")
            if count:
                self._update(buffer[:count])
                buffer = buffer[count:]
            else:
                self._next_file()

    def _update(self, data: memoryview) -> None:
        if self._digests:
            if self._hash is None:
                import hashlib

                self._hash = hashlib.sha256()
            self._hash.update(data)

    def _next_file(self) -> None:
        if self._hash is not None and self._hash.hexdigest() != self._digests[self._index]:
            raise FormatError(
                f"weights in {shorten(self._files[self._index][1])}: the file is damaged, expected SHA-256 "
                f"{shorten(self._digests[self._index])}. Received: {self._hash.hexdigest()}"
            )
        self._hash = None
        self._index += 1

    def finish(self) -> None:
        """Checks the digests of what was read last; call it after the last weight."""
        while self._index < len(self._files):
            self._next_file()


def _decode(stored: np.ndarray, spec: WeightSpec) -> np.ndarray:
    """The values that stored numbers stand for, as TensorFlow.js computes them: in float64."""
    if spec.dtype == "bool":
        return stored != 0
    if spec.scale is None:
        return stored
    values = stored * spec.scale + spec.offset
    # JavaScript's Math.round: halves go up.
    return np.floor(values + 0.5) if spec.dtype == "int32" else values


# --- whose weight is it ---

# How writers spell the name of a layer's weight; the first that gives exactly the model's names counts.
_SPELLINGS = (
    lambda name: name,
    lambda name: re.sub(r":\d+$", "", name),  # conv2d/kernel:0
    lambda name: "/".join(re.sub(r":\d+$", "", name).split("/")[-2:]),  # sequential/conv2d/kernel
    lambda name: "/".join(name.split("/")[:1] + name.split("/")[-1:]),  # conv2d/cell/kernel
)


def match(expected: list[tuple[str, tuple[int, ...]]], specs: list[WeightSpec]) -> list[int]:
    """Finds a model's weights in a manifest, by name, or in order where no spelling of the names fits.

    Args:
        expected: Name ("conv2d/kernel") and shape of the model's weights, in order.
        specs: The manifest's weights, in order.

    Returns:
        For every spec the index of its weight.

    Raises:
        FormatError: If weights are missing, left over, or of another shape.
    """
    indices = {name: index for index, (name, _) in enumerate(expected)}
    for spelling in _SPELLINGS:
        names = [spelling(spec.name) for spec in specs]
        if len(names) == len(indices) == len(set(names)) and indices.keys() == set(names):
            found = [indices[name] for name in names]
            break
    else:
        _check_counts(expected, specs)
        found = list(range(len(specs)))
    for spec, index in zip(specs, found):
        name, shape = expected[index]
        if spec.shape != shape or _role(spec.name) not in (None, _role(name)):
            fail(f"weight '{name}'", f"shape {list(shape)}", f"'{spec.name}' of shape {list(spec.shape)}")
    return found


def _check_counts(expected: list[tuple[str, tuple[int, ...]]], specs: list[WeightSpec]) -> None:
    if len(expected) == len(specs):
        return
    names, given = dict.fromkeys(name for name, _ in expected), dict.fromkeys(spec.name for spec in specs)
    missing = [name for name in names if name not in given]
    extra = [name for name in given if name not in names]
    raise FormatError(
        f"weightsManifest: expected the model's {len(names)} weights. Received: {len(given)} weights, "
        f"missing {shorten(missing[:2])}, unknown {shorten(extra[:2])}"
    )


def _role(name: str) -> str | None:
    """"kernel", "gamma", ... where the name ends in it, perhaps numbered."""
    found = re.search(
        r"(kernel|bias|alpha|gamma|beta|moving_mean|moving_variance|mean|variance|count)(_\d+)?(:\d+)?$", name)
    return found[1] if found else None

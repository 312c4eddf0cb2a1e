"""HDF5 files that are not trusted: what may be followed and read in them, and nothing else.

A file is walked by names, one group at a time, over hard links only; a dataset is read
when its shape is the one that is wanted and its bytes lie in the file itself.  Links to
other places and files, external and virtual datasets, references, and filters other than
those that every HDF5 library has, are refused.  Needs h5py, the extra `[keras]`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyconv.formats.guard import (
    MAX_JSON_BYTES,
    FormatError,
    MissingFileError,
    checked_product,
    fail,
    shorten,
)
from tinyconv.formats.hdf5_heaps import check_heaps
from tinyconv.utils import import_extra

__all__ = ["Dataset", "Group", "import_h5py", "reading", "write_names"]

# What libhdf5 raises, by way of h5py, on bytes that it does not understand.
_ERRORS = (ArithmeticError, AttributeError, LookupError, MemoryError, NotImplementedError, OSError, RuntimeError,
           TypeError, ValueError)
# Any other filter would make libhdf5 look for a plugin to load.
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
# An attribute lies in its object's header, which holds at most this many bytes; Keras splits longer lists.
_HEADER_BYTES = 64512
_MAX_PARTS = 4096
# Weights hardly compress: what grows more than this is none.
_MAX_EXPANSION, _FREE_BYTES = 100, 16 << 20
# Texts of a list may be longer together than the file, where they are one text: by so much.
_TEXT_FACTOR, _FREE_TEXT_BYTES = 4, 64 << 20
_FLOAT_BYTES = 4
# Of layers, weights and arrays, all lists of a file together: to look one up takes a tenth of a millisecond.
# Of the most layers that are read each may have three weights, and the optimizer four arrays for each of these.
_MAX_NAMES = 40_000
_MAX_DEPTH = 200  # names in a path: a group may hold itself
# libhdf5 takes some 4 KB for a chunk that is read, however small it is.
_FREE_CHUNKS, _CHUNK_BYTES = 1 << 14, 1 << 10


def import_h5py() -> Any:
    """The module h5py; where it is missing, one line says what to install."""
    return import_extra("h5py", "keras", "Keras' .h5 and .keras files")


@contextlib.contextmanager
def reading(source: Any, what: str) -> Iterator[Group]:
    """Opens an HDF5 file for reading; whatever is wrong with it is a FormatError of one line.

    Args:
        source: A path, or a binary file object.
        what: Subject of the error messages.

    Yields:
        The root group.
    """
    h5py = import_h5py()
    try:
        limits = _Limits(check_heaps(source, what))
        with h5py.File(source, "r") as file:
            yield Group(file, what, limits)
    except FormatError:
        raise
    except FileNotFoundError:
        raise MissingFileError(f"{what}: no such file") from None
    except _ERRORS as error:
        text = str(error).split(" (")[0]
        raise FormatError(f"{what}: expected a readable HDF5 file. Received: {shorten(text, 120)}") from None


class _Limits:
    """What all groups of a file share: how long a text may be, and how many names are still to be read."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._names = 0

    def count(self, names: int, what: str) -> None:
        self._names += names
        if self._names > _MAX_NAMES:
            fail(what, f"at most {_MAX_NAMES} names in a file", "more")


class Group:
    """A group of the file: a folder, with attributes."""

    def __init__(self, group: Any, what: str, limits: _Limits) -> None:
        self._group = group
        self._limits = limits
        self.what = what

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __len__(self) -> int:
        size = len(self._group)
        self._limits.count(size, self.what)
        return size

    def children(self) -> list[str]:
        """Names of what lies in this group."""
        if len(self) > _MAX_NAMES:
            fail(self.what, f"a group of at most {_MAX_NAMES} parts", len(self))
        return list(self._group)

    def group(self, path: str) -> Group:
        """The group at "a/b/c" below this one; raises FormatError where there is none."""
        found = self._find(path)
        if not isinstance(found, Group):
            fail(f"{self.what}", f"a group {shorten(path)}", "none" if found is None else "a dataset")
        return found

    def dataset(self, path: str) -> Dataset:
        """The dataset at "a/b/c" below this group; raises FormatError where there is none."""
        found = self._find(path)
        if not isinstance(found, Dataset):
            fail(f"{self.what}", f"a dataset {shorten(path)}", "none" if found is None else "a group")
        return found

    def _find(self, path: str) -> Group | Dataset | None:
        h5py = import_h5py()
        current = self._group
        if path.count("/") >= _MAX_DEPTH:
            fail(self.what, f"a path of at most {_MAX_DEPTH} names", path)
        for part in path.split("/"):
            if part in ("", ".", "..") or not isinstance(current, h5py.Group):
                fail(f"{self.what}", "a path of names", path)
            link = current.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                fail(f"{self.what}: {shorten(path)}", "no links to other places", type(link).__name__)
            current = current[part]
        if isinstance(current, h5py.Dataset):
            return Dataset(current, f"{self.what}: {shorten(path)}")
        return Group(current, self.what, self._limits) if isinstance(current, h5py.Group) else None

    def check_size(self, shapes: list[tuple[int, ...]]) -> None:
        """Raises FormatError where arrays of these shapes are more than the file can hold."""
        size = sum(checked_product(shape, self.what) for shape in shapes)
        held = self._group.file.id.get_filesize()
        if _FLOAT_BYTES * size > max(_FREE_BYTES, _MAX_EXPANSION * held):
            fail(self.what, f"{size} values of weights", f"a file of {held} bytes")

    def text(self, name: str) -> bytes | None:
        """An attribute that is one text; None where it is missing."""
        values = self._attribute(name, ())
        return None if values is None else values[0]

    def names(self, name: str) -> list[str] | None:
        """An attribute that is a list of texts, perhaps in parts (name0, name1, ...); None where it is missing."""
        values = self._attribute(name, None)
        if values is None:
            parts: list[list[bytes]] = []
            size = 0
            while len(parts) < _MAX_PARTS and (part := self._attribute(f"{name}{len(parts)}", None)) is not None:
                size += sum(map(len, part))
                if size > MAX_JSON_BYTES:
                    fail(f"{self.what}: attribute '{name}'", f"at most {MAX_JSON_BYTES} bytes", f"{size} bytes")
                parts.append(part)
            if not parts:
                return None
            values = [value for part in parts for value in part]
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError:
            fail(f"{self.what}: attribute '{name}'", "UTF-8 text", values[0])

    def _attribute(self, name: str, shape: tuple[int, ...] | None) -> list[bytes] | None:
        """Texts of an attribute of one text (shape ()) or of a list of them (shape None)."""
        h5py = import_h5py()
        if name not in self._group.attrs:
            return None
        what = f"{self.what}: attribute '{name}'"
        handle = self._group.attrs.get_id(name)
        if handle.get_type().get_class() not in (h5py.h5t.STRING, h5py.h5t.FLOAT):
            fail(what, "text", f"type {handle.dtype}")
        if shape == () != handle.shape or len(handle.shape) > 1:
            fail(what, "one text" if shape == () else "a list of texts", f"shape {handle.shape}")
        count = checked_product(handle.shape, what)
        self._limits.count(count, what)
        if count and handle.get_type().get_class() == h5py.h5t.FLOAT:
            fail(what, "text", "numbers")  # an empty list is written as one of numbers
        if count and handle.get_type().is_variable_str():
            # They lie elsewhere in the file, perhaps all in one place, and are read whole.
            checked_product((count, self._limits.longest), what,
                            _FREE_TEXT_BYTES + _TEXT_FACTOR * self._group.file.id.get_filesize())
        checked_product((count, handle.dtype.itemsize), what, MAX_JSON_BYTES)
        if not count:
            return []
        values = self._group.attrs[name]
        values = [values] if isinstance(values, (str, bytes)) else list(np.ravel(values))
        return [value.encode() if isinstance(value, str) else bytes(value) for value in values]


class Dataset:
    """An array of the file, nothing of it read yet."""

    def __init__(self, dataset: Any, what: str) -> None:
        self._dataset = dataset
        self.what = what
        shape = dataset.shape
        if shape is None:
            fail(what, "an array", "an empty dataset")
        self.shape: tuple[int, ...] = shape

    def read(self, shape: tuple[int, ...], kinds: str = "f") -> np.ndarray:
        """The values, once it is certain that they are as many as `shape` says.

        Args:
            shape: What the dataset's shape has to be.
            kinds: Allowed kinds of numbers, as NumPy calls them: "f", "iu".
        """
        h5py = import_h5py()
        if self.shape != shape:
            fail(self.what, f"shape {list(shape)}", list(self.shape))
        dtype = self._dataset.dtype
        if dtype.kind not in kinds or dtype.itemsize > 8 or dtype.fields is not None or dtype.metadata:
            fail(self.what, "an array of numbers", f"type {dtype}")
        plist = self._dataset.id.get_create_plist()
        if plist.get_layout() == h5py.h5d.VIRTUAL:
            fail(self.what, "values in this file", "a virtual dataset")
        if plist.get_layout() != h5py.h5d.CHUNKED and plist.get_external_count():
            fail(self.what, "values in this file", "an external dataset")
        filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
        # Each at most once, and nothing but a checksum behind deflate: its stream is what the file holds.
        if filters != [number for number in (_SHUFFLE, _DEFLATE, _FLETCHER32) if number in filters]:
            fail(self.what, "values without unusual filters", f"filters {filters}")
        size, held = max(1, math.prod(shape)), self._dataset.id.get_storage_size()
        if held > self._dataset.file.id.get_filesize():
            fail(self.what, "values in this file", f"{held} bytes")
        if size * dtype.itemsize > max(_FREE_BYTES, _MAX_EXPANSION * held):
            fail(self.what, f"{size} values in the file", f"{held} bytes")
        if plist.get_layout() == h5py.h5d.CHUNKED:
            # Every chunk is decompressed whole: one may not be much larger than the array.
            chunk = plist.get_chunk()
            count = math.prod(-(-length // side) for length, side in zip(shape, chunk, strict=True))
            if count > max(_FREE_CHUNKS, size * dtype.itemsize // _CHUNK_BYTES):
                fail(f"{self.what} chunk", "fewer and larger ones", f"{count} of shape {list(chunk)}")
            values = checked_product(chunk, f"{self.what} chunk", 2 * size + (1 << 20))
            if _DEFLATE in filters:
                self._check_streams(chunk, values * dtype.itemsize, 1 << filters.index(_DEFLATE))
        return np.asarray(self._dataset[()])

    def _check_streams(self, chunk: tuple[int, ...], size: int, skipped: int) -> None:
        """Raises FormatError where a chunk inflates to other than `size` bytes: libhdf5 itself knows no limit.

        Args:
            chunk: Shape of a chunk; those at the edges are stored whole, too.
            size: Bytes of a chunk.
            skipped: The bit of a chunk's mask that says it is stored without deflate.
        """
        for offset in itertools.product(*map(range, itertools.repeat(0), self.shape, chunk)):
            mask, data = self._dataset.id.read_direct_chunk(offset)
            if mask & skipped:
                continue
            try:
                found = len(zlib.decompressobj().decompress(data, size + 1))
            except zlib.error as error:
                fail(f"{self.what} chunk", "a stream of deflate", str(error))
            if found != size:
                fail(f"{self.what} chunk", f"{size} bytes", "more" if found > size else f"{found} bytes")


def write_names(group: Any, name: str, values: list[str]) -> None:
    """Writes an attribute that is a list of texts as Keras does: in parts where it is too long for one."""
    texts = np.array([value.encode() for value in values], "S") if values else np.zeros(0)
    parts = 1
    while texts.size and max(part.nbytes for part in np.array_split(texts, parts)) > _HEADER_BYTES:
        parts += 1
    if parts == 1:
        group.attrs[name] = texts
        return
    for index, part in enumerate(np.array_split(texts, parts)):
        group.attrs[f"{name}{index}"] = part

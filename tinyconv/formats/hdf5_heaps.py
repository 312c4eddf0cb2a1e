"""Looks through an HDF5 file for global heaps that make libhdf5 (2.0 and before) read for ever.

Texts of variable length, such as a model's description, lie in global heaps: objects in a
row, each saying how long it is.  libhdf5 goes from one to the next, and never ends at one
that says it has no length at all.  All heaps of a file begin with the same five bytes, so
that none is missed, whatever refers to it (HDF5 File Format Specification, III.E), and no
text of the file is longer than the longest object in them.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyconv.formats.guard import fail

__all__ = ["check_heaps"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_START = b"GCOL\x01"
# Signature, version, three bytes, size; of an object its number, references, four bytes, size.
_HEAD, _OBJECT = struct.Struct("<8xQ"), struct.Struct("<H6xQ")
# Heaps that lie in each other would otherwise be walked through once for each of them.
_MAX_OBJECTS = 200_000


def check_heaps(source: Any, what: str) -> int:
    """Looks through the heaps of a file.

    Args:
        source: A path, or an `io.BytesIO`.
        what: Subject of the error messages.

    Returns:
        Bytes of the longest object in them.

    Raises:
        FormatError: If one does not come to its end, or they hold too many objects.
    """
    if not isinstance(source, Path):
        return _check(source.getvalue(), what)
    with open(source, "rb") as file:
        if not file.seek(0, 2):  # nothing cannot be mapped
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _check(data, what)


def _check(data: Any, what: str) -> int:
    """`data` are bytes, or a map of a file."""
    _check_superblock(data, what)
    count = longest = 0
    place = data.find(_START)
    while place >= 0:
        if place + _HEAD.size <= len(data):
            end = place + _HEAD.unpack_from(data, place)[0]
            if end <= len(data):  # others libhdf5 refuses
                for size in _sizes(data, place + _HEAD.size, end, what):
                    count, longest = count + 1, max(longest, size)
                    if count > _MAX_OBJECTS:
                        fail(what, f"at most {_MAX_OBJECTS} objects in global heaps", "more")
        place = data.find(_START, place + 1)
    return longest


def _check_superblock(data: Any, what: str) -> None:
    """Addresses and lengths have 64 bits in all files of Keras; heaps are not looked through with others."""
    place = 0
    while place + 16 <= len(data):
        if data[place:place + 8] == _SIGNATURE:
            sizes = data[place + 13:place + 15] if data[place + 8] < 2 else data[place + 9:place + 11]
            if sizes != b"\x08\x08":
                fail(what, "an HDF5 file with addresses and lengths of 64 bits", f"{list(sizes)} bytes")
            return
        place = 2 * place or 512  # behind a block of the user's


def _sizes(data: Any, place: int, end: int, what: str) -> Iterator[int]:
    """The objects of a heap, how long they are."""
    while place + _OBJECT.size <= end:
        number, size = _OBJECT.unpack_from(data, place)
        # The free space, number 0, counts its head; others end at a multiple of 8 bytes.
        length = size if number == 0 else _OBJECT.size + (size + 7) // 8 * 8
        if not 0 < length <= end - place:
            fail(what, "global heaps whose objects lie in them", f"an object of {size} bytes at byte {place}")
        yield size
        place += length

"""Looks through an HDF5 file for global heaps that make libhdf5 (2.0 and before) read for ever.

Texts of variable length, such as a model's description, lie in global heaps: objects in a
row, each saying how long it is.  libhdf5 goes from one to the next, and never ends at one
that says it has no length at all.  All heaps of a file begin with the same five bytes, so
that none is missed, whatever refers to it (HDF5 File Format Specification, III.E).
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from tinyconv.formats.guard import fail

__all__ = ["check_heaps"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_START = b"GCOL\x01"
# Signature, version, three bytes, size; of an object its number, references, four bytes, size.
_HEAD, _OBJECT = struct.Struct("<8xQ"), struct.Struct("<H6xQ")


def check_heaps(source: Any, what: str) -> None:
    """Raises FormatError where a heap of a file does not come to its end.

    Args:
        source: A path, or an `io.BytesIO`.
        what: Subject of the error messages.
    """
    if not isinstance(source, Path):
        _check(source.getvalue(), what)
        return
    with open(source, "rb") as file:
        if not file.seek(0, 2):  # nothing cannot be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check(data, what)


def _check(data: Any, what: str) -> None:
    """`data` are bytes, or a map of a file."""
    _check_superblock(data, what)
    place = data.find(_START)
    while place >= 0:
        if place + _HEAD.size <= len(data):
            end = place + _HEAD.unpack_from(data, place)[0]
            if end <= len(data):  # others libhdf5 refuses
                _check_heap(data, place + _HEAD.size, end, what)
        place = data.find(_START, place + 1)


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


def _check_heap(data: Any, place: int, end: int, what: str) -> None:
    while place + _OBJECT.size <= end:
        number, size = _OBJECT.unpack_from(data, place)
        # The free space, number 0, counts its head; others end at a multiple of 8 bytes.
        length = size if number == 0 else _OBJECT.size + (size + 7) // 8 * 8
        if not 0 < length <= end - place:
            fail(what, "global heaps whose objects lie in them", f"an object of {size} bytes at byte {place}")
        place += length

"""Checks that every reader shares: nothing in a file is believed before it passed here.

Sizes are multiplied by `checked_product` alone, files are opened by `open_inside`
alone, JSON is parsed by `parse_json` alone.  Nothing is allocated for a number that
a file states before the file's own length, or the model's shapes, allow it.
"""

from __future__ import annotations

import math
import os
import re
import stat
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    "MAX_JSON_BYTES", "MAX_LAYERS", "FormatError", "MismatchError", "MissingFileError", "check_depth", "check_inside",
    "checked_dict", "checked_integer", "checked_list", "checked_number", "checked_product", "checked_shape",
    "checked_string", "fail", "open_inside", "parse_json", "printable", "read_json", "shorten", "unique",
]

# A weight of more values than this is not one of a model that runs here.
MAX_ELEMENTS = 2**31 - 1
MAX_RANK = 8
# The description of a network with a thousand layers is below 2 MB and 100,000 values.
MAX_JSON_BYTES = 16 << 20
MAX_JSON_VALUES = 500_000
MAX_JSON_DEPTH = 64
MAX_INTEGER = 2**63 - 1
# Of a file, models among them: each takes a millisecond, its few bytes none.
MAX_LAYERS = 2000
MAX_NAME = 4096
# What Windows opens a device for, in every folder and whatever follows a dot.
_WINDOWS_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\xb9\xb2\xb3]) *([.:]|$)", re.IGNORECASE)


class FormatError(ValueError):
    """A file is not what its reader expects; the message is one line, whatever names the file has."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class MissingFileError(FormatError):
    """A file that another file names is not there."""


class MismatchError(FormatError):
    """What a file holds for a layer has not the number or the shapes of the layer's weights."""


def printable(text: str) -> str:
    """A text whose characters all have a form, for messages: others by their numbers."""
    return text if text.isprintable() else "".join(
        letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shorten(value: Any, limit: int = 80) -> str:
    """`value` as one line of at most `limit` characters, for messages."""
    # The head of a long text or list is enough: repr of the whole could be huge.
    if isinstance(value, (str, bytes)):
        value = value[: limit + 1]
    elif isinstance(value, (list, tuple)):
        value = value[:limit]
    elif isinstance(value, dict):
        value = sorted(map(str, list(value)[:limit]))
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not print integers of more than 4300 digits
        text = f"a {type(value).__name__} with a huge integer"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def fail(what: str, expected: str, received: Any, error: type[FormatError] = FormatError) -> NoReturn:
    """Raises the one-line FormatError of all readers."""
    raise error(f"{what}: expected {expected}. Received: {shorten(received)}")


# --- values ---


def checked_integer(value: Any, what: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    """Returns an integer in [low, high]; booleans and floats are none."""
    if type(value) is not int or not low <= value <= high:
        fail(what, f"an integer from {low} to {high}", value)
    return value


def checked_number(value: Any, what: str, limit: float = math.inf) -> float:
    """Returns a finite number of at most `limit` in absolute value."""
    if type(value) not in (int, float):
        fail(what, "a finite number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or abs(number) > limit:
        fail(what, "a finite number" if limit == math.inf else f"a number of at most {limit:g}", value)
    return number


def checked_string(value: Any, what: str) -> str:
    """Returns a non-empty string of printable characters."""
    if not isinstance(value, str) or not value or len(value) > MAX_NAME or not value.isprintable():
        fail(what, "a name", value)
    return value


def checked_list(value: Any, what: str) -> list[Any]:
    """Returns what should be a list of JSON; raises FormatError where it is none."""
    if not isinstance(value, list):
        fail(what, "a list", value)
    return value


def checked_dict(value: Any, what: str) -> dict[str, Any]:
    """Returns what should be an object of JSON; raises FormatError where it is none."""
    if not isinstance(value, dict):
        fail(what, "an object", value)
    return value


def unique(names: list[str], what: str) -> list[str]:
    """Returns `names`; raises where one occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            fail(what, "every name once", name)
        seen.add(name)
    return names


# --- sizes ---


def checked_product(factors: tuple[int, ...], what: str, limit: int = MAX_ELEMENTS) -> int:
    """The product of non-negative integers; raises where it exceeds `limit`.

    Every size that comes from a file is multiplied here and nowhere else.
    """
    product = 1
    for factor in factors:
        product *= checked_integer(factor, what)
        # Checked at every factor: a later 0 must not hide a product that is too large.
        if product > limit:
            fail(what, f"a size of at most {limit}", list(factors))
    return product


def checked_shape(value: Any, what: str) -> tuple[int, ...]:
    """Returns the shape of an array of at least one value: a list of positive integers, perhaps empty."""
    dimensions = checked_list(value, what)
    if len(dimensions) > MAX_RANK:
        fail(what, f"at most {MAX_RANK} dimensions", dimensions)
    shape = tuple(checked_integer(size, what, low=1, high=MAX_ELEMENTS) for size in dimensions)
    checked_product(shape, what)
    return shape


# --- JSON ---


def parse_json(data: bytes, what: str) -> Any:
    """Parses JSON strictly: UTF-8, no duplicate keys, finite numbers, bounded size and depth."""
    import json

    if len(data) > MAX_JSON_BYTES:
        fail(what, f"at most {MAX_JSON_BYTES} bytes of JSON", f"{len(data)} bytes")
    # An empty list costs Python 20 times its 3 bytes: count what becomes an object first.
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        fail(what, f"at most {MAX_JSON_VALUES} values of JSON", f"{len(data)} bytes")
    try:
        value = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_object, parse_int=_integer, parse_float=_float,
            parse_constant=_constant,
        )
    except FormatError as error:
        raise FormatError(f"{what}: {error}") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{what}: expected UTF-8 text. Received: byte {error.start} is not") from None
    except ValueError as error:
        raise FormatError(f"{what}: expected JSON. Received: {shorten(str(error))}") from None
    except RecursionError:
        raise FormatError(f"{what}: expected at most {MAX_JSON_DEPTH} levels. Received: more") from None
    check_depth(value, what)
    return value


def check_depth(value: Any, what: str, limit: int = MAX_JSON_DEPTH) -> None:
    """Raises where lists and objects are nested more than `limit` deep; does not recurse itself."""
    level = [value]
    for _ in range(limit):
        level = [
            child for node in level if isinstance(node, (list, dict))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
    fail(what, f"at most {limit} levels of JSON", "more")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        unique([key for key, _ in pairs], "an object's keys")
    return result


def _integer(text: str) -> int:
    if len(text) > 20:
        fail("a number", "an integer of 64 bits", text)
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        fail("a number", "a finite one", text)
    return number


def _constant(text: str) -> NoReturn:
    fail("a number", "a finite one", text)


# --- files ---


def check_inside(name: Any, what: str, where: str = "the model's folder") -> list[str]:
    """The parts of a path that a file states, which must be relative and lead down, with "/" between its parts.

    Raises:
        FormatError: If it is no such path.
    """
    name = checked_string(name, what)
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or re.match(r"[A-Za-z]+:", name):
        fail(what, f"a relative path inside {where}", name)
    if any(map(_WINDOWS_DEVICE.match, parts)):  # elsewhere, too: models go from one system to another
        fail(what, "no name that Windows keeps for a device", name)
    return [part for part in parts if part not in ("", ".")]


def open_inside(folder: Path, name: Any, what: str, where: str = "the model's folder") -> tuple[FileIO, int]:
    """Opens a file that a file names, for reading, if it is a regular file inside `folder`.

    Args:
        folder: The only folder to read from.
        name: A relative path with "/" between its parts, as the file states it.
        what: Subject of the error message.
        where: What the message calls the folder.

    Returns:
        The open file and its size in bytes.

    Raises:
        MissingFileError: If there is no such file.
        FormatError: If the path leads out of the folder, also by a link, or not to a plain file.
    """
    parts = check_inside(name, what, where)
    try:
        root = os.path.realpath(folder, strict=True)
        path = os.path.realpath(os.path.join(root, *parts), strict=True)
        if os.path.commonpath([root, path]) != root:
            fail(what, f"a path inside {where}", name)
        # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise MissingFileError(f"{what}: no such file in {folder}. Received: {shorten(name)}") from None
    except OSError as error:
        raise FormatError(f"{what}: {error.strerror}. Received: {shorten(name)}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        fail(what, "a plain file", name)
    return FileIO(descriptor, "rb"), status.st_size


def read_json(folder: Path, name: str) -> bytes:
    """The bytes of a JSON file in `folder`, at most MAX_JSON_BYTES of them."""
    file, size = open_inside(folder, name, str(folder / name))
    with file:
        if size > MAX_JSON_BYTES:
            fail(str(folder / name), f"at most {MAX_JSON_BYTES} bytes of JSON", f"{size} bytes")
        data = bytearray()
        while len(data) <= size and (part := file.read(size - len(data) + 1)):
            data += part
    return bytes(data)

"""The header of NumPy's `.npy` files, which are not trusted: shape and type, nothing that could become code."""

from __future__ import annotations

import tokenize
import warnings
from typing import Any

import numpy as np

from tinyconv.formats.guard import fail

__all__ = ["read_header"]

# The header of an array of eight dimensions is below 200 bytes.
_HEADER_BYTES = 4096
_NO_HEADER = (ValueError, TypeError, LookupError, SyntaxError, EOFError, MemoryError, RecursionError,
              tokenize.TokenError)


def read_header(file: Any, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """What an `.npy` file states, from its start; the values follow.

    Args:
        file: The open file.
        what: Subject of the error messages.

    Returns:
        Shape, whether the values are in column-major order, and their type.

    Raises:
        FormatError: If it is none.
    """
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote, and of odd types
            shape, by_columns, dtype = readers[version](file, max_header_size=_HEADER_BYTES)
    except _NO_HEADER as error:
        fail(what, "an .npy file", str(error))
    return shape, by_columns, dtype

"""Weights alone, as a NumPy archive: one array a weight, named "layer/weight".

The file is a plain `.npz` (a zip of `.npy` files, not compressed); `numpy.load` reads it,
and `numpy.savez` writes one that is read here.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.formats.guard import FormatError, fail, shorten
from tinyconv.formats.names import named_weights
from tinyconv.formats.npy import read_header
from tinyconv.formats.store import write_file
from tinyconv.formats.zipped import BoundedZip

__all__ = ["load_weights", "save_weights"]

# What the reader of archives raises where bytes are damaged or made up.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeDecodeError)


def save_weights(model: Any, target: Path) -> None:
    """Writes all weights of a built model; whenever the process ends, the old file or the new one is there."""
    arrays = {name: weight.value for name, weight in named_weights(model).items()}

    def write(file: Any) -> None:
        # Not np.savez: before NumPy 2.1 it takes allow_pickle=False for an array to save.
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)

    write_file(target, write)


def load_weights(model: Any, target: Path) -> None:
    """Overwrites all weights of a built model; nothing is changed where something does not fit."""
    names = named_weights(model)
    try:
        with BoundedZip(target) as archive:
            held = sorted(archive.namelist())
            if held != sorted(f"{name}.npy" for name in names):
                fail(str(target), f"the weights {sorted(names)}", [name.removesuffix(".npy") for name in held])
            arrays = [_read(archive, str(target), name, weight.shape) for name, weight in names.items()]
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        raise FormatError(f"{target}: expected an .npz archive. Received: {shorten(str(error))}") from None
    model.set_weights(arrays)


def _read(archive: zipfile.ZipFile, target: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array; its header has to say what the model expects before anything is allocated."""
    where = f"{target}, {name}"
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        fail(where, "an array stored or deflated, as NumPy writes it", f"method {entry.compress_type}")
    with archive.open(entry) as file:
        found, by_columns, dtype = read_header(file, where)
        if found != shape or dtype.kind != "f":
            fail(where, f"floats of shape {shape}", f"{dtype} of shape {found}")
        size = math.prod(shape) * dtype.itemsize
        data = file.read(size + 1)
    if len(data) != size:
        fail(where, f"{size} bytes", f"{'more' if len(data) > size else len(data)}")
    values = np.frombuffer(data, dtype)
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        return (values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)).astype(np.float32)

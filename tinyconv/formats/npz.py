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

from tinyconv.formats.guard import FormatError, MismatchError, fail, shorten
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


def load_weights(model: Any, target: Path, skip_mismatch: bool = False) -> list[str]:
    """Overwrites all weights of a built model; nothing is changed where something does not fit.

    Args:
        model: The model.
        target: The file.
        skip_mismatch: Whether layers keep their weights where those of the file are others.

    Returns:
        A line for each layer that was skipped.
    """
    names = named_weights(model)
    skipped: list[str] = []
    try:
        with BoundedZip(target) as archive:
            held = sorted(archive.namelist())
            if not skip_mismatch and held != sorted(f"{name}.npy" for name in names):
                fail(str(target), f"the weights {sorted(names)}", [name.removesuffix(".npy") for name in held])
            arrays: list[np.ndarray] = []
            for layer in model.layers:
                try:
                    arrays += [_read(archive, str(target), f"{layer.name}/{weight.name}", weight.shape)
                               for weight in layer.weights]
                except MismatchError as error:
                    if not skip_mismatch:
                        raise
                    skipped.append(f"Layer '{layer.name}' keeps its weights. {error}")
                    arrays += [weight.value for weight in layer.weights]
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        raise FormatError(f"{target}: expected an .npz archive. Received: {shorten(str(error))}") from None
    model.set_weights(arrays)
    return skipped


def _read(archive: zipfile.ZipFile, target: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array; its header has to say what the model expects before anything is allocated."""
    where = f"{target}, {name}"
    if f"{name}.npy" not in archive.NameToInfo:
        fail(where, "such an array", "none", MismatchError)
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        fail(where, "an array stored or deflated, as NumPy writes it", f"method {entry.compress_type}")
    with archive.open(entry) as file:
        found, by_columns, dtype = read_header(file, where)
        if found != shape or dtype.kind != "f":
            fail(where, f"floats of shape {shape}", f"{dtype} of shape {found}",
                 FormatError if found == shape else MismatchError)
        size = math.prod(shape) * dtype.itemsize
        data = file.read(size + 1)
    if len(data) != size:
        fail(where, f"{size} bytes", f"{'more' if len(data) > size else len(data)}")
    values = np.frombuffer(data, dtype)
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        return (values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)).astype(np.float32)

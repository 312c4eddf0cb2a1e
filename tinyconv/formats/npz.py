"""Weights alone, as a NumPy archive: one array a weight, named "layer/weight".

The file is a plain `.npz` (a zip of `.npy` files, not compressed); `numpy.load` reads it,
and `numpy.savez` writes one that is read here.
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.formats.guard import FormatError, fail, shorten
from tinyconv.formats.store import write_file

__all__ = ["check_weights_path", "load_weights", "save_weights"]

# The header of an array of eight dimensions is below 200 bytes.
_HEADER_BYTES = 4096


def check_weights_path(path: Any) -> Path:
    """The path, where it is one of an `.npz` file; raises ValueError otherwise."""
    if not isinstance(path, (str, os.PathLike)) or not str(path).endswith(".npz"):
        raise ValueError("Expected the name of a file that ends in '.npz' for weights alone. "
                         f"Received: {shorten(str(path))}")
    return Path(path)


def save_weights(model: Any, path: Any) -> None:
    """Writes all weights of a built model; whenever the process ends, the old file or the new one is there."""
    target = check_weights_path(path)
    arrays = {name: weight.value for name, weight in _names(model).items()}

    def write(file: Any) -> None:
        np.savez(file, allow_pickle=False, **arrays)

    write_file(target, write)


def load_weights(model: Any, path: Any) -> None:
    """Overwrites all weights of a built model; nothing is changed where something does not fit."""
    target = check_weights_path(path)
    names = _names(model)
    try:
        with zipfile.ZipFile(target) as archive:
            held = {name.removesuffix(".npy") for name in archive.namelist()}
            if held != set(names):
                fail(str(target), f"the weights {sorted(names)}", sorted(held))
            arrays = [_read(archive, name, weight.shape) for name, weight in names.items()]
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise FormatError(f"{target}: expected an .npz archive. Received: {shorten(str(error))}") from None
    model.set_weights(arrays)


def _names(model: Any) -> dict[str, Any]:
    return {f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights}


def _read(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array; its header has to say what the model expects before anything is allocated."""
    with archive.open(f"{name}.npy") as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"version {version}")
            read = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                    else np.lib.format.read_array_header_2_0)
            found, fortran, dtype = read(file, max_header_size=_HEADER_BYTES)
        except ValueError as error:
            fail(f"{archive.filename}, {name}", "a NumPy array", str(error))
        if found != shape or dtype.kind != "f":
            fail(f"{archive.filename}, {name}", f"floats of shape {shape}", f"{dtype} of shape {found}")
        size = math.prod(shape) * dtype.itemsize
        data = file.read(size + 1)
    if len(data) != size:
        fail(f"{archive.filename}, {name}", f"{size} bytes", f"{'more' if len(data) > size else len(data)}")
    values = np.frombuffer(data, dtype)
    return (values.reshape(shape[::-1]).T if fortran else values.reshape(shape)).astype(np.float32)

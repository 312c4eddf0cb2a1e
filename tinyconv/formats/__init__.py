"""Reading and writing models: one file a format, all checks of untrusted files in `guard`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tinyconv.formats.guard import FormatError, fail, shorten

__all__ = ["FormatError", "check_save_path", "check_weights_path", "is_keras_file", "load_model", "load_weights",
           "save_model", "save_weights"]

# Suffixes of Keras' files; other single files cannot be written, and a folder of such a name is a mistake.
_KERAS_SUFFIXES = {".h5", ".hdf5", ".keras"}
_FILE_SUFFIXES = _KERAS_SUFFIXES | {".npz", ".onnx", ".pb", ".safetensors", ".tflite", ".zip"}
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK"


def save_model(model: Any, path: str | os.PathLike[str], include_optimizer: bool = True,
               dialect: str | None = None) -> None:
    """Saves a model: as Keras' file where the path ends in `.keras` or `.h5`, else for TensorFlow.js.

    Training goes on from the saved model bit for bit as it would have here.  A model that
    is there already is replaced; whenever the process ends meanwhile, the old model or the
    new one is there.  Other files in a folder are left alone.

    Args:
        model: A built `Sequential`.
        path: A file that ends in `.keras`, `.h5` or `.hdf5`; or the folder of a TensorFlow.js
            LayersModel, created where it is missing, or the model.json in it.
        include_optimizer: Whether to save compile settings, the optimizer's state and the
            state of training. Defaults to True.
        dialect: Who is to read a Keras file, "keras3", or for `.h5` "keras2" (Keras 2 and
            TensorFlow.js' converter). Defaults to None: "keras3".

    Raises:
        ValueError: If the model is not built, or cannot be written in this format.
        ImportError: If h5py is not installed, for Keras' files.
        OSError: If the file or folder cannot be written.
    """
    target = check_save_path(path)
    if is_keras_file(target):
        from tinyconv.formats import keras

        keras.save(model, target, include_optimizer, dialect or "keras3")
        return
    if dialect is not None:
        raise ValueError("save expected a dialect for .keras and .h5 files only. "
                         f"Received: dialect={dialect!r}, path={os.fspath(path)!r}")
    from tinyconv.formats import tfjs

    tfjs.save(model, target, include_optimizer)


def is_keras_file(path: Path) -> bool:
    """Whether a path is that of one of Keras' files, by its suffix."""
    return path.suffix.lower() in _KERAS_SUFFIXES and not path.is_dir()


def check_save_path(path: str | os.PathLike[str]) -> Path:
    """The file or folder that `save_model` would write to.

    Raises:
        ValueError: If the path cannot be that of a file or folder that is written here.
        ImportError: If h5py is not installed, for Keras' files.
    """
    from tinyconv.formats import hdf5, store

    target = _as_path(path, "save_model")
    if is_keras_file(target):
        if target.name.endswith(".weights.h5"):
            raise ValueError("save_model expected a name for a whole model, such as 'my_model.keras'; weights alone "
                             f"are saved by save_weights. Received: path={os.fspath(target)!r}")
        hdf5.import_h5py()
        return target
    if target.name == store.DESCRIPTION and not target.is_dir():
        target = target.parent
    if target.suffix.lower() in _FILE_SUFFIXES or (target.exists() and not target.is_dir()):
        raise ValueError("save_model expected a file that ends in .keras or .h5, or the name of a folder, such as "
                         "'my_model': a TensorFlow.js LayersModel is one. "
                         f"Received: path={os.fspath(target)!r}")
    return target


def load_model(path: str | os.PathLike[str]) -> Any:
    """Loads a model of this or any other origin, whatever its format: the content tells.

    Args:
        path: A `.keras` or `.h5` file of Keras; or the folder of a TensorFlow.js LayersModel,
            or the model.json in it.

    Returns:
        A `Sequential`, compiled where the file has a training configuration that can be used.

    Raises:
        FormatError: A ValueError: if a file is missing, damaged, or not such a model.
        ImportError: If h5py is not installed, for Keras' files.
    """
    target = _as_path(path, "load_model")
    suffix = target.suffix.lower()
    if suffix == ".npz" and not target.is_dir():
        raise FormatError("load_model expected a whole model, an .npz file holds weights alone: create the model, "
                          f"then call its load_weights. Received: path={os.fspath(target)!r}")
    start = _first_bytes(target)
    if suffix in _KERAS_SUFFIXES and start is not None or start in (_HDF5_MAGIC, _ZIP_MAGIC):
        from tinyconv.formats import keras

        return keras.load(target)
    from tinyconv.formats import tfjs

    return tfjs.load(target)


def _first_bytes(path: Path) -> bytes | None:
    """What a file begins with, as far as it tells a format; None where it is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(len(_HDF5_MAGIC))
    return _ZIP_MAGIC if start.startswith(_ZIP_MAGIC) else start


def save_weights(model: Any, path: str | os.PathLike[str]) -> None:
    """Saves all weights of a built model, by the suffix: `.npz` or `.weights.h5`.

    Raises:
        ValueError: If the path ends otherwise.
    """
    target = check_weights_path(path)
    if target.suffix == ".npz":
        from tinyconv.formats import npz

        npz.save_weights(model, target)
        return
    from tinyconv.formats import keras

    keras.save_weights(model, target)


def check_weights_path(path: Any) -> Path:
    """The file that `save_weights` would write to.

    Raises:
        ValueError: If the path does not end in `.npz` or `.weights.h5`.
        ImportError: If h5py is not installed, for `.weights.h5`.
    """
    from tinyconv.formats import hdf5

    if not isinstance(path, (str, os.PathLike)) or not str(path).endswith((".npz", ".weights.h5")):
        raise ValueError("Expected the name of a file that ends in '.npz' or '.weights.h5' for weights alone. "
                         f"Received: {shorten(str(path))}")
    if not str(path).endswith(".npz"):
        hdf5.import_h5py()
    return Path(path)


def load_weights(model: Any, path: str | os.PathLike[str]) -> None:
    """Overwrites all weights of a built model: from `.npz`, or any `.weights.h5`, `.h5` or `.keras` of Keras.

    Raises:
        ValueError: If the path ends otherwise, or the file does not fit the model; nothing is changed then.
    """
    target = _as_path(path, "load_weights")
    if target.exists() and not target.is_file():  # opening a named pipe would wait for a writer for ever
        fail("load_weights", "a plain file", os.fspath(target))
    if target.suffix.lower() in _KERAS_SUFFIXES:
        from tinyconv.formats import keras

        keras.load_weights(model, target)
        return
    from tinyconv.formats import npz

    npz.load_weights(model, check_weights_path(target))


def _as_path(path: Any, function: str) -> Path:
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or "\0" in str(path):
        raise ValueError(f"{function} expected a path. Received: path={path!r}")
    return Path(path)

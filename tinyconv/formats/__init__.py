"""Reading and writing models: one file a format, all checks of untrusted files in `guard`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tinyconv.formats.guard import FormatError

__all__ = ["FormatError", "check_save_path", "load_model", "save_model"]

# Suffixes of formats that are a single file: a folder of such a name is a mistake.
_FILE_SUFFIXES = {".h5", ".hdf5", ".keras", ".npz", ".onnx", ".pb", ".safetensors", ".tflite", ".zip"}


def save_model(model: Any, path: str | os.PathLike[str], include_optimizer: bool = True) -> None:
    """Saves a model as a TensorFlow.js LayersModel: a folder with model.json and weights.bin.

    Training goes on from the saved model bit for bit as it would have here.  A model that
    is in the folder already is replaced; whenever the process ends meanwhile, the folder
    holds the old model or the new one.  Other files in the folder are left alone.

    Args:
        model: A built `Sequential`.
        path: The folder, created where it is missing, or the model.json in it.
        include_optimizer: Whether to save compile settings, the optimizer's state and the
            state of training. Defaults to True.

    Raises:
        ValueError: If the model is not built, or cannot be written in this format.
        OSError: If the folder cannot be written.
    """
    from tinyconv.formats import tfjs

    tfjs.save(model, check_save_path(path), include_optimizer)


def check_save_path(path: str | os.PathLike[str]) -> Path:
    """The folder that `save_model` would write to.

    Raises:
        ValueError: If the path cannot be that of a folder.
    """
    from tinyconv.formats import store

    folder = _as_path(path, "save_model")
    if folder.name == store.DESCRIPTION and not folder.is_dir():
        folder = folder.parent
    if folder.suffix.lower() in _FILE_SUFFIXES or (folder.exists() and not folder.is_dir()):
        raise ValueError("save_model expected the name of a folder, such as 'my_model': a TensorFlow.js "
                         f"LayersModel is one. Received: path={os.fspath(folder)!r}")
    return folder


def load_model(path: str | os.PathLike[str]) -> Any:
    """Loads a model from a TensorFlow.js LayersModel, of this or any other origin.

    Args:
        path: The folder, or the model.json in it.

    Returns:
        A `Sequential`, compiled where the file has a training configuration that can be used.

    Raises:
        FormatError: A ValueError: if a file is missing, damaged, or not such a model.
    """
    from tinyconv.formats import tfjs

    return tfjs.load(_as_path(path, "load_model"))


def _as_path(path: Any, function: str) -> Path:
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or "\0" in str(path):
        raise ValueError(f"{function} expected a path. Received: path={path!r}")
    return Path(path)

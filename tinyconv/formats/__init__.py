"""Reading and writing models: one file a format, all checks of untrusted files in `guard`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv.formats.guard import MAX_LAYERS, FormatError, fail, shorten

if TYPE_CHECKING:
    from tinyconv.formats.torch.network import torch_modules, torch_names

__all__ = ["WEIGHTS_SUFFIXES", "FormatError", "check_save_path", "check_weights_path", "export_onnx", "is_model_file",
           "load_model", "load_weights", "save_model", "save_weights", "torch_modules", "torch_names"]

# Suffixes of Keras' files; other single files cannot be written, and a folder of such a name is a mistake.
_KERAS_SUFFIXES = {".h5", ".hdf5", ".keras"}
_ONNX_SUFFIX = ".onnx"
_FILE_SUFFIXES = _KERAS_SUFFIXES | {".json", ".npz", _ONNX_SUFFIX, ".pb", ".pt", ".pth", ".safetensors", ".tflite",
                                    ".zip"}
# Of files with weights alone.
WEIGHTS_SUFFIXES = (".npz", ".safetensors", ".weights.h5")
# Which formats have which options of `save_model`.
_OPTIONS = {"dialect": ("keras", "folder"), "opset": ("onnx",), "data_format": ("onnx",),
            "quantization": ("folder",), "shard_bytes": ("folder",)}
_PLACES = {"keras": ".keras and .h5 files", "onnx": ".onnx files", "folder": "TensorFlow.js' folders"}
_LEAST_SHARD = 1024
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK"
# The number of the version, one byte long, and another field of text or of a graph.
_ONNX_START, _ONNX_FIELDS = b"\x08", (b"\x12", b"\x1a", b"\x22", b"\x32", b"\x3a", b"\x42")


def save_model(model: Any, path: str | os.PathLike[str], include_optimizer: bool = True,
               dialect: str | None = None, opset: int | None = None, data_format: str | None = None,
               quantization: str | None = None, shard_bytes: int | None = None) -> None:
    """Saves a model: as Keras' file where the path ends in `.keras` or `.h5`, as ONNX' where it ends in
    `.onnx`, else for TensorFlow.js.

    Training goes on from the saved model bit for bit as it would have here, but from ONNX files and
    quantized weights, which are for prediction.  A model that is there already is replaced; whenever the
    process ends meanwhile, the old model or the new one is there.  Other files in a folder are left alone.

    Args:
        model: A built `Sequential`.
        path: A file that ends in `.keras`, `.h5`, `.hdf5` or `.onnx`; or the folder of a TensorFlow.js
            LayersModel, created where it is missing, or the model.json in it.
        include_optimizer: Whether to save compile settings, the optimizer's state and the
            state of training. Defaults to True.
        dialect: Who is to read a Keras file, "keras3", or for `.h5` "keras2" (Keras 2 and
            TensorFlow.js' converter); for a folder "tinyconv", which may then hold what TensorFlow.js
            lacks. Defaults to None: "keras3", and a folder that TensorFlow.js reads.
        opset: Version of the operators in an ONNX file, 13 or later. Defaults to None: 13.
        data_format: How images and sequences enter and leave an ONNX file's model, "channels_last" or
            "channels_first". Defaults to None: "channels_last", as here.
        quantization: How TensorFlow.js' weights are made smaller: "uint8", "uint16" or "float16", see
            `formats.quantize`. Defaults to None: float32.
        shard_bytes: Bytes of every file of TensorFlow.js' weights but the last, 1024 or more; browsers
            keep files of up to 4 MiB. Defaults to None: one file.

    Raises:
        ValueError: If the model is not built, or cannot be written in this format.
        ImportError: If h5py or onnx is not installed, for Keras' and ONNX' files.
        OSError: If the file or folder cannot be written.
    """
    target = check_save_path(path)
    _check_count(model)
    kind = "onnx" if _is_onnx_file(target) else "keras" if _is_keras_file(target) else "folder"
    _check_options(kind, path, dialect=dialect, opset=opset, data_format=data_format, quantization=quantization,
                   shard_bytes=shard_bytes)
    if kind == "onnx":
        from tinyconv.formats import onnx

        onnx.save(model, target, opset, data_format)
    elif kind == "keras":
        from tinyconv.formats import keras

        keras.save(model, target, include_optimizer, dialect or "keras3")
    else:
        from tinyconv.formats import tfjs

        tfjs.save(model, target, include_optimizer, quantization, shard_bytes, is_own=dialect is not None)


def export_onnx(model: Any, path: str | os.PathLike[str], opset: int | None = None) -> None:
    """Writes an ONNX file, whatever its name ends in.

    Args:
        model: A built `Sequential`.
        path: The file.
        opset: Version of the operators, 13 or later. Defaults to None: 13.
    """
    from tinyconv.formats import onnx

    onnx.save(model, _as_path(path, "export"), opset)


def _check_count(model: Any) -> None:
    """Raises where a file of the model would have more layers than readers here take."""
    if len(model.layers) > MAX_LAYERS:
        raise ValueError(f"save expected at most {MAX_LAYERS} layers, no file of more is read. "
                         f"Received: model '{model.name}' of {len(model.layers)} layers")


def _check_options(kind: str, path: Any, **options: Any) -> None:
    """Raises where an option of `save_model` is not one of the format, or has a value that folders have not."""
    for name, value in options.items():
        if value is not None and kind not in _OPTIONS[name]:
            places = " and ".join(_PLACES[place] for place in _OPTIONS[name])
            raise ValueError(f"save expected {name} for {places} only. "
                             f"Received: {name}={value!r}, path={os.fspath(path)!r}")
    if kind == "folder" and options["dialect"] not in (None, "tinyconv"):
        raise ValueError("save expected dialect to be None or 'tinyconv' for a folder. "
                         f"Received: dialect={options['dialect']!r}")
    size = options["shard_bytes"]
    if size is not None and (type(size) is not int or size < _LEAST_SHARD):
        raise ValueError(f"save expected shard_bytes to be an integer of {_LEAST_SHARD} or more. "
                         f"Received: shard_bytes={size!r}")


def is_model_file(path: Path) -> bool:
    """Whether a path is that of a file with a whole model, by its suffix."""
    return _is_keras_file(path) or _is_onnx_file(path)


def _is_keras_file(path: Path) -> bool:
    return path.suffix.lower() in _KERAS_SUFFIXES and not path.is_dir()


def _is_onnx_file(path: Path) -> bool:
    return path.suffix.lower() == _ONNX_SUFFIX and not path.is_dir()


def check_save_path(path: str | os.PathLike[str], model: Any = None) -> Path:
    """The file or folder that `save_model` would write to.

    Args:
        path: As for `save_model`.
        model: A built model that is to be saved, or None.

    Raises:
        ValueError: If the path cannot be that of a file or folder that is written here, or the model
            cannot be saved in such a folder.
        ImportError: If h5py or onnx is not installed, for Keras' and ONNX' files.
        OSError: If nothing can be created there.
    """
    from tinyconv.formats import hdf5, store

    target = _as_path(path, "save_model")
    if model is not None:
        _check_count(model)
    store.check_place(target)
    if _is_onnx_file(target):
        from tinyconv.formats import onnx

        onnx.import_onnx()
        return target
    if _is_keras_file(target):
        if target.name.endswith(".weights.h5"):
            raise ValueError("save_model expected a name for a whole model, such as 'my_model.keras'; weights alone "
                             f"are saved by save_weights. Received: path={os.fspath(target)!r}")
        hdf5.import_h5py()
        return target
    if target.name == store.DESCRIPTION and not target.is_dir():
        target = target.parent
    if target.suffix.lower() in _FILE_SUFFIXES or (target.exists() and not target.is_dir()):
        raise ValueError("save_model expected a file that ends in .keras, .h5 or .onnx, or the name of a folder, such "
                         "as 'my_model': a TensorFlow.js LayersModel is one. "
                         f"Received: path={os.fspath(target)!r}")
    if model is not None:
        from tinyconv.formats import tfjs

        tfjs.check(model)
    return target


def load_model(path: str | os.PathLike[str]) -> Any:
    """Loads a model of this or any other origin, whatever its format: the content tells.

    Args:
        path: A `.keras` or `.h5` file of Keras; a `.onnx` file whose operators are a chain; or the
            folder of a TensorFlow.js LayersModel, or the model.json in it, or that one's address on a
            server (http or https).

    Returns:
        A `Sequential`, compiled where the file has a training configuration that can be used.

    Raises:
        FormatError: A ValueError: if a file is missing, damaged, or not such a model.
        DownloadError: An OSError: if a server does not send a file.
        ImportError: If h5py or onnx is not installed, for Keras' and ONNX' files.
    """
    if isinstance(path, str) and "://" in path:
        from tinyconv.formats import remote

        return remote.load(path)
    target = _as_path(path, "load_model")
    suffix = target.suffix.lower()
    if suffix in WEIGHTS_SUFFIXES and not target.is_dir():
        raise FormatError(f"load_model expected a whole model, a file {suffix} holds weights alone: create the model, "
                          f"then call its load_weights. Received: path={os.fspath(target)!r}")
    start = _first_bytes(target)
    if suffix in _KERAS_SUFFIXES and start is not None or start in (_HDF5_MAGIC, _ZIP_MAGIC):
        from tinyconv.formats import keras

        return keras.load(target)
    if start is not None and (suffix == _ONNX_SUFFIX or start[:1] == _ONNX_START and start[2:3] in _ONNX_FIELDS):
        from tinyconv.formats import onnx

        return onnx.load(target)
    if start is not None and suffix != ".json" and not start.lstrip().startswith(b"{"):
        raise FormatError("load_model expected a file of Keras or ONNX, or the model.json of TensorFlow.js. "
                          f"Received: path={os.fspath(target)!r}")
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
    """Saves all weights of a built model, by the suffix: `.npz`, `.safetensors` or `.weights.h5`.

    Raises:
        ValueError: If the path ends otherwise.
    """
    target = check_weights_path(path)
    _weights_module(target).save_weights(model, target)


def check_weights_path(path: Any) -> Path:
    """The file that `save_weights` would write to.

    Raises:
        ValueError: If the path does not end in `.npz`, `.safetensors` or `.weights.h5`.
        ImportError: If h5py is not installed, for `.weights.h5`, or safetensors, for `.safetensors`.
        OSError: If no file can be created there.
    """
    from tinyconv.formats import store

    if not isinstance(path, (str, os.PathLike)) or not str(path).endswith(WEIGHTS_SUFFIXES):
        raise ValueError("Expected the name of a file that ends in '.npz', '.safetensors' or '.weights.h5' for weights "
                         f"alone. Received: {shorten(os.fspath(path) if isinstance(path, os.PathLike) else path)}")
    target = Path(path)
    store.check_place(target)
    if target.suffix == ".h5":
        from tinyconv.formats import hdf5

        hdf5.import_h5py()
    elif target.suffix == ".safetensors":
        from tinyconv.formats import safetensors

        safetensors.import_safetensors()
    return target


def _weights_module(target: Path) -> Any:
    """What reads and writes weights in files of such a name."""
    if target.suffix == ".npz":
        from tinyconv.formats import npz

        return npz
    if target.suffix == ".safetensors":
        from tinyconv.formats import safetensors

        return safetensors
    from tinyconv.formats import keras

    return keras


def load_weights(model: Any, path: str | os.PathLike[str], skip_mismatch: bool = False,
                 by_name: bool = False) -> list[str]:
    """Overwrites the weights of a built model.

    Args:
        model: The model.
        path: A file that ends in `.npz` or `.safetensors`; or any `.weights.h5`, `.h5` or `.keras` of Keras.
        skip_mismatch: Whether layers keep their weights where those of the file have other shapes or
            another number. Defaults to False: that is an error.
        by_name: Whether layers of an `.h5` file go by their names; those that it has not keep their
            weights. Defaults to False: by their order.

    Returns:
        A line for each layer that was skipped.

    Raises:
        ValueError: If the path ends otherwise, or the file does not fit the model; nothing is changed then.
        FileNotFoundError: If there is no such file.
        ImportError: If the package that reads such a file is not installed.
    """
    target = _as_path(path, "load_weights")
    if target.exists() and not target.is_file():  # opening a named pipe would wait for a writer for ever
        fail("load_weights", "a plain file", os.fspath(target))
    if target.suffix.lower() not in _KERAS_SUFFIXES and not target.name.endswith(WEIGHTS_SUFFIXES):
        raise ValueError("load_weights expected a file that ends in .npz, .safetensors, .weights.h5, .h5 or .keras. "
                         f"Received: path={os.fspath(target)!r}")
    is_legacy = target.suffix.lower() in (".h5", ".hdf5") and not target.name.endswith(".weights.h5")
    if by_name and not is_legacy:
        raise ValueError("load_weights expected by_name=True for .h5 and .hdf5 files only. "
                         f"Received: by_name={by_name!r}, path={os.fspath(target)!r}")
    if not target.exists():
        raise FileNotFoundError(f"load_weights expected a file. Received: {target} (missing)")
    options = {"by_name": True} if by_name else {}
    return list(_weights_module(target).load_weights(model, target, skip_mismatch, **options))


def _as_path(path: Any, function: str) -> Path:
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or "\0" in str(path):
        raise ValueError(f"{function} expected a path. Received: path={path!r}")
    return Path(path)


def __getattr__(name: str) -> Any:
    """Functions of other modules of this folder, imported when they are asked for."""
    if name in ("torch_modules", "torch_names"):
        from tinyconv.formats.torch import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

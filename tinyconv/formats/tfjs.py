"""TensorFlow.js LayersModel folders: model.json and binary weights.

What is written loads in TensorFlow.js (4.22) with `tf.loadLayersModel`, for
prediction and for further training; a folder saved there loads here.  What
TensorFlow.js lacks is refused, or marked with `keras2.PRIVATE` so that it is
refused there.  The parts:

==================== ==========================================================
modelTopology        the layers, in the Keras 2 dialect (`formats.keras2`)
weightsManifest      names and shapes of the weights; the optimizer's state too,
                     marked "group": "optimizer" as TensorFlow.js does
                     (`formats.optimizer`); "sha256" of the files, for readers
                     that look at it; "quantization" where asked for (`formats.quantize`)
trainingConfig       loss, metrics and optimizer, as far as TensorFlow.js has them
userDefinedMetadata  under "tinyconv": the compile settings in full, and what
                     else training goes on from; names of classes, and how
                     pictures become inputs (`formats.metadata`)
==================== ==========================================================
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.formats import keras2, optimizer, store
from tinyconv.formats.assemble import build_model, expected_weights, guarded
from tinyconv.formats.guard import (
    FormatError,
    MissingFileError,
    checked_dict,
    fail,
    parse_json,
    read_json,
)
from tinyconv.formats.manifest import Group, Shards, match, parse_manifest
from tinyconv.formats.metadata import OWN, own_part, read_own_part, write_own_part
from tinyconv.formats.quantize import QUANTIZATIONS, quantize
from tinyconv.formats.topology import read_topology
from tinyconv.formats.training import compile_as_written, read_training_config, write_training_config
from tinyconv.formats.writing import check_built, dump_json

__all__ = ["check", "load", "read", "save"]

# How often a folder is read again that another process saves to meanwhile.
_ATTEMPTS = 5
# Most files of weights that are written: as many are open at a time.
_MAX_SHARDS = 256


# --- saving ---


def save(model: Any, folder: Path, include_optimizer: bool = True, quantization: str | None = None,
         shard_bytes: int | None = None, is_own: bool = False) -> None:
    """Writes `model` into `folder`, in place of the model that is there. See `formats.save_model`."""
    topology = check(model, is_own)
    if quantization not in (None, *QUANTIZATIONS):
        raise ValueError(f"save expected quantization to be None or one of {list(QUANTIZATIONS)}. "
                         f"Received: quantization={quantization!r}")
    tensors = [_tensor(keras2.weight_name(layer, weight.name), weight.value, quantization)
               for layer in model.layers for weight in layer.weights]
    document: dict[str, Any] = {
        "format": "layers-model", "generatedBy": _generator(), "convertedBy": None, "modelTopology": topology,
    }
    settings = model.get_compile_config() if include_optimizer else None
    goes_on = include_optimizer and quantization is None
    if settings is not None:
        tensors += [({**_spec(name, array), "group": "optimizer"}, array)
                    for name, array in (optimizer.write_state(model) if goes_on else [])]
        config = write_training_config(settings, model.output_shape[-1], goes_on and bool(model.optimizer.built))
        if config is not None:
            document["trainingConfig"] = config
    document["userDefinedMetadata"] = {OWN: write_own_part(model, settings, goes_on)}

    def write_weights(append: Any) -> None:
        for _, array in tensors:
            append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8))

    def describe(names: list[str], digests: list[str]) -> bytes:
        group = {"paths": names, "weights": [spec for spec, _ in tensors], "sha256": digests}
        return dump_json({**document, "weightsManifest": [group]})

    dump_json(document)  # what JSON cannot hold is found before anything is written
    count = math.ceil(sum(array.nbytes for _, array in tensors) / (shard_bytes or sys.maxsize))
    if count > _MAX_SHARDS:
        raise ValueError(f"save expected shard_bytes for at most {_MAX_SHARDS} files of weights. "
                         f"Received: shard_bytes={shard_bytes} for {count}")
    store.commit(folder, write_weights, describe, shard_bytes)


def check(model: Any, is_own: bool = False) -> dict[str, Any]:
    """The description of a model's layers.

    Args:
        model: The model.
        is_own: Whether what TensorFlow.js lacks may be in it, for this package alone.

    Raises:
        ValueError: If the model is not built, or has what TensorFlow.js lacks.
    """
    check_built(model)
    topology, private = keras2.write_topology(model)
    if private and not is_own:
        names = ", ".join(dict.fromkeys(private))
        raise ValueError("save expected for a folder what TensorFlow.js has and computes alike; a .keras file holds "
                         "every model, and with dialect='tinyconv' a folder does, for tinyconv alone. "
                         f"Received: {names if len(names) <= 200 else names[:197] + '...'}")
    return topology


def _tensor(name: str, array: np.ndarray, quantization: str | None) -> tuple[dict[str, Any], np.ndarray]:
    """A weight's entry in the manifest, and what is stored of it."""
    if quantization is None:
        return _spec(name, array), array
    stored, how = quantize(array, quantization, name)
    return {**_spec(name, array), "quantization": how}, stored


def _spec(name: str, array: np.ndarray) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}


def _generator() -> str:
    from tinyconv import __version__

    return f"{store.GENERATOR} {__version__}"


# --- loading ---


def load(path: Path) -> Any:
    """Reads the model of a folder or a model.json. See `formats.load_model`."""
    folder, name = (path, store.DESCRIPTION) if path.is_dir() else (path.parent, path.name)
    if not path.exists():
        raise MissingFileError(f"load_model expected a model's folder or file. Received: {path} (missing)")
    for attempt in range(_ATTEMPTS):
        data = read_json(folder, name)
        try:
            return read(parse_json(data, "JSON"), lambda groups: (folder, groups))
        except FormatError as error:
            # A save that ended just now took the old weights away: read what it wrote.
            if attempt + 1 == _ATTEMPTS or read_json(folder, name) == data:
                raise FormatError(f"{folder / name}: {error}") from None
    raise AssertionError("unreachable")


def read(document: Any, place: Callable[[list[Group]], tuple[Path, list[Group]]]) -> Any:
    """The model of a parsed model.json.

    Args:
        document: What is in the file.
        place: Called with the groups of weights when everything else is right; returns the folder of
            their files, and the groups by their names there.

    Raises:
        FormatError: If it is not a model, or its files do not fit it.
    """
    document = checked_dict(document, "the file")
    if document.get("format") not in (None, "layers-model"):
        fail("format", "layers-model (graph models hold TensorFlow operations, not layers)",
             document["format"])
    if document.get("modelTopology") is None and "class_name" in document:
        raise FormatError("the file: expected a model with its weights. Received: layers alone, as Keras' to_json "
                          "writes them; model_from_json reads it")
    if "modelTopology" not in document:
        fail("the file", "an object with modelTopology, a model of TensorFlow.js", list(document))
    name, entries, training = read_topology(document.get("modelTopology"))
    if document.get("weightsManifest") is None:
        fail("weightsManifest", "the model's weights", None)
    groups = parse_manifest(document["weightsManifest"])
    _add_depth_multipliers(entries, groups)
    created = keras2.create_layers(entries)
    expected = expected_weights(created)
    specs = [spec for group in groups for spec in group.specs if not spec.is_optimizer]
    targets = dict(zip((spec.name for spec in specs), match(expected, specs)))
    folder, groups = place(groups)
    opened: set[tuple[int, int]] = set()
    shards: list[Shards] = []
    try:
        for group in groups:
            shards.append(Shards(folder, group, opened))
        # Only now, when the files are as long as the shapes say, is memory taken for the weights.
        model = build_model(created, name)
        moments = [spec for group in groups for spec in group.specs if spec.is_optimizer]
        restore = _compile(model, document, training, bool(moments))
        state = optimizer.StateReader(model, moments, restore)
        arrays = [weight.value for weight in model.weights]
        for group, files in zip(groups, shards):
            _read_group(group, files, targets, arrays, state)
    finally:
        for files in shards:
            files.close()
    for layer in model.layers:
        layer._changed()
    state.finish()
    read_own_part(model, own_part(document.get("userDefinedMetadata")), "userDefinedMetadata")
    return model


def _add_depth_multipliers(entries: list[dict[str, Any]], groups: list[Group]) -> None:
    """Takes from the shape of a weight what TensorFlow.js leaves out when it saves a SeparableConv2D."""
    shapes = {spec.name: spec.shape for group in groups for spec in group.specs}
    for entry in entries:
        config = entry["config"]
        shape = shapes.get(f"{config.get('name')}/depthwise_kernel", ())
        if entry["class_name"] == "SeparableConv2D" and len(shape) == 4:
            config.setdefault("depth_multiplier", shape[3])


def _read_group(group: Group, files: Shards, targets: dict[str, int], arrays: list[np.ndarray],
                state: optimizer.StateReader) -> None:
    for spec in group.specs:
        files.read(spec, state.target(spec) if spec.is_optimizer else arrays[targets[spec.name]])
    files.finish()


def _compile(model: Any, document: dict[str, Any], training: dict[str, Any] | None, has_state: bool) -> bool:
    """Compiles the model as the file says; returns whether its optimizer state is to be restored."""
    own = own_part(document.get("userDefinedMetadata"))
    settings = None if own is None else own.get("compile")
    config = document.get("trainingConfig", training)
    if settings is not None:
        checked_dict(settings, "compile settings")
        written = guarded("compile settings", write_training_config, settings, model.output_shape[-1], has_state)
        # TensorFlow.js keeps our part when it saves: after other settings there, its own count.
        if _same(config, written):
            guarded("compile settings", model._compile_from, settings)
            return True
    return compile_as_written(model, config, "trainingConfig")


def _same(config: Any, written: dict[str, Any] | None) -> bool:
    if config is None or written is None:
        return config is written
    try:
        return read_training_config(config) == read_training_config(written)
    except keras2.BAD_SETTINGS:
        return False

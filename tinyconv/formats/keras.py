"""Keras' files: `.keras`, `.h5` and `.weights.h5`.  Needs h5py, the extra `[keras]`.

========================= ==========================================================
`.keras`                  a zip archive: config.json (layers and compile settings),
                          metadata.json, model.weights.h5 (weights, optimizer)
`.h5`, `.hdf5`            one HDF5 file; the JSON is in its attributes
`.weights.h5`             model.weights.h5 alone
========================= ==========================================================

Read: what Keras 1 to 3 wrote, `Sequential` or a functional model that is a plain chain, models within
models as well.
Written: what Keras 3 loads, or for `.h5` on request what Keras 2 does (and TensorFlow.js'
converter, which is built on it).  What these files have no place for goes into a
"tinyconv" part, which Keras passes over: the compile settings in full, what the order of
the samples follows from, class names, how pictures become inputs, and a checksum, since
HDF5 has none (a zip archive does).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.formats import keras2, keras3
from tinyconv.formats.assemble import build_model, guarded, weight_shapes
from tinyconv.formats.guard import (
    MAX_JSON_BYTES,
    FormatError,
    checked_dict,
    fail,
    parse_json,
    unique,
)
from tinyconv.formats.hdf5 import Group, import_h5py, reading, write_names
from tinyconv.formats.keras_optimizer import Entry, read_state, write_frozen, write_state
from tinyconv.formats.keras_weights import find_named, find_weights, has_more, write_legacy, write_numbered
from tinyconv.formats.metadata import OWN, own_part, read_own_part, write_own_part
from tinyconv.formats.store import put, write_file
from tinyconv.formats.topology import Place, read_topology
from tinyconv.formats.training import compile_as_written
from tinyconv.formats.writing import check_built, dump_json
from tinyconv.formats.zipped import Archive
from tinyconv.utils import warn

__all__ = ["DIALECTS", "load", "load_weights", "save", "save_weights"]

DIALECTS = ("keras3", "keras2")
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_SHA256 = re.compile("[0-9a-f]{64}")
# Beside weights, an archive's HDF5 file holds the optimizer's state and the groups' headers.
_STATE_FACTOR, _GROUP_BYTES, _FREE_BYTES = 8, 1 << 16, 16 << 20
# Settings of optimizers that Keras 2 does not have.
_KERAS3_SETTINGS = {"loss_scale_factor", "gradient_accumulation_steps"}


# --- saving ---


def save(model: Any, path: Path, include_optimizer: bool = True, dialect: str = "keras3") -> None:
    """Writes `model` to a file; until it is whole, the one that is there stays.

    Args:
        model: A built `Sequential`.
        path: A file that ends in `.keras`, `.h5` or `.hdf5`.
        include_optimizer: Whether to save compile settings, the optimizer's state and the state of
            training. Defaults to True.
        dialect: "keras3", or for `.h5` "keras2". Defaults to "keras3".

    Raises:
        ValueError: If the model is not built, or cannot be written in this dialect.
        ImportError: If h5py is not installed.
        OSError: If the file cannot be written.
    """
    check_built(model)
    is_zip = path.suffix.lower() == ".keras"
    if dialect not in (DIALECTS[:1] if is_zip else DIALECTS):
        allowed = "'keras3' for a .keras file" if is_zip else f"one of {list(DIALECTS)}"
        raise ValueError(f"save expected dialect to be {allowed}. Received: dialect={dialect!r}")
    settings = model.get_compile_config() if include_optimizer else None
    own = write_own_part(model, settings, include_optimizer)
    data = _archive(model, settings, own) if is_zip else _hdf5(model, settings, own, dialect == "keras3")
    write_file(path, lambda file: put(file, data))


def _archive(model: Any, settings: dict[str, Any] | None, own: dict[str, Any]) -> bytes:
    """The bytes of a `.keras` file."""
    config = keras3.write_model(model)
    config["compile_config"] = compiled = keras3.write_compile_config(settings)
    if settings is not None and compiled is None:
        _warn_uncompiled()
    metadata = {"keras_version": keras3.KERAS_VERSION, "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S"), OWN: own}
    with _new_hdf5() as (file, weights):
        write_numbered(file, model)
        if settings is not None:
            state = file.create_group("optimizer/vars")
            state.attrs["name"] = model.optimizer.name
            for index, (_, array) in enumerate(write_state(model, settings)):
                state.create_dataset(str(index), data=array)
            _write_frozen(file, model)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_METADATA, dump_json(metadata))
        archive.writestr(_CONFIG, dump_json(config))
        archive.writestr(_WEIGHTS, weights.getvalue())
    return buffer.getvalue()


def _hdf5(model: Any, settings: dict[str, Any] | None, own: dict[str, Any], is_keras3: bool) -> bytes:
    """The bytes of an `.h5` file."""
    if is_keras3:
        version, config = keras3.KERAS_VERSION, keras3.write_model(model)
        compiled = keras3.write_compile_config(settings)
        training = None if compiled is None else _as_training_config(compiled)
    else:
        version = keras2.KERAS_VERSION
        topology, private = keras2.write_topology(model, for_tfjs=False)
        config = {"class_name": topology["class_name"], "config": _with_input_layer(topology["config"])}
        training = _keras2_training_config(settings)
        if private:
            warn(f"Keras 2 will refuse this model, it has no {', '.join(sorted(set(private))[:4])}; "
                 "tinyconv reads it.")
    if settings is not None and training is None:
        _warn_uncompiled()
    texts = {"model_config": dump_json(config)}
    if training is not None:
        texts["training_config"] = dump_json(training)
    with _new_hdf5() as (file, buffer):
        arrays = write_legacy(file.create_group("model_weights"), model, is_keras3, version)
        if settings is not None:
            arrays += _write_legacy_state(file, model, settings, is_keras3)
        own["sha256"] = _digest(own, texts, arrays)
        for name, text in {**texts, OWN: dump_json(own)}.items():
            file.attrs[name] = text
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", version.encode()
    return buffer.getvalue()


def _with_input_layer(config: dict[str, Any]) -> dict[str, Any]:
    """The input's shape in a layer of its own, as Keras 2 writes it; Keras 3 warns of it elsewhere."""
    first, *others = config["layers"]
    settings = {key: value for key, value in first["config"].items() if key != "batch_input_shape"}
    given = {"class_name": "InputLayer", "config": {
        "batch_input_shape": first["config"]["batch_input_shape"], "dtype": "float32", "sparse": False,
        "ragged": False, "name": f"{settings['name']}_input",
    }}
    return {**config, "layers": [given, {**first, "config": settings}, *others]}


def _write_legacy_state(file: Any, model: Any, settings: dict[str, Any], is_keras3: bool) -> list[np.ndarray]:
    state = write_state(model, settings, is_keras3)
    group = file.create_group("optimizer_weights")
    write_names(group, "weight_names", [name for name, _ in state])
    for name, array in state:
        group.create_dataset(name, data=array)
    return [array for _, array in state] + _write_frozen(file, model)


def _write_frozen(file: Any, model: Any) -> list[np.ndarray]:
    """Writes the state of weights that are frozen now, if any has some, where Keras does not look."""
    state = write_frozen(model)
    if state:
        group = file.create_group(OWN)
        write_names(group, "weight_names", [name for name, _ in state])
        for index, (_, array) in enumerate(state):
            group.create_dataset(str(index), data=array)
    return [array for _, array in state]


@contextmanager
def _new_hdf5() -> Iterator[tuple[Any, io.BytesIO]]:
    """A new HDF5 file in memory, and its bytes once it is closed."""
    buffer = io.BytesIO()
    with import_h5py().File(buffer, "w") as file:
        yield file, buffer


def _warn_uncompiled() -> None:
    warn("Keras will load this model uncompiled, it does not have these compile settings; tinyconv "
         "reads them.")


def _as_training_config(compiled: dict[str, Any]) -> dict[str, Any]:
    optimizer = compiled["optimizer"]
    others = {key: value for key, value in compiled.items() if key != "optimizer"}
    return {**others, "optimizer_config": {"class_name": optimizer["class_name"], "config": optimizer["config"]}}


def _keras2_training_config(settings: dict[str, Any] | None) -> dict[str, Any] | None:
    """Compile settings as Keras 2 has them, or None where it lacks an option or the schedule."""
    if settings is None or keras3.write_compile_config(settings) is None:
        return None
    optimizer = settings["optimizer"]
    config = {key: value for key, value in optimizer["config"].items() if value not in (None, False)}
    if _KERAS3_SETTINGS & config.keys():
        return None
    if "use_ema" not in config:
        config.pop("ema_momentum", None)
    config["is_legacy_optimizer"] = False  # else Keras takes the optimizer of before 2.11, which has other settings
    return {
        "loss": settings["loss"], "metrics": settings["metrics"],
        "weighted_metrics": settings.get("weighted_metrics"), "loss_weights": settings.get("loss_weights"),
        "optimizer_config": {"class_name": optimizer["class_name"], "config": config},
    }


def _digest(own: dict[str, Any], texts: dict[str, bytes], arrays: list[np.ndarray]) -> str:
    """SHA-256 of what an `.h5` file of this package holds."""
    digest = hashlib.sha256()
    rest = {key: value for key, value in own.items() if key != "sha256"}
    for data in (json.dumps(rest, sort_keys=True).encode(), *texts.values()):
        digest.update(data)
    for array in arrays:
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


# --- loading ---


def load(path: Path) -> Any:
    """Reads the model of a `.keras` or `.h5` file. See `formats.load_model`."""
    import_h5py()
    if zipfile.is_zipfile(path):
        with Archive(path) as archive:
            return _load_archive(archive)
    with reading(path, str(path)) as root:
        return _load_hdf5(root)


def _load_archive(archive: Archive) -> Any:
    config = checked_dict(_json(archive, _CONFIG), _CONFIG)
    metadata = _json(archive, _METADATA) if _METADATA in archive else {}
    version = metadata.get("keras_version", "3") if isinstance(metadata, dict) else ""
    created, places, name = _layers(config, str(version).startswith("3"))
    shapes = weight_shapes(created)
    own = own_part(metadata)
    with reading(_weights_of(archive, created, shapes), f"{archive.what}, {_WEIGHTS}") as root:
        weights = find_weights(root, created, shapes, places)
        model = build_model(created, name)
        _fill(model, [weight.read() for weight in weights])
        compiled = config.get("compile_config")
        if isinstance(compiled, dict):  # without a loss it was never compiled
            compiled = {"optimizer": _optimizer_name(root), **compiled} if compiled.get("loss") else None
        if _compile(model, own, compiled) and "optimizer" in root:
            group = root.group("optimizer/vars")
            read_state(model, [(None, group.dataset(str(index))) for index in range(len(group))],
                       _frozen_entries(root))
    read_own_part(model, own, OWN)
    return model


def _optimizer_name(root: Group) -> str:
    """What Keras calls the optimizer whose state is in a file; its default where it does not say."""
    name = root.group("optimizer/vars").text("name") if "optimizer" in root else None
    return "rmsprop" if name is None else name.decode(errors="replace").replace("_", "")


def _weights_of(archive: Archive, created: list[Any], shapes: list[dict[str, tuple[int, ...]]],
                least: int = 0) -> io.BytesIO:
    """The HDF5 file in an archive, when it is no larger than such weights and their state make it, or `least` bytes."""
    sizes = [4 * int(np.prod(shape, dtype=np.int64)) for weights in shapes for shape in weights.values()]
    limit = _STATE_FACTOR * sum(sizes) + _GROUP_BYTES * (len(created) + len(sizes)) + _FREE_BYTES
    return io.BytesIO(archive.read(_WEIGHTS, max(limit, least)))


def _json(archive: Archive, name: str) -> Any:
    return parse_json(archive.read(name, MAX_JSON_BYTES), f"{archive.what}, {name}")


def _load_hdf5(root: Group) -> Any:
    texts = _texts(root)
    if "model_config" not in texts:
        if "layers" in root or root.names("layer_names") is not None:
            fail(root.what, "a whole model", "weights alone: create the model, then call its load_weights")
        fail(root.what, "a model of Keras", "an HDF5 file without model_config")
    own = _own_attribute(root)
    config = parse_json(texts["model_config"], f"{root.what}, model_config")
    version = root.text("keras_version") or b""
    created, places, name = _layers(config, version.startswith(b"3"))
    shapes = weight_shapes(created)
    weights = find_weights(root, created, shapes, places, by_name=True)
    model = build_model(created, name)
    arrays = [weight.read() for weight in weights]
    _fill(model, arrays)
    training = (parse_json(texts["training_config"], f"{root.what}, training_config")
                if "training_config" in texts else None)
    entries, frozen = _state_entries(root), _frozen_entries(root)
    _check_digest(root, own, texts, arrays, [*entries, *frozen])
    if _compile(model, own, training):
        read_state(model, entries, frozen)
    read_own_part(model, own, OWN)
    return model


def _texts(root: Group) -> dict[str, bytes]:
    """The descriptions in the attributes of an `.h5` file."""
    return {name: text for name in ("model_config", "training_config") if (text := root.text(name)) is not None}


def _own_attribute(root: Group) -> dict[str, Any] | None:
    """What an HDF5 file has of this package."""
    text = root.text(OWN)
    return None if text is None else own_part({OWN: parse_json(text, f"{root.what}, {OWN}")})


def _check_digest(root: Group, own: dict[str, Any] | None, texts: dict[str, bytes], arrays: list[np.ndarray],
                  entries: list[Entry]) -> None:
    """Compares what was read with the checksum, where the file has one.

    It is one of the contents: a file that another program writes anew, packed or not, still has it.
    """
    if own is None or "sha256" not in own:
        return
    if not isinstance(own["sha256"], str) or not _SHA256.fullmatch(own["sha256"]):
        fail(f"{root.what}, {OWN} sha256", "64 hexadecimal digits", own["sha256"])
    state = [dataset.read(dataset.shape, "fi") for _, dataset in entries]
    if _digest(own, texts, [*arrays, *state]) != own["sha256"]:
        raise FormatError(f"{root.what}: expected contents of SHA-256 {own['sha256']}. Received: others, the file is "
                          f"damaged, or was changed in place and kept its attribute '{OWN}'")


def _state_entries(root: Group) -> list[Entry]:
    """Names and arrays of the optimizer's state."""
    if "optimizer_weights" not in root:
        return []
    group = root.group("optimizer_weights")
    return _sized(root, [(name, group.dataset(name)) for name in _entry_names(group)])


def _frozen_entries(root: Group) -> list[Entry]:
    """What `_write_frozen` wrote."""
    if OWN not in root:
        return []
    group = root.group(OWN)
    return _sized(root, [(name, group.dataset(str(index))) for index, name in enumerate(_entry_names(group))])


def _entry_names(group: Group) -> list[str]:
    return unique(group.names("weight_names") or [], "optimizer weights")


def _sized(root: Group, entries: list[Entry]) -> list[Entry]:
    root.check_size([dataset.shape for _, dataset in entries])
    return entries


def _layers(config: Any, is_keras3: bool) -> tuple[list[Any], list[Place], str | None]:
    """The layers of a model's description, where they stood in it, and its name."""
    name, entries, _ = read_topology(config)
    return keras2.create_layers(entries, is_keras3), [entry["place"] for entry in entries], name


def _fill(model: Any, arrays: list[np.ndarray]) -> None:
    for weight, array in zip(model.weights, arrays, strict=True):
        weight.value[...] = array
    for layer in model.layers:
        layer._changed()


def _compile(model: Any, own: dict[str, Any] | None, config: Any) -> bool:
    """Compiles the model as the file says; returns whether it did."""
    if own is not None and own.get("compile") is not None:
        guarded("compile settings", model._compile_from, checked_dict(own["compile"], "compile settings"))
        return True
    return compile_as_written(model, config, "training configuration")


# --- weights alone ---


def save_weights(model: Any, path: Path) -> None:
    """Writes the weights of a built model as Keras 3's `.weights.h5` file."""
    own: dict[str, Any] = {"version": 1}
    own["sha256"] = _digest(own, {}, [weight.value for weight in model.weights])
    with _new_hdf5() as (file, buffer):
        write_numbered(file, model)
        file.attrs[OWN] = dump_json(own)
    write_file(path, lambda target: put(target, buffer.getvalue()))


def load_weights(model: Any, path: Path, skip_mismatch: bool = False, by_name: bool = False) -> list[str]:
    """Overwrites weights of a built model with those of any of Keras' files; all fit, or none is changed.

    Args:
        model: The model.
        path: The file.
        skip_mismatch: Whether layers keep their weights where those of the file are others.
        by_name: Whether layers of legacy files go by their names alone, others keep their weights.

    Returns:
        A line for each layer that was skipped.
    """
    shapes = [{weight.name: weight.shape for weight in layer.weights} for layer in model.layers]
    import_h5py()
    skipped: list[str] | None = [] if skip_mismatch else None
    if zipfile.is_zipfile(path):
        with Archive(path) as archive:
            # Layers that are skipped may be larger than the model's; weights are stored, not packed.
            least = path.stat().st_size if skip_mismatch else 0
            data = _weights_of(archive, model.layers, shapes, least)
            found = _read_weights(data, f"{path}, {_WEIGHTS}", model, shapes, skipped, by_name)
    else:
        found = _read_weights(path, str(path), model, shapes, skipped, by_name)
    model.set_weights([found.get(id(weight), weight.value) for weight in model.weights])
    return skipped or []


def _read_weights(source: Any, what: str, model: Any, shapes: list[dict[str, tuple[int, ...]]],
                  skipped: list[str] | None, by_name: bool) -> dict[int, np.ndarray]:
    """The weights of a file by the identities of the model's."""
    with reading(source, what) as root:
        found = (find_named(root, model.layers, shapes, skipped) if by_name
                 else find_weights(root, model.layers, shapes, skipped=skipped))
        arrays = [weight.read() for weight in found]
        own = _own_attribute(root)
        # A checksum is one of all the weights; a file may have more of them than the model.
        if own is not None and "sha256" in own and skipped is None and not by_name and not has_more(root, len(found)):
            _check_digest(root, own, _texts(root), arrays, [*_state_entries(root), *_frozen_entries(root)])
        owners = {(id(layer), weight.name): id(weight) for layer in model.layers for weight in layer.weights}
        return {owners[id(weight.layer), weight.name]: array for weight, array in zip(found, arrays, strict=True)}

"""Where the weights lie in Keras' HDF5 files: by the names of layers, or by their classes.

Until Keras 2.11, and in `.h5` files still, a group a layer with the names of its weights
("model_weights/conv2d/sequential/conv2d/kernel"; `legacy`).  In `.keras` and `.weights.h5`
files of Keras 3 the groups are called after the layers' classes, counted, and the weights
numbered ("layers/conv2d_1/vars/0"; `numbered`).  Keras 2.12 and 2.13 count what has weights twice
("conv2d", "conv2d_2"), and Keras 2 on Windows writes groups called "layers\\dense".
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from tinyconv.formats import keras2
from tinyconv.formats.guard import MismatchError, fail, shorten
from tinyconv.formats.hdf5 import Dataset, Group, write_names
from tinyconv.formats.keras1 import Origin
from tinyconv.formats.keras_places import (
    LAYERS,
    by_layer,
    held_paths,
    legacy_paths,
    legacy_units,
    named_units,
    nested_groups,
    strip_number,
)
from tinyconv.formats.topology import Place, number_groups
from tinyconv.utils import to_snake_case

__all__ = ["StoredWeight", "find_named", "find_weights", "has_more", "write_legacy", "write_numbered"]

Shapes = list[dict[str, tuple[int, ...]]]


class StoredWeight:
    """A weight of a layer, found in a file and of the right shape; nothing of it read yet.

    Attributes:
        layer: The layer.
        name: What the layer calls it.
        shape: Its shape there.
    """

    def __init__(self, layer: Any, name: str, shape: tuple[int, ...], dataset: Dataset,
                 origin: Origin | None = None) -> None:
        self.layer, self.name, self.shape = layer, name, shape
        self._dataset = dataset
        self._origin = origin
        self._stored = shape if origin is None else origin.stored_shape(layer, name, shape)
        if dataset.shape != self._stored:
            fail(f"{dataset.what}: weight '{layer.name}/{name}'", f"shape {list(self._stored)}", list(dataset.shape),
                 MismatchError)

    def read(self) -> np.ndarray:
        """The values, of the weight's shape."""
        value = self._dataset.read(self._stored, "fiu" if self.name == "count" else "f")
        if self._origin is not None:
            value = self._origin.convert(self.layer, self.name, self.shape, value)
        with np.errstate(over="ignore", invalid="ignore"):
            return value.astype(np.float32, copy=False)


def find_weights(root: Group, created: list[Any], shapes: Shapes, places: list[Place] | None = None,
                 by_name: bool = False, skipped: list[str] | None = None) -> list[StoredWeight]:
    """Finds the weights of layers in a file of either kind.

    Args:
        root: The file.
        created: The layers, in order.
        shapes: For each of them the names and shapes of its weights.
        places: Where they stood in the file's description. Defaults to None: in one row, or where
            `keras_places` finds them.
        by_name: Whether layers of the file go by their names where they all have one, or in order.
        skipped: Gets a line for every layer whose weights are not those of the file, and which is left
            out. Defaults to None: such a layer is an error.

    Returns:
        The weights in the order of the layers.

    Raises:
        FormatError: If a weight is missing or of another shape.
    """
    if "model_weights" in root:
        weights = _find_legacy(root.group("model_weights"), created, shapes, places, by_name, skipped)
    elif root.names("layer_names") is not None:
        weights = _find_legacy(root, created, shapes, places, by_name, skipped)
    else:
        weights = _find_numbered(root, created, shapes, places, skipped)
    root.check_size([weight.shape for weight in weights])
    return weights


def has_more(root: Group, count: int) -> bool:
    """Whether a numbered file holds more than so many weights: those of more layers are passed over, as in Keras."""
    if LAYERS[0] not in root:
        return False
    groups = [f"{LAYERS[0]}/{name}/vars" for name in root.group(LAYERS[0]).children()]
    return sum(len(root.group(group)) for group in groups if group in root) > count


def find_named(root: Group, created: list[Any], shapes: Shapes, skipped: list[str] | None = None) -> list[StoredWeight]:
    """Finds the weights of those layers whose names a file of legacy kind has; others are left out.

    Args:
        root, created, shapes, skipped: As of `find_weights`.

    Raises:
        FormatError: If a weight is of another shape, or the file is not of this kind.
    """
    if "model_weights" in root:
        root = root.group("model_weights")
    if root.names("layer_names") is None:
        fail(root.what, "the names of the layers", "none")
    origin = _origin(root)
    named = named_units(legacy_units(root), created)
    weights = []
    for layer, sizes in zip(created, shapes, strict=True):
        units = named.get(layer.name, [])
        if len(units) > 1:
            fail(f"{root.what}: layers called {shorten(layer.name, 40)}", "one", [unit.group for unit in units])
        for unit in units:
            weights += _of_layer(root, layer, sizes, [f"{unit.group}/{path}" for path in unit.paths], origin, skipped)
    root.check_size([weight.shape for weight in weights])
    return weights


def _of_layer(group: Group, layer: Any, sizes: dict[str, tuple[int, ...]], paths: list[str], origin: Origin | None,
              skipped: list[str] | None) -> list[StoredWeight]:
    """The weights of a layer at the given paths; none of them where one does not fit and is skipped."""
    try:
        if len(paths) != len(sizes):
            fail(f"{group.what}: weights of layer {shorten(layer.name, 40)}", f"{len(sizes)}: {list(sizes)}",
                 len(paths), MismatchError)
        return [StoredWeight(layer, weight, shape, group.dataset(path), origin)
                for path, (weight, shape) in zip(paths, sizes.items(), strict=True)]
    except MismatchError as error:
        if skipped is None:
            raise
        skipped.append(f"Layer '{layer.name}' keeps its weights. {error}")
        return []


def _find_legacy(group: Group, created: list[Any], shapes: Shapes, places: list[Place] | None, by_name: bool,
                 skipped: list[str] | None) -> list[StoredWeight]:
    """The weights in the group of a layer each, or of a model in the model."""
    if group.names("layer_names") is None:
        fail(group.what, "the names of the layers", "none")
    weighted = [(layer, sizes) for layer, sizes in zip(created, shapes, strict=True) if sizes]
    if places is None:
        paths = legacy_paths(group, [layer for layer, _ in weighted])
    else:
        paths = _placed_paths(group, [place for place, sizes in zip(places, shapes, strict=True) if sizes], by_name)
    origin = _origin(group)
    return [weight for (layer, sizes), own in zip(weighted, paths, strict=True)
            for weight in _of_layer(group, layer, sizes, own, origin, skipped)]


def _placed_paths(group: Group, places: list[Place], by_name: bool) -> list[list[str]]:
    """Where the weights of layers lie whose places in the file's description are known."""
    held = held_paths(group)
    wanted: dict[str, list[Place]] = {}
    for place in places:
        wanted.setdefault(place.models[0][0] if place.models else place.name, []).append(place)
    order = list(wanted) if by_name and all(name in held for name in wanted) else list(held)
    if len(order) != len(wanted):
        fail(f"{group.what}: layers with weights", f"{len(wanted)}", f"{len(order)}, {shorten(order)}")
    found = []
    for name, own in zip(order, wanted.values(), strict=True):
        parts = by_layer(held[name]) if own[0].models else None
        for place in own:
            paths = held[name] if parts is None else parts.pop(place.name, [])
            found.append([f"{name}/{path}" for path in paths])
        if parts:
            fail(f"{group.what}: layers of {shorten(name, 40)}", "those of the model", shorten(list(parts)))
    return found


def _origin(group: Group) -> Origin:
    return Origin(_text(group, "keras_version"), _text(group, "backend"))


def _find_numbered(root: Group, created: list[Any], shapes: Shapes, places: list[Place] | None,
                   skipped: list[str] | None) -> list[StoredWeight]:
    """The weights under the layers' classes and numbers."""
    names = root.children()
    base, separator = next(((base, separator) for separator in "/\\" for base in LAYERS
                            if any(name == base or name.startswith(base + separator) for name in names)), ("", "/"))
    if not base:
        if any(shapes):
            fail(root.what, "the weights of layers", "none")
        return []
    flat = [Place((), layer.name) for layer in created]
    groups = (nested_groups(root, base, created, shapes, skipped is not None) if places is None
              else _groups(created, shapes, places, base))
    found = [_vars(groups, separator)]
    if base != LAYERS[0]:
        found.append(_vars(_groups(created, shapes, places or flat, base, is_twice=True), separator))
    weighted = [index for index, sizes in enumerate(shapes) if sizes]
    paths = max(found, key=lambda paths: sum(paths[index] in root for index in weighted))
    weights = []
    for path, layer, sizes in zip(paths, created, shapes, strict=True):
        if sizes:
            held = len(root.group(path)) if path in root else 0
            weights += _of_layer(root, layer, sizes, [f"{path}/{index}" for index in range(held)], None, skipped)
    return weights


def _vars(groups: list[str], separator: str) -> list[str]:
    """The groups of the weights in the groups of layers."""
    return [f"{group.replace('/', separator)}/vars" for group in groups]


def _groups(created: list[Any], shapes: Shapes, places: list[Place], base: str, is_twice: bool = False) -> list[str]:
    """The layers' groups: they are counted by class, in each model by itself.

    Args:
        created: The layers.
        shapes: For each of them the names and shapes of its weights.
        places: Where they stand.
        base: What the groups of layers are called.
        is_twice: Whether layers and models with weights are counted twice. Defaults to False.
    """
    weighted = {place.models[:depth] for place, sizes in zip(places, shapes, strict=True) if sizes
                for depth in range(1, len(place.models) + 1)}
    counts: Counter[tuple[Any, str]] = Counter()
    found: dict[Any, str] = {(): ""}

    def number(model: Any, class_name: str, has_weights: bool) -> str:
        count = counts[model, class_name]
        counts[model, class_name] += 2 if is_twice and has_weights else 1
        return f"{found[model]}{base}/{class_name}{f'_{count}' if count else ''}"

    groups = []
    for layer, sizes, (models, _) in zip(created, shapes, places, strict=True):
        for depth in range(len(models)):
            model = models[:depth + 1]
            if model not in found:
                found[model] = number(models[:depth], strip_number(models[depth][1]), model in weighted) + "/"
        groups.append(number(models, to_snake_case(type(layer).__name__), bool(sizes)))
    return groups


def _text(group: Group, name: str) -> str | None:
    value = group.text(name)
    return None if value is None else value.decode(errors="replace")


# --- writing ---


def write_legacy(group: Any, model: Any, is_keras3: bool, keras_version: str) -> list[np.ndarray]:
    """Writes all weights into an h5py group, a group a layer; returns the arrays in order."""
    write_names(group, "layer_names", [layer.name for layer in model.layers])
    group.attrs["backend"] = b"tensorflow"
    group.attrs["keras_version"] = keras_version.encode()
    written = []
    for layer in model.layers:
        names = [f"{model.name}/{layer.name}/{weight.name}" if is_keras3
                 else f"{keras2.weight_name(layer, weight.name)}:0" for weight in layer.weights]
        own = group.create_group(layer.name)
        write_names(own, "weight_names", names)
        for name, weight in zip(names, layer.weights, strict=True):
            own.create_dataset(name, data=weight.value)
            written.append(weight.value)
    write_names(group.create_group("top_level_model_weights"), "weight_names", [])
    return written


def write_numbered(root: Any, model: Any) -> None:
    """Writes all weights into an h5py file as Keras 3 numbers them."""
    root.create_group("vars").attrs["name"] = model.name
    for name, layer in zip(number_groups([type(layer).__name__ for layer in model.layers]), model.layers, strict=True):
        own = root.create_group(f"layers/{name}/vars")
        own.attrs["name"] = layer.name
        for index, weight in enumerate(layer.weights):
            own.create_dataset(str(index), data=weight.value)

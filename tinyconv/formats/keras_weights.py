"""Where the weights lie in Keras' HDF5 files: by the names of layers, or by their classes.

Until Keras 2.11, and in `.h5` files still, a group a layer with the names of its weights
("model_weights/conv2d/sequential/conv2d/kernel"; `legacy`).  In `.keras` and `.weights.h5`
files of Keras 3 the groups are called after the layers' classes, counted, and the weights
numbered ("layers/conv2d_1/vars/0"; `numbered`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.formats import keras2
from tinyconv.formats.guard import fail, shorten
from tinyconv.formats.hdf5 import Dataset, Group, write_names
from tinyconv.formats.keras1 import Origin
from tinyconv.formats.topology import Place, number_groups

__all__ = ["StoredWeight", "find_weights", "write_legacy", "write_numbered"]

Shapes = list[dict[str, tuple[int, ...]]]
# What the group of the layers is called, from Keras 2.12 on.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")


class StoredWeight:
    """A weight of a layer, found in a file and of the right shape; nothing of it read yet."""

    def __init__(self, layer: Any, name: str, shape: tuple[int, ...], dataset: Dataset,
                 origin: Origin | None = None) -> None:
        self._layer, self._name, self._shape = layer, name, shape
        self._dataset = dataset
        self._origin = origin
        self._stored = shape if origin is None else origin.stored_shape(layer, name, shape)
        if dataset.shape != self._stored:
            fail(f"{dataset.what}: weight '{layer.name}/{name}'", f"shape {list(self._stored)}", list(dataset.shape))

    def read(self) -> np.ndarray:
        """The values, of the weight's shape."""
        value = self._dataset.read(self._stored, "fiu" if self._name == "count" else "f")
        if self._origin is not None:
            value = self._origin.convert(self._layer, self._name, self._shape, value)
        with np.errstate(over="ignore", invalid="ignore"):
            return value.astype(np.float32, copy=False)


def find_weights(root: Group, created: list[Any], shapes: Shapes, places: list[Place] | None = None,
                 by_name: bool = False) -> list[StoredWeight]:
    """Finds the weights of layers in a file of either kind.

    Args:
        root: The file.
        created: The layers, in order.
        shapes: For each of them the names and shapes of its weights.
        places: Where they stood in the file's description. Defaults to None: all in one row.
        by_name: Whether layers of the file go by their names where they all have one, or in order.

    Returns:
        The weights in the order of the layers.

    Raises:
        FormatError: If a weight is missing or of another shape.
    """
    root.check_size([shape for sizes in shapes for shape in sizes.values()])
    if places is None:
        places = [Place((), layer.name) for layer in created]
    if "model_weights" in root:
        return _find_legacy(root.group("model_weights"), created, shapes, places, by_name)
    if root.names("layer_names") is not None:
        return _find_legacy(root, created, shapes, places, by_name)
    return _find_numbered(root, created, shapes, places)


def _find_legacy(group: Group, created: list[Any], shapes: Shapes, places: list[Place],
                 by_name: bool) -> list[StoredWeight]:
    """The weights in the group of a layer each, or of a model in the model."""
    names = group.names("layer_names")
    if names is None:
        fail(group.what, "the names of the layers", "none")
    origin = Origin(_text(group, "keras_version"), _text(group, "backend"))
    held = {name: found for name in names if (found := group.group(name).names("weight_names"))}
    wanted: dict[str, list[tuple[Any, dict[str, tuple[int, ...]], Place]]] = {}
    for layer, sizes, place in zip(created, shapes, places, strict=True):
        if sizes:
            wanted.setdefault(place.models[0][0] if place.models else layer.name, []).append((layer, sizes, place))
    order = list(wanted) if by_name and all(name in held for name in wanted) else list(held)
    if len(order) != len(wanted):
        fail(f"{group.what}: layers with weights", f"{len(wanted)}", f"{len(order)}, {shorten(order)}")
    weights = []
    for name, layers in zip(order, wanted.values(), strict=True):
        parts = _by_layer(held[name]) if layers[0][2].models else None
        for layer, sizes, place in layers:
            paths = held[name] if parts is None else parts.pop(place.name, [])
            _check_count(group, layer, sizes, len(paths))
            weights += [StoredWeight(layer, weight, shape, group.group(name).dataset(path), origin)
                        for path, (weight, shape) in zip(paths, sizes.items(), strict=True)]
        if parts:
            fail(f"{group.what}: layers of {shorten(name, 40)}", "those of the model", shorten(list(parts)))
    return weights


def _by_layer(paths: list[str]) -> dict[str, list[str]]:
    """Names of a model's weights, such as "base/conv2d/kernel:0", by the layer.

    Keras lists what is trained before what is not; within a layer that changes nothing.
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(path.split("/")[-2] if "/" in path else path, []).append(path)
    return found


def _find_numbered(root: Group, created: list[Any], shapes: Shapes, places: list[Place]) -> list[StoredWeight]:
    """The weights under the layers' classes and numbers."""
    base = next((name for name in _LAYERS if name in root), None)
    if base is None:
        if any(shapes):
            fail(root.what, "the weights of layers", "none")
        return []
    weights = []
    for name, layer, sizes in zip(_groups(created, places, base), created, shapes, strict=True):
        if sizes:
            group = root.group(f"{name}/vars")
            _check_count(group, layer, sizes, len(group))
            weights += [StoredWeight(layer, weight, shape, group.dataset(str(index)))
                        for index, (weight, shape) in enumerate(sizes.items())]
    return weights


def _groups(created: list[Any], places: list[Place], base: str) -> list[str]:
    """The layers' groups: they are counted in each model by itself."""
    models = [tuple(group for _, group in place.models) for place in places]
    numbers = {model: iter(number_groups([type(layer).__name__ for layer, other in zip(created, models)
                                          if other == model])) for model in dict.fromkeys(models)}
    return ["/".join(f"{base}/{group}" for group in (*model, next(numbers[model]))) for model in models]


def _check_count(group: Group, layer: Any, sizes: dict[str, tuple[int, ...]], count: int) -> None:
    if count != len(sizes):
        fail(f"{group.what}: weights of layer {shorten(layer.name, 40)}", f"{len(sizes)}: {list(sizes)}", count)


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

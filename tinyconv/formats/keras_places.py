"""Which layers of a file the layers of a model are, where nothing but the file's weights says so.

A model holds its layers in one row; in the file some of them may lie in models within the model.
In files of legacy kind the groups have an order and names (`legacy_paths`).  In numbered files the
groups of a model are counted by class and lie in no order: the row is fitted into them, which
mostly goes one way only (`nested_groups`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from itertools import count
from typing import Any, NamedTuple

from tinyconv.formats.guard import fail, shorten
from tinyconv.formats.hdf5 import Group
from tinyconv.formats.topology import number_groups
from tinyconv.utils import to_snake_case

__all__ = ["LAYERS", "by_layer", "held_paths", "legacy_paths", "legacy_units", "named_units", "nested_groups",
           "strip_number"]

# What the group of the layers is called, from Keras 2.12 on.
LAYERS = ("layers", "_layer_checkpoint_dependencies")
_NUMBER = re.compile(r"_[0-9]{1,6}\Z")
# Of models in models, and of groups: a group may be linked to in many places.
_MAX_DEPTH, _MAX_GROUPS = 64, 10_000
# Of attempts to fit a row of layers into models, and of ways that are compared by names.
_MAX_STEPS, _MAX_WAYS = 20_000, 100

Shapes = list[dict[str, tuple[int, ...]]]


# --- legacy files ---


class Unit(NamedTuple):
    """A layer of a file of legacy kind.

    Attributes:
        names: What it may be called, the first that fits counting: by its group's name where it is alone
            there, by its own lengthened by that, or by its own.
        group: The group that its weights lie in.
        paths: Their names there.
    """

    names: tuple[str, str, str]
    group: str
    paths: list[str]


def held_paths(group: Group) -> dict[str, list[str]]:
    """For each group of a layer, or of a model in the model, the names of its weights, where it has some."""
    return {name: found for name in group.names("layer_names") or [] if (found := _weight_names(group, name))}


def _weight_names(group: Group, name: str) -> list[str]:
    return group.group(name).names("weight_names") or []


def by_layer(paths: list[str]) -> dict[str, list[str]]:
    """Names of a model's weights, such as "base/conv2d/kernel:0", by the layer.

    Keras lists what is trained before what is not; within a layer that changes nothing.
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(path.split("/")[-2] if "/" in path else path, []).append(path)
    return found


def legacy_units(group: Group) -> list[Unit]:
    """The layers of a file, those of the models in the model among them."""
    units = []
    for name in group.names("layer_names") or []:
        paths = _weight_names(group, name)
        parts = by_layer(paths)
        if len(parts) > 1 and all("/" in path for path in paths):
            units += [Unit(("", f"{name[:40]}_{part}", part), name, own) for part, own in parts.items()]
        else:
            own_name = next(iter(parts)) if len(parts) == 1 else name
            units.append(Unit((name, f"{name[:40]}_{own_name}", own_name), name, paths))
    return units


def named_units(units: list[Unit], layers: list[Any]) -> dict[str, list[Unit]]:
    """For the names of layers the units of that name: several where these do not tell, and each for one name only."""
    found: dict[str, list[Unit]] = {}
    for rank in range(3):
        taken = {id(unit) for own in found.values() for unit in own}
        free: dict[str, list[Unit]] = {}
        for unit in units:
            if id(unit) not in taken:
                free.setdefault(unit.names[rank], []).append(unit)
        names = [layer.name for layer in layers if layer.name not in found]
        found.update({name: free[name] for name in names if name in free})
    return found


def legacy_paths(group: Group, layers: list[Any]) -> list[list[str]]:
    """Where the weights of layers lie; those of models go by their names, or in Keras' order.

    Args:
        group: The group of the layers.
        layers: Those that have weights.
    """
    held = held_paths(group)
    if len(held) == len(layers):
        return [[f"{name}/{path}" for path in paths] for name, paths in held.items()]
    units = [unit for unit in legacy_units(group) if unit.paths]
    if len(units) != len(layers):
        fail(f"{group.what}: layers with weights", f"{len(layers)}", f"{len(held)}, {shorten(list(held))}")
    named = named_units(units, layers)
    if len(named) == len(units) and all(len(own) == 1 for own in named.values()):
        units = [named[layer.name][0] for layer in layers]
    else:
        units = _in_order(units, layers)
    return [[f"{unit.group}/{path}" for path in unit.paths] for unit in units]


def _in_order(units: list[Unit], layers: list[Any]) -> list[Unit]:
    """The units of the layers: of a model Keras lists those that train before those that do not."""
    found: list[Unit] = []
    for size in Counter(unit.group for unit in units).values():
        own, run = layers[len(found):len(found) + size], units[len(found):len(found) + size]
        order = sorted(range(size), key=[not layer.trainable_weights for layer in own].__getitem__)
        found += [run[order.index(index)] for index in range(size)]
    return found


# --- numbered files ---


class _Model:
    """A model in a file: the groups of its layers and models by class, in order, and how many there are."""

    def __init__(self, group: Group, path: str, base: str, classes: set[str], numbers: Iterator[int],
                 depth: int = 0) -> None:
        self.parts: dict[str, list[str | _Model]] = {}
        self.has_models = False
        names = group.group(f"{path}{base}").children() if f"{path}{base}" in group else []
        for name in sorted(names, key=_sort_key):
            if next(numbers) == _MAX_GROUPS or depth > _MAX_DEPTH:
                fail(group.what, f"at most {_MAX_GROUPS} layers in models {_MAX_DEPTH} deep", "more")
            kind, inner = strip_number(name), f"{path}{base}/{name}"
            part: str | _Model | None = inner if kind in classes else None
            if f"{inner}/{base}" in group:
                model = _Model(group, f"{inner}/", base, classes, numbers, depth + 1)
                part = model if model.parts else None
                self.has_models = self.has_models or part is not None
            if part is not None:
                self.parts.setdefault(kind, []).append(part)
        self.counts = Counter({kind: len(parts) for kind, parts in self.parts.items()})


def _sort_key(name: str) -> tuple[str, int]:
    number = _NUMBER.search(name)
    return strip_number(name), int(number[0][1:]) if number else 0


def strip_number(group: str) -> str:
    """The class that a group is called after: "conv2d" of "conv2d_1"."""
    return _NUMBER.sub("", group)


def _name_of(group: Group, path: str) -> str:
    """What Keras called a layer or model; older files do not say it."""
    text = group.group(f"{path}vars").text("name") if f"{path}vars" in group else None
    return "" if text is None else text.decode(errors="replace")


def nested_groups(root: Group, base: str, created: list[Any], shapes: Shapes, by_class: bool) -> list[str]:
    """The groups of a row of layers, some of which may lie in models within the file's model.

    Args:
        root: The file.
        base: What the groups of layers are called.
        created: The layers.
        shapes: For each of them the names and shapes of its weights.
        by_class: Whether weights may have other shapes than the layers', where no way fits.

    Raises:
        FormatError: If the row does not go into the models, or in several ways that names do not tell apart.
    """
    kinds = [to_snake_case(type(layer).__name__) for layer in created]
    classes = {kind for kind, sizes in zip(kinds, shapes, strict=True) if sizes}
    model = _Model(root, "", base, classes, count())
    if not model.has_models:
        return [f"{base}/{group}" for group in number_groups([type(layer).__name__ for layer in created])]
    counted = [index for index, kind in enumerate(kinds) if kind in classes]
    row = [(kinds[index], list(shapes[index].values())) for index in counted]
    ways = _ways(root, model, row) or (_ways(root, model, [(kind, []) for kind, _ in row]) if by_class else [])
    if len(ways) > 1:  # names of other layers are nothing to go by: Keras numbers them anew in every program
        unsure = [place for place, paths in enumerate(zip(*ways)) if len(set(paths)) > 1]
        ways = [way for way in ways
                if all(created[counted[place]].name in _names(root, way[place], base) for place in unsure)]
    if len(ways) != 1:
        fail(f"{root.what}: layers in models", "that they fit this model's in one way, or have its layers' names",
             f"{shorten(list(model.parts))}")
    groups = [""] * len(created)
    for index, path in zip(counted, ways[0], strict=True):
        groups[index] = path
    return groups


def _names(root: Group, path: str, base: str) -> tuple[str, str]:
    """What a layer of a group may be called: by its own name, or lengthened by its model's."""
    own = _name_of(root, f"{path}/")
    return own, f"{_name_of(root, path.rpartition(f'{base}/')[0])[:40]}_{own}"


def _ways(root: Group, model: _Model, row: list[tuple[str, list[tuple[int, ...]]]]) -> list[list[str]]:
    """All ways, up to a bound, in which a row of layers goes into a model: for each layer its group.

    A model's layers follow each other in the row, and layers of a class lie in the order of their numbers.

    Args:
        root: The file.
        model: The model.
        row: For each layer its class and the shapes of its weights, none where any will do.
    """
    shapes_at = cache(partial(_shapes_at, root))
    found: list[list[str]] = []
    # A model and how much of it is used, for each model that the next layer lies in; the groups so far.
    pending: list[tuple[list[tuple[_Model, Counter[str]]], list[str]]] = [([(model, Counter())], [])]
    for _ in range(_MAX_STEPS):
        if not pending or len(found) == _MAX_WAYS:
            return found
        frames, groups = pending.pop()
        (here, used), outer = frames[-1], frames[:-1]
        if used == here.counts:
            if outer:
                pending.append((outer, groups))
            elif len(groups) == len(row):
                found.append(groups)
            continue
        for kind, parts in here.parts.items():
            if used[kind] == len(parts):
                continue
            part, after = parts[used[kind]], [*outer, (here, used + Counter({kind: 1}))]
            if isinstance(part, _Model):
                pending.append(([*after, (part, Counter())], groups))
            elif len(groups) < len(row) and row[len(groups)][0] == kind \
                    and row[len(groups)][1] in ([], shapes_at(part)):
                pending.append((after, [*groups, part]))
    fail(f"{root.what}: layers in models", f"a way to fit them within {_MAX_STEPS} steps", shorten(list(model.parts)))


def _shapes_at(root: Group, path: str) -> list[tuple[int, ...]]:
    """The shapes of a layer's weights."""
    held = len(root.group(f"{path}/vars")) if f"{path}/vars" in root else 0
    return [root.dataset(f"{path}/vars/{index}").shape for index in range(held)]

"""Optimizers, with Keras' names, defaults and formulas; `schedules` for their learning rates."""

from __future__ import annotations

from typing import Any

from tinyconv.optimizers import schedules
from tinyconv.optimizers.base import Optimizer
from tinyconv.optimizers.rules import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Nadam, RMSprop
from tinyconv.shapes import describe
from tinyconv.utils import deserialize_object, serialize_object

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Nadam", "Optimizer", "RMSprop", "adadelta", "adagrad",
    "adam", "adamax", "deserialize", "get", "rmsprop", "schedules", "serialize", "sgd",
]

# TensorFlow.js' factories.
adadelta, adagrad, adam, adamax, rmsprop, sgd = Adadelta, Adagrad, Adam, Adamax, RMSprop, SGD

_CLASSES: dict[str, type[Optimizer]] = {
    cls.__name__: cls for cls in (Adadelta, Adagrad, Adam, AdamW, Adamax, Nadam, RMSprop, SGD)
}
_NAMES: dict[str, type[Optimizer]] = {name.lower(): cls for name, cls in _CLASSES.items()}


def get(identifier: Any) -> Optimizer:
    """Returns an optimizer from its name, class, config or itself.

    Raises:
        ValueError: If there is no such optimizer.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str) and identifier.lower() in _NAMES:
        return _NAMES[identifier.lower()]()
    if isinstance(identifier, type) and identifier in _CLASSES.values():
        return identifier()
    raise ValueError(f"Unknown optimizer. Expected one of {sorted(_NAMES)}, an Optimizer "
                     f"or its config. Received: {describe(identifier)}")


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(optimizer)


def deserialize(config: dict[str, Any]) -> Optimizer:
    """Creates an optimizer from what `serialize`, Keras or TensorFlow.js wrote; names in any case."""
    name = config.get("class_name")
    if isinstance(name, str) and name.lower() in _NAMES:
        config = {**config, "class_name": name.lower()}
    return deserialize_object(config, _NAMES, "optimizer")

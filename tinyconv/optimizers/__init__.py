"""Optimizers, with Keras' names, defaults and formulas; `schedules` for their learning rates."""

from __future__ import annotations

from typing import Any

from tinyconv.named import Named, serialize_object
from tinyconv.optimizers import schedules
from tinyconv.optimizers.base import Optimizer
from tinyconv.optimizers.rules import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Nadam, RMSprop

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Nadam", "Optimizer", "RMSprop", "adadelta", "adagrad",
    "adam", "adamax", "deserialize", "get", "rmsprop", "schedules", "serialize", "sgd",
]

# TensorFlow.js' factories.
adadelta, adagrad, adam, adamax, rmsprop, sgd = Adadelta, Adagrad, Adam, Adamax, RMSprop, SGD

_CLASSES: tuple[type[Optimizer], ...] = (Adadelta, Adagrad, Adam, AdamW, Adamax, Nadam, RMSprop, SGD)
_TABLE: Named[Optimizer] = Named("optimizer", _CLASSES, {cls.__name__.lower(): cls for cls in _CLASSES}, base=Optimizer,
                                 ignores_case=True)


def get(identifier: Any) -> Optimizer:
    """Returns an optimizer from its name, class, config or itself.

    Raises:
        ValueError: If there is no such optimizer.
    """
    return _TABLE.get(identifier)


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(optimizer)


def deserialize(config: dict[str, Any]) -> Optimizer:
    """Creates an optimizer from what `serialize`, Keras or TensorFlow.js wrote; names in any case."""
    return _TABLE.deserialize(config)

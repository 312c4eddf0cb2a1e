"""What layers are made with: arguments from users, and those in configs of any writer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyconv import initializers, shapes
from tinyconv.initializers import Initializer
from tinyconv.shapes import describe
from tinyconv.utils import check_dtype, warn

__all__ = ["UNSUPPORTED_TRAINING", "BatchShape", "arguments_of", "batch_shape_of", "get_initializer",
           "refuse_unsupported"]

BatchShape = tuple[int | None, *tuple[int, ...]]

# Arguments of Keras that change how a layer trains and that this library does not have.
UNSUPPORTED_TRAINING = ("activity_regularizer",)
# Keys of other writers' configs that say nothing about what a layer computes here.
_HARMLESS_KEYS = {
    "autocast", "batch_size", "dtype", "input_dtype", "module", "optional", "quantization_config", "ragged",
    "registered_name", "shared_object_id", "sparse",
}


def get_initializer(identifier: Any, name: str) -> Initializer:
    """An initializer from whatever identifies it; None is Keras' default for the weight `name`."""
    initializer = initializers.get(identifier)
    if initializer is None:
        return initializers.Zeros() if name == "bias" else initializers.GlorotUniform()
    return initializer


def refuse_unsupported(**arguments: Any) -> None:
    """Raises ValueError for an argument that is not None."""
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"Expected {name} to be None: it is not supported. "
                f"Received: {name}={describe(value)}"
            )


def batch_shape_of(input_shape: Any, batch_input_shape: Any, batch_size: Any) -> BatchShape | None:
    """The shape of a batch, where the arguments of a layer say one: (batch size or None, ...).

    Raises:
        ValueError: If two of them do, or what they say is no shape.
    """
    if input_shape is None and batch_input_shape is None:
        return None
    if input_shape is not None and batch_input_shape is not None:
        raise ValueError(
            "Expected one of input_shape and batch_input_shape. "
            f"Received: input_shape={input_shape}, batch_input_shape={batch_input_shape}"
        )
    if input_shape is not None:
        if isinstance(input_shape, (int, np.integer)):
            input_shape = (input_shape,)
        sample = shapes.check_shape(input_shape, "input_shape")
    else:
        if not isinstance(batch_input_shape, (tuple, list)) or len(batch_input_shape) < 2:
            raise ValueError(
                "Expected batch_input_shape to be (batch size or None, ...). "
                f"Received: batch_input_shape={describe(batch_input_shape)}"
            )
        batch_size = batch_input_shape[0]
        sample = shapes.check_shape(tuple(batch_input_shape[1:]), "batch_input_shape")
    return (None if batch_size is None else shapes.check_integer(batch_size, "batch_size"), *sample)


def arguments_of(cls: type, config: Mapping[str, Any], renamed: Mapping[str, str], common: set[str]) -> dict[str, Any]:
    """The arguments that a class is created with from a config, its own or Keras' or TensorFlow.js'.

    Args:
        cls: The class of layers.
        config: The config.
        renamed: Other writers' names of arguments -> the names here.
        common: The arguments of all layers.

    Raises:
        ValueError: If the config has a setting that the class does not have, or lacks one.
    """
    parameters = inspect.signature(cls).parameters
    known = {*parameters, *common}
    arguments: dict[str, Any] = {}
    for key, value in config.items():
        key = renamed.get(key, key)
        if key == "dtype":
            check_dtype(value)
        elif key in UNSUPPORTED_TRAINING and value is not None:
            warn(f"{cls.__name__} '{config.get('name')}': {key} is not supported, it is "
                 "left out of training")
        elif key in known and key != "kwargs":
            arguments[key] = value
        elif value is not None and key not in _HARMLESS_KEYS and key not in UNSUPPORTED_TRAINING:
            raise ValueError(f"{cls.__name__} has no such setting. Received: {key}={describe(value)}")
    for key, parameter in parameters.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty \
                and key not in arguments:
            raise ValueError(f"{cls.__name__} expected a setting {key}. Received: {sorted(config)}")
    return arguments

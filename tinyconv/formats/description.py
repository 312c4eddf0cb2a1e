"""A model's layers as a text: Keras' JSON, without weights."""

from __future__ import annotations

import json
from typing import Any

from tinyconv.formats import keras2, keras3
from tinyconv.formats.assemble import guarded, weight_shapes
from tinyconv.formats.guard import checked_dict, parse_json
from tinyconv.formats.topology import read_topology
from tinyconv.models import Sequential

__all__ = ["from_json", "to_json"]


def to_json(model: Any, **kwargs: Any) -> str:
    """The layers of a built model in Keras 3's dialect.

    Args:
        model: A `Sequential`.
        **kwargs: For `json.dumps`, such as indent=2.
    """
    return json.dumps(keras3.write_model(model), **kwargs)


def from_json(text: Any) -> Sequential:
    """A new model from what `to_json`, Keras 1 to 3 or TensorFlow.js made of one.

    Raises:
        TypeError: If it is no text.
        FormatError: A ValueError: if it does not describe a chain of layers that are known.
    """
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"Expected json_string to be a string. Received: json_string={type(text).__name__}")
    topology = checked_dict(parse_json(text.encode() if isinstance(text, str) else text, "json_string"), "json_string")
    name, entries, _ = read_topology(topology)
    created = keras2.create_layers(entries, is_keras3="module" in topology)
    weight_shapes(created)  # no more memory than such shapes may take
    return guarded("json_string", Sequential, created, name)

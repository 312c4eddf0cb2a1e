"""Keras 1: what its layers, arguments and weights are called and how they lie, made into Keras 2's.

Keras 1 (2015 to 2017) named arguments otherwise (`nb_filter`, `border_mode`), and on Theano kernels
lie as (filters, channels, rows, columns), turned by 180 degrees.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.formats.guard import fail
from tinyconv.left_out import KERAS_1_ARGUMENTS

__all__ = ["Origin", "add_orders", "modernize"]

_CLASSES = {
    "AtrousConvolution1D": "Conv1D", "AtrousConvolution2D": "Conv2D", "Deconvolution2D": "Conv2DTranspose",
}
_FORMATS = {"tf": "channels_last", "th": "channels_first", "default": None}
# Layers whose kernels Theano turns by 180 degrees.
_TURNED = {"Conv1D", "Conv2D", "Conv2DTranspose"}
# Arguments that only repeat what others say, where a layer has the second one.
_REPEATED = {"input_dim": ("output_dim", "nb_filter"), "input_length": ("nb_filter",), "output_shape": ("nb_filter",)}
# Layers of which Keras 1 did not write whether the channels come first.
_WITHOUT_ORDER = {"Cropping2D", "UpSampling2D", "ZeroPadding2D"}


def modernize(class_name: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class name and the settings of a layer as Keras 2 would have written them.

    Settings that are Keras 2's already stay as they are.

    Raises:
        FormatError: If a setting has no counterpart.
    """
    if "nb_row" in config or "nb_col" in config:
        config = {**config, "kernel_size": [config.get("nb_row"), config.get("nb_col")]}
    if class_name == "BatchNormalization" and config.get("mode", 0) != 0:
        fail(f"{class_name} mode", "0", config["mode"])
    modern: dict[str, Any] = {}
    for key, value in config.items():
        if key in ("nb_row", "nb_col") or (key == "mode" and class_name == "BatchNormalization") \
                or any(other in config for other in _REPEATED.get(key, ())):
            continue
        new = KERAS_1_ARGUMENTS.get(key, key)
        if key == "length" and class_name != "UpSampling1D":
            new = key
        if key == "padding" and class_name == "ZeroPadding2D" and isinstance(value, list) and len(value) == 4:
            value = [value[:2], value[2:]]
        if key == "dim_ordering":
            value = _FORMATS.get(value, value) if isinstance(value, str) else value
        elif new.endswith("_regularizer") and isinstance(value, dict) and "name" in value:
            value = {"class_name": "L1L2", "config": {factor: value.get(factor) or 0.0 for factor in ("l1", "l2")}}
        elif new.endswith("_constraint") and isinstance(value, dict) and "name" in value:
            value = {"class_name": value["name"], "config": {k: v for k, v in value.items() if k != "name"}}
        elif new.endswith("_initializer") and isinstance(value, str):
            value = {"zero": "zeros", "one": "ones"}.get(value, value)
        modern[new] = value
    return _CLASSES.get(class_name, class_name), modern


def add_orders(entries: list[dict[str, Any]]) -> None:
    """Gives the layers whose order of dimensions Keras 1 did not write that of the others."""
    formats = [entry["config"].get("data_format") for entry in entries]
    if "channels_first" in formats and "channels_last" not in formats:
        for entry in entries:
            if entry["class_name"] in _WITHOUT_ORDER:
                entry["config"].setdefault("data_format", "channels_first")


class Origin:
    """Which Keras wrote a file's weights, hence how kernels lie in it.

    Args:
        version: `keras_version` of the file; None is Keras 1, which did not write it at first.
        backend: `backend` of the file, or None.
    """

    def __init__(self, version: str | None, backend: str | None) -> None:
        self._is_first = version is None or version.startswith("1")
        self._is_turned = backend == "theano"

    def _stored_order(self, layer: Any, name: str) -> tuple[int, ...] | None:
        """The axes of a kernel in the order that they have in the file; None: as here."""
        class_name = type(layer).__name__
        if not self._is_first or name != "kernel" or class_name not in ("Conv2D", "Conv2DTranspose"):
            return None
        first = layer.data_format == "channels_first"
        if class_name == "Conv2D":
            return (3, 2, 0, 1) if first else None
        return (2, 3, 0, 1) if first else (0, 1, 3, 2)

    def stored_shape(self, layer: Any, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that a weight of `shape` has in the file."""
        if self._is_old_sequence(layer, name):
            return (shape[0], 1, *shape[1:])
        order = self._stored_order(layer, name)
        return shape if order is None else tuple(shape[axis] for axis in order)

    def convert(self, layer: Any, name: str, shape: tuple[int, ...], value: np.ndarray) -> np.ndarray:
        """A weight from the file as it lies here."""
        if self._is_old_sequence(layer, name):
            value = value.reshape(shape)
        order = self._stored_order(layer, name)
        if order is not None:
            value = value.transpose(np.argsort(order))
        if self._is_turned and name == "kernel" and type(layer).__name__ in _TURNED:
            value = value[(slice(None, None, -1),) * (value.ndim - 2)]
        return value

    def _is_old_sequence(self, layer: Any, name: str) -> bool:
        return self._is_first and name == "kernel" and type(layer).__name__ == "Conv1D"

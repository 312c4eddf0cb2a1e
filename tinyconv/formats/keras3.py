"""The Keras 3 dialect of a model's description and of its compile settings, for writing.

Every object names its module, as `keras.saving.serialize_keras_object` does.  It is read
by `formats.keras2`, which takes this dialect as well.
"""

from __future__ import annotations

from typing import Any

from tinyconv.formats import keras2

__all__ = ["KERAS_VERSION", "write_compile_config", "write_model"]

# The version whose dialect is written.
KERAS_VERSION = "3.15.1"
# Schedules that Keras does not have.
_OWN_SCHEDULES = {"OneCycle"}
_MODULES = {
    "activation": "keras.layers", "learning_rate": "keras.optimizers.schedules", "initializer": "keras.initializers",
    "regularizer": "keras.regularizers", "constraint": "keras.constraints",
}
_POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}


def write_model(model: Any) -> dict[str, Any]:
    """A built Sequential's layers as `keras.models.load_model` takes them.

    Raises:
        ValueError: If a layer is not one of `tinyconv.layers`.
    """
    shape = list(model.input_shape)
    names = {layer.name for layer in model.layers}
    name = "input_layer"
    while name in names:
        name = f"{name}_0"
    entries = [{"module": "keras.layers", "class_name": "InputLayer", "registered_name": None, "config": {
        "batch_shape": shape, "dtype": "float32", "sparse": False, "ragged": False, "name": name,
    }}]
    for layer in model.layers:
        config = _settings(keras2.config_of(layer, model))
        config.pop("batch_input_shape", None)
        entry = _object(keras2.class_name_of(layer), {**config, "dtype": _POLICY}, "keras.layers")
        entries.append({**entry, "build_config": {"input_shape": [None, *layer.input_shape]}})
    config = {"name": model.name, "trainable": True, "dtype": _POLICY, "layers": entries, "build_input_shape": shape}
    return {**_object("Sequential", config, "keras"), "build_config": {"input_shape": shape}}


def write_compile_config(settings: dict[str, Any] | None) -> dict[str, Any] | None:
    """Compile settings as Keras 3 has them, or None where it lacks the schedule of the learning rate."""
    if settings is None:
        return None
    rate = settings["optimizer"]["config"]["learning_rate"]
    if isinstance(rate, dict) and rate["class_name"] in _OWN_SCHEDULES:
        return None
    optimizer = settings["optimizer"]
    return {
        "optimizer": _object(optimizer["class_name"], _settings(optimizer["config"]), "keras.optimizers"),
        "loss": _named(settings["loss"], "keras.losses"),
        "loss_weights": settings.get("loss_weights"),
        "metrics": [_named(metric, "keras.metrics") for metric in settings.get("metrics") or []],
        "weighted_metrics": [_named(metric, "keras.metrics") for metric in settings.get("weighted_metrics") or []],
        "run_eagerly": False,
        "steps_per_execution": 1,
    }


def _named(value: Any, module: str) -> Any:
    """A loss or a metric: a name stays one."""
    return _object(value["class_name"], value["config"], module) if isinstance(value, dict) else value


def _object(class_name: str, config: Any, module: str) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """A config in which every object among the values names its module."""
    written = {}
    for key, value in config.items():
        if isinstance(value, dict) and "class_name" in value:
            module = _MODULES[key if key in _MODULES else key.rpartition("_")[2]]
            value = _object(value["class_name"], _settings(value.get("config", {})), module)
        written[key] = value
    return written

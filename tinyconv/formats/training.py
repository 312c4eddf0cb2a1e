"""A model's compile settings in the form that TensorFlow.js and Keras 2 files have them.

What that form cannot say (labels smoothed, top-k metrics, ...) is kept beside it in
this package's own part of the file, see `formats.tfjs`.
"""

from __future__ import annotations

from typing import Any

from tinyconv import losses, metrics, optimizers
from tinyconv.formats.guard import checked_dict
from tinyconv.utils import to_snake_case

__all__ = ["read_training_config", "write_training_config"]

# Losses and metrics that TensorFlow.js finds by these names.
_LOSSES = (
    "binary_crossentropy", "categorical_crossentropy", "mean_squared_error",
    "sparse_categorical_crossentropy",
)
_METRICS = {
    "acc": "acc", "accuracy": "accuracy", "binary_accuracy": "binary_accuracy",
    "categorical_accuracy": "categorical_accuracy", "mae": "mae", "mean_absolute_error": "mae", "mse": "mse",
    "mean_squared_error": "mse",
}


def write_training_config(settings: dict[str, Any]) -> dict[str, Any] | None:
    """`trainingConfig` for the settings of `Sequential.get_compile_config`.

    Metrics that TensorFlow.js lacks are left out.

    Returns:
        The JSON object, or None where the loss or the optimizer is one that TensorFlow.js does not
        have: it would train by another.
    """
    loss = losses.get(settings["loss"])
    name = to_snake_case(type(loss).__name__)
    if name not in _LOSSES or loss.lower() != type(loss)().lower():
        return None
    optimizer = _write_optimizer(optimizers.deserialize(settings["optimizer"]))
    if optimizer is None:
        return None
    names = (_metric_name(metric, name) for metric in settings.get("metrics") or [])
    return {
        "loss": name,
        "metrics": [metric for metric in names if metric is not None],
        "optimizer_config": optimizer,
    }


def _metric_name(metric: Any, loss: str) -> str | None:
    if isinstance(metric, dict):
        class_name = metric.get("class_name", "")
        name = to_snake_case(class_name)
        # Only at its defaults does a metric go by its name.
        if name in _METRICS and metrics.deserialize(metric).lower() != metrics.get(class_name).lower():
            return None
        metric = name
    if metric == "sparse_categorical_accuracy" and loss == "sparse_categorical_crossentropy":
        return "accuracy"  # what TensorFlow.js makes of it beside this loss
    return _METRICS.get(metric)


def _write_optimizer(optimizer: optimizers.Optimizer) -> dict[str, Any] | None:
    """The optimizer as TensorFlow.js knows it, or None where it would train by another rule."""
    config = optimizer.get_config()
    if optimizer.options() is not None or not isinstance(config["learning_rate"], float):
        return None
    if optimizer.kind == "momentum":
        # Its SGD has no momentum: the class Momentum has.
        return {"class_name": "Momentum", "config": {
            "learning_rate": config["learning_rate"], "momentum": config["momentum"],
            "use_nesterov": config["nesterov"],
        }}
    keys = {"sgd": ("learning_rate",), "adam": ("learning_rate", "beta_1", "beta_2", "epsilon")}.get(optimizer.kind)
    if keys is None:
        return None
    return {"class_name": {"sgd": "SGD", "adam": "Adam"}[optimizer.kind], "config": {key: config[key] for key in keys}}


def read_training_config(config: dict[str, Any]) -> dict[str, Any]:
    """Settings for `Sequential.compile_from_config` from a file's training configuration.

    Raises:
        ValueError: If it asks for what this package does not have.
    """
    for key in ("loss_weights", "sample_weight_mode", "weighted_metrics"):
        if config.get(key):
            raise ValueError(f"Expected no {key}. Received: {str(config[key])[:80]}")
    optimizer = config.get("optimizer_config")
    loss = config.get("loss")
    if isinstance(loss, list) and len(loss) == 1:
        loss = loss[0]
    return {
        "optimizer": optimizers.serialize(_read_optimizer(optimizer)),
        "loss": to_snake_case(loss) if isinstance(loss, str) else losses.serialize(losses.get(loss)),
        "metrics": [_read_metric(metric) for metric in _flat(config.get("metrics"))],
    }


def _read_optimizer(value: Any) -> optimizers.Optimizer:
    value = checked_dict(value, "optimizer_config")
    config = checked_dict(value.get("config"), "optimizer_config config")
    config = {to_snake_case(key): setting for key, setting in config.items()}
    class_name = "SGD" if value.get("class_name") == "Momentum" else value.get("class_name")
    if class_name == "RMSProp" and "decay" in config:  # TensorFlow.js' name of rho
        config["rho"] = config.pop("decay")
    return optimizers.deserialize({"class_name": class_name, "config": config})


def _read_metric(metric: Any) -> Any:
    if isinstance(metric, str):
        name = to_snake_case(metric) if not metric.isupper() else metric
        metrics.get(name)
        return name
    return metrics.serialize(metrics.get(metric)) if isinstance(metric, dict) else metrics.get(metric).name


def _flat(value: Any) -> list[Any]:
    """Metrics may be a list per output, or a single one."""
    if value is None:
        return []
    if not isinstance(value, list):
        return [value]
    return [metric for entry in value for metric in (entry if isinstance(entry, list) else [entry])]

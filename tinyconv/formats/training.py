"""A model's compile settings in the form that TensorFlow.js and Keras 2 files have them.

What that form cannot say (labels smoothed, top-k metrics, ...) is kept beside it in
this package's own part of the file, see `formats.tfjs`.
"""

from __future__ import annotations

from typing import Any

from tinyconv import losses, metrics, optimizers
from tinyconv.formats.guard import checked_dict
from tinyconv.formats.keras2 import BAD_SETTINGS, shorten_message
from tinyconv.utils import to_snake_case, warn

__all__ = ["compile_as_written", "read_training_config", "write_training_config"]

# Names of a TensorFlow.js file: those of losses and metrics that are there what they are here.
_LOSSES = {
    **{name: name for name in (
        "binary_crossentropy", "categorical_crossentropy", "categorical_hinge", "hinge",
        "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
        "mean_squared_logarithmic_error", "poisson", "sparse_categorical_crossentropy", "squared_hinge",
    )},
    **{name: old for old, name in losses.KERAS_2_NAMES.items()},
}
_METRICS = {
    **{name: name for name in (
        "acc", "accuracy", "binary_accuracy", "categorical_accuracy", "categorical_crossentropy", "ce",
        "crossentropy", "mae", "mape", "mse", "sparse_categorical_crossentropy",
    )},
    "mean_absolute_error": "mae", "mean_absolute_percentage_error": "mape", "mean_squared_error": "mse",
}
# What the short names are where a model gives several numbers.
_BY_OUTPUTS = {"acc": "categorical_accuracy", "accuracy": "categorical_accuracy", "ce": "categorical_crossentropy",
               "crossentropy": "categorical_crossentropy"}
# Other names that Keras 2 and TensorFlow.js have for losses.  Not "cosine_proximity" as a metric: its sign
# was another before Keras 2.3 and is in TensorFlow.js.
_OLD_LOSSES = {**losses.KERAS_2_NAMES, "cosine": "cosine_similarity"}
_OLD_METRICS = {"kullback_leibler_divergence": "kl_divergence"}
# Optimizers that step there as they do here: their class there, and their arguments there and here.  Its Adadelta
# divides by the average of the step before, its centered RMSProp subtracts epsilon, its Momentum is a class.
_RMSPROP = ("RMSProp", {"learning_rate": "learning_rate", "decay": "rho", "momentum": "momentum", "epsilon": "epsilon",
                        "centered": "centered"})
_OPTIMIZERS = {
    "sgd": ("SGD", {"learning_rate": "learning_rate"}),
    "momentum": ("Momentum", {"learning_rate": "learning_rate", "momentum": "momentum", "use_nesterov": "nesterov"}),
    "adam": ("Adam", {key: key for key in ("learning_rate", "beta_1", "beta_2", "epsilon")}),
    "adamax": ("Adamax", {key: key for key in ("learning_rate", "beta_1", "beta_2", "epsilon")}),
    "adagrad": ("Adagrad", {key: key for key in ("learning_rate", "initial_accumulator_value")}),
    "rmsprop": _RMSPROP,
    "rmsprop_momentum": _RMSPROP,
}


def write_training_config(settings: dict[str, Any], outputs: int, has_state: bool) -> dict[str, Any] | None:
    """`trainingConfig` for the settings of `Sequential.get_compile_config`.

    Args:
        settings: The settings.
        outputs: How many numbers the model gives, by which "accuracy" is one accuracy or another.
        has_state: Whether the optimizer's state is written as well, which TensorFlow.js takes of most.

    Metrics that TensorFlow.js lacks are left out, weighted ones among them: it refuses files that name any.
    Its hinges take labels of -1 and 1 only.

    Returns:
        The JSON object, or None where the loss or the optimizer is one that TensorFlow.js does not
        have, or the loss has a weight: it would train by another.
    """
    loss = losses.get(settings["loss"])
    kind = type(loss).function.__name__
    if kind not in _LOSSES or loss.lower() != type(loss)().lower() or settings.get("loss_weights", 1) != 1:
        return None
    optimizer = _write_optimizer(optimizers.deserialize(settings["optimizer"]), has_state)
    if optimizer is None:
        return None
    names = (_metric_name(metric, kind, outputs) for metric in settings.get("metrics") or [])
    return {
        "loss": _LOSSES[kind],
        "metrics": [metric for metric in names if metric is not None],
        "optimizer_config": optimizer,
    }


def _metric_name(metric: Any, loss: str, outputs: int) -> str | None:
    """TensorFlow.js' name of a metric, or None."""
    if isinstance(metric, dict):
        class_name = metric.get("class_name", "")
        # Only at its defaults does a metric go by its name.
        if class_name == "Accuracy" or metrics.deserialize(metric).arguments() != _default_arguments(class_name):
            return None
        metric = class_name
    name = metric.lower() if metric.isupper() else to_snake_case(metric)
    if loss == "binary_crossentropy" and outputs > 1 and name in _BY_OUTPUTS:
        return _BY_OUTPUTS[name]  # beside this loss, TensorFlow.js has the binary one
    if name == "sparse_categorical_accuracy" and loss == "sparse_categorical_crossentropy":
        return "accuracy"  # what TensorFlow.js makes of it beside this loss
    return _METRICS.get(name)


def _default_arguments(class_name: str) -> dict[str, Any] | None:
    """Of a metric's class; None where it has some that must be given."""
    try:
        return metrics.get(class_name).arguments()
    except ValueError:
        return None


def _write_optimizer(optimizer: optimizers.Optimizer, has_state: bool) -> dict[str, Any] | None:
    """The optimizer as TensorFlow.js knows it, or None where it would train by another rule."""
    config = optimizer.get_config()
    if optimizer.options() is not None or not isinstance(config["learning_rate"], float):
        return None
    if optimizer.kind not in _OPTIMIZERS or (optimizer.kind == "adagrad" and config["epsilon"] != 1e-7) or (
            optimizer.kind == "adamax" and has_state):  # its Adagrad has no other epsilon, its Adamax takes no state
        return None
    class_name, keys = _OPTIMIZERS[optimizer.kind]
    return {"class_name": class_name, "config": {there: config[here] for there, here in keys.items()}}


def read_training_config(config: dict[str, Any]) -> dict[str, Any]:
    """Settings for `Sequential.compile_from_config` from a file's training configuration.

    Raises:
        ValueError: If it asks for what this package does not have.
    """
    if config.get("sample_weight_mode"):
        raise ValueError(f"Expected no sample_weight_mode. Received: {str(config['sample_weight_mode'])[:80]}")
    settings = {
        "optimizer": optimizers.serialize(_read_optimizer(config.get("optimizer_config", config.get("optimizer")))),
        "loss": _read_loss(_single(config.get("loss"))),
        "metrics": [_read_metric(metric) for metric in _flat(config.get("metrics"))],
    }
    if config.get("weighted_metrics"):
        settings["weighted_metrics"] = [_read_metric(metric) for metric in _flat(config["weighted_metrics"])]
    weight = _single(config.get("loss_weights"))
    return settings if weight in (None, {}, []) else {**settings, "loss_weights": weight}


def compile_as_written(model: Any, config: Any, what: str) -> bool:
    """Compiles a model by a file's training configuration; where that cannot be used here, warns and does not.

    Args:
        model: A built `Sequential`.
        config: As of `read_training_config`; None where the file has none.
        what: Its name in the file, for messages.

    Returns:
        Whether the model is compiled.
    """
    if config is None:
        return False
    try:
        model.compile_from_config(read_training_config(checked_dict(config, what)))
    except BAD_SETTINGS as error:
        warn("The model is not compiled, its training configuration cannot be used here: " + shorten_message(error))
        return False
    return True


def _single(value: Any) -> Any:
    """What is said for the only output, perhaps as a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _function_name(value: Any) -> Any:
    """The name of a function that Keras 3 wrote as an object; anything else as it is."""
    if isinstance(value, dict) and value.get("class_name") == "function" and isinstance(value.get("config"), str):
        return value["config"]
    return value


def _read_loss(loss: Any) -> Any:
    loss = _function_name(loss)
    if not isinstance(loss, str):
        return losses.serialize(losses.get(loss))
    name = to_snake_case(loss) if not loss.isupper() else loss
    return _OLD_LOSSES.get(name, name)


def _read_optimizer(value: Any) -> optimizers.Optimizer:
    if isinstance(value, str):
        return optimizers.get(value)
    value = checked_dict(value, "optimizer_config")
    config = checked_dict(value.get("config"), "optimizer_config config")
    config = {to_snake_case(key): setting for key, setting in config.items()}
    # Keras 2.11 and later write their own as "Custom>Adam".
    class_name = str(value.get("class_name")).removeprefix("Custom>")
    if class_name == "Momentum":
        class_name = "SGD"
    if class_name == "Nadam" and config.get("schedule_decay") == 0.004:  # the only one that Keras has still
        del config["schedule_decay"]
    if class_name == "RMSProp" and "decay" in config:  # TensorFlow.js' name of rho
        config["rho"] = config.pop("decay")
    return optimizers.deserialize({"class_name": class_name, "config": config})


def _read_metric(metric: Any) -> Any:
    metric = _function_name(metric)
    if isinstance(metric, dict) and metric.get("class_name") == "MeanMetricWrapper":  # Keras 2's of a function
        settings = checked_dict(metric.get("config"), "metrics config")
        # It was asked for by its name where that is not the function's: "accuracy".
        metric = settings["name"] if settings.get("name") in ("acc", "accuracy") else settings.get("fn")
    if isinstance(metric, str):
        name = to_snake_case(metric) if not metric.isupper() else metric
        name = _OLD_METRICS.get(name, name)
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

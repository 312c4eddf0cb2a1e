"""Metrics, with Keras 3's names and numbers.

The executor counts the accuracies while a batch runs (`Metric.lower`); other
metrics are fed with predictions in Python (`update_state`).
"""

from __future__ import annotations

import re
from typing import Any

from tinyconv import losses
from tinyconv.losses import (
    KLD,
    MAE,
    MAPE,
    MSE,
    MSLE,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kl_divergence,
    kld,
    log_cosh,
    mae,
    mape,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    mse,
    msle,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from tinyconv.metrics.accuracies import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from tinyconv.metrics.auc import AUC
from tinyconv.metrics.base import FunctionMetric, Mean, MeanMetricWrapper, Metric, Sum
from tinyconv.metrics.classes import (
    BinaryIoU,
    F1Score,
    FBetaScore,
    IoU,
    MeanIoU,
    OneHotIoU,
    OneHotMeanIoU,
    confusion_matrix,
    per_class_accuracy,
)
from tinyconv.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from tinyconv.metrics.errors import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    R2Score,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    cosine_similarity,
)
from tinyconv.named import deserialize_object, serialize_object
from tinyconv.shapes import describe
from tinyconv.utils import to_snake_case

__all__ = [
    "AUC", "KLD", "MAE", "MAPE", "MSE", "MSLE", "Accuracy", "BinaryAccuracy", "BinaryCrossentropy", "BinaryIoU",
    "CategoricalAccuracy", "CategoricalCrossentropy", "CategoricalHinge", "CosineSimilarity", "F1Score",
    "FBetaScore", "FalseNegatives", "FalsePositives", "Hinge", "IoU", "KLDivergence", "LogCoshError", "Mean",
    "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanIoU", "MeanMetricWrapper", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Metric", "OneHotIoU", "OneHotMeanIoU", "Poisson", "Precision",
    "PrecisionAtRecall", "R2Score", "Recall", "RecallAtPrecision", "RootMeanSquaredError",
    "SensitivityAtSpecificity", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy", "SpecificityAtSensitivity", "SquaredHinge", "Sum",
    "TopKCategoricalAccuracy", "TrueNegatives", "TruePositives", "accuracy", "binary_accuracy",
    "binary_crossentropy", "binary_focal_crossentropy", "categorical_accuracy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_hinge", "confusion_matrix", "cosine_similarity", "deserialize",
    "get", "hinge", "huber", "kl_divergence", "kld", "log_cosh", "mae", "mape", "mean_absolute_error",
    "mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error", "mse", "msle",
    "per_class_accuracy", "poisson", "serialize", "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy", "sparse_top_k_categorical_accuracy", "squared_hinge",
    "top_k_categorical_accuracy",
]

_CLASSES: dict[str, type[Metric]] = {
    cls.__name__: cls
    for cls in (AUC, Accuracy, BinaryAccuracy, BinaryCrossentropy, BinaryIoU, CategoricalAccuracy,
                CategoricalCrossentropy, CategoricalHinge, CosineSimilarity, F1Score, FBetaScore,
                FalseNegatives, FalsePositives, Hinge, IoU, KLDivergence, LogCoshError, Mean,
                MeanAbsoluteError, MeanAbsolutePercentageError, MeanIoU, MeanSquaredError,
                MeanSquaredLogarithmicError, OneHotIoU, OneHotMeanIoU, Poisson, Precision,
                PrecisionAtRecall, R2Score, Recall, RecallAtPrecision, RootMeanSquaredError,
                SensitivityAtSpecificity, SparseCategoricalAccuracy, SparseCategoricalCrossentropy,
                SparseTopKCategoricalAccuracy, SpecificityAtSensitivity, SquaredHinge, Sum,
                TopKCategoricalAccuracy, TrueNegatives, TruePositives)
}
_SHORT: dict[str, type[Metric]] = {
    "bce": BinaryCrossentropy, "mae": MeanAbsoluteError, "mape": MeanAbsolutePercentageError,
    "mse": MeanSquaredError, "msle": MeanSquaredLogarithmicError,
}
_NAMES: dict[str, type[Metric]] = {
    **_CLASSES, **{to_snake_case(name): cls for name, cls in _CLASSES.items() if cls is not Accuracy},
    **_SHORT, **{name.upper(): cls for name, cls in _SHORT.items()},
    "kld": KLDivergence, "log_cosh": LogCoshError, "logcosh": LogCoshError,
}
_FUNCTIONS: dict[Any, type[FunctionMetric]] = {
    cls.function: cls for cls in _CLASSES.values() if issubclass(cls, FunctionMetric)
}
# Names that stand for one of three, chosen by what the model puts out and is taught with.
_CHOSEN: dict[str, tuple[Any, Any, Any]] = {
    **dict.fromkeys(("accuracy", "acc"), (BinaryAccuracy, SparseCategoricalAccuracy, CategoricalAccuracy)),
    **dict.fromkeys(("crossentropy", "ce"),
                    (BinaryCrossentropy, SparseCategoricalCrossentropy, CategoricalCrossentropy)),
}


def get(identifier: Any, loss: losses.Loss | None = None,
        output_shape: tuple[int, ...] | None = None) -> Metric:
    """Returns a metric from its name, function, class, config or itself.

    "accuracy" and "acc", in any case, are binary where the model's last dimension is 1, sparse where
    its labels are class indices, else categorical, as Keras chooses; `metrics.Accuracy()` is how to
    ask for equality.  A name stays the metric's name, as the key in a history.

    Args:
        identifier: What to look up; any function of (y_true, y_pred) with a value per sample will do.
        loss: The model's loss, which tells what its labels are. Defaults to None.
        output_shape: The model's output shape. Defaults to None.

    Raises:
        ValueError: If there is no such metric, or it needs arguments.
    """
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier, loss, output_shape)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        return _create(identifier, {})
    if isinstance(identifier, str):
        cls = _NAMES.get(identifier)
        if identifier.lower() in _CHOSEN:
            sparse = isinstance(loss, losses.SparseCategoricalCrossentropy)
            binary = output_shape is not None and output_shape[-1] == 1
            cls = _CHOSEN[identifier.lower()][0 if binary else 1 if sparse else 2]
        if cls is not None:
            return _create(cls, {"name": identifier})
    elif callable(identifier):
        known = _FUNCTIONS.get(identifier)
        return MeanMetricWrapper(identifier, _name_of(identifier)) if known is None else known(name=identifier.__name__)
    names = sorted({*_CHOSEN, *_NAMES} - set(_CLASSES))
    raise ValueError(f"Unknown metric. Expected one of {names}, a Metric, its config or a function. "
                     f"Received: {describe(identifier)}")


def _name_of(function: Any) -> str:
    """As Keras names functions of one's own: MeanError -> mean_error, <lambda> -> lambda."""
    if isinstance(getattr(function, "name", None), str):
        return function.name
    return to_snake_case(re.sub(r"\W+", "", getattr(function, "__name__", type(function).__name__)))


def _create(cls: type[Metric], arguments: dict[str, Any]) -> Metric:
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(f"Expected a metric that needs no arguments, or an instance. "
                         f"Received: {cls.__name__} ({error})") from error


def is_mean(metric: Metric) -> bool:
    """Whether a metric is known not to depend on how samples are shared out to batches; the user's own may."""
    return type(metric) in _CLASSES.values()


def serialize(metric: Metric) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(metric)


def deserialize(config: dict[str, Any], loss: losses.Loss | None = None,
                output_shape: tuple[int, ...] | None = None) -> Metric:
    """Creates a metric from what `serialize` or Keras wrote."""
    name, arguments = config.get("class_name"), config.get("config", {})
    if name == "function" and isinstance(arguments, str):
        return get(arguments, loss, output_shape)
    if name == "MeanMetricWrapper" and isinstance(arguments, dict) and isinstance(arguments.get("fn"), str):
        # Only functions that have a name here; the name in the history is the config's.
        metric = get(arguments["fn"], loss, output_shape)
        metric.name = str(arguments.get("name") or metric.name)
        return metric
    return deserialize_object(config, _CLASSES, "metric")

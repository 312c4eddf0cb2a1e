"""Losses, with Keras 3's names and numbers.

A loss says which of the engine's losses trains a model (`lower`), and can be
called on NumPy arrays by itself.
"""

from __future__ import annotations

from typing import Any

from tinyconv.losses.base import EPSILON, Loss, as_floats, as_pair, as_weights, class_ids
from tinyconv.losses.crossentropies import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    sparse_categorical_crossentropy,
)
from tinyconv.losses.errors import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    cosine_similarity,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
)
from tinyconv.losses.margins import (
    CategoricalHinge,
    Hinge,
    KLDivergence,
    Poisson,
    SquaredHinge,
    categorical_hinge,
    hinge,
    kl_divergence,
    poisson,
    squared_hinge,
)
from tinyconv.named import Named, serialize_object
from tinyconv.shapes import describe

__all__ = [
    "EPSILON", "KERAS_2_NAMES", "KLD", "MAE", "MAPE", "MSE", "MSLE", "BinaryCrossentropy", "BinaryFocalCrossentropy",
    "CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalHinge", "CosineSimilarity", "Hinge",
    "Huber", "KLDivergence", "LogCosh", "Loss", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredError", "MeanSquaredLogarithmicError", "Poisson", "SparseCategoricalCrossentropy", "SquaredHinge",
    "as_floats", "as_pair", "as_weights", "binary_crossentropy", "binary_focal_crossentropy",
    "categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge", "class_ids",
    "cosine_proximity", "cosine_similarity", "deserialize", "get", "hinge", "huber", "is_loss", "kl_divergence",
    "kld", "kullback_leibler_divergence", "log_cosh", "logcosh", "mae", "mape", "mean_absolute_error",
    "mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error", "mse", "msle",
    "poisson", "serialize", "sparse_categorical_crossentropy", "squared_hinge",
]

kld = KLD = kullback_leibler_divergence = kl_divergence
logcosh, cosine_proximity = log_cosh, cosine_similarity
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
mse = MSE = mean_squared_error
msle = MSLE = mean_squared_logarithmic_error

_CLASSES: tuple[type[Loss], ...] = (
    BinaryCrossentropy, BinaryFocalCrossentropy, CategoricalCrossentropy, CategoricalFocalCrossentropy,
    CategoricalHinge, CosineSimilarity, Hinge, Huber, KLDivergence, LogCosh, MeanAbsoluteError,
    MeanAbsolutePercentageError, MeanSquaredError, MeanSquaredLogarithmicError, Poisson,
    SparseCategoricalCrossentropy, SquaredHinge,
)
_SHORT: dict[str, type[Loss]] = {
    "bce": BinaryCrossentropy, "kld": KLDivergence, "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError, "mse": MeanSquaredError, "msle": MeanSquaredLogarithmicError,
}
# Names of Keras 2 -> since.
KERAS_2_NAMES = {"cosine_proximity": "cosine_similarity", "kullback_leibler_divergence": "kl_divergence",
                 "logcosh": "log_cosh"}
_TABLE: Named[Loss] = Named("loss", _CLASSES, {
    **{cls.function.__name__: cls for cls in _CLASSES}, **_SHORT, **{name.upper(): cls for name, cls in _SHORT.items()},
}, base=Loss)


def get(identifier: Any) -> Loss:
    """Returns a loss from its name, function, class, config or itself.

    Raises:
        ValueError: If there is no such loss.
    """
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        identifier = KERAS_2_NAMES.get(identifier, identifier)
    if not isinstance(identifier, type) and callable(identifier) and is_loss(identifier):
        identifier = identifier.__name__
    cls = identifier if isinstance(identifier, type) else type(identifier)
    if isinstance(identifier, (list, tuple)) or (issubclass(cls, Loss) and not hasattr(cls, "function")):
        raise ValueError("Expected one loss, as a model has one output, that is computed by one of these functions. "
                         f"Received: {describe(identifier)}")
    return _TABLE.get(identifier)


def is_loss(function: Any) -> bool:
    """Whether it is the function of one of these losses."""
    return any(function is cls.function for cls in _CLASSES)


def serialize(loss: Loss) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(loss)


def deserialize(config: dict[str, Any]) -> Loss:
    """Creates a loss from what `serialize` or Keras wrote."""
    name, arguments = config.get("class_name"), config.get("config", {})
    if name == "function" and isinstance(arguments, str):
        return get(arguments)
    return _TABLE.deserialize(config)

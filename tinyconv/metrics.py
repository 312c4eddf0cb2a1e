"""Metrics, with Keras 3's names and numbers.

The executor counts the accuracies while a batch runs (`Metric.lower`); other
metrics are fed with predictions in Python (`update_state`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv import losses
from tinyconv.engine import program
from tinyconv.losses import as_floats, as_pair, class_ids
from tinyconv.shapes import describe
from tinyconv.utils import check_number, deserialize_object, serialize_object

__all__ = [
    "MAE", "MSE", "Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "MeanAbsoluteError",
    "MeanMetricWrapper", "MeanSquaredError", "Metric", "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy", "accuracy", "binary_accuracy",
    "categorical_accuracy", "deserialize", "get", "mae", "mean_absolute_error", "mean_squared_error",
    "mse", "serialize", "sparse_categorical_accuracy", "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]


def accuracy(y_true: Any, y_pred: Any) -> np.ndarray:
    """1 where y_pred equals y_true, else 0; the mean over the last axis."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return (y_true == y_pred).mean(axis=-1)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> np.ndarray:
    """1 where (y_pred > threshold) equals y_true, else 0; the mean over the last axis."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return (y_true == (y_pred > threshold)).mean(axis=-1)


def categorical_accuracy(y_true: Any, y_pred: Any) -> np.ndarray:
    """1 where the largest prediction is at the largest label (the lowest index of equals), else 0."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return (y_true.argmax(axis=-1) == y_pred.argmax(axis=-1)).astype(np.float64)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> np.ndarray:
    """1 where the largest prediction is at the class index y_true, else 0."""
    y_pred = as_floats("y_pred", y_pred)
    return (class_ids(y_true, y_pred) == y_pred.argmax(axis=-1)).astype(np.float64)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> np.ndarray:
    """1 where fewer than k predictions exceed that of the class index y_true, else 0."""
    y_pred = as_floats("y_pred", y_pred)
    ids = class_ids(y_true, y_pred)
    own = np.take_along_axis(y_pred, ids[..., None], axis=-1)
    return (((y_pred > own).sum(axis=-1) < k) & ~np.isnan(own[..., 0])).astype(np.float64)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> np.ndarray:
    """1 where fewer than k predictions exceed that of the largest label, else 0."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return sparse_top_k_categorical_accuracy(y_true.argmax(axis=-1), y_pred, k)


def mean_absolute_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of |y_true - y_pred|."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return np.abs(y_true - y_pred).mean(axis=-1)


mean_squared_error = losses.mean_squared_error
mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error


class Metric:
    """Base of all metrics: a running mean of values per sample.

    Args:
        name: Key in the training history.
        dtype: None or "float32".
    """

    def __init__(self, name: str, dtype: Any = None) -> None:
        if dtype not in (None, "float32"):
            raise TypeError(f"Expected `dtype` to be None or 'float32'. Received: dtype={describe(dtype)}")
        if not isinstance(name, str) or not name:
            raise ValueError(f"Expected `name` to be a non-empty string. Received: name={describe(name)}")
        self.name = name
        self.reset_state()

    def values(self, y_true: Any, y_pred: Any) -> np.ndarray:
        """The values of a batch, (N,) or one per position."""
        raise TypeError(f"{type(self).__name__} does not say what it measures: define `values`.")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: Labels.
            y_pred: Predictions.
            sample_weight: Factors (N,). Defaults to None: 1.
        """
        values = np.asarray(self.values(y_true, y_pred), dtype=np.float64)
        if sample_weight is None:
            self.total += float(values.sum())
            self.count += float(values.size)
            return
        weights = as_floats("sample_weight", sample_weight)
        if weights.shape != values.shape[:1]:
            raise ValueError(
                f"Expected `sample_weight` of shape {values.shape[:1]}. "
                f"Received: sample_weight.shape={weights.shape}"
            )
        weights = np.broadcast_to(weights.reshape(weights.shape + (1,) * (values.ndim - 1)), values.shape)
        self.total += float((values * weights).sum())
        self.count += float(weights.sum())

    def result(self) -> float:
        """The mean over everything since `reset_state`; 0 where there was nothing."""
        return self.total / self.count if self.count else 0.0

    def reset_state(self) -> None:
        self.total = 0.0
        self.count = 0.0

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """`update_state`, then `result`."""
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()

    def lower(self) -> program.Metric | None:
        """The engine's metric, or None where Python has to compute it."""
        return None

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        # "fn" is what Keras 2 writes for its wrapped functions; Keras 3.15 adds from_sorted_ids.
        ignored = {"dtype", "fn"} | ({"from_sorted_ids"} if config.get("from_sorted_ids") is False else set())
        return cls(**{key: value for key, value in config.items() if key not in ignored})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class MeanMetricWrapper(Metric):
    """A metric made of a plain function.

    Args:
        fn: Function of (y_true, y_pred) that returns a value per sample.
        name: Name. Defaults to the function's.
        dtype: None or "float32".
    """

    def __init__(self, fn: Callable[[Any, Any], Any], name: str | None = None, dtype: Any = None) -> None:
        if not callable(fn):
            raise ValueError(  # noqa: TRY004 (as for every other metric that cannot be)
                f"Expected `fn` to be a function of (y_true, y_pred). Received: fn={describe(fn)}"
            )
        self.fn = fn
        super().__init__(name or str(getattr(fn, "__name__", type(fn).__name__)), dtype)

    def values(self, y_true: Any, y_pred: Any) -> np.ndarray:
        values = np.asarray(self.fn(y_true, y_pred))
        if values.dtype.kind not in "fiub":
            raise TypeError(f"Metric '{self.name}' expected numbers. Received: dtype={values.dtype}")
        samples = len(y_pred)
        if values.ndim == 0:
            # A function that takes the mean itself counts for all samples of its batch.
            return np.full(samples, float(values))
        if len(values) != samples:
            raise ValueError(
                f"Metric '{self.name}' expected a value for each of {samples} samples. "
                f"Received: shape={values.shape}"
            )
        return values

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "fn": getattr(self.fn, "__name__", type(self.fn).__name__)}


class _FunctionMetric(Metric):
    """A metric of one of this module's functions, which the engine may know as well."""

    function: Callable[..., np.ndarray]

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name or type(self).function.__name__, dtype)

    def values(self, y_true: Any, y_pred: Any) -> np.ndarray:
        return type(self).function(y_true, y_pred)

    def lower(self) -> program.Metric | None:
        kind = type(self).function.__name__
        return program.Metric(kind) if kind in program.METRICS else None


class Accuracy(_FunctionMetric):
    """How often predictions equal labels; for class probabilities use CategoricalAccuracy.

    Args:
        name: Defaults to "accuracy".
        dtype: None or "float32".
    """

    function = staticmethod(accuracy)


class CategoricalAccuracy(_FunctionMetric):
    """How often the most probable class is that of the one-hot label.

    Args:
        name: Defaults to "categorical_accuracy".
        dtype: None or "float32".
    """

    function = staticmethod(categorical_accuracy)


class SparseCategoricalAccuracy(_FunctionMetric):
    """How often the most probable class is the label, a class index.

    Args:
        name: Defaults to "sparse_categorical_accuracy".
        dtype: None or "float32".
    """

    function = staticmethod(sparse_categorical_accuracy)


class MeanSquaredError(_FunctionMetric):
    """The mean of (y_true - y_pred)**2.

    Args:
        name: Defaults to "mean_squared_error".
        dtype: None or "float32".
    """

    function = staticmethod(mean_squared_error)


class MeanAbsoluteError(_FunctionMetric):
    """The mean of |y_true - y_pred|.

    Args:
        name: Defaults to "mean_absolute_error".
        dtype: None or "float32".
    """

    function = staticmethod(mean_absolute_error)


class BinaryAccuracy(_FunctionMetric):
    """How often predictions are on the label's side of a threshold.

    Args:
        name: Defaults to "binary_accuracy".
        dtype: None or "float32".
        threshold: Predictions above it are 1. In [0, 1]. Defaults to 0.5.
    """

    function = staticmethod(binary_accuracy)

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name, dtype)
        self.threshold = check_number(threshold, "threshold", 0.0, 1.0)

    def values(self, y_true: Any, y_pred: Any) -> np.ndarray:
        return binary_accuracy(y_true, y_pred, self.threshold)

    def lower(self) -> program.Metric:
        return program.Metric("binary_accuracy", self.threshold)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}


class _TopK(_FunctionMetric):
    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"Expected `k` to be a positive integer. Received: k={describe(k)}")
        self.k = int(k)

    def values(self, y_true: Any, y_pred: Any) -> np.ndarray:
        return type(self).function(y_true, y_pred, self.k)

    def lower(self) -> program.Metric:
        return program.Metric(type(self).function.__name__, float(self.k))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}


class TopKCategoricalAccuracy(_TopK):
    """How often the class of the one-hot label is among the k most probable; ties count as hits.

    Args:
        k: Defaults to 5.
        name: Defaults to "top_k_categorical_accuracy".
        dtype: None or "float32".
    """

    function = staticmethod(top_k_categorical_accuracy)


class SparseTopKCategoricalAccuracy(_TopK):
    """How often the label, a class index, is among the k most probable; ties count as hits.

    Args:
        k: Defaults to 5.
        name: Defaults to "sparse_top_k_categorical_accuracy".
        dtype: None or "float32".
    """

    function = staticmethod(sparse_top_k_categorical_accuracy)


_CLASSES: dict[str, type[_FunctionMetric]] = {
    cls.__name__: cls
    for cls in (Accuracy, BinaryAccuracy, CategoricalAccuracy, MeanAbsoluteError, MeanSquaredError,
                SparseCategoricalAccuracy, SparseTopKCategoricalAccuracy, TopKCategoricalAccuracy)
}
_FUNCTIONS: dict[str, type[_FunctionMetric]] = {
    **{cls.function.__name__: cls for cls in _CLASSES.values() if cls is not Accuracy},
    "MAE": MeanAbsoluteError, "MSE": MeanSquaredError, "mae": MeanAbsoluteError, "mse": MeanSquaredError,
}
_LOSSES = {function.__name__: function for function in (
    losses.binary_crossentropy, losses.categorical_crossentropy, losses.sparse_categorical_crossentropy)}
# Names that stand for one of three, chosen by what the model puts out and is taught with.
_CHOSEN: dict[str, tuple[Any, Any, Any]] = {
    **dict.fromkeys(("accuracy", "acc"), (BinaryAccuracy, SparseCategoricalAccuracy, CategoricalAccuracy)),
    **dict.fromkeys(("crossentropy", "ce"),
                    (losses.binary_crossentropy, losses.sparse_categorical_crossentropy,
                     losses.categorical_crossentropy)),
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
        ValueError: If there is no such metric.
    """
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier, loss, output_shape)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        return identifier()  # type: ignore[call-arg]
    if isinstance(identifier, str):
        if identifier.lower() in _CHOSEN:
            sparse = isinstance(loss, losses.SparseCategoricalCrossentropy)
            binary = output_shape is not None and output_shape[-1] == 1
            chosen = _CHOSEN[identifier.lower()][0 if binary else 1 if sparse else 2]
        else:
            chosen = _FUNCTIONS.get(identifier) or _CLASSES.get(identifier) or _LOSSES.get(identifier)
        if isinstance(chosen, type):
            return chosen(name=identifier)
        if chosen is not None:
            return MeanMetricWrapper(chosen, name=identifier)
    elif callable(identifier):
        for cls in _CLASSES.values():
            if identifier is cls.function:
                return cls()
        return MeanMetricWrapper(identifier)
    raise ValueError(f"Unknown metric. Expected one of {sorted({*_CHOSEN, *_FUNCTIONS, *_LOSSES})}, "
                     f"a Metric, its config or a function. Received: {describe(identifier)}")


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

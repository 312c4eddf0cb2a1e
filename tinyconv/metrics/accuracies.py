"""How often predictions are right: what the executor counts while a batch runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.engine import program
from tinyconv.losses import as_floats, as_pair, class_ids
from tinyconv.metrics.base import FunctionMetric
from tinyconv.shapes import check_integer
from tinyconv.utils import check_number

__all__ = [
    "Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy", "accuracy", "binary_accuracy",
    "categorical_accuracy", "sparse_categorical_accuracy", "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]


def _by_sample(hits: np.ndarray) -> np.ndarray:
    """The mean over the last axis of (N, ..., outputs); (N,) as numbers."""
    return hits.mean(axis=-1) if hits.ndim > 1 else hits.astype(np.float64)


def accuracy(y_true: Any, y_pred: Any) -> np.ndarray:
    """1 where y_pred equals y_true, else 0; the mean over the last axis."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return _by_sample(y_true == y_pred)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> np.ndarray:
    """1 where (y_pred > threshold) equals y_true, else 0; the mean over the last axis."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return _by_sample(y_true == (y_pred > threshold))


def categorical_accuracy(y_true: Any, y_pred: Any) -> np.ndarray:
    """1 where the largest prediction is at the largest label (the lowest index of equals), else 0."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return (y_true.argmax(axis=-1) == y_pred.argmax(axis=-1)).astype(np.float64)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> np.ndarray:
    """1 where the largest prediction is at the class index y_true, else 0, also of an index there is none of."""
    y_pred = as_floats("y_pred", y_pred)
    return (class_ids(y_true, y_pred, bounded=False) == y_pred.argmax(axis=-1)).astype(np.float64)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> np.ndarray:
    """1 where fewer than k predictions exceed that of the class index y_true, else 0, also of an index there
    is none of."""
    y_pred = as_floats("y_pred", y_pred)
    ids = class_ids(y_true, y_pred, bounded=False)
    there = (ids >= 0) & (ids < y_pred.shape[-1])
    own = np.take_along_axis(y_pred, np.where(there, ids, 0)[..., None], axis=-1)
    return (((y_pred > own).sum(axis=-1) < k) & there & ~np.isnan(own[..., 0])).astype(np.float64)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> np.ndarray:
    """1 where fewer than k predictions exceed that of the largest label, else 0."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return sparse_top_k_categorical_accuracy(y_true.argmax(axis=-1), y_pred, k)


class Accuracy(FunctionMetric):
    """How often predictions equal labels; for class probabilities use CategoricalAccuracy.

    Args:
        name: Defaults to "accuracy".
        dtype: None or "float32".
    """

    direction = "up"
    function = staticmethod(accuracy)


class CategoricalAccuracy(FunctionMetric):
    """How often the most probable class is that of the one-hot label.

    Args:
        name: Defaults to "categorical_accuracy".
        dtype: None or "float32".
    """

    direction = "up"
    function = staticmethod(categorical_accuracy)


class SparseCategoricalAccuracy(FunctionMetric):
    """How often the most probable class is the label, a class index.

    Args:
        name: Defaults to "sparse_categorical_accuracy".
        dtype: None or "float32".
    """

    direction = "up"
    function = staticmethod(sparse_categorical_accuracy)


class BinaryAccuracy(FunctionMetric):
    """How often predictions are on the label's side of a threshold.

    Args:
        name: Defaults to "binary_accuracy".
        dtype: None or "float32".
        threshold: Predictions above it are 1. In [0, 1]. Defaults to 0.5.
    """

    direction = "up"
    function = staticmethod(binary_accuracy)

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name, dtype)
        self.threshold = check_number(threshold, "threshold", 0.0, 1.0)

    def lower(self) -> program.Metric:
        return program.Metric("binary_accuracy", self.threshold)

    def arguments(self) -> dict[str, Any]:
        return {"threshold": self.threshold}


class _TopK(FunctionMetric):
    direction = "up"

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.k = check_integer(k, "k")

    def lower(self) -> program.Metric:
        return program.Metric(type(self).function.__name__, float(self.k))

    def arguments(self) -> dict[str, Any]:
        return {"k": self.k}


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

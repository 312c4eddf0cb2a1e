"""Metrics of classes: scores of each one, overlaps, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyconv.losses import EPSILON, as_floats, as_pair, as_weights
from tinyconv.metrics.base import Metric, add_sums, divide
from tinyconv.shapes import check_integer, describe
from tinyconv.utils import check_flag, check_number

__all__ = [
    "F1Score", "FBetaScore", "IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU", "confusion_matrix",
    "per_class_accuracy",
]

# A matrix of as many rows and columns is kept; a model's file may ask for any number.
_MAX_CLASSES = 1 << 13


def _ids(name: str, labels: Any) -> np.ndarray:
    """Class ids (N,) from ids, or from scores or one-hot rows (N, classes)."""
    array = as_floats(name, labels)
    if array.ndim == 2:
        array = array[:, 0] if array.shape[1] == 1 else array.argmax(axis=1)
    wrong = array[~((array >= 0) & (array == np.floor(array)))]
    if array.ndim != 1 or wrong.size:
        received = f"{name}.shape={np.shape(labels)}" if array.ndim != 1 else f"{wrong[0]:g}"
        raise ValueError(f"Expected {name} to hold class ids (N,) or scores (N, classes). Received: {received}")
    return array.astype(np.int64)


def confusion_matrix(y_true: Any, y_pred: Any, num_classes: int | None = None, weights: Any = None) -> np.ndarray:
    """How often samples of each class (rows) are predicted as each class (columns).

    Args:
        y_true: Class ids (N,), or one-hot labels (N, classes).
        y_pred: Class ids (N,), or predictions (N, classes), of which the largest counts.
        num_classes: Number of classes. Defaults to the classes of a (N, classes) array, otherwise to the
            largest id + 1.
        weights: A weight a sample, (N,). Defaults to None: 1.

    Returns:
        An array (num_classes, num_classes), int64, or float64 with weights.

    Raises:
        ValueError: If lengths differ, or an id is negative, fractional or not below num_classes.
    """
    truth, predicted = _ids("y_true", y_true), _ids("y_pred", y_pred)
    if len(truth) != len(predicted):
        raise ValueError("Expected y_true and y_pred of the same length. "
                         f"Received: {len(truth)} and {len(predicted)} samples")
    largest = int(max(truth.max(initial=-1), predicted.max(initial=-1)))
    if num_classes is None:
        widths = [np.shape(labels)[1] for labels in (y_true, y_pred) if np.ndim(labels) == 2]
        num_classes = max([largest + 1, *widths])
    elif largest >= check_integer(num_classes, "num_classes"):
        raise ValueError(f"Expected class ids in [0, {num_classes}). Received: {largest}")
    cells = truth * num_classes + predicted
    values = None if weights is None else as_weights(weights, truth.shape)
    return np.bincount(cells, values, num_classes * num_classes).reshape(num_classes, num_classes)


def per_class_accuracy(y_true: Any, y_pred: Any, num_classes: int | None = None) -> np.ndarray:
    """The share of each class's samples that is predicted as that class.

    Args:
        y_true, y_pred, num_classes: As of `confusion_matrix`.

    Returns:
        A float64 array (num_classes,); 0 for a class without samples.
    """
    matrix = confusion_matrix(y_true, y_pred, num_classes)
    return divide(matrix.diagonal(), matrix.sum(axis=1))


class FBetaScore(Metric):
    """The weighted harmonic mean of precision and recall, for every class.

    Args:
        average: None (an array, one score a class), "micro" (all classes counted together), "macro" (the mean
            over classes) or "weighted" (by the classes' numbers of samples). Defaults to None.
        beta: Recall counts beta**2 times as much as precision; positive. Defaults to 1.
        threshold: Predictions above it, in (0, 1], are positive. Defaults to None: the largest is.
        name: Defaults to "fbeta_score".
        dtype: None or "float32".
    """

    direction = "up"
    _sums = np.zeros((4, 1))

    def __init__(self, average: str | None = None, beta: float = 1.0, threshold: float | None = None,
                 name: str | None = "fbeta_score", dtype: Any = None) -> None:
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError("Expected average to be None, 'micro', 'macro' or 'weighted'. "
                             f"Received: average={describe(average)}")
        self.average = average
        self.beta = check_number(beta, "beta", 0.0)
        self.threshold = None if threshold is None else check_number(threshold, "threshold", 0.0, 1.0)
        for argument, value in (("beta", self.beta), ("threshold", self.threshold)):
            if value == 0:
                raise ValueError(f"Expected {argument} to be positive. Received: {argument}={value}")
        super().__init__(dtype, name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: Labels of 0 and 1, (N, classes).
            y_pred: Predictions (N, classes).
            sample_weight: Factors (N,). Defaults to None: 1.

        Raises:
            ValueError: If predictions are not (N, classes), or labels have another shape.
        """
        y_true, y_pred = as_pair(y_true, y_pred)
        if y_pred.ndim != 2:
            raise ValueError(f"{type(self).__name__} expected predictions of shape (N, classes). "
                             f"Received: y_pred.shape={y_pred.shape}")
        if self.threshold is None:
            # Of a row of zeros none is positive.
            positive = (y_pred >= y_pred.max(axis=-1, keepdims=True)) & (np.abs(y_pred) > 1e-9)
        else:
            positive = y_pred > self.threshold
        weights = np.ones(y_true.shape) if sample_weight is None else as_weights(sample_weight, y_true.shape)
        parts = [positive * y_true, positive * (1 - y_true), ~positive * y_true, y_true]
        sums = np.stack([(part * weights).sum(axis=0) for part in parts])
        self._sums = add_sums(self._sums, sums.sum(axis=1, keepdims=True) if self.average == "micro" else sums)

    def result(self) -> Any:
        hits, alarms, misses, samples = self._sums
        precision, recall = hits / (hits + alarms + EPSILON), hits / (hits + misses + EPSILON)
        square = self.beta**2
        scores = (1 + square) * precision * recall / (square * precision + recall + EPSILON)
        if self.average is None:
            return scores
        if self.average == "weighted":
            return float((scores * samples).sum() / (samples.sum() + EPSILON))
        return float(scores.mean())

    def reset_state(self) -> None:
        self._sums = np.zeros_like(self._sums)  # the classes stay known

    def arguments(self) -> dict[str, Any]:
        return {"average": self.average, "beta": self.beta, "threshold": self.threshold}


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall, for every class.

    Args:
        average, threshold, dtype: See `FBetaScore`.
        name: Defaults to "f1_score".
    """

    def __init__(self, average: str | None = None, threshold: float | None = None, name: str | None = "f1_score",
                 dtype: Any = None) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)

    def arguments(self) -> dict[str, Any]:
        return {"average": self.average, "threshold": self.threshold}


class IoU(Metric):
    """Intersection over union: of a class, hits / (hits + false alarms + misses), mean over some classes.

    Args:
        num_classes: Number of classes, at most 8192.
        target_class_ids: The classes to take the mean of; those that do not occur are left out.
        name: Defaults to "io_u", numbered.
        dtype: None or "float32".
        ignore_class: A label whose positions do not count. Defaults to None.
        sparse_y_true, sparse_y_pred: Whether labels and predictions are class ids; otherwise the largest of the
            last axis counts. Default to True.
        axis: -1.
    """

    direction = "up"

    def __init__(self, num_classes: int, target_class_ids: Sequence[int], name: str | None = None,
                 dtype: Any = None, ignore_class: int | None = None, sparse_y_true: bool = True,
                 sparse_y_pred: bool = True, axis: int = -1) -> None:
        if axis != -1:
            raise ValueError(f"Expected axis to be -1. Received: axis={describe(axis)}")
        self.num_classes = check_integer(num_classes, "num_classes", maximum=_MAX_CLASSES)
        self.target_class_ids = [check_integer(i, "target_class_ids", 0) for i in target_class_ids]
        if max(self.target_class_ids, default=num_classes) >= num_classes:
            raise ValueError(f"Expected target_class_ids in [0, {num_classes}). "
                             f"Received: target_class_ids={describe(target_class_ids)}")
        self.ignore_class = ignore_class
        self.sparse_y_true = check_flag(sparse_y_true, "sparse_y_true")
        self.sparse_y_pred = check_flag(sparse_y_pred, "sparse_y_pred")
        super().__init__(dtype, name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true, y_pred: Class ids, or scores along the last axis where they are not sparse.
            sample_weight: Factors (N,). Defaults to None: 1.

        Raises:
            ValueError: If there are not as many labels as predictions, or an id is none of the classes'.
        """
        truth, predicted = as_floats("y_true", y_true), as_floats("y_pred", y_pred)
        truth = truth if self.sparse_y_true else truth.argmax(axis=-1)
        predicted = predicted if self.sparse_y_pred else predicted.argmax(axis=-1)
        if truth.size != predicted.size:
            raise ValueError("Expected as many labels as predictions. "
                             f"Received: y_true.shape={np.shape(y_true)}, y_pred.shape={np.shape(y_pred)}")
        weights = np.ones(truth.shape) if sample_weight is None else as_weights(sample_weight, truth.shape)
        truth, predicted = np.trunc(truth).ravel(), np.trunc(predicted).ravel()
        counted = (truth >= 0) & (truth < self.num_classes) & (predicted >= 0) & (predicted < self.num_classes)
        if self.ignore_class is not None:
            counted &= truth != self.ignore_class
        self._matrix += confusion_matrix(truth[counted], predicted[counted], self.num_classes,
                                         weights.ravel()[counted])

    def result(self) -> float:
        hits = self._matrix.diagonal()[self.target_class_ids]
        union = (self._matrix.sum(axis=0) + self._matrix.sum(axis=1))[self.target_class_ids] - hits
        occurring = union > 1e-9
        return float(divide(hits, union)[occurring].mean()) if occurring.any() else 0.0

    def reset_state(self) -> None:
        self._matrix = np.zeros((self.num_classes, self.num_classes))

    def arguments(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "target_class_ids": self.target_class_ids,
                "ignore_class": self.ignore_class, "sparse_y_true": self.sparse_y_true,
                "sparse_y_pred": self.sparse_y_pred}


class BinaryIoU(IoU):
    """`IoU` of two classes: predictions from the threshold on are of class 1.

    Args:
        target_class_ids: The classes, 0 and 1, to take the mean of. Defaults to both.
        threshold: Where class 1 begins, in [0, 1]. Defaults to 0.5.
        name: Defaults to "binary_io_u", numbered.
        dtype: None or "float32".
    """

    def __init__(self, target_class_ids: Sequence[int] = (0, 1), threshold: float = 0.5, name: str | None = None,
                 dtype: Any = None) -> None:
        self.threshold = check_number(threshold, "threshold", 0.0, 1.0)
        super().__init__(2, target_class_ids, name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: Labels, 0 or 1.
            y_pred: Probabilities of class 1.
            sample_weight: Factors (N,). Defaults to None: 1.
        """
        super().update_state(y_true, as_floats("y_pred", y_pred) >= self.threshold, sample_weight)

    def arguments(self) -> dict[str, Any]:
        return {"target_class_ids": self.target_class_ids, "threshold": self.threshold}


class MeanIoU(IoU):
    """The mean over all classes of intersection over union.

    Args:
        num_classes, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis: See `IoU`.
        name: Defaults to "mean_io_u", numbered.
    """

    def __init__(self, num_classes: int, name: str | None = None, dtype: Any = None,
                 ignore_class: int | None = None, sparse_y_true: bool = True, sparse_y_pred: bool = True,
                 axis: int = -1) -> None:
        every = range(check_integer(num_classes, "num_classes", maximum=_MAX_CLASSES))
        super().__init__(num_classes, every, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in super().arguments().items() if key != "target_class_ids"}


class OneHotIoU(IoU):
    """`IoU` of one-hot labels.

    Args:
        num_classes, target_class_ids, dtype, ignore_class, axis: See `IoU`.
        name: Defaults to "one_hot_io_u", numbered.
        sparse_y_pred: Whether predictions are class ids. Defaults to False.
    """

    def __init__(self, num_classes: int, target_class_ids: Sequence[int], name: str | None = None,
                 dtype: Any = None, ignore_class: int | None = None, sparse_y_pred: bool = False,
                 axis: int = -1) -> None:
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in super().arguments().items() if key != "sparse_y_true"}


class OneHotMeanIoU(MeanIoU):
    """`MeanIoU` of one-hot labels.

    Args:
        num_classes, dtype, ignore_class, axis: See `IoU`.
        name: Defaults to "one_hot_mean_io_u", numbered.
        sparse_y_pred: Whether predictions are class ids. Defaults to False.
    """

    def __init__(self, num_classes: int, name: str | None = None, dtype: Any = None,
                 ignore_class: int | None = None, sparse_y_pred: bool = False, axis: int = -1) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in super().arguments().items() if key != "sparse_y_true"}

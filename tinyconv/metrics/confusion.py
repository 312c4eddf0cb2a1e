"""Metrics of true and false positives and negatives at one threshold or many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyconv.losses import as_pair, as_weights
from tinyconv.metrics.base import Metric, divide
from tinyconv.shapes import check_integer
from tinyconv.utils import check_number

__all__ = [
    "MAX_THRESHOLDS", "Counts", "FalseNegatives", "FalsePositives", "Precision", "PrecisionAtRecall", "Recall",
    "RecallAtPrecision", "SensitivityAtSpecificity", "SpecificityAtSensitivity", "TrueNegatives",
    "TruePositives", "count_at", "even_thresholds",
]

# Of which each has four counts; a model's file may ask for any number.
MAX_THRESHOLDS = 1 << 20


class Counts(NamedTuple):
    """Weighted counts at every threshold, (thresholds,) or (thresholds, labels)."""

    true_positives: np.ndarray
    false_positives: np.ndarray
    true_negatives: np.ndarray
    false_negatives: np.ndarray

    def plus(self, other: Counts) -> Counts:
        """These counts and others, added up."""
        return Counts(*(a + b for a, b in zip(self, other)))

    @property
    def precision(self) -> np.ndarray:
        """The share of true positives in what was taken for positive; 0 where nothing was."""
        return divide(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> np.ndarray:
        """The share of the positives that were found; 0 where there are none."""
        return divide(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> np.ndarray:
        """The share of the negatives that were found; 0 where there are none."""
        return divide(self.true_negatives, self.true_negatives + self.false_positives)


def count_at(thresholds: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> Counts:
    """Counts a prediction as positive where it exceeds a threshold, one count a threshold.

    Compared as float32, as models put predictions out; NaN exceeds nothing.

    Args:
        thresholds: (T,) numbers.
        y_true: Labels; what is not 0 is positive.
        y_pred: Predictions of the same shape.
        weights: Of the same shape.
    """
    order = np.argsort(thresholds, kind="stable")
    ascending = thresholds[order].astype(np.float32)
    predicted = y_pred.ravel().astype(np.float32)
    # How many thresholds each exceeds: those are the lowest.
    exceeded = np.where(np.isnan(predicted), 0, np.searchsorted(ascending, predicted, side="left"))
    positive = y_true.ravel() != 0
    weights = weights.ravel()

    def above(chosen: np.ndarray) -> tuple[np.ndarray, float]:
        sums = np.bincount(exceeded[chosen], weights[chosen], len(thresholds) + 1)
        by_rank = np.cumsum(sums[::-1])[::-1][1:]
        counts = np.empty(len(thresholds))
        counts[order] = by_rank
        return counts, float(sums.sum())

    true_positives, positives = above(positive)
    false_positives, negatives = above(~positive)
    return Counts(true_positives, false_positives, negatives - false_positives, positives - true_positives)


def even_thresholds(num_thresholds: int) -> np.ndarray:
    """From 0 to 1, or 1/2 where there is only one."""
    return np.linspace(0.0, 1.0, num_thresholds) if num_thresholds > 1 else np.array([0.5])


def _batch(y_true: Any, y_pred: Any, sample_weight: Any, top_k: int | None,
           class_id: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and weights of one shape; what is not of the top k, minus infinity."""
    y_true, y_pred = as_pair(y_true, y_pred)
    if sample_weight is None:
        weights = np.ones(y_pred.shape)
    else:
        weights = as_weights(sample_weight, y_pred.shape)
    if top_k is not None:
        rank = np.argsort(np.argsort(-y_pred, axis=-1, kind="stable"), axis=-1)
        y_pred = np.where(rank < top_k, y_pred, -np.inf)
    if class_id is not None:
        if y_pred.ndim < 2 or class_id >= y_pred.shape[-1]:
            raise ValueError(f"Expected predictions of more than {class_id} classes for class_id={class_id}. "
                             f"Received: y_pred.shape={y_pred.shape}")
        y_true, y_pred, weights = y_true[..., class_id], y_pred[..., class_id], weights[..., class_id]
    return y_true, y_pred, weights


class _AtThresholds(Metric):
    """Base of those that count at thresholds."""

    counts: Counts

    def __init__(self, thresholds: Any, top_k: int | None, class_id: int | None, name: str | None,
                 dtype: Any) -> None:
        self._given = thresholds
        several = isinstance(thresholds, Sequence | np.ndarray) and not isinstance(thresholds, str)
        values = list(thresholds) if several else [0.5 if thresholds is None else thresholds]
        self.thresholds = [check_number(value, "thresholds", 0.0, 1.0) for value in values]
        self.top_k = None if top_k is None else check_integer(top_k, "top_k")
        self.class_id = None if class_id is None else check_integer(class_id, "class_id", 0)
        if top_k is not None and thresholds is None:
            self.thresholds = [-1e10]  # whatever is among the top k is positive
        super().__init__(dtype, name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: Labels of 0 and 1, of the predictions' shape.
            y_pred: Probabilities (N, ...).
            sample_weight: Factors (N,). Defaults to None: 1.
        """
        batch = _batch(y_true, y_pred, sample_weight, self.top_k, self.class_id)
        self.counts = self.counts.plus(count_at(np.array(self.thresholds), *batch))

    def result(self) -> Any:
        """A number, or an array where there are several thresholds."""
        values = self.of(self.counts)
        return float(values[0]) if len(values) == 1 else values

    def of(self, counts: Counts) -> np.ndarray:
        """What the metric makes of the counts."""
        raise TypeError(f"{type(self).__name__} does not say what it makes of counts: define `of`.")

    def reset_state(self) -> None:
        self.counts = Counts(*np.zeros((4, len(self.thresholds))))

    def arguments(self) -> dict[str, Any]:
        given = self._given
        return {"thresholds": given.tolist() if isinstance(given, np.ndarray) else given}


class _Count(_AtThresholds):
    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(thresholds, None, None, name, dtype)


class TruePositives(_Count):
    """How many labels of 1 are predicted as such.

    Args:
        thresholds: Number in [0, 1], or a list: predictions above it are positive. Defaults to 0.5.
        name: Defaults to "true_positives", numbered.
        dtype: None or "float32".
    """

    def of(self, counts: Counts) -> np.ndarray:
        return counts.true_positives


class TrueNegatives(_Count):
    """How many labels of 0 are predicted as such.

    Args:
        thresholds, name, dtype: See `TruePositives`.
    """

    def of(self, counts: Counts) -> np.ndarray:
        return counts.true_negatives


class FalsePositives(_Count):
    """How many labels of 0 are predicted as 1.

    Args:
        thresholds, name, dtype: See `TruePositives`.
    """

    def of(self, counts: Counts) -> np.ndarray:
        return counts.false_positives


class FalseNegatives(_Count):
    """How many labels of 1 are predicted as 0.

    Args:
        thresholds, name, dtype: See `TruePositives`.
    """

    def of(self, counts: Counts) -> np.ndarray:
        return counts.false_negatives


class _Share(_AtThresholds):
    direction = "up"

    def __init__(self, thresholds: Any = None, top_k: int | None = None, class_id: int | None = None,
                 name: str | None = None, dtype: Any = None) -> None:
        super().__init__(thresholds, top_k, class_id, name, dtype)

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "top_k": self.top_k, "class_id": self.class_id}


class Precision(_Share):
    """The share of what is predicted as 1 that is: true positives / (true + false positives).

    Args:
        thresholds: Number in [0, 1], or a list: predictions above it are positive. Defaults to 0.5,
            with top_k to none.
        top_k: Only the k largest predictions of a sample can be positive. Defaults to None: all.
        class_id: Only this class counts. Defaults to None: all.
        name: Defaults to "precision", numbered.
        dtype: None or "float32".
    """

    def of(self, counts: Counts) -> np.ndarray:
        return counts.precision


class Recall(_Share):
    """The share of labels of 1 that is predicted as such: true positives / (true positives + false negatives).

    Args:
        thresholds, top_k, class_id, name, dtype: See `Precision`.
    """

    def of(self, counts: Counts) -> np.ndarray:
        return counts.recall


class _Constrained(Metric):
    """The largest of one share over the thresholds at which another reaches a value."""

    direction = "up"
    counts: Counts
    constraint: str
    wanted: tuple[str, str]  # the share that is held, and the one that is reported

    def __init__(self, value: float, num_thresholds: int = 200, class_id: int | None = None,
                 name: str | None = None, dtype: Any = None) -> None:
        self.value = check_number(value, self.constraint, 0.0, 1.0)
        self.num_thresholds = check_integer(num_thresholds, "num_thresholds", maximum=MAX_THRESHOLDS)
        self.class_id = None if class_id is None else check_integer(class_id, "class_id", 0)
        super().__init__(dtype, name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; arguments as of `Precision`."""
        y_true, y_pred, weights = _batch(y_true, y_pred, sample_weight, None, self.class_id)
        if self.num_thresholds > 1:
            y_pred = np.clip(y_pred, 0.0, 1.0)
        self.counts = self.counts.plus(count_at(even_thresholds(self.num_thresholds), y_true, y_pred, weights))

    def result(self) -> float:
        held, reported = (getattr(self.counts, name) for name in self.wanted)
        return float(np.where(held >= self.value, reported, 0.0).max(initial=0.0))

    def reset_state(self) -> None:
        self.counts = Counts(*np.zeros((4, self.num_thresholds)))

    def arguments(self) -> dict[str, Any]:
        return {self.constraint: self.value, "num_thresholds": self.num_thresholds, "class_id": self.class_id}


class SensitivityAtSpecificity(_Constrained):
    """The largest share of found positives at which enough of the negatives are found.

    Args:
        specificity: Share of the labels of 0 that must be predicted as such, in [0, 1].
        num_thresholds: How many are tried, evenly from 0 to 1. Defaults to 200.
        class_id: Only this class counts. Defaults to None: all.
        name: Defaults to "sensitivity_at_specificity", numbered.
        dtype: None or "float32".
    """

    constraint, wanted = "specificity", ("specificity", "recall")

    def __init__(self, specificity: float, num_thresholds: int = 200, class_id: int | None = None,
                 name: str | None = None, dtype: Any = None) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)


class SpecificityAtSensitivity(_Constrained):
    """The largest share of found negatives at which enough of the positives are found.

    Args:
        sensitivity: Share of the labels of 1 that must be predicted as such, in [0, 1].
        num_thresholds, class_id, name, dtype: See `SensitivityAtSpecificity`.
    """

    constraint, wanted = "sensitivity", ("recall", "specificity")

    def __init__(self, sensitivity: float, num_thresholds: int = 200, class_id: int | None = None,
                 name: str | None = None, dtype: Any = None) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)


class PrecisionAtRecall(_Constrained):
    """The largest precision at which enough of the positives are found.

    Args:
        recall: Share of the labels of 1 that must be predicted as such, in [0, 1].
        num_thresholds, class_id, name, dtype: See `SensitivityAtSpecificity`.
    """

    constraint, wanted = "recall", ("recall", "precision")

    def __init__(self, recall: float, num_thresholds: int = 200, class_id: int | None = None,
                 name: str | None = None, dtype: Any = None) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)


class RecallAtPrecision(_Constrained):
    """The largest share of found positives at which what is predicted as 1 is right often enough.

    Args:
        precision: Share of the predictions of 1 that must be right, in [0, 1].
        num_thresholds, class_id, name, dtype: See `SensitivityAtSpecificity`.
    """

    constraint, wanted = "precision", ("precision", "recall")

    def __init__(self, precision: float, num_thresholds: int = 200, class_id: int | None = None,
                 name: str | None = None, dtype: Any = None) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)

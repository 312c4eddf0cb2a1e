"""The area under a curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyconv import activations
from tinyconv.losses import EPSILON, as_floats, as_pair, as_weights
from tinyconv.metrics.base import Metric, divide
from tinyconv.metrics.confusion import MAX_THRESHOLDS, Counts, count_at, even_thresholds
from tinyconv.shapes import check_integer, describe
from tinyconv.utils import check_flag, check_number

__all__ = ["AUC"]

_CURVES = {"ROC": "ROC", "roc": "ROC", "PR": "PR", "pr": "PR"}
_METHODS = {name: name.lower() for method in ("interpolation", "majoring", "minoring")
            for name in (method, method.capitalize())}


class AUC(Metric):
    """The area under a curve of two shares, one point a threshold, as a sum over the intervals.

    Args:
        num_thresholds: How many, evenly from 0 to 1, at most 2^20; more make it exacter. Not looked at beside
            `thresholds`. Defaults to 200.
        curve: "ROC" (found positives over false alarms) or "PR" (precision over recall). Defaults to "ROC".
        summation_method: "interpolation" (trapezoids; of the PR curve what Davis and Goadrich, 2006, derive),
            "majoring" or "minoring" (the larger or smaller end of every interval). Defaults to
            "interpolation".
        name: Defaults to "auc", numbered.
        dtype: None or "float32".
        thresholds: List of numbers in [0, 1] to use instead.
        multi_label: Whether every output has a curve of its own; the areas are averaged. Defaults to False.
        num_labels: Number of outputs; only with multi_label. Defaults to None: the predictions'.
        label_weights: A weight an output. Defaults to None: 1.
        from_logits: Whether predictions go through a sigmoid first. Defaults to False.
    """

    direction = "up"
    counts: Counts | None

    def __init__(self, num_thresholds: int | None = 200, curve: str = "ROC", summation_method: str = "interpolation",
                 name: str | None = None, dtype: Any = None, thresholds: Sequence[float] | None = None,
                 multi_label: bool = False, num_labels: int | None = None,
                 label_weights: Sequence[float] | None = None, from_logits: bool = False) -> None:
        if not isinstance(curve, str) or curve not in _CURVES:
            raise ValueError(f"Expected curve to be 'ROC' or 'PR'. Received: curve={describe(curve)}")
        if not isinstance(summation_method, str) or summation_method not in _METHODS:
            raise ValueError("Expected summation_method to be 'interpolation', 'majoring' or 'minoring'. "
                             f"Received: summation_method={describe(summation_method)}")
        self.curve, self.summation_method = _CURVES[curve], _METHODS[summation_method]
        self._given = None if thresholds is None else sorted(
            check_number(value, "thresholds", 0.0, 1.0) for value in thresholds)
        inner = (even_thresholds(check_integer(num_thresholds, "num_thresholds", 2, MAX_THRESHOLDS))[1:-1]
                 if self._given is None else np.array(self._given))
        # The ends lie a little outside, so that every prediction is between them.
        self.thresholds = np.concatenate([[-EPSILON], inner, [1 + EPSILON]])
        self.num_thresholds = len(self.thresholds)
        self.multi_label = check_flag(multi_label, "multi_label")
        if num_labels is not None and not self.multi_label:
            raise ValueError("Expected num_labels to be None without multi_label. "
                             f"Received: num_labels={describe(num_labels)}")
        self.num_labels = None if num_labels is None else check_integer(num_labels, "num_labels")
        self.label_weights = None if label_weights is None else as_floats("label_weights", label_weights)
        self.from_logits = check_flag(from_logits, "from_logits")
        super().__init__(dtype, name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; arguments as of `Precision`.

        Raises:
            ValueError: If shapes do not fit each other, the labels or their weights.
        """
        y_true, y_pred = as_pair(y_true, y_pred)
        if self.multi_label and (y_pred.ndim != 2 or self.num_labels not in (None, y_pred.shape[-1])):
            raise ValueError(f"AUC(multi_label=True) expected predictions of shape (N, {self.num_labels or 'labels'}). "
                             f"Received: y_pred.shape={y_pred.shape}")
        weights = np.ones(y_pred.shape) if sample_weight is None else as_weights(sample_weight, y_pred.shape)
        if self.label_weights is not None and self.label_weights.shape != y_pred.shape[-1:]:
            raise ValueError(f"Expected label_weights of shape {y_pred.shape[-1:]}. "
                             f"Received: label_weights.shape={self.label_weights.shape}")
        y_pred = np.clip(activations.sigmoid(y_pred) if self.from_logits else y_pred, 0.0, 1.0)
        if self.multi_label:
            columns = [count_at(self.thresholds, *column) for column in zip(y_true.T, y_pred.T, weights.T)]
            counts = Counts(*(np.stack(parts, axis=1) for parts in zip(*columns)))
        else:
            if self.label_weights is not None:
                weights = weights * self.label_weights
            counts = count_at(self.thresholds, y_true, y_pred, weights)
        self.counts = counts if self.counts is None else self.counts.plus(counts)

    def result(self) -> float:
        if self.counts is None:
            return 0.0
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = _interpolated(self.counts)
        else:
            c = self.counts
            alarms = divide(c.false_positives, c.false_positives + c.true_negatives)
            x, y = (alarms, c.recall) if self.curve == "ROC" else (c.recall, c.precision)
            heights = {"interpolation": (y[:-1] + y[1:]) / 2, "minoring": np.minimum(y[:-1], y[1:]),
                       "majoring": np.maximum(y[:-1], y[1:])}[self.summation_method]
            areas = ((x[:-1] - x[1:]) * heights).sum(axis=0)
        if self.multi_label and self.label_weights is not None:
            return float(divide((areas * self.label_weights).sum(), self.label_weights.sum()))
        return float(np.mean(areas))

    def reset_state(self) -> None:
        self.counts = None

    def arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "num_thresholds": self.num_thresholds, "curve": self.curve,
            "summation_method": self.summation_method, "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": None if self.label_weights is None else self.label_weights.tolist(),
            "from_logits": self.from_logits,
        }
        return arguments if self._given is None else {**arguments, "thresholds": self._given}


def _interpolated(counts: Counts) -> np.ndarray:
    """The area under precision over recall: between two points true and false positives are straight lines.

    With P = TP + FP and TP = slope * P + intercept the integral of precision over an interval is
    slope * (dTP + intercept * log(P_a / P_b)) / (TP + FN).
    """
    tp, p = counts.true_positives, counts.true_positives + counts.false_positives
    rise = tp[:-1] - tp[1:]
    slope = divide(rise, np.maximum(p[:-1] - p[1:], 0))
    intercept = tp[1:] - slope * p[1:]
    both = (p[:-1] > 0) & (p[1:] > 0)
    ratio = np.where(both, divide(p[:-1], np.maximum(p[1:], 0)), 1.0)
    positives = np.maximum(tp[1:] + counts.false_negatives[1:], 0)
    return divide(slope * (rise + intercept * np.log(ratio)), positives).sum(axis=0)

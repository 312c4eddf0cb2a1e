"""Losses of margins and of distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.losses.base import EPSILON, PlainLoss, as_pair

__all__ = [
    "CategoricalHinge", "Hinge", "KLDivergence", "Poisson", "SquaredHinge", "categorical_hinge", "hinge",
    "kl_divergence", "poisson", "squared_hinge",
]


def _margins(y_true: Any, y_pred: Any) -> np.ndarray:
    """max(1 - y_true * y_pred, 0); labels that are all 0 and 1 stand for -1 and 1."""
    y_true, y_pred = as_pair(y_true, y_pred)
    if np.isin(y_true, (0, 1)).all():
        y_true = 2 * y_true - 1
    return np.maximum(1 - y_true * y_pred, 0)


def hinge(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of max(1 - y_true * y_pred, 0), a float64 array (...,).

    Labels are -1 and 1; where all are 0 and 1 these stand for them.
    """
    return _margins(y_true, y_pred).mean(axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of max(1 - y_true * y_pred, 0)**2; labels as in `hinge`."""
    return np.square(_margins(y_true, y_pred)).mean(axis=-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> np.ndarray:
    """max(1 + max((1 - y_true) * y_pred) - sum(y_true * y_pred), 0) over the last axis, a float64 array (...,).

    Args:
        y_true: One-hot labels (..., classes).
        y_pred: Predictions (..., classes).
    """
    y_true, y_pred = as_pair(y_true, y_pred)
    return np.maximum(((1 - y_true) * y_pred).max(axis=-1) - (y_true * y_pred).sum(axis=-1) + 1, 0)


def kl_divergence(y_true: Any, y_pred: Any) -> np.ndarray:
    """sum(y_true * log(y_true / y_pred)) over the last axis, both clipped to [1e-7, 1]; float64 (...,)."""
    y_true, y_pred = as_pair(y_true, y_pred)
    y_true, y_pred = np.clip(y_true, EPSILON, 1), np.clip(y_pred, EPSILON, 1)
    return (y_true * np.log(y_true / y_pred)).sum(axis=-1)


def poisson(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of y_pred - y_true * log(y_pred + 1e-7), a float64 array (...,)."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return (y_pred - y_true * np.log(y_pred + EPSILON)).mean(axis=-1)


class Hinge(PlainLoss):
    """The mean of max(1 - y_true * y_pred, 0); labels are -1 and 1, or 0 and 1.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(hinge)


class SquaredHinge(PlainLoss):
    """The mean of max(1 - y_true * y_pred, 0)**2; labels are -1 and 1, or 0 and 1.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(squared_hinge)


class CategoricalHinge(PlainLoss):
    """How far the best of the wrong classes comes within 1 of the right one.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(categorical_hinge)


class KLDivergence(PlainLoss):
    """The divergence of Kullback and Leibler (1951) of labels from predictions, both distributions.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(kl_divergence)


class Poisson(PlainLoss):
    """The mean of y_pred - y_true * log(y_pred): predictions are the expected counts.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(poisson)

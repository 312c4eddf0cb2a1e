"""Losses of how far predictions are from their targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.losses.base import EPSILON, Loss, PlainLoss, as_pair, check_axis
from tinyconv.shapes import describe
from tinyconv.utils import check_number

__all__ = [
    "CosineSimilarity", "Huber", "LogCosh", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredError", "MeanSquaredLogarithmicError", "cosine_similarity", "huber", "log_cosh",
    "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
    "mean_squared_logarithmic_error", "unit_vectors",
]


def mean_squared_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of (y_true - y_pred)**2, a float64 array (...,)."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return np.square(y_true - y_pred).mean(axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of |y_true - y_pred|, a float64 array (...,)."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return np.abs(y_true - y_pred).mean(axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of 100 |y_true - y_pred| / max(|y_true|, 1e-7), a float64 array (...,)."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return 100 * (np.abs(y_true - y_pred) / np.maximum(np.abs(y_true), EPSILON)).mean(axis=-1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of (log(1 + y_true) - log(1 + y_pred))**2, a float64 array (...,).

    What is below 1e-7 counts as that.
    """
    y_true, y_pred = as_pair(y_true, y_pred)
    return np.square(np.log1p(np.maximum(y_true, EPSILON)) - np.log1p(np.maximum(y_pred, EPSILON))).mean(axis=-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> np.ndarray:
    """The mean over the last axis of a square near the target and a straight line beyond (Huber, 1964).

    Args:
        y_true, y_pred: Targets and predictions (..., outputs).
        delta: With the error d: d**2 / 2 up to delta, delta * |d| - delta**2 / 2 beyond. Defaults to 1.

    Returns:
        A float64 array (...,).
    """
    y_true, y_pred = as_pair(y_true, y_pred)
    error = np.abs(y_true - y_pred)
    return np.where(error <= delta, np.square(error) / 2, delta * error - delta * delta / 2).mean(axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of log(cosh(y_pred - y_true)), a float64 array (...,)."""
    y_true, y_pred = as_pair(y_true, y_pred)
    error = np.abs(y_pred - y_true)
    return (error + np.log1p(np.exp(-2 * error)) - np.log(2)).mean(axis=-1)


def unit_vectors(x: np.ndarray) -> np.ndarray:
    """x divided by its lengths along the last axis; lengths below 1e-7 count as that."""
    return x / np.maximum(np.sqrt(np.square(x).sum(axis=-1, keepdims=True)), EPSILON)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> np.ndarray:
    """-sum(y_true * y_pred) of unit vectors along the last axis: -1 where they point the same way.

    Args:
        y_true, y_pred: Targets and predictions (..., outputs), of any length but 0.
        axis: -1.

    Returns:
        A float64 array (...,).
    """
    check_axis(axis)
    y_true, y_pred = as_pair(y_true, y_pred)
    return -(unit_vectors(y_true) * unit_vectors(y_pred)).sum(axis=-1)


class MeanSquaredError(PlainLoss):
    """The mean of (y_true - y_pred)**2.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(mean_squared_error)


class MeanAbsoluteError(PlainLoss):
    """The mean of |y_true - y_pred|.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(mean_absolute_error)


class MeanAbsolutePercentageError(PlainLoss):
    """The mean of 100 |y_true - y_pred| / |y_true|.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(PlainLoss):
    """The mean of (log(1 + y_true) - log(1 + y_pred))**2.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(mean_squared_logarithmic_error)


class LogCosh(PlainLoss):
    """The mean of log(cosh(y_pred - y_true)): half a square near 0, |error| - log(2) far away.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(log_cosh)


class Huber(Loss):
    """The mean of a square near the target and a straight line beyond (Huber, 1964).

    Args:
        delta: Where the line begins; positive. Defaults to 1.
        reduction, name, dtype: See `Loss`. The name defaults to "huber_loss".
    """

    function = staticmethod(huber)

    def __init__(self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size",
                 name: str | None = "huber_loss", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)
        self.delta = check_number(delta, "delta", 0.0)
        if self.delta == 0:
            raise ValueError(f"Expected delta to be positive. Received: delta={describe(delta)}")

    def arguments(self) -> dict[str, Any]:
        return {"delta": self.delta}

    def parameters(self) -> tuple[float, ...]:
        return (self.delta,)


class CosineSimilarity(Loss):
    """-1 where predictions and targets point the same way, 1 where they point opposite ways.

    Args:
        axis: -1.
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(cosine_similarity)

    def __init__(self, axis: int = -1, reduction: str | None = "sum_over_batch_size", name: str | None = None,
                 dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)
        check_axis(axis)

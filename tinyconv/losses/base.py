"""What all losses share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tinyconv.engine import program
from tinyconv.named import Configured
from tinyconv.shapes import describe
from tinyconv.utils import check_dtype

__all__ = ["EPSILON", "REDUCTIONS", "Loss", "PlainLoss", "as_floats", "as_pair", "as_weights", "check_axis",
           "class_ids"]

EPSILON = 1e-7
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none")


def as_floats(name: str, x: Any) -> np.ndarray:
    """`x` as float64; TypeError, with its `name`, where it does not hold numbers."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Expected {name} to be numbers. Received: {name}.dtype={array.dtype}")
    return array.astype(np.float64)


def as_pair(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 of one shape; (N,) goes with (N, 1).

    Raises:
        ValueError: If their shapes differ otherwise.
        TypeError: If one does not hold numbers.
    """
    y_true, y_pred = as_floats("y_true", y_true), as_floats("y_pred", y_pred)
    if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
        y_true = y_true[..., None]
    elif y_pred.ndim == y_true.ndim - 1 and y_true.shape[-1] == 1:
        y_pred = y_pred[..., None]
    if y_true.shape != y_pred.shape or not y_pred.ndim:
        raise ValueError(
            "Expected y_true and y_pred of the same shape. "
            f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}"
        )
    return y_true, y_pred


def class_ids(y_true: Any, y_pred: np.ndarray, bounded: bool = True) -> np.ndarray:
    """Class indices of shape y_pred.shape[:-1]; bounded: checked against the number of classes.

    Raises:
        ValueError: If there is not one a prediction, or one is no class's.
    """
    ids = as_floats("y_true", y_true)
    if ids.ndim == y_pred.ndim and ids.shape[-1] == 1:
        ids = ids[..., 0]
    if ids.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"Expected y_true to hold one class index per prediction, shape {y_pred.shape[:-1]}. "
            f"Received: y_true.shape={np.shape(y_true)}, y_pred.shape={y_pred.shape}"
        )
    classes = y_pred.shape[-1]
    wrong = ids[~((ids == np.floor(ids)) & (not bounded or (ids >= 0) & (ids < classes)))]
    if wrong.size:
        raise ValueError(f"Expected y_true to hold integers in [0, {classes}). Received: {wrong[0]:g}")
    return ids.astype(np.int64)


def as_weights(sample_weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of the first dimensions of an array, (N,) as a rule, broadcast to its shape.

    Raises:
        ValueError: If they are not of the shape's first dimensions.
    """
    weights = as_floats("sample_weight", sample_weight)
    if weights.ndim == len(shape) + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if weights.shape != shape[:weights.ndim]:
        raise ValueError(f"Expected sample_weight of shape {shape[:1]}. "
                         f"Received: sample_weight.shape={np.shape(sample_weight)}")
    return np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def check_axis(axis: Any) -> None:
    """Raises ValueError for another axis than the last, -1."""
    if axis != -1 or isinstance(axis, bool):
        raise ValueError(f"Expected axis to be -1. Received: axis={describe(axis)}")


class Loss(Configured):
    """Base of all losses.

    Args:
        name: Name. Defaults to the function's.
        reduction: What becomes of the losses of a batch, one a sample or a position: "sum_over_batch_size"
            or "mean", "sum", "mean_with_sample_weight" (their weighted sum divided by the sum of the
            weights), or "none" or None: a call returns all of them, and no model trains.
            Defaults to "sum_over_batch_size".
        dtype: None or "float32".
    """

    function: Callable[..., np.ndarray]

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size",
                 dtype: Any = None) -> None:
        reduction = {"auto": "sum_over_batch_size", "mean": "sum_over_batch_size", None: "none"}.get(
            reduction, reduction)
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"Expected reduction to be one of {REDUCTIONS}. Received: reduction={describe(reduction)}"
            )
        check_dtype(dtype)
        self.name = name or type(self).function.__name__
        self.reduction = reduction

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch.

        Args:
            y_true: Labels.
            y_pred: Predictions.
            sample_weight: Factors (N,) or of the loss's own shape. Defaults to None: 1.

        Returns:
            A float, or with `reduction="none"` the array of losses.
        """
        values = type(self).function(y_true, y_pred, **self.arguments())
        counted = self.counted(y_true, values.shape)
        if sample_weight is not None:
            weights = as_weights(sample_weight, values.shape)
            values = values * weights
            if self.reduction == "mean_with_sample_weight":
                counted = counted * weights
        if self.reduction == "none":
            return values
        if self.reduction == "sum":
            return float(values.sum())
        total = float(counted.sum())
        return float(values.sum()) / total if total else 0.0

    def counted(self, y_true: Any, shape: tuple[int, ...]) -> np.ndarray:
        """1 where a loss counts in a mean, else 0: an array of the losses' shape."""
        return np.ones(shape)

    def arguments(self) -> dict[str, Any]:
        """The arguments of the loss's function."""
        return {}

    def parameters(self) -> tuple[float, ...]:
        """The engine's parameters of the loss."""
        return ()

    def lower(self) -> program.Loss:
        """The engine's loss.

        Raises:
            ValueError: If there is no reduction.
        """
        if self.reduction == "none":
            raise ValueError(
                "Expected a loss that is reduced to a number to train with. "
                f"Received: {type(self).__name__}(reduction='none')"
            )
        arguments = self.arguments()
        reduction = "mean" if self.reduction == "sum_over_batch_size" else self.reduction
        return program.Loss(type(self).function.__name__, arguments.get("from_logits", False),
                            arguments.get("label_smoothing", 0.0), self.parameters(), reduction)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction, **self.arguments()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # "fn" is what Keras 2 writes for its wrapped functions.
        return cls(**{key: value for key, value in config.items() if key not in ("dtype", "fn")})


class PlainLoss(Loss):
    """Base of those without arguments of their own."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None,
                 dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)

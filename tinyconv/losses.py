"""Losses, with Keras 3's names and numbers.

A loss says which of the engine's losses trains a model (`lower`), and can be
called on NumPy arrays by itself.  Probabilities are clipped to
[1e-7, 1 - 1e-7] as Keras does; the engine does better where a softmax or sigmoid
ends the model, and takes the loss from its input without clipping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv import activations
from tinyconv.engine import program
from tinyconv.shapes import describe
from tinyconv.utils import check_flag, check_number, deserialize_object, serialize_object

__all__ = [
    "MSE", "BinaryCrossentropy", "CategoricalCrossentropy", "Loss", "MeanSquaredError",
    "SparseCategoricalCrossentropy", "binary_crossentropy", "categorical_crossentropy", "deserialize",
    "get", "mean_squared_error", "mse", "serialize", "sparse_categorical_crossentropy",
]

EPSILON = 1e-7
REDUCTIONS = ("sum_over_batch_size", "sum", "none")


def as_floats(name: str, x: Any) -> np.ndarray:
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Expected `{name}` to be numbers. Received: {name}.dtype={array.dtype}")
    return array.astype(np.float64)


def as_pair(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 of one shape; (N,) goes with (N, 1)."""
    y_true, y_pred = as_floats("y_true", y_true), as_floats("y_pred", y_pred)
    if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
        y_true = y_true[..., None]
    elif y_pred.ndim == y_true.ndim - 1 and y_true.shape[-1] == 1:
        y_pred = y_pred[..., None]
    if y_true.shape != y_pred.shape or not y_pred.ndim:
        raise ValueError(
            "Expected `y_true` and `y_pred` of the same shape. "
            f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}"
        )
    return y_true, y_pred


def class_ids(y_true: Any, y_pred: np.ndarray) -> np.ndarray:
    """Class indices of shape y_pred.shape[:-1], checked against the number of classes."""
    ids = as_floats("y_true", y_true)
    if ids.ndim == y_pred.ndim and ids.shape[-1] == 1:
        ids = ids[..., 0]
    if ids.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"Expected `y_true` to hold one class index per prediction, shape {y_pred.shape[:-1]}. "
            f"Received: y_true.shape={np.shape(y_true)}, y_pred.shape={y_pred.shape}"
        )
    classes = y_pred.shape[-1]
    wrong = ids[~((ids >= 0) & (ids < classes) & (ids == np.floor(ids)))]
    if wrong.size:
        raise ValueError(f"Expected `y_true` to hold integers in [0, {classes}). Received: {wrong[0]:g}")
    return ids.astype(np.int64)


def _log_probabilities(y_pred: np.ndarray, from_logits: bool) -> np.ndarray:
    if from_logits:
        return activations.log_softmax(y_pred)
    y_pred = y_pred / y_pred.sum(axis=-1, keepdims=True)
    return np.log(np.clip(y_pred, EPSILON, 1 - EPSILON))


def categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False,
                             label_smoothing: float = 0.0, axis: int = -1) -> np.ndarray:
    """-sum(y_true * log(y_pred)) over the last axis.

    Args:
        y_true: One-hot labels or probabilities (..., classes).
        y_pred: Predictions (..., classes); they are divided by their sum.
        from_logits: Whether y_pred is what goes into a softmax. Defaults to False.
        label_smoothing: Share of every label that is spread over all classes. Defaults to 0.
        axis: -1.

    Returns:
        A float64 array (...,).
    """
    _check_axis(axis)
    y_true, y_pred = as_pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + label_smoothing / y_pred.shape[-1]
    return -(y_true * _log_probabilities(y_pred, from_logits)).sum(axis=-1)


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False,
                                    ignore_class: None = None, axis: int = -1) -> np.ndarray:
    """-log(y_pred[y_true]) over the last axis.

    Args:
        y_true: Class indices (...,) or (..., 1).
        y_pred: Predictions (..., classes); they are divided by their sum.
        from_logits: Whether y_pred is what goes into a softmax. Defaults to False.
        ignore_class: None.
        axis: -1.

    Returns:
        A float64 array (...,).
    """
    _check_axis(axis)
    _check_ignore_class(ignore_class)
    y_pred = as_floats("y_pred", y_pred)
    ids = class_ids(y_true, y_pred)
    return -np.take_along_axis(_log_probabilities(y_pred, from_logits), ids[..., None], axis=-1)[..., 0]


def binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0,
                        axis: int = -1) -> np.ndarray:
    """The mean over the last axis of -y_true * log(y_pred) - (1 - y_true) * log(1 - y_pred).

    Args:
        y_true: Labels in [0, 1], (..., outputs).
        y_pred: Predictions (..., outputs).
        from_logits: Whether y_pred is what goes into a sigmoid. Defaults to False.
        label_smoothing: Share of every label that is moved towards 1/2. Defaults to 0.
        axis: -1.

    Returns:
        A float64 array (...,).
    """
    _check_axis(axis)
    y_true, y_pred = as_pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + label_smoothing / 2
    if from_logits:
        # log(1 + exp(x)) - x y, in the form that cannot overflow.
        losses = np.maximum(y_pred, 0) - y_pred * y_true + np.log1p(np.exp(-np.abs(y_pred)))
    else:
        y_pred = np.clip(y_pred, EPSILON, 1 - EPSILON)
        losses = -y_true * np.log(y_pred) - (1 - y_true) * np.log(1 - y_pred)
    return losses.mean(axis=-1)


def mean_squared_error(y_true: Any, y_pred: Any) -> np.ndarray:
    """The mean over the last axis of (y_true - y_pred)**2, a float64 array (...,)."""
    y_true, y_pred = as_pair(y_true, y_pred)
    return np.square(y_true - y_pred).mean(axis=-1)


mse = MSE = mean_squared_error


class Loss:
    """Base of all losses.

    Args:
        name: Name. Defaults to the function's.
        reduction: "sum_over_batch_size" (the mean), "sum" or "none" of what a call returns; models
            train on the mean. Defaults to "sum_over_batch_size".
        dtype: None or "float32".
    """

    function: Callable[..., np.ndarray]

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size",
                 dtype: Any = None) -> None:
        reduction = {"auto": "sum_over_batch_size", "mean": "sum_over_batch_size", None: "none"}.get(
            reduction, reduction)
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"Expected `reduction` to be one of {REDUCTIONS}. Received: reduction={describe(reduction)}"
            )
        if dtype not in (None, "float32"):
            raise TypeError(f"Expected `dtype` to be None or 'float32'. Received: dtype={describe(dtype)}")
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
        if sample_weight is not None:
            weights = as_floats("sample_weight", sample_weight)
            if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
                weights = weights[..., 0]
            if weights.shape != values.shape[:weights.ndim]:
                raise ValueError(
                    f"Expected `sample_weight` of shape {values.shape[:1]}. "
                    f"Received: sample_weight.shape={np.shape(sample_weight)}"
                )
            values = values * weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim))
        if self.reduction == "none":
            return values
        return float(values.sum() if self.reduction == "sum" else values.mean())

    def arguments(self) -> dict[str, Any]:
        """The arguments of the loss's function."""
        return {}

    def lower(self) -> program.Loss:
        """The engine's loss.

        Raises:
            ValueError: If the reduction is not the mean.
        """
        if self.reduction != "sum_over_batch_size":
            raise ValueError(
                "A model trains with reduction='sum_over_batch_size'. "
                f"Received: {type(self).__name__}(reduction={self.reduction!r})"
            )
        arguments = self.arguments()
        return program.Loss(type(self).function.__name__, arguments.get("from_logits", False),
                            arguments.get("label_smoothing", 0.0))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction, **self.arguments()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        # "fn" is what Keras 2 writes for its wrapped functions.
        return cls(**{key: value for key, value in config.items() if key not in ("dtype", "fn")})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class _SmoothedCrossentropy(Loss):
    """Base of those whose labels are probabilities, which can be smoothed."""

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1,
                 reduction: str | None = "sum_over_batch_size", name: str | None = None,
                 dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)
        _check_axis(axis)
        self.from_logits = check_flag(from_logits, "from_logits")
        self.label_smoothing = check_number(label_smoothing, "label_smoothing", 0.0, 1.0)

    def arguments(self) -> dict[str, Any]:
        return {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing}


class CategoricalCrossentropy(_SmoothedCrossentropy):
    """Cross-entropy of one-hot labels and predicted probabilities.

    Args:
        from_logits: Whether predictions are what goes into a softmax. Defaults to False.
        label_smoothing: In [0, 1]: share of every label that is spread over all classes. Defaults to 0.
        axis: -1.
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(categorical_crossentropy)


class SparseCategoricalCrossentropy(Loss):
    """Cross-entropy of class indices and predicted probabilities.

    Args:
        from_logits: Whether predictions are what goes into a softmax. Defaults to False.
        ignore_class: None.
        reduction, name, dtype: See `Loss`.
        axis: -1.
    """

    function = staticmethod(sparse_categorical_crossentropy)

    def __init__(self, from_logits: bool = False, ignore_class: None = None,
                 reduction: str | None = "sum_over_batch_size", axis: int = -1,
                 name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)
        _check_axis(axis)
        _check_ignore_class(ignore_class)
        self.from_logits = check_flag(from_logits, "from_logits")

    def arguments(self) -> dict[str, Any]:
        return {"from_logits": self.from_logits}


class BinaryCrossentropy(_SmoothedCrossentropy):
    """Cross-entropy of labels in [0, 1] and predicted probabilities, each output by itself.

    Args:
        from_logits: Whether predictions are what goes into a sigmoid. Defaults to False.
        label_smoothing: In [0, 1]: share of every label that is moved towards 1/2. Defaults to 0.
        axis: -1.
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(binary_crossentropy)


class MeanSquaredError(Loss):
    """The mean of (y_true - y_pred)**2.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(mean_squared_error)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None,
                 dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


def _check_axis(axis: Any) -> None:
    if axis != -1 or isinstance(axis, bool):
        raise ValueError(f"Expected `axis` to be -1. Received: axis={describe(axis)}")


def _check_ignore_class(ignore_class: Any) -> None:
    if ignore_class is not None:
        raise ValueError(
            f"Expected `ignore_class` to be None: not supported. "
            f"Received: ignore_class={describe(ignore_class)}"
        )


_CLASSES: dict[str, type[Loss]] = {
    cls.__name__: cls
    for cls in (BinaryCrossentropy, CategoricalCrossentropy, MeanSquaredError, SparseCategoricalCrossentropy)
}
_NAMES: dict[str, type[Loss]] = {
    **_CLASSES, **{cls.function.__name__: cls for cls in _CLASSES.values()},
    "MSE": MeanSquaredError, "mse": MeanSquaredError,
}


def get(identifier: Any) -> Loss:
    """Returns a loss from its name, function, class, config or itself.

    Raises:
        ValueError: If there is no such loss.
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str) and identifier in _NAMES:
        return _NAMES[identifier]()
    if isinstance(identifier, type) and issubclass(identifier, Loss) and identifier is not Loss:
        return identifier()
    for cls in _CLASSES.values():
        if identifier is cls.function:
            return cls()
    raise ValueError(f"Unknown loss. Expected one of {sorted(set(_NAMES) - set(_CLASSES))}, "
                     f"a Loss or its config. Received: {describe(identifier)}")


def serialize(loss: Loss) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(loss)


def deserialize(config: dict[str, Any]) -> Loss:
    """Creates a loss from what `serialize` or Keras wrote."""
    name, arguments = config.get("class_name"), config.get("config", {})
    if name == "function" and isinstance(arguments, str):
        return get(arguments)
    return deserialize_object(config, _CLASSES, "loss")

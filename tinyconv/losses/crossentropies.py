"""Cross-entropies.

Probabilities are clipped to [1e-7, 1 - 1e-7] as Keras does; the engine does better where a softmax
or sigmoid ends the model, and takes the plain cross-entropies from its input without clipping.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv import activations
from tinyconv.losses.base import EPSILON, Loss, as_floats, as_pair, check_axis, class_ids
from tinyconv.shapes import describe
from tinyconv.utils import check_flag, check_number

__all__ = [
    "BinaryCrossentropy", "BinaryFocalCrossentropy", "CategoricalCrossentropy", "CategoricalFocalCrossentropy",
    "SparseCategoricalCrossentropy", "binary_crossentropy", "binary_focal_crossentropy",
    "categorical_crossentropy", "categorical_focal_crossentropy", "sparse_categorical_crossentropy",
]


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
    check_axis(axis)
    y_true, y_pred = as_pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + label_smoothing / y_pred.shape[-1]
    return -(y_true * _log_probabilities(y_pred, from_logits)).sum(axis=-1)


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False,
                                    ignore_class: int | None = None, axis: int = -1) -> np.ndarray:
    """-log(y_pred[y_true]) over the last axis.

    Args:
        y_true: Class indices (...,) or (..., 1).
        y_pred: Predictions (..., classes); they are divided by their sum.
        from_logits: Whether y_pred is what goes into a softmax. Defaults to False.
        ignore_class: A class index, inside or outside of [0, classes): the loss is 0 where it is the label.
            Defaults to None.
        axis: -1.

    Returns:
        A float64 array (...,).
    """
    check_axis(axis)
    y_pred = as_floats("y_pred", y_pred)
    if ignore_class is not None:
        labels = as_floats("y_true", y_true)
        ignored = labels == check_class(ignore_class)
        losses = sparse_categorical_crossentropy(np.where(ignored, 0, labels), y_pred, from_logits)
        return np.where(ignored.reshape(losses.shape), 0.0, losses)
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
    check_axis(axis)
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


def binary_focal_crossentropy(y_true: Any, y_pred: Any, apply_class_balancing: bool = False, alpha: float = 0.25,
                              gamma: float = 2.0, from_logits: bool = False, label_smoothing: float = 0.0,
                              axis: int = -1) -> np.ndarray:
    """The binary cross-entropy times (1 - p)**gamma, p being the probability given to the label (Lin et al., 2017).

    Args:
        y_true: Labels in [0, 1], (..., outputs).
        y_pred: Predictions (..., outputs).
        apply_class_balancing: Whether labels of 1 weigh alpha, those of 0 1 - alpha. Defaults to False.
        alpha: That weight. Defaults to 0.25.
        gamma: How much what is predicted well counts less. Defaults to 2.
        from_logits, label_smoothing, axis: As in `binary_crossentropy`.

    Returns:
        A float64 array (...,).
    """
    check_axis(axis)
    y_true, y_pred = as_pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + label_smoothing / 2
    if from_logits:
        y_pred = activations.sigmoid(y_pred)
    clipped = np.clip(y_pred, EPSILON, 1 - EPSILON)
    losses = -y_true * np.log(clipped) - (1 - y_true) * np.log(1 - clipped)
    losses *= np.power(1 - (y_true * y_pred + (1 - y_true) * (1 - y_pred)), gamma)
    if apply_class_balancing:
        losses *= y_true * alpha + (1 - y_true) * (1 - alpha)
    return losses.mean(axis=-1)


def categorical_focal_crossentropy(y_true: Any, y_pred: Any, alpha: float = 0.25, gamma: float = 2.0,
                                   from_logits: bool = False, label_smoothing: float = 0.0,
                                   axis: int = -1) -> np.ndarray:
    """-sum(alpha * (1 - y_pred)**gamma * y_true * log(y_pred)) over the last axis (Lin et al., 2017).

    Args:
        y_true: One-hot labels or probabilities (..., classes).
        y_pred: Predictions (..., classes); they are divided by their sum.
        alpha: Factor. Defaults to 0.25.
        gamma: How much what is predicted well counts less. Defaults to 2.
        from_logits, label_smoothing, axis: As in `categorical_crossentropy`.

    Returns:
        A float64 array (...,).
    """
    check_axis(axis)
    y_true, y_pred = as_pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + label_smoothing / y_pred.shape[-1]
    if from_logits:
        y_pred = activations.softmax(y_pred)
    y_pred = np.clip(y_pred / y_pred.sum(axis=-1, keepdims=True), EPSILON, 1 - EPSILON)
    return (-alpha * np.power(1 - y_pred, gamma) * y_true * np.log(y_pred)).sum(axis=-1)


class _SmoothedCrossentropy(Loss):
    """Base of those whose labels are probabilities, which can be smoothed."""

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1,
                 reduction: str | None = "sum_over_batch_size", name: str | None = None,
                 dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)
        check_axis(axis)
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
        ignore_class: A class index, inside or outside of [0, classes), whose positions do not count: their
            loss is 0, and a mean is over the others. Defaults to None.
        reduction, name, dtype: See `Loss`.
        axis: -1.
    """

    function = staticmethod(sparse_categorical_crossentropy)

    def __init__(self, from_logits: bool = False, ignore_class: int | None = None,
                 reduction: str | None = "sum_over_batch_size", axis: int = -1,
                 name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)
        check_axis(axis)
        self.ignore_class = None if ignore_class is None else check_class(ignore_class)
        self.from_logits = check_flag(from_logits, "from_logits")

    def arguments(self) -> dict[str, Any]:
        return {"from_logits": self.from_logits, "ignore_class": self.ignore_class}

    def parameters(self) -> tuple[float, ...]:
        return () if self.ignore_class is None else (float(self.ignore_class),)

    def counted(self, y_true: Any, shape: tuple[int, ...]) -> np.ndarray:
        if self.ignore_class is None:
            return np.ones(shape)
        return (np.asarray(y_true) != self.ignore_class).reshape(shape).astype(np.float64)


class BinaryCrossentropy(_SmoothedCrossentropy):
    """Cross-entropy of labels in [0, 1] and predicted probabilities, each output by itself.

    Args:
        from_logits: Whether predictions are what goes into a sigmoid. Defaults to False.
        label_smoothing: In [0, 1]: share of every label that is moved towards 1/2. Defaults to 0.
        axis: -1.
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(binary_crossentropy)


class BinaryFocalCrossentropy(_SmoothedCrossentropy):
    """Binary cross-entropy in which what is predicted well counts less (Lin et al., 2017).

    Args:
        apply_class_balancing: Whether labels of 1 weigh alpha, those of 0 1 - alpha. Defaults to False.
        alpha: That weight. Defaults to 0.25.
        gamma: The loss is multiplied by (1 - p)**gamma, p being the probability given to the label.
            At least 0. Defaults to 2.
        from_logits, label_smoothing, axis: See `BinaryCrossentropy`.
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(binary_focal_crossentropy)

    def __init__(self, apply_class_balancing: bool = False, alpha: float = 0.25, gamma: float = 2.0,
                 from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1,
                 reduction: str | None = "sum_over_batch_size", name: str | None = None,
                 dtype: Any = None) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)
        self.apply_class_balancing = check_flag(apply_class_balancing, "apply_class_balancing")
        self.alpha = check_number(alpha, "alpha")
        self.gamma = check_number(gamma, "gamma", 0.0)

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "apply_class_balancing": self.apply_class_balancing, "alpha": self.alpha,
                "gamma": self.gamma}

    def parameters(self) -> tuple[float, ...]:
        return (self.gamma, *((self.alpha, 1 - self.alpha) if self.apply_class_balancing else (1.0, 1.0)))


class CategoricalFocalCrossentropy(_SmoothedCrossentropy):
    """Categorical cross-entropy in which what is predicted well counts less (Lin et al., 2017).

    Args:
        alpha: Factor, one number. Defaults to 0.25.
        gamma: The loss is multiplied by (1 - p)**gamma, p being the probability given to a class.
            At least 0. Defaults to 2.
        from_logits, label_smoothing, axis: See `CategoricalCrossentropy`.
        reduction, name, dtype: See `Loss`.
    """

    function = staticmethod(categorical_focal_crossentropy)

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, from_logits: bool = False,
                 label_smoothing: float = 0.0, axis: int = -1, reduction: str | None = "sum_over_batch_size",
                 name: str | None = None, dtype: Any = None) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)
        self.alpha = check_number(alpha, "alpha")
        self.gamma = check_number(gamma, "gamma", 0.0)

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "alpha": self.alpha, "gamma": self.gamma}

    def parameters(self) -> tuple[float, ...]:
        return self.gamma, self.alpha


def check_class(ignore_class: Any) -> int:
    integer = isinstance(ignore_class, (int, np.integer)) and not isinstance(ignore_class, bool)
    if not integer:
        raise ValueError(f"Expected ignore_class to be None or an integer. "
                         f"Received: ignore_class={describe(ignore_class)}")
    return int(ignore_class)

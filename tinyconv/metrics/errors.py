"""How far predictions are from their targets: the losses as metrics, and what follows from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyconv import losses
from tinyconv.losses import as_pair, as_weights
from tinyconv.metrics.base import FunctionMetric, Metric, RunningMean, add_sums
from tinyconv.shapes import check_integer, describe
from tinyconv.utils import check_flag, check_number

__all__ = [
    "BinaryCrossentropy", "CategoricalCrossentropy", "CategoricalHinge", "CosineSimilarity", "Hinge",
    "KLDivergence", "LogCoshError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Poisson", "R2Score", "RootMeanSquaredError",
    "SparseCategoricalCrossentropy", "SquaredHinge", "cosine_similarity",
]


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> np.ndarray:
    """sum(y_true * y_pred) of unit vectors along the last axis: 1 where they point the same way.

    The loss of this name has the other sign.
    """
    return -losses.cosine_similarity(y_true, y_pred, axis)


class MeanSquaredError(FunctionMetric):
    """The mean of (y_true - y_pred)**2.

    Args:
        name: Defaults to "mean_squared_error".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.mean_squared_error)


class MeanAbsoluteError(FunctionMetric):
    """The mean of |y_true - y_pred|.

    Args:
        name: Defaults to "mean_absolute_error".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.mean_absolute_error)


class MeanAbsolutePercentageError(FunctionMetric):
    """The mean of 100 |y_true - y_pred| / |y_true|.

    Args:
        name: Defaults to "mean_absolute_percentage_error".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(FunctionMetric):
    """The mean of (log(1 + y_true) - log(1 + y_pred))**2.

    Args:
        name: Defaults to "mean_squared_logarithmic_error".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.mean_squared_logarithmic_error)


class LogCoshError(FunctionMetric):
    """The mean of log(cosh(y_pred - y_true)).

    Args:
        name: Defaults to "logcosh".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.log_cosh)

    def __init__(self, name: str | None = "logcosh", dtype: Any = None) -> None:
        super().__init__(name, dtype)


class CosineSimilarity(FunctionMetric):
    """The mean cosine of the angle between predictions and targets.

    Args:
        name: Defaults to "cosine_similarity".
        dtype: None or "float32".
        axis: -1.
    """

    direction = "up"
    function = staticmethod(cosine_similarity)

    def __init__(self, name: str | None = None, dtype: Any = None, axis: int = -1) -> None:
        super().__init__(name, dtype)
        losses.CosineSimilarity(axis)  # refuses other axes


class RootMeanSquaredError(RunningMean):
    """The square root of the mean of (y_true - y_pred)**2.

    Args:
        name: Defaults to "root_mean_squared_error".
        dtype: None or "float32".
    """

    direction = "down"

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(dtype, name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; arguments as of `MeanMetricWrapper`."""
        y_true, y_pred = as_pair(y_true, y_pred)
        self.add(np.square(y_true - y_pred), sample_weight)

    def result(self) -> float:
        return math.sqrt(super().result())


class Hinge(FunctionMetric):
    """The mean of max(1 - y_true * y_pred, 0).

    Args:
        name: Defaults to "hinge".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.hinge)


class SquaredHinge(FunctionMetric):
    """The mean of max(1 - y_true * y_pred, 0)**2.

    Args:
        name: Defaults to "squared_hinge".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.squared_hinge)


class CategoricalHinge(FunctionMetric):
    """The mean of how far the best of the wrong classes comes within 1 of the right one.

    Args:
        name: Defaults to "categorical_hinge".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.categorical_hinge)


class KLDivergence(FunctionMetric):
    """The mean divergence of labels from predictions.

    Args:
        name: Defaults to "kl_divergence".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.kl_divergence)


class Poisson(FunctionMetric):
    """The mean of y_pred - y_true * log(y_pred).

    Args:
        name: Defaults to "poisson".
        dtype: None or "float32".
    """

    direction = "down"
    function = staticmethod(losses.poisson)


class _SmoothedCrossentropy(FunctionMetric):
    direction = "down"

    def __init__(self, name: str | None = None, dtype: Any = None, from_logits: bool = False,
                 label_smoothing: float = 0, axis: int = -1) -> None:
        super().__init__(name, dtype)
        losses.CategoricalCrossentropy(axis=axis)  # refuses other axes
        self.from_logits = check_flag(from_logits, "from_logits")
        self.label_smoothing = check_number(label_smoothing, "label_smoothing", 0.0, 1.0)

    def arguments(self) -> dict[str, Any]:
        return {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing}


class BinaryCrossentropy(_SmoothedCrossentropy):
    """The mean cross-entropy of labels in [0, 1] and predicted probabilities.

    Args:
        name: Defaults to "binary_crossentropy".
        dtype: None or "float32".
        from_logits, label_smoothing: As of the loss.
    """

    function = staticmethod(losses.binary_crossentropy)


class CategoricalCrossentropy(_SmoothedCrossentropy):
    """The mean cross-entropy of one-hot labels and predicted probabilities.

    Args:
        name: Defaults to "categorical_crossentropy".
        dtype: None or "float32".
        from_logits, label_smoothing, axis: As of the loss.
    """

    function = staticmethod(losses.categorical_crossentropy)


class SparseCategoricalCrossentropy(FunctionMetric):
    """The mean cross-entropy of class indices and predicted probabilities.

    Args:
        name: Defaults to "sparse_categorical_crossentropy".
        dtype: None or "float32".
        from_logits, ignore_class, axis: As of the loss. As in Keras what is ignored counts as 0, but where
            samples are weighted not at all.
    """

    direction = "down"
    function = staticmethod(losses.sparse_categorical_crossentropy)

    def __init__(self, name: str | None = None, dtype: Any = None, from_logits: bool = False,
                 ignore_class: int | None = None, axis: int = -1) -> None:
        super().__init__(name, dtype)
        checked = losses.SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis)
        self.from_logits, self.ignore_class = checked.from_logits, checked.ignore_class

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; arguments as of `MeanMetricWrapper`."""
        if sample_weight is not None and self.ignore_class is not None:
            counted = np.asarray(y_true) != self.ignore_class
            sample_weight = as_weights(sample_weight, counted.shape) * counted
        super().update_state(y_true, y_pred, sample_weight)

    def arguments(self) -> dict[str, Any]:
        return {"from_logits": self.from_logits, "ignore_class": self.ignore_class}


class R2Score(Metric):
    """The coefficient of determination: 1 - the squared errors / the targets' squared distances from their mean.

    Args:
        class_aggregation: "uniform_average" (the mean over outputs), "variance_weighted_average" or None
            (an array). Defaults to "uniform_average".
        num_regressors: Number of independent variables, for the adjusted score; 0 for the plain one, which is
            also what comes of as many variables as samples. Samples of weight 0 do not count. Defaults to 0.
        name: Defaults to "r2_score".
        dtype: None or "float32".
    """

    direction = "up"
    _sums = np.zeros((4, 1))
    _samples: int

    def __init__(self, class_aggregation: str | None = "uniform_average", num_regressors: int = 0,
                 name: str | None = "r2_score", dtype: Any = None) -> None:
        if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise ValueError(
                "Expected class_aggregation to be None, 'uniform_average' or 'variance_weighted_average'. "
                f"Received: class_aggregation={describe(class_aggregation)}"
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = check_integer(num_regressors, "num_regressors", 0)
        super().__init__(dtype, name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of (N, outputs); arguments as of `MeanMetricWrapper`.

        Raises:
            ValueError: If shapes differ from each other or are not (N, outputs).
        """
        y_true, y_pred = as_pair(y_true, y_pred)
        if y_true.ndim != 2:
            raise ValueError(f"R2Score expected y of shape (N, outputs). Received: y_true.shape={y_true.shape}")
        ones = np.ones(y_true.shape)
        weights = ones if sample_weight is None else as_weights(sample_weight, y_true.shape)
        self._sums = add_sums(self._sums, np.stack([weights, weights * y_true, weights * np.square(y_true),
                                                    weights * np.square(y_true - y_pred)]).sum(axis=1))
        self._samples += int(np.count_nonzero(weights.any(axis=1)))

    def result(self) -> Any:
        count, total, squares, residual = self._sums
        with np.errstate(all="ignore"):
            spread = squares - total * (total / count)
            scores = 1 - residual / spread
            scores = np.where(np.isinf(scores), 0.0, scores)
            score: Any = scores
            if self.class_aggregation == "uniform_average":
                score = scores.mean()
            elif self.class_aggregation is not None:
                score = (spread * scores).sum() / spread.sum()
        free = self._samples - self.num_regressors - 1
        if self.num_regressors and free > 0:
            score = 1 - (1 - score) * (self._samples - 1) / free
        return score if np.ndim(score) else float(score)

    def reset_state(self) -> None:
        self._sums = np.zeros_like(self._sums)  # the outputs stay known
        self._samples = 0

    def arguments(self) -> dict[str, Any]:
        return {"class_aggregation": self.class_aggregation, "num_regressors": self.num_regressors}

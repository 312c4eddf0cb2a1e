"""What all metrics share, and the means and sums that most of them are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np

from tinyconv.engine import program
from tinyconv.losses import as_floats, as_weights, is_loss
from tinyconv.named import Configured
from tinyconv.shapes import describe
from tinyconv.utils import check_dtype, to_snake_case, unique_name

__all__ = [
    "FunctionMetric", "Mean", "MeanMetricWrapper", "Metric", "RunningMean", "Sum", "add_sums", "divide",
]


def divide(a: Any, b: Any) -> np.ndarray:
    """a / b as float64; 0 where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.zeros(a.shape), where=b != 0)


def add_sums(sums: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """sums + batch, one column an output; sums of nothing, all 0, go with any number of outputs.

    Raises:
        ValueError: If there were other numbers of outputs before.
    """
    if sums.shape == batch.shape:
        return sums + batch
    if sums.any():
        raise ValueError(f"Expected y_pred with {sums.shape[-1]} outputs, as before; reset_state forgets them. "
                         f"Received: {batch.shape[-1]} outputs")
    return batch


class Metric(Configured):
    """Base of all metrics.  A subclass writes `update_state`, `result` and `reset_state`.

    Args:
        dtype: None or "float32".
        name: Key in the training history. Defaults to the class's name in snake_case, numbered.

    Attributes:
        direction: Which way the metric improves, "up" or "down", for callbacks that watch it; None where
            neither is better.
    """

    direction: Literal["up", "down"] | None = None

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        check_dtype(dtype)
        if name is None:
            name = unique_name(to_snake_case(type(self).__name__))
        if not isinstance(name, str) or not name:
            raise ValueError(f"Expected name to be a non-empty string. Received: name={describe(name)}")
        self.name = name
        self.reset_state()

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Adds a batch: (y_true, y_pred, sample_weight=None)."""
        raise TypeError(f"{type(self).__name__} does not say what it measures: define `update_state`.")

    def result(self) -> Any:
        """A number, or an array of them, of everything since `reset_state`."""
        raise TypeError(f"{type(self).__name__} does not say what it measures: define `result`.")

    def reset_state(self) -> None:
        """Forgets everything."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`update_state`, then `result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def lower(self) -> program.Metric | None:
        """The engine's metric, or None where Python has to compute it."""
        return None

    def arguments(self) -> dict[str, Any]:
        """The metric's own arguments, by name."""
        return {}

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self.arguments()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # "fn" is what Keras 2 writes for its wrapped functions; Keras 3.15 adds from_sorted_ids.
        ignored = {"dtype", "fn"} | ({"from_sorted_ids"} if config.get("from_sorted_ids") is False else set())
        return cls(**{key: value for key, value in config.items() if key not in ignored})


class RunningMean(Metric):
    """Base of those that are a weighted mean over all samples of all batches."""

    total: float
    count: float

    def add(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values: a number, or an array, of which for each sample the mean counts.

        Args:
            values: The values (N, ...).
            sample_weight: Factors (N,) or of more of the values' dimensions. Defaults to None: 1.
        """
        values = np.atleast_1d(as_floats("values", values))
        weights = np.ones(values.shape) if sample_weight is None else as_weights(sample_weight, values.shape)
        if values.size:
            self.total += float((values * weights).sum()) * len(values) / values.size
            self.count += float(weights.sum()) * len(values) / values.size

    def result(self) -> float:
        """The mean over everything since `reset_state`; 0 where there was nothing."""
        return self.total / self.count if self.count else 0.0

    def reset_state(self) -> None:
        self.total = 0.0
        self.count = 0.0


class Mean(RunningMean):
    """The weighted mean of values.

    Args:
        name: Defaults to "mean".
        dtype: None or "float32".
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values.

        Args:
            values: A number, or an array: of each sample counts the mean.
            sample_weight: Factors (N,) or of more of the values' dimensions. Defaults to None: 1.
        """
        self.add(values, sample_weight)


class Sum(Metric):
    """The weighted sum of values.

    Args:
        name: Defaults to "sum".
        dtype: None or "float32".
    """

    total: float

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values; arguments as of `Mean`."""
        values = np.atleast_1d(as_floats("values", values))
        if sample_weight is not None:
            values = values * as_weights(sample_weight, values.shape)
        self.total += float(values.sum())

    def result(self) -> float:
        return self.total

    def reset_state(self) -> None:
        self.total = 0.0


class MeanMetricWrapper(RunningMean):
    """A metric made of a plain function.

    Args:
        fn: Function of (y_true, y_pred) that returns a value per sample; or one number, which counts
            once for its batch.
        name: Name. Defaults to the function's.
        dtype: None or "float32".
        **kwargs: Further arguments of the function.
    """

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        if not callable(fn):
            raise ValueError(  # noqa: TRY004 (as for every other metric that cannot be)
                f"Expected fn to be a function of (y_true, y_pred). Received: fn={describe(fn)}"
            )
        self.fn = fn
        self.direction = "down" if is_loss(fn) else None
        self._arguments = kwargs
        super().__init__(dtype, name or str(getattr(fn, "__name__", type(fn).__name__)))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: Labels.
            y_pred: Predictions.
            sample_weight: Factors (N,). Defaults to None: 1.

        Raises:
            ValueError: If the function returns another number of values, or one that is to be weighted.
            TypeError: If it returns no numbers.
        """
        values, samples = self.values(y_true, y_pred), len(y_pred)
        if values.ndim == 0 and sample_weight is not None:
            raise ValueError(f"Metric '{self.name}' expected a value for each of {samples} samples to weight them. "
                             "Received: one number")
        self.add(values, sample_weight)

    def values(self, y_true: Any, y_pred: Any) -> np.ndarray:
        """The values of a batch, (N,) or one per position, or one number, ().

        Raises:
            ValueError: If the function returns another number of values.
            TypeError: If it returns no numbers.
        """
        values = np.asarray(self.fn(y_true, y_pred, **self._arguments))
        if values.dtype.kind not in "fiub":
            raise TypeError(f"Metric '{self.name}' expected numbers. Received: dtype={values.dtype}")
        samples = len(y_pred)
        if values.ndim and len(values) != samples:
            raise ValueError(
                f"Metric '{self.name}' expected a value for each of {samples} samples. "
                f"Received: shape={values.shape}"
            )
        return values

    def arguments(self) -> dict[str, Any]:
        return {"fn": getattr(self.fn, "__name__", type(self.fn).__name__), **self._arguments}


class FunctionMetric(RunningMean):
    """The mean of one of this package's functions, which the engine may know as well."""

    function: Callable[..., np.ndarray]

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(dtype, name or type(self).function.__name__)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; arguments as of `MeanMetricWrapper`."""
        self.add(type(self).function(y_true, y_pred, **self.arguments()), sample_weight)

    def lower(self) -> program.Metric | None:
        kind = type(self).function.__name__
        return program.Metric(kind) if kind in program.METRICS else None

"""A loss and metrics, resolved for the output of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinyconv import losses, metrics
from tinyconv.data import output_labels
from tinyconv.shapes import describe

__all__ = ["Objective", "check_metrics", "serialize_metric"]


class Objective:
    """What a model is measured by.

    Metrics that the executor counts ride along with its calls; the others get each
    batch's predictions, in Python.

    Args:
        loss: The loss.
        identifiers: The metrics as `compile` got them.
        output_shape: Shape of the model's output for one sample.
        weighted: Metrics that count samples by their weights, as `compile` got them.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: If a metric is unknown or wants other labels than the loss.
    """

    def __init__(self, loss: losses.Loss, identifiers: Sequence[Any], output_shape: tuple[int, ...],
                 weighted: Sequence[Any] = (), loss_weight: float = 1.0) -> None:
        self.loss = replace(loss.lower(), weight=loss_weight)
        self.output_shape = output_shape
        unweighted = [metrics.get(identifier, loss, output_shape) for identifier in identifiers]
        self._weighted = [metrics.get(identifier, loss, output_shape) for identifier in weighted]
        self.metrics = [*unweighted, *self._weighted]
        self.names = _unique(["loss", *[metric.name for metric in unweighted]],
                             [metric.name for metric in self._weighted])
        lowered = [*[metric.lower() for metric in unweighted], *[None for _ in self._weighted]]
        self.counted = tuple(metric for metric in lowered if metric is not None)
        self.others = [metric for metric, low in zip(self.metrics, lowered) if low is None]
        self._is_counted = [low is not None for low in lowered]
        sparse = self.loss.is_sparse
        for metric in self.counted:
            if metric.kind.startswith("sparse") != sparse:
                raise ValueError(
                    f"Expected a metric for labels that are {'class ids' if sparse else 'vectors'}, as those "
                    f"of {self.loss.kind!r} are. Received: metric {metric.kind!r}"
                )

    @property
    def by_batch(self) -> bool:
        """Whether results may depend on what is together in a batch."""
        return self.loss.by_batch or not all(map(metrics.is_mean, self.metrics))

    def buffer(self, samples: int) -> np.ndarray | None:
        """Room for the predictions of a batch, where a metric needs them."""
        return np.empty((samples, math.prod(self.output_shape)), np.float32) if self.others else None

    def reset(self) -> None:
        """Forgets what the Python metrics have seen."""
        for metric in self.others:
            metric.reset_state()

    def update(self, y: np.ndarray, predictions: np.ndarray, sample_weight: np.ndarray | None = None) -> None:
        """Hands a batch to the Python metrics."""
        y = output_labels(y, self.output_shape)
        predictions = predictions.reshape(len(y), *self.output_shape)
        for metric in self.others:
            if sample_weight is not None and any(metric is weighted for weighted in self._weighted):
                metric.update_state(y, predictions, sample_weight)
            else:
                metric.update_state(y, predictions)

    def results(self, sums: np.ndarray, samples: int) -> dict[str, Any]:
        """The loss, then the metrics in the order of `compile`: numbers, or arrays of a metric of many.

        Args:
            sums: What the executor returned for all batches, added up.
            samples: How many samples they held.
        """
        count = max(1, samples)
        means = iter([value / count for value in sums.tolist()])
        others = iter(self.others)
        values = [next(means)]
        values += [next(means) if counted else _plain(next(others).result()) for counted in self._is_counted]
        return dict(zip(self.names, values))


def _plain(result: Any) -> Any:
    """A float, or an array as it is."""
    if isinstance(result, (dict, str)) or result is None:
        raise TypeError(f"Expected the result of a metric to be a number or an array. Received: {describe(result)}")
    return result if np.ndim(result) else float(result)


def _unique(names: list[str], weighted: list[str]) -> list[str]:
    """Names that occur again get _1, _2, ...; those of weighted metrics weighted_ first."""
    seen: dict[str, int] = {}
    unique = []
    for i, name in enumerate([*names, *weighted]):
        if i >= len(names) and name in seen:
            name = f"weighted_{name}"
        count = seen[name] = seen.get(name, -1) + 1
        unique.append(f"{name}_{count}" if count else name)
    return unique


def check_metrics(identifiers: Any) -> list[Any]:
    """The metrics of `compile` as a list; unknown names are refused here.

    Classes and configs become instances here and only here, so that each has one name for good.
    """
    if identifiers is None:
        return []
    if isinstance(identifiers, str) or callable(identifiers) or not isinstance(identifiers, (list, tuple)):
        identifiers = [identifiers]
    found = [(identifier, metrics.get(identifier)) for identifier in _flat(identifiers)]
    return [metric if isinstance(identifier, (type, dict)) else identifier for identifier, metric in found]


def _flat(identifiers: Sequence[Any]) -> Iterator[Any]:
    """Those in lists within the list as well: Keras has one of them for every output."""
    for identifier in identifiers:
        if isinstance(identifier, (list, tuple)):
            yield from _flat(identifier)
        else:
            yield identifier


def serialize_metric(identifier: Any) -> str | dict[str, Any] | None:
    """A metric of `compile` as JSON can hold it, or None where it is a user's own function."""
    if isinstance(identifier, (str, dict)):
        return identifier
    metric = metrics.get(identifier)
    config = metrics.serialize(metric)
    try:
        metrics.deserialize(config)
    except ValueError:
        return None
    return config

"""Losses and metrics of the NumPy reference.

Outputs are (N, P, C): P positions of C values.  Labels are (N, P, C) floats or, for the
sparse losses and metrics, (N, P) class ids.
"""

from __future__ import annotations

import numpy as np

from tinyconv.engine.program import Loss, Metric
from tinyconv.engine.reference_activations import sigmoid

__all__ = ["count", "measure"]

_EPSILON = 1e-7  # Keras clips probabilities to [1e-7, 1 - 1e-7]

Measured = tuple[np.ndarray, np.ndarray]


def measure(loss: Loss, from_logits: bool, z: np.ndarray, labels: np.ndarray) -> Measured:
    """The loss of every sample, float64 (N,), and its gradient with respect to z, (N, P, C).

    from_logits: whether z is what goes into a softmax or sigmoid.  If not, z are probabilities.
    """
    positions, channels = z.shape[1:]
    if labels.ndim == 3:
        labels = labels.astype(z.dtype, copy=False)
    if loss.kind == "inner_product":
        return (z * labels).sum(axis=(1, 2), dtype=np.float64), labels
    if loss.kind == "mean_squared_error":
        difference = z - labels
        values, gradient = np.square(difference) / channels, difference * (2 / channels)
    elif loss.kind == "binary_crossentropy":
        smoothing = loss.label_smoothing
        targets = labels * (1 - smoothing) + smoothing / 2 if smoothing else labels
        values, gradient = (_binary_logits if from_logits else _binary_probabilities)(z, targets)
        values, gradient = values / channels, gradient / channels
    else:
        values, gradient = (_logits if from_logits else _probabilities)(z, _targets(loss, labels, z))
    values = values.sum(axis=(1, 2), dtype=np.float64) / positions
    return values, gradient if positions == 1 else gradient / positions


def _targets(loss: Loss, labels: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The target distributions of a cross-entropy, (N, P, C)."""
    if labels.ndim == 2:
        targets = np.zeros_like(z)
        np.put_along_axis(targets, labels[..., None], 1, axis=-1)
        return targets
    smoothing = loss.label_smoothing
    return labels * (1 - smoothing) + smoothing / z.shape[-1] if smoothing else labels


def _logits(z: np.ndarray, targets: np.ndarray) -> Measured:
    """-sum(targets * log(softmax(z))): exact for saturated samples too."""
    shifted = z - z.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=-1, keepdims=True)
    gradient = exponentials / sums * targets.sum(axis=-1, keepdims=True) - targets
    # Where a target is 0 a logit of minus infinity costs nothing.
    return np.where(targets == 0, 0, targets * (np.log(sums) - shifted)), gradient


def _probabilities(p: np.ndarray, targets: np.ndarray) -> Measured:
    """-sum(targets * log(clip(p / sum(p)))); no gradient where the clip is active."""
    total = p.sum(axis=-1, keepdims=True)
    q = p / total
    clipped = np.clip(q, p.dtype.type(_EPSILON), p.dtype.type(1 - _EPSILON))
    dq = np.where((q < _EPSILON) | (q > 1 - _EPSILON), 0, -targets / clipped)
    return -targets * np.log(clipped), (dq - (dq * q).sum(axis=-1, keepdims=True)) / total


def _binary_logits(z: np.ndarray, targets: np.ndarray) -> Measured:
    # log(1 + exp(z)) - z t, in the form that cannot overflow.
    return np.maximum(z, 0) - z * targets + np.log1p(np.exp(-np.abs(z))), sigmoid(z) - targets


def _binary_probabilities(p: np.ndarray, targets: np.ndarray) -> Measured:
    q = np.clip(p, p.dtype.type(_EPSILON), p.dtype.type(1 - _EPSILON))
    values = -(targets * np.log(q) + (1 - targets) * np.log1p(-q))
    return values, np.where((p < _EPSILON) | (p > 1 - _EPSILON), 0, (q - targets) / (q * (1 - q)))


def count(metric: Metric, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The metric of every sample, the mean over its positions, float64 (N,).  NaN never counts as a hit."""
    if metric.kind == "binary_accuracy":
        hits = ((outputs > metric.parameter) == labels) & ~np.isnan(outputs)
        return hits.mean(axis=(1, 2), dtype=np.float64)
    own = labels if labels.ndim == 2 else labels.argmax(axis=-1)
    own_output = np.take_along_axis(outputs, own[..., None], axis=-1)
    if "top_k" in metric.kind:
        hits = (outputs > own_output).sum(axis=-1) < metric.parameter  # ties at the boundary are hits
    else:
        hits = outputs.argmax(axis=-1) == own  # of equals the lowest index
    return (hits & ~np.isnan(own_output[..., 0])).mean(axis=1, dtype=np.float64)

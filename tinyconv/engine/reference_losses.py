"""Losses of the NumPy reference, with their gradients.

Outputs are (N, P, C): P positions of C values.  Labels are (N, P, C) floats or, for the
sparse losses, (N, P) class ids.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinyconv.engine.program import Loss
from tinyconv.engine.reference_activations import sigmoid

__all__ = ["measure"]

_EPSILON = 1e-7  # Keras clips probabilities to [1e-7, 1 - 1e-7]

Measured = tuple[np.ndarray, np.ndarray]


def measure(loss: Loss, parameters: tuple[float, ...], from_logits: bool, z: np.ndarray,
            labels: np.ndarray) -> Measured:
    """The loss of every sample, float64 (N,), and its gradient with respect to z, (N, P, C).

    parameters: the kind's, all of them.
    from_logits: whether z is what goes into a softmax or sigmoid.  If not, z are probabilities.
    """
    positions, channels = z.shape[1:]
    if labels.ndim == 3:
        labels = labels.astype(z.dtype, copy=False)
    if loss.kind == "inner_product":
        return (z * labels).sum(axis=(1, 2), dtype=np.float64), labels
    if loss.kind in _ELEMENTS:
        values, gradient = _ELEMENTS[loss.kind](z, labels, *parameters)
        if loss.kind != "kl_divergence":
            values, gradient = values / channels, gradient / channels
    elif loss.kind.startswith("binary"):
        smoothing = loss.label_smoothing
        targets = labels * (1 - smoothing) + smoothing / 2 if smoothing else labels
        if "focal" in loss.kind:
            values, gradient = _binary_focal(z, targets, from_logits, *parameters)
        else:
            values, gradient = (_binary_logits if from_logits else _binary_probabilities)(z, targets)
        values, gradient = values / channels, gradient / channels
    elif loss.kind in _POSITIONS:
        values, gradient = _POSITIONS[loss.kind](z, labels)
    elif "focal" in loss.kind:
        values, gradient = _focal(z, _targets(loss, parameters, labels, z), from_logits, *parameters)
    else:
        values, gradient = (_logits if from_logits else _probabilities)(z, _targets(loss, parameters, labels, z))
    values = values.sum(axis=(1, 2), dtype=np.float64) / positions
    return values, gradient if positions == 1 else gradient / positions


# --- of every output by itself: its value and derivative, from the output and the label ---


def _squared(z: np.ndarray, y: np.ndarray) -> Measured:
    return np.square(z - y), 2 * (z - y)


def _absolute(z: np.ndarray, y: np.ndarray) -> Measured:
    return np.abs(z - y), np.sign(z - y)


def _absolute_percentage(z: np.ndarray, y: np.ndarray) -> Measured:
    scale = 100 / np.maximum(np.abs(y), z.dtype.type(_EPSILON))
    return np.abs(z - y) * scale, np.sign(z - y) * scale


def _squared_logarithmic(z: np.ndarray, y: np.ndarray) -> Measured:
    low = z.dtype.type(_EPSILON)
    difference = np.log1p(np.maximum(z, low)) - np.log1p(np.maximum(y, low))
    return np.square(difference), np.where(z < low, 0, 2 * difference / (1 + z))


def _huber(z: np.ndarray, y: np.ndarray, delta: float) -> Measured:
    error = z - y
    far = delta * np.abs(error) - 0.5 * delta * delta
    return np.where(np.abs(error) <= delta, 0.5 * np.square(error), far), np.clip(error, -delta, delta)


def _log_cosh(z: np.ndarray, y: np.ndarray) -> Measured:
    # log(cosh(d)) = |d| + log(1 + exp(-2 |d|)) - log(2).
    size = np.abs(z - y)
    return size + np.log1p(np.exp(-2 * size)) - z.dtype.type(np.log(2)), np.tanh(z - y)


def _poisson(z: np.ndarray, y: np.ndarray) -> Measured:
    shifted = z + z.dtype.type(_EPSILON)
    return z - y * np.log(shifted), 1 - y / shifted


def _kl_divergence(z: np.ndarray, y: np.ndarray) -> Measured:
    low = z.dtype.type(_EPSILON)
    p, y = np.clip(z, low, 1), np.clip(y, low, 1)
    return y * np.log(y / p), np.where((z < low) | (z > 1), 0, -y / p)


def _hinge(z: np.ndarray, y: np.ndarray, binary: float) -> Measured:
    y = np.where(y == 0, -1, y) if binary else y
    margin = 1 - y * z
    return np.maximum(margin, 0), np.where(margin > 0, -y, 0)


def _squared_hinge(z: np.ndarray, y: np.ndarray, binary: float) -> Measured:
    margin, slope = _hinge(z, y, binary)
    return np.square(margin), 2 * margin * slope


_ELEMENTS: dict[str, Callable[..., Measured]] = {
    "mean_squared_error": _squared, "mean_absolute_error": _absolute,
    "mean_absolute_percentage_error": _absolute_percentage,
    "mean_squared_logarithmic_error": _squared_logarithmic, "huber": _huber, "log_cosh": _log_cosh,
    "poisson": _poisson, "kl_divergence": _kl_divergence, "hinge": _hinge, "squared_hinge": _squared_hinge,
}


def _binary_logits(z: np.ndarray, targets: np.ndarray) -> Measured:
    # log(1 + exp(z)) - z t, in the form that cannot overflow.
    return np.maximum(z, 0) - z * targets + np.log1p(np.exp(-np.abs(z))), sigmoid(z) - targets


def _binary_probabilities(p: np.ndarray, targets: np.ndarray) -> Measured:
    q = np.clip(p, p.dtype.type(_EPSILON), p.dtype.type(1 - _EPSILON))
    values = -(targets * np.log(q) + (1 - targets) * np.log1p(-q))
    return values, np.where((p < _EPSILON) | (p > 1 - _EPSILON), 0, (q - targets) / (q * (1 - q)))


def _binary_focal(z: np.ndarray, targets: np.ndarray, from_logits: bool, gamma: float, one: float,
                  zero: float) -> Measured:
    """The cross-entropy times (1 - p(target))**gamma and the label's weight."""
    p = sigmoid(z) if from_logits else z
    entropy, slope = _binary_probabilities(p, targets)
    miss = 1 - (targets * p + (1 - targets) * (1 - p))
    weight = targets * one + (1 - targets) * zero
    factor = np.power(miss, gamma)
    bend = gamma * np.power(miss, gamma - 1) * (1 - 2 * targets) if gamma else np.zeros_like(p)
    gradient = weight * (bend * entropy + factor * slope)
    return weight * factor * entropy, gradient * p * (1 - p) if from_logits else gradient


# --- of the channels of a position together ---


def _targets(loss: Loss, parameters: tuple[float, ...], labels: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The target distributions of a cross-entropy, (N, P, C); zeros where a position does not count."""
    if labels.ndim == 2:
        counts = labels != parameters[0]
        targets = np.zeros_like(z)
        np.put_along_axis(targets, np.where(counts, labels, 0)[..., None], counts[..., None], axis=-1)
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


def _focal(z: np.ndarray, targets: np.ndarray, from_logits: bool, gamma: float, alpha: float) -> Measured:
    """-sum(alpha * (1 - q)**gamma * targets * log(q)) of clipped probabilities q."""
    total = z.sum(axis=-1, keepdims=True)
    q = z / total
    if from_logits:
        exponentials = np.exp(z - z.max(axis=-1, keepdims=True))
        q = exponentials / exponentials.sum(axis=-1, keepdims=True)
    clipped = np.clip(q, z.dtype.type(_EPSILON), z.dtype.type(1 - _EPSILON))
    logarithm, miss = np.log(clipped), 1 - clipped
    slope = alpha * targets * (gamma * np.power(miss, gamma - 1) * logarithm - np.power(miss, gamma) / clipped)
    dq = np.where((q < _EPSILON) | (q > 1 - _EPSILON), 0, slope)
    gradient = dq - (dq * q).sum(axis=-1, keepdims=True)
    values = -alpha * np.power(miss, gamma) * targets * logarithm
    return values, gradient * q if from_logits else gradient / total


def _categorical_hinge(z: np.ndarray, y: np.ndarray) -> Measured:
    """max(0, 1 + max((1 - y) z) - sum(y z)); equal maxima share the gradient."""
    others = (1 - y) * z
    largest = others.max(axis=-1, keepdims=True)
    margin = largest - (y * z).sum(axis=-1, keepdims=True) + 1
    at = (others == largest).astype(z.dtype)
    gradient = at / at.sum(axis=-1, keepdims=True) * (1 - y) - y
    return np.maximum(margin, 0), np.where(margin > 0, gradient, 0)


def _cosine_similarity(z: np.ndarray, y: np.ndarray) -> Measured:
    """-sum(y z) / (|y| |z|); the norms are at least epsilon."""
    norm = np.sqrt(np.square(z).sum(axis=-1, keepdims=True))
    floor = z.dtype.type(_EPSILON)
    unit_z = z / np.maximum(norm, floor)
    unit_y = y / np.maximum(np.sqrt(np.square(y).sum(axis=-1, keepdims=True)), floor)
    similarity = (unit_y * unit_z).sum(axis=-1, keepdims=True)
    along = np.where(norm < floor, 0, similarity * unit_z)
    return -similarity, (along - unit_y) / np.maximum(norm, floor)


_POSITIONS: dict[str, Callable[..., Measured]] = {
    "categorical_hinge": _categorical_hinge, "cosine_similarity": _cosine_similarity,
}

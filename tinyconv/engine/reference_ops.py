"""Operations of the NumPy reference, forward and backward.

`FORWARD[kind](op, x, weights, noise)` gives (y, saved); `BACKWARD[kind](op, dy, saved, weights,
want_dx)` gives (dx or None, gradients of the weights).  x: (N, H, W, C), y: (N, OH, OW, F),
float32 or float64.  Nothing is changed in place but what a function itself made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.engine import reference_activations as activations
from tinyconv.engine import reference_affine as affine
from tinyconv.engine import reference_convolution as convolution
from tinyconv.engine import reference_levels as levels
from tinyconv.engine import reference_maps as maps
from tinyconv.engine import reference_noise as noises
from tinyconv.engine.program import Op, Program
from tinyconv.engine.reference_noise import Noise

__all__ = ["BACKWARD", "FORWARD", "Noise", "move_statistics", "saved_values", "takes_batch_statistics"]

Arrays = list[np.ndarray]
Backward = tuple[np.ndarray | None, Arrays]


# --- dense: one matrix product ---


def dense(op: Op, x: np.ndarray, weights: Arrays, noise: Noise | None) -> tuple[np.ndarray, np.ndarray]:
    rows = x.reshape(len(x), -1)
    y = rows @ weights[0]
    if len(weights) > 1:
        y += weights[1]
    return y.reshape(len(x), *op.output_shape), rows


def dense_backward(op: Op, dy: np.ndarray, rows: np.ndarray, weights: Arrays, want_dx: bool) -> Backward:
    dz = dy.reshape(len(dy), -1)
    gradients = [rows.T @ dz]
    if len(weights) > 1:
        gradients.append(np.ones(len(dz), dz.dtype) @ dz)  # BLAS sums in blocks, dz.sum(axis=0) row by row
    return (dz @ weights[0].T).reshape(len(dy), *op.input_shape) if want_dx else None, gradients


# --- pools: one pass over the outputs for every tap of the window ---


def _window(op: Op) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """The taps of a pool in row-major order."""
    height, width = op.attributes["pool_size"]
    return [convolution.window_taps(op, "pool_size", i, j) for i in range(height) for j in range(width)]


def max_pool2d(op: Op, x: np.ndarray, weights: Arrays, noise: Noise | None) -> tuple[np.ndarray, Any]:
    y = np.full((len(x), *op.output_shape), -np.inf, x.dtype)
    for outputs, inputs in _window(op):
        np.maximum(y[outputs], x[inputs], out=y[outputs])  # a NaN wins over every number
    return y, (x, y)


def max_pool2d_backward(op: Op, dy: np.ndarray, saved: Any, weights: Arrays, want_dx: bool) -> Backward:
    """Every dy goes to the first place in its window that holds the maximum (or a NaN, where that is it)."""
    if not want_dx:
        return None, []
    x, y = saved
    dx = np.zeros_like(x)
    free = np.ones(y.shape, bool)  # windows whose maximum was not met yet
    has_nan = bool(np.isnan(y).any())
    for outputs, inputs in _window(op):
        here = x[inputs] == y[outputs]
        if has_nan:
            here |= np.isnan(x[inputs]) & np.isnan(y[outputs])
        here &= free[outputs]
        free[outputs] &= ~here
        dx[inputs] += np.where(here, dy[outputs], 0)
    return dx, []


def average_pool2d(op: Op, x: np.ndarray, weights: Arrays, noise: Noise | None) -> tuple[np.ndarray, Any]:
    y = np.zeros((len(x), *op.output_shape), x.dtype)
    for outputs, inputs in _window(op):
        y[outputs] += x[inputs]
    y /= _counts(op, x.dtype)
    return y, None


def average_pool2d_backward(op: Op, dy: np.ndarray, saved: Any, weights: Arrays, want_dx: bool) -> Backward:
    if not want_dx:
        return None, []
    share = dy / _counts(op, dy.dtype)
    dx = np.zeros((len(dy), *op.input_shape), dy.dtype)
    for outputs, inputs in _window(op):
        dx[inputs] += share[outputs]
    return dx, []


def _counts(op: Op, dtype: np.dtype) -> np.ndarray:
    """How many pixels of the image each window holds, (1, OH, OW, 1)."""
    counts = np.zeros((1, *op.output_shape[:2], 1), dtype)
    for outputs, _ in _window(op):
        counts[outputs] += 1
    return counts


# --- value by value ---


def activation(op: Op, x: np.ndarray, weights: Arrays, noise: Noise | None) -> tuple[np.ndarray, Any]:
    y = activations.FORWARD[op.attributes["function"]](x, *activations.parameters_of(op.attributes))
    return y, (x, y)


def activation_backward(op: Op, dy: np.ndarray, saved: Any, weights: Arrays, want_dx: bool) -> Backward:
    if not want_dx:
        return None, []
    backward = activations.BACKWARD[op.attributes["function"]]
    return backward(dy, *saved, *activations.parameters_of(op.attributes)), []


def rescale(op: Op, x: np.ndarray, weights: Arrays, noise: Noise | None) -> tuple[np.ndarray, Any]:
    return x * x.dtype.type(op.attributes["scale"]) + x.dtype.type(op.attributes["offset"]), None


def rescale_backward(op: Op, dy: np.ndarray, saved: Any, weights: Arrays, want_dx: bool) -> Backward:
    return dy * dy.dtype.type(op.attributes["scale"]) if want_dx else None, []


# --- batch normalization ---


def takes_batch_statistics(op: Op, training: bool) -> bool:
    """Whether an operation needs all samples of the batch at once."""
    return training and op.kind == "batch_normalization" and not op.attributes["frozen"]


def batch_normalization(op: Op, x: np.ndarray, weights: Arrays, noise: Noise | None) -> tuple[np.ndarray, Any]:
    mean, variance = weights[-2:]
    live = takes_batch_statistics(op, noise is not None)
    if live:
        mean = x.mean((0, 1, 2), np.float64).astype(x.dtype)
        variance = np.square(x - mean).mean((0, 1, 2), np.float64).astype(x.dtype)
    deviation = np.sqrt(variance + x.dtype.type(op.attributes["epsilon"]))
    if op.attributes.get("inverse"):
        return x * deviation + mean, (x, deviation, live, mean, variance)
    inverse = 1 / deviation
    normalized = (x - mean) * inverse
    y = normalized * weights[0] if op.attributes["scale"] else normalized
    if op.attributes["center"]:
        y = y + weights[-3]
    return y, (normalized, inverse, live, mean, variance)


def batch_normalization_backward(op: Op, dy: np.ndarray, saved: Any, weights: Arrays, want_dx: bool) -> Backward:
    """With statistics of the batch, mean and variance depend on every x: Ioffe and Szegedy, Batch
    normalization: accelerating deep network training by reducing internal covariate shift (2015)."""
    normalized, inverse, live, *_ = saved
    axes, dtype = (0, 1, 2), dy.dtype
    dbeta = dy.sum(axes, np.float64).astype(dtype)
    dgamma = (dy * normalized).sum(axes, np.float64).astype(dtype)
    gradients = [dgamma] * op.attributes["scale"] + [dbeta] * op.attributes["center"]
    if not want_dx:
        return None, gradients
    count = dtype.type(dy.size // dy.shape[-1])
    dx = dy - dbeta / count - normalized * (dgamma / count) if live else dy
    return dx * (inverse * weights[0] if op.attributes["scale"] else inverse), gradients


def move_statistics(op: Op, saved: Any, weights: Arrays) -> None:
    """What a training step does to the moving mean and variance, in place."""
    momentum, (*_, live, mean, variance) = op.attributes["momentum"], saved
    if live:
        for moving, batch in zip(weights[-2:], (mean, variance)):
            moving[...] = moving * np.float64(momentum) + batch * (1 - np.float64(momentum))


def prelu(op: Op, x: np.ndarray, weights: Arrays, noise: Noise | None) -> tuple[np.ndarray, np.ndarray]:
    return np.where(x < 0, weights[0] * x, x), x


def prelu_backward(op: Op, dy: np.ndarray, x: np.ndarray, weights: Arrays, want_dx: bool) -> Backward:
    shared = tuple(axis for axis, one in enumerate(op.attributes["shared"]) if one)
    gradient = (np.minimum(x, 0) * dy).sum(0, np.float64).sum(shared, keepdims=True).astype(dy.dtype)
    if not want_dx:
        return None, [gradient]
    return np.where(x > 0, dy, np.where(x < 0, weights[0] * dy, x + 0)), [gradient]  # 0 at 0, NaN at NaN


def reshape(op: Op, x: np.ndarray, weights: Arrays, noise: Noise | None) -> tuple[np.ndarray, Any]:
    return x.reshape(len(x), *op.output_shape), None


def reshape_backward(op: Op, dy: np.ndarray, saved: Any, weights: Arrays, want_dx: bool) -> Backward:
    return dy.reshape(len(dy), *op.input_shape) if want_dx else None, []


def saved_values(program: Program, training: bool) -> int:
    """How many values one image takes while it runs: outputs and patches, all of them or the largest."""
    sizes = [math.prod(program.input_shape)]
    for op in program.ops:
        size = math.prod(op.output_shape)
        size += convolution.patch_values(op)
        sizes.append(size)
    return sum(sizes) if training else 2 * max(sizes)


FORWARD: dict[str, Callable[[Op, np.ndarray, Arrays, Noise | None], tuple[np.ndarray, Any]]] = {
    "conv2d": convolution.conv2d, "conv2d_transpose": convolution.conv2d_transpose, "dense": dense,
    "max_pool2d": max_pool2d, "average_pool2d": average_pool2d,
    "activation": activation, "dropout": noises.dropout, "rescale": rescale, "reshape": reshape,
    "gather": maps.gather,
    "batch_normalization": batch_normalization,
    "random_affine": affine.random_affine, "prelu": prelu,
    "random_levels": levels.random_levels,
}
BACKWARD: dict[str, Callable[[Op, np.ndarray, Any, Arrays, bool], Backward]] = {
    "conv2d": convolution.conv2d_backward, "conv2d_transpose": convolution.conv2d_transpose_backward,
    "dense": dense_backward, "max_pool2d": max_pool2d_backward,
    "average_pool2d": average_pool2d_backward, "activation": activation_backward, "dropout": noises.dropout_backward,
    "rescale": rescale_backward, "reshape": reshape_backward, "gather": maps.gather_backward,
    "batch_normalization": batch_normalization_backward,
    "random_affine": affine.random_affine_backward, "prelu": prelu_backward,
    "random_levels": levels.random_levels_backward,
}

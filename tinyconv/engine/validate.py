"""Checks of what executors are given; shared by the native engine and the reference.

What passes here is safe to hand to C: shapes, dtypes and ranges fit the program, and
arrays are contiguous.  A batch that is in order costs a few microseconds.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite, isnan, prod
from typing import Any

import numpy as np

from tinyconv.engine.program import (
    CONSTRAINTS,
    LOSSES,
    METRICS,
    OP_KINDS,
    OPTIMIZERS,
    REDUCTIONS,
    SMOOTHED_LOSSES,
    Loss,
    Metric,
    Program,
    UpdateOptions,
    WeightRules,
)
from tinyconv.engine.validate_ops import OP_CHECKS, refusal

__all__ = ["check_batch", "check_labels", "check_program", "check_update"]

_FLOAT32 = np.dtype(np.float32)
_LARGEST = float(np.finfo(np.float32).max)
_UINT32, _UINT64 = np.dtype(np.uint32), np.dtype(np.uint64)
_INPUTS = (np.dtype(np.uint8), _FLOAT32)
_FLOATS, _IDS, _INDICES = (_FLOAT32,), (np.dtype(np.int32),), (np.dtype(np.int64),)

Batch = tuple[np.ndarray, Any, Any, Any, Any, int]


def check_batch(program: Program, x: Any, y: Any = None, indices: Any = None, sample_weight: Any = None,
                loss: Loss | None = None, metrics: tuple[Metric, ...] = (), predictions: Any = None) -> Batch:
    """Checks the arguments of an executor's call.

    Args:
        program: What the executor runs.
        x: uint8 or float32 (N, ...) with as many values a sample as the program's input.
        y: Labels: float32 (N, ...) of the output's size, or int32 (N, ...) with one class id
            a position for the sparse losses and metrics; None without a loss.
        indices: int64 (n,), rows of x, y and sample_weight to take; None takes all N in order.
        sample_weight: float32 (N,) or None.
        loss: The loss, or None to predict.
        metrics: Metrics to count.
        predictions: float32 (n, ...) of the output's size, to be written to, or None.

    Returns:
        (x, y, indices, sample_weight, predictions, n): the arrays, C-contiguous and aligned
        (copied only where they were not), and the number of samples in the batch.

    Raises:
        TypeError: If an argument is no array or has another dtype.
        ValueError: If shapes do not fit, an index or a label is out of range, or the loss
            or a metric is unknown or does not fit the others.
    """
    x = _array(x, "x", _INPUTS)
    _check_samples(x, "x", program.input_shape)
    samples = n = x.shape[0]
    if indices is not None:
        indices = _array(indices, "indices", _INDICES)
        if indices.ndim != 1:
            raise ValueError(f"Expected indices to have 1 dimension. Received: indices.shape={indices.shape}")
        n = indices.shape[0]
        # As unsigned numbers negative indices are the largest: one pass finds both kinds.
        if n and np.maximum.reduce(indices.view(_UINT64)) >= samples:
            raise ValueError(f"Expected indices in [0, {samples}). "
                             f"Received: indices from {indices.min()} to {indices.max()}")
    if loss is not None:
        sparse = _sparse_labels(loss, metrics if type(metrics) is tuple else tuple(metrics))
        y = _check_y(program, y, sparse, samples, indices, loss)
    if sample_weight is not None:
        sample_weight = _array(sample_weight, "sample_weight", _FLOATS)
        if sample_weight.shape != (samples,):
            raise ValueError(f"Expected sample_weight to have the shape ({samples},), one a sample of x. "
                             f"Received: sample_weight.shape={sample_weight.shape}")
    if predictions is not None:
        _check_predictions(predictions, program, n)
    return x, y, indices, sample_weight, predictions, n


def check_labels(y: np.ndarray, channels: int) -> None:
    """Checks that class ids lie in [0, channels): one pass over the whole of y.

    Args:
        y: An integer array of any shape.
        channels: Number of classes.

    Raises:
        TypeError: If y does not hold integers.
        ValueError: If a class id is out of range.
    """
    if y.dtype.kind not in "iu":
        raise TypeError(f"Expected class ids to be integers. Received: y.dtype={y.dtype}")
    if y.size and not (0 <= y.min() and y.max() < channels):
        raise ValueError(f"Expected class ids in [0, {channels}). Received: y from {y.min()} to {y.max()}")


def check_update(program: Program, optimizer: str, hyperparameters: tuple[float, ...],
                 state: list[list[np.ndarray]], options: UpdateOptions | None = None) -> None:
    """Checks that an optimizer's hyperparameters, options and state arrays fit the program.

    Raises:
        TypeError: If a state array is not float32.
        ValueError: If the optimizer is unknown, or numbers or shapes do not fit.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"Unknown optimizer. Expected one of {tuple(OPTIMIZERS)}. Received: {optimizer!r}")
    names, count = OPTIMIZERS[optimizer]
    if len(hyperparameters) != len(names):
        raise ValueError(f"Expected the hyperparameters {names} of {optimizer}. "
                         f"Received: hyperparameters={tuple(hyperparameters)}")
    if options is not None:
        _check_options(options)
        count += bool(options.accumulation_steps) + (options.average_momentum is not None)
    for i, (weight, trainable) in enumerate(zip(program.weights, program.trainable)):
        if not (trainable and count):
            continue
        arrays = state[i] if i < len(state) else []
        if len(arrays) < count:
            raise ValueError(f"Expected {count} state arrays of {optimizer} for weight {i}. "
                             f"Received: {len(arrays)}")
        for array in arrays[:count]:
            if array.dtype != _FLOAT32:
                raise TypeError(f"Expected the state of weight {i} to be float32. "
                                f"Received: dtype={array.dtype}")
            if array.size != weight.size or not array.flags.carray:
                raise ValueError(f"Expected the state of weight {i} to be C-contiguous, writeable and of its "
                                 f"shape, {weight.shape}. "
                                 f"Received: shape={array.shape}, strides={array.strides}")


def _check_options(options: UpdateOptions) -> None:
    limits = {name: getattr(options, name) for name in ("clipvalue", "clipnorm", "global_clipnorm")}
    if min(limits.values()) < 0 or sum(limit != 0 for limit in limits.values()) > 1:
        raise ValueError(f"Expected at most one limit above 0. Received: {limits}")
    if options.accumulation_steps < 0 or (not options.applies and not options.accumulation_steps):
        raise ValueError("Expected accumulation_steps for gradients that are only added up. "
                         f"Received: accumulation_steps={options.accumulation_steps}")
    if options.overwrites and options.average_momentum is None:
        raise ValueError("Expected an average_momentum for weights that are overwritten. "
                         "Received: average_momentum=None")


def check_program(program: Program) -> None:
    """Checks that the shapes, attributes and weights of a program's operations fit each other.

    Raises:
        TypeError: If a weight is not a C-contiguous float32 array.
        ValueError: If an operation is unknown, or shapes or numbers contradict each other.
    """
    if len(program.trainable) != len(program.weights):
        raise ValueError(f"Expected one trainable a weight. Received: {len(program.trainable)} "
                         f"for {len(program.weights)} weights")
    for i, weight in enumerate(program.weights):
        if weight.dtype != _FLOAT32 or not weight.flags.c_contiguous:
            raise TypeError(f"Expected weight {i} to be a C-contiguous float32 array. "
                            f"Received: dtype={weight.dtype}, strides={weight.strides}")
    for i, rules in program.rules.items():
        if not 0 <= i < len(program.weights):
            raise ValueError(f"Expected rules for weights from 0 to {len(program.weights) - 1}. Received: {i}")
        _check_rules(i, program.weights[i], rules)
    shape = program.input_shape
    for i, op in enumerate(program.ops):
        if op.kind not in OP_KINDS:
            raise ValueError(f"Unknown operation. Expected one of {OP_KINDS}. Received: kind={op.kind!r}")
        if op.input_shape != shape or len(shape) != 3 or min(op.input_shape + op.output_shape) < 1:
            raise refusal(i, op, f"an input of shape {shape} and positive sizes",
                          f"shapes {op.input_shape} -> {op.output_shape}")
        OP_CHECKS[op.kind](program, i, op)
        shape = op.output_shape
    if program.output_shape != shape:
        raise ValueError(f"Expected the program's output to be that of its last operation, {shape}. "
                         f"Received: output_shape={program.output_shape}")


def _check_rules(i: int, weight: np.ndarray, rules: WeightRules) -> None:
    if not (rules.l1 >= 0 and rules.l2 >= 0):
        raise ValueError(f"Expected penalties of weight {i} to be 0 or more. "
                         f"Received: l1={rules.l1}, l2={rules.l2}")
    if rules.constraint not in CONSTRAINTS:
        raise ValueError(f"Unknown constraint of weight {i}. Expected one of {CONSTRAINTS}. "
                         f"Received: {rules.constraint!r}")
    if rules.constraint == "norm":
        shape = rules.shape or ()
        if len(shape) != 5 or min(shape) < 1 or prod(shape) != weight.size:
            raise ValueError(f"Expected the norms of weight {i} to have five axes of {weight.size} values. "
                             f"Received: shape={rules.shape}")


# --- a batch ---


def _array(value: Any, name: str, dtypes: tuple[np.dtype, ...]) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"Expected {name} to be a NumPy array. "
                        f"Received: {name} of type {type(value).__name__}")
    if value.dtype not in dtypes:
        raise TypeError(f"Expected {name} to be {' or '.join(map(str, dtypes))}. "
                        f"Received: {name}.dtype={value.dtype}")
    flags = value.flags
    return value if flags.c_contiguous and flags.aligned else value.copy()


def _check_samples(array: np.ndarray, name: str, shape: tuple[int, ...]) -> None:
    given = array.shape
    if given[1:] != shape and (not given or prod(given[1:]) != prod(shape)):
        raise ValueError(f"Expected {name} to have the shape (N, {', '.join(map(str, shape))}) "
                         f"or as many values a sample. Received: {name}.shape={given}")


def _check_y(program: Program, y: Any, sparse: bool, samples: int, indices: np.ndarray | None,
             loss: Loss) -> np.ndarray:
    y = _array(y, "y", _IDS if sparse else _FLOATS)
    _check_samples(y, "y", program.output_shape[:2] if sparse else program.output_shape)
    if y.shape[0] != samples:
        raise ValueError(f"Expected y to have as many samples as x, {samples}. Received: y.shape={y.shape}")
    if sparse:
        taken = y if indices is None else y[indices]
        channels = program.output_shape[2]
        if taken.size and np.maximum.reduce(taken.view(_UINT32), axis=None) >= channels:
            check_labels(taken[taken != loss.parameters[0]] if loss.parameters else taken, channels)
    return y


def _check_predictions(predictions: Any, program: Program, n: int) -> None:
    if not isinstance(predictions, np.ndarray) or predictions.dtype != _FLOAT32:
        raise TypeError("Expected predictions to be a float32 array. "
                        f"Received: {getattr(predictions, 'dtype', type(predictions).__name__)}")
    _check_samples(predictions, "predictions", program.output_shape)
    if predictions.shape[0] != n:
        raise ValueError(f"Expected predictions for {n} samples. "
                         f"Received: predictions.shape={predictions.shape}")
    flags = predictions.flags
    if not (flags.c_contiguous and flags.aligned and flags.writeable):
        raise ValueError("Expected predictions to be C-contiguous and writeable. "
                         f"Received: strides={predictions.strides}, writeable={flags.writeable}")


@lru_cache(maxsize=64)
def _sparse_labels(loss: Loss, metrics: tuple[Metric, ...]) -> bool:
    """Whether the labels are class ids; checks that loss and metrics agree on it."""
    if loss.kind not in LOSSES:
        raise ValueError(f"Unknown loss. Expected one of {tuple(LOSSES)}. Received: loss={loss.kind!r}")
    smoothed = loss.kind in SMOOTHED_LOSSES
    if not 0 <= loss.label_smoothing <= (1 if smoothed else 0):
        raise ValueError(f"Expected label_smoothing of {loss.kind} to be {'in [0, 1]' if smoothed else '0'}. "
                         f"Received: label_smoothing={loss.label_smoothing}")
    if len(loss.parameters) > len(LOSSES[loss.kind]) or any(map(isnan, loss.parameters)):
        raise ValueError(f"Expected at most {len(LOSSES[loss.kind])} parameters of {loss.kind}, none of them NaN. "
                         f"Received: parameters={loss.parameters}")
    if loss.reduction not in REDUCTIONS or not isfinite(loss.weight):
        raise ValueError(f"Expected a reduction of {REDUCTIONS} and a finite weight. "
                         f"Received: reduction={loss.reduction!r}, weight={loss.weight}")
    sparse = loss.is_sparse
    for metric in metrics:
        if metric.kind not in METRICS:
            raise ValueError(f"Unknown metric. Expected one of {METRICS}. Received: metric={metric.kind!r}")
        if metric.kind.startswith("sparse_") != sparse:
            raise ValueError(f"Expected metrics that take the labels of {loss.kind}, "
                             f"{'class ids' if sparse else 'one value an output'}. "
                             f"Received: metric={metric.kind!r}")
        if "top_k" in metric.kind and not metric.parameter >= 1:
            raise ValueError(f"Expected k of {metric.kind} to be at least 1. "
                             f"Received: k={metric.parameter:g}")
    return sparse

"""From what users pass to `fit` to the arrays that an executor takes.

Every array is converted at most once; uint8 and float32 images, int32 class ids
and float32 targets that lie in memory in C order are used as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tinyconv.engine.program import Loss
from tinyconv.shapes import describe
from tinyconv.utils import refuse_mask

__all__ = [
    "Data", "as_array", "as_inputs", "as_labels", "as_sample_weight", "batches", "class_weights",
    "epoch_order", "only_array", "output_labels", "ready", "split_validation", "unpack",
]

Shape = tuple[int, ...]

# What the engine reads as it is.
_INPUT_DTYPES = (np.dtype(np.uint8), np.dtype(np.float32))
_LARGEST = float(np.finfo(np.float32).max)


class Data(NamedTuple):
    """Samples in the form of the executor.

    x: uint8 or float32 (N, ...); y: float32 or int32 (N, ...); sample_weight: float32 (N,) or None.
    """

    x: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray | None

    def slice(self, start: int, stop: int) -> Data:
        """The samples from `start` to before `stop`, as views."""
        weight = self.sample_weight
        return Data(self.x[start:stop], self.y[start:stop], None if weight is None else weight[start:stop])


def as_array(value: Any, name: str) -> np.ndarray:
    """An array of numbers; lists and the like are converted.

    Raises:
        TypeError: If it is no array, or not one of real numbers.
        ValueError: If its samples differ in shape.
    """
    if not isinstance(value, np.ndarray):
        if value is None or hasattr(value, "__next__") or isinstance(value, (dict, str, bytes)):
            raise TypeError(f"Expected {name} to be an array. Received: {name}={describe(value)}")
        for part in value if isinstance(value, (list, tuple)) else ():
            refuse_mask(part, name)  # NumPy would forget it
        try:
            value = np.asarray(value)
        except (TypeError, RuntimeError) as error:  # of tensors of other frameworks
            raise TypeError(f"Expected {name} to be an array. Received: {type(value).__name__} ({error})") from None
        except ValueError:
            raise ValueError(f"Expected {name} to be an array whose samples all have one shape. "
                             f"Received: {name}={describe(value)}") from None
    refuse_mask(value, name)
    if value.dtype.kind not in "buif":
        raise TypeError(f"Expected {name} to hold real numbers. Received: {name}.dtype={value.dtype}")
    return value


def only_array(value: Any, shape: Shape | None = None) -> Any:
    """The array in a list of it alone, as Keras takes what a model's one input or output gets; else `value` itself.

    Where its own shape is that of one sample, the list is one of samples.

    Args:
        value: What the user passed: [x] or (x,), or data.
        shape: Shape of one sample; as `as_inputs` it takes a last dimension of 1 or leaves it. Defaults to
            None: any of one dimension or more.
    """
    if not isinstance(value, (list, tuple)) or len(value) != 1 or not hasattr(value[0], "__array__"):
        return value
    found = np.shape(value[0])
    whole = len(found) > 1 if shape is None else bool(found) and _fit_rank(tuple(found[1:]), shape) == shape
    return value[0] if whole else value


def as_inputs(x: Any, input_shape: Shape, name: str = "x", lazy: bool = False) -> np.ndarray:
    """Checks a batch of inputs and converts it where it must be.

    Args:
        x: Array (N, *input_shape), or a list of it alone. As in Keras a last dimension of 1 may be
            missing or be there once too often.
        input_shape: Shape of one sample.
        name: What to call the argument in messages.
        lazy: Whether to leave a `numpy.memmap`, which may be larger than memory, as it is, for
            `ready` to convert piece by piece. Defaults to False.

    Returns:
        C-contiguous array (N, ...), uint8 or float32.

    Raises:
        TypeError: If x is no array of real numbers.
        ValueError: If its shape is another.
    """
    if (type(x) is np.ndarray and x.shape[1:] == input_shape and x.dtype in _INPUT_DTYPES
            and x.flags.c_contiguous):
        return x
    x = as_array(only_array(x, input_shape), name)
    if x.ndim == 0 or _fit_rank(x.shape[1:], input_shape) != input_shape:
        raise ValueError(f"Expected {name} to have the shape {_batched(input_shape)}. "
                         f"Received: {name}.shape={x.shape}")
    if lazy and isinstance(x, np.memmap):
        return x if _fit_rank(x.shape[1:], input_shape) == x.shape[1:] else x.reshape(len(x), *input_shape)
    dtype = x.dtype if x.dtype in _INPUT_DTYPES else np.dtype(np.float32)
    return np.ascontiguousarray(x, dtype=dtype)


def ready(data: Data, rows: np.ndarray | None = None) -> tuple[Data, np.ndarray | None]:
    """What the executor gets: the data and which rows of them; or a converted copy of those rows, and None."""
    x, y, weight = data
    if x.dtype in _INPUT_DTYPES and x.flags.c_contiguous:
        return data, rows
    if rows is not None:
        x, y, weight = x[rows], y[rows], None if weight is None else weight[rows]
    dtype = x.dtype if x.dtype in _INPUT_DTYPES else np.dtype(np.float32)
    return Data(np.ascontiguousarray(x, dtype), y, weight), None


def _fit_rank(shape: Shape, expected: Shape) -> Shape:
    """The shape with a last dimension of 1 added or removed where only that differs in rank."""
    if len(shape) == len(expected) - 1 and expected[-1] == 1:
        return (*shape, 1)
    if len(shape) == len(expected) + 1 and shape[-1] == 1:
        return shape[:-1]
    return shape


def _batched(shape: Shape) -> str:
    return "(" + ", ".join(["N", *map(str, shape)]) + ")"


def as_labels(y: Any, loss: Loss, output_shape: Shape, name: str = "y") -> np.ndarray:
    """Checks labels against the loss and the output of the model and converts them.

    Args:
        y: For a sparse loss class ids (N, *output_shape[:-1]), with or without a last
            dimension of 1; otherwise targets (N, *output_shape), with the same freedom.
        loss: The loss, lowered.
        output_shape: Shape of the output for one sample.
        name: What to call the argument in messages.

    Returns:
        C-contiguous array: int32 (N, positions) or float32 (N, *output_shape).

    Raises:
        TypeError: If y is no array of real numbers.
        ValueError: If its shape is another, or a value is not finite or no class id.
    """
    sparse = loss.kind.startswith("sparse")
    expected = output_shape[:-1] if sparse else output_shape
    y = as_array(only_array(y, expected), name)
    if y.ndim == 0 or _fit_rank(y.shape[1:], expected) != expected:
        form = "class ids of the shape" if sparse else "the shape"
        hint = ""
        if sparse and y.shape[1:] == output_shape:
            hint = " (for one-hot labels use loss='categorical_crossentropy')"
        elif loss.kind == "categorical_crossentropy" and y.ndim == len(output_shape):
            hint = " (for class ids use loss='sparse_categorical_crossentropy' or utils.to_categorical)"
        raise ValueError(f"Expected {name} to have {form} {_batched(expected)} for loss={loss.kind!r}{hint}. "
                         f"Received: {name}.shape={y.shape}")
    if not sparse:
        targets = _float32(y)
        _check_finite(targets, name)
        return targets.reshape(len(y), *expected)
    _check_finite(y, name)
    classes = output_shape[-1]
    named = y[y != loss.parameters[0]] if loss.parameters else y  # without the class that is ignored
    if named.size and (np.minimum.reduce(named, axis=None) < 0 or np.maximum.reduce(named, axis=None) >= classes):
        raise ValueError(f"Expected {name} to hold class ids from 0 to {classes - 1}. "
                         f"Received: values from {named.min()} to {named.max()}")
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        raise ValueError(f"Expected {name} to hold whole class ids. Received: {y[y != np.floor(y)].flat[0]}")
    return np.ascontiguousarray(y, dtype=np.int32).reshape(len(y), math.prod(expected))


def _float32(array: np.ndarray) -> np.ndarray:
    """C-contiguous; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def _check_finite(array: np.ndarray, name: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"Expected {name} without NaN and infinite values. "
                         f"Received: {np.count_nonzero(~np.isfinite(array))} of {array.size} values")


def output_labels(y: np.ndarray, output_shape: Shape) -> np.ndarray:
    """Labels of `as_labels` in the form that Python metrics expect, beside (N, *output_shape)."""
    return y.reshape(len(y), *output_shape[:-1]) if y.dtype == np.int32 else y


def as_sample_weight(sample_weight: Any, samples: int, name: str = "sample_weight") -> np.ndarray | None:
    """Checks one weight a sample; returns float32 (N,), or None for None.

    Raises:
        TypeError: If it is no array of real numbers.
        ValueError: If there is not one finite weight a sample.
    """
    if sample_weight is None:
        return None
    weight = as_array(only_array(sample_weight, ()), name)
    if weight.shape not in ((samples,), (samples, 1)):
        raise ValueError(f"Expected {name} to have the shape ({samples},): one weight a sample. "
                         f"Received: {name}.shape={weight.shape}")
    weight = _float32(weight)
    _check_finite(weight, name)
    return weight.reshape(samples)


def class_weights(class_weight: Any, y: np.ndarray, output_shape: Shape) -> np.ndarray:
    """The weight of every sample by its class; classes that are not named weigh 1.

    Args:
        class_weight: dict from class id to weight.
        y: Labels of `as_labels`.
        output_shape: Shape of the output for one sample.

    Returns:
        float32 (N,).

    Raises:
        TypeError: If class_weight is no dict.
        ValueError: If a key is no class id, a weight is not finite, or a sample has several labels.
    """
    if not isinstance(class_weight, Mapping):
        raise TypeError("Expected class_weight to be a dict from class id to weight. "
                        f"Received: class_weight={describe(class_weight)}")
    if math.prod(output_shape[:-1]) != 1:
        raise ValueError("Expected a model with one label a sample for class_weight. "
                         f"Received: output shape {_batched(output_shape)}")
    for key, value in class_weight.items():
        valid = isinstance(value, (int, float, np.integer, np.floating)) and -_LARGEST <= value <= _LARGEST
        if not isinstance(key, (int, np.integer)) or not valid:
            raise ValueError(f"Expected class_weight to map whole class ids to finite numbers. "
                             f"Received: {describe(key)}: {describe(value)}")
    labels = y.reshape(len(y), -1)
    if y.dtype != np.int32 and output_shape[-1] > 1:
        labels = labels.argmax(axis=1)
    weight = np.ones(len(y), np.float32)
    ids = np.rint(labels).reshape(len(y))
    for key, value in class_weight.items():
        weight[ids == key] = value
    return weight


def unpack(validation_data: Any) -> tuple[Any, Any, Any]:
    """x, y, sample_weight from (x, y) or (x, y, sample_weight).

    Raises:
        ValueError: If it has not two or three parts.
    """
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        size = f" of {len(validation_data)} items" if isinstance(validation_data, (tuple, list)) else ""
        raise ValueError("Expected validation_data to be (x, y) or (x, y, sample_weight). "
                         f"Received: {type(validation_data).__name__}{size}")
    x, y, *rest = validation_data
    return x, y, rest[0] if rest else None


def split_validation(data: Data, validation_split: float) -> tuple[Data, Data]:
    """Training and validation data; the latter are the last samples.

    Raises:
        ValueError: If one of the two would have no sample.
    """
    samples = len(data.x)
    cut = math.floor(samples * (1.0 - validation_split))
    if cut in (0, samples):
        raise ValueError(f"Expected enough samples to set a part aside for validation. Received: {samples} "
                         f"samples, validation_split={validation_split}")
    return data.slice(0, cut), data.slice(cut, samples)


def epoch_order(samples: int, shuffle: bool, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits the samples: int64 (N,), by seed and epoch alone."""
    if not shuffle:
        return np.arange(samples, dtype=np.int64)
    keys = np.random.SeedSequence((seed & (1 << 64) - 1, epoch))
    return np.random.Generator(np.random.PCG64(keys)).permutation(samples).astype(np.int64, copy=False)


def batches(order: np.ndarray, batch_size: int, first: int, steps: int | None) -> list[np.ndarray]:
    """An order cut into batches, at most `steps` from the batch `first` on; the last of all may be smaller."""
    cut = [order[start:start + batch_size] for start in range(first * batch_size, len(order), batch_size)]
    return cut[:steps]

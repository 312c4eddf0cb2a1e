"""Layers that prepare the input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from tinyconv import initializers
from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.base import Layer, Shape, Weight
from tinyconv.layers.layout import axes_last, axes_of, check_axes
from tinyconv.shapes import describe
from tinyconv.sources import Stream
from tinyconv.utils import check_flag, check_number

__all__ = ["Normalization", "Rescaling"]

_LARGEST = float(np.finfo(np.float32).max)
# The least standard deviation that is divided by: Keras' epsilon.
_EPSILON = 1e-7
# Values of an array whose moments are taken at once.
_CHUNK = 1 << 20


class Rescaling(Layer):
    """y = x * scale + offset; as a model's first layer it costs nothing.

    Args:
        scale: Factor, such as 1/255.
        offset: What is added. Defaults to 0.

    Input shape: any. Output shape: the input's.
    """

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = check_number(scale, "scale", -_LARGEST, _LARGEST)
        self.offset = check_number(offset, "offset", -_LARGEST, _LARGEST)

    def lower(self, builder: ProgramBuilder) -> None:
        builder.add("rescale", builder.shape, layer=self.name, scale=self.scale, offset=self.offset)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


class Normalization(Layer):
    """y = (x - mean) / sqrt(variance), with the mean and variance of data seen before training.

    They are given as arguments, or taken from data by `adapt`; training leaves them alone. A standard
    deviation counts as no less than 1e-7. With a `mean` and a `variance` for all values (axis=None),
    a model's first layer costs nothing.

    Args:
        axis: Axes, the batch counted, whose positions have a mean and a variance of their own: a number
            or a tuple. Defaults to -1: one each a channel. None: one for all values.
        mean: Mean, a number or as many dimensions of numbers as there are axes, or fewer. Defaults to
            None: from `adapt`, 0 until then.
        variance: Variance, likewise, and given where mean is. Defaults to None: from `adapt`, 1 until then.
        invert: Whether to compute x * sqrt(variance) + mean instead. Defaults to False.

    Input shape: any. Output shape: the input's. Weights, where no mean is given: mean and variance, of
    the axes' sizes, and count, which is not used; none is trainable.

    Raises:
        ValueError: If an argument is out of range, or an axis is not one of the input's.
    """

    mean: Weight
    variance: Weight
    count: Weight

    _fixed_weights: ClassVar[tuple[str, ...]] = ("mean", "variance", "count")

    def __init__(self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = () if axis is None else check_axes(axis)
        if (mean is None) != (variance is None):
            raise ValueError("Expected both mean and variance, or neither. "
                             f"Received: mean={describe(mean)}, variance={describe(variance)}")
        self.input_mean, self.input_variance = _numbers(mean, "mean"), _numbers(variance, "variance")
        if self.input_mean is not None and self.input_variance is not None:
            shape, other = self.input_mean.shape, self.input_variance.shape
            if shape != other or len(shape) > len(self.axis):
                raise ValueError("Expected mean and variance of one shape and at most "
                                 f"{len(self.axis)} dimensions. Received: mean of shape {shape}, "
                                 f"variance of shape {other}")
            if self.input_variance.min() < 0:
                raise ValueError(f"Expected variance to be 0 or more. Received: variance={describe(variance)}")
        # What a program takes of them: the same arrays whenever it is made anew.
        self._moments: tuple[np.ndarray, ...] | None = None
        self.invert = check_flag(invert, "invert")
        self.mean_initializer, self.variance_initializer = initializers.Zeros(), initializers.Ones()
        self.count_initializer = initializers.Zeros()

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        kept = tuple(input_shape[axis] for axis in self.kept_axes(input_shape))
        if self.input_mean is not None:
            try:
                np.broadcast_to(self.input_mean, kept)
            except ValueError:
                raise ValueError(f"Expected mean to fit the axes' sizes, {kept}. "
                                 f"Received: mean of shape {self.input_mean.shape}") from None
        return input_shape

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        if self.input_mean is not None:
            return {}
        kept = tuple(input_shape[axis] for axis in self.kept_axes(input_shape))
        return {"mean": kept, "variance": kept, "count": ()}

    def kept_axes(self, shape: Shape) -> tuple[int, ...]:
        """The axes of a sample that have statistics of their own, in order."""
        return axes_of(self.axis, shape)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance: the arguments, of any shape that fits the axes' sizes, or those of data."""
        if self.input_mean is not None and self.input_variance is not None:
            return self.input_mean, self.input_variance
        return self.mean.value, self.variance.value

    def adapt(self, data: Any) -> None:
        """Takes mean and variance from data; what earlier data gave is forgotten.

        Args:
            data: Array (N, ...), or what `fit` takes as batches; what else than inputs a batch holds is not used.

        Raises:
            TypeError: If data are neither, or no real numbers.
            ValueError: If there are no data, shapes do not fit the layer, or mean and variance were given.
        """
        if self.input_mean is not None:
            raise ValueError(f"Layer '{self.name}' has the mean and variance of its arguments: it cannot adapt.")
        count, mean, squares = 0, np.float64(0), np.float64(0)
        for batch in _batches(data):
            sample = self.input_shape if self.built else batch.shape[1:]
            axes = self.kept_axes(sample)
            if len(batch.shape) != len(sample) + 1 or any(batch.shape[1 + axis] != sample[axis] for axis in axes):
                raise ValueError(f"Layer '{self.name}' expected data of shape (N, {', '.join(map(str, sample))}). "
                                 f"Received: data of shape {batch.shape}")
            if not self.built:
                self.build(sample)
            reduced = tuple(axis for axis in range(batch.ndim) if axis - 1 not in axes)
            rows = max(1, _CHUNK // max(1, math.prod(sample)))
            for start in range(0, len(batch), rows):
                values = batch[start:start + rows].astype(np.float64)
                size = values.size // max(1, math.prod(values.shape[1 + axis] for axis in axes))
                own = values.mean(reduced, keepdims=True)
                own_squares = np.square(values - own).sum(reduced)
                # Chan, Golub and LeVeque: Updating formulae and a pairwise algorithm for computing
                # sample variances (1979).
                apart, count = own.reshape(own_squares.shape) - mean, count + size
                mean = mean + apart * (size / count)
                squares = squares + own_squares + np.square(apart) * (size * (count - size) / count)
        if not count:
            raise ValueError(f"Layer '{self.name}' expected data to adapt to. Received: none")
        self.mean.value[...], self.variance.value[...] = mean, squares / count
        self._changed()

    def lower(self, builder: ProgramBuilder) -> None:
        shape = self.input_shape
        kept = self.kept_axes(shape)
        sizes = tuple(shape[axis] for axis in kept)
        if self.input_mean is not None and self.input_variance is not None:
            if not kept:
                self._lower_scalars(builder, float(self.input_mean), float(self.input_variance))
                return
            if self._moments is None or self._moments[0].shape != sizes:
                self._moments = tuple(np.ascontiguousarray(np.broadcast_to(array, sizes), np.float32)
                                      for array in (self.input_mean, self.input_variance))
            weights = tuple(builder.constant(array.reshape(-1)) for array in self._moments)
        else:
            weights = tuple(self.lower_weight(builder, weight, weight.value.reshape(-1))
                            for weight in (self.mean, self.variance))
            self.lower_weight(builder, self.count)
        with axes_last(builder, shape, kept, self.name):
            builder.add("batch_normalization", builder.shape, weights, self.name, momentum=0.0, epsilon=_EPSILON**2,
                        scale=False, center=False, frozen=True, inverse=self.invert)

    def _lower_scalars(self, builder: ProgramBuilder, mean: float, variance: float) -> None:
        deviation = max(math.sqrt(variance), _EPSILON)
        scale, offset = (deviation, mean) if self.invert else (1 / deviation, -mean / deviation)
        builder.add("rescale", builder.shape, layer=self.name, scale=scale, offset=offset)

    def get_config(self) -> dict[str, Any]:
        mean, variance = self.input_mean, self.input_variance
        return {**super().get_config(), "axis": list(self.axis), "invert": self.invert,
                "mean": None if mean is None else mean.tolist(),
                "variance": None if variance is None else variance.tolist()}


def _numbers(value: Any, name: str) -> np.ndarray | None:
    """A float64 array of what is a number, or an array or nested list of them; None stays None."""
    if value is None:
        return None
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "fiu" or not array.size or not (np.abs(array) <= _LARGEST).all():
        raise ValueError(f"Expected {name} to be finite numbers. Received: {name}={describe(value)}")
    return array.astype(np.float64)


def _batches(data: Any) -> Iterator[np.ndarray]:
    """Arrays of real numbers out of what `adapt` takes."""
    if isinstance(data, (str, bytes, dict)) or not (hasattr(data, "__array__") or hasattr(data, "__iter__")
                                                    or hasattr(data, "__getitem__")):
        raise TypeError("Expected data to be an array or an iterable of batches. "
                        f"Received: data of type {type(data).__name__}")
    is_array = hasattr(data, "__array__") and not isinstance(data, (list, tuple))
    for batch in [data] if is_array else (x for x, _, _ in Stream(data, "data").epoch(None)):
        if not hasattr(batch, "shape") and not hasattr(batch, "__array__"):
            raise TypeError(f"Expected every batch of data to be an array. Received: {type(batch).__name__}")
        array = np.asarray(batch)
        if array.dtype.kind not in "fiub" or array.ndim < 2:
            raise TypeError("Expected data to be real numbers, (N, ...). "
                            f"Received: data of dtype {array.dtype} and shape {array.shape}")
        yield array

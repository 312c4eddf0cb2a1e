"""Kernels on plain NumPy arrays, for people who study them.

x: (N, H, W, C), kernel: (KH, KW, C // groups, F), y: (N, OH, OW, F), all float32 in and out
(other real numbers are converted).  Convolutions run as programs of one operation
on the same engine as the layers.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from tinyconv import activations, engine, shapes
from tinyconv.engine import arrays
from tinyconv.engine.program import Loss, Op, Program
from tinyconv.utils import refuse_mask

__all__ = [
    "conv2d", "conv2d_backward_input", "conv2d_backward_kernel", "max_pool2d", "max_pool2d_backward",
    "softmax_cross_entropy",
]

IntOrPair = int | tuple[int, int]
Shape4 = tuple[int, int, int, int]


def conv2d(x: Any, kernel: Any, bias: Any = None, strides: IntOrPair = 1, padding: str = "valid",
           dilation_rate: IntOrPair = 1, activation: Any = None, groups: int = 1) -> np.ndarray:
    """Convolves images with filters (cross-correlation, as in every deep-learning library).

    Args:
        x: Images (N, H, W, C).
        kernel: Filters (KH, KW, C // groups, F).
        bias: (F,), added to every pixel, or None.
        strides: Step of the window, an int or two. Defaults to 1.
        padding: `"valid"`, or `"same"`: zeros so that OH = ceil(H / stride).
        dilation_rate: Distance between the taps of the filter, an int or two. Defaults to 1.
        activation: Name or function from `tinyconv.activations`, or None.
        groups: How many parts channels and filters fall into; a filter sees the channels of its
            part, C of them one each: a depthwise convolution. Defaults to 1.

    Returns:
        (N, OH, OW, F).

    Raises:
        ValueError: If shapes do not fit, a size is zero, or the kernel is larger than its input.
        TypeError: If an argument does not hold real numbers.
    """
    x, kernel = _float_array(x, "x", 4), _float_array(kernel, "kernel", 4)
    weights = [kernel]
    if bias is not None:
        bias = _float_array(bias, "bias", 1)
        if bias.shape != kernel.shape[3:]:
            raise ValueError(f"conv2d expected bias to have the shape ({kernel.shape[3]},). "
                             f"Received: bias.shape={bias.shape}")
        weights.append(bias)
    function = None if activation is None else activations.lower(activation)
    geometry = _Geometry(x.shape, kernel.shape, strides, padding, dilation_rate, groups)
    with _Convolution(geometry, weights, function) as executor:
        return executor.predict(x)


def conv2d_backward_input(dy: Any, kernel: Any, input_shape: Any, strides: IntOrPair = 1,
                          padding: str = "valid", dilation_rate: IntOrPair = 1, groups: int = 1) -> np.ndarray:
    """The gradient of `conv2d` with respect to its input.

    Args:
        dy: Gradient of the output, (N, OH, OW, F).
        kernel: Filters (KH, KW, C // groups, F).
        input_shape: Shape of the input, (N, H, W, C).
        strides, padding, dilation_rate, groups: As in `conv2d`.

    Returns:
        (N, H, W, C).

    Raises:
        ValueError: If shapes do not fit, a size is zero, or the kernel is larger than its input.
        TypeError: If an argument does not hold real numbers.
    """
    dy, kernel = _float_array(dy, "dy", 4), _float_array(kernel, "kernel", 4)
    geometry = _Geometry(_shape4(input_shape, "input_shape"), kernel.shape, strides, padding, dilation_rate, groups)
    geometry.check_output(dy)
    with _Convolution(geometry, [kernel], trainable=False) as executor:
        x = _nowhere(geometry.input_shape)
        return executor.gradients(x, dy, _INNER_PRODUCT, training=False, input_gradient=True, value=False)[2]


def conv2d_backward_kernel(x: Any, dy: Any, kernel_shape: Any, strides: IntOrPair = 1, padding: str = "valid",
                           dilation_rate: IntOrPair = 1, groups: int = 1) -> np.ndarray:
    """The gradient of `conv2d` with respect to its kernel, summed over the images.

    Args:
        x: Images (N, H, W, C).
        dy: Gradient of the output, (N, OH, OW, F).
        kernel_shape: Shape of the kernel, (KH, KW, C // groups, F).
        strides, padding, dilation_rate, groups: As in `conv2d`.

    Returns:
        (KH, KW, C // groups, F).  The gradient of a bias is `dy.sum(axis=(0, 1, 2))`.

    Raises:
        ValueError: If shapes do not fit, a size is zero, or the kernel is larger than its input.
        TypeError: If an argument does not hold real numbers.
    """
    x, dy = _float_array(x, "x", 4), _float_array(dy, "dy", 4)
    geometry = _Geometry(x.shape, _shape4(kernel_shape, "kernel_shape"), strides, padding, dilation_rate, groups)
    geometry.check_output(dy)
    with _Convolution(geometry, []) as executor:
        gradient = executor.gradients(x, dy, _INNER_PRODUCT, training=False, value=False)[1][0]
    return np.array(gradient).reshape(geometry.kernel_shape)


def max_pool2d(x: Any, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: str = "valid",
               return_index: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The largest value of every window.

    Args:
        x: Images (N, H, W, C).
        pool_size: Height and width of the window (PH, PW), an int or two.
        strides: Step of the window, an int or two. Defaults to `pool_size`.
        padding: `"valid"`, or `"same"`: places outside count as minus infinity.
        return_index: Whether to return where in its window every maximum lies.

    Returns:
        y (N, OH, OW, C); with `return_index` (y, index), where index is int32
        (N, OH, OW, C): row * PW + column in the window, of the first maximum.

    Raises:
        ValueError: If x has another rank, a size is zero, or the pool is larger than its input.
        TypeError: If x does not hold real numbers.
    """
    x = _float_array(x, "x", 4)
    window = _pool_window(x.shape, pool_size, strides, padding)
    y, index = arrays.max_pool2d(x, *window.arguments, *window.output_shape[1:3], bool(return_index))
    return (y, index) if return_index else y


def max_pool2d_backward(dy: Any, index: Any, input_shape: Any, pool_size: IntOrPair,
                        strides: IntOrPair | None = None, padding: str = "valid") -> np.ndarray:
    """The gradient of `max_pool2d` with respect to its input.

    Args:
        dy: Gradient of the output, (N, OH, OW, C).
        index: What `max_pool2d(..., return_index=True)` returned, (N, OH, OW, C).
        input_shape: Shape of the input, (N, H, W, C).
        pool_size, strides, padding: As in `max_pool2d`.

    Returns:
        (N, H, W, C).

    Raises:
        ValueError: If shapes do not fit, a size is zero, or an index points outside its window or the input.
        TypeError: If dy does not hold real numbers or index no integers.
    """
    dy = _float_array(dy, "dy", 4)
    window = _pool_window(_shape4(input_shape, "input_shape"), pool_size, strides, padding)
    index = _array(index, "index")
    if index.dtype.kind not in "iu":
        raise TypeError(f"Expected index to hold integers. Received: index.dtype={index.dtype}")
    for name, array in (("dy", dy), ("index", index)):
        if array.shape != window.output_shape:
            raise ValueError(f"Expected {name} to have the shape {window.output_shape}. "
                             f"Received: {name}.shape={array.shape}")
    index = window.check_index(index)
    return arrays.max_pool2d_backward(dy, index, window.input_shape, *window.arguments)


def softmax_cross_entropy(logits: Any, labels: Any) -> tuple[float, np.ndarray]:
    """The mean cross-entropy of softmax(logits), and its gradient.

    Args:
        logits: (N, C).
        labels: Class ids (N,), or a distribution a row (N, C), such as one-hot labels.

    Returns:
        (loss, gradient): a float, and the gradient of that mean with respect to the
        logits, (N, C): (softmax(logits) - labels) / N.

    Raises:
        ValueError: If shapes do not fit, a size is zero, or a label lies outside [0, C).
        TypeError: If an argument does not hold real numbers.
    """
    logits = _float_array(logits, "logits", 2)
    samples, classes = logits.shape
    labels = _array(labels, "labels")
    if labels.shape == (samples,):
        if labels.dtype.kind not in "iu":
            raise TypeError(f"Expected labels (N,) to hold integers. Received: labels.dtype={labels.dtype}")
        ids = labels.astype(np.int64, copy=False)
        # As unsigned numbers negative ids are the largest: one pass finds both kinds.
        if ids.view(np.uint64).max() >= classes:
            raise ValueError(f"Expected labels from 0 to {classes - 1}. "
                             f"Received: values from {labels.min()} to {labels.max()}")
        return arrays.softmax_cross_entropy(logits, np.ascontiguousarray(ids, dtype=np.int32))
    if labels.shape != logits.shape:
        raise ValueError(f"Expected labels to have the shape ({samples},) or {logits.shape}. "
                         f"Received: labels.shape={labels.shape}")
    labels = _float_array(labels, "labels", 2)
    if not np.isfinite(labels).all():
        raise ValueError("Expected labels to be finite. Received: labels with NaN or infinite values")
    return arrays.softmax_cross_entropy(logits, labels)


_INNER_PRODUCT = Loss("inner_product")


@lru_cache(maxsize=1)
def _nowhere(shape: Shape4) -> np.ndarray:
    """Where the gradient of a convolution by its input is taken: as that is linear, anywhere, and the
    engine does not look.  Zeros that take addresses, but no memory as long as nobody reads them."""
    try:
        memory = mmap.mmap(-1, 4 * shapes.element_count(shape))
    except OSError as error:
        raise MemoryError(f"There are no addresses for an array of the shape {shape}: {error}") from error
    return np.frombuffer(memory, np.float32).reshape(shape)


class _Geometry:
    """The checked sizes of one convolution."""

    def __init__(self, input_shape: Shape4, kernel_shape: Shape4, strides: IntOrPair, padding: str,
                 dilation_rate: IntOrPair, groups: int) -> None:
        self.groups = shapes.check_integer(groups, "groups")
        channels, filters = input_shape[3], kernel_shape[3]
        if channels % self.groups or filters % self.groups:
            raise ValueError(f"Expected groups to divide the {channels} channels and the {filters} filters. "
                             f"Received: groups={groups}")
        if kernel_shape[2] != channels // self.groups:
            raise ValueError(f"Expected a kernel for {channels // self.groups} channels, "
                             f"(KH, KW, {channels // self.groups}, F). "
                             f"Received: kernel shape {kernel_shape}, input shape {input_shape}")
        self.input_shape = input_shape
        self.kernel_shape = kernel_shape
        step = shapes.standardize_pair(strides, "strides")
        rate = shapes.standardize_pair(dilation_rate, "dilation_rate")
        kernel_size = kernel_shape[:2]
        padding = shapes.standardize_padding(padding)
        self.output_shape = (input_shape[0], *shapes.conv2d_output_shape(
            input_shape[1:], kernel_shape[3], kernel_size, step, padding, rate))
        _, self.strides = shapes.clip_window(input_shape[1:], kernel_size, step)
        self.dilation_rate = shapes.clip_dilation(input_shape[1:], rate)
        self.padding = shapes.window_padding(
            input_shape[1:], kernel_size, self.strides, padding, self.dilation_rate)

    def check_output(self, dy: np.ndarray) -> None:
        if dy.shape != self.output_shape:
            raise ValueError(f"Expected dy to have the shape of the output, {self.output_shape}. "
                             f"Received: dy.shape={dy.shape}")

    @property
    def key(self) -> tuple[Any, ...]:
        return self.input_shape[1:], self.kernel_shape, self.strides, self.padding, self.dilation_rate, self.groups


class _Convolution:
    """An executor for one convolution with given weights, for the span of a `with`.

    Executors are kept, the latest used first.  One that is in use is out of the
    cache, so threads never share one.
    """

    _cache: ClassVar[OrderedDict[tuple[Any, ...], tuple[Program, Any]]] = OrderedDict()
    _SIZE = 16

    def __init__(self, geometry: _Geometry, weights: list[np.ndarray],
                 function: tuple[str, tuple[float, ...]] | None = None, trainable: bool = True) -> None:
        self._key = (engine.backend(), geometry.key, len(weights), function, trainable)
        cached = self._cache.pop(self._key, None)
        if cached is None:
            program = _convolution_program(geometry, len(weights) > 1, function, trainable)
            cached = program, engine.Executor(program)
        self._program, self._executor = self._entry = cached
        for own, given in zip(self._program.weights, weights):
            np.copyto(own, given)
        if weights:
            self._executor.weights_changed()

    def __enter__(self) -> Any:
        return self._executor

    def __exit__(self, *exception: object) -> None:
        self._cache[self._key] = self._entry
        while len(self._cache) > self._SIZE:
            try:
                self._cache.popitem(last=False)
            except KeyError:  # another thread emptied it
                break


def _convolution_program(geometry: _Geometry, bias: bool, function: tuple[str, tuple[float, ...]] | None,
                         trainable: bool) -> Program:
    input_shape, output_shape = geometry.input_shape[1:], geometry.output_shape[1:]
    weights: list[np.ndarray] = [np.zeros(geometry.kernel_shape, np.float32)]
    if bias:
        weights.append(np.zeros(geometry.kernel_shape[3], np.float32))
    ops = [Op("conv2d", input_shape, output_shape, {
        "kernel_size": geometry.kernel_shape[:2], "strides": geometry.strides, "padding": geometry.padding,
        "dilation_rate": geometry.dilation_rate, "groups": geometry.groups}, tuple(range(len(weights))), "ops.conv2d")]
    if function is not None:
        ops.append(Op("activation", output_shape, output_shape,
                      {"function": function[0], "parameters": function[1]}, (), "ops.conv2d"))
    return Program(tuple(ops), tuple(weights), (trainable,) * len(weights), input_shape, output_shape)


class _PoolWindow:
    """The checked sizes of one pooling."""

    def __init__(self, input_shape: Shape4, pool_size: tuple[int, int], strides: tuple[int, int],
                 padding: str) -> None:
        self.input_shape = input_shape
        self.pool_size = pool_size
        self.strides = strides
        self.output_shape = (
            input_shape[0], *shapes.pool2d_output_shape(input_shape[1:], pool_size, strides, padding))
        (self.top, _), (self.left, _) = shapes.window_padding(input_shape[1:], pool_size, strides, padding)

    @property
    def arguments(self) -> tuple[int, ...]:
        return *self.pool_size, *self.strides, self.top, self.left

    def _inside(self, oh: int, ow: int) -> bool:
        """Whether no window reaches beyond the input."""
        _, height, width, _ = self.input_shape
        return (self.top == self.left == 0 and (oh - 1) * self.strides[0] + self.pool_size[0] <= height
                and (ow - 1) * self.strides[1] + self.pool_size[1] <= width)

    def check_index(self, index: np.ndarray) -> np.ndarray:
        """int32 indices that point into their windows, and there into the input."""
        places = self.pool_size[0] * self.pool_size[1]
        exact = index.dtype == np.int32
        # As unsigned numbers negative indices are the largest: one pass finds both kinds.
        if (index.view(np.uint32).max() >= places) if exact else (index.min() < 0 or index.max() >= places):
            raise ValueError(f"Expected index to hold places from 0 to {places - 1}, in windows of "
                             f"{self.pool_size}. Received: values from {index.min()} to {index.max()}")
        index = np.ascontiguousarray(index, dtype=np.int32)
        _, oh, ow, _ = self.output_shape
        if self._inside(oh, ow):
            return index
        row = (np.arange(oh) * self.strides[0] - self.top)[:, None, None] + index // self.pool_size[1]
        column = (np.arange(ow) * self.strides[1] - self.left)[:, None] + index % self.pool_size[1]
        _, height, width, _ = self.input_shape
        if row.min() < 0 or row.max() >= height or column.min() < 0 or column.max() >= width:
            raise ValueError("Expected index to hold places inside the input. "
                             "Received: an index that points into the padding")
        return index


def _pool_window(input_shape: Shape4, pool_size: IntOrPair, strides: IntOrPair | None,
                 padding: str) -> _PoolWindow:
    size = shapes.standardize_pair(pool_size, "pool_size")
    if size[0] * size[1] > shapes.MAX_SIZE:  # places in the window are int32 numbers
        raise ValueError(f"Expected pool_size to have at most {shapes.MAX_SIZE} places. "
                         f"Received: pool_size={size}")
    step = size if strides is None else shapes.standardize_pair(strides, "strides")
    return _PoolWindow(input_shape, size, step, shapes.standardize_padding(padding))


def _array(value: Any, name: str) -> np.ndarray:
    refuse_mask(value, name)
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"Expected {name} to be an array. "
                         f"Received: a ragged {type(value).__name__}") from None


def _float_array(value: Any, name: str, rank: int) -> np.ndarray:
    """A C-contiguous float32 array of a rank, without a dimension of 0."""
    array = _array(value, name)
    if array.dtype.kind not in "buif":
        raise TypeError(f"Expected {name} to hold real numbers. Received: {name}.dtype={array.dtype}")
    if array.ndim != rank or 0 in array.shape:
        raise ValueError(f"Expected {name} to be an array of {rank} dimensions, none of them 0. "
                         f"Received: {name}.shape={array.shape}")
    return np.ascontiguousarray(array, dtype=np.float32)


def _shape4(value: Any, name: str) -> Shape4:
    """Four positive integers."""
    if not isinstance(value, (tuple, list)) or len(value) != 4:
        raise ValueError(f"Expected {name} to be 4 positive integers. Received: {name}={value!r}")
    batch, *rest = (shapes.check_integer(size, name) for size in value)
    if batch * shapes.element_count(tuple(rest)) > shapes.MAX_SIZE:
        raise ValueError(f"Expected {name} to have at most {shapes.MAX_SIZE} values. "
                         f"Received: {name}={value!r}")
    return batch, rest[0], rest[1], rest[2]

"""Convolutions of the NumPy reference, forward and backward, in the form of `reference_ops`.

A convolution is one matrix product a group over all pixels and taps; a transposed one is the
gradient of a convolution with respect to its input, and the other way round.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinyconv.engine.program import Op

__all__ = ["conv2d", "conv2d_backward", "conv2d_transpose", "conv2d_transpose_backward", "patch_values",
           "window_taps"]

Arrays = list[np.ndarray]
Backward = tuple[np.ndarray | None, Arrays]


def conv2d(op: Op, x: np.ndarray, weights: Arrays, noise: object) -> tuple[np.ndarray, np.ndarray]:
    """x (N, H, W, C), kernel (KH, KW, C / groups, F), bias (F,) or none -> y (N, OH, OW, F), and the patches."""
    patches = _patches(op, x)
    y = _correlate(op, patches, weights[0])
    if len(weights) > 1:
        y += weights[1]
    return y, patches


def conv2d_backward(op: Op, dy: np.ndarray, patches: np.ndarray, weights: Arrays, want_dx: bool) -> Backward:
    """dy (N, OH, OW, F) -> dx (N, H, W, C) where it is wanted, the gradients of kernel and bias."""
    gradients = [_kernel_gradient(op, patches, dy, weights[0])]
    if len(weights) > 1:
        gradients.append(_bias_gradient(dy))
    return _spread(op, dy, weights[0]) if want_dx else None, gradients


def conv2d_transpose(op: Op, x: np.ndarray, weights: Arrays, noise: object) -> tuple[np.ndarray, np.ndarray]:
    """x (N, H, W, C), kernel (KH, KW, F, C), bias (F,) or none -> y (N, OH, OW, F), and x."""
    y = _spread(_turned(op), x, weights[0])
    if len(weights) > 1:
        y += weights[1]
    return y, x


def conv2d_transpose_backward(op: Op, dy: np.ndarray, x: np.ndarray, weights: Arrays, want_dx: bool) -> Backward:
    """dy (N, OH, OW, F) -> dx (N, H, W, C) where it is wanted, the gradients of kernel and bias."""
    turned = _turned(op)
    patches = _patches(turned, dy)
    gradients = [_kernel_gradient(turned, patches, x, weights[0])]
    if len(weights) > 1:
        gradients.append(_bias_gradient(dy))
    return _correlate(turned, patches, weights[0]) if want_dx else None, gradients


def _turned(op: Op) -> Op:
    """The convolution that a transposed one is the gradient of."""
    return replace(op, kind="conv2d", input_shape=op.output_shape, output_shape=op.input_shape)


# --- what both are made of ---


def _correlate(op: Op, patches: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Patches (G, N * OH * OW, KH * KW * C / G) -> (N, OH, OW, F)."""
    y = patches @ _grouped_kernel(op, kernel).reshape(len(patches), patches.shape[2], -1)
    return y.transpose(1, 0, 2).reshape(-1, *op.output_shape)


def _spread(op: Op, dy: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The gradient with respect to the input: every dy (N, OH, OW, F) to the pixels that its taps read."""
    taps, dz = _grouped_kernel(op, kernel), _grouped(op, dy)
    height, width = op.attributes["kernel_size"]
    dx = np.zeros((len(dy), *op.input_shape), dy.dtype)
    for i in range(height):
        for j in range(width):
            product = (dz @ taps[:, i * width + j].transpose(0, 2, 1)).transpose(1, 0, 2)
            outputs, inputs = window_taps(op, "kernel_size", i, j)
            dx[inputs] += product.reshape(*dy.shape[:3], op.input_shape[2])[outputs]
    return dx


def _kernel_gradient(op: Op, patches: np.ndarray, dy: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    height, width = op.attributes["kernel_size"]
    gradient = patches.transpose(0, 2, 1) @ _grouped(op, dy)
    gradient = gradient.reshape(len(patches), height * width, -1, gradient.shape[2])
    return gradient.transpose(1, 2, 0, 3).reshape(kernel.shape)


def _bias_gradient(dy: np.ndarray) -> np.ndarray:
    rows = dy.reshape(-1, dy.shape[3])
    return np.ones(len(rows), rows.dtype) @ rows  # BLAS sums in blocks, rows.sum(axis=0) row by row


def _grouped(op: Op, dy: np.ndarray) -> np.ndarray:
    """(N, OH, OW, F) -> (G, N * OH * OW, F / G)."""
    groups = op.attributes.get("groups", 1)
    return dy.reshape(-1, groups, dy.shape[3] // groups).transpose(1, 0, 2)


def _grouped_kernel(op: Op, kernel: np.ndarray) -> np.ndarray:
    """(G, KH * KW, C / G, F / G)."""
    (height, width), groups = op.attributes["kernel_size"], op.attributes.get("groups", 1)
    return kernel.reshape(height * width, op.input_shape[2] // groups, groups, -1).transpose(2, 0, 1, 3)


def _is_pointwise(op: Op) -> bool:
    a = op.attributes
    return tuple(a["kernel_size"]) == (1, 1) == tuple(a["strides"]) and not np.any(a["padding"])


def patch_values(op: Op) -> int:
    """How many values the patches of one image take."""
    if op.kind == "conv2d_transpose":
        op = _turned(op)
    if op.kind != "conv2d" or _is_pointwise(op):
        return 0
    return math.prod(op.output_shape[:2]) * math.prod(op.attributes["kernel_size"]) * op.input_shape[2]


def _patches(op: Op, x: np.ndarray) -> np.ndarray:
    """What every output pixel sees: (G, N * OH * OW, KH * KW * C / G)."""
    a = op.attributes
    groups = a.get("groups", 1)
    if _is_pointwise(op):
        return x.reshape(-1, groups, op.input_shape[2] // groups).transpose(1, 0, 2)
    (kh, kw), (sh, sw), (dh, dw) = a["kernel_size"], a["strides"], a["dilation_rate"]
    (top, bottom), (left, right) = a["padding"]
    n, h, w, c = x.shape
    if top or bottom or left or right:
        padded = np.zeros((n, h + top + bottom, w + left + right, c), x.dtype)
        padded[:, top:top + h, left:left + w] = x
        x = padded
    oh, ow, _ = op.output_shape
    image, row, pixel, channel = x.strides
    strides = c // groups * channel, image, sh * row, sw * pixel, dh * row, dw * pixel, channel
    windows = as_strided(x, (groups, n, oh, ow, kh, kw, c // groups), strides, writeable=False)
    return windows.reshape(groups, n * oh * ow, -1)


def window_taps(op: Op, size: str, i: int, j: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Output pixels whose window has tap (i, j) inside the image, and the pixels of x that it reads there."""
    a = op.attributes
    dilation, strides, padding = a.get("dilation_rate", (1, 1)), a["strides"], a["padding"]
    outputs, inputs = [slice(None)], [slice(None)]
    for axis, tap in enumerate((i, j)):
        stride, offset = strides[axis], tap * dilation[axis] - padding[axis][0]
        first = max(0, -(offset // stride))  # ceil(-offset / stride)
        count = max(0, min(op.output_shape[axis], (op.input_shape[axis] - 1 - offset) // stride + 1) - first)
        start = first * stride + offset
        outputs.append(slice(first, first + count))
        inputs.append(slice(start, start + (count - 1) * stride + 1, stride) if count else slice(0, 0))
    return tuple(outputs), tuple(inputs)

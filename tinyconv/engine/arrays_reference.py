"""Array functions in NumPy that need no program: the oracle and fallback of `tinyconv.engine.arrays`.

x: (N, H, W, C) float32; y, index: (N, OH, OW, C).  Arguments are checked by the
caller (`tinyconv.ops`).
"""

from __future__ import annotations

import numpy as np

__all__ = ["max_pool2d", "max_pool2d_backward", "softmax_cross_entropy"]


def max_pool2d(x: np.ndarray, ph: int, pw: int, sh: int, sw: int, pad_top: int, pad_left: int,
               oh: int, ow: int, want_index: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The largest value of every window and its place there, row * pw + column.

    Places outside of x count as minus infinity; of equal values the first in
    row-major order is taken, and a NaN wins over every number.
    """
    n, h, w, c = x.shape
    y = np.full((n, oh, ow, c), -np.inf, np.float32)
    index = np.full((n, oh, ow, c), -1, np.int32)
    for row in _reach(ph, sh, pad_top, oh, h):
        for column in _reach(pw, sw, pad_left, ow, w):
            rows, inside_rows = _taps(row, sh, pad_top, oh, h)
            columns, inside_columns = _taps(column, sw, pad_left, ow, w)
            taken = x[:, inside_rows, inside_columns]
            best, best_index = y[:, rows, columns], index[:, rows, columns]
            better = ((taken > best) | (best_index < 0) | np.isnan(taken)) & ~np.isnan(best)
            np.copyto(best, taken, where=better)
            np.copyto(best_index, np.int32(row * pw + column), where=better)
    return y, index if want_index else None


def max_pool2d_backward(dy: np.ndarray, index: np.ndarray, input_shape: tuple[int, int, int, int],
                        ph: int, pw: int, sh: int, sw: int, pad_top: int, pad_left: int) -> np.ndarray:
    """Adds every dy to the place of x that its window's maximum came from."""
    _, h, w, _ = input_shape
    _, oh, ow, _ = dy.shape
    dx = np.zeros(input_shape, np.float32)
    for row in _reach(ph, sh, pad_top, oh, h):
        for column in _reach(pw, sw, pad_left, ow, w):
            rows, inside_rows = _taps(row, sh, pad_top, oh, h)
            columns, inside_columns = _taps(column, sw, pad_left, ow, w)
            chosen = index[:, rows, columns] == row * pw + column
            # Windows overlap, but one tap reads every place of x at most once.
            dx[:, inside_rows, inside_columns] += np.where(chosen, dy[:, rows, columns], np.float32(0))
    return dx


def _reach(taps: int, stride: int, pad: int, outputs: int, size: int) -> range:
    """The taps of a window that any output has inside the input."""
    return range(max(0, pad - (outputs - 1) * stride), min(taps, size + pad))


def _taps(tap: int, stride: int, pad: int, outputs: int, size: int) -> tuple[slice, slice]:
    """The outputs whose window has this tap inside the input, and the inputs that it reads."""
    offset = tap - pad
    first = max(0, -(offset // stride))  # ceil(-offset / stride)
    last = min(outputs - 1, (size - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, last + 1), slice(start, last * stride + offset + 1, stride)


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean cross-entropy of softmax(logits) and its gradient.

    logits: float32 (N, C); labels: int32 class ids (N,), or float32 (N, C).
    """
    n = len(logits)
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    probabilities = exponentials / sums
    if labels.ndim == 1:
        rows = np.arange(n)
        loss = (np.log(sums[:, 0]) - shifted[rows, labels]).sum() / n
        probabilities[rows, labels] -= 1
    else:
        targets = labels.astype(np.float64)
        loss = (targets * (np.log(sums) - shifted)).sum() / n
        probabilities = probabilities * targets.sum(axis=1, keepdims=True) - targets
    return float(loss), (probabilities / n).astype(np.float32)

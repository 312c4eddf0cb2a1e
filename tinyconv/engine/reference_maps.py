"""Constant linear maps of the NumPy reference: the "gather" operation and its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyconv.engine.program import Op

__all__ = ["gather", "gather_backward"]


def gather(op: Op, x: np.ndarray, weights: list[np.ndarray], noise: Any) -> tuple[np.ndarray, None]:
    """x (N, H, W, C) -> y (N, OH, OW, OC), each value a weighted sum of some of the input's."""
    a = op.attributes
    return _apply(x, a["starts"], a["indices"], a["factors"], a["run"]).reshape(len(x), *op.output_shape), None


def gather_backward(op: Op, dy: np.ndarray, saved: None, weights: list[np.ndarray],
                    want_dx: bool) -> tuple[np.ndarray | None, list[np.ndarray]]:
    """The transposed map: entry (output, input) becomes (input, output)."""
    if not want_dx:
        return None, []
    a = op.attributes
    order = np.argsort(a["indices"], kind="stable")
    outputs = np.repeat(np.arange(a["starts"].size - 1), np.diff(a["starts"]))[order]
    starts = np.searchsorted(a["indices"][order], np.arange(math.prod(op.input_shape) // a["run"] + 1))
    factors = None if a["factors"] is None else a["factors"][order]
    return _apply(dy, starts, outputs, factors, a["run"]).reshape(len(dy), *op.input_shape), []


def _apply(x: np.ndarray, starts: np.ndarray, indices: np.ndarray, factors: np.ndarray | None,
           run: int) -> np.ndarray:
    """The sums of all rows at once: their first entries, their second ones, ..."""
    x = x.reshape(len(x), -1, run)
    counts = np.diff(starts)
    y = np.zeros((len(x), counts.size, run), x.dtype)
    for k in range(counts.max(initial=0)):
        rows = np.flatnonzero(counts > k)
        entries = starts[rows] + k
        taken = x[:, indices[entries]]
        y[:, rows] += taken if factors is None else taken * factors[entries, None].astype(x.dtype)
    return y

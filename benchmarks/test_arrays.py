"""Max-pooling and softmax cross-entropy on NHWC arrays: bound by memory, so counted in bytes moved."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.conftest import Measure
from benchmarks.machine import Setup
from benchmarks.peers.workloads import LOSSES, POOLS

WINDOW = (2, 2, 2, 2, 0, 0)  # size, strides, padding

pools = pytest.mark.parametrize("shape", POOLS, ids=lambda shape: "x".join(map(str, shape)))


@pools
def test_max_pool2d(shape: tuple[int, int, int, int], setup: Setup, measure: Measure) -> None:
    n, height, width, channels = shape
    x = np.random.default_rng(1).random(shape, dtype=np.float32)
    y, _ = measure(lambda: setup.arrays.max_pool2d(x, *WINDOW, height // 2, width // 2, False),
                   f"max-pool 2x2 {'x'.join(map(str, shape))} forward", moved=x.nbytes * 5 // 4)
    assert y.shape == (n, height // 2, width // 2, channels)


@pools
def test_max_pool2d_backward(shape: tuple[int, int, int, int], setup: Setup, measure: Measure) -> None:
    _, height, width, _ = shape
    x = np.random.default_rng(1).random(shape, dtype=np.float32)
    dy, index = setup.arrays.max_pool2d(x, *WINDOW, height // 2, width // 2, True)
    dx = measure(lambda: setup.arrays.max_pool2d_backward(dy, index, shape, *WINDOW),
                 f"max-pool 2x2 {'x'.join(map(str, shape))} backward",
                 moved=x.nbytes + dy.nbytes + index.nbytes)
    assert dx.shape == shape


@pytest.mark.parametrize("shape", LOSSES, ids=lambda shape: "x".join(map(str, shape)))
def test_softmax_cross_entropy(shape: tuple[int, int], setup: Setup, measure: Measure) -> None:
    n, classes = shape
    random = np.random.default_rng(1)
    logits, labels = random.random(shape, dtype=np.float32), random.integers(0, classes, n).astype(np.int32)
    loss, _ = measure(lambda: setup.arrays.softmax_cross_entropy(logits, labels),
                      f"softmax cross-entropy and gradient {n}x{classes}", moved=2 * logits.nbytes)
    assert np.isfinite(loss)

"""Convolutions that the C engine takes by Winograd's points lose little to rounding.

The bound of the project: an error within four times that of adding the products up
one by one in float32, measured against float64.
"""

from __future__ import annotations

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import INNER_PRODUCT, Network, by_points, images

executor_class = engine_helpers.executor_class  # a fixture

# image, kernel, padding, channels, filters
CASES = [
    ((12, 12), (5, 5), "valid", 8, 16),
    ((14, 14), (3, 3), "same", 16, 32),
    ((7, 7), (3, 3), "same", 32, 64),
    ((9, 16), (4, 5), "same", 8, 8),
    ((6, 13), (3, 3), "valid", 10, 17),
    ((5, 8), (5, 3), "same", 64, 8),
]
BATCH = 19


def label(case):
    (h, w), (kh, kw), padding, channels, filters = case
    return f"{h}x{w}x{channels}-{kh}x{kw}x{filters}-{padding}"


def one_by_one(x, kernel, dy, padding):
    """y, dx, dw by float32 sums of one product after another, the taps in their order."""
    (top, bottom), (left, right) = padding
    n, height, width, _ = x.shape
    kernel_height, kernel_width = kernel.shape[:2]
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    out_height, out_width = dy.shape[1:3]
    y, dx, dw = np.zeros(dy.shape, np.float32), np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(kernel_height):
        for j in range(kernel_width):
            window = (slice(None), slice(i, i + out_height), slice(j, j + out_width))
            for c in range(kernel.shape[2]):
                y += padded[window][..., c, None] * kernel[i, j, c]
            for f in range(kernel.shape[3]):
                dx[window] += dy[..., f, None] * kernel[i, j, :, f]
            for a in range(out_height):
                for b in range(out_width):
                    products = padded[:, a + i, b + j, :, None] * dy[:, a, b, None, :]
                    for image in range(n):
                        dw[i, j] += products[image]
    return y, dx[:, top:top + height, left:left + width], dw


@pytest.mark.parametrize("case", CASES, ids=label)
def test_winograd_error_is_within_four_times_that_of_direct_sums(executor_class, case):
    size, kernel_size, padding, channels, filters = case
    program = Network((*size, channels)).conv2d(filters, kernel_size, (1, 1), padding, (1, 1), False).build()
    kernel, = program.weights
    assert by_points(kernel, (1, 1), (1, 1))
    explicit = program.ops[0].attributes["padding"]
    x = images(program, BATCH)
    executor = executor_class(program)
    y = executor.predict(x)
    dy = np.random.default_rng(5).standard_normal(y.shape).astype(np.float32)
    _, (dw,), dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)

    geometry = {"strides": (1, 1), "dilation": (1, 1), "padding": explicit}
    exact = (oracles.conv2d(x, kernel, **geometry), oracles.conv2d_backward_input(dy, kernel, x.shape, **geometry),
             oracles.conv2d_backward_kernel(x, dy, kernel.shape, **geometry))
    for name, ours, direct, truth in zip(("y", "dx", "dw"), (y, dx, dw), one_by_one(x, kernel, dy, explicit), exact,
                                         strict=True):
        error, least = (np.sqrt(np.mean((np.float64(result) - truth) ** 2)) for result in (ours, direct))
        assert 0 < error <= 4 * least, f"{name}: {error / least:.2f} times"
        largest, least = (np.abs(np.float64(result) - truth).max() for result in (ours, direct))
        assert largest <= 4 * least, f"{name}: at most {largest / least:.2f} times"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_winograd_keeps_what_is_no_number_within_its_image(executor_class, value):
    program = Network((12, 12, 8)).conv2d(16, (5, 5), (1, 1), "valid", (1, 1), False).build()
    x = images(program, BATCH)
    expected = executor_class(program).predict(x)
    x[7, 6, 5, 3] = value
    y = executor_class(program).predict(x)
    reached = np.zeros(y.shape, bool)
    reached[7, 2:7, 1:6] = True
    assert not np.isfinite(y[reached]).any()
    others = np.arange(BATCH) != 7
    np.testing.assert_array_equal(y[others], expected[others])
    # Neighbours along the row share the tile, of four columns; other rows do not.
    np.testing.assert_array_equal(y[7, [0, 1, 7]], expected[7, [0, 1, 7]])

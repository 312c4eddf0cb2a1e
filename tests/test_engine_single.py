"""Programs that are one convolution: csrc/single.c takes few images, narrow last blocks and
wide kernels straight from the caller's arrays, with filters in the lanes."""

from __future__ import annotations

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import INNER_PRODUCT, Network, assert_rounded, images

import tinyconv

executor_class = engine_helpers.executor_class  # a fixture

# images, (height, width), channels, filters, kernel, strides, padding, dilation
CASES = [
    (1, (9, 13), 1, 8, (5, 5), (1, 1), "valid", (1, 1)),
    (3, (9, 14), 1, 16, (3, 3), (1, 1), "same", (1, 1)),
    (2, (8, 25), 3, 33, (3, 3), (1, 1), "same", (1, 1)),
    (3, (11, 10), 5, 7, (3, 4), (2, 3), "same", (1, 1)),
    (2, (12, 9), 12, 24, (3, 2), (2, 1), "same", (1, 1)),
    (2, (13, 13), 13, 40, (2, 3), (1, 1), "valid", (2, 3)),
    (1, (7, 7), 32, 64, (3, 3), (1, 1), "same", (1, 1)),
    (3, (6, 8), 20, 9, (3, 3), (1, 1), "same", (2, 2)),
    (2, (9, 9), 16, 12, (1, 1), (3, 3), "valid", (1, 1)),
    (5, (6, 5), 24, 34, (1, 1), (1, 1), "valid", (1, 1)),
    (40, (3, 3), 8, 16, (1, 1), (1, 1), "valid", (1, 1)),
    (19, (8, 8), 4, 16, (3, 3), (1, 1), "same", (1, 1)),
    (2, (4, 5), 3, 5, (2, 3), (1, 1), ((0, 3), (0, 4)), (1, 1)),
    (2, (5, 6), 16, 5, (1, 1), (1, 1), ((2, 1), (1, 2)), (1, 1)),
    (2, (9, 27), 3, 4, (3, 3), (1, 1), "same", (1, 1)),
    (2, (9, 15), 8, 6, (3, 3), (1, 1), "same", (1, 1)),
    (2, (9, 9), 7, 2, (3, 3), (2, 2), "same", (1, 1)),
    (1, (40, 40), 2, 32, (3, 3), (1, 1), "same", (1, 1)),
]


def label(case):
    n, (h, w), channels, filters, (kh, kw), (sh, sw), padding, (dh, dw) = case
    name = padding if isinstance(padding, str) else "uneven"
    return f"{n}x{h}x{w}x{channels}-{kh}x{kw}x{filters}-{name}-{sh}{sw}-{dh}{dw}"


cases = pytest.mark.parametrize("case", CASES, ids=label)


def convolution(case, trainable=True):
    """The program, its images, the gradient of its output, and its geometry for the oracles."""
    n, size, channels, filters, kernel_size, strides, padding, dilation = case
    network = Network((*size, channels), trainable=trainable)
    program = network.conv2d(filters, kernel_size, strides, padding, dilation, False).build()
    dy = np.random.default_rng(3).standard_normal((n, *program.output_shape)).astype(np.float32)
    geometry = {"strides": strides, "dilation": dilation, "padding": program.ops[0].attributes["padding"]}
    return program, images(program, n), dy, geometry


def gradients(executor_class, case, x, dy):
    """(dx, dw), each asked for alone, as tinyconv.ops does."""
    frozen, *_ = convolution(case, trainable=False)
    program, *_ = convolution(case)
    dx = executor_class(frozen).gradients(x, dy, INNER_PRODUCT, input_gradient=True, value=False)[2]
    dw = executor_class(program).gradients(x, dy, INNER_PRODUCT, value=False)[1][0]
    return dx, dw


@cases
def test_single_convolution_matches_loops(executor_class, case):
    program, x, _, geometry = convolution(case)
    kernel, = program.weights
    exact, most = (oracles.conv2d(a, k, **geometry) for a, k in ((x, kernel), (abs(x), abs(kernel))))
    assert_rounded(executor_class(program).predict(x), exact, most, np.prod(kernel.shape[:3]))


@cases
def test_single_convolution_gradients_match_loops(executor_class, case):
    program, x, dy, geometry = convolution(case)
    kernel, = program.weights
    dx, dw = gradients(executor_class, case, x, dy)
    exact, most = (oracles.conv2d_backward_input(d, k, x.shape, **geometry)
                   for d, k in ((dy, kernel), (abs(dy), abs(kernel))))
    assert_rounded(dx, exact, most, kernel[..., 0, :].size)
    exact, most = (oracles.conv2d_backward_kernel(a, d, kernel.shape, **geometry)
                   for a, d in ((x, dy), (abs(x), abs(dy))))
    assert_rounded(dw, exact, most, dy[..., 0].size)
    both = executor_class(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True, value=False)
    np.testing.assert_array_equal(both[2], dx)


@pytest.mark.parametrize("case", [
    (1, (14, 14), 40, 72, (3, 3), (1, 1), "same", (1, 1)),
    (3, (28, 28), 8, 24, (3, 3), (2, 2), "same", (1, 1)),
    (21, (28, 28), 1, 16, (5, 5), (1, 1), "valid", (1, 1)),
    (50, (9, 9), 20, 32, (1, 1), (1, 1), "valid", (1, 1)),
], ids=label)
def test_single_convolution_has_the_same_bits_for_every_number_of_threads(executor_class, case):
    program, x, dy, _ = convolution(case)
    found, before = [], tinyconv.get_num_threads()
    try:
        for threads in (1, 2, 3):
            tinyconv.set_num_threads(threads)
            found.append((executor_class(program).predict(x), *gradients(executor_class, case, x, dy)))
    finally:
        tinyconv.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("filters", [3, 7, 18])
@pytest.mark.parametrize("bias", [False, True])
def test_single_convolution_with_a_relu(executor_class, bias, filters):
    network = Network((7, 9, 5)).conv2d(filters, (3, 3), (1, 1), "same", (1, 1), bias)
    program = network.activation("relu").build()
    x = images(program, 3)
    y = executor_class(program).predict(x)
    np.testing.assert_allclose(y, engine_helpers.exact(program).predict(x), rtol=0, atol=1e-5)
    x[1, 3, 4, 2] = np.nan
    spoilt = executor_class(program).predict(x)
    assert np.isnan(spoilt[1, 2:5, 3:6]).all()
    spoilt[1, 2:5, 3:6] = y[1, 2:5, 3:6]
    np.testing.assert_array_equal(spoilt, y)


@pytest.mark.parametrize("case", [CASES[6], CASES[11]], ids=label)
def test_single_convolution_follows_its_weights_in_any_order_of_calls(executor_class, case):
    program, x, dy, geometry = convolution(case, trainable=False)
    executor = executor_class(program)
    for n in (len(x), 1, len(x) - 3, 0, 1, len(x)):
        if n <= 0:
            program.weights[0][:] *= 2
            executor.weights_changed()
            continue
        dx = executor.gradients(x[:n], dy[:n], INNER_PRODUCT, input_gradient=True, value=False)[2]
        exact = oracles.conv2d_backward_input(dy[:n], program.weights[0], x[:n].shape, **geometry)
        np.testing.assert_allclose(dx, exact, rtol=0, atol=1e-4)
        y = oracles.conv2d(x[:n], program.weights[0], **geometry)
        np.testing.assert_allclose(executor.predict(x[:n]), y, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [1, 3, 18])
def test_single_convolution_with_a_folded_normalization(executor_class, n):
    program = Network((8, 9, 5)).conv2d(12, (3, 3), (1, 1), "same", (1, 1), True).batch_norm().build()
    x = images(program, n)
    np.testing.assert_allclose(executor_class(program).predict(x), engine_helpers.exact(program).predict(x), rtol=0,
                               atol=1e-5)

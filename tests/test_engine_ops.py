"""Every operation, forward and backward, against loops over pixels and taps in float64."""

from __future__ import annotations

import itertools

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import (
    BATCHES,
    INNER_PRODUCT,
    Network,
    along,
    assert_rounded,
    by_points,
    exact,
    images,
)

executor_class = engine_helpers.executor_class  # a fixture

# image, kernel, strides, padding, dilation
CONVOLUTIONS = [
    ((1, 1), (1, 1), (1, 1), "valid", (1, 1)),
    ((5, 5), (5, 5), (1, 1), "valid", (1, 1)),
    ((7, 6), (3, 3), (1, 1), "valid", (1, 1)),
    ((12, 12), (5, 5), (1, 1), "valid", (1, 1)),
    ((9, 11), (5, 5), (1, 1), "same", (1, 1)),
    ((7, 7), (3, 3), (1, 1), "same", (1, 1)),
    ((6, 5), (2, 4), (1, 1), "same", (1, 1)),
    ((3, 3), (5, 5), (1, 1), "same", (1, 1)),
    ((9, 8), (3, 3), (2, 2), "valid", (1, 1)),
    ((9, 8), (3, 3), (2, 2), "same", (1, 1)),
    ((10, 7), (3, 5), (2, 1), "same", (1, 1)),
    ((11, 10), (2, 2), (3, 3), "valid", (1, 1)),
    ((8, 8), (1, 1), (1, 1), "valid", (1, 1)),
    ((8, 7), (1, 1), (2, 3), "valid", (1, 1)),
    ((9, 9), (3, 3), (1, 1), "valid", (2, 2)),
    ((9, 8), (3, 3), (1, 1), "same", (2, 3)),
    ((10, 9), (3, 2), (2, 2), "same", (2, 2)),
    ((11, 9), (3, 3), (3, 2), "valid", (2, 1)),
    ((1, 19), (1, 3), (1, 1), "same", (1, 1)),
    ((13, 1), (5, 1), (2, 1), "valid", (1, 1)),
    ((6, 7), (3, 3), (1, 1), ((0, 2), (1, 0)), (1, 1)),
    ((5, 4), (2, 2), (2, 2), ((3, 1), (0, 2)), (1, 1)),
    ((4, 4), (3, 3), (1, 2), ((2, 2), (2, 2)), (1, 1)),
]
CHANNELS = [(1, 8), (1, 1), (3, 16), (8, 16), (10, 17), (16, 10), (17, 3), (8, 1)]
POOLS = [
    ((4, 4), (2, 2), (2, 2), "valid"),
    ((5, 7), (2, 2), (2, 2), "valid"),
    ((5, 7), (2, 2), (2, 2), "same"),
    ((7, 6), (3, 3), (2, 2), "same"),
    ((7, 8), (3, 3), (1, 1), "valid"),
    ((6, 6), (2, 3), (1, 2), "same"),
    ((9, 8), (2, 2), (3, 3), "valid"),
    ((5, 6), (5, 6), (5, 6), "valid"),
    ((1, 9), (1, 2), (1, 2), "same"),
    ((3, 3), (1, 1), (1, 1), "valid"),
    ((3, 2), (1, 1), (2, 2), "valid"),
    ((6, 5), (3, 3), (2, 1), ((2, 1), (0, 2))),
    ((18, 17), (17, 17), (1, 1), "valid"),
    ((16, 17), (16, 16), (1, 1), "valid"),
]


def label(value):
    if isinstance(value, tuple):
        return "x".join(map(label, value))
    return value if isinstance(value, str) else str(value)


def case_id(case):
    return "-".join(map(label, case))


CONVOLUTION_CASES = [(*geometry, channels, BATCHES[(i + k) % len(BATCHES)])
                     for i, geometry in enumerate(CONVOLUTIONS) for k, channels in enumerate(CHANNELS)]
CONVOLUTION_CASES += [(*CONVOLUTIONS[2], channels, n)
                      for channels, n in itertools.product(CHANNELS[:4], BATCHES)]


def conv2d_case(case, bias=True):
    size, kernel, strides, padding, dilation, (channels, filters), n = case
    program = Network((*size, channels)).conv2d(filters, kernel, strides, padding, dilation, bias).build()
    attributes = program.ops[0].attributes
    geometry = {"strides": strides, "dilation": dilation, "padding": attributes["padding"]}
    return program, images(program, n), geometry


@pytest.mark.parametrize("case", CONVOLUTION_CASES, ids=case_id)
def test_conv2d_and_its_gradients_hold_the_oracle(executor_class, case):
    program, x, geometry = conv2d_case(case)
    kernel, bias = program.weights
    executor = executor_class(program)
    taps = int(np.prod(kernel.shape[:3]))
    y = executor.predict(x)
    assert y.dtype == np.float32
    # A tile of points is four columns of the output, or all columns of the kernel.
    tile, columns = (3, kernel.shape[1]) if by_points(kernel, geometry["strides"], geometry["dilation"]) else (0, 0)
    magnitude = oracles.conv2d(np.abs(x), np.abs(kernel), np.abs(bias), **geometry)
    assert_rounded(y, oracles.conv2d(x, kernel, bias, **geometry), along(magnitude, 2, tile), taps)

    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    _, (dkernel, dbias), dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    pixels = int(np.prod(y.shape[:3]))
    assert_rounded(dx, oracles.conv2d_backward_input(dy, kernel, x.shape, **geometry),
                   along(oracles.conv2d_backward_input(np.abs(dy), np.abs(kernel), x.shape, **geometry), 2, tile),
                   int(np.prod(kernel.shape[:2])) * kernel.shape[3])
    assert_rounded(dkernel, oracles.conv2d_backward_kernel(x, dy, kernel.shape, **geometry),
                   along(oracles.conv2d_backward_kernel(np.abs(x), np.abs(dy), kernel.shape, **geometry), 1, columns),
                   pixels)
    assert_rounded(dbias, np.float64(dy).sum((0, 1, 2)), np.float64(np.abs(dy)).sum((0, 1, 2)), pixels)


@pytest.mark.parametrize("case", [(*CONVOLUTIONS[k], (3, 10), 17) for k in (2, 4, 8, 15)], ids=case_id)
def test_conv2d_without_bias(executor_class, case):
    program, x, geometry = conv2d_case(case, bias=False)
    kernel, = program.weights
    executor = executor_class(program)
    y = executor.predict(x)
    assert_rounded(y, oracles.conv2d(x, kernel, **geometry),
                   oracles.conv2d(np.abs(x), np.abs(kernel), **geometry), int(np.prod(kernel.shape[:3])))
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    _, (dkernel,), dx = executor.gradients(x, dy, INNER_PRODUCT)
    assert dx is None
    assert_rounded(dkernel, oracles.conv2d_backward_kernel(x, dy, kernel.shape, **geometry),
                   oracles.conv2d_backward_kernel(np.abs(x), np.abs(dy), kernel.shape, **geometry),
                   int(np.prod(y.shape[:3])))


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize(("inputs", "units"), [(1, 1), (3, 8), (16, 17), (17, 10), (256, 10), (67, 129)])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_dense_and_its_gradients_hold_the_oracle(executor_class, inputs, units, n, bias):
    program = Network((1, 1, inputs)).dense(units, bias).build()
    x, kernel = images(program, n), program.weights[0]
    executor = executor_class(program)
    y = executor.predict(x)
    rows, exact_kernel = np.float64(x).reshape(n, inputs), np.float64(kernel)
    offset = np.float64(program.weights[1]) if bias else np.zeros(units)
    assert_rounded(y.reshape(n, units), rows @ exact_kernel + offset,
                   np.abs(rows) @ np.abs(exact_kernel) + np.abs(offset), inputs)
    dy = np.random.default_rng(3).standard_normal((n, units)).astype(np.float32)
    _, gradients, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    exact_dy = np.float64(dy)
    assert_rounded(dx.reshape(n, inputs), exact_dy @ exact_kernel.T,
                   np.abs(exact_dy) @ np.abs(exact_kernel.T), units)
    assert_rounded(gradients[0], rows.T @ exact_dy, np.abs(rows.T) @ np.abs(exact_dy), n)
    if bias:
        assert_rounded(gradients[1], exact_dy.sum(0), np.abs(exact_dy).sum(0), n)


POOL_CASES = [(*geometry, channels, BATCHES[(i + k) % len(BATCHES)])
              for i, geometry in enumerate(POOLS) for k, channels in enumerate((1, 3, 8, 17))]


def pool_case(kind, case):
    size, window, strides, padding, channels, n = case
    program = Network((*size, channels)).pool(kind, window, strides, padding).build()
    return program, window, {"strides": strides, "padding": program.ops[0].attributes["padding"]}, n


@pytest.mark.parametrize("values", ["distinct", "ties"])
@pytest.mark.parametrize("case", POOL_CASES, ids=case_id)
def test_max_pool2d_and_its_gradient_are_exact(executor_class, case, values):
    program, window, geometry, n = pool_case("max", case)
    x = images(program, n)
    if values == "ties":
        x = np.rint(x)
    executor = executor_class(program)
    y, index = oracles.max_pool2d(x, window, **geometry)
    np.testing.assert_array_equal(executor.predict(x), y)
    # Small integers: sums of them are exact in any order.
    dy = np.random.default_rng(3).integers(-8, 9, y.shape).astype(np.float32)
    _, gradients, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert gradients == []
    np.testing.assert_array_equal(dx, oracles.max_pool2d_backward(dy, index, x.shape, window, **geometry))


@pytest.mark.parametrize("case", POOL_CASES, ids=case_id)
def test_average_pool2d_and_its_gradient_hold_the_oracle(executor_class, case):
    program, window, geometry, n = pool_case("average", case)
    x = images(program, n)
    executor = executor_class(program)
    y = executor.predict(x)
    length = window[0] * window[1]
    assert_rounded(y, oracles.average_pool2d(x, window, **geometry),
                   oracles.average_pool2d(np.abs(x), window, **geometry), length)
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    _, _, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert_rounded(dx, oracles.average_pool2d_backward(dy, x.shape, window, **geometry),
                   oracles.average_pool2d_backward(np.abs(dy), x.shape, window, **geometry), length)


def test_max_pool2d_of_minus_infinity(executor_class):
    program = Network((3, 3, 1)).pool("max", (2, 2), (1, 1), ((1, 1), (1, 1))).build()
    x = np.full((1, 3, 3, 1), -np.inf, np.float32)
    x[0, 1, 1] = -1
    executor = executor_class(program)
    y, index = oracles.max_pool2d(x, (2, 2), padding=((1, 1), (1, 1)))
    np.testing.assert_array_equal(executor.predict(x), y)
    # Only where there is a maximum is there a gradient to look at.
    dy = np.where(np.isinf(y), 0, 1 + np.arange(16).reshape(y.shape)).astype(np.float32)
    expected = oracles.max_pool2d_backward(dy, index, x.shape, (2, 2), padding=((1, 1), (1, 1)))
    np.testing.assert_array_equal(executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)[2], expected)


def test_max_pool2d_passes_nan_on(executor_class):
    program = Network((4, 4, 2)).pool("max", (2, 2)).build()
    x = images(program, 3)
    x[1, 1, 0, 0] = x[2, 0, 1, 1] = x[2, 3, 3, 1] = np.nan
    executor = executor_class(program)
    y, index = oracles.max_pool2d(x, (2, 2), strides=(2, 2))
    assert np.isnan(y).sum() == 3
    np.testing.assert_array_equal(executor.predict(x), y)
    dy = np.random.default_rng(3).integers(1, 9, y.shape).astype(np.float32)
    np.testing.assert_array_equal(executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)[2],
                                  oracles.max_pool2d_backward(dy, index, x.shape, (2, 2), strides=(2, 2)))


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("x_type", [np.uint8, np.float32])
def test_rescale_is_linear(executor_class, n, x_type):
    program = Network((3, 5, 2)).rescale(1 / 255, -0.5).build()
    x = np.random.default_rng(1).integers(0, 256, (n, 3, 5, 2)).astype(x_type)
    executor = executor_class(program)
    assert_rounded(executor.predict(x), np.float64(x) / 255 - 0.5, np.float64(x) / 255 + 0.5, 1)
    dy = np.random.default_rng(3).standard_normal(x.shape).astype(np.float32)
    _, _, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert_rounded(dx, np.float64(dy) / 255, np.abs(dy) / 255, 1)


def test_rescale_in_the_middle_of_a_program(executor_class):
    network = Network((4, 4, 3)).conv2d(5, (3, 3)).rescale(-2.0, 3.0)
    program = network.conv2d(4, (2, 2), padding="same").build()
    x = images(program, 9)
    inner = -2 * oracles.conv2d(x, *program.weights[:2]) + 3
    padding = program.ops[2].attributes["padding"]
    expected = oracles.conv2d(inner, *program.weights[2:], padding=padding)
    assert_rounded(executor_class(program).predict(x), expected, np.abs(expected).max() * 10, 27)


@pytest.mark.parametrize("shape", [(1, 1, 24), (2, 3, 4), (24, 1, 1), (4, 3, 2)], ids=label)
def test_reshape_keeps_row_major_order(executor_class, shape):
    program = Network((4, 3, 2)).reshape(*shape).build()
    x = images(program, 17)
    executor = executor_class(program)
    np.testing.assert_array_equal(executor.predict(x), x.reshape(17, *shape))
    dy = images(program, 17, seed=4)
    _, _, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    np.testing.assert_array_equal(dx, dy)


def test_a_program_without_operations_is_the_identity(executor_class):
    program = Network((2, 3, 4)).build()
    x = images(program, 18)
    executor = executor_class(program)
    np.testing.assert_array_equal(executor.predict(x), x)
    np.testing.assert_array_equal(executor.gradients(x, x, INNER_PRODUCT, input_gradient=True)[2], x)


@pytest.mark.parametrize("function", [None, "relu", "sigmoid", "elu"])
@pytest.mark.parametrize(("size", "kernel", "strides", "padding", "window", "pool_strides", "pool_padding"), [
    ((12, 12), (5, 5), (1, 1), "valid", (2, 2), (2, 2), "valid"),
    ((9, 10), (3, 3), (1, 1), "same", (2, 2), (2, 2), "valid"),
    ((9, 9), (3, 3), (1, 1), "valid", (3, 3), (2, 2), "valid"),
    ((9, 9), (3, 3), (1, 1), "valid", (2, 2), (3, 3), "valid"),
    ((9, 9), (3, 3), (1, 1), "valid", (2, 2), (1, 1), "valid"),
    ((9, 8), (3, 3), (1, 1), "same", (2, 2), (2, 2), "same"),
    ((11, 10), (3, 3), (2, 2), "same", (2, 2), (2, 2), "valid"),
    ((8, 8), (3, 3), (1, 1), "same", (8, 8), (8, 8), "valid"),
    ((7, 13), (1, 3), (1, 1), "same", (1, 3), (1, 3), "valid"),
], ids=lambda value: label(value) if isinstance(value, tuple | str) else None)
def test_convolution_activation_and_pool_together(executor_class, size, kernel, strides, padding, window,
                                                  pool_strides, pool_padding, function):
    for kind, n in (("max", 17), ("average", 3)):
        network = Network((*size, 3)).conv2d(10, kernel, strides, padding)
        if function:
            network.activation(function)
        program = network.pool(kind, window, pool_strides, pool_padding).conv2d(2, (1, 1)).build()
        x, expected, executor = images(program, n), exact(program), executor_class(program)
        y = expected.predict(x)
        assert_rounded(executor.predict(x), y, 4 * np.abs(y).max(), 100)
        dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
        _, gradients, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
        _, exact_gradients, exact_dx = expected.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
        for one, other in zip([*gradients, dx], [*exact_gradients, exact_dx], strict=True):
            assert_rounded(one, other, 4 * np.abs(other).max(), 400)


@pytest.mark.parametrize("kind", ["conv2d", "dense", "max", "average", "rescale"])
def test_gradients_hold_central_differences(executor_class, kind):
    network = Network((1, 1, 30) if kind == "dense" else (5, 6, 3))
    if kind == "conv2d":
        network.conv2d(4, (3, 2), (2, 1), "same")
    elif kind == "dense":
        network.dense(7)
    elif kind == "rescale":
        network.rescale(0.3, 0.2)
    else:
        network.pool(kind, (3, 2), (2, 2), "same")
    program = network.build()
    x = images(program, 3)
    dy = np.random.default_rng(3).standard_normal((3, *program.output_shape)).astype(np.float32)
    reference = exact(program)

    def value(z=x):
        return float((reference.predict(z) * np.float64(dy)).sum())

    _, gradients, dx = executor_class(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    z = x.copy()
    expected = [oracles.weight_difference(lambda: value(z), array, 1e-3) for array in (*program.weights, z)]
    for one, other in zip([*gradients, dx], expected, strict=True):
        assert np.abs(one - other).max() < 1e-3 * np.abs(other).max()

"""Batches of few images: filters in the lanes, and a 2x2 pool that stays in the registers (csrc/few.c)."""

from __future__ import annotations

import engine_helpers
import numpy as np
import pytest
from engine_helpers import Network, assert_close, assert_rounded, exact, images

executor_class = engine_helpers.executor_class  # a fixture


def pooled_network(shape, filters, kernel_size, seed=0, **options):
    """A convolution, relu and a pool of 2x2: what the engine does in one piece."""
    padding = options.pop("pool_padding", "valid")
    network = Network(shape, seed).conv2d(filters, kernel_size, **options)
    return network.activation("relu").pool("max", (2, 2), padding=padding).build()


def assert_holds_float64(executor_class, program, n=2):
    executor, x = executor_class(program), images(program, n)
    kernel = program.weights[0]
    expected = exact(program).predict(x)
    actual = executor.predict(x)
    assert_rounded(actual, expected, 2 * np.abs(expected).max() + 1, kernel[..., 0].size)
    for i in range(n if executor.backend == "native" else 0):  # BLAS promises no such thing
        np.testing.assert_array_equal(executor.predict(x[i:i + 1])[0], actual[i])


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("filters", [1, 8, 12, 16, 24, 40])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_convolution_relu_pool_hold_float64(executor_class, channels, filters, padding):
    assert_holds_float64(executor_class, pooled_network((9, 12, channels), filters, (3, 3), padding=padding))


@pytest.mark.parametrize("filters", [8, 16, 32])
@pytest.mark.parametrize("width", [2, 3, 5, 10, 13, 14, 24, 30, 51])
def test_convolution_relu_pool_cover_rows_of_any_length(executor_class, filters, width):
    assert_holds_float64(executor_class, pooled_network((4, width, 1), filters, (3, 3), padding="same"))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("kernel_size", "options"), [
    ((1, 1), {}),
    ((1, 5), {"padding": "same"}),
    ((5, 1), {"padding": "same"}),
    ((2, 4), {"padding": "same"}),
    ((7, 7), {"padding": "same"}),
    ((7, 3), {"padding": ((6, 0), (0, 2))}),
    ((3, 3), {"padding": ((0, 5), (3, 0))}),
    ((3, 3), {"dilation": (1, 2), "padding": "same"}),
    ((3, 3), {"dilation": (2, 1), "padding": "same"}),
    ((1, 3), {"dilation": (2, 2)}),
    ((3, 3), {"strides": (2, 1)}),
    ((3, 3), {"strides": (1, 2), "padding": "same"}),
    ((3, 3), {"pool_padding": "same"}),
    ((3, 3), {"bias": False}),
], ids=str)
def test_convolution_relu_pool_with_options_hold_float64(executor_class, channels, kernel_size, options):
    for height in (7, 8):
        program = pooled_network((height, 11, channels), 8, kernel_size, **options)
        assert_holds_float64(executor_class, program)


@pytest.mark.parametrize("filters", [8, 16, 24])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_convolution_relu_pool_pass_nan_and_infinity_on(executor_class, filters, value):
    program = pooled_network((6, 8, 1), filters, (3, 3))
    x = images(program, 1)
    x[0, 2, 3, 0] = value
    actual, expected = executor_class(program).predict(x), exact(program).predict(x)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(actual), np.isinf(expected))
    assert not np.isfinite(expected).all()


@pytest.mark.parametrize("window", [(2, 2), (3, 1), (1, 3)], ids=str)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pool_that_leaves_rows_and_columns_out_holds_float64(executor_class, window, padding):
    """What no window reads is not computed; what lies behind must not see that."""
    network = Network((7, 11, 2), seed=4).conv2d(8, (3, 3), padding="same").activation("relu")
    network.pool("max", window, (3, 3), padding=padding).conv2d(3, (2, 2), padding="same")
    program = network.build()
    x = images(program, 2)
    assert_close(executor_class(program).predict(x), exact(program).predict(x))


# --- depthwise: channels in the lanes, in and out ---

def mobile_network(channels, kernel_size=(3, 3), shape=(12, 11, 3), normal=False, **options):
    """Depthwise and pointwise convolutions by turns."""
    network = Network(shape).conv2d(channels, (3, 3), (2, 2), "same").activation("relu")
    network.conv2d(channels, kernel_size, groups=channels, **options)
    if normal:
        network.batch_norm()
    network.activation("relu").conv2d(2 * channels, (1, 1)).activation("relu")
    network.conv2d(2 * channels, (3, 3), (2, 2), "same", groups=2 * channels, bias=False).activation("elu")
    network.conv2d(5, (3, 3), padding="same").activation("tanh").pool("max", (2, 2), padding="same")
    return network.flatten().dense(4).activation("softmax").build()


def assert_few_hold_many(executor_class, program):
    """One image alone, and two, hold float64 as whole blocks do."""
    executor, x, expected = executor_class(program), images(program, 40), exact(program)
    y = expected.predict(x)
    assert_close(executor.predict(x), y)
    assert_close(executor.predict(x[:2]), y[:2])
    assert_close(executor.predict(x[1:2]), y[1:2])


@pytest.mark.parametrize("channels", [2, 5, 8, 12, 16, 24, 33])
def test_depthwise_of_any_number_of_channels_holds_float64(executor_class, channels):
    assert_few_hold_many(executor_class, mobile_network(channels))


@pytest.mark.parametrize(("kernel_size", "options"), [
    ((5, 5), {"padding": "same"}),
    ((3, 3), {"strides": (2, 2), "padding": "same"}),
    ((3, 3), {"strides": (2, 2), "padding": ((1, 1), (1, 1))}),
    ((2, 3), {"strides": (1, 2)}),
    ((3, 3), {"dilation": (2, 2), "padding": "same"}),
    ((1, 7), {"padding": "same"}),
    ((3, 3), {"padding": ((0, 3), (4, 0))}),
    ((3, 3), {"normal": True, "padding": "same"}),
    ((3, 3), {"bias": False}),
], ids=str)
def test_depthwise_with_options_holds_float64(executor_class, kernel_size, options):
    assert_few_hold_many(executor_class, mobile_network(9, kernel_size, **options))


@pytest.mark.parametrize("channels", [3, 20])
def test_depthwise_first_last_and_before_a_pool_holds_float64(executor_class, channels):
    network = Network((9, 10, channels)).conv2d(channels, (3, 3), padding="same", groups=channels).activation("relu")
    network.pool("max", (2, 2)).conv2d(channels, (2, 2), groups=channels).activation("relu")
    program = network.pool("average", (2, 2)).conv2d(channels, (2, 2), padding="same", groups=channels).build()
    assert_few_hold_many(executor_class, program)


def test_depthwise_behind_a_reshape_holds_float64(executor_class):
    network = Network((4, 6, 6)).conv2d(6, (1, 1)).activation("relu").reshape(8, 6, 3)
    assert_few_hold_many(executor_class, network.conv2d(3, (3, 3), groups=3).activation("sigmoid").build())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_depthwise_passes_nan_and_infinity_on(executor_class, value):
    program = Network((6, 8, 5)).conv2d(5, (3, 3), padding="same", groups=5).conv2d(2, (1, 1)).build()
    x = images(program, 1)
    x[0, 2, 3, 1] = value
    actual, expected = executor_class(program).predict(x), exact(program).predict(x)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    assert not np.isfinite(expected).all()

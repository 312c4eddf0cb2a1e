"""Few images: convolutions of few filters, in groups, with several filters a channel, transposed
(csrc/few_convolution.c)."""

from __future__ import annotations

import engine_helpers
import numpy as np
import pytest
from engine_helpers import Network, assert_close, exact, images

from tinyconv import engine
from tinyconv.maps import window

executor_class = engine_helpers.executor_class  # a fixture


def assert_few_hold_many(executor_class, program):
    """One image and two hold float64 as whole blocks do."""
    executor, x, expected = executor_class(program), images(program, 20), exact(program)
    y = expected.predict(x)
    assert_close(executor.predict(x), y)
    assert_close(executor.predict(x[:2]), y[:2])
    assert_close(executor.predict(x[1:2]), y[1:2])


# --- few filters ---

@pytest.mark.parametrize("filters", [1, 3, 4, 5, 8])
@pytest.mark.parametrize(("kernel_size", "options"), [
    ((1, 1), {}),
    ((3, 3), {"strides": (1, 2), "padding": "same"}),
    ((3, 2), {"dilation": (2, 3)}),
    ((2, 5), {"padding": ((0, 3), (4, 0)), "bias": False}),
], ids=str)
def test_few_filters_of_many_channels_hold_float64(executor_class, kernel_size, options, filters):
    """Taps share the lanes with the filters; behind a 1x1 kernel the pixels' values follow each other."""
    network = Network((7, 13, 9)).conv2d(filters, kernel_size, **options).activation("relu").pool("max", (3, 1))
    assert_few_hold_many(executor_class, network.conv2d(8, (1, 1)).conv2d(filters, (1, 3)).activation("elu").build())


# --- groups ---

@pytest.mark.parametrize(("channels", "filters", "groups"), [
    (2, 2, 2), (4, 6, 2), (6, 3, 3), (6, 12, 3), (15, 10, 5), (12, 20, 4), (8, 26, 2), (10, 48, 2), (34, 68, 2),
    (8, 40, 4), (64, 64, 16), (10, 8, 2), (24, 18, 3), (14, 2, 2),
])
def test_groups_of_any_size_hold_float64(executor_class, channels, filters, groups):
    network = Network((5, 9, 3)).conv2d(channels, (1, 1)).activation("relu")
    network.conv2d(filters, (3, 3), padding="same", groups=groups).activation("relu")
    assert_few_hold_many(executor_class, network.conv2d(5, (2, 2)).flatten().dense(3).build())


@pytest.mark.parametrize(("kernel_size", "options"), [
    ((1, 1), {}),
    ((3, 3), {"strides": (2, 2), "padding": "same"}),
    ((2, 3), {"strides": (1, 3)}),
    ((3, 3), {"dilation": (2, 2), "padding": "same"}),
    ((1, 7), {"padding": "same"}),
    ((3, 3), {"padding": ((0, 3), (4, 0))}),
    ((3, 2), {"bias": False}),
], ids=str)
def test_groups_with_options_hold_float64(executor_class, kernel_size, options):
    """The image itself in groups, an activation that is no ReLU, and groups of another number behind it."""
    network = Network((9, 11, 15)).conv2d(15, kernel_size, groups=3, **options).activation("tanh")
    assert_few_hold_many(executor_class, network.conv2d(10, (2, 2), groups=5).build())


@pytest.mark.parametrize(("channels", "filters"), [(4, 24), (8, 6)])
@pytest.mark.parametrize(("pool", "strides"), [((2, 2), (2, 2)), ((3, 2), (3, 2)), ((1, 2), (1, 3))], ids=str)
def test_groups_before_a_pool_hold_float64(executor_class, channels, filters, pool, strides):
    network = Network((8, 13, channels)).conv2d(filters, (3, 3), padding="same", groups=2).activation("relu")
    assert_few_hold_many(executor_class, network.pool("max", pool, strides).conv2d(3, (2, 2)).build())


def test_groups_between_depthwise_hold_float64(executor_class):
    network = Network((8, 9, 15)).conv2d(15, (3, 3), padding="same", groups=15).activation("relu")
    network.conv2d(15, (3, 3), groups=3).activation("relu").conv2d(15, (3, 3), padding="same", groups=15)
    assert_few_hold_many(executor_class, network.build())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_groups_keep_nan_and_infinity_to_themselves(executor_class, value):
    program = Network((6, 8, 6)).conv2d(9, (3, 3), padding="same", groups=3).build()
    x = images(program, 1)
    x[0, 2, 3, 2] = value
    actual, expected = executor_class(program).predict(x), exact(program).predict(x)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    np.testing.assert_array_equal(np.isfinite(expected).all((0, 1, 2)), [True] * 3 + [False] * 3 + [True] * 3)


# --- several filters a channel ---

@pytest.mark.parametrize("multiplier", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("channels", [2, 3, 7, 16])
def test_multiplied_depthwise_holds_float64(executor_class, channels, multiplier):
    network = Network((7, 10, 2)).conv2d(channels, (3, 3)).activation("relu")
    network.conv2d(channels * multiplier, (3, 3), padding="same", groups=channels).activation("relu")
    assert_few_hold_many(executor_class, network.conv2d(4, (1, 1)).build())


@pytest.mark.parametrize(("kernel_size", "options"), [
    ((5, 5), {"padding": "same"}),
    ((3, 3), {"strides": (2, 2), "padding": "same"}),
    ((2, 3), {"strides": (1, 2)}),
    ((3, 3), {"dilation": (2, 2), "padding": "same"}),
    ((3, 3), {"padding": ((0, 3), (4, 0))}),
    ((1, 1), {"bias": False}),
], ids=str)
def test_multiplied_depthwise_with_options_holds_float64(executor_class, kernel_size, options):
    """The image itself; several of them one behind the other, a pool and a norm."""
    network = Network((9, 10, 3)).conv2d(6, kernel_size, groups=3, **options).batch_norm().activation("sigmoid")
    network.conv2d(12, (2, 2), groups=6).activation("relu").pool("max", (2, 2), padding="same")
    assert_few_hold_many(executor_class, network.flatten().dense(4).activation("softmax").build())


# --- transposed ---

TRANSPOSED = [  # kernel, strides, padding, dilation
    ((3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1)),
    ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((5, 5), (2, 2), ((1, 2), (1, 2)), (1, 1)),
    ((4, 3), (1, 1), ((1, 2), (1, 1)), (1, 1)),
    ((2, 3), (3, 2), ((0, 0), (0, 0)), (1, 1)),  # strides that the kernel does not fill
    ((1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1)),
    ((3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    ((3, 2), (2, 1), ((1, 2), (0, 3)), (1, 3)),
    ((7, 1), (4, 1), ((3, 0), (0, 0)), (1, 1)),
]


def up(network, filters, kernel_size, strides, padding, dilation=(1, 1), more=(0, 0), **options):
    """A transposed convolution whose output is the smallest there is, or `more` rows and columns larger."""
    size = [(network.shape[a] - 1) * strides[a] + (kernel_size[a] - 1) * dilation[a] + 1 - sum(padding[a]) + more[a]
            for a in (0, 1)]
    return network.conv2d_transpose(filters, kernel_size, tuple(size), strides, padding, dilation, **options)


@pytest.mark.parametrize("filters", [1, 3, 8, 20, 40])
@pytest.mark.parametrize(("kernel_size", "strides", "padding", "dilation"), TRANSPOSED, ids=str)
def test_transposed_holds_float64(executor_class, kernel_size, strides, padding, dilation, filters):
    network = Network((6, 7, 2)).conv2d(5, (1, 1)).activation("relu")
    up(network, filters, kernel_size, strides, padding, dilation)
    assert_few_hold_many(executor_class, network.conv2d(2, (3, 3), padding="same").build())


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 6, 4), (5, 1, 4)], ids=str)
@pytest.mark.parametrize("more", [(0, 0), (1, 1)], ids=str)
def test_transposed_first_and_last_holds_float64(executor_class, shape, more):
    """Of small images, by strides larger than the output's first rows, with rows that no value reaches."""
    network = up(Network(shape), 3, (2, 2), (2, 2), ((0, 0), (0, 0)), more=more).activation("elu")
    assert_few_hold_many(executor_class, up(network, 1, (3, 3), (2, 2), ((1, 1), (1, 1))).build())


def test_transposed_with_a_norm_and_without_bias_holds_float64(executor_class):
    network = Network((5, 4, 3))
    up(network, 6, (3, 3), (2, 2), ((0, 1), (0, 1)), bias=False).batch_norm().activation("relu").pool("max", (2, 2))
    up(network, 4, (3, 3), (1, 1), ((1, 1), (1, 1))).batch_norm().activation("sigmoid")
    assert_few_hold_many(executor_class, network.gather(window(1, 7), window(0, 8)).build())


def test_transposed_behind_a_reshape_and_before_groups_holds_float64(executor_class):
    network = Network((1, 1, 5)).dense(48).activation("relu").reshape(4, 4, 3)
    up(network, 4, (4, 4), (2, 2), ((1, 1), (1, 1))).activation("relu").conv2d(6, (3, 3), padding="same", groups=2)
    assert_few_hold_many(executor_class, up(network, 1, (2, 2), (2, 2), ((0, 0), (0, 0))).activation("tanh").build())


# --- all of them ---

def test_few_images_have_the_same_bits_for_any_number_of_threads():
    network = Network((16, 16, 8)).conv2d(64, (3, 3), padding="same", groups=2).activation("relu")
    network.conv2d(128, (3, 3), (2, 2), "same", groups=64)
    up(network, 32, (4, 4), (2, 2), ((1, 1), (1, 1))).activation("relu").conv2d(32, (3, 3), groups=4)
    program, before, results = network.build(), engine.config()["threads"], []
    executor, x = engine.Executor(program), images(program, 2)
    try:
        for threads in (1, 2, 3):
            engine.set_num_threads(threads)
            results.append(executor.predict(x))
    finally:
        engine.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_weights_that_change_are_packed_again(executor_class):
    network = Network((6, 6, 4)).conv2d(8, (3, 3), groups=2).activation("relu").conv2d(16, (2, 2), groups=8)
    program = up(network, 3, (2, 2), (2, 2), ((0, 0), (0, 0))).build()
    executor, x = executor_class(program), images(program, 2)
    executor.predict(x)  # packs them
    for weight in program.weights:
        weight *= 1.5
    executor.weights_changed()
    assert_close(executor.predict(x), exact(program).predict(x))

"""Brightness and contrast of images in training: values and gradients against loops, and what is drawn."""

from __future__ import annotations

import dataclasses

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import BATCHES, INNER_PRODUCT, Network, images

from tinyconv import engine
from tinyconv.engine.program import LEVELS, Loss

executor_class = engine_helpers.executor_class  # a fixture

SHAPE = (5, 7, 3)
SEED, STEP = 11, 4
FACTORS = {"brightness": (-0.9, 0.7), "contrast": (0.2, 1.9)}
LIMITS = (-0.8, 1.1)
each_kind = pytest.mark.parametrize("levels", LEVELS)


def changed(levels, shape=SHAPE, factors=None, limits=LIMITS, before=False):
    network = Network(shape, SEED)
    if before:
        network.conv2d(shape[2], (1, 1))
    network.add("random_levels", shape, levels=levels, factors=factors or FACTORS[levels], limits=limits, stream=0)
    return network


def trained(executor, x):
    """What training makes of x."""
    outputs = np.empty((len(x), *executor.program.output_shape), np.float32)
    executor.train_step(x, x, Loss("mean_squared_error"), "sgd", (0.0,), [], STEP, predictions=outputs)
    return outputs


def expected(levels, x, dy, limits=LIMITS):
    """Outputs and the gradient of the input, a channel of an image at a time, in float64."""
    y, dx = np.empty(x.shape), np.empty(x.shape)
    least, most = (float(np.float32(factor)) for factor in FACTORS[levels])
    for image in range(len(x)):
        number = least + (most - least) * oracles.random_number(SEED, STEP, 0, image, 0) / 2**24
        for c in range(x.shape[3]):
            own, given = np.float64(x[image, :, :, c]), np.float64(dy[image, :, :, c])
            mean = own.sum() / own.size
            result = own + number if levels == "brightness" else (own - mean) * number + mean
            y[image, :, :, c] = np.minimum(np.maximum(result, limits[0]), limits[1])
            kept = np.where((result < limits[0]) | (result > limits[1]), 0, given)
            dx[image, :, :, c] = (kept if levels == "brightness"
                                  else number * kept + (1 - number) * kept.sum() / kept.size)
    return y, dx


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1), (1, 9, 2), (6, 1, 17), (28, 28, 1)], ids=str)
@each_kind
def test_values_are_changed_and_clipped(executor_class, levels, shape):
    program = changed(levels, shape).build()
    executor = executor_class(program)
    for n in (2, 18):
        x, dy = images(program, n), images(program, n, seed=4)
        y, dx = expected(levels, x, dy)
        # Sums of a row, then of rows: each number rounds a few times.
        tolerance = 4 * (sum(shape[:2]) + 4) * engine_helpers.EPSILON
        np.testing.assert_allclose(trained(executor, x), y, atol=tolerance * np.abs(x).max())
        _, _, found = executor.gradients(x, dy, INNER_PRODUCT, STEP, True, input_gradient=True)
        np.testing.assert_allclose(found.reshape(x.shape), dx, atol=tolerance * np.abs(dy).max())


@each_kind
def test_levels_are_the_identity_outside_of_training(executor_class, levels):
    program = changed(levels).build()
    executor = executor_class(program)
    for n in BATCHES:
        x = 3 * images(program, n)  # beyond the limits too
        np.testing.assert_array_equal(executor.predict(x).reshape(x.shape), x)
        dy = images(program, n, seed=4)
        _, _, dx = executor.gradients(x, dy, INNER_PRODUCT, STEP, False, input_gradient=True)
        np.testing.assert_array_equal(dx.reshape(x.shape), dy)


@each_kind
def test_numbers_are_uniform_and_each_image_has_its_own(executor_class, levels):
    program = changed(levels, (1, 2, 1), limits=(-9.0, 9.0)).build()
    x = np.tile(np.float32([1, 2]), (2000, 1)).reshape(-1, 1, 2, 1)
    y = trained(executor_class(program), x)[:, 0, :, 0]
    numbers = y[:, 0] - 1 if levels == "brightness" else y[:, 1] - y[:, 0]
    least, most = FACTORS[levels]
    places = (np.sort(numbers) - least) / (most - least)
    assert np.abs(places - (np.arange(2000) + 0.5) / 2000).max() < 1.63 / np.sqrt(2000)  # Kolmogorov, Smirnov: 1%
    np.testing.assert_allclose(y.mean(1), 1.5 + (numbers if levels == "brightness" else 0), rtol=1e-5)


@each_kind
def test_nan_and_infinity_stay_in_their_image_and_channel(executor_class, levels):
    program = changed(levels).build()
    x = images(program, 5)
    x[1, 2, 3, 1], x[3, 0, 0, 2] = np.nan, np.inf
    y = trained(executor_class(program), x)
    assert np.isnan(y[1, 2, 3, 1])
    if levels == "brightness":
        assert np.isnan(y).sum() == 1 and y[3, 0, 0, 2] == np.float32(LIMITS[1])
    else:
        assert np.isnan(y[1, :, :, 1]).all() and np.isnan(y[3, 0, 0, 2])
        assert not np.isnan(y[..., 0]).any() and not np.isnan(y[[0, 2, 4]]).any()


@each_kind
def test_gradients_pass_through_to_the_layer_before(executor_class, levels):
    network = changed(levels, before=True)
    network.conv2d(2, (3, 3), padding="same")  # which reads zeros beside what it gets
    program = network.build()
    x = images(program, 7)
    dy = np.random.default_rng(1).standard_normal((7, *program.output_shape)).astype(np.float32)
    found = executor_class(program).gradients(x, dy, INNER_PRODUCT, STEP, True, input_gradient=True)
    exact = engine_helpers.exact(program).gradients(x, dy, INNER_PRODUCT, STEP, True, input_gradient=True)
    for ours, theirs in zip([*found[1], found[2]], [*exact[1], exact[2]], strict=True):
        np.testing.assert_allclose(np.ravel(ours), np.ravel(theirs), rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("fields", [{"levels": "hue"}, {"factors": (0.0,)}, {"factors": (0.0, float("nan"))},
                                    {"limits": (1.0, 0.0)}, {"limits": (0.0, float("inf"))}], ids=str)
def test_bad_numbers_are_refused(executor_class, fields):
    program = changed("contrast").build()
    op = dataclasses.replace(program.ops[0], attributes={**program.ops[0].attributes, **fields})
    with pytest.raises(ValueError, match="Received"):
        executor_class(dataclasses.replace(program, ops=(op,)))


@pytest.mark.skipif(engine.backend() != "native", reason="the reference has no threads")
@each_kind
def test_bits_are_the_same_for_any_number_of_threads(levels):
    from tinyconv.engine import native

    program = changed(levels).build()
    x = images(program, 61)
    found = []
    before = engine.get_num_threads()
    try:
        for threads in (1, 2, 3):
            engine.set_num_threads(threads)
            found.append(trained(native.Executor(program), x).tobytes())
    finally:
        engine.set_num_threads(before)
    assert len(set(found)) == 1
    np.testing.assert_array_equal(np.frombuffer(found[0], np.float32).reshape(x.shape)[:17],
                                  trained(native.Executor(program), x[:17]))

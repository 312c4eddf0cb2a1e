"""Noise in training other than plain dropout (test_engine_training.py): numbers, gradients, bits."""

from __future__ import annotations

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import BATCHES, INNER_PRODUCT, Network, exact, images

from tinyconv import engine
from tinyconv.engine.program import NOISES, Loss, random_key, random_normal

executor_class = engine_helpers.executor_class  # a fixture

SHAPE = (3, 4, 5)
SEED, STEP = 7, 3
RATES = {"dropout": 0.3, "spatial_dropout": 0.4, "gaussian_noise": 1.5, "gaussian_dropout": 0.2, "alpha_dropout": 0.3}
each_noise = pytest.mark.parametrize("noise", NOISES)


def trained(executor, x):
    """What training makes of x."""
    outputs = np.empty((len(x), *executor.program.output_shape), np.float32)
    executor.train_step(x, x, Loss("mean_squared_error"), "sgd", (0.0,), [], STEP, predictions=outputs)
    return outputs


def expected(noise, x):
    """(y, factor of the gradient) of every value by the formulas of engine/program.py."""
    n, rate = len(x), RATES[noise]
    values = int(np.prod(SHAPE))
    z = np.float64(x)
    if noise.startswith("gaussian"):
        normal = oracles.normals(SEED, STEP, 0, n, values).reshape(x.shape)
        factor = 1 + np.sqrt(rate / (1 - rate)) * normal if noise == "gaussian_dropout" else np.ones(x.shape)
        return (z * factor, factor) if noise == "gaussian_dropout" else (z + rate * normal, factor)
    if noise == "spatial_dropout":
        mask = oracles.dropout_mask(SEED, STEP, 0, n, SHAPE[2], rate)[:, None, None]
        mask = np.broadcast_to(mask, x.shape)
    else:
        mask = oracles.dropout_mask(SEED, STEP, 0, n, values, rate).reshape(x.shape)
    if noise == "alpha_dropout":
        limit = -1.0507009873554805 * 1.6732632423543772
        scale = ((1 - rate) * (1 + rate * limit**2)) ** -0.5
        return scale * np.where(mask, z, limit) - scale * limit * rate, mask * scale
    return z * mask / (1 - rate), mask / (1 - rate)


@pytest.mark.parametrize("n", BATCHES)
@each_noise
def test_noise_and_its_gradient_hold_the_formula(executor_class, noise, n):
    program = Network(SHAPE, SEED).dropout(RATES[noise], noise).build()
    executor, x = executor_class(program), images(program, n)
    y, factor = expected(noise, x)
    np.testing.assert_allclose(trained(executor, x), y, rtol=1e-5, atol=4e-6)
    dy = images(program, n, seed=4)
    _, _, dx = executor.gradients(x, dy, INNER_PRODUCT, STEP, True, input_gradient=True)
    np.testing.assert_allclose(dx, dy * factor, rtol=1e-5, atol=4e-6)


def test_gaussian_noise_takes_large_deviations(executor_class):
    program = Network(SHAPE, SEED).dropout(1e6, "gaussian_noise").build()
    x = images(program, 3)
    normal = oracles.normals(SEED, STEP, 0, 3, int(np.prod(SHAPE))).reshape(x.shape)
    np.testing.assert_allclose(trained(executor_class(program), x), x + 1e6 * normal, rtol=1e-5, atol=4)


@each_noise
def test_noise_is_the_identity_outside_of_training(executor_class, noise):
    program = Network(SHAPE, SEED).dropout(RATES[noise], noise).build()
    executor = executor_class(program)
    for n in (1, 17):
        x = images(program, n)
        np.testing.assert_array_equal(executor.predict(x), x)
        np.testing.assert_array_equal(
            executor.gradients(x, x, INNER_PRODUCT, STEP, False, input_gradient=True)[2], x)


@each_noise
def test_noise_between_layers_holds_float64(executor_class, noise):
    """Where rows have zeros beside them, numbers still count the values only."""
    network = Network((5, 6, 2), SEED).conv2d(4, (3, 3), padding="same").activation("relu").dropout(RATES[noise], noise)
    program = network.conv2d(3, (3, 3), padding="same").build()
    x = images(program, 18)
    dy = images(program, 18, seed=4).ravel()[0] + np.ones((18, *program.output_shape), np.float32)
    results = [executor.gradients(x, dy, INNER_PRODUCT, STEP, True, input_gradient=True)
               for executor in (executor_class(program), exact(program))]
    for one, other in zip([*results[0][1], results[0][2]], [*results[1][1], results[1][2]], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@each_noise
def test_noise_gives_the_same_bits_for_any_number_of_threads(noise):
    program, before = Network(SHAPE, SEED).dropout(RATES[noise], noise).build(), engine.config()["threads"]
    x = images(program, 70)
    results = []
    try:
        for threads in (1, 2, 3):
            engine.set_num_threads(threads)
            results.append(trained(engine.Executor(program), x))
    finally:
        engine.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_random_normals_are_normal():
    numbers = random_normal(random_key(1, 2, 3, 4), np.arange(200_000, dtype=np.uint32))
    assert np.isfinite(numbers).all() and np.abs(numbers).max() < 5.8  # sqrt(2 log(2**24))
    assert abs(numbers.mean()) < 5 / np.sqrt(200_000)
    assert abs(numbers.var() - 1) < 5 * np.sqrt(2 / 200_000)
    below = [(numbers < t).mean() for t in (-1.959964, -0.674490, 0.0, 0.674490, 1.959964)]
    np.testing.assert_allclose(below, [0.025, 0.25, 0.5, 0.75, 0.975], atol=5 * 0.5 / np.sqrt(200_000))
    assert abs(np.corrcoef(numbers[::2], numbers[1::2])[0, 1]) < 5 / np.sqrt(100_000)


@pytest.mark.parametrize(("noise", "rate"), [("gaussian", 0.1), ("gaussian_dropout", 1.0), ("alpha_dropout", -0.1),
                                             ("gaussian_noise", -1.0), ("gaussian_noise", np.inf)])
def test_bad_noise_is_refused(executor_class, noise, rate):
    with pytest.raises(ValueError, match="dropout .operation 0. expected"):
        executor_class(Network(SHAPE).dropout(rate, noise).build())

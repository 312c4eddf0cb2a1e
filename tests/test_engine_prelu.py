"""Rectifiers with trained slopes: against loops in float64 and central differences."""

from __future__ import annotations

import dataclasses
import itertools

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import (
    BATCHES,
    EPSILON,
    INNER_PRODUCT,
    Network,
    assert_close,
    assert_rounded,
    exact,
    images,
    labels_for,
    new_state,
)

from tinyconv import engine
from tinyconv.engine.program import Loss, Op, Program
from tinyconv.engine.validate import check_program

executor_class = engine_helpers.executor_class  # a fixture

SMOOTH = 7  # a seed of weights with which no step of a difference changes the sign of a value
SPARSE = Loss("sparse_categorical_crossentropy")
SHAPES = [(1, 1, 1), (1, 1, 17), (5, 4, 3), (3, 7, 8), (1, 6, 4)]
SHARED = list(itertools.product((False, True), repeat=3))
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_sharing = pytest.mark.parametrize("shared", SHARED, ids=lambda shared: "".join("01"[one] for one in shared))


def one_prelu(shape, shared):
    return Network(shape, seed=4).prelu(shared).build()


def by_loops(x, slopes, dy):
    """y, dx and the slopes' gradient, value by value, and the sum of what is added up for the last."""
    y, dx = np.zeros(x.shape), np.zeros(x.shape)
    dslopes, magnitude = np.zeros(slopes.shape), np.zeros(slopes.shape)
    for place in np.ndindex(x.shape):
        value, gradient = float(x[place]), float(dy[place])
        at = tuple(i if size > 1 else 0 for i, size in zip(place[1:], slopes.shape, strict=True))
        slope = float(slopes[at])
        y[place] = value if value > 0 else slope * value
        dx[place] = gradient if value > 0 else slope * gradient
        if value < 0:
            dslopes[at] += value * gradient
            magnitude[at] += abs(value * gradient)
    return y, dx, dslopes, magnitude


@pytest.mark.parametrize("n", BATCHES)
@each_shape
@each_sharing
def test_prelu_holds_its_loops(executor_class, shape, shared, n):
    program = one_prelu(shape, shared)
    x = images(program, n)
    dy = labels_for(INNER_PRODUCT, program, n).reshape(x.shape)
    y, dx, dslopes, magnitude = by_loops(x, program.weights[0], dy)
    executor = executor_class(program)
    assert_rounded(executor.predict(x), y, np.abs(y), 1)
    _, (gradient,), actual = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert_rounded(actual, dx, np.abs(dx), 1)
    assert_rounded(gradient, dslopes, magnitude, x.size / program.weights[0].size)


def network(seed=0):
    """Slopes behind and before convolutions that pad, behind a reshape, with and without a sum over pixels."""
    network = Network((8, 7, 3), seed).prelu((False, True, False)).conv2d(8, (3, 3), padding="same").prelu()
    network.conv2d(5, (3, 3), padding="same").batch_norm().prelu((False, False, True)).pool("average", (2, 2))
    network.flatten().prelu((True, True, False)).dense(6).prelu((True, True, True)).reshape(2, 1, 3).prelu()
    return network.flatten().dense(4).activation("softmax").build()


def test_gradients_through_prelus_hold_central_differences(executor_class):
    program = network(SMOOTH)
    x, y = images(program, 9), labels_for(SPARSE, program, 9)
    _, gradients, dx = executor_class(program).gradients(x, y, SPARSE, input_gradient=True)
    reference64 = exact(program)

    def loss():
        return reference64.gradients(x, y, SPARSE)[0][0] / len(x)

    random = np.random.default_rng(5)
    for array, gradient in [*zip(program.weights, gradients, strict=True), (x, dx)]:
        if gradient is None:
            continue
        chosen = random.permutation(array.size)[:8].tolist()
        expected = oracles.weight_difference(loss, array, 1e-4, chosen)
        assert np.abs(gradient.ravel()[chosen] - expected).max() < 1e-3 * np.abs(gradient).max() + 1e-6


@pytest.mark.parametrize("n", [1, 3, 17, 40])
def test_networks_with_prelus_hold_float64(executor_class, n):
    program = network(3)
    x, y = images(program, n), labels_for(SPARSE, program, n)
    executor, reference64 = executor_class(program), exact(program)
    assert_close(executor.predict(x), reference64.predict(x))
    executor.train_step(x, y, SPARSE, "sgd", (0.1,), new_state(program, 0), 0)
    assert_close(executor.predict(x), reference64.predict(x))  # the weights are read afresh


def test_prelu_has_no_slope_at_zero(executor_class):
    """As in Keras, where it is relu(x) - slope * relu(-x)."""
    program = one_prelu((1, 1, 5), (True, True, False))
    x = np.zeros((3, 1, 1, 5), np.float32)
    _, (gradient,), dx = executor_class(program).gradients(x, np.ones_like(x), INNER_PRODUCT, input_gradient=True)
    np.testing.assert_array_equal(dx, 0)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("n", [1, 18])
def test_prelu_passes_on_what_is_not_finite(executor_class, n):
    program = one_prelu((2, 2, 5), (False, False, False))
    x = images(program, n)
    x[0, 1, 0, :4] = np.nan, np.inf, -np.inf, 1.0
    y = executor_class(program).predict(x)[0, 1, 0]
    slope = program.weights[0][1, 0, 2]
    np.testing.assert_array_equal(y[:4], [np.nan, np.inf, -np.inf * slope, 1.0])
    _, (gradient,), dx = executor_class(program).gradients(x, np.ones_like(x), INNER_PRODUCT, input_gradient=True)
    np.testing.assert_array_equal(np.isnan(dx), np.isnan(x))
    assert np.isnan(gradient[1, 0, 0]) and np.isfinite(gradient[0]).all()


def test_frozen_slopes_pass_the_gradient_on(executor_class):
    build = Network((6, 6, 2), 1).conv2d(4, (3, 3))
    build.train = False
    program = build.prelu().build()
    x, dy = images(program, 20), labels_for(INNER_PRODUCT, program, 20)
    _, gradients, dx = executor_class(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    _, expected, expected_dx = exact(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert gradients[2] is None and expected[2] is None
    assert_close(gradients[0], expected[0])
    assert_close(dx, expected_dx)


def test_prelus_are_the_same_for_every_number_of_threads():
    if engine.backend() != "native":
        pytest.skip("the reference leaves threads to NumPy")
    results, before = [], engine.get_num_threads()
    try:
        for threads in (1, 2, 3, 5):
            engine.set_num_threads(threads)
            program = network()
            x, y = images(program, 200), labels_for(SPARSE, program, 200)
            engine.Executor(program).train_step(x, y, SPARSE, "sgd", (0.1,), new_state(program, 0), 0)
            results.append(program.weights)
    finally:
        engine.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("attributes", "weights", "message"), [
    ({"shared": (True, True, False)}, (), "three axes and one weight"),
    ({"shared": (True, False)}, (0,), "three axes and one weight"),
    ({"shared": (True, False, False)}, (0,), "weights of the shapes"),
    ({"shared": (True, True, False)}, (2,), "weights from 0 to 1"),
], ids=["none", "axes", "shape", "index"])
def test_program_refuses_a_prelu_that_is_not_one(attributes, weights, message):
    arrays = (np.ones((1, 1, 3), np.float32), np.ones(3, np.float32))
    op = Op("prelu", (2, 2, 3), (2, 2, 3), attributes, weights)
    with pytest.raises(ValueError, match=f"prelu.*expected.*{message}.*Received: "):
        check_program(Program((op,), arrays, (True, True), (2, 2, 3), (2, 2, 3)))


# --- the inverse of a normalization ---


@pytest.mark.parametrize("behind", ["nothing", "dense", "conv2d"])
@pytest.mark.parametrize("n", [1, 3, 17])
def test_an_inverse_norm_puts_mean_and_deviation_back(executor_class, behind, n):
    network = Network((4, 3, 5), 2)
    if behind == "dense":
        network.flatten().dense(5)
    elif behind == "conv2d":
        network.conv2d(6, (3, 3))
    norm = network.batch_norm(scale=False, center=False, frozen=True, epsilon=1e-14)
    norm.ops[-1].attributes["inverse"] = True
    program = network.build()
    before = dataclasses.replace(program, ops=program.ops[:-1])
    mean, variance = (np.float64(weight) for weight in program.weights[-2:])
    executor, x = executor_class(program), images(program, n)
    values = x.astype(np.float64) if behind == "nothing" else exact(before).predict(x)
    expected = values * np.sqrt(variance) + mean
    assert_close(executor.predict(x), expected)
    dy = labels_for(INNER_PRODUCT, program, n).reshape(expected.shape)
    sums, gradients, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    np.testing.assert_allclose(sums[0], (dy * expected).sum(), rtol=1e-3,
                               atol=EPSILON * np.abs(dy * expected).sum() * 8)
    assert gradients[-2:] == [None, None]
    assert_close(dx, exact(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True)[2])
    if behind == "nothing":
        assert_rounded(dx, dy * np.sqrt(variance), np.abs(dy) * np.sqrt(variance), 2)


@pytest.mark.parametrize("settings", [{"frozen": False}, {"scale": True}, {"center": True}], ids=str)
def test_program_refuses_an_inverse_that_has_something_to_train(settings):
    network = Network((2, 2, 3)).batch_norm(**{"scale": False, "center": False, "frozen": True, **settings})
    network.ops[-1].attributes["inverse"] = True
    with pytest.raises(ValueError, match="batch_normalization.*expected to be frozen.*Received: "):
        check_program(network.build())

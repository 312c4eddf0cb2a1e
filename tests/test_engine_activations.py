"""Every activation function and its derivative, alone and behind convolutions and dense layers."""

from __future__ import annotations

import math

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import (
    BATCHES,
    INNER_PRODUCT,
    Network,
    assert_all_close,
    assert_close,
    exact,
    executors,
    images,
)

from tinyconv.engine import reference_activations
from tinyconv.engine.program import ACTIVATIONS

executor_class = engine_helpers.executor_class  # a fixture

CASES = [(name, ()) for name in ACTIVATIONS] + [
    ("relu", (0.1, math.inf, 0.0)), ("relu", (0.0, 6.0, 0.0)), ("relu", (0.2, 4.0, 1.0)),
    ("relu", (0.0, 3.0, -1.0)), ("leaky_relu", (0.01,)), ("leaky_relu", (0.0,)), ("elu", (0.5,)),
    ("elu", (0.0,)), ("celu", (2.0,)), ("soft_shrink", (0.3,)), ("hard_shrink", (1.0,)), ("squareplus", (0.1,)),
]
VALUE_BY_VALUE = [case for case in CASES if "softmax" not in case[0]]
# Not on a corner of any function above.
POINTS = np.concatenate([np.linspace(-30.05, 30.15, 302), np.linspace(-8.003, 8.002, 1601),
                         [-80.1, -1e-3, -1e-6, 1e-20, 1e-6, 1e-3, 80.1]]).astype(np.float32)


def case_id(case):
    return case[0] + "".join(f",{parameter:g}" for parameter in case[1])


def alone(case, channels):
    return Network((1, 1, channels)).activation(case[0], *case[1]).build()


@pytest.mark.parametrize("case", VALUE_BY_VALUE, ids=case_id)
def test_activation_holds_the_formula(executor_class, case):
    program = alone(case, len(POINTS))
    y = executor_class(program).predict(POINTS[None])[0, 0, 0]
    expected = oracles.activation(case[0], POINTS, case[1])
    # Absolutely where functions cancel towards 0, like x * sigmoid(x) far left.
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("case", VALUE_BY_VALUE, ids=case_id)
def test_activation_derivative_holds_central_differences(executor_class, case):
    points = POINTS[np.abs(POINTS) > 1e-4]  # differences must not step over the corner at 0
    program = alone(case, len(points))
    dy = np.random.default_rng(3).uniform(0.5, 2, len(points)).astype(np.float32)
    _, _, dx = executor_class(program).gradients(points[None], dy[None], INNER_PRODUCT, input_gradient=True)
    expected = oracles.activation_backward(case[0], dy, points, case[1])
    np.testing.assert_allclose(dx[0, 0, 0], expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 10), (1, 1, 17), (3, 2, 8), (2, 2, 3)],
                         ids=lambda shape: "x".join(map(str, shape)))
def test_softmax_is_over_the_last_axis(executor_class, function, n, shape):
    program = Network(shape).activation(function).build()
    x = 4 * images(program, n)
    executor = executor_class(program)
    np.testing.assert_allclose(executor.predict(x), oracles.activation(function, x), rtol=4e-6, atol=1e-6)
    if n > 2:
        return
    dy = images(program, n, seed=4)
    _, _, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    np.testing.assert_allclose(dx, oracles.activation_backward(function, dy, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_softmax_does_not_overflow(executor_class, function):
    program = alone((function, ()), 4)
    rows = [[1000, 0, -1000, 999], [-1e30, -1e30, -1e30, -1e30], [3e38, -3e38, 0, 0], [0, 0, 0, -np.inf]]
    x = np.array(rows, np.float32)
    y = executor_class(program).predict(x)[:, 0, 0]
    shifted = [[1, -999, -1999, 0], [0, 0, 0, 0], [0, -999, -999, -999], [0, 0, 0, -np.inf]]
    expected = oracles.activation("softmax", shifted)
    if function == "softmax":
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-30)
    else:
        np.testing.assert_allclose(np.exp(np.float64(y)), expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("n", [1, 17])
@pytest.mark.parametrize("place", ["conv2d", "same", "pooled", "dense", "alone"])
def test_activation_in_a_network(executor_class, case, n, place):
    if place == "dense":
        network = Network((1, 1, 9)).dense(11).activation(case[0], *case[1]).dense(3)
    else:
        network = Network((7, 8, 2))
        if place != "alone":
            network.conv2d(5, (3, 3), padding="same" if place == "same" else "valid")
        network.activation(case[0], *case[1])
        if place == "pooled":
            network.pool("max", (2, 2))
        network.conv2d(3, (3, 2), padding="same")
    program = network.build()
    x, expected, executor = 2 * images(program, n), exact(program), executor_class(program)
    assert_close(executor.predict(x), expected.predict(x), 1e-5)
    dy = images(program, 1, seed=4)[0].ravel()[:1] + np.ones((n, *program.output_shape), np.float32)
    _, gradients, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    _, exact_gradients, exact_dx = expected.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert_all_close([*gradients, dx], [*exact_gradients, exact_dx], 3e-5)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_activation_passes_nan_on_and_keeps_it_to_its_value(executor_class, case):
    program = alone(case, 3)
    x = np.array([[0.5, -0.5, 1], [0.5, np.nan, 1], [2, 1, 0]], np.float32)
    y = executor_class(program).predict(x)[:, 0, 0]
    assert np.isfinite(y[[0, 2]]).all()
    if "softmax" in case[0]:
        assert np.isnan(y[1]).all()
    else:
        assert np.isnan(y[1]).tolist() == [False, True, False]


@pytest.mark.parametrize(("function", "low", "high"), [
    ("linear", -np.inf, np.inf), ("relu", 0, np.inf), ("sigmoid", 0, 1), ("tanh", -1, 1),
    ("leaky_relu", -np.inf, np.inf), ("elu", -1, np.inf), ("selu", -1.7580993, np.inf),
    ("softplus", 0, np.inf), ("exponential", 0, np.inf), ("hard_sigmoid", 0, 1),
    ("celu", -1, np.inf), ("log_sigmoid", -np.inf, 0), ("hard_tanh", -1, 1), ("tanh_shrink", -np.inf, np.inf),
    ("soft_shrink", -np.inf, np.inf), ("hard_shrink", -np.inf, np.inf), ("squareplus", 0, np.inf),
    ("sparse_plus", 0, np.inf), ("sparse_sigmoid", 0, 1),
])
def test_activation_at_infinity_is_its_limit(executor_class, function, low, high):
    program = alone((function, ()), 2)
    x = np.array([[-np.inf, np.inf]], np.float32)
    np.testing.assert_allclose(executor_class(program).predict(x).ravel(), [low, high], rtol=1e-6)


def test_relu_has_no_gradient_at_zero(executor_class):
    program = alone(("relu", ()), 4)
    x = np.array([[0.0, -0.0, 1e-30, -1e-30]], np.float32)
    dy = np.ones((1, 4), np.float32)
    _, _, dx = executor_class(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert dx.ravel().tolist() == [0, 0, 1, 0]


def test_reference_erf_holds_math_erf():
    x = np.linspace(-7, 7, 5001)
    expected = [math.erf(value) for value in x]
    np.testing.assert_allclose(reference_activations.erf(x), expected, rtol=1e-14, atol=1e-15)
    assert np.isnan(reference_activations.erf(np.array([np.nan]))).all()


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_reference_in_float64_holds_the_formula_to_its_last_digits(case):
    program = alone(case, 7)
    x = images(program, 9)
    y = executors()["numpy"](program, dtype=np.float64).predict(x)
    np.testing.assert_allclose(y, oracles.activation(case[0], x, case[1]), rtol=1e-12, atol=1e-14)

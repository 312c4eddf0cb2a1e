from __future__ import annotations

import math

import numpy as np
import pytest

from tinyconv import activations
from tinyconv.engine import program

X = np.array([-30.0, -3.5, -1.0, -0.25, 0.0, 0.5, 2.0, 7.0, 30.0])

# Formulas written out one number at a time.
SCALAR = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0 else 0.2 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "selu": lambda x: 1.05070098735548 * (x if x > 0 else 1.67326324235437 * (math.exp(x) - 1)),
    "exponential": math.exp,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "hard_sigmoid": lambda x: min(max(x / 6 + 0.5, 0.0), 1.0),
    "tanh": math.tanh,
    "softplus": lambda x: math.log1p(math.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "hard_silu": lambda x: x * min(max(x / 6 + 0.5, 0.0), 1.0),
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "celu": lambda x: x if x > 0 else math.exp(x) - 1,
    "log_sigmoid": lambda x: -math.log1p(math.exp(-x)),
    "hard_tanh": lambda x: max(-1.0, min(1.0, x)),
    "tanh_shrink": lambda x: x - math.tanh(x),
    "soft_shrink": lambda x: math.copysign(max(abs(x) - 0.5, 0.0), x),
    "hard_shrink": lambda x: x if abs(x) > 0.5 else 0.0,
    "squareplus": lambda x: (x + math.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: 0.0 if x <= -1 else x if x >= 1 else (x + 1)**2 / 4,
    "sparse_sigmoid": lambda x: max(0.0, min(1.0, (x + 1) / 2)),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


@pytest.mark.parametrize("name", SCALAR)
def test_activation_matches_its_formula(name):
    x = X.copy()
    y = activations.get(name)(x)
    np.testing.assert_allclose(y, [SCALAR[name](value) for value in X], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("name", [*SCALAR, "softmax", "log_softmax"])
def test_activation_keeps_float32_and_shape(name):
    function = activations.get(name)
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(2, 2, 3)
    x.flags.writeable = False
    y = function(x)
    assert y.dtype == np.float32 and y.shape == x.shape
    assert function(x[:, :, ::-1]).shape == (2, 2, 3)
    assert function([[1, 2], [3, 4]]).dtype == np.float32


def test_relu_parameters():
    y = activations.relu(X, negative_slope=0.1, max_value=5.0, threshold=1.0)
    expected = [5.0 if x >= 5 else x if x >= 1 else 0.1 * (x - 1) for x in X]
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_relu_of_infinities():
    x = np.array([-np.inf, np.inf])
    assert activations.relu(x).tolist() == [0.0, np.inf]
    assert activations.relu6(x).tolist() == [0.0, 6.0]
    assert activations.leaky_relu(x).tolist() == [-np.inf, np.inf]


def test_softmax_rows_sum_to_one_without_overflow():
    x = np.array([[1000.0, 1000.0, -1000.0], [0.0, math.log(3.0), 0.0]])
    np.testing.assert_allclose(activations.softmax(x), [[0.5, 0.5, 0], [0.2, 0.6, 0.2]], rtol=1e-12)
    np.testing.assert_allclose(
        activations.log_softmax(x)[0], [-math.log(2), -math.log(2), -2000 - math.log(2)]
    )
    np.testing.assert_allclose(activations.softmax(x, axis=0).sum(axis=0), 1.0)


@pytest.mark.parametrize("name", [*SCALAR, "softmax", "log_softmax"])
def test_activation_propagates_nan(name):
    assert np.isnan(activations.get(name)(np.array([np.nan, np.nan]))).all()


@pytest.mark.parametrize("name", [*SCALAR, "softmax", "log_softmax"])
def test_activation_lowers_to_an_operation_of_the_engine(name):
    function, parameters = activations.lower(activations.get(name))
    assert len(parameters) == len(program.ACTIVATIONS[function])
    if name != "relu6":
        assert (function, parameters) == (name, program.ACTIVATIONS[name])


def test_every_operation_of_the_engine_has_a_name():
    for name in program.ACTIVATIONS:
        assert activations.lower(activations.get(name))[0] == name


def test_get_and_serialize():
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu
    assert activations.get("hard_swish") is activations.hard_silu
    assert activations.get(activations.tanh) is activations.tanh
    assert activations.get({"class_name": "function", "config": "relu"}) is activations.relu
    for name in SCALAR:
        assert activations.serialize(activations.get(name)) == name


@pytest.mark.parametrize("identifier", ["reluu", 3, np.tanh, len, {"config": {}}, {}, [1]], ids=str)
def test_get_refuses_unknown(identifier):
    with pytest.raises(ValueError, match="Unknown activation.*Received:"):
        activations.get(identifier)

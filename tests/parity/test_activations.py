"""Every activation of the table, as a function and as a layer, has the values and gradients of Keras."""

from __future__ import annotations

import numpy as np
import pytest
from parity.cases_activations import CASES
from parity.harness import assert_agrees, is_lacking, jax, keras, random_array, tinyconv

from tinyconv.engine.program import Loss

PRESENT = [(name, arguments) for name, arguments in CASES if not is_lacking(f"activations.{name}")]
PLAIN = sorted({name for name, arguments in PRESENT if not arguments})
# What overflows, underflows, is not a number or lies where a function changes its form.
KEEPS_NAN = {"hard_shrink", "soft_shrink"}  # Keras makes 0 of it
# Below 0 Keras' x + sqrt(x * x + 4) is the rounding of x, and a NaN of -inf.
CANCELS = {"squareplus"}
SPECIAL = np.array([0.0, -0.0, 1e-30, -1e-30, 20, -20, 90, -90, 1e4, -1e4, np.inf, -np.inf, np.nan], np.float32)
ROWS = {"softmax", "log_softmax", "glu", "sparsemax"}  # of a row, not of a number


@pytest.mark.parametrize(("name", "arguments"), PRESENT, ids=[f"{name}-{arguments}" for name, arguments in PRESENT])
def test_activation_has_the_values_of_keras(name, arguments):
    x = random_array((50, 6), 1, 3.0)
    theirs = getattr(keras.activations, name)(jax.numpy.asarray(x), **arguments)
    assert_agrees(getattr(tinyconv.activations, name)(x, **arguments), theirs, 6, name)


@pytest.mark.parametrize("name", sorted(set(PLAIN) - ROWS))
def test_activation_has_the_values_of_keras_where_they_are_special(name):
    for value in SPECIAL:
        x = np.full((2, 2), value)
        with np.errstate(all="ignore"):
            ours = getattr(tinyconv.activations, name)(x)
        if np.isnan(value) and name in KEEPS_NAN:
            assert np.isnan(ours).all()
            continue
        if name in CANCELS and value < 0:
            continue
        # What is the difference of two large numbers rounds as they do.
        scale = float(abs(value)) if abs(value) < 100 else None
        assert_agrees(ours, getattr(keras.activations, name)(jax.numpy.asarray(x)), 1, f"{name} of {value}",
                      scale=scale)


@pytest.mark.parametrize("name", PLAIN)
def test_activation_layer_has_the_values_and_gradients_of_keras(name):
    x, dy = random_array((4, 9, 6), 2, 2.0), random_array((4, 9, 6), 3)
    model = tinyconv.Sequential([tinyconv.Input(x.shape[1:]), tinyconv.layers.Activation(name)])
    expected, vjp = jax.vjp(keras.layers.Activation(name), x)
    dy = dy[..., :expected.shape[-1]]
    assert_agrees(model(x), expected, x.size, "output")
    _, _, dx = model._executor().gradients(x, dy.reshape(4, -1), Loss("inner_product"), input_gradient=True)
    assert_agrees(dx.reshape(x.shape), vjp(jax.numpy.asarray(dy))[0], x.size, "gradient")


@pytest.mark.parametrize("name", PLAIN)
def test_activation_is_written_and_found_as_in_keras(name):
    function = getattr(tinyconv.activations, name)
    assert tinyconv.activations.get(name) is function
    assert tinyconv.activations.serialize(function) == keras.activations.serialize(
        getattr(keras.activations, name))

"""Initializers, regularizers and constraints of the tables are Keras'."""

from __future__ import annotations

import numpy as np
import pytest
from parity.cases_weights import CONSTRAINTS, INITIALIZERS, REGULARIZERS
from parity.harness import (
    assert_agrees,
    assert_same_config,
    is_present,
    keras,
    libraries,
    make,
    plain,
    random_array,
    tinyconv,
)

RANDOM_SHAPES = [(3, 3, 12, 40), (60, 70), (5000,)]


def present(calls):
    return pytest.mark.parametrize("call", [call for call in calls if is_present(call)], ids=str)


@present([*INITIALIZERS, *REGULARIZERS, *CONSTRAINTS])
def test_config_is_that_of_keras(call):
    ours, theirs = libraries(call)
    assert_same_config(ours.get_config(), theirs.get_config(), set() if call.path.startswith("i") else {"name"})
    if call.name != "Identity":  # Keras forgets its gain
        again = type(ours).from_config(theirs.get_config())
        assert plain(again.get_config()) == plain(ours.get_config())


@present(INITIALIZERS)
@pytest.mark.parametrize("shape", RANDOM_SHAPES, ids=str)
def test_initializer_has_the_distribution_of_keras(call, shape):
    if call.name in ("Identity", "Orthogonal"):
        pytest.skip("values of a matrix are not independent")
    ours = make(tinyconv, call)
    one = np.sort(np.asarray(ours(shape, "float32", seed=3)).ravel().astype(np.float64))
    keras.utils.set_random_seed(4)
    other = np.sort(np.asarray(make(keras, call)(shape)).ravel().astype(np.float64))
    assert one.dtype == other.dtype
    if one[0] == one[-1]:
        np.testing.assert_array_equal(one, other)
        return
    # Two samples of n of one distribution; the bounds are passed once in about a thousand seeds.
    n = one.size
    deviation = other.std()
    assert abs(one.mean() - other.mean()) < 4.7 * deviation / np.sqrt(n)
    assert abs(one.std() / deviation - 1) < 4.7 / np.sqrt(n)
    merged = np.concatenate([one, other])
    steps = [np.searchsorted(values, merged, side="right") / n for values in (one, other)]
    assert np.abs(steps[0] - steps[1]).max() < 1.95 * np.sqrt(2 / n)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (7, 4)], ids=str)
@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_orthogonal_has_the_products_of_keras(shape, gain):
    for library in (tinyconv, keras):
        matrix = np.asarray(library.initializers.Orthogonal(gain=gain, seed=1)(shape), np.float64)
        small = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(small, gain**2 * np.eye(min(shape)), atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7)], ids=str)
def test_identity_has_the_values_of_keras(shape):
    ours, theirs = (library.initializers.Identity(gain=2.0)(shape) for library in (tinyconv, keras))
    np.testing.assert_array_equal(ours, np.asarray(theirs))


@present(REGULARIZERS)
def test_regularizer_has_the_values_of_keras(call):
    ours, theirs = libraries(call)
    w = random_array((5, 6), 1)
    assert_agrees(float(ours(w)), float(theirs(w)), w.size)


@present(CONSTRAINTS)
@pytest.mark.parametrize("shape", [(5, 6), (3, 3, 4, 5)], ids=str)
def test_constraint_has_the_values_of_keras(call, shape):
    if isinstance(call.kwargs.get("axis"), list) and len(shape) == 2:
        pytest.skip("axes of a convolution")
    ours, theirs = libraries(call)
    w = random_array(shape, 1)
    assert_agrees(np.asarray(ours(w)), np.asarray(theirs(w)), w.size)

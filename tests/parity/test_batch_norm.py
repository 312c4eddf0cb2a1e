"""Training with batch normalization: the same weights and moving statistics as Keras', step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity.harness import keras, random_array, tinyconv

STEPS, BATCH = 20, 24


def network(library: Any, frozen: bool) -> Any:
    layers = library.layers
    model = library.Sequential([
        layers.Input((8, 7, 2)), layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization(momentum=0.9),
        layers.Activation("tanh"), layers.AveragePooling2D(2), layers.BatchNormalization(scale=False),
        layers.Activation("tanh"), layers.Flatten(), layers.Dense(6),
        layers.BatchNormalization(epsilon=0.01, center=False),
        layers.Dense(3, activation="softmax"),
    ])
    model.layers[1].trainable = not frozen
    model.compile(library.optimizers.SGD(0.05, momentum=0.5), "sparse_categorical_crossentropy")
    return model


def arrays(owner: Any) -> list[np.ndarray]:
    """The weights of a model or layer of Keras."""
    return [np.array(weight.value) for weight in owner.weights]


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "one frozen"])
def test_training_moves_weights_and_statistics_as_keras_does(frozen):
    ours, theirs = network(tinyconv, frozen), network(keras, frozen)
    theirs.set_weights(ours.get_weights())
    random = np.random.default_rng(3)
    for step in range(STEPS):
        x = random_array((BATCH, 8, 7, 2), step, 2.0) + 1
        y = random.integers(0, 3, BATCH)
        one, other = ours.train_on_batch(x, y), theirs.train_on_batch(x, y)
        np.testing.assert_allclose(one, other, rtol=1e-4)
    for path, value, expected in zip([weight.path for weight in theirs.weights], ours.get_weights(),
                                     arrays(theirs), strict=True):
        # Rounding of 20 steps, all there is in a bias that a norm takes away; a variance divided by n - 1
        # would be off by a part in 24 * 30, or in 24.
        assert np.abs(value - expected).max() <= 2e-4 * np.abs(expected).max() + 1e-6, path
    x = random_array((5, 8, 7, 2), 99)
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-3, atol=1e-5)
    before = ours.layers[1].get_weights()
    np.testing.assert_allclose(ours(x, training=True), np.asarray(theirs(x, training=True)),
                               rtol=2e-3, atol=2e-5)
    for one, other in zip(ours.layers[1].get_weights(), arrays(theirs.layers[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert any((a != b).any() for a, b in zip(before, ours.layers[1].get_weights(), strict=True)) != frozen

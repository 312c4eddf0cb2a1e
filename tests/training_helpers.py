"""Data and models that the tests of training share."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import Sequential, layers

CLASSES = 4


@pytest.fixture(scope="module")
def blobs():
    """Easy classes: 150 points in 6 dimensions around 4 centres."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, CLASSES, 150)
    centres = 3 * rng.standard_normal((CLASSES, 6))
    x = (centres[ids] + rng.standard_normal((150, 6))).astype(np.float32)
    return x, ids, np.eye(CLASSES, dtype=np.float32)[ids]


def dense_model(seed=1, dropout=0.0, optimizer="adam", loss="categorical_crossentropy", metrics=("accuracy",),
                **compile_arguments):
    model = Sequential([
        layers.Dense(8, activation="tanh", input_shape=(6,)),
        *([layers.Dropout(dropout)] if dropout else []),
        layers.Dense(CLASSES, activation="softmax"),
    ], seed=seed)
    model.compile(optimizer, loss, metrics=list(metrics), **compile_arguments)
    return model


def image_model(seed=1):
    model = Sequential([
        layers.Rescaling(1 / 255, input_shape=(8, 8, 1)),
        layers.Conv2D(3, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.25),
        layers.Dense(CLASSES, activation="softmax"),
    ], seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def assert_same_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


# Eight samples that fit the models above, for what does not depend on values.
X, IDS, Y = np.zeros((8, 6), np.float32), np.zeros(8, int), np.eye(CLASSES, dtype=np.float32)[[0] * 8]

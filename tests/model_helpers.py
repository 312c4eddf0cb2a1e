"""What the tests of models share."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import Sequential, layers, utils


def seed_network(seed: int = 0) -> Sequential:
    return Sequential([
        layers.Conv2D(8, 5, activation="relu", input_shape=(28, 28, 1)),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ], seed=seed)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 28, 28, 1), np.float32)


@pytest.fixture(autouse=True)
def fresh_names():
    utils.clear_session()


def normed(**settings):
    return Sequential([layers.Conv2D(3, 3, input_shape=(6, 6, 1)), layers.BatchNormalization(**settings), layers.ReLU(),
                       layers.Flatten(), layers.Dense(2)], seed=2)

"""What the tests of callbacks share: models that only look like one, and a small real one."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import Sequential, layers
from tinyconv.callbacks import Callback, CallbackList


class FakeModel:
    """What callbacks see of a model."""

    def __init__(self) -> None:
        self.stop_training = False
        self.weights = [np.zeros(2)]
        self.saved: list[str] = []

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        self.weights = [w.copy() for w in weights]

    def save(self, path):
        self.saved.append(str(path))

    def _check_save_path(self, path, weights_only):
        assert isinstance(path, str)
        assert not weights_only


def run(callback: Callback, values: list[dict[str, float]]) -> FakeModel:
    """Plays epochs with given figures; the weights count the epochs."""
    model = FakeModel()
    callbacks = CallbackList([callback], model, {"epochs": len(values)})
    callbacks.call("on_train_begin", {})
    for epoch, logs in enumerate(values):
        callbacks.call("on_epoch_begin", epoch, {})
        model.weights = [np.full(2, float(epoch))]
        callbacks.call("on_epoch_end", epoch, dict(logs))
        if model.stop_training:
            break
    callbacks.call("on_train_end", {})
    return model


def losses(*values: float) -> list[dict[str, float]]:
    return [{"val_loss": value} for value in values]


@pytest.fixture(scope="module")
def small_data():
    rng = np.random.default_rng(0)
    return rng.random((20, 6), np.float32), rng.integers(0, 3, 20)


@pytest.fixture
def small_model():
    model = Sequential([layers.Dense(3, activation="softmax", input_shape=(6,))], seed=1)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

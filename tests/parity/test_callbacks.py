"""Callbacks decide as those of Keras, epoch by epoch, on figures that are written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity.cases_callbacks import BY_BATCHES, CASES, checkpoint, stopping
from parity.harness import New, as_numpy, is_present, keras, make, tinyconv

# Keras' own variables, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

NAN = float("nan")
FALLING = [1.0, 0.8, 0.7, 0.71, 0.705, 0.6995, 0.69, 0.75, 0.76, 0.77, 0.78, 0.79, 0.1]
RISING = [0.1, 0.5, 0.5, 0.6, 0.59, 0.601, 0.58, 0.57, 0.56, 0.9, 0.8]
BROKEN = [1.0, NAN, 0.9, NAN, 0.5, NAN, NAN, NAN, 0.4]
FLAT = [0.5] * 8
SEQUENCES = {"falling": FALLING, "rising": RISING, "broken": BROKEN, "flat": FLAT}


class Model:
    """As much of a model as these callbacks ask for; its weights say which epoch it is in."""

    def __init__(self, library: Any) -> None:
        self.stop_training = False
        self.optimizer = library.optimizers.SGD(0.5)
        self.epoch = 0
        self.saved: list[tuple[int, str]] = []
        self.metrics: list[Any] = []

    def get_weights(self) -> list[np.ndarray]:
        return [np.array(self.epoch)]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.epoch = int(weights[0])

    def save(self, filepath: Any, overwrite: bool = True) -> None:
        self.saved.append((self.epoch, str(filepath)))

    def _check_save_path(self, *arguments: Any) -> None:
        """Any will do."""

    def rate(self) -> float:
        """Keras keeps a float32."""
        return float(f"{float(as_numpy(self.optimizer.learning_rate)):.5g}")


def follow(library: Any, call: New, figures: list[float], batches: int = 0) -> list[Any]:
    """What a callback did: (epoch, learning rate, stopped) of every epoch, what was saved, and the end."""
    callback, model = make(library, call), Model(library)
    callback.set_model(model)
    callback.set_params({"epochs": len(figures), "steps": batches})
    callback.on_train_begin({})
    trace: list[Any] = []
    for epoch, figure in enumerate(figures):
        model.epoch = epoch
        callback.on_epoch_begin(epoch, {})
        for batch in range(batches):
            callback.on_train_batch_end(batch, {"loss": figure})
        callback.on_epoch_end(epoch, {"val_loss": figure, "loss": 2 * figure, "accuracy": figure})
        trace.append((epoch, model.rate(), model.stop_training))
        if model.stop_training:
            break
    callback.on_train_end({})
    return [*trace, model.saved, model.epoch]


PRESENT = [call for call in CASES if is_present(call)]


@pytest.mark.filterwarnings("ignore:Can save best model only with")
@pytest.mark.parametrize("figures", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("call", PRESENT, ids=str)
def test_callback_decides_as_in_keras(call, figures):
    assert follow(tinyconv, call, figures) == follow(keras, call, figures)


@pytest.mark.parametrize("call", [call for call in BY_BATCHES if is_present(call)], ids=str)
def test_callback_counts_batches_as_in_keras(call):
    call.args = ("nowhere/{epoch:02d}-{batch}.keras",)
    assert follow(tinyconv, call, FALLING, batches=3) == follow(keras, call, FALLING, batches=3)


@pytest.mark.parametrize("patience", [1, 5])
def test_stopping_begins_with_nan_as_in_keras(patience):
    call, figures = stopping(patience=patience, restore_best_weights=True), [NAN, NAN, 1.0, 0.5, NAN, NAN, NAN]
    assert follow(tinyconv, call, figures) == follow(keras, call, figures)


def test_checkpoint_takes_no_nan_for_the_best():
    """A deliberate difference: in Keras nothing is better than a NaN in the first epoch."""
    call, figures = checkpoint(save_best_only=True), [NAN, 1.0, 0.5, 0.7]
    ours, theirs = follow(tinyconv, call, figures), follow(keras, call, figures)
    assert [epoch for epoch, _ in ours[-2]] == [1, 2]
    assert [epoch for epoch, _ in theirs[-2]] == [0]

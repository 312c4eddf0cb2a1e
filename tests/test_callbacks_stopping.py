"""Callbacks that end a training or change its learning rate: when, and by which figure."""

from __future__ import annotations

import math

import callback_helpers
import numpy as np
import pytest
from callback_helpers import FakeModel, losses, run

from tinyconv import Sequential, metrics
from tinyconv.callbacks import (
    Callback,
    CallbackList,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)

small_data = callback_helpers.small_data  # fixtures
small_model = callback_helpers.small_model


@pytest.mark.parametrize(("values", "arguments", "stopped"), [
    ((3, 2, 2.5, 1), {}, 2),
    ((3, 2, 2.5, 1, 1, 1), {"patience": 2}, 5),
    ((3, 2.9, 2.8, 2.7), {"min_delta": 0.5}, 1),
    ((3, 2, 1), {}, 0),
    ((3, 4, 5), {"start_from_epoch": 2}, 0),
    ((3, 2, 1), {"baseline": 0.5, "patience": 2}, 0),  # improvements do not count as waits that end
    ((3, 2, 2, 2), {"baseline": 0.5, "patience": 2}, 2),
    ((math.nan, math.nan), {}, 1),
], ids=["plain", "patience", "min_delta", "never", "start", "baseline", "baseline-wait", "nan"])
def test_early_stopping_stops_when_keras_does(values, arguments, stopped):
    callback = EarlyStopping(**arguments)
    model = run(callback, losses(*values))
    assert callback.stopped_epoch == stopped
    assert model.stop_training == (stopped > 0)


def test_early_stopping_restores_best_weights(capsys):
    callback = EarlyStopping(patience=2, restore_best_weights=True, verbose=1)
    model = run(callback, losses(3, 1, 2, 2, 2))
    assert callback.best_epoch == 1
    np.testing.assert_array_equal(model.weights[0], [1.0, 1.0])
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 4: early stopping", "Restoring model weights from the end of the best epoch: 2."]


class Distance(metrics.Mean):
    """A metric whose name says the opposite of what it is."""

    direction = "down"

    def __init__(self):
        super().__init__("accuracy_gap")

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(np.abs(y_true - y_pred.argmax(axis=-1)))


def loss_per_true_class(y_true, y_pred):
    return y_pred[:, 0]


@pytest.mark.parametrize(("monitor", "stops"), [
    ("val_loss", 1), ("val_accuracy", 2), ("hits", 2), ("val_AUC", 2), ("accuracy_gap", 1),
    ("val_mean_squared_error", 1)])
def test_auto_mode_asks_the_metric_which_way_is_better(small_model, monitor, stops):
    """Of figures 1, 2, 1, 1 the first or the second is the best."""
    small_model.compile("sgd", "categorical_crossentropy", metrics=[
        "accuracy", metrics.F1Score(name="hits", average="macro"), "AUC", Distance(), "mean_squared_error"])
    callback = EarlyStopping(monitor, patience=1)
    callback.set_model(small_model)
    callback.on_train_begin()
    for epoch, value in enumerate((1.0, 2.0, 1.0, 1.0)):
        callback.on_epoch_end(epoch, {monitor: value})
        if small_model.stop_training:
            break
    assert callback.stopped_epoch == stops


@pytest.mark.parametrize("monitor", ["my_score", "loss_per_true_class", "val_mean", "learning_rate"])
@pytest.mark.parametrize("make", [
    EarlyStopping, ReduceLROnPlateau, lambda **kwargs: ModelCheckpoint("m", save_best_only=True, **kwargs)])
def test_auto_mode_refuses_figures_that_do_not_say(small_model, small_data, monkeypatch, monitor, make):
    """Names tell nothing: neither "loss" nor "score" in one."""
    monkeypatch.setattr(Sequential, "save", lambda self, path: None)
    small_model.compile("sgd", "sparse_categorical_crossentropy", metrics=[loss_per_true_class, Mean()])
    with pytest.raises(ValueError, match=f"whether '{monitor}' should grow or shrink; pass mode='max'.*Received"):
        small_model.fit(*small_data, verbose=0, callbacks=[make(monitor=monitor)])
    assert small_model.optimizer.iterations == 0
    small_model.fit(*small_data, verbose=0, callbacks=[make(monitor="loss"), make(monitor="val_loss", mode="max")],
                    validation_split=0.5, epochs=2)
    with pytest.raises(ValueError, match="Received: mode='up'"):
        make(mode="up")


class Mean(metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_pred)


def test_early_stopping_warns_of_a_missing_figure():
    with pytest.warns(UserWarning, match="'val_loss', which is not available"):
        run(EarlyStopping(), [{"loss": 1.0}])


# --- the learning rate ---

class FakeOptimizer:
    learning_rate = 1.0


def rates(callback: Callback, values: list[float]) -> list[float]:
    """The learning rate during each epoch, from 1."""
    model = FakeModel()
    model.optimizer = FakeOptimizer()
    callbacks = CallbackList([callback], model, {"epochs": len(values)})
    callbacks.call("on_train_begin", {})
    seen = []
    for epoch, value in enumerate(values):
        callbacks.call("on_epoch_begin", epoch, {})
        logs = {"val_loss": value}
        callbacks.call("on_epoch_end", epoch, logs)
        seen.append(logs["learning_rate"])
    return seen


@pytest.mark.parametrize("schedule", [lambda epoch, rate: rate * 0.5, lambda epoch: 0.5 ** (epoch + 1)])
def test_learning_rate_scheduler_sets_the_rate_of_every_epoch(schedule, small_model, small_data):
    assert rates(LearningRateScheduler(schedule), [1.0] * 3) == [0.5, 0.25, 0.125]
    small_model.optimizer.learning_rate = 1.0
    history = small_model.fit(*small_data, epochs=2, verbose=0, callbacks=[LearningRateScheduler(schedule)])
    assert history.history["learning_rate"] == pytest.approx([0.5, 0.25])


def test_learning_rate_scheduler_refuses_what_is_no_float():
    with pytest.raises(TypeError, match="a float. Received: 'fast' for epoch 0"):
        rates(LearningRateScheduler(lambda epoch: "fast"), [1.0])
    with pytest.raises(TypeError, match="schedule to be a function"):
        LearningRateScheduler(0.1)


@pytest.mark.parametrize(("arguments", "values", "expected"), [
    # The figure of an epoch is that before the change which its end brings.
    ({"patience": 2}, [3, 2, 2, 2, 1, 1, 1], [1, 1, 1, 1, .1, .1, .1]),
    ({"patience": 1, "factor": 0.5}, [1, 1, 1, 1], [1, 1, .5, .25]),
    ({"patience": 1, "factor": 0.5, "cooldown": 2}, [1, 1, 1, 1, 1, 1], [1, 1, .5, .5, .25, .25]),
    ({"patience": 1, "factor": 0.5, "min_lr": 0.3}, [1, 1, 1, 1, 1], [1, 1, .5, .3, .3]),
    ({"patience": 1, "min_delta": 0.5}, [1.0, 0.6, 0.6], [1, 1, .1]),
    ({"patience": 1, "mode": "max"}, [1, 2, 3, 1], [1, 1, 1, 1]),
    ({"patience": 0}, [1, 1], [1, 1]),
])
def test_reduce_lr_on_plateau(arguments, values, expected):
    assert rates(ReduceLROnPlateau(**arguments), values) == pytest.approx(expected)


@pytest.mark.parametrize("arguments", [{"factor": 1.0}, {"factor": -0.1}, {"patience": -1}, {"min_lr": -1.0},
                                       {"mode": "up"}])
def test_reduce_lr_refuses_bad_arguments(arguments):
    with pytest.raises(ValueError, match="Received: "):
        ReduceLROnPlateau(**arguments)


def test_terminate_on_nan(small_model, small_data, capsys):
    x, y = small_data
    small_model.set_weights([np.full_like(w, np.nan) for w in small_model.get_weights()])
    history = small_model.fit(x, y, epochs=5, batch_size=8, verbose=0, callbacks=[TerminateOnNaN()])
    assert history.epoch == [0]
    assert small_model.stop_training
    assert "Invalid loss, terminating training" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="no longer finite. Received: loss="):
        small_model.fit(x, y, epochs=5, batch_size=8, verbose=0, callbacks=[TerminateOnNaN(raise_error=True)])

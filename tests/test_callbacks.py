"""Callbacks: hooks, their order and their figures."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from tinyconv import Sequential, layers, metrics
from tinyconv.callbacks import (
    BackupAndRestore,
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgbarLogger,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)


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


class Recorder(Callback):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []


def _record(hook):
    def called(self, *args, **kwargs):
        number = args[0] if args and isinstance(args[0], int) else None
        self.calls.append((hook, number))
    return called


for _hook in CallbackList.HOOKS:
    if _hook not in ("on_batch_begin", "on_batch_end"):
        setattr(Recorder, _hook, _record(_hook))


def test_callback_hooks_are_called_in_keras_order(small_model, small_data):
    x, y = small_data
    recorder = Recorder()
    small_model.fit(x, y, batch_size=10, epochs=1, validation_data=(x, y), validation_batch_size=20,
                    verbose=0, callbacks=recorder)
    assert recorder.calls == [
        ("on_train_begin", None), ("on_epoch_begin", 0),
        ("on_train_batch_begin", 0), ("on_train_batch_end", 0),
        ("on_train_batch_begin", 1), ("on_train_batch_end", 1),
        ("on_test_begin", None), ("on_test_batch_begin", 0), ("on_test_batch_end", 0), ("on_test_end", None),
        ("on_epoch_end", 0), ("on_train_end", None),
    ]
    assert recorder.model is small_model
    assert recorder.params["epochs"] == 1
    assert recorder.params["steps"] == 2


def test_callback_hooks_of_predict(small_model, small_data):
    x, _ = small_data
    outputs = []
    recorder = Recorder()
    small_model.predict(x, batch_size=15, callbacks=[recorder, LambdaCallback(
        on_predict_batch_end=lambda batch, logs: outputs.append(logs["outputs"].copy()))])
    assert [call[0] for call in recorder.calls] == [
        "on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end",
        "on_predict_batch_begin", "on_predict_batch_end", "on_predict_end"]
    np.testing.assert_array_equal(np.concatenate(outputs), small_model.predict(x, batch_size=15))


def test_callback_batch_aliases_are_called(small_model, small_data):
    batches = []

    class Old(Callback):
        def on_batch_end(self, batch, logs=None):
            batches.append(batch)

    small_model.fit(*small_data, batch_size=7, verbose=0, callbacks=[Old()])
    assert batches == [0, 1, 2]


def test_callback_batch_logs_are_means_so_far(small_model, small_data):
    seen = []
    history = small_model.fit(*small_data, batch_size=6, verbose=0, callbacks=LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs)))
    assert len(seen) == 4
    assert set(seen[0]) == {"loss", "accuracy"}
    assert seen[-1]["loss"] == history.history["loss"][0]


def test_callback_list_skips_hooks_that_nobody_overrides():
    callbacks = CallbackList([History(), EarlyStopping()])
    assert callbacks.listens("on_epoch_end")
    assert not callbacks.listens("on_train_batch_begin", "on_train_batch_end", "on_test_batch_end")


def test_callback_list_refuses_other_objects():
    with pytest.raises(TypeError, match="instance of tinyconv.callbacks.Callback"):
        CallbackList([print])


def test_callback_stops_training_after_the_batch(small_model, small_data):
    def stop(batch, logs):
        small_model.stop_training = batch == 1

    small_model.fit(*small_data, batch_size=5, epochs=3, verbose=0,
                    callbacks=LambdaCallback(on_train_batch_end=stop))
    assert small_model.optimizer.iterations == 2


def test_callback_changes_learning_rate(small_model, small_data):
    def freeze(epoch, logs):
        small_model.optimizer.learning_rate = 0.0

    before = small_model.get_weights()
    small_model.fit(*small_data, verbose=0, callbacks=LambdaCallback(on_epoch_begin=freeze))
    for a, b in zip(before, small_model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_lambda_callback_refuses_unknown_hooks():
    with pytest.raises(TypeError, match="on_epoch_ende"):
        LambdaCallback(on_epoch_ende=print)
    with pytest.raises(TypeError, match="callable"):
        LambdaCallback(on_epoch_end=3)


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


def test_checkpoint_fills_the_file_name():
    model = run(ModelCheckpoint("m-{epoch:02d}-{val_loss:.2f}"), losses(1.5, 0.25))
    assert model.saved == ["m-01-1.50", "m-02-0.25"]


def test_checkpoint_saves_the_best_only(capsys):
    model = run(ModelCheckpoint("m{epoch}", save_best_only=True, verbose=1), losses(3, 4, 2))
    assert model.saved == ["m1", "m3"]
    assert "did not improve from 3.00000" in capsys.readouterr().out


def test_checkpoint_saves_where_it_cannot_tell_the_best():
    with pytest.warns(UserWarning, match="'val_loss' to save only the best model, which is not available: it is saved"):
        model = run(ModelCheckpoint("m{epoch}", save_best_only=True), [{"loss": 1.0}])
    assert model.saved == ["m1"]


def test_checkpoint_starts_from_a_threshold():
    callback = ModelCheckpoint("m{epoch}", save_best_only=True, initial_value_threshold=2.5)
    model = run(callback, losses(3, 4, 2))
    assert model.saved == ["m3"]


def test_checkpoint_refuses_a_path_before_training(small_model, small_data, tmp_path):
    weights = small_model.get_weights()
    with pytest.raises(ValueError, match=r"expected .* the name of a folder.*Received: path='.*best\.pb'"):
        small_model.fit(*small_data, epochs=1, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "best.pb")])
    for before, after in zip(weights, small_model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert not list(tmp_path.iterdir())


def test_checkpoint_refuses_a_model_that_the_folder_cannot_hold_before_training(tmp_path):
    model = Sequential([layers.Input((4,)), layers.Dense(2, activation="celu")])
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match="save expected for a folder .* Received: activation celu of"):
        model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0, callbacks=[ModelCheckpoint(str(tmp_path / "best"))])
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_checkpoint_saves_every_n_batches(small_model, small_data, monkeypatch):
    saved = []
    monkeypatch.setattr(Sequential, "save", lambda self, path: saved.append(path))
    small_model.fit(*small_data, batch_size=5, epochs=2, verbose=0,
                    callbacks=[ModelCheckpoint("e{epoch}", save_freq=3)])
    assert saved == ["e1", "e2"]
    saved.clear()
    small_model.fit(*small_data, batch_size=5, epochs=2, verbose=0,
                    callbacks=[ModelCheckpoint("e{epoch}-b{batch:02d}-{loss:.0f}", save_freq=3)])
    assert [path[:6] for path in saved] == ["e1-b03", "e2-b02"]
    with pytest.raises(ValueError, match="no figure for the field 'batch'"):
        run(ModelCheckpoint("m-{batch}"), losses(1.0))


@pytest.mark.parametrize("template", [
    "{epoch.__class__}", "{epoch[0]}", "{0}", "{}", "{epoch:{val_loss}}", "{epoch", "{val_loss:d}", "{epoch:z}"])
def test_checkpoint_refuses_fields_that_are_no_names(template):
    with pytest.raises(ValueError, match="filepath"):
        ModelCheckpoint(template)


def test_checkpoint_names_a_missing_field():
    with pytest.raises(ValueError, match="no figure for the field 'accuracy'"):
        run(ModelCheckpoint("m-{accuracy:.2f}"), losses(1.0))


@pytest.mark.parametrize("arguments", [{"save_freq": 0}, {"save_freq": "batch"}, {"save_freq": True}])
def test_checkpoint_refuses_what_it_cannot_do(arguments):
    with pytest.raises(ValueError, match="Received: "):
        ModelCheckpoint("m", **arguments)


def test_csv_logger_writes_a_row_an_epoch(tmp_path, small_model, small_data):
    path = tmp_path / "log.csv"
    history = small_model.fit(*small_data, epochs=2, verbose=0, validation_split=0.2, validation_freq=2,
                              callbacks=[CSVLogger(path)])
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert rows[0]["val_loss"] == "NA"
    assert [float(row["loss"]) for row in rows] == history.history["loss"]
    assert float(rows[1]["val_loss"]) == history.history["val_loss"][0]


def test_csv_logger_appends_and_replaces(tmp_path):
    path = tmp_path / "log.csv"
    run(CSVLogger(path, separator=";"), losses(1, 2))
    run(CSVLogger(path, separator=";", append=True), losses(3))
    assert path.read_text().splitlines() == ["epoch;val_loss", "0;1", "1;2", "0;3"]
    run(CSVLogger(path), losses(4))
    assert path.read_text().splitlines() == ["epoch,val_loss", "0,4"]
    with pytest.raises(ValueError, match="one character. Received: ', '"):
        CSVLogger(path, separator=", ")


def test_history_keeps_every_epoch(small_model, small_data):
    history = small_model.fit(*small_data, epochs=3, initial_epoch=1, verbose=0, validation_split=0.25)
    assert history is small_model.history
    assert history.epoch == [1, 2]
    assert list(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert all(isinstance(value, float) for values in history.history.values() for value in values)
    assert history.params["epochs"] == 3


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


# --- ends, displays, files ---

def test_terminate_on_nan(small_model, small_data, capsys):
    x, y = small_data
    small_model.set_weights([np.full_like(w, np.nan) for w in small_model.get_weights()])
    history = small_model.fit(x, y, epochs=5, batch_size=8, verbose=0, callbacks=[TerminateOnNaN()])
    assert history.epoch == [0]
    assert small_model.stop_training
    assert "Invalid loss, terminating training" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="no longer finite. Received: loss="):
        small_model.fit(x, y, epochs=5, batch_size=8, verbose=0, callbacks=[TerminateOnNaN(raise_error=True)])


def test_progbar_logger_shows_what_verbose_0_hides(small_model, small_data, capsys):
    small_model.fit(*small_data, epochs=2, verbose=0, callbacks=[ProgbarLogger()])
    shown = "".join(capsys.readouterr())
    assert "Epoch 1/2" in shown
    assert "loss: " in shown
    small_model.evaluate(*small_data, verbose=0, callbacks=[ProgbarLogger()])
    assert "loss: " in "".join(capsys.readouterr())


def test_tensorboard_writes_scalars(tmp_path, small_model, small_data):
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = small_model.fit(*small_data, epochs=2, batch_size=8, verbose=0, validation_split=0.25,
                              callbacks=[TensorBoard(tmp_path, update_freq=2, write_steps_per_second=True)])
    for run, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(tmp_path / run))
        events.Reload()
        assert "epoch_loss" in events.Tags()["tensors"]
        values = [event.tensor_proto.float_val[0] for event in events.Tensors("epoch_loss")]
        assert values == pytest.approx(history.history[f"{prefix}loss"])


@pytest.mark.parametrize("arguments", [{"histogram_freq": 1}, {"update_freq": 0}, {"profile_batch": 2}])
def test_tensorboard_refuses_what_it_does_not_write(arguments):
    with pytest.raises(ValueError, match="Received: "):
        TensorBoard(**arguments)


def test_checkpoint_of_weights_alone(tmp_path, small_model, small_data):
    path = tmp_path / "w{epoch}.npz"
    small_model.fit(*small_data, epochs=2, verbose=0, callbacks=[ModelCheckpoint(path, save_weights_only=True)])
    final = small_model.get_weights()
    small_model.load_weights(tmp_path / "w1.npz")
    assert not np.array_equal(small_model.get_weights()[0], final[0])
    small_model.load_weights(tmp_path / "w2.npz")
    assert all(np.array_equal(a, b) for a, b in zip(small_model.get_weights(), final, strict=True))
    with pytest.raises(ValueError, match="ends in '.npz'"):
        small_model.fit(*small_data, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "w", save_weights_only=True)])


# --- BackupAndRestore ---

def backed_up(seed: int = 5) -> Sequential:
    model = Sequential([layers.Dense(4, activation="relu", input_shape=(6,)), layers.Dropout(0.25),
                        layers.Dense(3, activation="softmax")], seed=seed)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


class Crash(Callback):
    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise RuntimeError("crash")


RANDOM = np.random.default_rng(3)
INPUTS = RANDOM.standard_normal((24, 6)).astype(np.float32)
TARGETS = np.eye(3, dtype=np.float32)[RANDOM.integers(0, 3, 24)]
SETTINGS = {"batch_size": 4, "epochs": 5, "verbose": 0}


@pytest.mark.parametrize("double", [False, True])
def test_backup_goes_on_bit_for_bit(tmp_path, double):
    whole = backed_up()
    whole.fit(INPUTS, TARGETS, **SETTINGS)
    folder = tmp_path / "backup"
    with pytest.raises(RuntimeError, match="crash"):
        backed_up().fit(INPUTS, TARGETS, **SETTINGS,
                        callbacks=[BackupAndRestore(folder, double_checkpoint=double), Crash(3, 2)])
    assert (folder / "training.json").exists()
    resumed = backed_up(seed=99)
    history = resumed.fit(INPUTS, TARGETS, **SETTINGS,
                          callbacks=[BackupAndRestore(folder, double_checkpoint=double)])
    assert history.epoch == [3, 4]
    assert all(np.array_equal(a, b) for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True))
    assert not folder.exists()


class Shuffled:
    """Batches by number, which fit shuffles."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int):
        return INPUTS[4 * number:4 * number + 4], TARGETS[4 * number:4 * number + 4]


def test_backup_goes_on_bit_for_bit_with_batches_by_number(tmp_path):
    settings = {"epochs": 5, "verbose": 0}
    whole = backed_up()
    whole.fit(Shuffled(), **settings)
    with pytest.raises(RuntimeError, match="crash"):
        backed_up().fit(Shuffled(), **settings, callbacks=[BackupAndRestore(tmp_path), Crash(3, 2)])
    resumed = backed_up(seed=99)
    resumed.fit(Shuffled(), **settings, callbacks=[BackupAndRestore(tmp_path)])
    assert all(np.array_equal(a, b) for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True))


def test_backup_within_an_epoch_and_kept(tmp_path):
    folder = tmp_path / "backup"
    callback = BackupAndRestore(folder, save_freq=4, delete_checkpoint=False)
    model = backed_up()
    model.fit(INPUTS, TARGETS, **{**SETTINGS, "epochs": 2}, callbacks=[callback])
    again = backed_up(seed=8)
    history = again.fit(INPUTS, TARGETS, **{**SETTINGS, "epochs": 3}, callbacks=[BackupAndRestore(folder)])
    assert history.epoch == [1, 2]  # 12 batches: the last backup was made in the second epoch, at its end
    assert again.optimizer.iterations == 12 + 12


def test_backup_keeps_layers_that_tensorflow_js_lacks(tmp_path):
    def make():
        model = Sequential([layers.Input((4, 4, 1)), layers.RandomFlip(seed=1), layers.Conv2D(2, 2, groups=1),
                            layers.Flatten(), layers.Dense(1, activation="celu")], seed=2)
        model.compile("sgd", "mse")
        return model

    x, y = np.ones((8, 4, 4, 1)), np.ones(8)
    straight = make()
    straight.fit(x, y, epochs=4, verbose=0)
    make().fit(x, y, epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path, delete_checkpoint=False)])
    resumed = make()
    resumed.fit(x, y, epochs=4, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    assert all(map(np.array_equal, straight.get_weights(), resumed.get_weights()))


def test_backup_falls_back_to_the_one_before(tmp_path):
    folder = tmp_path / "backup"
    with pytest.raises(RuntimeError, match="crash"):
        backed_up().fit(INPUTS, TARGETS, **SETTINGS,
                        callbacks=[BackupAndRestore(folder, double_checkpoint=True), Crash(3, 0)])
    (folder / "a" / "model.json").write_text("{")  # a, b, a: the last one
    history = backed_up().fit(INPUTS, TARGETS, **SETTINGS,
                              callbacks=[BackupAndRestore(folder, double_checkpoint=True)])
    assert history.epoch == [2, 3, 4]


def test_backup_refuses_another_model_and_a_damaged_index(tmp_path, small_model, small_data):
    backed_up().fit(INPUTS, TARGETS, **SETTINGS, callbacks=[BackupAndRestore(tmp_path, delete_checkpoint=False)])
    with pytest.raises(ValueError, match="Received: "):
        small_model.fit(*small_data, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    for text in ("{}", "[]", '[{"folder": "../a", "epoch": 1}]', '[{"folder": "a", "epoch": -1}]', "x"):
        (tmp_path / "training.json").write_text(text)
        with pytest.raises(ValueError, match="index of a backup"):
            backed_up().fit(INPUTS, TARGETS, **SETTINGS, callbacks=[BackupAndRestore(tmp_path)])


def test_backup_leaves_what_is_not_its_own(tmp_path):
    (tmp_path / "notes.txt").write_text("keep")
    backed_up().fit(INPUTS, TARGETS, **SETTINGS, callbacks=[BackupAndRestore(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

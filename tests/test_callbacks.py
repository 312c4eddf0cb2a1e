"""Callbacks: hooks and their order, History, and what is printed and logged."""

from __future__ import annotations

import copy
import csv
import pickle

import callback_helpers
import numpy as np
import pytest
from callback_helpers import losses, run

from tinyconv.callbacks import (
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    ProgbarLogger,
    TensorBoard,
)

small_data = callback_helpers.small_data  # fixtures
small_model = callback_helpers.small_model


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


# --- ends, displays, files ---

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
    for folder, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(tmp_path / folder))
        events.Reload()
        assert "epoch_loss" in events.Tags()["tensors"]
        values = [event.tensor_proto.float_val[0] for event in events.Tensors("epoch_loss")]
        assert values == pytest.approx(history.history[f"{prefix}loss"])


def test_tensorboard_writes_histograms_of_the_weights(tmp_path, small_model, small_data):
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    small_model.fit(*small_data, epochs=3, verbose=0, callbacks=[TensorBoard(tmp_path, histogram_freq=2)])
    events = EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    tags = {f"{small_model.name}/{layer.name}/{weight.name}/histogram": weight.numpy()
            for layer in small_model.layers for weight in layer.weights}
    assert set(tags) == {tag for tag in events.Tags()["tensors"] if tag.endswith("histogram")} != set()
    for tag, value in tags.items():
        assert [event.step for event in events.Tensors(tag)] == [0, 2]
        buckets = make_ndarray(events.Tensors(tag)[1].tensor_proto)  # (buckets, left and right edge and count)
        assert buckets[:, 2].sum() == value.size
        assert (buckets[0, 0], buckets[-1, 1]) == pytest.approx((value.min(), value.max()))
    assert len(events.Tensors("epoch_loss")) == 3


def test_tensorboard_writes_of_weights_what_is_finite(tmp_path, small_model, small_data):
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    small_model.build((None, *small_data[0].shape[1:]))
    last = small_model.layers[-1]
    last.set_weights([np.full_like(weight, np.nan) for weight in last.get_weights()])
    small_model.fit(*small_data, verbose=0, callbacks=[TensorBoard(tmp_path, histogram_freq=1)])
    assert list((tmp_path / "train").iterdir())


@pytest.mark.parametrize("arguments", [{"histogram_freq": -1}, {"update_freq": 0}, {"profile_batch": 2},
                                       {"embeddings_freq": 1}])
def test_tensorboard_refuses_what_it_does_not_write(arguments):
    with pytest.raises(ValueError, match="Received: "):
        TensorBoard(**arguments)


def test_copies_of_callbacks_belong_to_no_model(small_model, small_data):
    stopping = EarlyStopping("loss", patience=3)
    history = small_model.fit(*small_data, callbacks=[stopping], epochs=2, verbose=0)
    for copied in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        again, other = copied(history), copied([stopping])[0]
        assert (again.history, again.epoch) == (history.history, history.epoch)
        assert again.model is other.model is None
        assert (other.monitor, other.patience, other.best) == ("loss", 3, stopping.best)
    assert history.model is stopping.model is small_model

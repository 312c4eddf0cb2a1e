"""ModelCheckpoint and BackupAndRestore: which files, when, and that a training goes on from them."""

from __future__ import annotations

import callback_helpers
import numpy as np
import pytest
from callback_helpers import losses, run

from tinyconv import Sequential, layers
from tinyconv.callbacks import BackupAndRestore, Callback, ModelCheckpoint

small_data = callback_helpers.small_data  # fixtures
small_model = callback_helpers.small_model


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

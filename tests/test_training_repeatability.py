"""fit repeats bit for bit: by seed, by number of threads, in parts, after a file, and batch for batch."""

from __future__ import annotations

import numpy as np
import pytest
import training_helpers
from training_helpers import CLASSES, assert_same_weights, dense_model, image_model

import tinyconv
from tinyconv import Sequential, data, layers, metrics, optimizers
from tinyconv.callbacks import BackupAndRestore, LambdaCallback

blobs = training_helpers.blobs  # a fixture


def weights_differ(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


def test_fit_repeats_bit_for_bit(blobs):
    x, _, y = blobs
    first, second, other = dense_model(3, 0.5), dense_model(3, 0.5), dense_model(4, 0.5)
    a = first.fit(x, y, epochs=3, verbose=0)
    b = second.fit(x, y, epochs=3, verbose=0)
    other.fit(x, y, epochs=3, verbose=0)
    assert a.history == b.history
    assert_same_weights(first, second)
    assert weights_differ(first, other)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 33, 512])
def test_fit_has_the_same_bits_for_any_number_of_threads(batch_size):
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 256, (70, 8, 8, 1), np.uint8), rng.integers(0, CLASSES, 70)
    threads = tinyconv.get_num_threads()
    trained = []
    try:
        for count in (1, 2, 3, 7):
            tinyconv.set_num_threads(count)
            trained.append(image_model())
            trained[-1].fit(x, y, batch_size=batch_size, verbose=0)
    finally:
        tinyconv.set_num_threads(threads)
    for model in trained[1:]:
        assert_same_weights(trained[0], model)


def test_fit_in_parts_is_fit_in_one(blobs):
    x, _, y = blobs
    whole, parts = dense_model(5, 0.3), dense_model(5, 0.3)
    whole.fit(x, y, epochs=4, verbose=0)
    parts.fit(x, y, epochs=1, verbose=0)
    parts.fit(x, y, epochs=4, initial_epoch=1, verbose=0)
    assert_same_weights(whole, parts)


def test_training_state_continues_in_another_model(blobs):
    x, _, y = blobs
    whole, first = dense_model(5, 0.3), dense_model(5, 0.3)
    whole.fit(x, y, epochs=3, verbose=0)
    first.fit(x, y, epochs=2, verbose=0)
    second = Sequential.from_config(first.get_config())
    second.compile_from_config(first.get_compile_config())
    second.set_weights(first.get_weights())
    second.optimizer.set_weights(first.optimizer.get_weights())
    second.set_training_state(first.get_training_state())
    assert second.get_training_state() == {"seed": 5, "epochs_seen": 2}
    second.fit(x, y, epochs=3, initial_epoch=2, verbose=0)
    assert_same_weights(whole, second)


@pytest.mark.parametrize("state", [{"seed": -1}, {"seed": "x"}, {"epochs_seen": -1}, {"epochs_seen": 1.5}])
def test_training_state_refuses_nonsense(state):
    model = dense_model()
    before = model.get_training_state()
    with pytest.raises(ValueError, match="Received: "):
        model.set_training_state(state)
    assert model.get_training_state() == before
    with pytest.raises(TypeError):
        model.set_training_state([1])


def test_save_and_load_go_on_bit_for_bit(blobs, tmp_path):
    x, _, y = blobs
    whole, first = dense_model(5, 0.3), dense_model(5, 0.3)
    whole.fit(x, y, epochs=3, verbose=0)
    first.fit(x, y, epochs=2, verbose=0)
    first.save(tmp_path / "model")
    second = Sequential.load(tmp_path / "model")
    assert second.evaluate(x, y, verbose=0) == first.evaluate(x, y, verbose=0)
    second.fit(x, y, epochs=3, initial_epoch=2, verbose=0)
    assert_same_weights(whole, second)
    with pytest.raises(FileExistsError):
        first.save(tmp_path / "model", overwrite=False)
    first.save(tmp_path / "model")
    assert_same_weights(first, tinyconv.load_model(tmp_path / "model"))


def test_epoch_order_is_a_permutation_by_seed_and_epoch():
    order = data.epoch_order(100, True, 1, 0)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    np.testing.assert_array_equal(order, data.epoch_order(100, True, 1, 0))
    assert not np.array_equal(order, data.epoch_order(100, True, 1, 1))
    assert not np.array_equal(order, data.epoch_order(100, True, 2, 0))
    np.testing.assert_array_equal(data.epoch_order(5, False, 1, 0), range(5))
    assert [len(part) for part in data.batches(order, 30, 0, None)] == [30, 30, 30, 10]
    assert [len(part) for part in data.batches(order, 30, 0, 2)] == [30, 30]
    assert [len(part) for part in data.batches(order, 30, 2, 3)] == [30, 10]


def largest(y_true, y_pred):
    """A function of a batch: one number."""
    return y_pred.max()


class Batches(metrics.Metric):
    """Counts batches."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.batches += 1

    def result(self):
        return self.batches

    def reset_state(self):
        self.batches = 0


@pytest.mark.parametrize(("size", "cuts"), [(None, (32, 64)), (64, (64,)), (70, ())])
def test_evaluate_means_over_batches_what_a_function_says_of_a_batch(size, cuts):
    """As Keras: batches of 32 unless another size is given, each counted once; others are means over samples."""
    x = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)
    model = Sequential([layers.Activation("linear", input_shape=(3,))])
    for arguments in ({"metrics": [largest, Batches()]}, {"weighted_metrics": [largest, Batches()]}):
        model.compile("sgd", "mae", **arguments)
        loss, value, batches = model.evaluate(x, 0 * x, batch_size=size, verbose=0)
        parts = np.split(x, cuts)
        assert value == pytest.approx(np.mean([part.max() for part in parts]), rel=1e-6)
        assert batches == len(parts)
        assert loss == pytest.approx(np.abs(x).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="'largest' expected a value for each of .* samples to weight them"):
        model.evaluate(x, 0 * x, sample_weight=np.ones(70), verbose=0)


def test_validation_in_fit_has_its_batches():
    x = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)
    model = Sequential([layers.Activation("linear", input_shape=(3,))])
    model.compile("sgd", "mae", metrics=[largest])

    def validate(**arguments):
        history = model.fit(x, 0 * x, batch_size=16, verbose=0, validation_data=(x, 0 * x), **arguments).history
        return history["val_loss"][0], history["val_largest"][0]

    assert validate()[1] == pytest.approx(np.mean([part.max() for part in np.split(x, (16, 32, 48, 64))]))
    assert validate(validation_batch_size=35)[1] == pytest.approx((x[:35].max() + x[35:].max()) / 2)
    loss, value = validate(validation_steps=2)
    assert loss == pytest.approx(np.abs(x[:32]).mean(), rel=1e-5)
    assert value == pytest.approx((x[:16].max() + x[16:32].max()) / 2)


def _rows_seen(epochs: int, steps: int, callbacks=(), **arguments) -> list[list[set[int]]]:
    """The samples of every batch, by epoch: each has a weight of its own, which its batch changes."""
    samples = 7
    model = Sequential([layers.Dense(1, use_bias=False, kernel_initializer="zeros", input_shape=(samples,))], seed=4)
    model.compile(optimizers.SGD(0.125), "mse")
    seen: list[list[set[int]]] = []
    before = [model.get_weights()[0]]

    def look(batch, logs):
        after = model.get_weights()[0]
        seen[-1].append(set(np.flatnonzero((after != before[-1]).ravel()).tolist()))
        before[:] = [after]

    def begin(epoch, logs):
        seen.append([])
        before[:] = model.get_weights()

    watch = LambdaCallback(on_epoch_begin=begin, on_train_batch_end=look)
    model.fit(np.eye(samples), np.full((samples, 1), 1e6), batch_size=2, epochs=epochs, steps_per_epoch=steps,
              verbose=0, callbacks=[*callbacks, watch], **arguments)
    return seen


def test_steps_per_epoch_go_on_where_the_last_epoch_ended():
    """As Keras: the data end with an epoch, which may be shorter; the next begins them anew."""
    first, second = [{0, 1}, {2, 3}], [{4, 5}, {6}]
    assert _rows_seen(3, 2, shuffle=False) == [first, second, first]
    with pytest.warns(UserWarning, match="x ran out of data after 1 batches"):
        assert _rows_seen(3, 3, shuffle=False) == [[*first, {4, 5}], [{6}], [*first, {4, 5}]]
    with pytest.warns(UserWarning, match="x ran out of data after 4 batches"):
        assert _rows_seen(2, 5, shuffle=False) == [first + second] * 2
    assert _rows_seen(3, 2, shuffle=False, initial_epoch=1) == [first, second]
    one, two, three, four = _rows_seen(4, 2)
    for halves in (one + two, three + four):
        assert sorted(row for batch in halves for row in batch) == list(range(7))
    assert one + two != three + four


def test_steps_per_epoch_go_on_in_a_run_that_is_resumed(tmp_path):
    def interrupt(epoch, logs):
        if epoch == 1:
            raise RuntimeError("power cut")

    whole = _rows_seen(4, 2)
    with pytest.raises(RuntimeError, match="power cut"):
        _rows_seen(4, 2, [LambdaCallback(on_epoch_begin=interrupt), BackupAndRestore(tmp_path)])
    assert _rows_seen(4, 2, [BackupAndRestore(tmp_path)]) == whole[1:]

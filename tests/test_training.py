"""compile, fit, evaluate, predict: data, figures, repeatability."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import tinyconv
from tinyconv import Sequential, data, layers, losses, metrics, optimizers
from tinyconv.callbacks import BackupAndRestore, LambdaCallback
from tinyconv.progress import Progress, verbosity

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


def weights_differ(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


# --- figures ---

def test_fit_learns(blobs):
    x, _, y = blobs
    model = dense_model(optimizer=optimizers.Adam(0.02))
    history = model.fit(x, y, epochs=12, verbose=0)
    assert history.history["accuracy"][-1] > 0.95
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert accuracy > 0.95
    assert accuracy == np.mean(model.predict(x).argmax(axis=1) == y.argmax(axis=1))
    assert loss == pytest.approx(losses.CategoricalCrossentropy()(y, model.predict(x)), rel=1e-4)


def test_fit_of_one_batch_is_the_formula(blobs):
    x, _, y = blobs
    model = Sequential([layers.Dense(CLASSES, activation="softmax", input_shape=(6,))], seed=1)
    model.compile(optimizers.SGD(0.1), "categorical_crossentropy")
    kernel, bias = model.get_weights()
    history = model.fit(x, y, batch_size=150, verbose=0)
    logits = x.astype(np.float64) @ kernel + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    g = (p - y) / len(x)
    expected_loss = -(y * np.log(p)).sum() / len(x)
    assert history.history["loss"][0] == pytest.approx(expected_loss, rel=1e-5)
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.1 * x.T @ g, rtol=0, atol=2e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias - 0.1 * g.sum(axis=0), rtol=0, atol=2e-6)


def test_fit_figures_are_means_over_samples(blobs):
    x, _, y = blobs
    frozen = dense_model(optimizer=optimizers.SGD(0.0))
    history = frozen.fit(x, y, batch_size=64, verbose=0)  # 64 + 64 + 22
    loss, accuracy = frozen.evaluate(x, y, verbose=0)
    assert history.history["loss"][0] == pytest.approx(loss, rel=1e-6)
    assert history.history["accuracy"][0] == pytest.approx(accuracy, rel=1e-12)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_evaluate_does_not_depend_on_the_batch_size(blobs, size):
    x, _, y = blobs
    model = dense_model()
    expected = model.evaluate(x, y, verbose=0)
    assert model.evaluate(x, y, batch_size=size, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_evaluate_returns_what_keras_returns(blobs):
    x, _, y = blobs
    assert isinstance(dense_model(metrics=()).evaluate(x, y, verbose=0), float)
    results = dense_model().evaluate(x, y, verbose=0, return_dict=True)
    assert list(results) == ["accuracy", "loss"]  # by name, as in a history
    part = dense_model().evaluate(x[:20], y[:20], verbose=0)
    assert dense_model().evaluate(x, y, batch_size=10, steps=2, verbose=0) == pytest.approx(part, rel=1e-6)


def test_single_batch_methods_agree_with_fit(blobs):
    x, _, y = blobs
    by_fit, by_batch = dense_model(), dense_model()
    by_fit.fit(x, y, batch_size=50, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        for start in (0, 50, 100):
            before = by_batch.test_on_batch(x[start:start + 50], y[start:start + 50])
            during = by_batch.train_on_batch(x[start:start + 50], y[start:start + 50])
            assert during == pytest.approx(before, rel=1e-5)
    assert_same_weights(by_fit, by_batch)
    assert by_batch.optimizer.iterations == 6
    assert set(by_batch.train_on_batch(x, y, return_dict=True)) == {"loss", "accuracy"}


def test_sparse_and_one_hot_labels_train_alike(blobs):
    x, ids, y = blobs
    dense, sparse = dense_model(), dense_model(loss="sparse_categorical_crossentropy")
    dense_history = dense.fit(x, y, epochs=2, verbose=0)
    sparse_history = sparse.fit(x, ids, epochs=2, verbose=0)
    assert dense_history.history["loss"] == pytest.approx(sparse_history.history["loss"], rel=1e-6)
    assert dense_history.history["accuracy"] == sparse_history.history["accuracy"]


def test_metric_names_are_kept(blobs):
    x, _, y = blobs
    model = dense_model(metrics=["acc", metrics.TopKCategoricalAccuracy(2, name="top2"), "mse", "mse"])
    history = model.fit(x, y, verbose=0, validation_split=0.1)
    assert set(history.history) == {name for key in ("loss", "acc", "top2", "mse", "mse_1")
                                    for name in (key, f"val_{key}")}
    assert model.metrics_names == ["loss", "acc", "top2", "mse", "mse_1"]


def test_python_metrics_see_labels_and_predictions(blobs):
    x, ids, y = blobs

    def hits(y_true, y_pred):
        return (y_true.argmax(axis=-1) == y_pred.argmax(axis=-1)).astype(float)

    def sparse_hits(y_true, y_pred):
        assert y_true.shape == y_pred.shape[:1]
        return y_true == y_pred.argmax(axis=-1)

    for labels, loss, metric in ((y, "categorical_crossentropy", hits),
                                 (ids, "sparse_categorical_crossentropy", sparse_hits)):
        model = dense_model(loss=loss, metrics=["accuracy", metric])
        history = model.fit(x, labels, epochs=2, validation_split=0.2, verbose=0).history
        name = metric.__name__
        assert history[name] == pytest.approx(history["accuracy"])
        assert history[f"val_{name}"] == pytest.approx(history["val_accuracy"])
        results = model.evaluate(x, labels, verbose=0, return_dict=True)
        assert results[name] == pytest.approx(results["accuracy"])
        results = model.train_on_batch(x, labels, return_dict=True)
        assert results[name] == pytest.approx(results["accuracy"])


@pytest.mark.parametrize("loss", ["binary_crossentropy", "mse"])
def test_binary_labels_may_lack_the_last_dimension(loss):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 3)).astype(np.float32)
    y = x[:, 0] > 0
    model = Sequential([layers.Dense(1, activation="sigmoid", input_shape=(3,))], seed=1)
    model.compile(optimizers.SGD(0.5), loss, metrics=["accuracy"])
    history = model.fit(x, y, epochs=20, batch_size=8, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
    flat = model.evaluate(x, y, verbose=0)
    assert flat == model.evaluate(x, y.reshape(-1, 1).astype(np.uint8), verbose=0)
    assert flat[1] == np.mean((model.predict(x)[:, 0] > 0.5) == y)


def test_frozen_layers_keep_their_weights(blobs):
    x, _, y = blobs
    model = dense_model()
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert not np.array_equal(before[2], after[2])
    model.layers[0].trainable = True
    model.train_on_batch(x, y)
    assert not np.array_equal(before[0], model.get_weights()[0])


# --- validation ---

def test_validation_split_takes_the_last_samples(blobs):
    x, _, y = blobs
    split, given = dense_model(), dense_model()
    a = split.fit(x, y, validation_split=0.2, epochs=2, verbose=0)
    b = given.fit(x[:120], y[:120], validation_data=(x[120:], y[120:]), epochs=2, verbose=0)
    assert a.history == b.history
    assert_same_weights(split, given)


@pytest.mark.parametrize(("frequency", "count"), [(1, 6), (2, 3), (5, 1), ([1, 6], 2), (range(2, 5), 3)])
def test_validation_frequency(blobs, frequency, count):
    x, _, y = blobs
    history = dense_model().fit(x, y, epochs=6, validation_split=0.1, validation_freq=frequency, verbose=0)
    assert len(history.history["val_loss"]) == count
    assert len(history.history["loss"]) == 6


def test_validation_with_sample_weight(blobs):
    x, _, y = blobs
    weight = np.linspace(0, 2, 30)
    model = dense_model()
    history = model.fit(x, y, validation_data=(x[:30], y[:30], weight), verbose=0)
    expected = model.evaluate(x[:30], y[:30], sample_weight=weight, verbose=0)[0]
    assert history.history["val_loss"][0] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="validation_data"):
        model.fit(x, y, validation_data=x)


# --- weights of samples ---

def test_sample_weight_scales_the_loss(blobs):
    x, _, y = blobs
    model = dense_model()
    weight = np.random.default_rng(2).random(150).astype(np.float32)
    p = model.predict(x).astype(np.float64)
    expected = (weight * -(y * np.log(p)).sum(axis=1)).mean()
    assert model.evaluate(x, y, sample_weight=weight, verbose=0)[0] == pytest.approx(expected, rel=1e-5)
    column = weight.reshape(-1, 1)
    assert model.evaluate(x, y, sample_weight=column, verbose=0)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sparse", [False, True], ids=["one-hot", "ids"])
def test_class_weight_is_sample_weight_by_class(blobs, sparse):
    x, ids, y = blobs
    loss = "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"
    labels = ids if sparse else y
    by_class, by_sample = dense_model(loss=loss), dense_model(loss=loss)
    by_class.fit(x, labels, class_weight={0: 3.0, 2: 0.5}, verbose=0)
    by_sample.fit(x, labels, sample_weight=np.array([3.0, 1.0, 0.5, 1.0])[ids], verbose=0)
    assert_same_weights(by_class, by_sample)


# --- repeatability ---

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


# --- data ---

def test_data_is_used_as_it_is_where_it_can():
    images = np.zeros((3, 4, 4, 1), np.uint8)
    assert data.as_inputs(images, (4, 4, 1)) is images
    floats = np.zeros((3, 4), np.float32)
    assert data.as_inputs(floats, (4,)) is floats
    assert np.shares_memory(data.as_inputs(images[..., 0], (4, 4, 1)), images)
    one_hot = np.eye(3, dtype=np.float32)
    lowered = losses.CategoricalCrossentropy().lower()
    assert np.shares_memory(data.as_labels(one_hot, lowered, (3,)), one_hot)


def test_fit_leaves_its_arguments_alone(blobs):
    x, _, y = blobs
    x, y, weight = x.astype(np.float64), y.astype(np.uint8), np.ones(150)
    copies = x.copy(), y.copy(), weight.copy()
    for array in (x, y, weight):
        array.flags.writeable = False
    dense_model().fit(x, y, sample_weight=weight, verbose=0)
    for array, copy in zip((x, y, weight), copies):
        np.testing.assert_array_equal(array, copy)


X, IDS, Y = np.zeros((8, 6), np.float32), np.zeros(8, int), np.eye(CLASSES, dtype=np.float32)[[0] * 8]
NAN = np.where(np.arange(CLASSES) == 1, np.nan, Y)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((X[:, :5], Y), ValueError, r"x to have the shape \(N, 6\)"),
    ((X, Y[:7]), ValueError, "as many labels"),
    ((X, None), TypeError, "y to be an array"),
    ((None, Y), TypeError, "x to be an array"),
        ((X, IDS), ValueError, "sparse_categorical_crossentropy"),
    ((X, Y[:, :3]), ValueError, r"\(N, 4\)"),
    ((X, NAN), ValueError, "without NaN"),
    ((X[:0], Y[:0]), ValueError, "at least one sample"),
    ((X, Y.astype(str)), TypeError, "real numbers"),
    ((X.astype(complex), Y), TypeError, "real numbers"),
])
def test_fit_refuses_bad_data(arguments, error, message):
    model = dense_model()
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(error, match=message) as caught:
            call(*arguments)
        assert "Received: " in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("y", "message"), [
    (IDS + CLASSES, "from 0 to 3"),
    (IDS - 1, "from 0 to 3"),
    (IDS + 0.5, "whole class ids"),
    (np.where(np.arange(8) == 3, np.nan, 0.0), "without NaN"),
    (Y, "categorical_crossentropy"),
])
def test_fit_refuses_bad_class_ids(y, message):
    with pytest.raises(ValueError, match=message):
        dense_model(loss="sparse_categorical_crossentropy").fit(X, y, verbose=0)


@pytest.mark.parametrize("arguments", [
    {"batch_size": 0}, {"batch_size": 2.5}, {"epochs": -1}, {"initial_epoch": -1}, {"validation_freq": 0},
    {"validation_split": 1.0}, {"validation_split": -0.1}, {"validation_split": 0.95}, {"verbose": 3},
    {"verbose": "loud"}, {"sample_weight": np.ones(7)}, {"sample_weight": np.full(8, np.nan)},
    {"class_weight": {0: np.inf}}, {"class_weight": {"a": 1}},
    {"sample_weight": np.ones(8), "class_weight": {0: 1}},
    {"steps_per_epoch": 0}, {"validation_data": (X,)}, {"validation_data": (X, Y[:3])},
], ids=lambda arguments: "-".join(arguments))
def test_fit_refuses_bad_arguments(arguments):
    model = dense_model()
    before = model.get_weights()
    with pytest.raises(ValueError, match="Received: ") as caught:
        model.fit(X, Y, **{"verbose": 0, **arguments})
    assert "\n" not in str(caught.value)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_class_weight_must_be_a_mapping():
    with pytest.raises(TypeError, match="class_weight"):
        dense_model().fit(X, Y, class_weight=[1.0, 2.0], verbose=0)


# --- compile ---

def test_fit_without_compile_says_so():
    model = Sequential([layers.Dense(2, input_shape=(6,))])
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="must be compiled first"):
            call(X, Y)
    assert model.get_compile_config() is None
    assert not model.compiled


@pytest.mark.parametrize("arguments", [
    {"loss": None}, {"loss": "nothing"}, {"optimizer": "nothing"}, {"metrics": ["nothing"]},
    {"loss_weights": [1.0, 2.0]}, {"loss_weights": "a"}, {"weighted_metrics": ["nothing"]},
    {"metrics": ["sparse_categorical_accuracy"]}, {"metrics": ["MeanIoU"]}, {"loss": ["mse"]},
    {"loss": losses.MeanSquaredError(reduction="none")},
])
def test_compile_refuses_what_it_does_not_know(arguments):
    model = Sequential([layers.Dense(CLASSES, input_shape=(6,))])
    with pytest.raises(ValueError, match="Received: "):
        model.compile(**{"optimizer": "sgd", "loss": "categorical_crossentropy", **arguments})


@pytest.mark.parametrize("optimizer", ["sgd", optimizers.SGD, "instance"], ids=["string", "class", "instance"])
@pytest.mark.parametrize("loss", ["mse", losses.MeanSquaredError, losses.MeanSquaredError(),
                                  losses.mean_squared_error], ids=["string", "class", "instance", "function"])
def test_compile_takes_every_form(optimizer, loss):
    model = Sequential([layers.Dense(CLASSES, input_shape=(6,))], seed=1)
    optimizer = optimizers.SGD() if optimizer == "instance" else optimizer
    model.compile(optimizer, loss, metrics="mae", jit_compile=False, run_eagerly=False)
    assert isinstance(model.optimizer, optimizers.SGD)
    assert len(model.train_on_batch(X, Y)) == 2


ONES = np.ones((8, 6), np.float32)


def _optimized(optimizer, frozen: bool = False) -> Sequential:
    """A model of two layers after a step of training."""
    model = Sequential([layers.Dense(4, input_shape=(6,)), layers.Dense(CLASSES)], seed=1)
    model.layers[0].trainable = not frozen
    model.compile(optimizer, "mse")
    model.fit(ONES, Y, batch_size=len(ONES), verbose=0)
    return model


def test_an_optimizer_goes_on_when_its_model_is_compiled_again():
    once, twice = _optimized(optimizers.Adam()), _optimized(optimizers.Adam())
    twice.compile(twice.optimizer, "mse")
    for model in (once, twice):
        model.fit(ONES, Y, batch_size=len(ONES), verbose=0)
        assert model.optimizer.iterations == 2
    assert_same_weights(once, twice)


@pytest.mark.parametrize("change", ["other model", "thawed", "thawed and compiled", "added", "replaced"])
def test_an_optimizer_refuses_weights_that_it_was_not_built_for(change):
    model = _optimized(optimizers.Adam(), frozen="thawed" in change)
    optimizer = model.optimizer
    if change == "other model":
        model = Sequential.from_config(model.get_config())
    elif change == "replaced":
        model.pop()
    if "thawed" in change:
        model.layers[0].trainable = True
    elif change != "other model":
        model.add(layers.Dense(CLASSES))
    if change != "thawed":
        model.compile(optimizer, "mse")
    before, state = model.get_weights(), optimizer.get_weights()
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match="'adam' was built for other weights: compile .*Received: .* of shape"):
            train(ONES, Y)
    model.evaluate(ONES, Y, verbose=0)  # needs no optimizer
    for one, other in zip([*before, *state], [*model.get_weights(), *optimizer.get_weights()], strict=True):
        np.testing.assert_array_equal(one, other)
    model.compile("adam", "mse")
    model.fit(ONES, Y, verbose=0)


def test_an_optimizer_keeps_the_state_of_frozen_and_popped_layers():
    model = _optimized(optimizers.Adam())
    count, moments = len(model.optimizer.get_weights()), model.optimizer.state_of(model.weights[0])
    model.layers[0].trainable = False
    model.compile(model.optimizer, "mse")
    kept = [array.copy() for array in moments]
    model.fit(ONES, Y, verbose=0)
    assert len(model.optimizer.get_weights()) == count
    np.testing.assert_array_equal(model.optimizer.state_of(model.weights[0]), kept)
    model.layers[0].trainable = True
    model.fit(ONES, Y, verbose=0)  # trained once already: known
    assert not np.array_equal(moments[0], kept[0])
    model.pop()
    model.fit(ONES, np.zeros((len(ONES), 4), np.float32), verbose=0)
    assert len(model.optimizer.get_weights()) == count


def test_averages_of_frozen_weights_do_not_overwrite_them():
    model = _optimized(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    model.layers[0].trainable = False
    model.layers[0].set_weights([np.ones((6, 4)), np.ones(4)])
    model.fit(ONES, Y, verbose=0)
    assert (model.get_weights()[0] == 1).all() and (model.get_weights()[1] == 1).all()
    np.testing.assert_array_equal(model.get_weights()[2], model.optimizer.state_of(model.weights[2])[0])


def test_compile_config_round_trip(blobs):
    model = dense_model(metrics=["acc", metrics.TopKCategoricalAccuracy(3)],
                        loss=losses.CategoricalCrossentropy(label_smoothing=0.1),
                        optimizer=optimizers.SGD(0.1, momentum=0.9, nesterov=True))
    again = Sequential.from_config(model.get_config())
    again.compile_from_config(model.get_compile_config())
    assert again.get_compile_config() == model.get_compile_config()
    again.set_weights(model.get_weights())
    x, _, y = blobs
    assert again.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert_same_weights(model, again)


def test_compile_config_leaves_functions_out():
    model = dense_model(metrics=["accuracy", lambda y_true, y_pred: y_pred[:, 0]])
    with pytest.warns(UserWarning, match="Python function"):
        assert model.get_compile_config()["metrics"] == ["accuracy"]


def test_models_built_by_their_first_data_train(blobs):
    x, _, y = blobs
    model = Sequential([layers.Dense(CLASSES, activation="softmax")], seed=1)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    with pytest.raises(ValueError, match="must be built first"):
        model.metrics_names  # noqa: B018
    assert set(model.fit(x, y, verbose=0).history) == {"loss", "accuracy"}


def test_exception_in_a_callback_leaves_a_usable_model(blobs):
    x, _, y = blobs
    model = dense_model()

    def fail(batch, logs):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(x, y, verbose=1, callbacks=LambdaCallback(on_train_batch_end=fail))
    assert model.optimizer.iterations == 1
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()
    model.fit(x, y, verbose=0)


# --- what is printed ---

def test_verbose_2_prints_a_line_an_epoch(blobs, capsys):
    x, _, y = blobs
    dense_model().fit(x, y, epochs=2, validation_split=0.2, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2"
    assert lines[2] == "Epoch 2/2"
    assert lines[1].startswith("4/4 - 0s - ")
    names = [part.split(":")[0] for part in lines[1].split(" - ")[3:]]
    assert names == ["accuracy", "loss", "val_accuracy", "val_loss"]


def test_verbose_0_prints_nothing(blobs, capsys):
    x, _, y = blobs
    model = dense_model()
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_evaluate_prints_one_line(blobs, capsys):
    x, _, y = blobs
    dense_model().evaluate(x, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert "accuracy: " in lines[0]
    assert "loss: " in lines[0]


def test_verbose_1_shows_a_bar_with_tqdm(blobs, capsys):
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    x, _, y = blobs
    dense_model().fit(x, y, epochs=2, verbose=1)
    out = capsys.readouterr().out
    assert "Epoch 2/2: 100%" in out
    assert "5/5" in out
    assert "accuracy: " in out


def test_verbose_1_prints_lines_without_tqdm(blobs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    x, _, y = blobs
    dense_model().fit(x, y, epochs=1, verbose="auto")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/1"
    assert lines[1].startswith("5/5 - ")


def test_progress_formats_small_numbers(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    Progress(2, "", 1).end({"loss": 1e-5, "zero": 0.0, "nan": float("nan")})
    assert out.getvalue().endswith("loss: 1.0000e-05 - zero: 0.0000 - nan: nan\n")
    assert [verbosity(value) for value in ("auto", 0, 1, 2, True)] == [1, 0, 1, 2, 1]


# --- optimizers ---


def _tiny(optimizer=None, seed=4):
    model = Sequential([layers.Dense(3, input_shape=(4,))], seed=seed)
    model.compile(loss="mse", **({} if optimizer is None else {"optimizer": optimizer}))
    return model, np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4), np.ones((12, 3), np.float32)


def test_compile_defaults_to_rmsprop():
    assert type(_tiny()[0].optimizer) is optimizers.RMSprop


@pytest.mark.parametrize("fails", [False, True])
def test_weights_are_their_average_when_fit_ends(fails):
    def stop(epoch, logs):
        if fails and epoch == 1:
            raise RuntimeError("stop")

    model, x, y = _tiny(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    try:
        model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[LambdaCallback(on_epoch_end=stop)])
    except RuntimeError:
        assert fails
    for weight, (average,) in zip(model.get_weights(), model.optimizer.state, strict=True):
        np.testing.assert_array_equal(weight, average)
    np.testing.assert_allclose(model.predict(x), x @ model.get_weights()[0] + model.get_weights()[1], rtol=1e-5)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    together, x, y = _tiny(optimizers.SGD(0.1))
    apart, *_ = _tiny(optimizers.SGD(0.1, gradient_accumulation_steps=3))
    together.fit(x, y, batch_size=12, epochs=2, shuffle=False, verbose=0)
    apart.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert (apart.optimizer.iterations, apart.optimizer.batches) == (2, 6)
    for one, other in zip(together.get_weights(), apart.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# --- losses and metrics of a model ---


def keras_line(loss, **arguments):
    """The model of the figures below, and its data: ten samples of three features, two targets."""
    x = np.arange(30, dtype=np.float32).reshape(10, 3) / 10
    y = np.arange(20, dtype=np.float32).reshape(10, 2) / 7
    model = Sequential([layers.Dense(2, kernel_initializer="ones", input_shape=(3,))])
    model.compile(optimizers.SGD(0.01), loss, **arguments)
    return model, x, y


# What Keras 3.15 (JAX) makes of an epoch of batches of four: loss, two weights, and the loss evaluated.
@pytest.mark.parametrize(("reduction", "weighted", "loss", "weights", "evaluated"), [
    ("sum", False, 25.54545783996582, [0.5764307, 0.58895874], 3.133620023727417),
    ("sum", True, 243.2752227783203, [2.55176, 2.4858875], 2626.972412109375),
    ("mean", False, 10.611871719360352, [0.80539757, 0.8112249], 5.633681297302246),
    ("sum_over_batch_size", True, 38.83561325073242, [0.16161825, 0.17870268], 10.898788452148438),
    ("mean_with_sample_weight", False, 10.611871719360352, [0.80539757, 0.8112249], 5.633681297302246),
    ("mean_with_sample_weight", True, 11.23280143737793, [0.797336, 0.80350107], 5.814122200012207),
])
def test_reductions_train_as_in_keras(reduction, weighted, loss, weights, evaluated):
    model, x, y = keras_line(losses.MeanSquaredError(reduction=reduction))
    weight = np.arange(10, dtype=np.float32) if weighted else None
    history = model.fit(x, y, batch_size=4, sample_weight=weight, shuffle=False, verbose=0).history
    # Eight figures were printed; float32 rounding grows with the diverging weights.
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(model.get_weights()[0].ravel()[:2], weights, rtol=1e-5)
    assert model.evaluate(x, y, batch_size=4, sample_weight=weight, verbose=0) == pytest.approx(evaluated, rel=1e-4)


@pytest.mark.parametrize("loss_weights", [0.5, [0.5]], ids=str)
def test_loss_weights_scale_the_loss_as_in_keras(loss_weights):
    model, x, y = keras_line("mse", loss_weights=loss_weights)
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(5.659491062164307, rel=1e-5)
    np.testing.assert_allclose(model.get_weights()[0].ravel()[:2], [0.8983644, 0.90147924], rtol=1e-5)


def test_weighted_metrics_count_samples_by_their_weights_as_in_keras():
    model, x, y = keras_line("mse", metrics=["mse"], weighted_metrics=["mse", "mae"])
    weight = np.arange(10, dtype=np.float32)
    history = model.fit(x, y, batch_size=4, sample_weight=weight, shuffle=False, verbose=0).history
    assert list(history) == ["loss", "mae", "mse", "weighted_mse"]
    assert history["mse"][0] == pytest.approx(6.591233253479004, rel=1e-5)
    assert history["weighted_mse"][0] == pytest.approx(8.630136489868164, rel=1e-5)
    plain = model.evaluate(x, y, verbose=0, return_dict=True)
    assert plain["mse"] == pytest.approx(plain["weighted_mse"])
    config = model.get_compile_config()
    assert config["weighted_metrics"] == ["mse", "mae"] and "loss_weights" not in config


@pytest.mark.parametrize("one_hot", [False, True], ids=["sparse", "one-hot"])
def test_class_weight_is_a_sample_weight_for_loss_and_weighted_metrics(one_hot):
    labels = np.arange(10) % 3
    x = np.arange(30, dtype=np.float32).reshape(10, 3) / 10
    loss = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    y = np.eye(3, dtype=np.float32)[labels] if one_hot else labels
    results = []
    for arguments in ({"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}},
                      {"sample_weight": np.array([1, 3, 0.5], np.float32)[labels]}):
        model = Sequential([layers.Dense(3, "softmax", input_shape=(3,))], seed=1)
        model.compile("sgd", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
        results.append([model.fit(x, y, shuffle=False, verbose=0, **arguments).history,
                        model.train_on_batch(x, y, return_dict=True, **arguments)])
    assert results[0] == results[1]
    assert list(results[0][1]) == ["accuracy", "loss", "weighted_accuracy"]


def test_ignored_class_neither_trains_nor_counts():
    x = np.random.default_rng(1).standard_normal((12, 3)).astype(np.float32)
    y = np.arange(12) % 4
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=3)
    weights, history = [], []
    for kept in (slice(None), y != 3):
        model = Sequential([layers.Dense(3, input_shape=(3,))], seed=2)
        model.compile("sgd", loss)
        history.append(model.fit(x[kept], y[kept], batch_size=12, shuffle=False, verbose=0).history["loss"][0])
        weights.append(model.get_weights()[0])
    assert history[0] == pytest.approx(history[1], rel=1e-6)
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-5, atol=1e-7)


def test_metrics_of_many_numbers_are_arrays_in_the_history(capsys):
    x, y = np.ones((6, 3), np.float32), np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 0]]
    model = Sequential([layers.Dense(2, "softmax", input_shape=(3,))])
    model.compile("sgd", "mse", metrics=["f1_score", metrics.Precision([0.2, 0.7]), "AUC"])
    history = model.fit(x, y, verbose=2).history
    assert history["f1_score"][0].shape == (2,) and isinstance(history["AUC"][0], float)
    assert "f1_score: 0." in capsys.readouterr().out


def test_compile_with_a_metric_that_does_not_fit_changes_nothing():
    model = Sequential([layers.Dense(3, activation="softmax", input_shape=(4,))])
    with pytest.raises(ValueError, match="labels that are vectors"):
        model.compile("adam", "categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
    assert not model.compiled
    model.compile("adam", "mse", metrics=["mae"])
    with pytest.raises(ValueError, match="labels that are vectors"):
        model.compile("sgd", "categorical_crossentropy", weighted_metrics=["acc"],
                      metrics=["sparse_categorical_accuracy"])
    assert model.metrics_names == ["loss", "mae"] and type(model.optimizer).__name__ == "Adam"


def test_averages_of_an_earlier_training_are_not_put_back(blobs):
    x, _, y = blobs
    model = dense_model(optimizer=optimizers.SGD(0.1, use_ema=True))
    model.fit(x, y, epochs=2, verbose=0)
    fresh = [np.zeros_like(weight) for weight in model.get_weights()]
    model.set_weights(fresh)
    model.fit(x, y, epochs=0, verbose=0)

    def refuse(logs):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(x, y, verbose=0, callbacks=LambdaCallback(on_train_begin=refuse))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), fresh, strict=True))


def test_metrics_given_as_classes_keep_one_name(blobs):
    x, _, y = blobs
    model = dense_model(metrics=[metrics.Precision, {"class_name": "Recall", "config": {}}])
    names = model.metrics_names
    history = model.fit(x, y, verbose=0)
    model.layers[0].trainable = False
    again = model.fit(x, y, verbose=0)
    assert model.metrics_names == names
    assert set(history.history) == set(again.history) == set(names)

"""fit, evaluate, predict: figures, validation, data, what is printed."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import training_helpers
from training_helpers import CLASSES, IDS, X, Y, assert_same_weights, dense_model

from tinyconv import Sequential, data, layers, losses, metrics, optimizers
from tinyconv.progress import Progress, verbosity

blobs = training_helpers.blobs  # a fixture


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
def test_class_weight_does_not_weigh_validation(blobs, sparse):
    x, ids, y = blobs
    labels = ids if sparse else y
    weights = {0: 30.0, 1: 0.01}
    split, given = (dense_model(loss="sparse_categorical_crossentropy" if sparse else "categorical_crossentropy")
                    for _ in range(2))
    cut = int(len(x) * 0.6)
    histories = [
        split.fit(x, labels, class_weight=weights, validation_split=0.4, shuffle=False, verbose=0).history,
        given.fit(x[:cut], labels[:cut], class_weight=weights, validation_data=(x[cut:], labels[cut:]), shuffle=False,
                  verbose=0).history]
    assert histories[0] == histories[1]
    loss = split.evaluate(x[cut:], labels[cut:], verbose=0, return_dict=True)["loss"]
    assert histories[0]["val_loss"] == [pytest.approx(loss, rel=1e-6)]


@pytest.mark.parametrize("sparse", [False, True])
def test_class_weight_is_sample_weight_by_class(blobs, sparse):
    x, ids, y = blobs
    loss = "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"
    labels = ids if sparse else y
    by_class, by_sample = dense_model(loss=loss), dense_model(loss=loss)
    by_class.fit(x, labels, class_weight={0: 3.0, 2: 0.5}, verbose=0)
    by_sample.fit(x, labels, sample_weight=np.array([3.0, 1.0, 0.5, 1.0])[ids], verbose=0)
    assert_same_weights(by_class, by_sample)


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


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "built by data"])
@pytest.mark.parametrize("form", [list, tuple], ids=["list", "tuple"])
def test_arrays_may_stand_in_a_list_of_their_own(blobs, form, declared):
    x, ids, _ = blobs
    weights, part = np.linspace(0, 2, len(x)), (x[:9], ids[:9])

    def of(wrap):
        model = Sequential([layers.Dense(CLASSES, **({"input_shape": (6,)} if declared else {}))], seed=1)
        model.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=True))
        history = model.fit(wrap(x), wrap(ids), sample_weight=wrap(weights), verbose=0,
                            validation_data=(wrap(part[0]), wrap(part[1]))).history
        batches = ((wrap(x[i:i + 50]), wrap(ids[i:i + 50])) for i in (0, 50, 100))
        return (history, model.fit(batches, verbose=0).history, model.evaluate(wrap(x), wrap(ids), verbose=0),
                model.train_on_batch(wrap(x), wrap(ids)), model.test_on_batch(wrap(x), wrap(ids)),
                *(call(wrap(x)).tolist() for call in (model.predict, model.predict_on_batch, model)))

    assert of(lambda array: form([array])) == of(lambda array: array)


@pytest.mark.parametrize(("shape", "given", "samples"), [
    ((6,), [np.ones(6)], 1), ((6,), [[1.0] * 6], 1), ((6,), [np.ones((3, 6))], 3), ((6,), [np.ones((1, 6))], 1),
    ((6,), [np.ones(6)] * 2, 2), ((6,), [np.ones((2, 6, 1))], 2), ((1,), [1, 2, 3], 3), ((1,), [np.float32(1)], 1),
    ((1,), [np.ones(5)], 5), ((1,), [np.ones((1, 1))], 1), ((4, 4, 1), [np.ones((4, 4, 1))], 1),
    ((4, 4, 1), [np.ones((4, 4))], 1), ((4, 4, 1), [np.ones((4, 4, 4))], 4), ((4, 4, 1), [np.ones((2, 4, 4, 1))], 2),
], ids=lambda value: str(np.shape(value)))
def test_list_of_one_array_is_one_sample_where_its_shape_says_so(shape, given, samples):
    inputs = data.as_inputs(given, shape)
    assert (len(inputs), inputs.size) == (samples, samples * np.prod(shape))


def test_list_of_two_inputs_is_refused():
    model = Sequential([layers.Dense(2, input_shape=(6,))])
    with pytest.raises(ValueError, match=r"x to have the shape \(N, 6\). Received: x.shape=\(2, 8, 6\)"):
        model.predict([X, X])


def test_fit_leaves_its_arguments_alone(blobs):
    x, _, y = blobs
    x, y, weight = x.astype(np.float64), y.astype(np.uint8), np.ones(150)
    copies = x.copy(), y.copy(), weight.copy()
    for array in (x, y, weight):
        array.flags.writeable = False
    dense_model().fit(x, y, sample_weight=weight, verbose=0)
    for array, copy in zip((x, y, weight), copies):
        np.testing.assert_array_equal(array, copy)


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

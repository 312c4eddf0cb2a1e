"""Sequential: calling it and predicting, and what training leaves of its statistics."""

from __future__ import annotations

import threading

import model_helpers
import numpy as np
import pytest
from model_helpers import images, normed, seed_network

from tinyconv import Sequential, layers, optimizers

fresh_names = model_helpers.fresh_names  # a fixture


@pytest.mark.parametrize("count", [1, 2, 17])
def test_sequential_call_and_predict_agree(count):
    model, x = seed_network(), images(count)
    np.testing.assert_allclose(model(x), model.predict(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model(x), model.predict_on_batch(x))
    np.testing.assert_allclose(model.predict(x).sum(axis=1), np.ones(count), rtol=1e-5)


def test_sequential_predict_in_batches():
    model, x = seed_network(), images(21)
    np.testing.assert_allclose(model.predict(x, batch_size=4), model.predict(x), rtol=1e-5, atol=1e-6)
    assert model.predict(x, batch_size=4, steps=2).shape == (8, 10)


def test_sequential_takes_integers_and_doubles():
    model = seed_network()
    x = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)
    expected = model.predict(x.astype(np.float32))
    for dtype in (np.uint8, np.int64, np.float64, np.float16):
        np.testing.assert_allclose(model.predict(x.astype(dtype)), expected, rtol=1e-5, atol=1e-6)


def test_sequential_takes_a_missing_channel_and_odd_strides():
    model, x = seed_network(), images(6)
    expected = model.predict(x)
    np.testing.assert_array_equal(model.predict(x[..., 0]), expected)
    np.testing.assert_array_equal(model.predict(np.asfortranarray(x)), expected)
    read_only = x.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(model.predict(read_only), expected)
    np.testing.assert_array_equal(model.predict(x.tolist()), expected)


@pytest.mark.parametrize(("x", "error"), [
    (np.zeros((2, 28, 28, 3), np.float32), ValueError),
    (np.zeros((28, 28, 1), np.float32), ValueError),
    (np.zeros((2, 784), np.float32), ValueError),
    (np.zeros((0, 28, 28, 1), np.float32), ValueError),
    (np.float32(1), ValueError),
    ([[1, 2], [3]], ValueError),
    (np.zeros((2, 28, 28, 1), np.complex64), TypeError),
    (np.zeros((2, 28, 28, 1), object), TypeError),
    ("image", TypeError),
    (None, TypeError),
], ids=["channels", "rank", "flat", "empty", "scalar", "ragged", "complex", "object", "string", "none"])
def test_sequential_refuses_bad_inputs(x, error):
    with pytest.raises(error, match="Received: ") as caught:
        seed_network().predict(x)
    assert "\n" not in str(caught.value)


def test_sequential_call_of_an_empty_batch():
    assert seed_network()(np.zeros((0, 28, 28, 1), np.float32)).shape == (0, 10)


def test_sequential_call_with_training_drops():
    model = Sequential([layers.Dropout(0.5, input_shape=(1000,))], seed=1)
    x = np.ones((2, 1000), np.float32)
    np.testing.assert_array_equal(model(x), x)
    first, second = model(x, training=True), model(x, training=True)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert not np.array_equal(first, second)
    again = Sequential([layers.Dropout(0.5, input_shape=(1000,))], seed=1)
    np.testing.assert_array_equal(again(x, training=True), first)


def test_sequential_call_with_training_changes_no_weights():
    model = Sequential([layers.Dense(4, input_shape=(3,)), layers.Dropout(0.5)], seed=1)
    before = model.get_weights()
    model(np.ones((2, 3), np.float32), training=True)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_sequential_image_outputs_keep_their_shape():
    model = Sequential([layers.Conv2D(3, 3, padding="same", input_shape=(6, 5, 2))])
    assert model.predict(np.ones((4, 6, 5, 2), np.float32)).shape == (4, 6, 5, 3)


def test_sequential_predicts_from_four_threads():
    model = seed_network()
    inputs = [images(7, seed) for seed in range(4)]
    expected = [model.predict(x) for x in inputs]
    results: list = [None] * 4

    def work(i):
        results[i] = [model.predict(inputs[i]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        for y in results[i]:
            np.testing.assert_array_equal(y, expected[i])


# --- batch normalization ---

def test_call_in_training_moves_the_statistics_as_keras_does():
    model, x = normed(momentum=0.5), np.random.default_rng(3).random((9, 6, 6, 1), np.float32)
    norm, before = model.layers[1], model.get_weights()
    expected = model.predict(x)
    z = Sequential([layers.Conv2D(3, 3, input_shape=(6, 6, 1))])
    z.set_weights(before[:2])
    values = z.predict(x).reshape(-1, 3)
    model(x, training=True)
    np.testing.assert_allclose(norm.moving_mean.value, values.mean(0) / 2, rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance.value, 0.5 + values.var(0) / 2, rtol=1e-5)
    assert np.abs(model.predict(x) - expected).max() > 1e-3  # the executor knows
    norm.trainable = False
    after = model.get_weights()
    np.testing.assert_allclose(model(x, training=True), model.predict(x), rtol=1e-5, atol=1e-6)
    for one, other in zip(model.get_weights(), after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("settings", [{}, {"center": False, "scale": False}], ids=["weights", "none"])
def test_a_norm_that_is_frozen_between_fits_keeps_its_statistics(settings):
    model = normed(**settings)
    model.compile("sgd", "mse")
    random = np.random.default_rng(4)
    x, y = random.random((20, 6, 6, 1), np.float32), random.random((20, 2), np.float32)
    norm = model.layers[1]
    for trainable in (True, False, True):
        norm.trainable = trainable
        before = norm.get_weights()
        model.fit(x, y, verbose=0)
        changed = [not np.array_equal(one, other) for one, other in zip(before, norm.get_weights(), strict=True)]
        assert all(changed) if trainable else not any(changed)


# --- steps that are cut off ---


class CutOff:
    """An executor whose steps end with an exception: after they were made, or in their place."""

    def __init__(self, executor, error, made):
        self.executor, self.error, self.made = executor, error, made

    def train_step(self, *arguments, **named):
        if self.made:
            self.executor.train_step(*arguments, **named)
        raise self.error

    def __getattr__(self, name):
        return getattr(self.executor, name)


def sharing():
    """A model, and another of its layers whose convolution was folded with the normalization before."""
    model = Sequential([layers.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.BatchNormalization(), layers.Flatten(),
                        layers.Dense(3, activation="softmax")], seed=1)
    model.compile(optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    other = Sequential([layers.Input((8, 8, 1)), *model.layers])
    other.predict(SMALL)
    return model, other


SMALL = np.random.default_rng(0).random((10, 8, 8, 1)).astype(np.float32)
LABELS = np.arange(10) % 3


@pytest.mark.parametrize(("error", "made"), [(KeyboardInterrupt(), True), (MemoryError(), False)],
                         ids=["interrupted", "refused"])
def test_step_that_is_cut_off_counts_where_it_was_made(error, made, monkeypatch):
    model, other = sharing()
    before, ready = model.get_weights(), model._ready_to_train
    monkeypatch.setattr(model, "_ready_to_train", lambda: CutOff(ready(), error, made))
    with pytest.raises(type(error)):
        model.train_on_batch(SMALL, LABELS)
    assert model.optimizer.iterations == made
    assert np.array_equal(before[0], model.get_weights()[0]) != made
    np.testing.assert_array_equal(other.predict(SMALL), model.predict(SMALL))


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_models_that_share_layers_hear_of_a_training_that_is_cut_off(error):
    model, other = sharing()

    def batches():
        for _ in range(3):
            yield SMALL, LABELS
        raise error

    try:
        model.fit(batches(), verbose=0)
    except ValueError as caught:
        assert caught is error
    assert model.optimizer.iterations == 3
    assert model.interrupted == isinstance(error, KeyboardInterrupt)
    np.testing.assert_array_equal(other.predict(SMALL), model.predict(SMALL))

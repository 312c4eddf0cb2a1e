"""Normalization and PReLU: their arguments, `adapt`, and how they train and are kept with a model."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import Sequential, layers, load_model

SHAPE = (6, 5, 3)
DATA = np.random.default_rng(0).normal(3, 2, (40, *SHAPE)).astype(np.float32)


def expected_moments(x, axis):
    axes = () if axis is None else (axis,) if isinstance(axis, int) else axis
    reduced = tuple(i for i in range(4) if i not in {one % 4 for one in axes})
    x = np.float64(x)
    return x.mean(reduced, keepdims=True), x.var(reduced, keepdims=True)


def model_of(*stack, shape=SHAPE):
    return Sequential([layers.Input(shape), *stack], seed=1)


@pytest.mark.parametrize("axis", [-1, None, 1, 2, -2, (1, 2), (3, 1), (2, 3), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("n", [1, 40])
def test_normalization_makes_mean_0_and_variance_1(axis, n):
    forth, back = layers.Normalization(axis), layers.Normalization(axis, invert=True)
    forth.adapt(DATA)
    back.adapt(DATA)
    mean, variance = expected_moments(DATA, axis)
    np.testing.assert_allclose(forth.mean.numpy(), mean.reshape(forth.mean.shape), rtol=1e-6)
    np.testing.assert_allclose(forth.variance.numpy(), variance.reshape(forth.variance.shape), rtol=1e-6)
    # Of a difference of two numbers about as large as x is.
    tolerance = 4 * np.finfo(np.float32).eps * np.abs(DATA).max() / np.sqrt(variance.min())
    y = model_of(forth).predict(DATA[:n], verbose=0)
    np.testing.assert_allclose(y, ((DATA - mean) / np.sqrt(variance))[:n], rtol=1e-6, atol=tolerance)
    np.testing.assert_allclose(model_of(forth, back).predict(DATA[:n], verbose=0), DATA[:n],
                               atol=tolerance * np.sqrt(variance.max()))


def test_adapt_takes_batches_of_any_size():
    whole, parts, pairs = (layers.Normalization() for _ in range(3))
    whole.adapt(DATA)
    parts.adapt(DATA[start:stop] for start, stop in ((0, 1), (1, 17), (17, 17), (17, 40)))
    pairs.adapt([(DATA[:5], np.zeros(5)), (DATA[5:], np.zeros(35))])
    for other in (parts, pairs):
        np.testing.assert_allclose(other.mean.numpy(), whole.mean.numpy(), rtol=1e-6)
        np.testing.assert_allclose(other.variance.numpy(), whole.variance.numpy(), rtol=1e-6)


def test_adapt_keeps_its_digits_beside_a_large_mean():
    x = np.random.default_rng(1).integers(0, 2, (1 << 16, 4)).astype(np.float64) + 1e7
    layer = layers.Normalization()
    layer.adapt(x)
    np.testing.assert_allclose(layer.variance.numpy(), x.var(0), rtol=1e-6)


def test_adapt_starts_anew_and_tells_the_model():
    layer = layers.Normalization()
    model = model_of(layer)
    np.testing.assert_array_equal(model.predict(DATA, verbose=0), DATA)  # mean 0, variance 1
    layer.adapt(DATA)
    assert abs(model.predict(DATA, verbose=0).mean()) < 1e-5
    layer.adapt(DATA * 0 + 2)
    np.testing.assert_array_equal(layer.mean.numpy(), 2)
    np.testing.assert_array_equal(model.predict(DATA[:3] * 0 + 2, verbose=0), 0)


def test_a_deviation_of_0_counts_as_the_least():
    layer = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[0.0, 1.0, 4.0])
    x = np.ones((2, *SHAPE), np.float32) * np.float32([2.0, 3.0, 4.0])
    np.testing.assert_allclose(model_of(layer).predict(x, verbose=0)[0, 0, 0], [1e7, 1, 0.5], rtol=1e-6)


@pytest.mark.parametrize("settings", [
    {"axis": None, "mean": 0.5, "variance": 4.0}, {"mean": 0.5, "variance": 4.0},
    {"axis": (2, 3), "mean": [0.5, 0.5, 0.5], "variance": [4.0, 4.0, 4.0]},
], ids=str)
def test_normalization_takes_its_moments_from_its_arguments(settings):
    x = np.arange(90, dtype=np.uint8).reshape(1, *SHAPE)
    model = model_of(layers.Normalization(**settings), layers.Conv2D(2, 3))
    plain = model_of(layers.Rescaling(0.5, -0.25), layers.Conv2D(2, 3))
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(model.predict(x, verbose=0), plain.predict(x, verbose=0), rtol=1e-5, atol=1e-5)
    assert model.layers[0].weights == []


BAD_ARGUMENTS = [
    ({"axis": 0}, "axis to be an integer other than 0"),
    ({"axis": 1.5}, "axis to be an integer"),
    ({"mean": 1.0}, "both mean and variance"),
    ({"mean": [1.0, 2.0], "variance": 1.0}, "of one shape"),
    ({"axis": None, "mean": [1.0], "variance": [1.0]}, "at most 0 dimensions"),
    ({"mean": 0.0, "variance": -1.0}, "variance to be 0 or more"),
    ({"mean": "a", "variance": 1.0}, "mean to be finite numbers"),
    ({"mean": 1.0, "variance": float("nan")}, "variance to be finite numbers"),
    ({"invert": 2}, "invert to be True or False"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_ARGUMENTS, ids=lambda value: str(value)[:30])
def test_normalization_refuses_bad_arguments(settings, message):
    with pytest.raises((ValueError, TypeError), match=f"Expected.* {message}.*Received: "):
        layers.Normalization(**settings)


@pytest.mark.parametrize(("settings", "message"), [
    ({"axis": 4}, r"axis to be in \[1, 3\]"), ({"axis": (-4,)}, r"axis to be in \[1, 3\]"),
    ({"mean": [1.0, 2.0], "variance": [1.0, 2.0]}, r"mean to fit the axes' sizes, \(3,\)"),
], ids=str)
def test_normalization_refuses_inputs_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=f"Expected {message}.*Received: "):
        layers.Normalization(**settings).build(SHAPE)


@pytest.mark.parametrize(("data", "error"), [
    (3, TypeError), ("abc", TypeError), ([1.0, 2.0], TypeError), (np.array(["a"]), TypeError), (np.zeros(3), TypeError),
    ([], ValueError), (np.zeros((0, *SHAPE)), ValueError), (np.zeros((2, 6, 5, 4)), ValueError),
    (np.zeros((2, 5, 3)), ValueError), ([DATA, np.zeros((2, 6, 5, 4))], ValueError),
], ids=["number", "text", "numbers", "words", "vector", "none", "no samples", "channels", "dimensions", "second batch"])
def test_adapt_refuses_what_is_no_data_and_changes_nothing(data, error):
    layer = layers.Normalization()
    layer.build(SHAPE)
    with pytest.raises(error, match=r"[Ee]xpected.*Received: "):
        layer.adapt(data)
    np.testing.assert_array_equal(layer.mean.numpy(), 0)
    np.testing.assert_array_equal(layer.variance.numpy(), 1)


def test_adapt_refuses_where_mean_and_variance_were_given():
    with pytest.raises(ValueError, match="cannot adapt"):
        layers.Normalization(mean=0.0, variance=1.0).adapt(DATA)


def classifier():
    first = layers.Normalization()
    first.adapt(DATA)
    return model_of(first, layers.Conv2D(4, 3), layers.PReLU(shared_axes=[1, 2]),
                    layers.Normalization((1, 3), mean=0.1, variance=2.0), layers.Flatten(), layers.PReLU(),
                    layers.Dense(3, activation="softmax"))


def labels(x):
    return np.digitize(x.mean((1, 2, 3)), [2.9, 3.1])


def test_training_moves_slopes_and_leaves_statistics_alone():
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy")
    before, program = model.get_weights(), model.program
    losses = model.fit(DATA, labels(DATA), epochs=8, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    after = dict(zip([f"{layer.name}/{w.name}" for layer in model.layers for w in layer.weights],
                     zip(before, model.get_weights(), strict=True), strict=True))
    for name, (one, other) in after.items():
        assert np.array_equal(one, other) == name.endswith(("/mean", "/variance", "/count")), name
    assert model.program is program  # nothing was frozen or thawed: it is not lowered anew


def test_a_frozen_prelu_keeps_its_slopes():
    model = classifier()
    model.layers[2].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(DATA, labels(DATA), epochs=1, verbose=0)
    np.testing.assert_array_equal(model.layers[2].alpha.numpy(), 0)
    assert np.abs(model.layers[5].alpha.numpy()).max() > 0


def test_a_model_is_kept_with_its_statistics_and_slopes(tmp_path):
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(DATA, labels(DATA), epochs=1, verbose=0)
    model.save(tmp_path / "model", dialect="tinyconv")
    again = load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(DATA, verbose=0), model.predict(DATA, verbose=0))
    model.save_weights(tmp_path / "weights.npz")
    again.set_weights([weight * 0 + 1 for weight in again.get_weights()])
    again.load_weights(tmp_path / "weights.npz")
    np.testing.assert_array_equal(again.predict(DATA, verbose=0), model.predict(DATA, verbose=0))
    for one in (model, again):
        one.fit(DATA, labels(DATA), epochs=1, verbose=0, shuffle=False)
    np.testing.assert_array_equal(again.predict(DATA, verbose=0), model.predict(DATA, verbose=0))


@pytest.mark.parametrize(("axes", "message"), [(0, "from 1 on"), ([1, -1], "from 1 on"), (True, "from 1 on"),
                                               ("a", "from 1 on"), ([1, 4], r"shared_axes in \[1, 3\]")], ids=str)
def test_prelu_refuses_axes_that_are_none(axes, message):
    with pytest.raises(ValueError, match=f"Expected.*{message}.*Received: shared_axes="):
        layers.PReLU(shared_axes=axes).build(SHAPE)


def test_prelu_keeps_to_its_regularizer_and_constraint():
    layer = layers.PReLU("random_normal", "l2", "non_neg", [1, 2])
    model = model_of(layer, layers.Flatten(), layers.Dense(1))
    model.compile("sgd", "mean_squared_error")
    x, y = DATA - 3, np.zeros((len(DATA), 1), np.float32)
    penalty = 0.01 * np.square(np.float64(layer.alpha.numpy())).sum()
    plain = np.square(np.float64(model.predict(x, verbose=0))).mean()
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), plain + penalty, rtol=1e-5)
    model.fit(x, y, epochs=2, verbose=0)
    assert layer.alpha.numpy().min() >= 0


def test_adapt_takes_what_fit_takes_as_batches():
    x = np.random.default_rng(0).normal(3, 2, (24, 3)).astype(np.float32)

    class Numbered:
        def __len__(self):
            return 3

        def __getitem__(self, number):
            return x[8 * number:8 * number + 8], np.zeros(8)

    for data in (Numbered(), iter([x[:5], (x[5:], 0)]), [x[:9], x[9:]], x):
        layer = layers.Normalization()
        layer.adapt(data)
        np.testing.assert_allclose(layer.mean.value, x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(layer.variance.value, x.var(axis=0), rtol=1e-5)

"""What cannot be is refused in one line that says what came, before anything is changed; what is huge but
possible is computed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import oracles
import pytest

import tinyconv
from tinyconv import Sequential, callbacks, layers, ops, optimizers

HUGE = 2**31 - 1
X = np.random.default_rng(0).random((10, 8, 8, 1)).astype(np.float32)
IDS = np.arange(10) % 3
Y = np.eye(3, dtype=np.float32)[IDS]
KERNEL = np.random.default_rng(1).standard_normal((3, 3, 1, 2)).astype(np.float32)


def classifier(loss="categorical_crossentropy"):
    model = Sequential([layers.Conv2D(2, 3, input_shape=(8, 8, 1)), layers.Flatten(),
                        layers.Dense(3, activation="softmax")], seed=1)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def assert_refused(call, error=(TypeError, ValueError)):
    """Refused in one line that says what was received."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "Received: " in message
    assert "\n" not in message
    assert len(message) < 400
    return message


# --- fit ---


@pytest.mark.parametrize("changed", [
    # x
    {"x": X[0]}, {"x": X[None]}, {"x": np.repeat(X, 3, axis=3)}, {"x": X[:, :7]}, {"x": X.astype(complex)},
    {"x": X.astype(object)}, {"x": "abc"}, {"x": None}, {"x": X.astype("datetime64[s]")}, {"x": {}}, {"x": 3},
    {"x": np.zeros(10, [("a", "f4")])}, {"x": [[1, 2], [3]]}, {"x": [], "y": []}, {"x": X[:0], "y": Y[:0]},
    # y
    {"y": None}, {"y": Y[:9]}, {"y": np.vstack([Y, Y])}, {"y": np.eye(4)[IDS]}, {"y": IDS},
    {"y": Y.astype(complex)}, {"y": Y.astype(object)}, {"y": Y.astype(str)},
    {"y": np.where(Y == 1, np.nan, 0)}, {"y": np.where(Y == 1, np.inf, 0)}, {"y": np.where(Y == 1, 1e300, 0)},
    # numbers
    {"batch_size": 0}, {"batch_size": -1}, {"batch_size": 1.5}, {"batch_size": "8"}, {"batch_size": True},
    {"batch_size": 10**30}, {"epochs": -1}, {"epochs": 1.5}, {"epochs": None}, {"steps_per_epoch": 0},
    {"verbose": 3}, {"verbose": None}, {"shuffle": True, "initial_epoch": -1},
    # validation
    {"validation_split": 1.0}, {"validation_split": -0.1}, {"validation_split": "a"},
    {"validation_split": float("nan")}, {"validation_split": np.array([0.1, 0.2])},
    {"validation_data": (X,)}, {"validation_data": X}, {"validation_data": (X, Y[:3])},
    {"validation_data": (X[:, :5], Y)}, {"validation_data": (X[:0], Y[:0])}, {"validation_freq": 0},
    {"validation_freq": [0]}, {"validation_data": (X, Y), "validation_steps": 0},
    {"validation_data": (X, Y), "validation_batch_size": 0},
    # callbacks
    {"callbacks": 3}, {"callbacks": [3]}, {"callbacks": [callbacks.EarlyStopping]}, {"callbacks": "abc"},
    # weights
    {"sample_weight": np.ones(9)}, {"sample_weight": np.ones((10, 2))}, {"sample_weight": 3},
    {"sample_weight": np.full(10, np.nan)}, {"sample_weight": np.full(10, 1e300)},
    {"sample_weight": ["a"] * 10}, {"class_weight": [1, 2, 3]}, {"class_weight": {"a": 1}},
    {"class_weight": {0: None}}, {"class_weight": {0: float("nan")}}, {"class_weight": {0: 1e300}},
    {"class_weight": {0: 10**400}}, {"class_weight": {0: 1}, "sample_weight": np.ones(10)},
], ids=lambda changed: f"{list(changed)[-1]}-{type(list(changed.values())[-1]).__name__}")
def test_fit_refuses_before_it_changes_anything(changed):
    model = classifier()
    before = model.get_weights()
    assert_refused(lambda: model.fit(**{"x": X, "y": Y, "verbose": 0, **changed}))
    assert model.optimizer.iterations == 0
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("y", [
    np.arange(10), -np.ones(10, int), np.full(10, 0.5), np.full(10, np.nan), np.full(10, np.inf), Y,
    np.full(10, 2**64 - 1, np.uint64), np.full(10, 2**32), np.full(10, 1e30), [0] * 9, ["0"] * 10,
])
def test_fit_refuses_class_ids_that_are_none(y):
    assert_refused(lambda: classifier("sparse_categorical_crossentropy").fit(X, y, verbose=0))


def readonly(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def misaligned(array):
    shifted = np.ndarray(array.shape, array.dtype, bytearray(array.nbytes + 1), 1)
    shifted[...] = array
    return shifted


@pytest.mark.parametrize("change", [
    lambda x: np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2), np.asfortranarray,
    lambda x: x[::-1].copy()[::-1], lambda x: np.repeat(x, 2, axis=0)[::2], lambda x: x.astype(">f4"),
    lambda x: x.astype(np.float64), lambda x: x.tolist(), lambda x: x[..., 0], readonly, misaligned, memoryview,
], ids=["transposed", "Fortran", "backwards", "strided", "swapped", "float64", "list", "rank 3", "read-only",
        "misaligned", "memoryview"])
def test_every_form_of_an_array_gives_the_same(change):
    model = classifier()
    np.testing.assert_array_equal(model.predict(change(X)), model.predict(X))
    assert model.evaluate(change(X), Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    model.train_on_batch(change(X), Y)


# --- layers ---


@pytest.mark.parametrize("create", [
    lambda: layers.Conv2D(0, 3), lambda: layers.Conv2D(-1, 3), lambda: layers.Conv2D(1.5, 3),
    lambda: layers.Conv2D(1, 0), lambda: layers.Conv2D(1, (1, 2, 3)), lambda: layers.Conv2D(1, "3"),
    lambda: layers.Conv2D(1, 3, strides=0), lambda: layers.Conv2D(1, 3, strides=(1, -1)),
    lambda: layers.Conv2D(1, 3, dilation_rate=0), lambda: layers.Conv2D(1, 3, padding="full"),
    lambda: layers.Conv2D(1, 3, strides=2**63), lambda: layers.MaxPooling2D(0), lambda: layers.Dense(0),
    lambda: layers.Dropout(1.5), lambda: layers.Dropout(float("nan")), lambda: layers.Reshape((0, 3)),
    lambda: layers.Rescaling(float("inf")), lambda: layers.Rescaling(1e300), lambda: layers.ReLU(-1),
    lambda: layers.ReLU(negative_slope=-0.1), lambda: layers.ReLU(threshold=-1), lambda: layers.LeakyReLU(-0.1),
    lambda: layers.Input(shape=(HUGE, HUGE, 1)), lambda: Sequential(3), lambda: Sequential([3]),
    lambda: Sequential(layers.Dense(1)),
])
def test_layers_and_models_refuse_what_cannot_be(create):
    assert_refused(create)


@pytest.mark.parametrize("layer", [
    layers.Conv2D(1, 9), layers.Conv2D(1, HUGE), layers.Conv2D(1, HUGE, padding="same"),
    layers.Conv2D(1, 3, dilation_rate=HUGE), layers.Conv2D(HUGE, 1), layers.Conv2D(10**8, 3),
    layers.MaxPooling2D(9), layers.AveragePooling2D(HUGE), layers.Dense(HUGE), layers.Reshape((3, 3)),
], ids=lambda layer: layer.name)
def test_models_refuse_what_does_not_fit(layer):
    assert_refused(lambda: Sequential([layers.Input(shape=(8, 8, 1)), layer]), ValueError)


@pytest.mark.parametrize(("layer", "same"), [
    (layers.MaxPooling2D(HUGE, padding="same"), layers.GlobalMaxPooling2D(keepdims=True)),
    (layers.AveragePooling2D(HUGE, padding="same"), layers.GlobalAveragePooling2D(keepdims=True)),
    (layers.MaxPooling2D(2, HUGE), layers.MaxPooling2D(2, 8)),
], ids=["max", "average", "strides"])
def test_pools_far_beyond_the_image_see_all_of_it(layer, same):
    outputs = [Sequential([layers.Input(shape=(8, 8, 1)), pool]).predict(X) for pool in (layer, same)]
    np.testing.assert_allclose(*outputs, rtol=1e-6)


@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 3), (5, 4)])
@pytest.mark.parametrize("strides", [1, 3, HUGE])
def test_convolutions_far_beyond_the_image_see_what_moderate_ones_see(kernel_size, strides):
    kernel = np.random.default_rng(2).standard_normal((*kernel_size, 1, 2)).astype(np.float32)
    far = {"strides": strides, "padding": "same", "dilation_rate": HUGE}
    near = {"strides": min(strides, 8), "padding": "same", "dilation_rate": 40}
    y = ops.conv2d(X, kernel, **far)
    np.testing.assert_array_equal(y, ops.conv2d(X, kernel, **near))
    dy = np.ones_like(y)
    np.testing.assert_array_equal(ops.conv2d_backward_input(dy, kernel, X.shape, **far),
                                  ops.conv2d_backward_input(dy, kernel, X.shape, **near))
    np.testing.assert_array_equal(ops.conv2d_backward_kernel(X, dy, kernel.shape, **far),
                                  ops.conv2d_backward_kernel(X, dy, kernel.shape, **near))
    layer = layers.Conv2D(2, kernel_size, use_bias=False, **far)
    model = Sequential([layers.Input(shape=(8, 8, 1)), layer])
    layer.set_weights([kernel])
    np.testing.assert_array_equal(model.predict(X), y)


@pytest.mark.parametrize("size", [8, 5, 3])
def test_dilation_is_clipped_only_where_it_shows_nothing(size):
    """Dilation from moderate to beyond the image, against the definition."""
    x = np.random.default_rng(3).random((1, size, size, 1)).astype(np.float32)
    for rate in range(1, 3 * size):
        padding = (oracles.same_padding(size, 3, 1, rate),) * 2
        expected = oracles.conv2d(x, KERNEL, dilation=(rate, rate), padding=padding)
        y = ops.conv2d(x, KERNEL, padding="same", dilation_rate=rate)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


# --- ops ---

POOLED, INDEX = ops.max_pool2d(X, 2, return_index=True)


@pytest.mark.parametrize("call", [
    lambda: ops.conv2d(X[0], KERNEL), lambda: ops.conv2d(X, KERNEL[0]), lambda: ops.conv2d(None, KERNEL),
    lambda: ops.conv2d(X, np.zeros((3, 3, 2, 2))), lambda: ops.conv2d(X, KERNEL, np.zeros(3)),
    lambda: ops.conv2d(X, KERNEL, strides=0), lambda: ops.conv2d(X, KERNEL, dilation_rate=-1),
    lambda: ops.conv2d(X, KERNEL, padding=1), lambda: ops.conv2d(X, np.zeros((9, 9, 1, 1))),
    lambda: ops.conv2d(X[:0], KERNEL), lambda: ops.conv2d(X, KERNEL[..., :0]),
    lambda: ops.conv2d(X.astype(complex), KERNEL), lambda: ops.conv2d([[1], [1, 2]], KERNEL),
    lambda: ops.conv2d_backward_input(Y, KERNEL, X.shape),
    lambda: ops.conv2d_backward_input(X, KERNEL, (10, HUGE, HUGE, 1)),
    lambda: ops.conv2d_backward_kernel(X, X, (3, 3, 1, HUGE)),
    lambda: ops.conv2d_backward_kernel(X, X, None),
    lambda: ops.max_pool2d(X, 0), lambda: ops.max_pool2d(X, 9), lambda: ops.max_pool2d(X, 2, 0),
    lambda: ops.max_pool2d(X, HUGE, padding="same"),
    lambda: ops.max_pool2d(X, 50_000, padding="same", return_index=True),
    lambda: ops.max_pool2d_backward(POOLED, np.full_like(INDEX, 4), X.shape, 2),
    lambda: ops.max_pool2d_backward(POOLED, np.full_like(INDEX, -1), X.shape, 2),
    lambda: ops.max_pool2d_backward(POOLED, INDEX.astype(float), X.shape, 2),
    lambda: ops.max_pool2d_backward(POOLED, [[1], [1, 2]], X.shape, 2),
    lambda: ops.max_pool2d_backward(POOLED, np.full(INDEX.shape, 2**63, np.uint64), X.shape, 2),
    lambda: ops.softmax_cross_entropy(Y, np.full(10, 3)), lambda: ops.softmax_cross_entropy(Y, -IDS),
    lambda: ops.softmax_cross_entropy(Y, IDS[:9]), lambda: ops.softmax_cross_entropy(Y, Y * 0 + np.nan),
    lambda: ops.softmax_cross_entropy(Y, np.full((10, 3), np.inf)),
    lambda: ops.softmax_cross_entropy(Y, [[1], [1, 2]]), lambda: ops.softmax_cross_entropy(Y, "abc"),
])
def test_ops_refuse_what_cannot_be(call):
    assert_refused(call)


def test_max_pool2d_names_places_up_to_the_largest():
    y, index = ops.max_pool2d(X, (46_000, 46_000), 1, padding="same", return_index=True)
    np.testing.assert_array_equal(y, np.broadcast_to(X.max(axis=(1, 2), keepdims=True), X.shape))
    gradient = ops.max_pool2d_backward(np.ones_like(y), index, X.shape, (46_000, 46_000), 1, "same")
    np.testing.assert_array_equal(gradient, 64.0 * (y == X))


# --- everything else that takes a value ---


def test_predict_and_evaluate_refuse_what_cannot_be():
    model = classifier()
    for call in (lambda: model.predict(X[:0]), lambda: model.predict(None), lambda: model.predict(X[0]),
                 lambda: model.predict(X, batch_size=0), lambda: model.predict(X, steps=0),
                 lambda: model.predict([None]), lambda: model(X[0]), lambda: model.predict(X, callbacks=3),
                 lambda: model.evaluate(X, Y[:3]), lambda: model.evaluate(X), lambda: model.evaluate(X, Y, -1),
                 lambda: model.train_on_batch(X, Y[:1]), lambda: model.train_on_batch(X, Y, class_weight=3)):
        assert_refused(call)


@pytest.mark.parametrize("weights", [
    None, 3, [], [np.zeros(1)] * 4, [[[1], [1, 2]]] * 4, ["a"] * 4,
])
def test_set_weights_changes_nothing_where_one_does_not_fit(weights):
    model = classifier()
    before = model.get_weights()
    assert_refused(lambda: model.set_weights(weights))
    assert_refused(lambda: model.set_weights([before[0] + 1, before[1], before[2], np.zeros(4)]))
    assert_refused(lambda: model.layers[0].set_weights(weights))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_optimizers_change_nothing_where_one_weight_does_not_fit():
    model = classifier()
    model.train_on_batch(X, Y)
    saved = model.optimizer.get_weights()
    for wrong in (None, 3, saved[:-1], ["a", *saved[1:]], [-1, *saved[1:]], [*saved[:-1], np.full(3, "a")],
                  [0, *[array + 1 for array in saved[1:-1]], np.zeros(9)]):
        assert_refused(lambda wrong=wrong: model.optimizer.set_weights(wrong))
    for one, other in zip(saved, model.optimizer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_numbers_that_are_none_are_refused():
    model = classifier()
    for call in (lambda: model.get_layer(index="a"), lambda: model.get_layer(index=9),
                 lambda: tinyconv.set_num_threads(0), lambda: tinyconv.set_num_threads("2"),
                 lambda: optimizers.SGD(-1), lambda: optimizers.SGD(float("nan")),
                 lambda: optimizers.Adam(beta_1=1.0), lambda: tinyconv.utils.to_categorical([0, 5], 3),
                 lambda: tinyconv.utils.to_categorical([-1]), lambda: tinyconv.utils.set_random_seed(-1)):
        assert_refused(call)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_models_say_how_they_are_copied(duplicate):
    assert "save()" in assert_refused(lambda: duplicate(classifier()), TypeError)


def test_a_copied_layer_belongs_to_no_model():
    model = classifier()
    before = model.predict(X)
    layer = copy.deepcopy(model.layers[0])
    other = Sequential([layers.Input(shape=(8, 8, 1)), layer])
    expected = other.predict(X)
    layer.set_weights([2 * weight for weight in layer.get_weights()])
    np.testing.assert_allclose(other.predict(X), 2 * expected, rtol=1e-5)
    np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("error", [RuntimeError("stop"), SystemExit()])
def test_a_callback_that_raises_leaves_a_model_that_goes_on(error):
    class Raiser(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise error

    model = classifier()
    with pytest.raises(type(error)):
        model.fit(X, Y, batch_size=2, verbose=0, callbacks=[Raiser()])
    assert model.optimizer.iterations == 2
    fresh = classifier()
    fresh.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(X), fresh.predict(X))
    np.testing.assert_array_equal(model.predict(X[:1]), fresh.predict(X[:1]))
    model.fit(X, Y, verbose=0)
    assert model.optimizer.iterations == 3


def test_too_much_memory_is_said_so():
    with pytest.raises(MemoryError, match="Unable to allocate"):
        tinyconv.utils.to_categorical([2**45])


# --- masks ---


@pytest.mark.parametrize("call", [
    lambda array: classifier().fit(array(X), Y, verbose=0), lambda array: classifier().predict(array(X)),
    lambda array: classifier()(array(X)), lambda array: classifier().fit(X, array(Y), verbose=0),
    lambda array: classifier().fit(X, Y, sample_weight=array(np.ones(10)), verbose=0),
    lambda array: classifier().evaluate(X, Y, sample_weight=array(np.ones(10)), verbose=0),
    lambda array: classifier().layers[0].kernel.assign(array(np.ones((3, 3, 1, 2)))),
    lambda array: classifier().set_weights([array(weight) for weight in classifier().get_weights()]),
    lambda array: ops.conv2d(array(X), KERNEL), lambda array: ops.softmax_cross_entropy(Y, array(IDS)),
    lambda array: tinyconv.utils.to_categorical(array(IDS)), lambda array: classifier().predict([array(X)]),
    lambda array: classifier().predict(list(array(X))),
], ids=["fit", "predict", "call", "y", "sample_weight", "evaluate", "assign", "set_weights", "conv2d", "labels",
        "to_categorical", "list of it alone", "list of samples"])
def test_masked_values_are_not_computed_with(call):
    message = assert_refused(lambda: call(lambda array: np.ma.masked_array(array, np.arange(array.size) == 1)
                                          if array.ndim == 1 else np.ma.masked_greater(array, 0)), TypeError)
    assert "without a mask" in message
    call(np.ma.masked_array)  # none of them masked

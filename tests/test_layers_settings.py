"""Settings of layers that are changed when a model holds them: they count from then on, or are refused."""

from __future__ import annotations

import copy
import pickle
import sys
import threading

import numpy as np
import pytest

from tinyconv import Sequential, activations, constraints, initializers, layers, models, regularizers

X = np.random.default_rng(0).random((6, 8, 8, 1)).astype(np.float32)
IDS = np.arange(6) % 3


def network(**changed):
    """A model; with `changed` one whose layers were made with these settings: {"conv": {"padding": "same"}}."""
    def of(name, **settings):
        return {"name": name, **settings, **changed.get(name, {})}

    model = Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(2, 3, **of("conv", activation="relu")),
        layers.BatchNormalization(**of("norm", momentum=0.9)), layers.GaussianNoise(**of("noise", stddev=0.2)),
        layers.Dropout(**of("drop", rate=0.3)), layers.MaxPooling2D(**of("pool", pool_size=2, strides=2)),
        layers.GlobalAveragePooling2D(), layers.Dense(3, **of("dense", activation="softmax")),
    ], seed=4)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize(("layer", "setting", "value"), [
    ("conv", "activation", "tanh"), ("conv", "activation", activations.elu), ("conv", "padding", "same"),
    ("conv", "strides", 2), ("conv", "dilation_rate", (2, 2)), ("norm", "momentum", 0.0), ("norm", "epsilon", 0.5),
    ("noise", "stddev", 3.0), ("drop", "rate", 0.9), ("drop", "rate", 0), ("pool", "pool_size", 3),
    ("pool", "padding", "same"), ("dense", "activation", None),
])
def test_changed_setting_counts_as_if_the_layer_was_made_with_it(layer, setting, value):
    changed, made = network(), network(**{layer: {setting: value}})
    for model in (changed, made):
        model.set_weights(network().get_weights())
    changed.predict(X)  # with the settings of before
    changed.evaluate(X, IDS, verbose=0)
    setattr(changed.get_layer(layer), setting, value)
    assert changed.get_layer(layer).get_config() == made.get_layer(layer).get_config()
    assert changed.output_shape == made.output_shape
    np.testing.assert_array_equal(changed.predict(X), made.predict(X))
    histories = [model.fit(X, IDS, epochs=2, batch_size=4, verbose=0).history for model in (changed, made)]
    assert histories[0] == histories[1]
    for one, other in zip(changed.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_changed_setting_counts_in_every_model_that_holds_the_layer(tmp_path):
    whole = network()
    head = Sequential([layers.Input((2,)), whole.get_layer("dense")])
    x = X[:, :2, 0, 0]
    whole.predict(X), head.predict(x)
    head.layers[0].activation = activations.linear
    dense = whole.get_layer("dense")
    np.testing.assert_allclose(head.predict(x), x @ dense.kernel.numpy() + dense.bias.numpy(), rtol=1e-5)
    assert abs(whole.predict(X).sum(axis=1) - 1).max() > 1e-3
    whole.save(tmp_path / "model")
    np.testing.assert_array_equal(models.load_model(tmp_path / "model").predict(X), whole.predict(X))


@pytest.mark.parametrize(("layer", "setting", "value", "message"), [
    ("conv", "activation", "nope", "Unknown activation"), ("conv", "padding", "full", "padding"),
    ("conv", "strides", 0, "strides"), ("conv", "filters", 3, "another filters does not fit"),
    ("conv", "kernel_size", 5, "another kernel_size"), ("conv", "use_bias", False, "another use_bias"),
    ("drop", "rate", 2, "rate"), ("norm", "epsilon", 0, "epsilon"), ("dense", "units", 4, "another units"),
    ("pool", "pool_size", 9, "at most"), ("dense", "name", "conv", "a second layer 'conv'"),
    ("dense", "name", "a/b", "without '/'"), ("dense", "name", 3, "name"),
])
def test_setting_that_cannot_be_is_refused_and_changes_nothing(layer, setting, value, message):
    model = network()
    before, output, kept = model.get_config(), model.predict(X), getattr(model.get_layer(layer), setting)
    with pytest.raises(ValueError, match=message) as caught:
        setattr(model.get_layer(layer), setting, value)
    assert "Received: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert getattr(model.get_layer(layer), setting) == kept
    assert model.get_config() == before
    np.testing.assert_array_equal(model.predict(X), output)


def test_setting_that_a_later_layer_cannot_take_is_refused():
    model = Sequential([layers.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)], seed=1)
    before = model.predict(X)
    with pytest.raises(ValueError, match="Layer 'dense.*' has weights for inputs of shape"):
        model.layers[0].strides = 2
    assert model.layers[0].strides == (1, 1)
    np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize(("setting", "value"), [
    ("kernel_regularizer", "l2"), ("kernel_regularizer", None), ("bias_regularizer", regularizers.L1(0.3)),
    ("kernel_constraint", "non_neg"), ("kernel_constraint", constraints.MaxNorm(0.5)), ("bias_constraint", "unit_norm"),
], ids=str)
def test_rules_of_weights_count_as_if_the_layer_was_made_with_them(setting, value):
    rules = {"kernel_regularizer": regularizers.L1(0.1)}
    changed, made = network(dense=rules), network(dense={**rules, setting: value})
    changed.fit(X, IDS, verbose=0)
    made.set_weights(changed.get_weights())
    made.set_training_state(changed.get_training_state())
    setattr(changed.get_layer("dense"), setting, value)
    assert changed.losses == made.losses
    assert changed.get_layer("dense").get_config() == made.get_layer("dense").get_config()
    made.optimizer.batches = changed.optimizer.batches
    histories = [model.fit(X, IDS, epochs=2, verbose=0).history for model in (changed, made)]
    assert histories[0] == histories[1]
    for one, other in zip(changed.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_constraint_that_does_not_fit_is_refused_and_changes_nothing():
    model = network()
    layer = model.get_layer("dense")
    layer.kernel_constraint = "non_neg"
    with pytest.raises(ValueError, match="Layer 'dense', kernel: .*Received: ") as caught:
        layer.kernel_constraint = constraints.MaxNorm(1.0, axis=5)
    assert "\n" not in str(caught.value)
    assert isinstance(layer.kernel_constraint, constraints.NonNeg)
    assert layer.kernel.constraint is layer.kernel_constraint
    model.fit(X, IDS, verbose=0)


@pytest.mark.parametrize("value", ["no", None, 2, [True]], ids=str)
def test_trainable_of_a_layer_is_true_or_false(value):
    for layer in (layers.Dense(2), network().get_layer("dense")):
        with pytest.raises(ValueError, match="Expected trainable to be True or False. Received: trainable="):
            layer.trainable = value
        layer.trainable = np.False_
        assert layer.trainable is False


def test_weight_is_not_replaced_by_an_array():
    model = network()
    with pytest.raises(TypeError, match="kernel to be written by its method assign"):
        model.get_layer("dense").kernel = np.zeros((2, 3))
    with pytest.raises(TypeError, match="kernel to be written by its method assign"):
        model.get_layer("dense").kernel = model.get_layer("dense").bias


def test_layer_takes_another_name_in_its_model(tmp_path):
    model = network()
    model.fit(X, IDS, verbose=0)
    model.get_layer("norm").name = "other"
    model.get_layer("other").trainable = False
    model.fit(X, IDS, verbose=0)
    model.save_weights(tmp_path / "weights.npz")
    assert {"other/gamma", "conv/kernel"} <= set(np.load(tmp_path / "weights.npz").files)


def test_settings_of_layers_of_ones_own_count_too():
    class Mine(layers.Dense):
        def __init__(self, units, table):
            super().__init__(units, activation="relu")
            self.table = table

    model = Sequential([layers.Input((2,)), Mine(3, {})], seed=1)
    x = X[:, :2, 0, 0]
    model.predict(x)
    model.layers[0].activation = activations.linear
    model.layers[0].table = {"a": 1}
    np.testing.assert_allclose(model.predict(x), x @ model.get_weights()[0], rtol=1e-5, atol=1e-6)


def test_properties_of_a_layer_in_a_model_are_still_properties():
    class Mine(layers.Dense):
        @property
        def doubled(self):
            return self._doubled

        @doubled.setter
        def doubled(self, value):
            self._doubled = 2 * value

    model = Sequential([layers.Input((2,)), Mine(3)])
    layer = model.layers[0]
    layer.doubled = 4
    assert layer.doubled == 8
    for name in ("input_shape", "output_shape", "output", "losses", "trainable_weights"):
        with pytest.raises(AttributeError):
            setattr(layer, name, (5,))


def test_layer_whose_models_are_gone_keeps_its_shapes():
    layer = layers.Conv2D(2, 3)
    Sequential([layers.Input((8, 8, 1)), layer])
    layer.padding = "same"
    assert (layer.input_shape, layer.output_shape) == ((8, 8, 1), (8, 8, 2))
    dense = layers.Dense(3)
    dense(X[:, :2, 0, 0])
    dense.activation = "relu"
    assert dense.output_shape == (3,)
    assert dense(X[:, :2, 0, 0]).min() >= 0


def test_layer_with_an_initializer_of_ones_own_takes_settings():
    class Halves(initializers.Initializer):
        def __call__(self, shape, dtype=None, seed=None):
            return np.full(shape, 0.5, np.float32)

    halves = Halves()
    layer = layers.Dense(3, kernel_initializer=halves)
    model = Sequential([layers.Input((2,)), layer])
    layer.activation = "relu"
    assert layer.kernel_initializer is halves
    assert layer.activation is activations.relu
    np.testing.assert_allclose(model.predict(X[:, :2, 0, 0]), np.repeat(X[:, :2, 0].sum(axis=1) / 2, 3, axis=1),
                               rtol=1e-6)


def test_setting_is_put_back_whatever_a_layer_of_ones_own_raises():
    class Mine(layers.Dense):
        table = None

        def compute_output_shape(self, input_shape):
            return (len(self.table),)

    layer = Mine(3)
    layer.table = "abc"
    model = Sequential([layers.Input((2,)), layer])
    before = model.predict(X[:, :2, 0, 0])
    with pytest.raises(TypeError):
        layer.table = 4
    assert layer.table == "abc"
    np.testing.assert_array_equal(model.predict(X[:, :2, 0, 0]), before)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
                         ids=["copy", "deepcopy", "pickle"])
def test_copies_of_a_layer_have_weights_of_their_own(duplicate):
    model, x = network(), X[:, :2, 0, 0]
    before = model.predict(X)
    other = duplicate(model.get_layer("dense"))
    twin = Sequential([layers.Input((2,)), other])
    expected = twin.predict(x)
    other.set_weights([np.zeros_like(weight) for weight in other.get_weights()])
    other.activation = "linear"
    assert not twin.predict(x).any() and expected.any()
    assert other.kernel is other.weights[0]
    np.testing.assert_array_equal(model.predict(X), before)
    assert model.get_layer("dense").activation is activations.softmax


def test_layer_that_is_called_gives_no_model_its_number():
    first = Sequential().name
    layers.Dense(2)(X[:, :2, 0, 0])
    second = Sequential().name
    number = [int(name.partition("_")[2] or 0) for name in (first, second)]
    assert number[1] == number[0] + 1


def test_threads_may_call_a_layer_and_write_its_weights():
    layer, x, errors, done = layers.Dense(3), X[:, :2, 0, 0], [], threading.Event()
    model = Sequential([layers.Input((2,)), layer], seed=1)

    def repeat(action):
        try:
            while not done.is_set():
                action()
        except Exception as error:  # noqa: BLE001 - to be looked at by the test
            errors.append(error)

    def change():
        layer.kernel.assign(np.ones((2, 3)))
        layer.activation = "relu"
        assert layer.output_shape == (3,)

    threads = [threading.Thread(target=repeat, args=(action,)) for action in
               (lambda: layer(x), lambda: layer(x), change, lambda: model.predict(x, verbose=0))]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        done.wait(0.5)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not errors

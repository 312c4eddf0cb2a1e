"""The contract that every layer keeps; its cases are in layer_cases.py.

CASES has an entry or more for every class: a test fails where one is missing.
"""

from __future__ import annotations

import inspect
import json

import layer_cases
import numpy as np
import pytest
from layer_cases import CASES, build, each_case, lower, run

from tinyconv import Sequential, initializers, layers, utils
from tinyconv.engine.program import as_image_shape

fresh_names = layer_cases.fresh_names  # a fixture


# --- the contract ---

def test_every_layer_class_has_a_case():
    classes = {
        cls.__name__
        for _, cls in inspect.getmembers(layers, inspect.isclass)
        if issubclass(cls, layers.Layer) and cls is not layers.Layer
    }
    assert {name for name, *_ in CASES} == classes


@each_case
def test_layer_shapes_agree(name, arguments, input_shape, output_shape, parameters):
    layer = layers.get(name)(**arguments)
    assert not layer.built
    for attribute in ("input_shape", "output_shape", "input", "output"):
        with pytest.raises(AttributeError, match="no shapes yet: it was never built"):
            getattr(layer, attribute)
    assert layer.compute_output_shape(input_shape) == output_shape
    program = lower(layer, input_shape=input_shape)
    assert layer.built and (layer.input_shape, layer.output_shape) == (input_shape, output_shape)
    assert program.output_shape == as_image_shape(output_shape)
    for op in program.ops:
        assert op.layer == layer.name


@each_case
def test_layer_counts_its_parameters(name, arguments, input_shape, output_shape, parameters):
    layer = layers.get(name)(**arguments)
    with pytest.raises(ValueError, match="no weights yet"):
        layer.count_params()
    expected = layer.weight_shapes(input_shape)
    program = lower(layer, input_shape=input_shape)
    assert layer.count_params() == parameters
    assert {weight.name: weight.shape for weight in layer.weights} == expected
    fixed = [weight for weight in layer.weights
             if weight.name in ("moving_mean", "moving_variance", "mean", "variance", "count")]
    assert layer.non_trainable_weights == fixed
    assert layer.trainable_weights == [weight for weight in layer.weights if weight not in fixed]
    assert all(
        np.shares_memory(array, weight.value)
        for array, weight in zip(program.weights, layer.weights, strict=False)
    )
    # Behind them are constants alone.
    assert len(program.weights) >= len(layer.weights) and not any(program.trainable[len(layer.weights):])


@each_case
def test_layer_config_round_trip(name, arguments, input_shape, output_shape, parameters):
    for extra in ({}, {"name": "mine", "trainable": False, "batch_input_shape": (None, *input_shape)}):
        if name == "InputLayer":
            extra = {"name": extra.get("name")}
        layer = layers.get(name)(**arguments, **extra)
        config = json.loads(json.dumps(layers.serialize(layer)))
        again = layers.deserialize(config)
        assert type(again) is type(layer)
        assert json.loads(json.dumps(layers.serialize(again))) == config
        assert (again.name, again.trainable, again.batch_input_shape) == (
            layer.name,
            layer.trainable,
            layer.batch_input_shape,
        )
        assert again.compute_output_shape(input_shape) == output_shape


@each_case
def test_layer_config_of_another_writer(name, arguments, input_shape, output_shape, parameters):
    layer = layers.get(name)(**arguments)
    config = {
        **layer.get_config(),
        "dtype": {"class_name": "DTypePolicy", "config": {"name": "float32"}},
        "quantization_config": None,
        "some_new_setting": None,
    }
    if name == "InputLayer":
        config.update(dtype="float32", sparse=False, ragged=False)
    wrapped = {
        "module": "keras.layers",
        "class_name": name,
        "config": config,
        "registered_name": None,
        "build_config": {"input_shape": [None, *input_shape]},
    }
    assert layers.deserialize(wrapped).get_config() == layer.get_config()
    if name != "InputLayer":
        with pytest.raises(ValueError, match=f"{name} has no such setting. Received: evil='x'"):
            layers.deserialize({"class_name": name, "config": {**config, "evil": "x"}})


@each_case
def test_layer_names_count_up(name, arguments, input_shape, output_shape, parameters):
    prefix = utils.to_snake_case(name)
    names = [layers.get(name)(**arguments).name for _ in range(3)]
    assert names == [prefix, f"{prefix}_1", f"{prefix}_2"]
    assert layers.get(name)(**arguments, name="mine").name == "mine"


@each_case
def test_layer_initial_weights_follow_from_the_seed(name, arguments, input_shape, output_shape, parameters):
    first, again, other = (build(layers.get(name)(**arguments), input_shape, seed) for seed in (1, 1, 2))
    for a, b, c in zip(first.weights, again.weights, other.weights, strict=True):
        assert a.value.dtype == np.float32 and a.value.flags.c_contiguous
        np.testing.assert_array_equal(a.value, b.value)
        if isinstance(a.initializer, initializers.RandomInitializer):
            assert not np.array_equal(a.value, c.value)


@each_case
def test_layer_sets_weights_in_place(name, arguments, input_shape, output_shape, parameters):
    layer = build(layers.get(name)(**arguments), input_shape)
    calls = []
    layer._on_change = lambda: calls.append(layer.name)
    arrays = [weight.value for weight in layer.weights]
    values = [np.full(array.shape, 2.5) for array in arrays]
    layer.set_weights(values)
    assert calls == [layer.name]
    assert all(
        weight.value is array and (array == 2.5).all()
        for weight, array in zip(layer.weights, arrays, strict=True)
    )
    copies = layer.get_weights()
    for copy in copies:
        copy[...] = 0
    assert all((array == 2.5).all() for array in arrays)
    with pytest.raises(ValueError, match=f"'{layer.name}' expected {len(arrays)} weight arrays. Received: "):
        layer.set_weights([*values, np.zeros(1)])


@each_case
def test_layer_rebuilds_for_the_same_weights(name, arguments, input_shape, output_shape, parameters):
    layer = build(layers.get(name)(**arguments), input_shape)
    before = [weight.value for weight in layer.weights]
    layer.build(list(input_shape))
    assert all(weight.value is array for weight, array in zip(layer.weights, before, strict=True))
    assert layer.input_shape == input_shape


@each_case
def test_layer_frozen_trains_nothing(name, arguments, input_shape, output_shape, parameters):
    layer = layers.get(name)(**arguments)
    layer.trainable = False
    program = lower(layer, input_shape=input_shape)
    assert not any(program.trainable)
    assert layer.trainable_weights == [] and layer.non_trainable_weights == layer.weights


@each_case
def test_layer_refuses_bad_common_arguments(name, arguments, input_shape, output_shape, parameters):
    cls = layers.get(name)
    with pytest.raises(TypeError, match=f"{name} got an unexpected argument. Received: colour='red'"):
        cls(**arguments, colour="red")
    for bad in ("", "a/b", 3):
        with pytest.raises(ValueError, match="name.*Received: name="):
            cls(**arguments, name=bad)
    with pytest.raises(ValueError, match="trainable.*Received: trainable='no'"):
        cls(**arguments, trainable="no")
    with pytest.raises(TypeError, match="called with arrays; a network is a Sequential.*Received: a call of"):
        cls(**arguments)(layers.Input(input_shape))
    layer = cls(**arguments)
    with pytest.raises(AttributeError, match="no shapes yet"):
        _ = layer.output
    for shape in ((), (0, 2, 2), (4, None, 4), (None,), (None, None, 4), (2, 2, 2, 2), "abc", 5):
        with pytest.raises(ValueError, match="input_shape.*Received"):
            layer.build(shape)
    assert not layer.built


@each_case
def test_layer_runs(name, arguments, input_shape, output_shape, parameters):
    x = np.random.default_rng(0).random((3, *input_shape), np.float32)
    y = run(layers.get(name)(**arguments), x=x)
    assert y.shape == (3, *output_shape) and y.dtype == np.float32 and np.isfinite(y).all()


@pytest.mark.parametrize("name, arguments, input_shape, output_shape, parameters",
                         [case for case in CASES if case[0] != "InputLayer"][::4])
def test_layer_is_called_on_arrays(name, arguments, input_shape, output_shape, parameters):
    x = np.random.default_rng(0).random((3, *input_shape), np.float32)
    layer = layers.get(name)(**arguments)
    layer.build((None, *input_shape))
    assert (layer.input.shape, layer.output.shape) == ((None, *input_shape), (None, *output_shape))
    assert layer.output.dtype == layer.dtype == "float32"
    y = layer(x, training=False)
    np.testing.assert_array_equal(y, run(layer, x=x))
    np.testing.assert_array_equal(y, layer(x.tolist(), training=False))
    assert layer.count_params() == parameters


def test_layers_draw_in_calls_as_in_keras():
    """Augmentation draws unless it is told not to, noise only where it is told to."""
    x = np.random.default_rng(0).random((40, 8, 8, 1), np.float32)
    flip, drop = layers.RandomFlip(), layers.Dropout(0.5)
    assert not np.array_equal(flip(x), x) and not np.array_equal(flip(x), flip(x))
    np.testing.assert_array_equal(flip(x, training=False), x)
    for levels in (layers.RandomBrightness(0.3, (0, 1)), layers.RandomContrast(0.9, (0, 1))):
        assert not np.array_equal(levels(x), x) and not np.array_equal(levels(x), levels(x))
        assert levels(x).min() >= 0 and levels(x).max() <= 1
    np.testing.assert_array_equal(drop(x), x)
    assert not np.array_equal(drop(x, training=True), x)
    augmentation = Sequential([layers.Rescaling(2.0), layers.RandomFlip(),
                               layers.Normalization(mean=0.0, variance=1.0)])
    assert not np.array_equal(augmentation(x), 2 * x)
    np.testing.assert_array_equal(augmentation.predict(x), 2 * x)
    np.testing.assert_array_equal(augmentation.predict_on_batch(x), 2 * x)
    for other in (layers.Dropout(0.5), layers.BatchNormalization()):
        mixed = Sequential([layers.RandomFlip(), other])
        np.testing.assert_array_equal(mixed(x), mixed(x, training=False))


def test_penalties_of_layers_are_their_losses():
    model = Sequential([layers.Dense(2, kernel_regularizer="l2", bias_regularizer="l1", bias_initializer="ones",
                                     kernel_initializer="ones", input_shape=(3,)), layers.Dense(1)])
    assert model.losses == pytest.approx([0.06, 0.02])
    model.layers[0].trainable = False
    assert model.losses == []


# --- configs of other writers ---

def test_deserialize_reads_a_keras_2_config():
    config = {
        "class_name": "Conv2D",
        "config": {
            "name": "conv2d_7",
            "trainable": True,
            "batch_input_shape": [None, 28, 28, 1],
            "dtype": "float32",
            "filters": 32,
            "kernel_size": [3, 3],
            "strides": [1, 1],
            "padding": "valid",
            "data_format": "channels_last",
            "dilation_rate": [1, 1],
            "activation": "relu",
            "use_bias": True,
            "kernel_initializer": {
                "class_name": "VarianceScaling",
                "config": {"scale": 1.0, "mode": "fan_in", "distribution": "normal", "seed": None},
            },
            "bias_initializer": {"class_name": "Zeros", "config": {"dtype": "float32"}},
            "kernel_regularizer": None,
            "bias_regularizer": None,
            "activity_regularizer": None,
            "kernel_constraint": None,
            "bias_constraint": None,
        },
    }
    conv = layers.deserialize(config)
    assert (conv.name, conv.filters, conv.batch_input_shape) == ("conv2d_7", 32, (None, 28, 28, 1))
    assert conv.kernel_initializer == initializers.VarianceScaling()
    pool = layers.deserialize(
        {
            "class_name": "MaxPooling2D",
            "config": {
                "pool_size": [2, 2],
                "padding": "valid",
                "strides": [2, 2],
                "data_format": "channels_last",
                "name": "max_pooling2d_MaxPooling2D1",
                "trainable": True,
            },
        }
    )
    assert pool.pool_size == (2, 2)


def test_deserialize_leaves_an_activity_regularizer_out_with_a_warning():
    config = layers.serialize(layers.Dense(3, name="d"))
    config["config"]["activity_regularizer"] = {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.001}}
    with pytest.warns(UserWarning, match="Dense 'd': activity_regularizer is not supported"):
        assert layers.deserialize(config).units == 3


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "Lambda", "config": {"function": "os.system"}},
        {"class_name": "Layer", "config": {}},
        {"class_name": "Weight", "config": {}},
        {"class_name": "os.system", "config": {}},
        {"class_name": None},
        {"class_name": ["Dense"], "config": {}},
        {"config": {}},
        {"class_name": "Dense", "config": {}},
        {"class_name": "Dense", "config": []},
        {"class_name": "Dense", "config": {"units": "x"}},
        {"class_name": "Dense", "config": {"units": 3, "kwargs": {}}},
        [],
        None,
        "Dense",
    ],
    ids=str,
)
def test_deserialize_refuses(config):
    with pytest.raises(ValueError, match="Received: ") as caught:
        layers.deserialize(config)
    assert "\n" not in str(caught.value)

"""The contract that every layer keeps, then what is particular to each.

CASES has an entry or more for every class: a test fails where one is missing.
"""

from __future__ import annotations

import inspect
import json
import tracemalloc

import numpy as np
import pytest

from tinyconv import Sequential, activations, initializers, layers, maps, utils
from tinyconv.engine import Executor
from tinyconv.engine.program import Program, ProgramBuilder, as_image_shape

# (class name, arguments, input shape, output shape, number of parameters)
CASES = [
    ("Conv2D", {"filters": 8, "kernel_size": 5}, (28, 28, 1), (24, 24, 8), 208),
    (
        "Conv2D",
        {"filters": 16, "kernel_size": (3, 2), "strides": (2, 3), "padding": "same", "activation": "relu"},
        (7, 8, 3),
        (4, 3, 16),
        304,
    ),
    (
        "Conv2D",
        {"filters": 4, "kernel_size": 3, "dilation_rate": (2, 1), "use_bias": False, "activation": "softmax"},
        (9, 6, 2),
        (5, 4, 4),
        72,
    ),
    (
        "Conv2D",
        {"filters": 2, "kernel_size": 1, "kernel_initializer": "he_normal", "bias_initializer": "ones"},
        (1, 1, 5),
        (1, 1, 2),
        12,
    ),
    ("BatchNormalization", {}, (5, 4, 3), (5, 4, 3), 12),
    ("BatchNormalization", {"axis": 1, "momentum": 0.9, "epsilon": 1e-5, "scale": False}, (7,), (7,), 21),
    ("BatchNormalization", {"center": False, "gamma_initializer": "random_normal"}, (4, 3), (4, 3), 9),
    ("Conv2D", {"filters": 6, "kernel_size": 3, "groups": 2}, (5, 4, 4), (3, 2, 6), 114),
    (
        "Conv2D",
        {"filters": 4, "kernel_size": 2, "data_format": "channels_first", "activation": "softmax"},
        (3, 5, 4),
        (4, 4, 3),
        52,
    ),
    ("Conv1D", {"filters": 4, "kernel_size": 3}, (9, 2), (7, 4), 28),
    ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}, (9, 2), (9, 4), 28),
    ("Conv1D", {"filters": 4, "kernel_size": [3], "groups": 2, "strides": 2, "padding": "same"}, (9, 2), (5, 4), 16),
    ("Conv1D", {"filters": 4, "kernel_size": 3, "data_format": "channels_first"}, (2, 9), (4, 7), 28),
    ("DepthwiseConv2D", {"kernel_size": 3}, (5, 4, 3), (3, 2, 3), 30),
    (
        "DepthwiseConv2D",
        {"kernel_size": (2, 3), "depth_multiplier": 2, "strides": 2, "padding": "same", "activation": "relu"},
        (5, 4, 3),
        (3, 2, 6),
        42,
    ),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2, "use_bias": False}, (9, 2), (7, 4), 12),
    ("SeparableConv2D", {"filters": 5, "kernel_size": 3, "depth_multiplier": 2}, (5, 4, 3), (3, 2, 5), 89),
    (
        "SeparableConv2D",
        {"filters": 5, "kernel_size": 3, "use_bias": False, "padding": "same", "data_format": "channels_first"},
        (3, 5, 4),
        (5, 5, 4),
        42,
    ),
    ("SeparableConv1D", {"filters": 5, "kernel_size": 3, "dilation_rate": 2}, (9, 2), (5, 5), 21),
    ("Conv2DTranspose", {"filters": 4, "kernel_size": 3}, (5, 4, 2), (7, 6, 4), 76),
    (
        "Conv2DTranspose",
        {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        (5, 4, 2),
        (10, 8, 4),
        76,
    ),
    (
        "Conv2DTranspose",
        {"filters": 4, "kernel_size": (3, 2), "strides": (2, 3), "output_padding": (0, 2), "padding": "same"},
        (5, 4, 2),
        (9, 11, 4),
        52,
    ),
    ("Conv1DTranspose", {"filters": 4, "kernel_size": 2, "strides": 3, "use_bias": False}, (5, 2), (15, 4), 16),
    ("MaxPooling2D", {}, (5, 4, 3), (2, 2, 3), 0),
    ("MaxPooling2D", {"data_format": "channels_first"}, (3, 5, 4), (3, 2, 2), 0),
    ("MaxPooling1D", {}, (5, 3), (2, 3), 0),
    ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}, (5, 3), (3, 3), 0),
    ("AveragePooling1D", {"pool_size": [2], "strides": 1}, (5, 3), (4, 3), 0),
    ("AveragePooling1D", {"data_format": "channels_first"}, (3, 5), (3, 2), 0),
    ("GlobalMaxPooling1D", {}, (5, 3), (3,), 0),
    ("GlobalMaxPooling1D", {"keepdims": True}, (5, 3), (1, 3), 0),
    ("GlobalAveragePooling1D", {}, (5, 3), (3,), 0),
    ("GlobalAveragePooling1D", {"keepdims": True, "data_format": "channels_first"}, (3, 5), (3, 1), 0),
    ("GlobalMaxPooling2D", {"keepdims": True, "data_format": "channels_first"}, (3, 5, 4), (3, 1, 1), 0),
    ("Flatten", {"data_format": "channels_first"}, (3, 5, 4), (60,), 0),
    ("MaxPooling2D", {"pool_size": (3, 2), "strides": 1, "padding": "same"}, (5, 4, 3), (5, 4, 3), 0),
    ("AveragePooling2D", {"pool_size": 3, "strides": (1, 2)}, (5, 4, 3), (3, 1, 3), 0),
    ("AveragePooling2D", {"padding": "same"}, (5, 4, 3), (3, 2, 3), 0),
    ("GlobalMaxPooling2D", {}, (5, 4, 3), (3,), 0),
    ("GlobalMaxPooling2D", {"keepdims": True}, (5, 4, 3), (1, 1, 3), 0),
    ("GlobalAveragePooling2D", {}, (5, 4, 3), (3,), 0),
    ("GlobalAveragePooling2D", {"keepdims": True}, (5, 4, 3), (1, 1, 3), 0),
    ("Flatten", {}, (4, 4, 16), (256,), 0),
    ("Flatten", {}, (5,), (5,), 0),
    ("Dense", {"units": 10, "activation": "softmax"}, (256,), (10,), 2570),
    ("Dense", {"units": 3, "use_bias": False}, (4, 5, 6), (4, 5, 3), 18),
    ("Dense", {"units": 3}, (5, 6), (5, 3), 21),
    ("Dropout", {"rate": 0.25}, (4, 4, 2), (4, 4, 2), 0),
    ("Dropout", {"rate": 0, "seed": 3}, (7,), (7,), 0),
    ("Activation", {"activation": "tanh"}, (4, 4, 2), (4, 4, 2), 0),
    ("Activation", {"activation": "linear"}, (6,), (6,), 0),
    ("ReLU", {}, (6,), (6,), 0),
    ("ReLU", {"max_value": 6.0, "negative_slope": 0.1, "threshold": 0.5}, (4, 4, 2), (4, 4, 2), 0),
    ("LeakyReLU", {"negative_slope": 0.1}, (6,), (6,), 0),
    ("ELU", {"alpha": 0.5}, (6,), (6,), 0),
    ("PReLU", {}, (4, 5, 3), (4, 5, 3), 60),
    ("PReLU", {"shared_axes": [1, 2], "alpha_initializer": "random_normal"}, (4, 5, 3), (4, 5, 3), 3),
    ("PReLU", {"shared_axes": 2, "alpha_regularizer": "l2", "alpha_constraint": "non_neg"}, (5, 3), (5, 3), 5),
    ("PReLU", {"shared_axes": [1]}, (7,), (7,), 1),
    ("Normalization", {}, (4, 5, 3), (4, 5, 3), 7),
    ("Normalization", {"axis": (1, -1), "invert": True}, (4, 5, 3), (4, 5, 3), 25),
    ("Normalization", {"axis": None}, (7,), (7,), 3),
    ("Normalization", {"axis": None, "mean": 0.5, "variance": 4.0}, (4, 5), (4, 5), 0),
    ("Normalization", {"mean": [0.5, 1, 2], "variance": (1, 0, 2)}, (4, 5, 3), (4, 5, 3), 0),
    ("Softmax", {}, (3, 4), (3, 4), 0),
    ("Softmax", {"axis": 1}, (3, 4, 2), (3, 4, 2), 0),
    ("Softmax", {"axis": [1, -1]}, (3, 4, 2), (3, 4, 2), 0),
    ("Softmax", {"axis": [1, 2, 3]}, (3, 4, 2), (3, 4, 2), 0),
    ("BatchNormalization", {"axis": 1}, (3, 4, 2), (3, 4, 2), 12),
    ("BatchNormalization", {"axis": -2, "scale": False}, (3, 4, 2), (3, 4, 2), 12),
    ("Dropout", {"rate": 0.5, "noise_shape": [None, 1, None, 3]}, (4, 5, 3), (4, 5, 3), 0),
    ("SpatialDropout2D", {"rate": 0.25}, (4, 4, 2), (4, 4, 2), 0),
    ("SpatialDropout2D", {"rate": 0.25, "data_format": "channels_first", "seed": 4}, (2, 4, 4), (2, 4, 4), 0),
    ("SpatialDropout1D", {"rate": 0.5}, (4, 2), (4, 2), 0),
    ("GaussianNoise", {"stddev": 2.0}, (4, 4, 2), (4, 4, 2), 0),
    ("GaussianDropout", {"rate": 0.5, "seed": 1}, (4, 2), (4, 2), 0),
    ("AlphaDropout", {"rate": 0.5}, (7,), (7,), 0),
    ("Rescaling", {"scale": 1 / 255, "offset": -0.5}, (4, 4, 1), (4, 4, 1), 0),
    ("Reshape", {"target_shape": (28, -1, 1)}, (784,), (28, 28, 1), 0),
    ("Reshape", {"target_shape": (16,)}, (2, 8), (16,), 0),
    ("ZeroPadding2D", {}, (4, 5, 3), (6, 7, 3), 0),
    ("ZeroPadding2D", {"padding": ((1, 0), (2, 3))}, (4, 5, 3), (5, 10, 3), 0),
    ("ZeroPadding2D", {"padding": (0, 2), "data_format": "channels_first"}, (3, 4, 5), (3, 4, 9), 0),
    ("ZeroPadding1D", {"padding": (2, 0)}, (4, 3), (6, 3), 0),
    ("ZeroPadding1D", {"data_format": "channels_first"}, (3, 4), (3, 6), 0),
    ("Cropping2D", {"cropping": ((1, 0), (2, 1))}, (4, 5, 3), (3, 2, 3), 0),
    ("Cropping2D", {"cropping": 1, "data_format": "channels_first"}, (2, 4, 5), (2, 2, 3), 0),
    ("Cropping1D", {"cropping": (0, 2)}, (4, 3), (2, 3), 0),
    ("UpSampling2D", {}, (4, 5, 3), (8, 10, 3), 0),
    ("UpSampling2D", {"size": (3, 1), "interpolation": "bilinear"}, (4, 5, 3), (12, 5, 3), 0),
    ("UpSampling1D", {"size": 3}, (4, 3), (12, 3), 0),
    ("Resizing", {"height": 7, "width": 3}, (4, 5, 3), (7, 3, 3), 0),
    ("Resizing", {"height": 2, "width": 2, "interpolation": "bicubic", "antialias": True, "crop_to_aspect_ratio": True},
     (4, 5, 3), (2, 2, 3), 0),
    ("CenterCrop", {"height": 3, "width": 2}, (4, 5, 3), (3, 2, 3), 0),
    ("CenterCrop", {"height": 6, "width": 2, "data_format": "channels_first"}, (3, 4, 5), (3, 6, 2), 0),
    ("Permute", {"dims": (3, 1, 2)}, (4, 5, 3), (3, 4, 5), 0),
    ("Permute", {"dims": (1, 2)}, (4, 5), (4, 5), 0),
    ("RepeatVector", {"n": 4}, (3,), (4, 3), 0),
    ("RandomFlip", {}, (4, 5, 3), (4, 5, 3), 0),
    ("RandomFlip", {"mode": "vertical", "seed": 1, "data_format": "channels_first"}, (3, 4, 5), (3, 4, 5), 0),
    ("RandomTranslation", {"height_factor": 0.2, "width_factor": (-0.1, 0.3)}, (4, 5, 3), (4, 5, 3), 0),
    ("RandomRotation", {"factor": 0.1, "fill_mode": "constant", "fill_value": 1.0}, (4, 5, 3), (4, 5, 3), 0),
    ("RandomZoom", {"height_factor": (-0.2, 0.3), "interpolation": "nearest"}, (4, 5, 3), (4, 5, 3), 0),
    ("InputLayer", {"shape": (28, 28, 1)}, (28, 28, 1), (28, 28, 1), 0),
]
IDS = [
    f"{name}-{'-'.join(f'{key}={value}' for key, value in arguments.items())}-{shape}"
    for name, arguments, shape, *_ in CASES
]
each_case = pytest.mark.parametrize("name, arguments, input_shape, output_shape, parameters", CASES, ids=IDS)


@pytest.fixture(autouse=True)
def _fresh_names(monkeypatch):
    monkeypatch.setattr(utils, "_name_counts", {})


def _build(layer, input_shape, seed=1):
    layer._seed = seed
    layer.build(input_shape)
    return layer


def _lower(*stack, input_shape, seed=0) -> Program:
    builder = ProgramBuilder(as_image_shape(input_shape), seed)
    for layer in stack:
        _build(layer, input_shape)
        layer.lower(builder)
        assert builder.shape == as_image_shape(layer.output_shape)
        input_shape = layer.output_shape
    return builder.build()


def _run(*stack, x) -> np.ndarray:
    x = np.ascontiguousarray(x, np.float32)
    y = Executor(_lower(*stack, input_shape=x.shape[1:])).predict(x)
    return y.reshape(len(x), *stack[-1].output_shape)


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
    assert layer.input_shape is None and layer.output_shape is None and not layer.built
    assert layer.compute_output_shape(input_shape) == output_shape
    program = _lower(layer, input_shape=input_shape)
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
    program = _lower(layer, input_shape=input_shape)
    assert layer.count_params() == parameters
    assert {weight.name: weight.shape for weight in layer.weights} == expected
    fixed = [weight for weight in layer.weights if weight.name in ("moving_mean", "moving_variance", "mean", "variance", "count")]
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
    first, again, other = (_build(layers.get(name)(**arguments), input_shape, seed) for seed in (1, 1, 2))
    for a, b, c in zip(first.weights, again.weights, other.weights, strict=True):
        assert a.value.dtype == np.float32 and a.value.flags.c_contiguous
        np.testing.assert_array_equal(a.value, b.value)
        if isinstance(a.initializer, initializers.RandomInitializer):
            assert not np.array_equal(a.value, c.value)


@each_case
def test_layer_sets_weights_in_place(name, arguments, input_shape, output_shape, parameters):
    layer = _build(layers.get(name)(**arguments), input_shape)
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
    layer = _build(layers.get(name)(**arguments), input_shape)
    before = [weight.value for weight in layer.weights]
    layer.build(list(input_shape))
    assert all(weight.value is array for weight, array in zip(layer.weights, before, strict=True))
    assert layer.input_shape == input_shape


@each_case
def test_layer_frozen_trains_nothing(name, arguments, input_shape, output_shape, parameters):
    layer = layers.get(name)(**arguments)
    layer.trainable = False
    program = _lower(layer, input_shape=input_shape)
    assert not any(program.trainable)
    assert layer.trainable_weights == [] and layer.non_trainable_weights == layer.weights


@each_case
def test_layer_refuses_bad_common_arguments(name, arguments, input_shape, output_shape, parameters):
    cls = layers.get(name)
    with pytest.raises(TypeError, match=f"{name} got an unexpected argument. Received: colour='red'"):
        cls(**arguments, colour="red")
    for bad in ("", "a/b", 3):
        with pytest.raises(ValueError, match="`name`.*Received: name="):
            cls(**arguments, name=bad)
    with pytest.raises(ValueError, match="`trainable`.*Received: trainable='no'"):
        cls(**arguments, trainable="no")
    with pytest.raises(TypeError, match="called with arrays; a network is a Sequential.*Received: a call of"):
        cls(**arguments)(layers.Input(input_shape))
    layer = cls(**arguments)
    with pytest.raises(AttributeError, match="no shapes yet"):
        _ = layer.output
    for shape in ((), (0, 2, 2), (4, None, 4), (None,), (None, None, 4), (2, 2, 2, 2), "abc", 5):
        with pytest.raises(ValueError, match="`input_shape`.*Received"):
            layer.build(shape)
    assert not layer.built


@each_case
def test_layer_runs(name, arguments, input_shape, output_shape, parameters):
    x = np.random.default_rng(0).random((3, *input_shape), np.float32)
    y = _run(layers.get(name)(**arguments), x=x)
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
    np.testing.assert_array_equal(y, _run(layer, x=x))
    np.testing.assert_array_equal(y, layer(x.tolist(), training=False))
    assert layer.count_params() == parameters


def test_layers_draw_in_calls_as_in_keras():
    """Augmentation draws unless it is told not to, noise only where it is told to."""
    x = np.random.default_rng(0).random((40, 8, 8, 1), np.float32)
    flip, drop = layers.RandomFlip(), layers.Dropout(0.5)
    assert not np.array_equal(flip(x), x) and not np.array_equal(flip(x), flip(x))
    np.testing.assert_array_equal(flip(x, training=False), x)
    np.testing.assert_array_equal(drop(x), x)
    assert not np.array_equal(drop(x, training=True), x)
    augmentation = Sequential([layers.Rescaling(2.0), layers.RandomFlip(), layers.Normalization(mean=0.0, variance=1.0)])
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


# --- construction as in Keras ---


def test_positional_arguments_are_in_keras_order():
    conv = layers.Conv2D(
        8, (3, 2), (2, 1), "same", "channels_last", (1, 2), 1, "relu", False, "zeros", "ones"
    )
    assert (conv.filters, conv.kernel_size, conv.strides, conv.padding) == (8, (3, 2), (2, 1), "same")
    assert (conv.dilation_rate, conv.groups, conv.activation, conv.use_bias) == (
        (1, 2),
        1,
        activations.relu,
        False,
    )
    assert conv.kernel_initializer == initializers.Zeros() and conv.bias_initializer == initializers.Ones()
    dense = layers.Dense(4, "relu", False, "ones")
    assert (dense.units, dense.activation, dense.use_bias) == (4, activations.relu, False)
    pool = layers.MaxPooling2D((3, 2), 1, "same", None, "pool")
    assert (pool.pool_size, pool.strides, pool.padding, pool.name) == ((3, 2), (1, 1), "same", "pool")
    dropout = layers.Dropout(0.5, None, 7)
    assert (dropout.rate, dropout.seed) == (0.5, 7)
    relu = layers.ReLU(6, 0.1, 0.5)
    assert (relu.max_value, relu.negative_slope, relu.threshold) == (6.0, 0.1, 0.5)
    assert layers.GlobalMaxPooling2D("channels_last", True).keepdims
    assert layers.InputLayer((4,), 32).batch_shape == (32, 4)


def test_defaults_are_keras():
    conv = layers.Conv2D(8, 5)
    assert (conv.strides, conv.padding, conv.data_format, conv.dilation_rate) == (
        (1, 1),
        "valid",
        "channels_last",
        (1, 1),
    )
    assert conv.activation is activations.linear and conv.use_bias
    assert (
        conv.kernel_initializer == initializers.GlorotUniform()
        and conv.bias_initializer == initializers.Zeros()
    )
    pool = layers.AveragePooling2D()
    assert (pool.pool_size, pool.strides, pool.padding) == ((2, 2), (2, 2), "valid")
    norm = layers.BatchNormalization()
    assert (norm.axis, norm.momentum, norm.epsilon, norm.center, norm.scale) == (-1, 0.99, 1e-3, True, True)
    assert layers.LeakyReLU().negative_slope == 0.3
    assert layers.Rescaling(2).offset == 0.0


def test_aliases_and_factories_are_the_classes():
    assert layers.Convolution2D is layers.conv2d is layers.Conv2D
    assert layers.MaxPool2D is layers.max_pooling2d is layers.max_pool2d is layers.MaxPooling2D
    assert layers.AvgPool2D is layers.average_pooling2d is layers.AveragePooling2D
    assert layers.GlobalMaxPool2D is layers.global_max_pooling2d is layers.GlobalMaxPooling2D
    assert layers.GlobalAvgPool2D is layers.global_average_pooling2d is layers.GlobalAveragePooling2D
    for name, *_ in CASES:
        assert getattr(layers, utils.to_snake_case(name)) is layers.get(name)
    for name in layers.__all__:
        assert hasattr(layers, name)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"input_shape": (28, 28, 1)}, (None, 28, 28, 1)),
        ({"input_shape": [28, 28, 1]}, (None, 28, 28, 1)),
        ({"batch_input_shape": (None, 28, 28, 1)}, (None, 28, 28, 1)),
        ({"batch_input_shape": [32, 28, 28, 1]}, (32, 28, 28, 1)),
        ({"input_shape": (784,), "batch_size": 16}, (16, 784)),
        ({"input_dim": 784}, (None, 784)),
        ({"input_shape": 784}, (None, 784)),
        ({}, None),
    ],
    ids=str,
)
def test_declared_input_shape(arguments, expected):
    assert layers.Dense(3, **arguments).batch_input_shape == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_shape": (28, 28, 1), "batch_input_shape": (None, 28, 28, 1)},
        {"input_shape": (None, None, 1)},
        {"input_shape": ()},
        {"batch_input_shape": (None,)},
        {"batch_input_shape": (0, 3)},
        {"batch_input_shape": 3},
        {"input_shape": (1, 2, 3, 4)},
        {"input_shape": "28"},
    ],
    ids=str,
)
def test_declared_input_shape_refuses(arguments):
    with pytest.raises(ValueError, match="Expected .*Received: "):
        layers.Dense(3, **arguments)


def test_input_is_an_input_layer():
    for entry in (
        layers.Input((28, 28, 1)),
        layers.Input(shape=[28, 28, 1], name="pixels"),
        layers.InputLayer(input_shape=(28, 28, 1)),
        layers.Input(batch_shape=(None, 28, 28, 1)),
        layers.InputLayer(batch_input_shape=(None, 28, 28, 1), dtype="uint8"),
    ):
        assert isinstance(entry, layers.InputLayer)
        assert entry.batch_shape == (None, 28, 28, 1) and entry.shape == (28, 28, 1)
    assert layers.Input((3,), batch_size=8).batch_shape == (8, 3)
    old = {
        "batch_input_shape": [None, 28, 28, 1],
        "dtype": "float32",
        "sparse": False,
        "ragged": False,
        "name": "first",
    }
    assert layers.InputLayer.from_config(old).get_config() == {
        "name": "first",
        "batch_shape": [None, 28, 28, 1],
        "dtype": "float32",
    }
    for bad in ({}, {"shape": (3,), "sparse": True}, {"shape": (None,)}):
        with pytest.raises(ValueError, match="Received: "):
            layers.Input(**bad)
    with pytest.raises(TypeError, match="`dtype`.*Received: dtype='pixels'"):
        layers.Input((3,), dtype="pixels")


@pytest.mark.parametrize(
    "form",
    [
        "he_normal",
        initializers.HeNormal,
        initializers.HeNormal(),
        {"class_name": "HeNormal", "config": {"seed": None}},
    ],
    ids=str,
)
def test_initializer_forms(form):
    assert layers.Dense(3, kernel_initializer=form).kernel_initializer == initializers.HeNormal()


def test_initializer_seed_goes_before_the_models():
    build = [
        _build(layers.Dense(3, kernel_initializer=initializers.HeNormal(seed=5)), (4,), seed)
        for seed in (1, 2)
    ]
    np.testing.assert_array_equal(build[0].kernel.value, build[1].kernel.value)


@pytest.mark.parametrize(
    "form, operation",
    [
        ("relu", ("relu", (0.0, float("inf"), 0.0))),
        ("relu6", ("relu", (0.0, 6.0, 0.0))),
        (activations.tanh, ("tanh", ())),
        (layers.LeakyReLU(0.1, name="slope"), ("leaky_relu", (0.1,))),
        (layers.ReLU, ("relu", (0.0, float("inf"), 0.0))),
        ({"class_name": "LeakyReLU", "config": {"alpha": 0.25}}, ("leaky_relu", (0.25,))),
        ({"class_name": "function", "config": "elu", "module": "builtins"}, ("elu", (1.0,))),
        (layers.Activation("swish"), ("silu", ())),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.parametrize("name", ["Conv2D", "Dense", "Activation"])
def test_activation_forms(name, form, operation):
    arguments = {"Conv2D": {"filters": 2, "kernel_size": 1}, "Dense": {"units": 2}, "Activation": {}}[name]
    layer = layers.get(name)(**arguments, activation=form)
    again = layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    for one in (layer, again):
        op = _lower(one, input_shape=(2, 2, 1)).ops[-1]
        assert (op.kind, op.attributes["function"], op.attributes["parameters"]) == ("activation", *operation)


def test_linear_activation_adds_no_operation():
    assert [op.kind for op in _lower(layers.Dense(2), input_shape=(3,)).ops] == ["dense"]
    assert _lower(layers.Activation(None), input_shape=(3,)).ops == ()


# --- refusals ---


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("Conv2D", {"filters": -1, "kernel_size": 3}, "`filters`"),
        ("Conv2D", {"filters": 8.0, "kernel_size": 3}, "`filters`"),
        ("Conv2D", {"filters": True, "kernel_size": 3}, "`filters`"),
        ("Conv2D", {"filters": 8, "kernel_size": 0}, "`kernel_size`"),
        ("Conv2D", {"filters": 8, "kernel_size": (3, 3, 3)}, "`kernel_size`"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "strides": 0}, "`strides`"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "dilation_rate": (1, 0)}, "`dilation_rate`"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "padding": "causal"}, "`padding`"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "data_format": "channels"}, "`data_format`"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "groups": 3}, "`groups`"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "groups": 0}, "`groups`"),
        ("Conv1D", {"filters": 8, "kernel_size": (3, 3)}, "`kernel_size`"),
        ("Conv1D", {"filters": 8, "kernel_size": 3, "padding": "full"}, "`padding`"),
        ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 0}, "`depth_multiplier`"),
        ("DepthwiseConv1D", {"kernel_size": 3, "padding": "causal"}, "`padding`"),
        ("SeparableConv2D", {"filters": 0, "kernel_size": 3}, "`filters`"),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "output_padding": 1}, "`output_padding`"),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2, "output_padding": -1}, "`output_padding`"),
        ("Conv1DTranspose", {"filters": 2, "kernel_size": 3, "strides": 3, "output_padding": (1, 1)}, "`output_padding`"),
        ("Conv1DTranspose", {"filters": 2, "kernel_size": 3, "padding": "causal"}, "`padding`"),
        ("MaxPooling1D", {"pool_size": (2, 2)}, "`pool_size`"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "activation": "reluu"}, "activation"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "use_bias": "no"}, "`use_bias`"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "kernel_initializer": "best"}, "initializer"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "activity_regularizer": "l2"}, "`activity_regularizer`"),
        ("Dense", {"units": 3, "bias_constraint": "l2"}, "`bias_constraint`"),
        ("Dense", {"units": 0}, "`units`"),
        ("Dense", {"units": 2**31}, "`units`"),
        ("Dense", {"units": np.zeros((3, 3))}, "`units`"),
        ("BatchNormalization", {"axis": 1.5}, "`axis`"),
        ("BatchNormalization", {"axis": [1, 2]}, "`axis`"),
        ("BatchNormalization", {"momentum": "fast"}, "`momentum`"),
        ("BatchNormalization", {"epsilon": 0}, "`epsilon`"),
        ("BatchNormalization", {"epsilon": -1e-3}, "`epsilon`"),
        ("BatchNormalization", {"center": "no"}, "`center`"),
        ("BatchNormalization", {"scale": None}, "`scale`"),
        ("BatchNormalization", {"beta_initializer": "best"}, "initializer"),
        ("BatchNormalization", {"gamma_regularizer": "l3"}, "`gamma_regularizer`"),
        ("BatchNormalization", {"renorm": True}, "`renorm`"),
        ("BatchNormalization", {"synchronized": True}, "`synchronized`"),
        ("MaxPooling2D", {"pool_size": 0}, "`pool_size`"),
        ("AveragePooling2D", {"strides": -1}, "`strides`"),
        ("GlobalMaxPooling2D", {"data_format": "channels_middle"}, "`data_format`"),
        ("GlobalAveragePooling2D", {"keepdims": "yes"}, "`keepdims`"),
        ("Dropout", {"rate": 1.1}, "`rate`"),
        ("Dropout", {"rate": -0.1}, "`rate`"),
        ("Dropout", {"rate": "half"}, "`rate`"),
        ("Dropout", {"rate": 0.5, "seed": -1}, "`seed`"),
        ("SpatialDropout2D", {"rate": 1.1}, "`rate`"),
        ("SpatialDropout2D", {"rate": 0.5, "data_format": "last"}, "`data_format`"),
        ("GaussianNoise", {"stddev": -1.0}, "`stddev`"),
        ("GaussianDropout", {"rate": 1}, "`rate`"),
        ("AlphaDropout", {"rate": 0.5, "noise_shape": (1,)}, "`noise_shape`"),
        ("Dropout", {"rate": 0.5, "noise_shape": (1, 2)}, "`noise_shape`"),
        ("Dropout", {"rate": 0.5, "noise_shape": (None, 0)}, "`noise_shape`"),
        ("Dropout", {"rate": 0.5, "noise_shape": 3}, "`noise_shape`"),
        ("Softmax", {"axis": ()}, "`axis`"),
        ("Softmax", {"axis": 0}, "`axis`"),
        ("Reshape", {"target_shape": (-1, -1)}, "`target_shape`"),
        ("Reshape", {"target_shape": (0, 3)}, "`target_shape`"),
        ("Reshape", {"target_shape": (2, 2, 2, 2)}, "`target_shape`"),
        ("ReLU", {"max_value": "6"}, "`max_value`"),
        ("ReLU", {"negative_slope": float("nan")}, "`negative_slope`"),
        ("Softmax", {"axis": 1.5}, "`axis`"),
        ("Rescaling", {"scale": [1.0, 2.0]}, "`scale`"),
        ("Activation", {"activation": np.tanh}, "activation"),
        ("ZeroPadding2D", {"padding": -1}, "`padding`"),
        ("ZeroPadding2D", {"padding": (1, 2, 3)}, "`padding`"),
        ("ZeroPadding2D", {"padding": ((1, 2), (3, 4, 5))}, "`padding`"),
        ("ZeroPadding2D", {"data_format": "first"}, "`data_format`"),
        ("ZeroPadding1D", {"padding": 1.5}, "`padding`"),
        ("Cropping2D", {"cropping": (1, -1)}, "`cropping`"),
        ("Cropping1D", {"cropping": "one"}, "`cropping`"),
        ("UpSampling2D", {"size": 0}, "`size`"),
        ("UpSampling2D", {"interpolation": "area"}, "`interpolation`"),
        ("UpSampling1D", {"size": (2, 2)}, "`size`"),
        ("Resizing", {"height": 0, "width": 3}, "`height`"),
        ("Resizing", {"height": 3, "width": 3, "interpolation": ["nearest"]}, "`interpolation`"),
        ("Resizing", {"height": 3, "width": 3, "crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True},
         "`crop_to_aspect_ratio`"),
        ("Resizing", {"height": 3, "width": 3, "fill_mode": "reflect"}, "`fill_mode`"),
        ("Resizing", {"height": 3, "width": 3, "fill_value": 1.0}, "`fill_value`"),
        ("CenterCrop", {"height": 3, "width": -3}, "`width`"),
        ("Permute", {"dims": (0, 1)}, "`dims`"),
        ("Permute", {"dims": (1, 1)}, "`dims`"),
        ("Permute", {"dims": 2}, "`dims`"),
        ("RepeatVector", {"n": 0}, "`n`"),
        ("RandomFlip", {"mode": "diagonal"}, "`mode`"),
        ("RandomFlip", {"seed": -1}, "`seed`"),
        ("RandomTranslation", {"height_factor": 1.5, "width_factor": 0}, "`height_factor`"),
        ("RandomTranslation", {"height_factor": 0.5, "width_factor": (0, 0.1, 0.2)}, "`width_factor`"),
        ("RandomRotation", {"factor": "much"}, "`factor`"),
        ("RandomRotation", {"factor": 0.1, "fill_mode": "mirror"}, "`fill_mode`"),
        ("RandomRotation", {"factor": 0.1, "interpolation": "bicubic"}, "`interpolation`"),
        ("RandomZoom", {"height_factor": -1.0}, "`height_factor`"),
        ("RandomZoom", {"height_factor": 0.1, "fill_value": float("inf")}, "`fill_value`"),
    ],
    ids=str,
)
def test_layer_refuses_bad_arguments(name, arguments, message):
    with pytest.raises(ValueError, match=message + ".*Received: ") as caught:
        layers.get(name)(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", [
    layers.Resizing(2**31 - 1, 1), layers.Resizing(1, 2**31 - 1, "nearest"), layers.UpSampling2D((2**28, 1)),
    layers.ZeroPadding2D(((0, 2**30), (0, 0))), layers.CenterCrop(2**30, 1), layers.RepeatVector(2**31 - 1),
], ids=lambda layer: layer.name)
def test_maps_that_are_too_large_are_refused_before_they_take_memory(layer):
    shape = (4,) if isinstance(layer, layers.RepeatVector) else (4, 4, 1)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="at most .*Received: "):
            Sequential([layers.Input(shape), layer]).predict(np.zeros((1, *shape), np.float32), verbose=0)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_antialias_over_too_many_pixels_is_refused_before_it_takes_memory():
    with pytest.raises(ValueError, match="at most 16777216 entries"):
        maps.resize(2**31 - 1, 1, antialias=True)


def test_layer_refuses_other_dtypes():
    for dtype in (None, "float32", np.float32, np.dtype("float32")):
        assert layers.Dense(3, dtype=dtype).units == 3
    for dtype in ("float16", np.float64, "mixed_bfloat16", 3, {"config": {"name": "float64"}}):
        with pytest.raises(TypeError, match="`dtype`.*Received: dtype="):
            layers.Dense(3, dtype=dtype)


@pytest.mark.parametrize(
    "layer, input_shape, message",
    [
        (lambda: layers.Conv2D(8, 5), (28, 28), "height, width, channels"),
        (lambda: layers.Conv2D(8, 5, data_format="channels_first"), (28, 28), "channels, height, width"),
        (lambda: layers.Conv2D(8, 3, groups=4), (28, 28, 6), "`groups`"),
        (lambda: layers.Conv1D(8, 3), (28, 28, 1), "steps, channels"),
        (lambda: layers.SeparableConv1D(8, 5), (4, 1), "Kernel larger than its input"),
        (lambda: layers.Conv1DTranspose(1, 4, padding="same", output_padding=0), (1, 1), "positive size"),
        (lambda: layers.GlobalMaxPooling1D(), (10,), "steps, channels"),
        (lambda: layers.Conv2D(8, 5), (4, 28, 1), "Kernel larger than its input"),
        (lambda: layers.Conv2D(8, 3, dilation_rate=4), (8, 28, 1), "Kernel larger than its input"),
        (lambda: layers.MaxPooling2D(3), (2, 9, 1), "Pool larger than its input"),
        (lambda: layers.AveragePooling2D((1, 5)), (9, 4, 1), "Pool larger than its input"),
        (lambda: layers.GlobalMaxPooling2D(), (10,), "height, width, channels"),
        (lambda: layers.Reshape((3, -1)), (8,), "8 values"),
        (lambda: layers.Softmax(axis=(1, 4)), (4, 4, 2), "`axis`"),
        (lambda: layers.BatchNormalization(axis=4), (4, 4, 2), "`axis`"),
        (lambda: layers.Dropout(0.5, (None, 1, 2, 2)), (4, 4, 2), "`noise_shape`"),
        (lambda: layers.Dropout(0.5, (None, 4, 4)), (4, 4, 2), "`noise_shape`"),
        (lambda: layers.Softmax(axis=4), (4, 4, 2), "`axis`"),
        (lambda: layers.Softmax(axis=-4), (4, 4, 2), "`axis`"),
        (lambda: layers.SpatialDropout2D(0.5), (4, 2), "height, width, channels"),
        (lambda: layers.SpatialDropout1D(0.5), (4, 4, 2), "steps, channels"),
        (lambda: layers.Dense(2**20), (2**20,), "`kernel` to have at most"),
        (lambda: layers.Conv2D(2**30, 1), (4, 4, 1), "`output_shape`"),
        (lambda: layers.ZeroPadding2D(1), (4, 4), "height, width, channels"),
        (lambda: layers.ZeroPadding1D(1), (4, 4, 1), "steps, channels"),
        (lambda: layers.Cropping2D((2, 0)), (4, 4, 1), "`cropping`"),
        (lambda: layers.Cropping1D(2), (4, 1), "`cropping`"),
        (lambda: layers.Permute((2, 1)), (4, 4, 1), "2 dimensions"),
        (lambda: layers.RepeatVector(3), (4, 4), "features"),
    ],
)
def test_layer_refuses_bad_inputs(layer, input_shape, message):
    layer = layer()
    with pytest.raises(ValueError, match=f"Layer '{layer.name}'.*{message}.*Received: ") as caught:
        layer.build(input_shape)
    assert "\n" not in str(caught.value) and not layer.built


def test_same_padding_takes_any_window():
    assert _build(layers.MaxPooling2D(5, padding="same"), (2, 2, 1)).output_shape == (1, 1, 1)
    assert _build(layers.Conv2D(1, 7, padding="same"), (2, 3, 1)).output_shape == (2, 3, 1)


def test_rebuild_for_other_weights_is_refused():
    dense = _build(layers.Dense(3), (4,))
    with pytest.raises(ValueError, match=r"'dense' has weights for inputs of shape \(4,\). Received: "):
        dense.build((5,))
    conv = _build(layers.Conv2D(2, 3), (8, 8, 1))
    conv.build((9, 7, 1))
    assert conv.output_shape == (7, 5, 2)


def test_set_weights_changes_nothing_where_something_does_not_fit():
    dense = _build(layers.Dense(3), (4,))
    before = dense.get_weights()
    with pytest.raises(ValueError, match=r"'dense'.*'bias' expected an array of shape \(3,\). Received"):
        dense.set_weights([np.zeros((4, 3)), np.zeros(4)])
    with pytest.raises(TypeError, match="'dense'.*real numbers"):
        dense.set_weights([np.zeros((4, 3)), np.zeros(3, complex)])
    for array, weight in zip(before, dense.weights, strict=True):
        np.testing.assert_array_equal(array, weight.value)


def test_weight_becomes_an_array_of_its_own():
    dense = layers.Dense(2)
    dense.build((3,))
    array = np.asarray(dense.kernel)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, dense.kernel.value)
    array[...] = 9
    assert not np.any(dense.kernel.value == 9)
    assert np.asarray(dense.kernel, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="Received: copy=False"):
        dense.kernel.__array__(copy=False)


def test_weight_assign_tells_the_model():
    dense = _build(layers.Dense(3), (4,))
    calls = []
    dense._on_change = lambda: calls.append(1)
    dense.bias.assign([1, 2, 3])
    assert calls == [1] and dense.bias.numpy().tolist() == [1, 2, 3]
    dense.bias.numpy()[...] = 9
    assert dense.bias.value.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"shape \(3,\). Received: shape=\(2,\)"):
        dense.bias.assign([1, 2])


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


# --- lowering ---


def test_seed_network_has_5994_parameters():
    stack = [
        layers.Conv2D(8, 5, activation="relu", input_shape=(28, 28, 1)),
        layers.MaxPooling2D(2, 2),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(2, 2),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]
    program = _lower(*stack, input_shape=(28, 28, 1))
    assert [layer.count_params() for layer in stack] == [208, 0, 3216, 0, 0, 2570]
    assert sum(weight.size for weight in program.weights) == 5994
    assert [op.kind for op in program.ops] == [
        "conv2d",
        "activation",
        "max_pool2d",
        "conv2d",
        "activation",
        "max_pool2d",
        "reshape",
        "dense",
        "activation",
    ]
    assert program.softmax_output and program.output_shape == (1, 1, 10)


def test_lowering_writes_explicit_padding():
    conv = _lower(layers.Conv2D(4, (3, 4), strides=2, padding="same"), input_shape=(8, 7, 1)).ops[0]
    assert conv.attributes == {
        "kernel_size": (3, 4),
        "strides": (2, 2),
        "dilation_rate": (1, 1),
        "padding": ((0, 1), (1, 2)),
        "groups": 1,
    }
    pool = _lower(layers.AveragePooling2D(3, padding="same"), input_shape=(7, 6, 1)).ops[0]
    assert pool.attributes == {"pool_size": (3, 3), "strides": (3, 3), "padding": ((1, 1), (0, 0))}


def test_reshape_of_the_same_image_adds_no_operation():
    assert _lower(layers.Flatten(), input_shape=(1, 1, 8)).ops == ()
    assert _lower(layers.Reshape((1, 8)), input_shape=(8,)).ops == ()
    assert [op.kind for op in _lower(layers.Flatten(), input_shape=(2, 4)).ops] == ["reshape"]


def test_dropout_streams_differ_by_layer_and_repeat_by_seed():
    program = _lower(
        layers.Dropout(0.5),
        layers.Dropout(0.5, seed=3),
        layers.Dropout(0.5),
        layers.Dropout(0.1, seed=3),
        layers.Dropout(0.0),
        input_shape=(4,),
    )
    streams = [op.attributes["stream"] for op in program.ops]
    assert streams[0] == 0 and streams[2] == 1 and streams[1] == streams[3] and streams[1] >= 1 << 63
    assert [op.attributes["rate"] for op in program.ops] == [0.5, 0.5, 0.5, 0.1]


def test_conv2d_computes_a_cross_correlation():
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    conv = layers.Conv2D(1, 2, kernel_initializer="ones", bias_initializer=initializers.Constant(0.5))
    assert _run(conv, x=x)[0, ..., 0].tolist() == [[8.5, 12.5], [20.5, 24.5]]
    same = layers.Conv2D(1, 2, padding="same", kernel_initializer="ones")
    assert _run(same, x=x)[0, ..., 0].tolist() == [[8, 12, 7], [20, 24, 13], [13, 15, 8]]


def test_pools_leave_padding_out():
    x = -np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    assert _run(layers.MaxPooling2D(padding="same"), x=x)[0, ..., 0].tolist() == [[-1, -3], [-7, -9]]
    assert _run(layers.AveragePooling2D(padding="same"), x=x)[0, ..., 0].tolist() == [[-3, -4.5], [-7.5, -9]]
    assert _run(layers.GlobalMaxPooling2D(), x=x).tolist() == [[-1]]
    assert _run(layers.GlobalAveragePooling2D(keepdims=True), x=x).tolist() == [[[[-5]]]]


@pytest.mark.parametrize("shape", [(6,), (5, 6), (4, 5, 6)], ids=str)
def test_dense_works_on_the_last_axis(shape):
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    dense = layers.Dense(2, bias_initializer="random_normal")
    y = _run(dense, x=x)
    expected = x.astype(np.float64) @ dense.kernel.value + dense.bias.value
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer, expected",
    [
        (lambda: layers.ReLU(max_value=2.0, negative_slope=0.5, threshold=1.0), [-1.5, -0.5, 0.0, 2.0]),
        (lambda: layers.LeakyReLU(), [-0.6, 0.0, 1.0, 3.0]),
        (lambda: layers.ELU(0.5), [0.5 * np.expm1(-2.0), 0.0, 1.0, 3.0]),
        (lambda: layers.Rescaling(0.5, offset=1.0), [0.0, 1.0, 1.5, 2.5]),
        (lambda: layers.Softmax(), activations.softmax(np.array([-2.0, 0.0, 1.0, 3.0]))),
        (lambda: layers.Activation("sigmoid"), activations.sigmoid(np.array([-2.0, 0.0, 1.0, 3.0]))),
        (lambda: layers.Dropout(0.5), [-2.0, 0.0, 1.0, 3.0]),
    ],
)
def test_element_wise_layers(layer, expected):
    np.testing.assert_allclose(_run(layer(), x=[[-2.0, 0.0, 1.0, 3.0]])[0], expected, rtol=1e-5)


def test_reshape_keeps_row_major_order():
    x = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    np.testing.assert_array_equal(_run(layers.Reshape((3, -1)), x=x), x.reshape(2, 3, 4))
    np.testing.assert_array_equal(_run(layers.Flatten(), x=x), x.reshape(2, 12))


def _in_training(layer, x):
    model = Sequential([layers.Input(x.shape[1:]), layer], seed=3)
    return model(x, training=True)


@pytest.mark.parametrize("layer", [layers.Dropout(1.0), layers.SpatialDropout2D(1), layers.Dropout(1, (None, 1, 1, 1))])
def test_a_rate_of_one_drops_everything(layer):
    x = np.full((3, 4, 5, 2), np.inf, np.float32)
    np.testing.assert_array_equal(_in_training(layer, x), np.zeros_like(x))


@pytest.mark.parametrize("noise_shape", [
    (None, 1, 1, None), (None, 1, None, 3), (None, 4, 1, 1), (None, None, 5, 1), (None, 1, 5, 1), (None, 1, 1, 1),
    (None, None, 1, 3)])
def test_noise_shape_drops_values_of_an_axis_together(noise_shape):
    x = np.random.default_rng(0).uniform(1, 2, (200, 4, 5, 3)).astype(np.float32)
    y = _in_training(layers.Dropout(0.25, noise_shape), x)
    kept = y != 0
    np.testing.assert_allclose(y, np.where(kept, x / 0.75, 0), rtol=1e-6)
    drawn = np.ones((200, *[1 if size == 1 else full for size, full in zip(noise_shape[1:], x.shape[1:])]), bool)
    drawn = kept[tuple(slice(0, size) for size in drawn.shape)]
    np.testing.assert_array_equal(kept, np.broadcast_to(drawn, x.shape))
    share = drawn.mean()
    assert abs(share - 0.75) < 5 * np.sqrt(0.25 * 0.75 / drawn.size)
    each = drawn.reshape(200, -1)
    assert each.shape[1] == 1 or (each.any(axis=1) & ~each.all(axis=1)).any()  # by itself, not all together
    if noise_shape == (None, 1, 1, None):
        np.testing.assert_array_equal(y, _in_training(layers.SpatialDropout2D(0.25), x))


@pytest.mark.parametrize("axis", [1, 2, -2])
def test_batch_normalization_of_another_axis_is_that_of_the_last_with_the_axes_moved(axis):
    x = np.random.default_rng(0).normal(size=(16, 4, 5, 3)).astype(np.float32)
    moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    one, other = layers.BatchNormalization(axis=axis, momentum=0.5), layers.BatchNormalization(momentum=0.5)
    ours, theirs = _in_training(one, x), _in_training(other, moved)
    np.testing.assert_array_equal(np.moveaxis(ours, axis, -1), theirs)
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_batch_normalization_of_channels_first_goes_into_the_convolution():
    first = {"data_format": "channels_first"}
    stack = [layers.Conv2D(4, 3, **first), layers.BatchNormalization(axis=1), layers.MaxPooling2D(2, **first)]
    kinds = [op.kind for op in _lower(*stack, input_shape=(2, 8, 8)).ops]
    assert kinds == ["gather", "conv2d", "batch_normalization", "max_pool2d", "gather"]


# --- sequences, depthwise and transposed convolutions ---


def _with_weights(layer, input_shape, seed=0):
    random = np.random.default_rng(seed)
    _build(layer, input_shape)
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])
    return layer


@pytest.mark.parametrize("name, arguments, input_shape, output_shape, parameters",
                         [case for case in CASES if "data_format" in case[1] and "strategy" not in case[1]])
def test_channels_first_is_channels_last_with_the_axes_moved(name, arguments, input_shape, output_shape, parameters):
    first = _with_weights(layers.get(name)(**arguments), input_shape)
    last_shape = (*input_shape[1:], input_shape[0])
    if arguments.get("activation") == "softmax":  # along the last axis, wherever the channels are
        arguments = {**arguments, "activation": None}
    last = _with_weights(layers.get(name)(**{**arguments, "data_format": "channels_last"}), last_shape)
    x = np.random.default_rng(1).normal(size=(3, *input_shape)).astype(np.float32)
    y = _run(last, x=np.moveaxis(x, 1, -1))
    expected = np.moveaxis(y, -1, 1) if y.ndim > 2 else y
    if getattr(first, "activation", None) is activations.softmax:
        expected = activations.softmax(expected)
    np.testing.assert_allclose(_run(first, x=x), expected, rtol=2e-5, atol=2e-6)


def test_channels_first_layers_in_a_row_move_the_channels_once():
    first = {"data_format": "channels_first"}
    stack = [layers.Conv2D(4, 3, activation="relu", **first), layers.MaxPooling2D(2, **first),
             layers.DepthwiseConv2D(2, **first), layers.Flatten(**first)]
    kinds = [op.kind for op in _lower(*stack, input_shape=(2, 8, 8)).ops]
    assert kinds == ["gather", "conv2d", "activation", "max_pool2d", "conv2d", "reshape"]
    gray = [op.kind for op in _lower(layers.Conv2D(4, 3, **first), input_shape=(1, 8, 8)).ops]
    assert gray == ["reshape", "conv2d", "gather"]


def test_separable_conv_is_a_depthwise_and_a_pointwise_one():
    x = np.random.default_rng(1).normal(size=(3, 7, 6, 3)).astype(np.float32)
    layer = _with_weights(layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2, padding="same"), (7, 6, 3))
    depthwise = _build(layers.DepthwiseConv2D(3, 2, "same", 2, use_bias=False), (7, 6, 3))
    pointwise = _build(layers.Conv2D(4, 1), depthwise.output_shape)
    kernel, mix, bias = layer.get_weights()
    depthwise.set_weights([kernel])
    pointwise.set_weights([mix, bias])
    np.testing.assert_array_equal(_run(layer, x=x), _run(depthwise, pointwise, x=x))


def test_depthwise_conv_is_one_convolution_a_channel():
    x = np.random.default_rng(1).normal(size=(2, 9, 2)).astype(np.float32)
    layer = _with_weights(layers.DepthwiseConv1D(3, depth_multiplier=2, use_bias=False), (9, 2))
    y = _run(layer, x=x)
    for channel in range(2):
        for m in range(2):
            expected = [np.correlate(row[:, channel], layer.kernel.value[:, channel, m]) for row in np.float64(x)]
            np.testing.assert_allclose(y[:, :, channel * 2 + m], expected, rtol=1e-4, atol=1e-5)


def test_causal_convolution_does_not_see_what_comes_after():
    layer = _with_weights(layers.Conv1D(2, 3, padding="causal", dilation_rate=2), (9, 1))
    x = np.random.default_rng(1).normal(size=(1, 9, 1)).astype(np.float32)
    changed = x.copy()
    changed[0, 5] += 1
    same = (_run(layer, x=x) == _run(layer, x=changed)).all((0, 2))
    assert same.tolist() == [True] * 5 + [False, True, False, True]


# What Keras 3 makes of an impulse at step 2 of 5 with a kernel of ones.
@pytest.mark.parametrize("kernel, strides, padding, output_padding, dilation, expected", [
    (3, 1, "valid", None, 1, "0011100"), (3, 1, "same", None, 2, "10101"), (4, 1, "same", 0, 1, "1111"),
    (1, 2, "valid", None, 1, "0000100000"), (1, 2, "same", 0, 1, "000010000"), (3, 2, "same", None, 1, "0000111000"),
    (3, 2, "same", 0, 1, "000111000"), (3, 2, "same", 1, 1, "0000111000"), (3, 2, "valid", 1, 1, "000011100000"),
    (2, 3, "valid", 2, 1, "0000001100000000"), (4, 3, "same", 2, 1, "00000111100000"),
    (5, 3, "same", 1, 1, "00000111110000"), (5, 1, "valid", None, 2, "0010101010100"),
])
def test_transposed_convolution_puts_its_kernel_where_keras_does(kernel, strides, padding, output_padding, dilation,
                                                                 expected):
    layer = layers.Conv1DTranspose(1, kernel, strides, padding, output_padding, dilation_rate=dilation,
                                   kernel_initializer="ones")
    x = np.zeros((1, 5, 1), np.float32)
    x[0, 2] = 1
    assert "".join(f"{value:.0f}" for value in _run(layer, x=x).ravel()) == expected

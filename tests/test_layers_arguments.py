"""Arguments of layers: forms and defaults as in Keras, and what is refused."""

from __future__ import annotations

import json
import tracemalloc

import layer_cases
import numpy as np
import pytest
from layer_cases import CASES, build, lower

from tinyconv import Sequential, activations, initializers, layers, maps, utils

fresh_names = layer_cases.fresh_names  # a fixture


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
    with pytest.raises(TypeError, match="dtype.*Received: dtype='pixels'"):
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
    built = [
        build(layers.Dense(3, kernel_initializer=initializers.HeNormal(seed=5)), (4,), seed)
        for seed in (1, 2)
    ]
    np.testing.assert_array_equal(built[0].kernel.value, built[1].kernel.value)


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
        op = lower(one, input_shape=(2, 2, 1)).ops[-1]
        assert (op.kind, op.attributes["function"], op.attributes["parameters"]) == ("activation", *operation)


def test_linear_activation_adds_no_operation():
    assert [op.kind for op in lower(layers.Dense(2), input_shape=(3,)).ops] == ["dense"]
    assert lower(layers.Activation(None), input_shape=(3,)).ops == ()


# --- refusals ---

@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("Conv2D", {"filters": -1, "kernel_size": 3}, "filters"),
        ("Conv2D", {"filters": 8.0, "kernel_size": 3}, "filters"),
        ("Conv2D", {"filters": True, "kernel_size": 3}, "filters"),
        ("Conv2D", {"filters": 8, "kernel_size": 0}, "kernel_size"),
        ("Conv2D", {"filters": 8, "kernel_size": (3, 3, 3)}, "kernel_size"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "strides": 0}, "strides"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "dilation_rate": (1, 0)}, "dilation_rate"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "padding": "causal"}, "padding"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "data_format": "channels"}, "data_format"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "groups": 3}, "groups"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "groups": 0}, "groups"),
        ("Conv1D", {"filters": 8, "kernel_size": (3, 3)}, "kernel_size"),
        ("Conv1D", {"filters": 8, "kernel_size": 3, "padding": "full"}, "padding"),
        ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 0}, "depth_multiplier"),
        ("DepthwiseConv1D", {"kernel_size": 3, "padding": "causal"}, "padding"),
        ("SeparableConv2D", {"filters": 0, "kernel_size": 3}, "filters"),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "output_padding": 1}, "output_padding"),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2, "output_padding": -1}, "output_padding"),
        ("Conv1DTranspose", {"filters": 2, "kernel_size": 3, "strides": 3, "output_padding": (1, 1)},
         "output_padding"),
        ("Conv1DTranspose", {"filters": 2, "kernel_size": 3, "padding": "causal"}, "padding"),
        ("MaxPooling1D", {"pool_size": (2, 2)}, "pool_size"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "activation": "reluu"}, "activation"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "use_bias": "no"}, "use_bias"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "kernel_initializer": "best"}, "initializer"),
        ("Conv2D", {"filters": 8, "kernel_size": 3, "activity_regularizer": "l2"}, "activity_regularizer"),
        ("Dense", {"units": 3, "bias_constraint": "l2"}, "bias_constraint"),
        ("Dense", {"units": 0}, "units"),
        ("Dense", {"units": 2**31}, "units"),
        ("Dense", {"units": np.zeros((3, 3))}, "units"),
        ("BatchNormalization", {"axis": 1.5}, "axis"),
        ("BatchNormalization", {"axis": [1, 2]}, "axis"),
        ("BatchNormalization", {"momentum": "fast"}, "momentum"),
        ("BatchNormalization", {"epsilon": 0}, "epsilon"),
        ("BatchNormalization", {"epsilon": -1e-3}, "epsilon"),
        ("BatchNormalization", {"center": "no"}, "center"),
        ("BatchNormalization", {"scale": None}, "scale"),
        ("BatchNormalization", {"beta_initializer": "best"}, "initializer"),
        ("BatchNormalization", {"gamma_regularizer": "l3"}, "gamma_regularizer"),
        ("BatchNormalization", {"renorm": True}, "renorm"),
        ("BatchNormalization", {"synchronized": True}, "synchronized"),
        ("MaxPooling2D", {"pool_size": 0}, "pool_size"),
        ("AveragePooling2D", {"strides": -1}, "strides"),
        ("GlobalMaxPooling2D", {"data_format": "channels_middle"}, "data_format"),
        ("GlobalAveragePooling2D", {"keepdims": "yes"}, "keepdims"),
        ("Dropout", {"rate": 1.1}, "rate"),
        ("Dropout", {"rate": -0.1}, "rate"),
        ("Dropout", {"rate": "half"}, "rate"),
        ("Dropout", {"rate": 0.5, "seed": -1}, "seed"),
        ("SpatialDropout2D", {"rate": 1.1}, "rate"),
        ("SpatialDropout2D", {"rate": 0.5, "data_format": "last"}, "data_format"),
        ("GaussianNoise", {"stddev": -1.0}, "stddev"),
        ("GaussianDropout", {"rate": 1}, "rate"),
        ("AlphaDropout", {"rate": 0.5, "noise_shape": (1,)}, "noise_shape"),
        ("Dropout", {"rate": 0.5, "noise_shape": (1, 2)}, "noise_shape"),
        ("Dropout", {"rate": 0.5, "noise_shape": (None, 0)}, "noise_shape"),
        ("Dropout", {"rate": 0.5, "noise_shape": 3}, "noise_shape"),
        ("Softmax", {"axis": ()}, "axis"),
        ("Softmax", {"axis": 0}, "axis"),
        ("Reshape", {"target_shape": (-1, -1)}, "target_shape"),
        ("Reshape", {"target_shape": (0, 3)}, "target_shape"),
        ("Reshape", {"target_shape": (2, 2, 2, 2)}, "target_shape"),
        ("ReLU", {"max_value": "6"}, "max_value"),
        ("ReLU", {"negative_slope": float("nan")}, "negative_slope"),
        ("Softmax", {"axis": 1.5}, "axis"),
        ("Rescaling", {"scale": [1.0, 2.0]}, "scale"),
        ("Activation", {"activation": np.tanh}, "activation"),
        ("ZeroPadding2D", {"padding": -1}, "padding"),
        ("ZeroPadding2D", {"padding": (1, 2, 3)}, "padding"),
        ("ZeroPadding2D", {"padding": ((1, 2), (3, 4, 5))}, "padding"),
        ("ZeroPadding2D", {"data_format": "first"}, "data_format"),
        ("ZeroPadding1D", {"padding": 1.5}, "padding"),
        ("Cropping2D", {"cropping": (1, -1)}, "cropping"),
        ("Cropping1D", {"cropping": "one"}, "cropping"),
        ("UpSampling2D", {"size": 0}, "size"),
        ("UpSampling2D", {"interpolation": "area"}, "interpolation"),
        ("UpSampling1D", {"size": (2, 2)}, "size"),
        ("Resizing", {"height": 0, "width": 3}, "height"),
        ("Resizing", {"height": 3, "width": 3, "interpolation": ["nearest"]}, "interpolation"),
        ("Resizing", {"height": 3, "width": 3, "crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True},
         "crop_to_aspect_ratio"),
        ("Resizing", {"height": 3, "width": 3, "fill_mode": "reflect"}, "fill_mode"),
        ("Resizing", {"height": 3, "width": 3, "fill_value": 1.0}, "fill_value"),
        ("CenterCrop", {"height": 3, "width": -3}, "width"),
        ("Permute", {"dims": (0, 1)}, "dims"),
        ("Permute", {"dims": (1, 1)}, "dims"),
        ("Permute", {"dims": 2}, "dims"),
        ("RepeatVector", {"n": 0}, "n"),
        ("RandomBrightness", {"factor": 1.5}, "factor"),
        ("RandomBrightness", {"factor": (-2, 0.5)}, "factor"),
        ("RandomBrightness", {"factor": 0.1, "value_range": (0, 1, 2)}, "value_range"),
        ("RandomBrightness", {"factor": 0.1, "value_range": 255}, "value_range"),
        ("RandomContrast", {"factor": -0.1}, r"factor to be a number in \[0, 1\]"),
        ("RandomContrast", {"factor": (0.1, 1.5)}, "factor"),
        ("RandomContrast", {"factor": 0.1, "value_range": (0, float("nan"))}, "value_range"),
        ("RandomFlip", {"mode": "diagonal"}, "mode"),
        ("RandomFlip", {"seed": -1}, "seed"),
        ("RandomTranslation", {"height_factor": 1.5, "width_factor": 0}, "height_factor"),
        ("RandomTranslation", {"height_factor": 0.5, "width_factor": (0, 0.1, 0.2)}, "width_factor"),
        ("RandomRotation", {"factor": "much"}, "factor"),
        ("RandomRotation", {"factor": 0.1, "fill_mode": "mirror"}, "fill_mode"),
        ("RandomRotation", {"factor": 0.1, "interpolation": "bicubic"}, "interpolation"),
        ("RandomZoom", {"height_factor": -1.0}, "height_factor"),
        ("RandomZoom", {"height_factor": 0.1, "fill_value": float("inf")}, "fill_value"),
    ],
    ids=str,
)
def test_layer_refuses_bad_arguments(name, arguments, message):
    with pytest.raises(ValueError, match=rf"(?<!\w){message}(?!\w).*Received: ") as caught:
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
        with pytest.raises(TypeError, match="dtype.*Received: dtype="):
            layers.Dense(3, dtype=dtype)


@pytest.mark.parametrize(
    "layer, input_shape, message",
    [
        (lambda: layers.Conv2D(8, 5), (28, 28), "height, width, channels"),
        (lambda: layers.Conv2D(8, 5, data_format="channels_first"), (28, 28), "channels, height, width"),
        (lambda: layers.Conv2D(8, 3, groups=4), (28, 28, 6), "groups"),
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
        (lambda: layers.Softmax(axis=(1, 4)), (4, 4, 2), "axis"),
        (lambda: layers.BatchNormalization(axis=4), (4, 4, 2), "axis"),
        (lambda: layers.Dropout(0.5, (None, 1, 2, 2)), (4, 4, 2), "noise_shape"),
        (lambda: layers.Dropout(0.5, (None, 4, 4)), (4, 4, 2), "noise_shape"),
        (lambda: layers.Softmax(axis=4), (4, 4, 2), "axis"),
        (lambda: layers.Softmax(axis=-4), (4, 4, 2), "axis"),
        (lambda: layers.SpatialDropout2D(0.5), (4, 2), "height, width, channels"),
        (lambda: layers.SpatialDropout1D(0.5), (4, 4, 2), "steps, channels"),
        (lambda: layers.Dense(2**20), (2**20,), "kernel to have at most"),
        (lambda: layers.Conv2D(2**30, 1), (4, 4, 1), "output_shape"),
        (lambda: layers.ZeroPadding2D(1), (4, 4), "height, width, channels"),
        (lambda: layers.ZeroPadding1D(1), (4, 4, 1), "steps, channels"),
        (lambda: layers.Cropping2D((2, 0)), (4, 4, 1), "cropping"),
        (lambda: layers.Cropping1D(2), (4, 1), "cropping"),
        (lambda: layers.Permute((2, 1)), (4, 4, 1), "2 dimensions"),
        (lambda: layers.RepeatVector(3), (4, 4), "features"),
    ],
)
def test_layer_refuses_bad_inputs(layer, input_shape, message):
    layer = layer()
    with pytest.raises(ValueError, match=rf"Layer '{layer.name}'.*(?<!\w){message}(?!\w).*Received: ") as caught:
        layer.build(input_shape)
    assert "\n" not in str(caught.value) and not layer.built


def test_same_padding_takes_any_window():
    assert build(layers.MaxPooling2D(5, padding="same"), (2, 2, 1)).output_shape == (1, 1, 1)
    assert build(layers.Conv2D(1, 7, padding="same"), (2, 3, 1)).output_shape == (2, 3, 1)


def test_rebuild_for_other_weights_is_refused():
    dense = build(layers.Dense(3), (4,))
    with pytest.raises(ValueError, match=r"'dense' has weights for inputs of shape \(4,\). Received: "):
        dense.build((5,))
    conv = build(layers.Conv2D(2, 3), (8, 8, 1))
    conv.build((9, 7, 1))
    assert conv.output_shape == (7, 5, 2)


def test_set_weights_changes_nothing_where_something_does_not_fit():
    dense = build(layers.Dense(3), (4,))
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
    dense = build(layers.Dense(3), (4,))
    calls = []
    dense._on_change = lambda: calls.append(1)
    dense.bias.assign([1, 2, 3])
    assert calls == [1] and dense.bias.numpy().tolist() == [1, 2, 3]
    dense.bias.numpy()[...] = 9
    assert dense.bias.value.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"shape \(3,\). Received: shape=\(2,\)"):
        dense.bias.assign([1, 2])

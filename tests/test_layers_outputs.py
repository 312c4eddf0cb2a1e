"""What layers lower to and compute, each beside its definition."""

from __future__ import annotations

import layer_cases
import numpy as np
import pytest
from layer_cases import CASES, build, lower, run

from tinyconv import Sequential, activations, initializers, layers

fresh_names = layer_cases.fresh_names  # a fixture


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
    program = lower(*stack, input_shape=(28, 28, 1))
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
    conv = lower(layers.Conv2D(4, (3, 4), strides=2, padding="same"), input_shape=(8, 7, 1)).ops[0]
    assert conv.attributes == {
        "kernel_size": (3, 4),
        "strides": (2, 2),
        "dilation_rate": (1, 1),
        "padding": ((0, 1), (1, 2)),
        "groups": 1,
    }
    pool = lower(layers.AveragePooling2D(3, padding="same"), input_shape=(7, 6, 1)).ops[0]
    assert pool.attributes == {"pool_size": (3, 3), "strides": (3, 3), "padding": ((1, 1), (0, 0))}


def test_reshape_of_the_same_image_adds_no_operation():
    assert lower(layers.Flatten(), input_shape=(1, 1, 8)).ops == ()
    assert lower(layers.Reshape((1, 8)), input_shape=(8,)).ops == ()
    assert [op.kind for op in lower(layers.Flatten(), input_shape=(2, 4)).ops] == ["reshape"]


def test_dropout_streams_differ_by_layer_and_repeat_by_seed():
    program = lower(
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
    assert run(conv, x=x)[0, ..., 0].tolist() == [[8.5, 12.5], [20.5, 24.5]]
    same = layers.Conv2D(1, 2, padding="same", kernel_initializer="ones")
    assert run(same, x=x)[0, ..., 0].tolist() == [[8, 12, 7], [20, 24, 13], [13, 15, 8]]


def test_pools_leave_padding_out():
    x = -np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    assert run(layers.MaxPooling2D(padding="same"), x=x)[0, ..., 0].tolist() == [[-1, -3], [-7, -9]]
    assert run(layers.AveragePooling2D(padding="same"), x=x)[0, ..., 0].tolist() == [[-3, -4.5], [-7.5, -9]]
    assert run(layers.GlobalMaxPooling2D(), x=x).tolist() == [[-1]]
    assert run(layers.GlobalAveragePooling2D(keepdims=True), x=x).tolist() == [[[[-5]]]]


@pytest.mark.parametrize("shape", [(6,), (5, 6), (4, 5, 6)], ids=str)
def test_dense_works_on_the_last_axis(shape):
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    dense = layers.Dense(2, bias_initializer="random_normal")
    y = run(dense, x=x)
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
    np.testing.assert_allclose(run(layer(), x=[[-2.0, 0.0, 1.0, 3.0]])[0], expected, rtol=1e-5)


def test_reshape_keeps_row_major_order():
    x = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    np.testing.assert_array_equal(run(layers.Reshape((3, -1)), x=x), x.reshape(2, 3, 4))
    np.testing.assert_array_equal(run(layers.Flatten(), x=x), x.reshape(2, 12))


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
    kinds = [op.kind for op in lower(*stack, input_shape=(2, 8, 8)).ops]
    assert kinds == ["gather", "conv2d", "batch_normalization", "max_pool2d", "gather"]


# --- sequences, depthwise and transposed convolutions ---

def _with_weights(layer, input_shape, seed=0):
    random = np.random.default_rng(seed)
    build(layer, input_shape)
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
    y = run(last, x=np.moveaxis(x, 1, -1))
    expected = np.moveaxis(y, -1, 1) if y.ndim > 2 else y
    if getattr(first, "activation", None) is activations.softmax:
        expected = activations.softmax(expected)
    np.testing.assert_allclose(run(first, x=x), expected, rtol=2e-5, atol=2e-6)


def test_channels_first_layers_in_a_row_move_the_channels_once():
    first = {"data_format": "channels_first"}
    stack = [layers.Conv2D(4, 3, activation="relu", **first), layers.MaxPooling2D(2, **first),
             layers.DepthwiseConv2D(2, **first), layers.Flatten(**first)]
    kinds = [op.kind for op in lower(*stack, input_shape=(2, 8, 8)).ops]
    assert kinds == ["gather", "conv2d", "activation", "max_pool2d", "conv2d", "reshape"]
    gray = [op.kind for op in lower(layers.Conv2D(4, 3, **first), input_shape=(1, 8, 8)).ops]
    assert gray == ["reshape", "conv2d", "gather"]


def test_separable_conv_is_a_depthwise_and_a_pointwise_one():
    x = np.random.default_rng(1).normal(size=(3, 7, 6, 3)).astype(np.float32)
    layer = _with_weights(layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2, padding="same"), (7, 6, 3))
    depthwise = build(layers.DepthwiseConv2D(3, 2, "same", 2, use_bias=False), (7, 6, 3))
    pointwise = build(layers.Conv2D(4, 1), depthwise.output_shape)
    kernel, mix, bias = layer.get_weights()
    depthwise.set_weights([kernel])
    pointwise.set_weights([mix, bias])
    np.testing.assert_array_equal(run(layer, x=x), run(depthwise, pointwise, x=x))


def test_depthwise_conv_is_one_convolution_a_channel():
    x = np.random.default_rng(1).normal(size=(2, 9, 2)).astype(np.float32)
    layer = _with_weights(layers.DepthwiseConv1D(3, depth_multiplier=2, use_bias=False), (9, 2))
    y = run(layer, x=x)
    for channel in range(2):
        for m in range(2):
            expected = [np.correlate(row[:, channel], layer.kernel.value[:, channel, m]) for row in np.float64(x)]
            np.testing.assert_allclose(y[:, :, channel * 2 + m], expected, rtol=1e-4, atol=1e-5)


def test_causal_convolution_does_not_see_what_comes_after():
    layer = _with_weights(layers.Conv1D(2, 3, padding="causal", dilation_rate=2), (9, 1))
    x = np.random.default_rng(1).normal(size=(1, 9, 1)).astype(np.float32)
    changed = x.copy()
    changed[0, 5] += 1
    same = (run(layer, x=x) == run(layer, x=changed)).all((0, 2))
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
    assert "".join(f"{value:.0f}" for value in run(layer, x=x).ravel()) == expected

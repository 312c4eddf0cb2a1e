"""Layers: what Keras' own tests ask of them, where the result is known without Keras."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import Input, Sequential, constraints, layers

IMAGE = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)


def applied(layer, x, training=False):
    x = np.asarray(x, np.float32)
    return Sequential([Input(x.shape[1:]), layer], seed=1)(x, training=training)


def shifted(rows, columns):
    """The rows and columns of IMAGE that come out, -1 for a filling of 0."""
    padded = np.pad(IMAGE[0, :, :, 0], [(0, 1), (0, 1)])
    return padded[rows][:, columns]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("arguments", "rows", "columns"), [
    ({"height_factor": (0.2, 0.2), "width_factor": 0.0}, [0, 0, 1, 2, 3], [0, 1, 2, 3, 4]),
    ({"height_factor": (-0.2, -0.2), "width_factor": 0.0}, [1, 2, 3, 4, 4], [0, 1, 2, 3, 4]),
    ({"height_factor": 0.0, "width_factor": (-0.2, -0.2)}, [0, 1, 2, 3, 4], [1, 2, 3, 4, 4]),
    ({"height_factor": (0.2, 0.2), "width_factor": 0.0, "fill_mode": "constant", "fill_value": 0.0},
     [-1, 0, 1, 2, 3], [0, 1, 2, 3, 4]),
    ({"height_factor": 0.0, "width_factor": (-0.2, -0.2), "fill_mode": "constant"}, [0, 1, 2, 3, 4], [1, 2, 3, 4, -1]),
])
def test_translation_by_a_pixel_moves_the_image(arguments, rows, columns, data_format):
    x = IMAGE if data_format == "channels_last" else IMAGE.transpose(0, 3, 1, 2)
    layer = layers.RandomTranslation(**arguments, data_format=data_format)
    np.testing.assert_allclose(applied(layer, x, training=True).reshape(5, 5), shifted(rows, columns), atol=1e-4)


def test_half_a_turn_reverses_the_image():
    np.testing.assert_allclose(applied(layers.RandomRotation((0.5, 0.5)), IMAGE, training=True),
                               IMAGE[:, ::-1, ::-1], atol=1e-4)


def test_zoom_to_half_shows_the_middle():
    layer = layers.RandomZoom((-0.5, -0.5), (-0.5, -0.5), fill_mode="constant", interpolation="bilinear")
    expected = 6 + 2.5 * np.arange(5)[:, None] + 0.5 * np.arange(5)
    np.testing.assert_allclose(applied(layer, IMAGE, training=True)[0, :, :, 0], expected, atol=1e-4)


@pytest.mark.parametrize("layer", [layers.RandomTranslation((0.5, 0.5), 0.0), layers.RandomRotation((0.5, 0.5)),
                                   layers.RandomZoom((-0.5, -0.5)), layers.RandomFlip()])
def test_augmentation_leaves_images_alone_outside_training(layer):
    np.testing.assert_array_equal(applied(layer, IMAGE), IMAGE)


@pytest.mark.parametrize(("layer", "expected"), [
    (layers.ReLU(), [0, 0, 0, 5, 10]), (layers.ReLU(negative_slope=0.5), [-5, -2.5, 0, 5, 10]),
    (layers.ReLU(max_value=6), [0, 0, 0, 5, 6]), (layers.ReLU(threshold=5), [0, 0, 0, 0, 10]),
    (layers.ReLU(max_value=6, threshold=5), [0, 0, 0, 0, 6]),
    (layers.ReLU(max_value=6, negative_slope=0.5, threshold=5), [-7.5, -5, -2.5, 0, 6]),
    (layers.LeakyReLU(0.5), [-5, -2.5, 0, 5, 10]),
    (layers.ELU(), [np.expm1(-10), np.expm1(-5), 0, 5, 10]),
    (layers.PReLU(alpha_initializer="ones"), [-10, -5, 0, 5, 10]),
], ids=repr)
def test_rectifier_has_the_values_of_keras(layer, expected):
    np.testing.assert_allclose(applied(layer, [[-10, -5, 0, 5, 10]])[0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("layer", "shape"), [
    (layers.SpatialDropout1D(0.5), (10, 4, 10)), (layers.SpatialDropout2D(0.5), (10, 3, 3, 10)),
    (layers.SpatialDropout2D(0.5, data_format="channels_first"), (10, 10, 3, 3))], ids=["1D", "2D", "first"])
def test_spatial_dropout_drops_whole_channels(layer, shape):
    y = applied(layer, np.ones(shape), training=True)
    y = np.moveaxis(y, 1, -1) if getattr(layer, "data_format", "") == "channels_first" else y
    y = y.reshape(shape[0], -1, 10)
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))


@pytest.mark.parametrize("layer", [layers.Dropout, layers.AlphaDropout, layers.GaussianDropout,
                                   layers.SpatialDropout2D])
@pytest.mark.parametrize("rate", [-0.5, 1.5, "0.5"])
def test_rate_outside_of_0_and_1_is_refused(layer, rate):
    with pytest.raises((TypeError, ValueError), match="rate"):
        layer(rate)


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (lambda: layers.Conv2D(0, 1), None, "filters"), (lambda: layers.Conv2D(2, (1, 0)), None, "kernel_size"),
    (lambda: layers.Conv2D(2, 2, strides=(1, 0)), None, "strides"),
    (lambda: layers.Conv2D(5, 2, groups=0), None, "groups"),
    (lambda: layers.Conv2D(5, 2, groups=2), None, "groups"), (lambda: layers.Conv2D(6, 3), (2, 5, 3), "kernel|window"),
    (lambda: layers.DepthwiseConv2D(1, depth_multiplier=0), None, "depth_multiplier"),
    (lambda: layers.Cropping2D(((2, 3), (0, 0))), (5, 7, 1), "cropping|Cropping"),
    (lambda: layers.Cropping1D((3, 2)), (5, 1), "cropping|Cropping"),
    (lambda: layers.Cropping2D((1, 2, 3)), None, "cropping"),
    (lambda: layers.ZeroPadding2D((1, 2, 3)), None, "padding"),
    (lambda: layers.ZeroPadding1D((1, 2, 3)), None, "padding"),
    (lambda: layers.UpSampling2D(2, interpolation="cubic"), None, "interpolation"),
    (lambda: layers.Permute((0, 1)), None, "dims"), (lambda: layers.Permute((1, 3)), None, "dims"),
    (lambda: layers.Reshape((4, 5)), (6,), "Reshape|shape"), (lambda: layers.RepeatVector(0), None, "n"),
    (lambda: layers.Resizing(3, 3, crop_to_aspect_ratio=True, pad_to_aspect_ratio=True), None, "aspect_ratio"),
    (lambda: layers.BatchNormalization(axis="bad"), None, "axis"), (lambda: layers.Softmax(axis=5), (3,), "axis"),
])
def test_bad_argument_is_refused_as_in_keras(layer, shape, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Sequential([Input(shape or (5, 5, 2)), layer()])


def test_largest_norm_is_that_of_keras():
    columns = np.array([[0, 0, 0], [1, 0, 0], [3, 0, 0], [3, 3, 3]], np.float32).T
    expected = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [2 / np.sqrt(3)] * 3]).T
    np.testing.assert_allclose(constraints.MaxNorm(2.0)(columns), expected, rtol=1e-6)

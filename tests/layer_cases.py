"""A case or more for every layer, and what the tests of layers share."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import utils
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
    ("RandomBrightness", {"factor": 0.2}, (4, 5, 3), (4, 5, 3), 0),
    ("RandomBrightness", {"factor": (-0.1, 0.3), "value_range": (0, 1), "seed": 1, "data_format": "channels_first"},
     (3, 4, 5), (3, 4, 5), 0),
    ("RandomContrast", {"factor": (0.1, 0.3), "value_range": (-1.0, 1.0)}, (4, 5, 3), (4, 5, 3), 0),
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
def fresh_names(monkeypatch):
    monkeypatch.setattr(utils, "_name_counts", {})


def build(layer, input_shape, seed=1):
    layer._seed = seed
    layer.build(input_shape)
    return layer


def lower(*stack, input_shape, seed=0) -> Program:
    builder = ProgramBuilder(as_image_shape(input_shape), seed)
    for layer in stack:
        build(layer, input_shape)
        layer.lower(builder)
        assert builder.shape == as_image_shape(layer.output_shape)
        input_shape = layer.output_shape
    return builder.build()


def run(*stack, x) -> np.ndarray:
    x = np.ascontiguousarray(x, np.float32)
    y = Executor(lower(*stack, input_shape=x.shape[1:])).predict(x)
    return y.reshape(len(x), *stack[-1].output_shape)

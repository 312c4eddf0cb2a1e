"""Layers, with Keras' names, arguments and defaults.

Every class has the snake_case name of TensorFlow.js' factories as well:
`layers.conv2d(filters=8, kernel_size=5)` is `layers.Conv2D(...)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyconv.layers.augmentation import (
    RandomBrightness,
    RandomContrast,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
)
from tinyconv.layers.base import Layer, Spec, Weight
from tinyconv.layers.conv import Conv1D, Conv2D
from tinyconv.layers.conv_transpose import Conv1DTranspose, Conv2DTranspose
from tinyconv.layers.core import Dense, Flatten, Input, InputLayer, Reshape
from tinyconv.layers.depthwise import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D
from tinyconv.layers.nonlinear import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from tinyconv.layers.normalization import BatchNormalization
from tinyconv.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    MaxPooling1D,
    MaxPooling2D,
)
from tinyconv.layers.preprocessing import Normalization, Rescaling
from tinyconv.layers.regularization import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
)
from tinyconv.layers.reshaping import (
    CenterCrop,
    Cropping1D,
    Cropping2D,
    Permute,
    RepeatVector,
    Resizing,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
)
from tinyconv.left_out import explain
from tinyconv.named import serialize_object
from tinyconv.shapes import describe

__all__ = [
    "ELU", "Activation", "AlphaDropout", "AveragePooling1D", "AveragePooling2D", "AvgPool1D", "AvgPool2D",
    "BatchNormalization", "CenterCrop", "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose",
    "Convolution1D", "Convolution1DTranspose", "Convolution2D", "Convolution2DTranspose", "Cropping1D",
    "Cropping2D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D", "Dropout", "Flatten", "GaussianDropout",
    "GaussianNoise", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAvgPool1D",
    "GlobalAvgPool2D", "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D",
    "Input", "InputLayer", "Layer", "LeakyReLU", "MaxPool1D", "MaxPool2D", "MaxPooling1D", "MaxPooling2D",
    "Normalization", "PReLU", "Permute", "RandomBrightness", "RandomContrast", "RandomFlip",
    "RandomRotation", "RandomTranslation", "RandomZoom", "ReLU", "RepeatVector", "Rescaling", "Reshape",
    "Resizing", "SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D",
    "Softmax", "SpatialDropout1D", "SpatialDropout2D", "Spec", "UpSampling1D", "UpSampling2D", "Weight",
    "ZeroPadding1D", "ZeroPadding2D",
    "activation", "alpha_dropout", "average_pooling1d", "average_pooling2d", "avg_pool1d", "avg_pool2d",
    "batch_normalization", "center_crop", "conv1d", "conv1d_transpose", "conv2d", "conv2d_transpose",
    "cropping1d", "cropping2d", "dense", "depthwise_conv1d", "depthwise_conv2d", "deserialize", "dropout",
    "elu", "flatten", "gaussian_dropout", "gaussian_noise", "get", "global_average_pooling1d",
    "global_average_pooling2d", "global_avg_pool1d", "global_avg_pool2d", "global_max_pool1d",
    "global_max_pool2d", "global_max_pooling1d", "global_max_pooling2d", "input_layer", "leaky_re_lu",
    "leaky_relu", "max_pool1d", "max_pool2d", "max_pooling1d", "max_pooling2d", "normalization",
    "p_re_lu", "permute", "prelu", "random_flip", "random_rotation", "random_translation", "random_zoom",
    "re_lu", "relu", "repeat_vector", "rescaling", "reshape", "resizing", "separable_conv1d",
    "separable_conv2d", "serialize", "softmax", "spatial_dropout1d", "spatial_dropout2d", "up_sampling1d",
    "up_sampling2d", "zero_padding1d", "zero_padding2d",
]

# Keras' aliases.
Convolution2D = Conv2D
Convolution1D = Conv1D
Convolution1DTranspose = Conv1DTranspose
Convolution2DTranspose = Conv2DTranspose
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D
MaxPool1D = MaxPooling1D
AvgPool1D = AveragePooling1D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalAvgPool1D = GlobalAveragePooling1D
MaxPool2D = MaxPooling2D
AvgPool2D = AveragePooling2D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalAvgPool2D = GlobalAveragePooling2D

# TensorFlow.js' factories.
activation = Activation
average_pooling2d = avg_pool2d = AveragePooling2D
batch_normalization = BatchNormalization
conv2d = Conv2D
conv1d = Conv1D
conv1d_transpose = Conv1DTranspose
conv2d_transpose = Conv2DTranspose
depthwise_conv1d = DepthwiseConv1D
depthwise_conv2d = DepthwiseConv2D
separable_conv1d = SeparableConv1D
separable_conv2d = SeparableConv2D
max_pooling1d = max_pool1d = MaxPooling1D
average_pooling1d = avg_pool1d = AveragePooling1D
global_max_pooling1d = global_max_pool1d = GlobalMaxPooling1D
global_average_pooling1d = global_avg_pool1d = GlobalAveragePooling1D
dense = Dense
dropout = Dropout
elu = ELU
flatten = Flatten
global_average_pooling2d = global_avg_pool2d = GlobalAveragePooling2D
global_max_pooling2d = global_max_pool2d = GlobalMaxPooling2D
input_layer = InputLayer
leaky_re_lu = leaky_relu = LeakyReLU
max_pooling2d = max_pool2d = MaxPooling2D
normalization = Normalization
p_re_lu = prelu = PReLU
re_lu = relu = ReLU
rescaling = Rescaling
reshape = Reshape
softmax = Softmax
random_brightness = RandomBrightness
random_contrast = RandomContrast
random_flip = RandomFlip
random_rotation = RandomRotation
random_translation = RandomTranslation
random_zoom = RandomZoom
alpha_dropout = AlphaDropout
gaussian_dropout = GaussianDropout
gaussian_noise = GaussianNoise
spatial_dropout1d = SpatialDropout1D
spatial_dropout2d = SpatialDropout2D
center_crop = CenterCrop
cropping1d = Cropping1D
cropping2d = Cropping2D
permute = Permute
repeat_vector = RepeatVector
resizing = Resizing
up_sampling1d = UpSampling1D
up_sampling2d = UpSampling2D
zero_padding1d = ZeroPadding1D
zero_padding2d = ZeroPadding2D

# The closed table that a file's class names are looked up in: all classes of this module, and Keras' aliases.
_NAMES: dict[str, type[Layer]] = {
    name: value for name in __all__ if isinstance(value := globals().get(name), type) and issubclass(value, Layer)
    and value is not Layer and not name.islower()
}
_CLASSES = {cls.__name__ for cls in _NAMES.values()}


def get(name: str) -> type[Layer]:
    """Returns the layer class of a class name.

    Raises:
        ValueError: If there is no such layer here.
    """
    if isinstance(name, str) and name in _NAMES:
        return _NAMES[name]
    raise ValueError(f"Unknown layer. Expected class_name to be one of {sorted(_CLASSES)}. "
                     f"Received: class_name={describe(name)}")


def serialize(layer: Layer) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(layer)


def deserialize(config: dict[str, Any]) -> Layer:
    """Creates a layer from what `serialize`, Keras or TensorFlow.js wrote.

    Raises:
        ValueError: If the layer's class is not one of this package, or a setting is not its own.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config", {}), dict):
        raise ValueError(  # noqa: TRY004 (it is what the file holds that is wrong)
            f"Expected a layer's class_name and config. Received: {describe(config)}"
        )
    return get(config.get("class_name", "")).from_config(config.get("config", {}))


if not TYPE_CHECKING:
    __getattr__ = explain(__name__)

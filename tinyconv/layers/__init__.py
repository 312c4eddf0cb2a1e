"""Layers, with Keras' names, arguments and defaults.

Every class has the snake_case name of TensorFlow.js' factories as well:
`layers.conv2d(filters=8, kernel_size=5)` is `layers.Conv2D(...)`.
"""

from __future__ import annotations

from typing import Any

from tinyconv.layers.augmentation import RandomFlip, RandomRotation, RandomTranslation, RandomZoom
from tinyconv.layers.base import Layer, Weight
from tinyconv.layers.conv import Conv2D
from tinyconv.layers.core import Dense, Flatten, Input, InputLayer, Reshape
from tinyconv.layers.nonlinear import ELU, Activation, LeakyReLU, ReLU, Softmax
from tinyconv.layers.normalization import BatchNormalization
from tinyconv.layers.pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)
from tinyconv.layers.preprocessing import Rescaling
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
from tinyconv.shapes import describe
from tinyconv.utils import serialize_object

__all__ = [
    "ELU", "Activation", "AlphaDropout", "AveragePooling2D", "AvgPool2D", "BatchNormalization",
    "CenterCrop", "Conv2D", "Convolution2D", "Cropping1D", "Cropping2D", "Dense", "Dropout", "Flatten",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling2D", "GlobalAvgPool2D", "GlobalMaxPool2D",
    "GlobalMaxPooling2D", "Input", "InputLayer", "Layer", "LeakyReLU", "MaxPool2D", "MaxPooling2D",
    "Permute", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "ReLU",
    "RepeatVector", "Rescaling", "Reshape", "Resizing", "Softmax", "SpatialDropout1D",
    "SpatialDropout2D", "UpSampling1D", "UpSampling2D", "Weight", "ZeroPadding1D", "ZeroPadding2D",
    "activation", "alpha_dropout", "average_pooling2d", "avg_pool2d", "batch_normalization",
    "center_crop", "conv2d", "cropping1d", "cropping2d", "dense", "deserialize", "dropout", "elu",
    "flatten", "gaussian_dropout", "gaussian_noise", "get", "global_average_pooling2d",
    "global_avg_pool2d", "global_max_pool2d", "global_max_pooling2d", "input_layer", "leaky_re_lu",
    "leaky_relu", "max_pool2d", "max_pooling2d", "permute", "random_flip", "random_rotation",
    "random_translation", "random_zoom", "re_lu", "relu", "repeat_vector", "rescaling", "reshape",
    "resizing", "serialize", "softmax", "spatial_dropout1d", "spatial_dropout2d", "up_sampling1d",
    "up_sampling2d", "zero_padding1d", "zero_padding2d",
]

# Keras' aliases.
Convolution2D = Conv2D
MaxPool2D = MaxPooling2D
AvgPool2D = AveragePooling2D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalAvgPool2D = GlobalAveragePooling2D

# TensorFlow.js' factories.
activation = Activation
average_pooling2d = avg_pool2d = AveragePooling2D
batch_normalization = BatchNormalization
conv2d = Conv2D
dense = Dense
dropout = Dropout
elu = ELU
flatten = Flatten
global_average_pooling2d = global_avg_pool2d = GlobalAveragePooling2D
global_max_pooling2d = global_max_pool2d = GlobalMaxPooling2D
input_layer = InputLayer
leaky_re_lu = leaky_relu = LeakyReLU
max_pooling2d = max_pool2d = MaxPooling2D
re_lu = relu = ReLU
rescaling = Rescaling
reshape = Reshape
softmax = Softmax
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

# The closed table that a file's class names are looked up in.
_CLASSES: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (Activation, AlphaDropout, AveragePooling2D, BatchNormalization, CenterCrop, Conv2D,
                Cropping1D, Cropping2D, Dense, Dropout, ELU, Flatten, GaussianDropout, GaussianNoise,
                GlobalAveragePooling2D, GlobalMaxPooling2D, InputLayer, LeakyReLU, MaxPooling2D,
                Permute, RandomFlip, RandomRotation, RandomTranslation, RandomZoom, ReLU, RepeatVector,
                Rescaling, Reshape, Resizing, Softmax, SpatialDropout1D, SpatialDropout2D,
                UpSampling1D, UpSampling2D, ZeroPadding1D, ZeroPadding2D)
}
_NAMES: dict[str, type[Layer]] = {
    **_CLASSES,
    "AvgPool2D": AveragePooling2D, "Convolution2D": Conv2D, "GlobalAvgPool2D": GlobalAveragePooling2D,
    "GlobalMaxPool2D": GlobalMaxPooling2D, "MaxPool2D": MaxPooling2D,
}


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

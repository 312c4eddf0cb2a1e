"""Layers: a line is a shape of one sample and a call.  Who adds a layer adds lines here."""

from __future__ import annotations

from typing import Any

from parity.harness import New


def layer(name: str, /, *args: Any, **kwargs: Any) -> New:
    return New(f"layers.{name}", *args, **kwargs)


IMAGE = (7, 6, 3)
CASES: list[tuple[tuple[int, ...], New]] = [
    # Dense
    ((5,), layer("Dense", 4)),
    ((5,), layer("Dense", 4, use_bias=False)),
    ((5,), layer("Dense", 3, activation="softmax")),
    ((5,), layer("Dense", units=3, activation="tanh", kernel_initializer="he_normal", bias_initializer="ones")),
    ((4, 5), layer("Dense", 3)),
    (IMAGE, layer("Dense", 4, activation="relu")),
    # Conv2D
    (IMAGE, layer("Conv2D", 4, 3)),
    (IMAGE, layer("Conv2D", 4, 3, padding="same")),
    (IMAGE, layer("Conv2D", 4, (3, 2), strides=2, padding="same")),
    (IMAGE, layer("Conv2D", 4, (2, 4), strides=(2, 1))),
    (IMAGE, layer("Conv2D", 2, 2, dilation_rate=2, padding="same")),
    (IMAGE, layer("Conv2D", 2, (3, 1), dilation_rate=(2, 3))),
    (IMAGE, layer("Conv2D", 5, 1, use_bias=False, activation="sigmoid")),
    (IMAGE, layer("Conv2D", filters=3, kernel_size=5, padding="SAME", activation="elu")),
    ((9, 9, 8), layer("Conv2D", 8, 3, padding="same")),
    ((9, 9, 8), layer("Conv2D", 9, 5)),
    # Pooling
    (IMAGE, layer("MaxPooling2D")),
    (IMAGE, layer("MaxPooling2D", 3, strides=2, padding="same")),
    (IMAGE, layer("MaxPooling2D", (2, 3), strides=(1, 2))),
    (IMAGE, layer("MaxPool2D", pool_size=2, strides=3)),
    (IMAGE, layer("AveragePooling2D", 2)),
    (IMAGE, layer("AveragePooling2D", 3, strides=2, padding="same")),
    (IMAGE, layer("AveragePooling2D", (3, 2), strides=(1, 2), padding="same")),
    (IMAGE, layer("AvgPool2D", pool_size=2, strides=3)),
    (IMAGE, layer("GlobalMaxPooling2D")),
    (IMAGE, layer("GlobalMaxPool2D", keepdims=True)),
    (IMAGE, layer("GlobalAveragePooling2D")),
    (IMAGE, layer("GlobalAvgPool2D", keepdims=True)),
    # Shapes
    (IMAGE, layer("Flatten")),
    ((5,), layer("Flatten")),
    (IMAGE, layer("Reshape", (6, 21))),
    (IMAGE, layer("Reshape", (-1,))),
    ((12,), layer("Reshape", target_shape=(2, -1, 3))),
    # Pixels that move
    (IMAGE, layer("ZeroPadding2D")),
    (IMAGE, layer("ZeroPadding2D", (2, 1), data_format="channels_first")),
    (IMAGE, layer("ZeroPadding2D", padding=((1, 2), (0, 3)))),
    ((5, 3), layer("ZeroPadding1D", 2)),
    ((5, 3), layer("ZeroPadding1D", (2, 0), "channels_first")),
    (IMAGE, layer("Cropping2D", ((1, 2), (1, 0)))),
    (IMAGE, layer("Cropping2D", cropping=1, data_format="channels_first")),
    ((5, 3), layer("Cropping1D", (2, 1))),
    (IMAGE, layer("UpSampling2D", data_format="channels_first")),
    (IMAGE, layer("UpSampling2D", (2, 3), interpolation="nearest")),
    *((IMAGE, layer("UpSampling2D", (3, 2), interpolation=kind))
      for kind in ("bilinear", "bicubic", "lanczos3", "lanczos5")),
    ((5, 3), layer("UpSampling1D", 3)),
    (IMAGE, layer("Resizing", 4, 9)),
    (IMAGE, layer("Resizing", 4, 9, "bicubic", crop_to_aspect_ratio=True)),
    (IMAGE, layer("Resizing", 9, 3, pad_to_aspect_ratio=True, antialias=True)),
    (IMAGE, layer("Resizing", 9, 3, "lanczos3", data_format="channels_first")),
    (IMAGE, layer("CenterCrop", 4, 3)),
    (IMAGE, layer("CenterCrop", height=3, width=9)),
    (IMAGE, layer("Permute", (3, 1, 2))),
    (IMAGE, layer("Permute", (2, 1, 3))),
    ((5, 3), layer("Permute", (2, 1))),
    ((5,), layer("RepeatVector", 3)),
    # Normalization
    (IMAGE, layer("BatchNormalization")),
    ((5,), layer("BatchNormalization")),
    ((4, 5), layer("BatchNormalization", axis=-1, momentum=0.7, epsilon=0.01)),
    (IMAGE, layer("BatchNormalization", center=False)),
    (IMAGE, layer("BatchNormalization", scale=False, moving_mean_initializer="ones")),
    (IMAGE, layer("BatchNormalization", 3, 0.9, 1e-5, False, False)),
    # Without an effect outside training
    (IMAGE, layer("Dropout", 0.5)),
    (IMAGE, layer("Dropout", 0.0)),
    (IMAGE, layer("SpatialDropout2D", 0.5)),
    (IMAGE, layer("SpatialDropout2D", 0.5, "channels_first", 3)),
    ((5, 3), layer("SpatialDropout1D", rate=0.5, seed=2)),
    (IMAGE, layer("GaussianNoise", 0.5)),
    (IMAGE, layer("GaussianDropout", 0.5, seed=2)),
    (IMAGE, layer("AlphaDropout", 0.5)),
    *((IMAGE, layer("RandomFlip", mode)) for mode in ("horizontal", "vertical", "horizontal_and_vertical")),
    (IMAGE, layer("RandomTranslation", 0.2, (-0.1, 0.3), "wrap", seed=3)),
    (IMAGE, layer("RandomRotation", 0.2, fill_mode="constant", fill_value=0.5)),
    (IMAGE, layer("RandomZoom", (-0.2, 0.3), interpolation="nearest")),
    (IMAGE, layer("RandomZoom", 0.1, 0.2, "nearest")),
    # Preprocessing
    (IMAGE, layer("Rescaling", 1 / 255)),
    (IMAGE, layer("Rescaling", scale=-2.0, offset=0.5)),
    # Activations
    (IMAGE, layer("Activation", "gelu")),
    ((5,), layer("Activation", "softmax")),
    *((IMAGE, layer("Activation", name)) for name in (
        "celu", "log_sigmoid", "hard_tanh", "tanh_shrink", "soft_shrink", "hard_shrink", "squareplus", "sparse_plus",
        "sparse_sigmoid", "relu6")),
    (IMAGE, layer("Softmax", axis=1)),
    (IMAGE, layer("Softmax", axis=-2)),
    (IMAGE, layer("ReLU")),
    (IMAGE, layer("ReLU", max_value=1.0, negative_slope=0.1, threshold=0.5)),
    (IMAGE, layer("ReLU", 0.7)),
    (IMAGE, layer("LeakyReLU")),
    (IMAGE, layer("LeakyReLU", 0.1)),
    (IMAGE, layer("ELU")),
    (IMAGE, layer("ELU", alpha=0.5)),
    ((5,), layer("Softmax")),
    (IMAGE, layer("Softmax", axis=-1)),
    (IMAGE, layer("Softmax", 3)),
]

# Layers that draw random numbers in training: only what they do outside it can be compared.
RANDOM = {"Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
          "RandomFlip", "RandomTranslation", "RandomRotation", "RandomZoom"}

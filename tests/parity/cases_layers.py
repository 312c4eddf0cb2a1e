"""Layers: a line is a shape of one sample and a call.  Who adds a layer adds lines here."""

from __future__ import annotations

from typing import Any

from parity.harness import New


def layer(name: str, /, *args: Any, **kwargs: Any) -> New:
    return New(f"layers.{name}", *args, **kwargs)


IMAGE = (7, 6, 3)
STEPS = (9, 4)
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
    (IMAGE, layer("Conv2D", 6, 3, groups=3, padding="same")),
    ((7, 6, 8), layer("Conv2D", 16, (3, 2), strides=2, groups=2, activation="relu")),
    (IMAGE, layer("Conv2D", 4, 2, data_format="channels_first", activation="softmax", use_bias=False)),
    (IMAGE, layer("Conv2D", 4, 3, data_format="channels_first", activation="elu")),
    # Other convolutions
    (STEPS, layer("Conv1D", 4, 3)),
    (STEPS, layer("Conv1D", 4, 3, strides=2, padding="same", activation="tanh")),
    (STEPS, layer("Conv1D", 4, 3, padding="causal", dilation_rate=2)),
    (STEPS, layer("Conv1D", 6, 4, groups=2, use_bias=False, padding="causal")),
    (STEPS, layer("Convolution1D", 3, 2, data_format="channels_first", padding="causal")),
    (IMAGE, layer("DepthwiseConv2D", 3)),
    (IMAGE, layer("DepthwiseConv2D", (2, 3), strides=2, padding="same", depth_multiplier=3, activation="relu")),
    (IMAGE, layer("DepthwiseConv2D", 2, dilation_rate=(2, 3), use_bias=False, depthwise_initializer="he_normal")),
    (IMAGE, layer("DepthwiseConv2D", 3, padding="same", data_format="channels_first")),
    (STEPS, layer("DepthwiseConv1D", 3, strides=2, padding="same")),
    (STEPS, layer("DepthwiseConv1D", 3, depth_multiplier=2, dilation_rate=2)),
    (IMAGE, layer("SeparableConv2D", 5, 3)),
    (IMAGE, layer("SeparableConv2D", 5, (3, 2), padding="same", depth_multiplier=2, strides=2, activation="elu")),
    (IMAGE, layer("SeparableConv2D", 2, 2, dilation_rate=2, use_bias=False, data_format="channels_first")),
    (STEPS, layer("SeparableConv1D", 4, 3, padding="same", strides=2)),
    (STEPS, layer("SeparableConvolution1D", 4, 3, dilation_rate=2, depth_multiplier=2)),
    (IMAGE, layer("Conv2DTranspose", 5, 3)),
    (IMAGE, layer("Conv2DTranspose", 5, 3, strides=2, padding="same", activation="relu")),
    (IMAGE, layer("Conv2DTranspose", 2, (2, 4), strides=(3, 2), use_bias=False)),
    (IMAGE, layer("Conv2DTranspose", 2, (3, 2), strides=(2, 3), padding="same", output_padding=1)),
    (IMAGE, layer("Conv2DTranspose", 2, 1, strides=(3, 2), padding="valid", output_padding=(2, 0))),
    (IMAGE, layer("Conv2DTranspose", 2, 3, dilation_rate=2, padding="same")),
    (IMAGE, layer("Convolution2DTranspose", 2, 3, strides=2, data_format="channels_first")),
    (STEPS, layer("Conv1DTranspose", 4, 5, strides=3, padding="same")),
    (STEPS, layer("Conv1DTranspose", 4, 4, strides=2, output_padding=1, activation="sigmoid")),
    # What the tests of Keras' convolutions are asked with
    *((shape, layer("Conv1D", 6, 2, **arguments)) for shape, arguments in (
        ((4, 4), {"padding": "same", "dilation_rate": (2,), "groups": 2}),
        ((4, 4), {"padding": "causal", "dilation_rate": (2,), "groups": 2}),
        ((5, 4), {"strides": (2,), "groups": 2}), ((5, 4), {"strides": 2, "padding": "causal"}))),
    *((shape, layer("Conv2D", 6, 2, **arguments)) for shape, arguments in (
        ((4, 4, 4), {"padding": "same", "dilation_rate": (2, 2), "groups": 2}),
        ((5, 5, 4), {"strides": (2, 1), "groups": 2}), ((8, 8, 4), {"strides": (3, 2), "padding": "same"}))),
    *((shape, layer("Conv2DTranspose", 4, 3, **arguments)) for shape, arguments in (
        ((4, 4, 3), {"strides": (2, 3), "padding": "same", "output_padding": (1, 1)}),
        ((4, 4, 3), {"strides": 2, "padding": "valid", "output_padding": 1}),
        ((3, 4, 2), {"padding": "same", "output_padding": 0, "strides": 2}))),
    ((3, 2), layer("Conv1DTranspose", 3, 3, padding="valid", output_padding=1, strides=2)),
    ((4, 2), layer("Conv1DTranspose", 3, 3, dilation_rate=(2,), padding="same")),
    ((5, 4), layer("DepthwiseConv1D", 2, strides=2, depth_multiplier=5, use_bias=False)),
    ((4, 4, 4), layer("DepthwiseConv2D", 2, padding="same", dilation_rate=(2, 2), depth_multiplier=6)),
    ((4, 4), layer("SeparableConv1D", 6, 2, padding="same", dilation_rate=(2,), depth_multiplier=6)),
    # Pooling
    *((IMAGE, layer(name, pool_size=(4, 3), strides=strides, padding=padding))
      for name in ("MaxPooling2D", "AveragePooling2D")
      for strides, padding in (((2, 1), "same"), (None, "valid"), (3, "valid"))),
    (IMAGE, layer("MaxPooling2D", data_format="channels_first")),
    (IMAGE, layer("GlobalAveragePooling2D", data_format="channels_first", keepdims=True)),
    (IMAGE, layer("GlobalMaxPooling2D", data_format="channels_first")),
    (STEPS, layer("MaxPooling1D")),
    (STEPS, layer("MaxPool1D", 3, strides=2, padding="same")),
    (STEPS, layer("AveragePooling1D", 2, 1)),
    (STEPS, layer("AvgPool1D", pool_size=3, padding="same", data_format="channels_first")),
    (STEPS, layer("GlobalMaxPooling1D")),
    (STEPS, layer("GlobalMaxPool1D", keepdims=True)),
    (STEPS, layer("GlobalAveragePooling1D", data_format="channels_first")),
    (STEPS, layer("GlobalAvgPool1D", keepdims=True)),
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
    (IMAGE, layer("Flatten", data_format="channels_first")),
    (IMAGE, layer("Flatten")),
    ((5,), layer("Flatten")),
    (IMAGE, layer("Reshape", (6, 21))),
    ((3,), layer("Reshape", (3, 1))),
    ((8, 1), layer("Reshape", (8,))),
    ((2, 4), layer("Reshape", (-1, 2, 2))),
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
    (IMAGE, layer("Softmax", axis=(1, 2))),
    (IMAGE, layer("Softmax", axis=(-1, 1))),
    # Normalization
    (IMAGE, layer("BatchNormalization")),
    ((5,), layer("BatchNormalization")),
    ((4, 5), layer("BatchNormalization", axis=-1, momentum=0.7, epsilon=0.01)),
    (IMAGE, layer("BatchNormalization", axis=1)),
    (IMAGE, layer("BatchNormalization", axis=-2, momentum=0.5)),
    (IMAGE, layer("BatchNormalization", center=False)),
    (IMAGE, layer("BatchNormalization", scale=False, moving_mean_initializer="ones")),
    (IMAGE, layer("BatchNormalization", 3, 0.9, 1e-5, False, False)),
    *((IMAGE, layer("Normalization", **arguments)) for arguments in (
        {}, {"invert": True}, {"axis": None}, {"axis": 1}, {"axis": (1, 2)}, {"axis": [-1, 1]}, {"axis": (1, 2, 3)},
        {"axis": None, "mean": 0.3, "variance": 0.0}, {"axis": None, "mean": 0.3, "variance": 2.0, "invert": True},
        {"mean": [0.1, -0.2, 3.0], "variance": [1.0, 0.5, 4.0]}, {"axis": (1, 3), "mean": 0.1, "variance": 2.0},
        {"axis": (1, 3), "mean": [0.1, 0.2, 0.3], "variance": [1.0, 0.2, 0.3], "invert": True})),
    ((5,), layer("Normalization")),
    # Without an effect outside training
    (IMAGE, layer("Dropout", 0.5)),
    (IMAGE, layer("Dropout", 0.0)),
    (IMAGE, layer("SpatialDropout2D", 0.5)),
    (IMAGE, layer("SpatialDropout2D", 0.5, "channels_first", 3)),
    ((5, 3), layer("SpatialDropout1D", rate=0.5, seed=2)),
    (IMAGE, layer("GaussianNoise", 0.5)),
    (IMAGE, layer("GaussianDropout", 0.5, seed=2)),
    (IMAGE, layer("AlphaDropout", 0.5)),
    (IMAGE, layer("RandomBrightness", 0.2)),
    (IMAGE, layer("RandomBrightness", (-0.1, 0.3), [-1.0, 1.0], seed=3, data_format="channels_first")),
    (IMAGE, layer("RandomContrast", 0.3)),
    (IMAGE, layer("RandomContrast", (0.3, 0.1), [0.0, 1.0])),
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
    (IMAGE, layer("PReLU")),
    (IMAGE, layer("PReLU", "he_normal", "l2", "non_neg", [1, 2])),
    *((IMAGE, layer("PReLU", shared_axes=axes)) for axes in (1, [2], (3,), [1, 3], [1, 2, 3])),
    ((5,), layer("PReLU", alpha_initializer="ones")),
    ((4, 5), layer("PReLU", shared_axes=[1])),
    (IMAGE, layer("ELU")),
    (IMAGE, layer("ELU", alpha=0.5)),
    ((5,), layer("Softmax")),
    (IMAGE, layer("Softmax", axis=-1)),
    (IMAGE, layer("Softmax", 3)),
]

# Augmentation that leaves nothing to chance: it can be compared in training.
CERTAIN: list[New] = [
    *(layer("RandomTranslation", rows, columns, fill_mode=mode, interpolation=interpolation)
      for rows, columns in (((0.2, 0.2), (0.0, 0.0)), ((-0.2, -0.2), (0.4, 0.4)), ((0.13, 0.13), (-0.27, -0.27)))
      for mode in ("reflect", "constant", "wrap", "nearest") for interpolation in ("bilinear", "nearest")),
    layer("RandomTranslation", (0.5, 0.5), (0.25, 0.25), "constant", fill_value=0.75),
    layer("RandomTranslation", (0.5, 0.5), 0.0, data_format="channels_first"),
    *(layer("RandomZoom", rows, columns, fill_mode=mode)
      for rows, columns in (((-0.5, -0.5), (-0.5, -0.5)), ((0.5, 0.5), (0.8, 0.8)), ((0.3, 0.3), None))
      for mode in ("reflect", "constant", "wrap", "nearest")),
    *(layer("RandomRotation", (factor, factor), fill_mode=mode)
      for factor in (0.5, 0.25, -0.25, 0.07) for mode in ("reflect", "constant", "wrap", "nearest")),
    *(layer("RandomBrightness", (factor, factor), limits)
      for factor in (0.2, -0.7, 0.0) for limits in ([-2.0, 2.0], [-0.5, 0.3])),
]

# Layers that draw random numbers in training: only what they do outside it can be compared.
RANDOM = {"Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
          "RandomBrightness", "RandomContrast", "RandomFlip", "RandomTranslation", "RandomRotation", "RandomZoom"}

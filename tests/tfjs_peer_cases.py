"""Models of every layer, activation, optimizer, loss and metric that TensorFlow.js has, and its job with each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv import Sequential, image_input, initializers, layers, optimizers

STEPS = 3
FIRST: dict[str, Any] = {"data_format": "channels_first"}


# --- cases: layers ---

def image_layers(shape: tuple, options: dict) -> dict[str, tuple]:
    """Layers of images in one of the two orders."""
    return {name: (shape, [layer]) for name, layer in {
        "conv": layers.Conv2D(4, 3, strides=2, padding="same", **options),
        "conv-valid": layers.Conv2D(4, (2, 3), strides=(2, 1), use_bias=False, **options),
        "conv-dilated": layers.Conv2D(4, 3, dilation_rate=(2, 1), **options),
        "depthwise": layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, **options),
        "transpose": layers.Conv2DTranspose(4, 3, strides=2, padding="same", **options),
        "transpose-valid": layers.Conv2DTranspose(4, 2, strides=(3, 2), **options),
        "max": layers.MaxPooling2D(3, 2, padding="same", **options),
        "average": layers.AveragePooling2D((3, 2), (2, 1), padding="same", **options),
        "average-valid": layers.AveragePooling2D(2, 1, **options),
        "global-max": layers.GlobalMaxPooling2D(**options),
        "global-average": layers.GlobalAveragePooling2D(**options),
        "upsample": layers.UpSampling2D((2, 3), **options),
        "pad": layers.ZeroPadding2D(((1, 2), (0, 3)), **options),
        "crop": layers.Cropping2D(((1, 2), (0, 3)), **options),
        "flatten": layers.Flatten(**options),
    }.items()}


LAYERS: dict[str, tuple] = {
    **image_layers((9, 8, 3), {}),
    **{f"{name}-first": case for name, case in image_layers((3, 9, 8), FIRST).items()},
    "separable": ((9, 8, 3), [layers.SeparableConv2D(4, 3, strides=2, padding="same", depth_multiplier=2)]),
    "separable-dilated": ((9, 8, 3), [layers.SeparableConv2D(4, 3, dilation_rate=2, activation="relu")]),
    "conv1d": ((9, 3), [layers.Conv1D(4, 3, strides=2, padding="same")]),
    "conv1d-dilated": ((9, 3), [layers.Conv1D(4, 3, dilation_rate=2)]),
    "max1d": ((9, 3), [layers.MaxPooling1D(3, 2, padding="same")]),
    "average1d": ((9, 3), [layers.AveragePooling1D(3, 2, padding="same")]),
    "global-max1d": ((9, 3), [layers.GlobalMaxPooling1D()]),
    "global-average1d": ((9, 3), [layers.GlobalAveragePooling1D()]),
    "dense": ((5,), [layers.Dense(3)]),
    "dense-on-images": ((4, 3, 5), [layers.Dense(3, use_bias=False)]),
    "normalize": ((4, 3, 5), [layers.BatchNormalization()]),
    "normalize-unscaled": ((5,), [layers.BatchNormalization(scale=False, epsilon=1e-5)]),
    "normalize-uncentred": ((4, 5), [layers.BatchNormalization(center=False)]),
    "prelu": ((4, 3, 5), [layers.PReLU("random_normal", shared_axes=[1, 2])]),
    "prelu-unshared": ((4, 3), [layers.PReLU()]),
    "relu": ((4, 3), [layers.ReLU(), layers.ReLU(max_value=0.7)]),
    "leaky-relu": ((4, 3), [layers.LeakyReLU(0.2)]),
    "elu": ((4, 3), [layers.ELU()]),
    "softmax": ((4, 3), [layers.Softmax(), layers.Softmax(axis=2)]),
    "permute": ((4, 3, 5), [layers.Permute((3, 1, 2))]),
    "repeat": ((5,), [layers.RepeatVector(3)]),
    "reshape": ((4, 3, 5), [layers.Reshape((-1, 6))]),
    "rescale": ((4, 3), [layers.Rescaling(1 / 3, offset=-0.7)]),
    "input": ((4, 3), [layers.Activation("tanh", input_shape=(4, 3))]),
    "noise": ((4, 3), [layers.Dropout(0.3), layers.SpatialDropout1D(0.3), layers.GaussianDropout(0.3),
                       layers.GaussianNoise(0.3), layers.AlphaDropout(0.3)]),
    "initializers": ((9, 8, 3), [
        layers.Conv2D(5, 3, kernel_initializer=kind, bias_initializer="random_normal", kernel_regularizer="l1_l2",
                      padding="same")
        for kind in ("lecun_normal", "lecun_uniform", "he_normal", "he_uniform", "glorot_normal", "truncated_normal",
                     "orthogonal", initializers.VarianceScaling(1.5, "fan_avg", "untruncated_normal"))]),
    "constraints": ((9, 8, 3), [
        layers.Conv2D(5, 3, kernel_constraint=constraint, bias_constraint="non_neg", padding="same")
        for constraint in ("max_norm", "non_neg", "unit_norm", "min_max_norm")]),
}
ACTIVATIONS = ("elu", "gelu", "linear", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
               "softmax", "softplus", "softsign", "tanh")


def stacked(case: tuple) -> Sequential:
    """A model of a case's layers, with weights of both signs that are none of the initializers'."""
    shape, stack = case
    model = Sequential([layers.Input(shape), *[type(layer).from_config(layer.get_config()) for layer in stack]], seed=3)
    random = np.random.default_rng(5)
    model.set_weights([random.uniform(0.1, 1, weight.shape) if "variance" in weight.name
                       else random.normal(size=weight.shape) / 2 for weight in model.weights])
    for weight in model.weights:  # TensorFlow.js holds weights to their constraints when it loads them
        if weight.constraint is not None:
            weight.value[...] = weight.constraint(weight.value)
    return model


# --- cases: training ---

OPTIMIZERS: dict[str, tuple[str, Callable]] = {
    "sgd": ("SGD", lambda: optimizers.SGD(0.1)),
    "momentum": ("Momentum", lambda: optimizers.SGD(0.05, momentum=0.9)),
    "nesterov": ("Momentum", lambda: optimizers.SGD(0.05, momentum=0.8, nesterov=True)),
    "adam": ("Adam", lambda: optimizers.Adam(0.01, beta_2=0.99)),
    "rmsprop": ("RMSProp", lambda: optimizers.RMSprop(0.01, rho=0.8)),
    "rmsprop-momentum": ("RMSProp", lambda: optimizers.RMSprop(0.01, momentum=0.5)),
    "adagrad": ("Adagrad", lambda: optimizers.Adagrad(0.05, initial_accumulator_value=0.2)),
}
# The activation before a loss, and what its labels are.
LOSSES = {
    "binary_crossentropy": ("sigmoid", "bits"), "categorical_crossentropy": ("softmax", "one-hot"),
    "categorical_hinge": ("tanh", "one-hot"), "cosine_similarity": ("tanh", "numbers"), "hinge": ("tanh", "signs"),
    "kl_divergence": ("softmax", "shares"), "log_cosh": ("linear", "numbers"),
    "mean_absolute_error": ("linear", "numbers"),
    "mean_absolute_percentage_error": ("linear", "numbers"), "mean_squared_error": ("linear", "numbers"),
    "mean_squared_logarithmic_error": ("softplus", "numbers"), "poisson": ("softplus", "numbers"),
    "sparse_categorical_crossentropy": ("softmax", "classes"), "squared_hinge": ("tanh", "signs"),
}
# By loss and number of outputs.
_BINARY = ("acc", "accuracy", "binary_accuracy", "ce", "crossentropy", "mae", "mape", "mse")
METRICS = {
    ("binary_crossentropy", 1): _BINARY, ("binary_crossentropy", 4): _BINARY,
    ("categorical_crossentropy", 4): ("acc", "accuracy", "categorical_accuracy", "categorical_crossentropy", "ce",
                                      "crossentropy", "mean_absolute_error", "mean_absolute_percentage_error",
                                      "mean_squared_error"),
    ("sparse_categorical_crossentropy", 4): ("acc", "accuracy", "sparse_categorical_accuracy",
                                             "sparse_categorical_crossentropy"),
}


def labels(kind: str) -> np.ndarray:
    """12 rows of labels for 4 outputs."""
    random = np.random.default_rng(8)
    numbers = random.uniform(0.2, 1.5, (12, 4))
    return {"bits": numbers > 0.8, "one-hot": np.eye(4)[np.arange(12) % 4], "numbers": numbers,
            "signs": np.sign(numbers - 0.8), "shares": numbers / numbers.sum(1, keepdims=True),
            "classes": np.arange(12)[:, None] % 4}[kind].astype(np.float32)


def dense(loss: str, outputs: int = 4, metrics: list[str] | None = None) -> Sequential:
    model = Sequential([layers.Input((5,)), layers.Dense(6, activation="tanh"),
                        layers.Dense(outputs, activation=LOSSES[loss][0])], seed=2)
    model.compile(optimizers.SGD(0.05), loss, metrics=metrics)
    return model


IMAGES = np.random.default_rng(6).normal(size=(16, 8, 8, 1)).astype(np.float32)
CLASSES = np.eye(4, dtype=np.float32)[np.arange(16) % 4]


def convolutional(optimizer: object, *between: layers.Layer, constraint: str | None = None) -> Sequential:
    """A network that is trained a little."""
    model = Sequential([layers.Input((8, 8, 1)),
                        layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2", kernel_constraint=constraint),
                        layers.MaxPooling2D(2), *between, layers.Flatten(), layers.Dense(4, activation="softmax")],
                        seed=4)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy", "top_k_categorical_accuracy"])
    model.fit(IMAGES, CLASSES, batch_size=16, epochs=STEPS, verbose=0, shuffle=False)
    return model


def adamax(steps: int) -> Sequential:
    model = dense("mean_squared_error")
    model.compile(optimizers.Adamax(0.02), "mean_squared_error")
    if steps:
        model.fit(features(model), labels("numbers"), batch_size=12, epochs=steps, verbose=0, shuffle=False)
    return model


def features(model: Sequential) -> np.ndarray:
    """Inputs of a model that is not trained on IMAGES."""
    shape: Any = model.input_shape[1:]
    return np.random.default_rng(7).normal(size=(12, *shape)).astype(np.float32)


def evaluation(model: Sequential, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Loss and metrics, one behind the other."""
    values: Any = model.evaluate(x, y, verbose=0)
    return np.ravel(values)


def metric_cases() -> list[tuple[str, int, str]]:
    return [(loss, outputs, metric) for (loss, outputs), names in METRICS.items() for metric in names]


# --- one process for all ---

# Name -> the model, its inputs, its labels or None, options of `save`, entries of the job.
Case = tuple[Sequential, np.ndarray, np.ndarray | None, dict, dict]


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name, case in LAYERS.items():
        model = stacked(case)
        found[f"layer {name}"] = model, features(model), None, {}, {}
    for name in ACTIVATIONS:
        model = stacked(((6,), [layers.Activation(name), layers.Dense(5, activation=name)]))
        found[f"activation {name}"] = model, 3 * features(model), None, {}, {}
    for name, (_, kind) in LOSSES.items():
        model = dense(name)
        found[f"loss {name}"] = model, features(model), labels(kind), {}, {"epochs": STEPS}
    for loss, outputs, metric in metric_cases():
        model = dense(loss, outputs, [metric])
        y = labels(LOSSES[loss][1])
        found[f"metric {loss} {outputs} {metric}"] = model, features(model), y if outputs > 1 else y[:, :1], {}, {}
    for name, (_, make) in OPTIMIZERS.items():
        model = convolutional(make(), constraint="max_norm")
        found[f"optimizer {name}"] = model, IMAGES, CLASSES, {}, {"epochs": STEPS}
    found["adamax"] = adamax(0), features(adamax(0)), labels("numbers"), {}, {"epochs": STEPS, "save": ""}
    found["adamax trained"] = adamax(1), features(adamax(0)), None, {}, {}
    model = convolutional("adam", layers.BatchNormalization(), layers.Dropout(0.3))
    model.class_names = ["a", "b", "c", "d"]
    model.image_input = image_input.ImageInput("content")
    found["everything"] = model, IMAGES, CLASSES, {}, {"epochs": STEPS}
    for kind in ("uint8", "uint16", "float16"):
        found[f"quantized {kind}"] = model, IMAGES, None, {"quantization": kind}, {}
    found["shards"] = stacked(((9, 8, 3), [layers.Conv2D(32, 3), layers.Conv2D(16, 3)])), \
        np.ones((2, 9, 8, 3), np.float32), None, {"shard_bytes": 4096}, {}
    private = Sequential([layers.Input((3,)), layers.Activation("hard_sigmoid")])
    found["private"] = private, np.zeros((1, 3), np.float32), None, {"dialect": "tinyconv"}, {}
    return found

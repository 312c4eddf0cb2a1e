"""The Keras 2 dialect of a layer's description, which TensorFlow.js and old Keras share.

Writes `Sequential` models in it, and creates the layers that `formats.topology` found in
what Keras 2.0 to 2.15, TensorFlow.js, their converters and Keras 3 wrote.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from tinyconv import constraints, initializers, layers, regularizers
from tinyconv.formats.guard import (
    FormatError,
    checked_string,
    fail,
    printable,
    shorten,
    unique,
)
from tinyconv.layers.arguments import UNSUPPORTED_TRAINING
from tinyconv.utils import warn

__all__ = ["PRIVATE", "class_name_of", "config_of", "create_layers", "find_class", "weight_name", "write_topology"]

# Marks what other readers would take for something else: they refuse the name, and say so.
PRIVATE = "tinyconv>"
# The version whose dialect is written.
KERAS_VERSION = "2.15.0"
# Activations that TensorFlow.js computes with the same formula, where its name is another.
_ACTIVATION_NAMES = {"silu": "swish"}
# What TensorFlow.js alone writes; it cannot read that again, as it changes the name.
_TFJS_ACTIVATIONS = {"gelu_new": "gelu_tanh"}
_SHARED_ACTIVATIONS = {
    "elu", "gelu", "linear", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax",
    "softplus", "softsign", "tanh",
}
_SHARED_INITIALIZERS = {
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Ones", "RandomNormal",
    "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros",
}
# Layers that TensorFlow.js lacks, or computes otherwise (its CenterCrop and Resizing, whatever their settings).
_PRIVATE_CLASSES = {
    "CenterCrop", "Conv1DTranspose", "Cropping1D", "DepthwiseConv1D", "Normalization", "RandomBrightness",
    "RandomContrast", "RandomFlip",
    "RandomRotation", "RandomTranslation", "RandomZoom", "Resizing", "SeparableConv1D", "SpatialDropout2D",
    "UpSampling1D", "ZeroPadding1D",
}
# Settings that layers of Keras 2 do not have, and what they do without them.
_LAST = {"data_format": "channels_last"}
_FIRST_IN_KERAS3: dict[str, dict[str, Any]] = {
    "RandomBrightness": _LAST, "RandomContrast": {**_LAST, "value_range": [0.0, 255.0]},
    "CenterCrop": _LAST, "RandomFlip": _LAST, "RandomRotation": _LAST, "RandomTranslation": _LAST, "RandomZoom": _LAST,
    "Resizing": {**_LAST, "antialias": False, "fill_mode": "constant", "fill_value": 0.0, "pad_to_aspect_ratio": False},
    "ZeroPadding1D": _LAST,
}
# Names of weights here -> there.
_WEIGHT_NAMES = {"DepthwiseConv2D": {"kernel": "depthwise_kernel"}}
# What a reader may meet when it hands a file's settings to a class.
BAD_SETTINGS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


# --- writing ---


def write_topology(model: Any, for_tfjs: bool = True) -> tuple[dict[str, Any], list[str]]:
    """The topology of a built Sequential.

    Args:
        model: The model.
        for_tfjs: Whether TensorFlow.js is to read it, which has fewer layers and settings than Keras 2.

    Returns:
        The JSON object, and what in it TensorFlow.js lacks or computes otherwise: marked in it, so that it
        is refused there, and read here alone.

    Raises:
        ValueError: If a layer is not one of `tinyconv.layers`.
    """
    private: list[str] = []
    entries = [_write_layer(layer, model, private, for_tfjs) for layer in model.layers]
    for entry in entries:
        entry["config"].pop("batch_input_shape", None)
    first = entries[0]["config"]
    entries[0]["config"] = {"name": first["name"], "batch_input_shape": list(model.input_shape), **first}
    config = {"name": model.name, "layers": entries}
    return {"class_name": "Sequential", "config": config, "keras_version": KERAS_VERSION,
            "backend": "tinyconv"}, private


def class_name_of(layer: Any) -> str:
    """The name of a layer's class; raises ValueError where it is not one of this package."""
    class_name = type(layer).__name__
    try:
        known = layers.get(class_name) is type(layer)
    except ValueError:
        known = False
    if not known:
        raise ValueError(
            f"save expected layers of tinyconv.layers. Received: '{layer.name}' of class {class_name}"
        )
    return class_name


def config_of(layer: Any, model: Any) -> dict[str, Any]:
    """A layer's configuration for Keras, whose newest spatial dropouts do not take `trainable`.

    No reader asks the model whether it is trained: the layers of one that is not are written as frozen.
    """
    config = dict(layer.get_config())
    if not model.trainable and layer.weights:
        config["trainable"] = False
    if class_name_of(layer).startswith("SpatialDropout") and config["trainable"]:
        del config["trainable"]
    return config


def _write_layer(layer: Any, model: Any, private: list[str], for_tfjs: bool) -> dict[str, Any]:
    class_name = class_name_of(layer)
    config = {**config_of(layer, model), "dtype": "float32"}
    if for_tfjs and config.get("groups") == 1:
        del config["groups"]
    if "activation" in config:
        config["activation"] = _write_activation(config["activation"], private, layer.name)
    for key, value in config.items():
        if key.endswith("_regularizer") and value is not None:
            # TensorFlow.js has this class only.
            factors = regularizers.deserialize(value)
            config[key] = regularizers.serialize(regularizers.L1L2(factors.l1, factors.l2))
    for weight in layer.weights:
        key = layer.argument_of(weight.name, "initializer")
        if key in config:
            config[key] = _write_initializer(config[key], weight.shape)
    if class_name == "Reshape":
        # TensorFlow.js does not work out a -1 before it sees data, and the next layer needs the size.
        config["target_shape"] = list(layer.output_shape)
    if class_name == "LeakyReLU":
        config["alpha"] = config.pop("negative_slope")
    if not config.get("keepdims", True):
        del config["keepdims"]
    lacking = _lacking(layer, class_name, config) if for_tfjs else None
    if lacking is not None:
        private.append(f"{class_name} '{layer.name}'{f' with {lacking}' if lacking else ''}")
        class_name = PRIVATE + class_name
    if not for_tfjs:
        for key, value in _FIRST_IN_KERAS3.get(class_name, {}).items():
            if config[key] == value:
                del config[key]
            else:  # a setting that it does not know, it refuses
                private.append(f"{key}={config[key]!r} of '{layer.name}'")
    return {"class_name": class_name, "config": config}


def _lacking(layer: Any, class_name: str, config: dict[str, Any]) -> str | None:
    """What of a layer TensorFlow.js would refuse or, more often, ignore: settings, or "" for all of it; else None."""
    has_steps = any(size != 1 for size in config.get("strides") or ())
    is_dilated = any(size != 1 for size in config.get("dilation_rate") or ())
    reasons = {
        "": class_name in _PRIVATE_CLASSES,
        "groups": config.get("groups", 1) != 1,
        "keepdims": "keepdims" in config,
        "interpolation": config.get("interpolation", "nearest") != "nearest",  # its pixels lie at corners
        "negative_slope": class_name == "ReLU" and config["negative_slope"],
        "threshold": class_name == "ReLU" and config["threshold"],
        "alpha": class_name == "ELU" and config["alpha"] != 1,
        "causal padding": config.get("padding") == "causal",
        "output_padding": config.get("output_padding") is not None,
        "strides and dilation": has_steps and is_dilated,
        "dilation": is_dilated and class_name in ("Conv2DTranspose", "DepthwiseConv2D"),
        "data_format='channels_first'": config.get("data_format") == "channels_first" and (
            class_name.endswith("1D") or class_name == "SeparableConv2D"),
        # Softmax has no other; BatchNormalization is wrong along another on TensorFlow.js' backend "cpu".
        "an axis that is not the last": class_name in ("BatchNormalization", "Softmax") and (
            config["axis"] not in (-1, len(layer.input_shape))),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def weight_name(layer: Any, name: str) -> str:
    """What a layer's weight is called in the files."""
    return f"{layer.name}/{_WEIGHT_NAMES.get(type(layer).__name__, {}).get(name, name)}"


def _write_activation(value: Any, private: list[str], name: str) -> Any:
    if isinstance(value, dict):
        private.append(f"activation {value['class_name']} of '{name}'")
        return {**value, "class_name": PRIVATE + value["class_name"]}
    if value in _SHARED_ACTIVATIONS:
        return _ACTIVATION_NAMES.get(value, value)
    # Either unknown there, or, as hard_sigmoid, known by another formula.
    private.append(f"activation {value} of '{name}'")
    return PRIVATE + value


def _write_initializer(value: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """The same distribution in classes that Keras 2 and TensorFlow.js both have."""
    initializer = initializers.deserialize(value)
    if isinstance(initializer, initializers.VarianceScaling):
        scaling = initializers.VarianceScaling.get_config(initializer)
        if initializer.distribution == "untruncated_normal":
            fan_in, fan_out = initializers.compute_fans(shape)
            fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[initializer.mode]
            return {"class_name": "RandomNormal", "config": {
                "mean": 0.0, "stddev": math.sqrt(initializer.scale / max(1.0, fan)), "seed": initializer.seed,
            }}
        if value["class_name"] not in _SHARED_INITIALIZERS:
            return {"class_name": "VarianceScaling", "config": scaling}
    return value


# --- reading ---


def find_class(class_name: str, what: str) -> type[layers.Layer]:
    """The class of this package that a file's layer becomes.

    Args:
        class_name: The class in the file.
        what: Subject of the error message.

    Raises:
        FormatError: If there is none.
    """
    try:
        return layers.get("ReLU" if class_name == "ThresholdedReLU" else class_name.removeprefix(PRIVATE))
    except ValueError:
        fail(what, "a layer that tinyconv has", class_name)


def create_layers(entries: list[dict[str, Any]], is_keras3: bool = False) -> list[Any]:
    """Creates the layers that a file describes.

    Args:
        entries: The layers, from `topology.read_topology`.
        is_keras3: Whether Keras 3 wrote them, where the name hard_sigmoid is another function's.

    Raises:
        FormatError: If a class is not one of this package, or a setting not one of its own.
    """
    created = []
    left_out: list[str] = []
    for index, entry in enumerate(entries):
        config = {key: _plain(value) for key, value in entry["config"].items()}
        if entry["class_name"] == "ThresholdedReLU":
            config = _read_threshold(config)
        if entry["class_name"] == "RandomContrast" and not is_keras3 and isinstance(config.get("factor"), (int, float)):
            config["factor"] = [config["factor"]] * 2  # one number is both in Keras 2
        what = f"layer {index} ({shorten(config.get('name'), 40)})"
        cls = find_class(entry["class_name"], what)
        for key in [key for key in config if key.endswith(("_regularizer", "_constraint"))]:
            if not _is_known(key, config[key]) and _has_effect(config.pop(key)):
                left_out.append(f"{key} of {shorten(config.get('name'), 40)}")
        if "noise_shape" in config and not _is_noise_of_a_sample(config["noise_shape"]):
            left_out.append(f"noise_shape of {shorten(config.get('name'), 40)}")
            del config["noise_shape"]
        try:
            config = _read_settings(config, what, is_keras3)
            created.append(cls.from_config(_without_inherited(cls, config)))
        except FormatError:
            raise
        except BAD_SETTINGS as error:
            raise FormatError(f"{what}: {shorten_message(error)}") from None
    unique([layer.name for layer in created], "layer names")
    if left_out:
        warn(f"Left out, as it matters to further training only: {', '.join(left_out[:4])}"
             f"{', ...' if len(left_out) > 4 else ''}.")
    return created


def _read_settings(config: dict[str, Any], what: str, is_keras3: bool) -> dict[str, Any]:
    config["name"] = checked_string(config.get("name"), f"{what} name")
    activation = config.get("activation")
    if isinstance(activation, str):
        if activation == "hard_sigmoid" and not is_keras3:
            fail(what, "an activation that tinyconv has", "Keras 2's hard_sigmoid, clip(0.2 x + 0.5, 0, 1)")
        config["activation"] = _TFJS_ACTIVATIONS.get(activation, activation.removeprefix(PRIVATE))
    elif isinstance(activation, dict):
        class_name = str(activation.get("class_name")).removeprefix(PRIVATE)
        config["activation"] = {**activation, "class_name": class_name}
    for key in [key for key in config if key.endswith("_initializer")]:
        value = config[key]
        if isinstance(value, dict) and isinstance(value.get("class_name"), str):
            value = {**value, "class_name": value["class_name"].replace("LeCun", "Lecun")}
        try:
            config[key] = initializers.get(value)
        except BAD_SETTINGS:
            # The weights come from the file: an initializer that is unknown here changes nothing.
            del config[key]
    if isinstance(config.get("target_shape"), list):
        config["target_shape"] = [-1 if size is None else size for size in config["target_shape"]]
    return config


def _read_threshold(config: dict[str, Any]) -> dict[str, Any]:
    """The ReLU of x where x > theta."""
    theta = config.get("theta")
    if not isinstance(theta, (int, float)) or isinstance(theta, bool) or not 0 <= theta < 3e38:
        fail("ThresholdedReLU theta", "a number of 0 or more", theta)
    kept = {key: value for key, value in config.items() if key != "theta"}
    return {**kept, "threshold": float(np.float32(theta))}


def _without_inherited(cls: type, config: dict[str, Any]) -> dict[str, Any]:
    """Without what Keras 2 writes for a layer because the class that it derives from has it."""
    own = inspect.signature(cls).parameters
    return {key: value for key, value in config.items()
            if key in own or not (key.endswith("_initializer") or (key == "groups" and value == 1))}


def _plain(value: Any) -> Any:
    """Keras 2 writes a NumPy scalar among the settings as {"type": "ndarray", "value": ...}."""
    return value.get("value") if isinstance(value, dict) and value.get("type") == "ndarray" else value


def _is_known(key: str, value: Any) -> bool:
    """Whether this package has such a regularizer or constraint of a weight."""
    if key in UNSUPPORTED_TRAINING:
        return False
    try:
        (regularizers if key.endswith("_regularizer") else constraints).get(value)
    except BAD_SETTINGS:
        return False
    return True


def _is_noise_of_a_sample(shape: Any) -> bool:
    """Whether a Dropout's noise_shape leaves the batch alone, as it has to here."""
    return shape is None or (isinstance(shape, list) and shape[:1] == [None])


def _has_effect(value: Any) -> bool:
    """Whether a regularizer or constraint does anything: L1L2 of factors 0 does not."""
    config = value.get("config") if isinstance(value, dict) else None
    if isinstance(config, dict) and {"l1", "l2"} & config.keys():
        return bool(config.get("l1") or config.get("l2"))
    return value is not None


def shorten_message(error: Exception) -> str:
    """An exception's text on one line of bounded length; what was received stands at its end."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "xpected" not in text and "Received" not in text:  # Python's own, of a key that is missing or of another kind
        text = f"expected settings that are whole and of the right kinds. Received: {type(error).__name__}: {text}"
    text = printable(text)
    return text if len(text) <= 300 else f"{text[:195]} ... {text[-100:]}"

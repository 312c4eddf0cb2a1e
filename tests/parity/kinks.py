"""Where a gradient jumps: data so close to a kink that rounding decides its side is drawn anew.

A ReLU at 0, two equal values in a window of a max pooling: there both libraries are right with
different gradients.  `is_near_kink` runs a model layer by layer, in training, and looks at what comes in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from parity.harness import EPSILON, tinyconv

__all__ = ["is_near_kink"]

# The places where a function has no derivative, or one that jumps.
KINKS: dict[str, tuple[float, ...]] = {
    "relu": (0.0,), "relu6": (0.0, 6.0), "leaky_relu": (0.0,), "selu": (0.0,), "hard_sigmoid": (-3.0, 3.0),
    "hard_silu": (-3.0, 3.0), "hard_tanh": (-1.0, 1.0),
}
# How near is too near, in units of the last place of the largest value that comes in.
MARGIN = 100


def is_near_kink(model: Any, x: np.ndarray) -> bool:
    """Whether a value of some layer lies where its rounding decides the gradient."""
    for index, layer in enumerate(model.layers):
        config = layer.get_config()
        before = _run(model.layers[:index], x)
        if _is_pool(layer):
            if _is_pool_near_tie(layer, before):
                return True
            continue
        places = _places(layer, config)
        if not places:
            continue
        values = _run([*model.layers[:index], _without_activation(layer)], x) if layer.weights else before
        margin = MARGIN * EPSILON * np.abs(values).max(initial=1)
        # What is exactly at a kink is what a kink before it made so, and both libraries have it there.
        distances = [np.abs(values - np.float32(place)) for place in places]
        if any(((distance > 0) & (distance < margin)).any() for distance in distances):
            return True
    return False


def _run(layers: list[Any], x: np.ndarray) -> np.ndarray:
    """The output of some of a model's layers in training; their weights stay as they are."""
    if not layers:
        return x
    copies = [type(layer).from_config({**layer.get_config(), "name": f"copy_{i}"})
              for i, layer in enumerate(layers)]
    model = tinyconv.Sequential([tinyconv.Input(x.shape[1:]), *copies])
    for copy, layer in zip(copies, layers, strict=True):
        copy.set_weights(layer.get_weights())
    return model(x, training=True)


def _without_activation(layer: Any) -> Any:
    config = layer.get_config()
    if "activation" not in config:
        return tinyconv.layers.Activation("linear")
    copy = type(layer).from_config({**config, "activation": None})
    copy.build(layer.input_shape)
    copy.set_weights(layer.get_weights())
    return copy


def _places(layer: Any, config: dict[str, Any]) -> tuple[float, ...]:
    name = type(layer).__name__
    if name == "ReLU":
        limit = () if layer.max_value is None else (layer.max_value,)
        return (layer.threshold, *limit)
    if name in ("LeakyReLU", "ELU", "PReLU"):
        return (0.0,)
    function = config.get("activation")
    return KINKS.get(function, ()) if isinstance(function, str) else ()


def _is_pool(layer: Any) -> bool:
    return "Max" in type(layer).__name__ and "Pooling" in type(layer).__name__


def _is_pool_near_tie(layer: Any, x: np.ndarray) -> bool:
    """Whether the two largest different values of a window are nearly equal."""
    values = x[:, None] if x.ndim == 3 else x
    window = getattr(layer, "pool_size", values.shape[1:3])
    window = (1, *np.atleast_1d(window)) if x.ndim == 3 and len(np.atleast_1d(window)) == 1 else tuple(window)
    margin = MARGIN * EPSILON * np.abs(values).max(initial=1)
    padded = np.pad(values, [(0, 0), *((size - 1, size - 1) for size in window), (0, 0)],
                    constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, (1, 2))
    windows = windows.reshape(*windows.shape[:-2], -1)
    top = windows.max(-1, keepdims=True)
    gaps = np.where(windows == top, np.inf, np.where(np.isinf(top), np.inf, top) - windows)
    return bool((gaps < margin).any())

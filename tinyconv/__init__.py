"""tinyconv: trains and runs small convolutional networks on ordinary CPUs, fast.

The names, arguments and defaults are those of Keras:

    from tinyconv import Sequential, layers

    model = Sequential([
        layers.Input(shape=(28, 28, 1)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, epochs=10)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tinyconv import (
    activations,
    callbacks,
    constraints,
    engine,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    utils,
)
from tinyconv.engine import get_num_threads, set_num_threads
from tinyconv.initializers import Initializer
from tinyconv.layers import Input, Layer
from tinyconv.left_out import explain
from tinyconv.losses import Loss
from tinyconv.metrics import Metric
from tinyconv.models import Sequential, load_model
from tinyconv.optimizers import Optimizer
from tinyconv.regularizers import Regularizer

if TYPE_CHECKING:
    from tinyconv import backend, datasets, formats, image, ops, preprocessing, saving
    from tinyconv.config import show_config
    from tinyconv.image_input import ImageInput

__version__ = "0.1.0"

__all__ = [
    "ImageInput", "Initializer", "Input", "Layer", "Loss", "Metric", "Optimizer", "Regularizer", "Sequential",
    "__version__", "activations", "backend", "callbacks", "constraints", "datasets", "engine", "formats",
    "get_num_threads", "image", "initializers", "layers", "load_model", "losses", "metrics", "models", "ops",
    "optimizers", "preprocessing", "regularizers", "saving", "set_num_threads", "show_config", "utils",
]

# Loaded when they are first asked for.
_LAZY = ("backend", "saving", "config", "datasets", "formats", "image", "ops", "preprocessing")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"tinyconv.{name}")
    if name == "show_config":
        from tinyconv.config import show_config

        return show_config
    if name == "ImageInput":
        from tinyconv.image_input import ImageInput

        return ImageInput
    return explain(__name__)(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY})

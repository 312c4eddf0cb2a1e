"""Models and helpers that the tests of formats share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tinyconv import Sequential, layers, optimizers

CLASSES = 4


def small_model(seed: int = 1) -> Sequential:
    return Sequential([
        layers.Conv2D(3, 3, activation="relu", input_shape=(8, 8, 1)),
        layers.MaxPooling2D(2),
        layers.Dropout(0.4),
        layers.Flatten(),
        layers.Dense(CLASSES, activation="softmax"),
    ], seed=seed)


def data(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    x = random.normal(size=(n, 8, 8, 1)).astype(np.float32)
    return x, np.eye(CLASSES, dtype=np.float32)[random.integers(CLASSES, size=n)]


def same_bits(first: Sequential, second: Sequential) -> bool:
    arrays = list(zip(first.get_weights(), second.get_weights(), strict=True))
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in arrays)


def read_description(folder: Path) -> dict:
    return json.loads((folder / "model.json").read_text())


def write_description(folder: Path, document: dict) -> None:
    (folder / "model.json").write_text(json.dumps(document))


OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.01),
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.05, momentum=0.8, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "amsgrad": lambda: optimizers.AdamW(0.01, amsgrad=True, global_clipnorm=1.0),
    "nadam": lambda: optimizers.Nadam(optimizers.schedules.CosineDecay(0.01, 20)),
    "ema": lambda: optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_overwrite_frequency=2,
                                  gradient_accumulation_steps=3),
}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Sequential, Path, dict]:
    """A model, the folder it was saved to, and the description there."""
    model = small_model()
    model.save(tmp_path / "model")
    return model, tmp_path / "model", read_description(tmp_path / "model")

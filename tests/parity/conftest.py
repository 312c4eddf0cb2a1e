"""Options of the random models."""

from __future__ import annotations

import numpy as np
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--models", default="300", help="number of random models that are compared with Keras")
    parser.addoption("--seed", default="0", help="seed of the random models")


@pytest.fixture
def cheap_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras does not compile a random generator for every shape of a weight that is overwritten anyway."""
    keras = pytest.importorskip("keras")
    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__",
                        lambda self, shape, dtype=None: np.zeros(shape, np.float32))

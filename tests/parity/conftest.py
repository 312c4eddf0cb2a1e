"""Options of the random models."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--models", default="300", help="number of random models that are compared with Keras")
    parser.addoption("--seed", default="0", help="seed of the random models")

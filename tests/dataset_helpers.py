"""What the tests of data sets share."""

from __future__ import annotations

import numpy as np
import pytest


def make(count=7, shape=(4, 4), classes=3, seed=0):
    """Random images and labels; the last label is the largest."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    labels[-1] = classes - 1
    return random.integers(0, 256, (count, *shape), dtype=np.uint8), labels


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "Received: " in text
    return text


def refused(call, *words, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    text = one_line(caught)
    for word in words:
        assert word in text, text

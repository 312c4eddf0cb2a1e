"""Augmentation of the NumPy reference: brightness and contrast drawn for every image."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.engine.program import Op, random_bits
from tinyconv.engine.reference_noise import Noise, image_keys

__all__ = ["random_levels", "random_levels_backward"]


def random_levels(op: Op, x: np.ndarray, weights: list[np.ndarray], noise: Noise | None) -> tuple[np.ndarray, Any]:
    """Clipped values; backward needs which were not, and the factor of contrast."""
    if noise is None:
        return x, None
    # Limits and factors are float32 numbers: what C computes with.
    least, most = (float(np.float32(factor)) for factor in op.attributes["factors"])
    low, high = (float(np.float32(limit)) for limit in op.attributes["limits"])
    bits = random_bits(image_keys(noise, op.attributes["stream"], len(x)), np.zeros(1, np.uint32))
    number = (least + (most - least) * ((bits >> np.uint32(8)) * 2.0**-24)).astype(x.dtype)[:, :, None, None]
    if op.attributes["levels"] == "brightness":
        factor, y = None, x + number
    else:
        mean = x.mean((1, 2), keepdims=True)
        factor, y = number, (x - mean) * number + mean
    return np.clip(y, low, high).astype(x.dtype), (~((y < low) | (y > high)), factor)


def random_levels_backward(op: Op, dy: np.ndarray, saved: Any, weights: list[np.ndarray],
                           want_dx: bool) -> tuple[np.ndarray | None, list[np.ndarray]]:
    """dy (N, H, W, C) -> dx of the same shape."""
    if not want_dx or saved is None:
        return dy if want_dx else None, []
    kept, factor = saved
    dy = np.where(kept, dy, 0)
    if factor is None:
        return dy, []
    return factor * dy + (1 - factor) * dy.mean((1, 2), keepdims=True), []

"""Noise in training, of the NumPy reference: all kinds of the "dropout" operation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinyconv.engine.program import Op, random_bits, random_key, random_normal

__all__ = ["Noise", "dropout", "dropout_backward", "image_keys"]

# The limit of selu far left: -scale * alpha of Klambauer et al., Self-normalizing neural networks (2017).
_SELU_LIMIT = -1.0507009873554805 * 1.6732632423543772


class Noise(NamedTuple):
    """What keys the random numbers of a training step's images first, first + 1, ..."""

    seed: int
    step: int
    first: int


def dropout(op: Op, x: np.ndarray, weights: list[np.ndarray], noise: Noise | None) -> tuple[np.ndarray, Any]:
    """y = x * factor + offset; backward needs the factor."""
    if noise is None or op.attributes["rate"] == 0:
        return x, None
    factor, offset = _linear(op, noise, len(x))
    shape = (len(x), *((1, 1, op.input_shape[2]) if _is_spatial(op) else op.input_shape))
    factor = factor.astype(x.dtype).reshape(shape)
    # What is dropped is 0, be it infinite before.
    kept = np.where(factor == 0, 0, x * factor)
    return kept if offset is None else kept + offset.astype(x.dtype).reshape(shape), factor


def dropout_backward(op: Op, dy: np.ndarray, factor: Any, weights: list[np.ndarray],
                     want_dx: bool) -> tuple[np.ndarray | None, list[np.ndarray]]:
    """dy times the factors of the forward pass, all of shape (N, H, W, C)."""
    if not want_dx:
        return None, []
    return (dy if factor is None else np.where(factor == 0, 0, dy * factor)), []


def _is_spatial(op: Op) -> bool:
    return op.attributes.get("noise") == "spatial_dropout"


def _linear(op: Op, noise: Noise, images: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Factor and offset of every value, (images, values)."""
    # Rates are float32 numbers: what C computes with.
    rate, kind = float(np.float32(op.attributes["rate"])), op.attributes.get("noise", "dropout")
    keys = image_keys(noise, op.attributes["stream"], images)
    elements = np.arange(op.input_shape[2] if _is_spatial(op) else math.prod(op.input_shape), dtype=np.uint32)
    if kind == "gaussian_noise":
        normal = random_normal(keys, elements)
        return np.ones_like(normal), rate * normal
    if kind == "gaussian_dropout":
        return 1 + math.sqrt(rate / (1 - rate)) * random_normal(keys, elements), None
    mask = (random_bits(keys, elements) >> np.uint32(8)) >= math.ceil(rate * 2**24)
    if kind == "alpha_dropout":
        scale = 1 / math.sqrt((1 - rate) * (1 + rate * _SELU_LIMIT**2))
        offset = -scale * _SELU_LIMIT * rate
        return mask * scale, np.where(mask, offset, scale * _SELU_LIMIT + offset)
    return (mask / (1 - rate) if rate < 1 else np.zeros(mask.shape)), None


def image_keys(noise: Noise, stream: int, images: int) -> Any:
    """The two keys of every image's random numbers, uint32 (images, 1)."""
    positions: Any = np.arange(noise.first, noise.first + images, dtype=np.uint64)[:, None]
    first: Any
    second: Any
    first, second = random_key(noise.seed, noise.step, stream, positions)
    return first.astype(np.uint32), second.astype(np.uint32)

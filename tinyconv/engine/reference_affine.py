"""Augmentation of the NumPy reference: images sampled along affine maps of their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.engine.program import Op, random_bits
from tinyconv.engine.reference_noise import Noise, image_keys

__all__ = ["draw_maps", "random_affine", "random_affine_backward", "taps"]


def random_affine(op: Op, x: np.ndarray, weights: list[np.ndarray], noise: Noise | None) -> tuple[np.ndarray, Any]:
    """x (N, H, W, C) -> y of the same shape, every image sampled along a map of its own."""
    if noise is None:
        return x, None
    maps = draw_maps(op, noise, len(x))
    y = np.zeros_like(x)
    image = np.arange(len(x))[:, None, None]
    sampled = taps(op, maps)
    for rows, columns, weight, inside in sampled:
        values = np.where(inside[..., None], x[image, rows, columns], x.dtype.type(op.attributes["fill_value"]))
        y += weight[..., None].astype(x.dtype) * values
    return y, sampled


def random_affine_backward(op: Op, dy: np.ndarray, sampled: Any, weights: list[np.ndarray],
                           want_dx: bool) -> tuple[np.ndarray | None, list[np.ndarray]]:
    """dy (N, H, W, C) -> dx: every value goes to the pixels that were read for it."""
    if not want_dx or sampled is None:
        return dy if want_dx else None, []
    dx = np.zeros_like(dy)
    image = np.arange(len(dy))[:, None, None]
    for rows, columns, weight, inside in sampled:
        np.add.at(dx, (image, rows, columns), (weight * inside)[..., None].astype(dy.dtype) * dy)
    return dx, []


def draw_maps(op: Op, noise: Noise, images: int) -> np.ndarray:
    """(images, 2, 3): the pixel in row a and column b reads (x, y) = map @ (b, a, 1)."""
    height, width, _ = op.input_shape
    low_0, high_0, low_1, high_1 = (float(np.float32(factor)) for factor in op.attributes["factors"])
    keys, transform = image_keys(noise, op.attributes["stream"], images), op.attributes["transform"]
    numbers = (random_bits(keys, np.arange(2, dtype=np.uint32)) >> np.uint32(8)) * 2.0**-24
    u, v = numbers[:, 0], numbers[:, 0 if op.attributes["tied"] else 1]
    first, second = low_0 + (high_0 - low_0) * u, low_1 + (high_1 - low_1) * v
    linear, shift = np.tile(np.eye(2), (images, 1, 1)), np.zeros((images, 2))
    if transform == "flip":
        linear[u <= 0.5, 0, 0] = -1 if low_0 else 1
        linear[u <= 0.5, 1, 1] = -1 if high_0 else 1
    elif transform == "translation":
        shift[:, 0], shift[:, 1] = second * width, first * height
    elif transform == "rotation":
        angle = 2 * np.pi * first
        linear[:, 0, 0] = linear[:, 1, 1] = np.cos(angle)
        linear[:, 1, 0] = np.sin(angle)
        linear[:, 0, 1] = -linear[:, 1, 0]
    else:
        linear[:, 0, 0], linear[:, 1, 1] = 1 + second, 1 + first
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = middle - linear @ middle - shift
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def taps(op: Op, maps: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """The pixels that every pixel reads: rows, columns, weights, and whether they lie inside; (N, H, W) each."""
    height, width, _ = op.input_shape
    a, b = np.mgrid[:height, :width]
    x, y = (np.tensordot(maps[:, k], np.stack([b, a, np.ones_like(a)]), 1) for k in (0, 1))
    if op.attributes["nearest"]:
        steps, corner = [(0, 0)], (_round_away(x), _round_away(y))
        x, y = corner
    else:
        steps, corner = [(0, 0), (0, 1), (1, 0), (1, 1)], (np.floor(x), np.floor(y))
    found: list[tuple[np.ndarray, ...]] = []
    for down, right in steps:
        columns, inside_x = _into_image(op, corner[0] + right, width)
        rows, inside_y = _into_image(op, corner[1] + down, height)
        weight = (1 - np.abs(x - corner[0] - right)) * (1 - np.abs(y - corner[1] - down))
        found.append((rows, columns, weight, inside_x & inside_y))
    return found


def _round_away(x: np.ndarray) -> np.ndarray:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def _into_image(op: Op, i: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers as indices below n, and whether they count: outside, a constant takes their place."""
    index, mode = i.astype(np.intp), op.attributes["fill_mode"]
    inside = (index >= 0) & (index < n)
    if mode == "reflect":
        index = index % (2 * n)
        index = np.where(index >= n, 2 * n - 1 - index, index)
    elif mode == "wrap":
        index = index % n
    return np.clip(index, 0, n - 1), inside if mode == "constant" else np.ones_like(inside)

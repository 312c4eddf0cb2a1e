"""Synthetic digits that look handwritten, drawn at run time: a data set without a download.

They are no substitute for MNIST: each is one of a few dozen shapes below, distorted
at random.  A stroke is a Catmull-Rom spline through a few points; the points are
jittered, slanted, turned and bent, the curve is drawn with a pen of changing width,
and noise is added.  Only exact operations (+, -, *, /, square root) are used, so that
a seed gives the same images on every processor.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinyconv.shapes import check_integer

__all__ = ["DESCRIPTION", "draw", "load_data"]

DESCRIPTION = "digits: synthetic, handwritten-looking, drawn at run time (not real handwriting)"

# The shapes: points x,y in percent of a box, y downwards; * ends a curve in a corner, / lifts the pen.
SHAPES: tuple[tuple[str, ...], ...] = (
    (  # 0
        "55,2 22,12 4,50 22,90 52,98 82,86 96,48 80,10 50,3",
        "78,12 48,0 16,22 4,58 24,94 62,96 92,66 92,28 66,4 40,6",
        "30,6 8,34 8,68 32,97 70,94 94,60 88,22 60,2 34,12 28,22",
    ),
    (  # 1
        "52,0 50,50 48,100",
        "50,0 50,35 49,70 50,100",
        "22,26 52,0* 52,50 50,100",
        "22,22 52,0* 50,50 50,98/16,99 50,97 86,99",
    ),
    (  # 2
        "6,24 28,3 64,4 78,28 56,60 4,97* 50,94 98,96",
        "8,16 44,0 80,18 74,44 40,74 14,92 20,78 48,86 96,98",
        "12,30 20,8 50,0 84,14 82,42 46,74 8,98* 52,98 94,88",
        "6,10 50,2 84,20 66,54 28,86 6,92 14,76 40,84 70,96 98,84",
        "20,20 46,2 72,16 62,50 34,86 10,98 6,80 30,72 60,82 98,80",
    ),
    (  # 3
        "8,12 42,0 80,14 70,40 36,48* 78,56 90,80 54,99 6,88",
        "10,4 50,3 86,4* 62,24 42,42* 80,50 92,76 62,98 8,92",
        "14,18 34,2 68,4 80,24 62,42 38,47 66,52 90,72 72,96 34,98 8,82",
    ),
    (  # 4
        "26,4 16,34 8,58* 50,57 96,54/74,10 70,55 66,100",
        "64,0 34,32 4,66* 50,66 98,64/70,28 68,64 66,100",
        "10,6 8,36 22,54 56,54 84,44/88,2 84,40 78,72 74,100",
        "72,100 74,50 76,0* 40,30 6,62* 50,64 96,62",
    ),
    (  # 5
        "24,4 20,24 16,42* 54,36 90,56 80,86 44,99 6,90/24,4 56,5 90,2",
        "88,4 54,4 24,6* 18,26 16,46* 52,38 86,56 84,84 50,99 8,88",
        "80,2 50,8 30,8 22,26 24,44 56,44 80,60 74,86 44,98 6,94",
        "98,0 66,6 40,10* 34,26 28,42* 54,48 66,66 56,90 30,98 0,88",
    ),
    (  # 6
        "74,2 40,18 14,50 10,80 40,99 76,88 82,66 56,52 24,62 12,78",
        "60,0 36,28 16,62 22,92 54,98 78,80 66,58 38,60 18,76",
        "46,0 24,34 8,70 28,97 64,98 90,78 74,58 40,62 20,84",
        "42,0 16,30 4,66 26,96 66,96 94,68 70,42 34,54 16,80",
    ),
    (  # 7
        "6,8 48,6 92,4* 66,46 44,100",
        "4,22 8,6* 50,8 94,6* 70,40 54,70 46,100",
        "6,8 50,7 90,5* 62,50 38,100/28,52 56,50 84,48",
        "6,14 36,2 66,10 92,6* 76,34 56,66 52,100",
        "2,16 44,14 84,4* 84,34 74,68 70,100",
        "0,6 50,4 96,2* 70,26 40,60 20,100",
    ),
    (  # 8
        "76,14 46,0 18,18 34,40 66,58 84,80 50,99 16,82 34,58 64,40 82,20 70,6",
        "50,46 22,30 28,8 54,0 78,14 74,36 48,47 18,64 16,88 50,100 82,86 80,62 52,47",
        "84,8 52,2 22,14 28,38 58,54 76,74 60,97 28,98 14,80 38,56 70,34 88,12",
        "92,14 64,0 36,10 34,30 52,50 58,74 44,98 20,92 20,76 46,54 78,34 92,12",
    ),
    (  # 9
        "82,16 50,0 16,18 18,44 48,54 78,36 84,14* 82,56 74,100",
        "78,20 52,2 20,14 12,38 38,52 70,40 82,16 84,50 72,82 34,98",
        "70,10 36,4 12,30 30,52 64,42 78,12* 76,50 60,100",
        "84,24 62,2 28,6 14,32 34,50 66,40 86,18 80,54 62,80 40,100",
        "72,8 34,2 8,26 30,46 62,34 76,6* 66,52 40,100",
        "86,14 54,0 14,10 10,34 44,42 84,22* 76,60 72,100",
    ),
)
SIDE = 28
_SAMPLES = 4  # points of the drawn line between two of a shape
_CHUNK = 64  # images drawn side by side; the work space stays in the cache


class _Shape(NamedTuple):
    """A shape as a linear map: line points = sum over j of weights[:, j] * points[curve[:, j]]."""

    points: np.ndarray  # (C, 2), in [-0.5, 0.5]
    curve: np.ndarray  # (K, 4)
    weights: np.ndarray  # (K, 4)
    segments: np.ndarray  # (S,): the line goes from point s to point s + 1


def load_data(num_train: int = 5500, num_test: int = 1000,
              seed: int = 0) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Draws a synthetic data set of digits, in Keras' form.

    Args:
        num_train: Images for training. Defaults to 5,500.
        num_test: Images for testing; they do not depend on `num_train`. Defaults to 1,000.
        seed: Non-negative integer; the same seed gives the same images. Defaults to 0.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images uint8 (N, 28, 28), white on black as MNIST's,
        and labels uint8 (N,), each class equally likely.
    """
    counts = (check_integer(num_train, "num_train", 0), check_integer(num_test, "num_test", 0))
    seed = check_integer(seed, "seed", 0)
    train, test = (_random_digits(count, np.random.default_rng([seed, part]))
                   for part, count in enumerate(counts))
    return train, test


def draw(labels: Any, seed: int = 0) -> np.ndarray:
    """Draws a synthetic digit for each label.

    Args:
        labels: Integers from 0 to 9, (N,).
        seed: Non-negative integer. Defaults to 0.

    Returns:
        uint8 array (N, 28, 28), white on black.

    Raises:
        ValueError: If a label is no digit.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or ((labels < 0) | (labels > 9)).any():
        received = f"{labels.dtype} of shape {labels.shape}"
        if labels.size and labels.dtype.kind in "iuf":
            received += f", from {labels.min()} to {labels.max()}"
        raise ValueError(f"Expected labels to be integers from 0 to 9, of shape (N,). Received: {received}")
    return _draw(labels, np.random.default_rng([check_integer(seed, "seed", 0), 2]))


def _random_digits(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, 10, count, dtype=np.uint8)
    return _draw(labels, random), labels


def _draw(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Images (N, 28, 28) of the labels."""
    count = len(labels)
    choice = random.random(count, np.float32)
    # Everything random about an image, so that the order of drawing does not matter.
    values = random.random((count, 24), np.float32)
    jitter = random.random((count, 16, 2), np.float32) - random.random((count, 16, 2), np.float32)
    noise = random.integers(0, 256, (count, SIDE, SIDE), np.uint8)
    images = np.empty((count, SIDE, SIDE), np.uint8)
    for digit, texts in enumerate(SHAPES):
        for variant, text in enumerate(texts):
            low, high = variant / len(texts), (variant + 1) / len(texts)
            chosen = np.flatnonzero((labels == digit) & (choice >= low) & (choice < high))
            for start in range(0, len(chosen), _CHUNK):
                rows = chosen[start:start + _CHUNK]
                images[rows] = _draw_shape(_shape(text), values[rows].T, jitter[rows], noise[rows])
    return images


@cache
def _shape(text: str) -> _Shape:
    """Reads a shape's notation."""
    points: list[list[float]] = []
    index: list[list[int]] = []
    weights: list[list[float]] = []
    segments: list[int] = []

    def spline(first: int, last: int) -> None:
        for i in range(first, last):
            around = [max(i - 1, first), i, i + 1, min(i + 2, last)]
            for step in range(_SAMPLES + (i + 1 == last)):
                t = step / _SAMPLES
                if not (i + 1 == last and step == _SAMPLES):
                    segments.append(len(index))
                index.append(around)
                weights.append([(-t + 2 * t**2 - t**3) / 2, (2 - 5 * t**2 + 3 * t**3) / 2,
                                (t + 4 * t**2 - 3 * t**3) / 2, (t**3 - t**2) / 2])

    for stroke in text.split("/"):
        first = len(points)
        for place in stroke.split():
            points.append([int(number) / 100 - 0.5 for number in place.rstrip("*").split(",")])
            if place.endswith("*"):
                spline(first, len(points) - 1)
                first = len(points) - 1
        spline(first, len(points) - 1)
    return _Shape(np.array(points, np.float32), np.array(index), np.array(weights, np.float32),
                  np.array(segments))


def _draw_shape(shape: _Shape, values: np.ndarray, jitter: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Draws one shape n times.

    Args:
        shape: The shape.
        values: What is random about an image, in [0, 1), (24, n).
        jitter: In (-1, 1), (n, 16, 2).
        noise: uint8 (n, 28, 28).

    Returns:
        uint8 (n, 28, 28).
    """
    unrest = (0.03 + 0.05 * values[0])[:, np.newaxis, np.newaxis]
    points = shape.points + jitter[:, :len(shape.points)] * unrest
    around = points[:, shape.curve]  # (n, K, 4, 2)
    line = sum(around[:, :, j] * shape.weights[:, j, np.newaxis] for j in range(4))
    x, y = (np.ascontiguousarray(line[..., axis].T) for axis in (0, 1))  # (K, n)
    x, y = _distort(x, y, values)
    radius = 0.75 + 1.05 * values[12] * values[13] + 0.35 * values[14]
    x, y = _fit(x, y, radius, values, shape.segments)
    # The pen's pressure changes along the line: radius * (1 + a + b t), t from 0 to 1.
    t = np.linspace(-1, 1, len(x), dtype=np.float32)[:, np.newaxis]
    pressure = 1 + (values[15] - 0.5) * 0.5 * t + (values[16] - 0.5) * 0.5 * (1 - 2 * t * t)
    distance = _distance(x, y, radius * pressure, shape.segments) * radius
    soft = 0.8 + 0.7 * values[17]
    ink = np.clip((radius - distance) / soft + np.float32(0.5), 0, 1)
    gain = 255 * (1 - 0.25 * values[18] * values[18])
    return _add_noise(ink * gain, noise, values[19], values[20])


def _distort(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Width, bends, slant and turn of lines around the origin; x and y are (K, n)."""
    centred = values - np.float32(0.5)
    x = x * (0.5 + 0.55 * values[1])
    bent_x = x + centred[2] * 0.5 * y * y + centred[3] * 0.5 * x * y + centred[4] * 1.2 * y * (y * y - 0.1)
    bent_y = y + centred[5] * 0.5 * x * x + centred[6] * 0.5 * x * y + centred[7] * 1.2 * x * (x * x - 0.1)
    bent_y += centred[23] * 0.6 * y * y
    slant = 0.15 + 0.4 * centred[8] + 0.4 * centred[9]
    x, y = bent_x - slant * bent_y, bent_y
    tangent = 0.2 * centred[10]  # of half the angle: up to 0.2 radians
    cosine, sine = (1 - tangent * tangent) / (1 + tangent * tangent), 2 * tangent / (1 + tangent * tangent)
    return cosine * x - sine * y, sine * x + cosine * y


def _fit(x: np.ndarray, y: np.ndarray, radius: np.ndarray, values: np.ndarray,
         segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits lines into a box of about 20 pixels, their centre of mass amid the image, as MNIST's; almost."""
    size = 20 - 2 * radius + (values[11] - np.float32(0.7)) * 4
    extent = np.maximum(x.max(axis=0) - x.min(axis=0), y.max(axis=0) - y.min(axis=0))
    scale = size / np.maximum(extent, np.float32(0.1))
    dx, dy = x[segments + 1] - x[segments], y[segments + 1] - y[segments]
    length = np.sqrt(dx * dx + dy * dy)
    shift = SIDE / 2 + (values[21:23] - np.float32(0.5)) * 2

    def place(line: np.ndarray, middle: np.ndarray) -> np.ndarray:
        centre = (length * (line[segments] + line[segments + 1])).sum(axis=0) / (2 * length.sum(axis=0))
        return (line - centre) * scale + middle

    return place(x, shift[0]), place(y, shift[1])


def _distance(x: np.ndarray, y: np.ndarray, radius: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest segment, in units of the radius there.

    x, y, radius: points of the lines, (K, n).  Returns float32 (28, 28, n): images last, so that
    every operation runs over long rows.
    """
    x, y, weight = (np.ascontiguousarray(a, np.float32) for a in (x, y, 1 / (radius * radius)))
    grid = np.arange(SIDE, dtype=np.float32)[:, np.newaxis] + np.float32(0.5)
    nearest = np.full((SIDE, SIDE, x.shape[1]), np.inf, np.float32)
    along, across = np.empty_like(nearest), np.empty_like(nearest)
    for s in segments:
        dx, dy = x[s + 1] - x[s], y[s + 1] - y[s]
        inverse = 1 / np.maximum(dx * dx + dy * dy, np.float32(1e-6))
        from_x, from_y = grid - x[s], grid - y[s]  # (28, n)
        # Where on the segment the nearest point lies, 0 to 1; then the squared distance to it.
        np.add((from_x * (dx * inverse))[np.newaxis], (from_y * (dy * inverse))[:, np.newaxis], out=along)
        np.maximum(along, 0, out=along)
        np.minimum(along, 1, out=along)
        np.multiply(along, dx, out=across)
        np.subtract(from_x[np.newaxis], across, out=across)
        np.multiply(across, across, out=across)
        np.multiply(along, dy, out=along)
        np.subtract(from_y[:, np.newaxis], along, out=along)
        np.multiply(along, along, out=along)
        np.add(across, along, out=across)
        np.multiply(across, weight[s], out=across)
        np.minimum(nearest, across, out=nearest)
    return np.sqrt(nearest)


def _add_noise(ink: np.ndarray, noise: np.ndarray, grain: np.ndarray, dirt: np.ndarray) -> np.ndarray:
    """uint8 images (n, 28, 28) of ink (28, 28, n): the ink is uneven, and one paper in four is not clean."""
    random = noise.transpose(1, 2, 0) * np.float32(1 / 255)
    ink = ink * (1 - 0.2 * grain * random)
    ink = ink + np.maximum(dirt - np.float32(0.75), 0) * 160 * random * random
    return np.ascontiguousarray(np.minimum(ink + np.float32(0.5), 255).astype(np.uint8).transpose(2, 0, 1))

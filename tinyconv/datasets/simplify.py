"""Raw drawings of Quick, Draw!, as a pen left them, made into what its authors call simplified ones.

Their procedure, from the data set's page (https://github.com/googlecreativelab/quickdraw-dataset): the
drawing goes to the upper left corner, is scaled so that its largest coordinate is 255, its strokes get a
point every unit and lose those that the Ramer-Douglas-Peucker algorithm finds dispensable at an epsilon of 2.
Of 50 drawings that are at hand both ways, 48 come out as the data set has them, point by point; in the other
two rounding decided between points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["MAX_LENGTH", "simplify"]

# Of a drawing's strokes together, in units of 1/255 of its size: where it is longer, time would be too.
MAX_LENGTH = 20_000
_LARGEST = 255
_EPSILON = 2.0

Stroke = tuple[Sequence[float], Sequence[float]]


def simplify(drawing: Sequence[Stroke]) -> list[tuple[list[float], list[float]]]:
    """Simplifies a drawing.

    Args:
        drawing: Strokes, each the x and the y coordinates of its points, at least one, finite.

    Returns:
        The same strokes with fewer points, whole numbers from 0 to 255.

    Raises:
        ValueError: If the strokes together are longer than 20,000 units.
    """
    strokes = [np.array(stroke, np.float64).T for stroke in drawing]
    points = np.concatenate(strokes)
    corner = points.min(axis=0)
    size = float((points - corner).max())
    scale = _LARGEST / size if size else 1.0
    strokes = [(stroke - corner) * scale for stroke in strokes]
    total = sum(float(_steps(stroke).sum()) for stroke in strokes)
    if total > MAX_LENGTH:
        raise ValueError(f"Expected strokes of at most {MAX_LENGTH} units together. Received: {total:.0f}")
    kept = (np.rint(_without_dispensable(_resampled(stroke))) for stroke in strokes)
    return [(stroke[:, 0].tolist(), stroke[:, 1].tolist()) for stroke in kept]


def _steps(points: np.ndarray) -> np.ndarray:
    """How far each point but the first is from the one before: (N - 1,)."""
    return np.hypot(*np.diff(points, axis=0).T)


def _resampled(points: np.ndarray) -> np.ndarray:
    """The same line with a point every unit of its length, and at its end."""
    ways = np.concatenate([[0.0], np.cumsum(_steps(points))])
    places = np.append(np.arange(max(1, math.ceil(ways[-1]))), ways[-1])
    return np.stack([np.interp(places, ways, axis) for axis in points.T], axis=1)


def _without_dispensable(points: np.ndarray) -> np.ndarray:
    """The ends of a line, and what is farther than epsilon from the straight line through two points kept."""
    kept = np.zeros(len(points), bool)
    kept[[0, -1]] = True
    parts = [(0, len(points) - 1)]
    while parts:
        first, last = parts.pop()
        inner = points[first + 1:last] - points[first]
        if not len(inner):
            continue
        across, down = points[last] - points[first]
        length = math.hypot(across, down)
        # Where a line ends where it began there is no straight line: the distance from that point counts.
        away = np.abs(inner[:, 0] * down - inner[:, 1] * across) / length if length else np.hypot(*inner.T)
        farthest = int(away.argmax())
        if away[farthest] > _EPSILON:
            middle = first + 1 + farthest
            kept[middle] = True
            parts += [(first, middle), (middle, last)]
    return points[kept]

"""Drawings of Quick, Draw! as strokes (ndjson), and as the bitmaps that its authors made of them.

The authors' procedure, which they describe at
https://github.com/googlecreativelab/quickdraw-dataset/issues/19: the simplified drawing, whose coordinates
go from 0 to 255 and touch 0 at the top and at the left, is shifted so that its lower right corner's distance
to 256 is halved; around the 256 x 256 units lies a margin of `padding` and half a line's width; lines are 16
units wide with round ends and joints; all of it, 304 units, becomes 28 pixels.  They used cairo; here Pillow
draws 64 times larger, black and white, and the means of 64 x 64 pixels are the grey levels.  Strokes are laid
over each other one by one.  Nine of the data set's drawings come out as its own bitmaps but for 1 to 1.7 of
255 levels (root of the mean square; 19 in the worst pixel).  Raw drawings, with times and in the units of
whatever screen they were drawn on, are simplified first (`datasets.simplify`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np

from tinyconv.datasets.simplify import simplify
from tinyconv.formats.guard import FormatError, checked_dict, checked_list, checked_number, fail, parse_json
from tinyconv.shapes import check_integer
from tinyconv.utils import check_number

__all__ = ["rasterize", "read_bitmaps", "read_ndjson"]

# The longest lines of the simplified drawings have some 20 KB.
MAX_LINE = 1 << 20
MAX_POINTS = 5_000
# What is drawn, the boxes around the strokes with a line's width, in squared units: as much as 100 of the whole ground.
MAX_AREA = 100 * 272**2
_UNITS = 256
_LARGEST = 255.0
_LARGEST_RAW = 1e6
_ZOOM = 64
_LINE = _PADDING = 16

Stroke = tuple[list[float], list[float]]


def read_ndjson(path: Any, limit: int | None = None) -> Iterator[tuple[str, list[Stroke]]]:
    """The drawings of a file, one JSON object a line, one after the other; raw ones are simplified.

    Args:
        path: The file.
        limit: At most so many. Defaults to None: all.

    Yields:
        (word, drawing): the class, and the strokes, each the x and the y coordinates from 0 to 255.

    Raises:
        ValueError: If a line is too long, is no such object, a coordinate is out of range, or the strokes
            are too many or too large.
        OSError: If the file cannot be opened.
    """
    with open(path, "rb") as file:
        lines = iter(lambda: file.readline(MAX_LINE + 1), b"")
        for number, line in enumerate(islice((line for line in lines if line.strip()), limit), 1):
            what = f"{os.fspath(path)}, drawing {number}"
            if len(line) > MAX_LINE:
                fail(what, f"a line of at most {MAX_LINE} bytes", "more")
            document = checked_dict(parse_json(line, what), what)
            word = document.get("word")
            if not isinstance(word, str):
                fail(what, "a word", word)
            yield word, _as_drawing(document.get("drawing"), what)


def _as_drawing(value: Any, what: str) -> list[Stroke]:
    strokes = checked_list(value, f"{what}: its strokes")
    lists = {len(checked_list(stroke, f"{what}: a stroke")) for stroke in strokes}
    if lists not in ({2}, {3}):
        fail(what, "strokes of x and y coordinates, or with times of x, y and t",
             f"{max(lists)} lists in a stroke" if lists else "no strokes")
    raw = lists == {3}
    drawing = []
    for stroke in strokes:
        xs, ys, *_ = axes = [checked_list(axis, f"{what}: coordinates") for axis in stroke]
        if not xs or any(len(axis) != len(xs) for axis in axes):
            fail(what, "as many x as y coordinates, and times, at least 1", [len(axis) for axis in axes])
        drawing.append((_checked_axis(xs, what, raw), _checked_axis(ys, what, raw)))
    if raw:
        try:
            drawing = simplify(drawing)
        except ValueError as error:
            raise FormatError(f"{what}: {error}") from None
    _check_size(drawing, what)
    return drawing


def _checked_axis(values: list[Any], what: str, raw: bool) -> list[float]:
    numbers = [checked_number(value, f"{what}: a coordinate", _LARGEST_RAW if raw else _LARGEST) for value in values]
    if min(numbers) < 0 and not raw:
        fail(f"{what}: a coordinate", "a number from 0 to 255", min(numbers))
    return numbers


def _check_size(drawing: list[Stroke], what: str) -> None:
    """That a simplified drawing is drawn in reasonable time."""
    points = sum(len(x) for x, _ in drawing)
    if points > MAX_POINTS:
        fail(what, f"at most {MAX_POINTS} points", points)
    area = sum((max(x) - min(x) + _LINE) * (max(y) - min(y) + _LINE) for x, y in drawing)
    if area > MAX_AREA:
        fail(what, f"strokes whose boxes have at most {MAX_AREA} squared units", "more")


def rasterize(drawings: Iterable[Any], side: int = 28, line_width: float = _LINE,
              padding: float = _PADDING) -> np.ndarray:
    """Draws drawings as the bitmaps of the data set are drawn.

    Args:
        drawings: Lists of strokes, each `[xs, ys]` with coordinates from 0 to 255, or raw ones: `[xs, ys, ts]`.
        side: Height and width of the images. Defaults to 28.
        line_width: In units of the coordinates, 1 to 256. Defaults to 16.
        padding: Margin on every side, in the same units, beyond half a line's width. Defaults to 16.

    Returns:
        uint8 (N, side, side), white lines on black.

    Raises:
        ValueError: If a drawing has no strokes or too large ones, or a coordinate is out of range.
    """
    side = check_integer(side, "side")
    if side > 1024:
        raise ValueError(f"Expected side to be at most 1024. Received: side={side}")
    width = check_number(line_width, "line_width", 1, _UNITS)
    margin = check_number(padding, "padding", 0, _UNITS)
    return _stack([_draw(_checked_drawing(drawing), side, width, margin) for drawing in drawings], side)


def read_bitmaps(path: Any, side: int = 28, limit: int | None = None) -> np.ndarray:
    """What `read_ndjson` reads, drawn as `rasterize` does by default: uint8 (N, side, side).

    Raises:
        ValueError, OSError: As `read_ndjson`.
    """
    return _stack([_draw(drawing, side, _LINE, _PADDING) for _, drawing in read_ndjson(path, limit)], side)


def _stack(images: list[np.ndarray], side: int) -> np.ndarray:
    return np.stack(images) if images else np.zeros((0, side, side), np.uint8)


def _checked_drawing(drawing: Any) -> list[Stroke]:
    try:
        plain = [[np.asarray(axis, np.float64).tolist() for axis in stroke] for stroke in drawing]
    except (TypeError, ValueError):
        plain = []
    try:
        return _as_drawing(plain, "drawings")
    except FormatError as error:
        raise ValueError(str(error)) from None


def _draw(strokes: Sequence[Stroke], side: int, line_width: float, padding: float) -> np.ndarray:
    """uint8 (side, side)."""
    border = padding + line_width / 2
    scale = side / (_UNITS + 2 * border)
    # Half of what is left on the right and below goes to the left and above.
    shift_x = border + (_UNITS - max(max(xs) for xs, _ in strokes)) / 2
    shift_y = border + (_UNITS - max(max(ys) for _, ys in strokes)) / 2
    black = np.ones((side, side))
    for xs, ys in strokes:
        points = [((x + shift_x) * scale, (y + shift_y) * scale) for x, y in zip(xs, ys, strict=True)]
        box, coverage = _stroke(points, line_width / 2 * scale, side)
        black[box] *= 1 - coverage / 255  # where strokes meet, each covers its share of what was left
    return np.rint(255 * (1 - black)).astype(np.uint8)


def _stroke(points: list[tuple[float, float]], radius: float, side: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """The pixels around a stroke, and how much of each it covers, 0 to 255; `points` in pixels."""
    from PIL import Image, ImageDraw

    left, top = (max(0, math.floor(min(places) - radius)) for places in zip(*points, strict=True))
    right, bottom = (min(side, math.ceil(max(places) + radius)) for places in zip(*points, strict=True))
    picture = Image.new("L", ((right - left) * _ZOOM, (bottom - top) * _ZOOM))
    pen = ImageDraw.Draw(picture)
    points = [((x - left) * _ZOOM, (y - top) * _ZOOM) for x, y in points]
    radius *= _ZOOM
    reach = max(radius - 1, -radius)  # the last pixel that an ellipse covers counts
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + reach, y + reach), fill=255)
    for start, end in pairwise(points):
        _draw_segment(pen, start, end, radius)
    return (slice(top, bottom), slice(left, right)), np.asarray(picture.reduce(_ZOOM), np.float64)


def _draw_segment(pen: Any, start: tuple[float, float], end: tuple[float, float], radius: float) -> None:
    """The rectangle around a segment; Pillow's polygons reach half a pixel beyond their corners' centres."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    if length:
        across_x, across_y = -dy / length * (radius - 0.5), dx / length * (radius - 0.5)
        pen.polygon([(x - 0.5 + sign * across_x, y - 0.5 + sign * across_y)
                     for (x, y), sign in ((start, 1), (end, 1), (end, -1), (start, -1))], fill=255)

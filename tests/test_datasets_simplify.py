"""Raw drawings of Quick, Draw! become its simplified ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tinyconv.datasets import quickdraw
from tinyconv.datasets.simplify import MAX_LENGTH, simplify
from tinyconv.datasets.strokes import rasterize, read_ndjson

# An airplane of the data set (Google, CC BY 4.0; key 5306481106747392), as drawn, rounded to hundredths, ...
RAW = [
    [[105.85, 163.5, 174.15, 185.13, 245.34, 251.85, 287.95, 318.05, 325.19, 326.69, 288.22, 172.95, 90.62,
     84.53, 84.13], [253.16, 265.51, 270.01, 271.49, 244.16, 241.82, 240.03, 236.67, 232.53, 227.89, 192.36, 201.86,
     218.04, 219.86, 218.94]],
    [[97.36, 92.53, 104.77, 119.57, 134.68, 134.68], [206.7, 210.54, 258.86, 263.51, 262.48, 262.48]],
    [[154.29, 160.83, 163.34, 183.27, 187.59, 190.93, 197.9, 224.4, 231.93, 212.15, 207.47, 208.9], [214.69,
     224.11, 233.38, 313.68, 324.12, 328.99, 332.1, 321.75, 313.86, 250.51, 235.93, 233.29]],
    [[155.78, 154.29, 154.29, 169.15, 183.99, 192.47, 199.91, 211.85, 214.36], [208.19, 174.87, 166.37, 106.51,
     99.96, 104.83, 175.32, 209.34, 211.19]],
    [[266.63, 269.95, 297.09, 304.39, 313.07, 315.14, 291.31, 280.44, 280.44], [211.19, 206.21, 157.4, 155.73,
     193.08, 208.69, 204.04, 203.2, 203.2]],
    [[97.36, 89.6, 80.36, 72.98, 68.09, 68.06, 71.7, 75.71, 109.0, 110.35, 107.85], [216.69, 217.84, 220.32,
     223.96, 230.8, 239.94, 247.77, 254.79, 263.99, 258.0, 254.54]],
    [[70.9, 70.4, 70.4, 69.4, 68.4, 65.75, 67.99, 76.68, 84.39], [221.18, 212.33, 206.37, 191.12, 178.56,
     170.76, 176.24, 192.12, 208.21]],
]
# ... and as the data set has it simplified.
SIMPLIFIED = [
    [[39, 117, 182, 247, 253, 255, 217, 105, 18], [150, 168, 139, 134, 130, 125, 90, 100, 116]],
    [[31, 26, 38, 53, 67], [104, 108, 155, 160, 159]],
    [[87, 93, 115, 122, 128, 155, 162, 138, 140], [112, 122, 209, 224, 227, 217, 209, 133, 130]],
    [[88, 87, 101, 116, 124, 131, 145], [106, 65, 7, 0, 5, 74, 109]],
    [[196, 227, 233, 244, 210], [109, 56, 55, 106, 101]],
    [[31, 7, 2, 2, 10, 42, 44, 41], [114, 121, 128, 137, 151, 160, 155, 151]],
    [[5, 0, 18], [118, 69, 106]],
]


def as_lists(drawing):
    return [[list(axis) for axis in stroke] for stroke in drawing]


def test_a_raw_drawing_becomes_the_simplified_one_of_the_data_set():
    assert as_lists(simplify(RAW)) == SIMPLIFIED


@pytest.mark.parametrize(("scale", "shift"), [(0.25, 0), (8, -3000), (1 / 3, 1000)])
def test_size_and_place_of_the_screen_do_not_matter(scale, shift):
    moved = [[[x * scale + shift for x in axis] for axis in stroke] for stroke in RAW]
    assert as_lists(simplify(moved)) == SIMPLIFIED


@pytest.mark.parametrize(("drawing", "expected"), [
    ([[[7], [3]]], [[[0, 0], [0, 0]]]),
    ([[[7, 7, 7], [3, 3, 3]]], [[[0, 0], [0, 0]]]),
    ([[[0, 10], [0, 0]], [[5], [0]]], [[[0, 255], [0, 0]], [[128, 128], [0, 0]]]),
    ([[[0, 1, 2, 3, 4], [0, 0, 0, 0, 0]]], [[[0, 255], [0, 0]]]),
    ([[[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]]], [[[0, 255, 255, 0, 0], [0, 0, 255, 255, 0]]]),
    ([[[0, 50, 255], [0, 1, 0]]], [[[0, 255], [0, 0]]]),
    ([[[0, 50, 255], [0, 3, 0]]], [[[0, 50, 255], [0, 3, 0]]]),
], ids=["dot", "still", "dot-beside", "straight", "closed", "nearly-straight", "bent"])
def test_what_is_dispensable_goes(drawing, expected):
    assert as_lists(simplify(drawing)) == expected


def test_every_point_is_near_what_is_left():
    angles = np.linspace(0, 20, 400)
    drawing = [(angles * np.cos(angles), angles * np.sin(angles))]
    scale = 255 / max(np.ptp(axis) for axis in drawing[0])
    points = np.stack([(axis - axis.min()) * scale for axis in drawing[0]], axis=1)
    (x, y), = simplify(drawing)
    assert 20 < len(x) < 100
    corners = np.stack([x, y], axis=1)
    starts, ways = corners[:-1], np.diff(corners, axis=0)
    places = np.clip(((points[:, None] - starts) * ways).sum(-1) / (ways**2).sum(-1), 0, 1)
    away = np.linalg.norm(points[:, None] - starts - places[..., None] * ways, axis=-1).min(axis=1)
    assert away.max() <= 2 + np.sqrt(0.5)  # epsilon, and the rounding of both ends


def test_endless_strokes_are_refused():
    zigzag = [np.arange(200.0), np.tile([0.0, 199.0], 100)]
    with pytest.raises(ValueError, match=f"at most {MAX_LENGTH} units") as caught:
        simplify([zigzag])
    assert "\n" not in str(caught.value)


def write(path, drawing):
    path.write_text(json.dumps({"word": "airplane", "drawing": drawing}) + "\n")
    return path


def test_raw_files_are_read_as_simplified_ones(tmp_path):
    timed = [[*stroke, list(range(len(stroke[0])))] for stroke in RAW]
    path = write(tmp_path / "full_raw_airplane.ndjson", timed)
    assert [(word, as_lists(drawing)) for word, drawing in read_ndjson(path)] == [("airplane", SIMPLIFIED)]
    (x, _), _, names = quickdraw.load(tmp_path, test_split=0)
    assert names == ["airplane"]
    np.testing.assert_array_equal(x, rasterize([SIMPLIFIED]))
    np.testing.assert_array_equal(x, rasterize([timed]))


@pytest.mark.parametrize("drawing", [
    [[[1, 2], [1, 2], [0]]], [[[1, 2], [1, 2], [0, 1]], [[1, 2], [1, 2]]], [[[1], [1], [1], [1]]],
    [[[1e7], [1], [0]]], [[[float("nan")], [1], [0]]],
    [[list(range(200)), [0, 199] * 100, list(range(200))]],
], ids=["times", "mixed", "four", "large", "nan", "long"])
def test_raw_drawings_that_are_hostile_are_refused(drawing, tmp_path):
    path = write(tmp_path / "cat.ndjson", drawing)
    with pytest.raises(ValueError, match="cat.ndjson") as caught:
        quickdraw.load(tmp_path)
    assert "Received: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.is_file()

"""Images as arrays, against loops over pixels, TensorFlow.js' numbers and the real digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from tinyconv import Sequential, image, layers, maps
from tinyconv.datasets import Sprite

pytestmark = pytest.mark.once

KINDS = [(False, False), (True, False), (False, True)]
SIZES = [((4, 4), (2, 2)), ((7, 5), (3, 9)), ((1, 1), (3, 2)), ((5, 6), (1, 1)), ((28, 20), (13, 28))]


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


def tfjs_resize(x, size, align_corners, half_pixel_centers):
    """The loop of TensorFlow.js' CPU backend, pixel by pixel, in double precision."""
    (h, w, c), (new_h, new_w) = x.shape, size
    out = np.empty((new_h, new_w, c), np.float32)

    def places(old, new):
        ratio = (old - 1) / (new - 1) if align_corners and new > 1 else old / new
        for i in range(new):
            at = ratio * (i + 0.5) - 0.5 if half_pixel_centers else ratio * i
            low = max(0, math.floor(at))
            yield low, min(old - 1, math.ceil(at)), at - low

    for i, (top, bottom, down) in enumerate(places(h, new_h)):
        for j, (left, right, along) in enumerate(places(w, new_w)):
            for k in range(c):
                upper = float(x[top, left, k]) + (float(x[top, right, k]) - float(x[top, left, k])) * along
                lower = float(x[bottom, left, k]) + (float(x[bottom, right, k]) - float(x[bottom, left, k])) * along
                out[i, j, k] = upper + (lower - upper) * down
    return out


@pytest.mark.parametrize(("align_corners", "half_pixel_centers"), KINDS)
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_bilinear_is_tensorflow_js_bit_for_bit(old, new, align_corners, half_pixel_centers):
    x = pixels((*old, 3))
    y = image.resize_bilinear(x, new, align_corners, half_pixel_centers)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, tfjs_resize(x, new, align_corners, half_pixel_centers))
    np.testing.assert_array_equal(image.resize_bilinear(np.stack([x, x]), new, align_corners, half_pixel_centers)[1], y)


@pytest.mark.parametrize(("kind", "expected"), [
    ((False, False), [0, 2]), ((True, False), [0, 3]), ((False, True), [0.5, 2.5])])
def test_resize_bilinear_has_the_values_that_tensorflow_js_printed(kind, expected):
    x = np.arange(4, dtype=np.uint8).reshape(1, 4, 1)
    assert image.resize_bilinear(x, (1, 2), *kind).ravel().tolist() == expected


def test_resize_bilinear_with_half_pixels_is_the_layers():
    x = pixels((2, 9, 6, 3))
    expected = Sequential([layers.Input((9, 6, 3)), layers.Resizing(5, 8)]).predict(x, verbose=0)
    np.testing.assert_allclose(image.resize_bilinear(x, (5, 8), half_pixel_centers=True), expected, rtol=1e-6)


@pytest.mark.parametrize(("size", "outputs"), [(6, 3), (7, 3), (3, 7), (1, 4), (4, 1), (5, 5), (304, 28)])
def test_area_weighs_pixels_by_what_an_output_covers_of_them(size, outputs):
    matrix = np.zeros((outputs, size))
    for i in range(outputs):
        for j in range(size):
            low, high = i * size / outputs, (i + 1) * size / outputs
            matrix[i, j] = max(0.0, min(j + 1, high) - max(j, low)) / (size / outputs)
    axis = maps.area(size, outputs)
    found = np.zeros_like(matrix)
    for i, (indices, weights) in enumerate(zip(axis.indices, axis.weights, strict=True)):
        for index, weight in zip(indices, weights, strict=True):
            if weight:
                found[i, index] += weight
    np.testing.assert_allclose(found, matrix, atol=1e-12)
    x = pixels((size, size, 2), seed=1)
    np.testing.assert_allclose(image.resize_area(x, outputs), np.einsum("ia,jb,abc->ijc", matrix, matrix, x), rtol=1e-6)


def test_values_become_grey_opaque_and_inverted():
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    np.testing.assert_allclose(image.to_grayscale(colors)[0, :, 0],
                               [255 * 0.2989, 255 * 0.587, 255 * 0.114, 255 * 0.9999], rtol=1e-6)
    assert image.to_grayscale(colors[..., :1]).ravel().tolist() == [255, 0, 0, 255]
    clear = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [10, 20, 30, 51]]], np.uint8)
    np.testing.assert_allclose(image.flatten_alpha(clear)[0], [[255] * 3, [10, 20, 30], [206, 208, 210]], rtol=1e-6)
    np.testing.assert_allclose(image.flatten_alpha(clear[..., 2:], background=0)[0, :, 0], [0, 30, 6], rtol=1e-6)
    assert image.invert(colors)[0, 0].tolist() == [0, 255, 255]
    assert image.invert(np.full((1, 1, 1), 0.25), maximum=1).item() == 0.75


def test_drawings_tell_whether_they_are_dark_on_light():
    drawing = np.zeros((9, 9, 1), np.uint8)
    drawing[2:7, 4] = 255
    assert not image.is_dark_on_light(drawing)
    assert image.is_dark_on_light(255 - drawing)
    drawing[0, :4] = 255  # a stroke that touches the border
    assert not image.is_dark_on_light(drawing)


def test_even_light_takes_a_plane_away():
    lines = np.zeros((50, 40, 1), np.float32)
    lines[20:30, 5:35] = 120
    lines[:25, 8] = 90  # reaches the border
    down, right = np.arange(50)[:, None, None], np.arange(40)[:, None]
    np.testing.assert_allclose(image.even_light(lines + 30 + 0.5 * down - 0.3 * right), lines * (255 / 120), atol=1e-3)
    np.testing.assert_allclose(image.even_light(lines / 255 + 0.2, maximum=1), lines / 120, atol=1e-5)
    clean = np.where(lines > 0, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(image.even_light(clean), clean)
    empty = np.random.default_rng(0).integers(40, 50, (9, 9, 1)).astype(np.uint8)
    np.testing.assert_array_equal(image.even_light(empty), empty)
    assert image.even_light(np.full((1, 1, 3), 7, np.uint8)).tolist() == [[[7, 7, 7]]]


def test_stretch_levels_makes_the_largest_value_white():
    np.testing.assert_allclose(image.stretch_levels([[[10], [0], [5]]])[0, :, 0], [255, 0, 127.5])
    np.testing.assert_allclose(image.stretch_levels([[[10], [0]]], maximum=1)[0, :, 0], [1, 0])
    assert image.stretch_levels(np.zeros((2, 2, 1))).max() == 0


def test_bounding_box_and_crop_hold_the_drawing_in_the_middle():
    drawing = np.zeros((12, 10, 1), np.uint8)
    drawing[3:9, 4:6] = 7
    assert image.bounding_box(drawing) == (3, 4, 9, 6)
    assert image.bounding_box(drawing, threshold=7) == (0, 0, 12, 10)
    assert image.crop_to_content(drawing, square=False).shape == (6, 2, 1)
    square = image.crop_to_content(drawing, margin=0.5)
    assert square.shape == (12, 12, 1)
    assert square.dtype == np.uint8
    assert image.bounding_box(square) == (3, 5, 9, 7)
    assert image.crop_to_content(np.zeros((4, 6, 1))).shape == (6, 6, 1)


def test_fit_by_mass_places_a_shape_as_mnist_does():
    drawing = np.zeros((100, 200, 1), np.uint8)
    drawing[10:90, 150:190] = 255  # 80 x 40: becomes 20 x 10
    placed = image.fit_by_mass(drawing)
    assert placed.shape == (28, 28, 1)
    assert image.bounding_box(placed) == (4, 10, 24, 20) or image.bounding_box(placed) == (4, 9, 24, 19)
    np.testing.assert_allclose(placed[4:24].max(), 255)
    np.testing.assert_allclose(image.center_of_mass(placed), (14, 14), atol=0.5)
    assert image.fit_by_mass(np.zeros((5, 5, 1))).max() == 0
    corner = np.full((20, 20, 1), 1e-3)
    corner[0, 0] = 1e6  # the mass is in the corner: the box stays inside
    assert image.bounding_box(image.fit_by_mass(corner)) == (8, 8, 28, 28)


def test_fit_by_mass_leaves_real_digits_where_they_are(data_folder):
    digits = Sprite(data_folder / "mnist").images[-300:]
    moved = 0
    for digit in digits:
        placed = image.fit_by_mass(digit)
        top, left, bottom, right = image.bounding_box(digit)
        assert max(bottom - top, right - left) == 20  # so that nothing is scaled
        moved += not np.array_equal(placed, digit)
    assert moved <= 15  # their centres were measured before the values were rounded


def test_batch_stacks_images_of_one_shape():
    grey = [np.full((2, 3), value, np.uint8) for value in (1, 2)]
    stacked = image.batch(grey)
    assert (stacked.shape, stacked.dtype) == ((2, 2, 3, 1), np.float32)
    assert image.batch(np.asarray(Image.new("RGB", (4, 5))) for _ in range(3)).shape == (3, 5, 4, 3)
    for bad in ([], [grey[0], np.zeros((3, 2))]):
        with pytest.raises(ValueError, match="Expected images of one shape"):
            image.batch(bad)


def test_functions_change_no_input_and_take_any_layout():
    x = pixels((2, 8, 6, 3))
    kept = x.copy()
    turned = np.asfortranarray(x)
    turned.setflags(write=False)
    for function in (lambda v: image.resize_bilinear(v, 5), lambda v: image.resize_area(v, 5), image.to_grayscale,
                     image.invert, lambda v: image.fit_by_mass(v[0])):
        np.testing.assert_array_equal(function(x), function(turned))
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: image.resize_bilinear(np.zeros((4, 4)), 2), ValueError, "Expected images to have the shape"),
    (lambda: image.resize_area(np.zeros((0, 4, 1)), 2), ValueError, "not empty"),
    (lambda: image.resize_area(np.zeros((4, 4, 1)), 0), ValueError, "Expected size"),
    (lambda: image.resize_area(np.zeros((4, 4, 1)), 2**20), ValueError, "Expected size"),
    (lambda: image.resize_bilinear(np.zeros((4, 4, 1)), 2, True, True), ValueError, "align_corners"),
    (lambda: image.resize_bilinear(np.zeros((4, 4, 1), "S1"), 2), TypeError, "dtype"),
    (lambda: image.to_grayscale(np.zeros((4, 4, 2))), ValueError, "1 or 3 channels"),
    (lambda: image.flatten_alpha(np.zeros((4, 4, 3))), ValueError, "2 or 4 channels"),
    (lambda: image.invert(np.zeros((4, 4, 3)), math.nan), ValueError, "Expected maximum"),
    (lambda: image.bounding_box(np.zeros((1, 4, 4, 1))), ValueError, "image.shape"),
    (lambda: image.crop_to_content(np.zeros((4, 4, 1)), margin=-1), ValueError, "Expected margin"),
    (lambda: image.crop_to_content(np.zeros((100_000, 1, 1), np.uint8)), ValueError, "at most 268435456 values"),
    (lambda: image.crop_to_content(np.zeros((1, 12_000, 1), np.uint8), margin=1), ValueError, "36000"),
    (lambda: image.fit_by_mass(np.zeros((4, 4, 1)), size=10), ValueError, "box=20"),
    (lambda: image.fit_by_mass(np.zeros((4, 4, 1)), size=2**20), ValueError, "Expected size"),
])
def test_bad_input_is_named_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_masked_and_infinite_images_are_refused():
    picture = np.arange(63.0).reshape(9, 7, 1)
    for function in (image.to_grayscale, image.invert, image.even_light, image.fit_by_mass, image.bounding_box):
        with pytest.raises(TypeError, match="without a mask"):
            function(np.ma.masked_greater(picture, 9))
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="Expected image to be finite"):
            image.fit_by_mass(np.where(picture == 5, value, picture))

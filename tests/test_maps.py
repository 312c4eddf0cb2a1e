"""Constant linear maps as matrices, against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tinyconv import maps


def axis_matrix(axis, size):
    matrix = np.zeros((len(axis.indices), size))
    for row, (indices, weights) in enumerate(zip(axis.indices, axis.weights, strict=True)):
        for index, weight in zip(indices, weights, strict=True):
            if 0 <= index < size:
                matrix[row, index] += weight
    return matrix


def map_matrix(attributes, inputs):
    starts = attributes["starts"]
    matrix = np.zeros((len(starts) - 1, inputs))
    for row in range(len(starts) - 1):
        for k in range(starts[row], starts[row + 1]):
            matrix[row, attributes["indices"][k]] += 1 if attributes["factors"] is None else attributes["factors"][k]
    return matrix


def kernel(interpolation, t):
    t = abs(t)
    if interpolation == "bilinear":
        return max(0.0, 1 - t)
    if interpolation == "bicubic":
        return 1.5 * t**3 - 2.5 * t**2 + 1 if t < 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0
    radius = int(interpolation[-1])
    if t == 0:
        return 1.0
    return radius * math.sin(math.pi * t) * math.sin(math.pi * t / radius) / (math.pi * t)**2 if t < radius else 0.0


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("interpolation", [name for name in maps.INTERPOLATIONS if name != "nearest"])
@pytest.mark.parametrize(("size", "outputs"), [(1, 1), (1, 5), (5, 1), (4, 8), (8, 4), (7, 10), (10, 7), (13, 3)])
def test_resize_samples_a_kernel_at_pixel_centres(size, outputs, interpolation, antialias):
    scale = max(1.0, size / outputs) if antialias else 1.0
    expected = np.array([[kernel(interpolation, ((i + 0.5) * size / outputs - 0.5 - j) / scale) for j in range(size)]
                         for i in range(outputs)])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axis_matrix(maps.resize(size, outputs, interpolation, antialias), size), expected,
                               atol=1e-12)


@pytest.mark.parametrize(("size", "outputs"), list(itertools.product((1, 2, 5, 6), (1, 2, 3, 6, 10))))
def test_resize_nearest_takes_the_pixel_below_the_centre(size, outputs):
    axis = maps.resize(size, outputs, "nearest")
    assert axis.indices.ravel().tolist() == [math.floor((i + 0.5) * size / outputs) for i in range(outputs)]
    if outputs % size == 0:
        np.testing.assert_array_equal(axis.indices, maps.repeat(size, outputs // size).indices)


def test_window_and_shifted_read_zeros_outside():
    np.testing.assert_array_equal(axis_matrix(maps.window(-1, 4), 2), [[0, 0], [1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(axis_matrix(maps.shifted(maps.repeat(2, 2), 1), 2), [[0, 1], [0, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_of_image_is_the_product_of_rows_and_columns(channels):
    rows, columns = maps.resize(3, 5), maps.window(-1, 4)
    attributes = maps.of_image(rows, columns, (3, 2, channels))
    assert attributes["run"] == channels
    np.testing.assert_allclose(map_matrix(attributes, 6), np.kron(axis_matrix(rows, 3), axis_matrix(columns, 2)),
                               rtol=1e-6)
    assert (attributes["factors"] != 0).all()
    assert maps.of_image(maps.window(0, 3), columns, (3, 2, channels))["factors"] is None


@pytest.mark.parametrize(("shape", "axes"), [((3, 4), (1, 0)), ((2, 3, 4), (1, 0, 2)), ((2, 3, 4), (2, 0, 1)),
                                             ((2, 3, 4), (0, 1, 2)), ((5,), (0,))], ids=str)
def test_of_permutation_is_a_transposition(shape, axes):
    x = np.arange(np.prod(shape)).reshape(shape)
    attributes = maps.of_permutation(shape, axes)
    y = x.reshape(-1, attributes["run"])[attributes["indices"]]
    np.testing.assert_array_equal(y.ravel(), x.transpose(axes).ravel())
    inverse = maps.of_permutation(tuple(shape[axis] for axis in axes), tuple(np.argsort(axes).tolist()))
    assert maps.undoes(inverse, attributes)
    assert maps.undoes(attributes, attributes) == (axes == tuple(range(len(shape))))


def test_undoes_only_permutations():
    half = maps.of_image(maps.window(0, 1), maps.window(0, 2), (1, 4, 1))
    double = maps.of_image(maps.window(0, 1), maps.window(0, 4), (1, 2, 1))
    assert not maps.undoes(double, half) and not maps.undoes(half, double)
    smooth = maps.of_image(maps.window(0, 1), maps.resize(4, 8), (1, 4, 1))
    assert not maps.undoes(smooth, smooth)


def test_maps_are_bounded():
    with pytest.raises(ValueError, match="at most 16777216 entries. Received: 39996000"):
        maps.of_image(maps.resize(10, 2000), maps.resize(10, 2222), (10, 10, 1))
    with pytest.raises(ValueError, match="at most 16777216 entries. Received: "):
        maps.of_permutation((2**13, 2**12), (1, 0))

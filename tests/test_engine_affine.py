"""Random affine maps of images: sampling against loops over pixels, gradients, and what is drawn."""

from __future__ import annotations

import math

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import BATCHES, INNER_PRODUCT, Network, exact, images

from tinyconv import engine
from tinyconv.engine.program import FILL_MODES, TRANSFORMS, Loss

executor_class = engine_helpers.executor_class  # a fixture

SHAPE = (5, 7, 3)
SEED, STEP, FILL = 11, 4, 0.7
FACTORS = {"flip": (1.0, 0.0, 0.0, 0.0), "translation": (-0.9, 0.7, -0.5, 1.0), "rotation": (-0.4, 0.7, 0.0, 0.0),
           "zoom": (-0.6, 0.9, -0.3, 1.0)}
CASES = [("flip", "reflect", False), *((transform, mode, nearest) for transform in TRANSFORMS[1:]
                                       for mode in FILL_MODES for nearest in (False, True))]
each_case = pytest.mark.parametrize(("transform", "mode", "nearest"), CASES)


def augmented(transform, mode="reflect", nearest=False, tied=False, shape=SHAPE, factors=None):
    network = Network(shape, SEED)
    network.add("random_affine", shape, transform=transform, factors=factors or FACTORS[transform], tied=tied,
                fill_mode=mode, fill_value=FILL, nearest=nearest, stream=0)
    return network.build()


def trained(executor, x):
    """What training makes of x."""
    outputs = np.empty((len(x), *executor.program.output_shape), np.float32)
    executor.train_step(x, x, Loss("mean_squared_error"), "sgd", (0.0,), [], STEP, predictions=outputs)
    return outputs


def source(transform, image, a, b, tied=False, shape=SHAPE):
    """The place (row, column) that pixel (a, b) of an image reads: each transform by itself."""
    height, width, _ = shape
    u, v = (oracles.random_number(SEED, STEP, 0, image, element) / 2**24 for element in (0, 1))
    least, most, least_1, most_1 = (float(np.float32(factor)) for factor in FACTORS[transform])
    first, second = least + (most - least) * u, least_1 + (most_1 - least_1) * (u if tied else v)
    if transform == "flip":
        return (a, width - 1 - b) if u <= 0.5 else (a, b)
    if transform == "translation":
        return a - first * height, b - second * width
    middle_a, middle_b = (height - 1) / 2, (width - 1) / 2
    if transform == "zoom":
        return middle_a + (a - middle_a) * (1 + first), middle_b + (b - middle_b) * (1 + second)
    cosine, sine = math.cos(2 * math.pi * first), math.sin(2 * math.pi * first)
    return (middle_a + sine * (b - middle_b) + cosine * (a - middle_a),
            middle_b + cosine * (b - middle_b) - sine * (a - middle_a))


def index(i, n, mode):
    """The pixel that stands for pixel i of n; None for the fill value."""
    if 0 <= i < n:
        return i
    if mode == "constant":
        return None
    if mode == "nearest":
        return min(max(i, 0), n - 1)
    row = [*range(n)] if mode == "wrap" else [*range(n), *range(n - 1, -1, -1)]
    return row[i % len(row)]


def shares(place, nearest):
    """[(pixel, weight)] of a coordinate."""
    if nearest:
        return [(math.floor(place + 0.5) if place >= 0 else math.ceil(place - 0.5), 1.0)]
    low = math.floor(place)
    return [(low, 1 - (place - low)), (low + 1, place - low)]


def sampling_matrix(transform, mode, nearest, image, tied=False, shape=SHAPE):
    """(matrix over pixels, weight of the fill value) of one image."""
    height, width, _ = shape
    matrix, fill = np.zeros((height * width, height * width)), np.zeros(height * width)
    for a in range(height):
        for b in range(width):
            row, column = source(transform, image, a, b, tied, shape)
            for i, weight in shares(row, nearest):
                for j, other in shares(column, nearest):
                    inner = index(i, height, mode), index(j, width, mode)
                    if None in inner:
                        fill[a * width + b] += weight * other
                    else:
                        matrix[a * width + b, inner[0] * width + inner[1]] += weight * other
    return matrix, fill


def expected(case, x, tied=False):
    shape = x.shape[1:]
    found = [sampling_matrix(*case, image, tied, shape) for image in range(len(x))]
    pixels = np.float64(x).reshape(len(x), -1, shape[2])
    y = [matrix @ image + FILL * fill[:, None] for (matrix, fill), image in zip(found, pixels, strict=True)]
    return np.array(y).reshape(x.shape), [matrix for matrix, _ in found]


@each_case
def test_images_are_sampled_at_the_places_of_the_map(executor_class, transform, mode, nearest):
    program = augmented(transform, mode, nearest)
    executor = executor_class(program)
    for n in (2, 18):
        x = images(program, n)
        y, matrices = expected((transform, mode, nearest), x)
        # float32 places are off by some 1e-6 pixels.
        np.testing.assert_allclose(trained(executor, x), y, atol=1e-4)
        dy = images(program, n, seed=4)
        _, _, dx = executor.gradients(x, dy, INNER_PRODUCT, STEP, True, input_gradient=True)
        gradient = [matrix.T @ image for matrix, image in zip(matrices, np.float64(dy).reshape(n, -1, 3), strict=True)]
        np.testing.assert_allclose(dx, np.array(gradient).reshape(x.shape), atol=2e-4)


@pytest.mark.parametrize("transform", ["translation", "zoom"])
def test_tied_height_and_width_take_one_number(executor_class, transform):
    program = augmented(transform, tied=True)
    x = images(program, 17)
    np.testing.assert_allclose(trained(executor_class(program), x), expected((transform, "reflect", False), x, True)[0],
                               atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 2), (4, 1, 17)], ids=str)
@pytest.mark.parametrize("mode", FILL_MODES)
def test_small_images_are_sampled(executor_class, shape, mode):
    program = augmented("translation", mode, shape=shape)
    x = images(program, 5)
    np.testing.assert_allclose(trained(executor_class(program), x), expected(("translation", mode, False), x)[0],
                               atol=1e-4)


def test_flip_moves_pixels_and_nothing_else(executor_class):
    for factors, axes in (((1.0, 0.0), (1,)), ((0.0, 1.0), (0,)), ((1.0, 1.0), (0, 1))):
        program = augmented("flip", factors=(*factors, 0.0, 0.0))
        x = images(program, 40)
        y = trained(executor_class(program), x)
        flipped = [oracles.random_number(SEED, STEP, 0, image, 0) <= 2**23 for image in range(40)]
        assert 8 < sum(flipped) < 32
        for one, other, flip in zip(y, x, flipped, strict=True):
            np.testing.assert_array_equal(one, np.flip(other, axes) if flip else other)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_augmentation_is_the_identity_outside_of_training(executor_class, transform):
    program = augmented(transform)
    executor = executor_class(program)
    for n in BATCHES:
        x = images(program, n)
        np.testing.assert_array_equal(executor.predict(x), x)
        np.testing.assert_array_equal(
            executor.gradients(x, x, INNER_PRODUCT, STEP, False, input_gradient=True)[2], x)


def test_augmentation_between_layers_holds_float64(executor_class):
    network = Network((6, 5, 2), SEED).conv2d(3, (3, 3), padding="same")
    network.add("random_affine", network.shape, transform="rotation", factors=(-0.1, 0.1, 0.0, 0.0), tied=False,
                fill_mode="constant", fill_value=0.0, nearest=False, stream=network.stream())
    program = network.conv2d(2, (3, 3), padding="same").build()
    x = images(program, 19)
    dy = np.random.default_rng(3).standard_normal((19, *program.output_shape)).astype(np.float32)
    results = [executor.gradients(x, dy, INNER_PRODUCT, STEP, True, input_gradient=True)
               for executor in (executor_class(program), exact(program))]
    for one, other in zip([*results[0][1], results[0][2]], [*results[1][1], results[1][2]], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())
    np.testing.assert_allclose(executor_class(program).predict(x[:1]), exact(program).predict(x[:1]), atol=1e-5)


def test_augmentation_gives_the_same_bits_for_any_number_of_threads():
    program, before = augmented("rotation"), engine.config()["threads"]
    x, results = images(program, 70), []
    try:
        for threads in (1, 2, 3):
            engine.set_num_threads(threads)
            executor = engine.Executor(program)
            _, _, dx = executor.gradients(x, x, INNER_PRODUCT, STEP, True, input_gradient=True)
            results.append((trained(executor, x), dx))
    finally:
        engine.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][0], other[0])
        np.testing.assert_array_equal(results[0][1], other[1])


def test_bad_augmentation_is_refused(executor_class):
    with pytest.raises(ValueError, match="at most 16777216 values"):
        executor_class(augmented("flip", shape=(2**12, 2**12, 2)))
    with pytest.raises(ValueError, match=r"four factors in \[-1, 1\]"):
        executor_class(augmented("zoom", factors=(0.0, 1.5, 0.0, 0.0)))
    with pytest.raises(ValueError, match="a fill mode of"):
        executor_class(augmented("zoom", mode="mirror"))

"""Constant linear maps: the gather operation against a dense matrix in float64."""

from __future__ import annotations

import engine_helpers
import numpy as np
import pytest
from engine_helpers import (
    BATCHES,
    INNER_PRODUCT,
    Network,
    assert_all_close,
    assert_close,
    assert_rounded,
    exact,
    images,
)

from tinyconv import engine, maps

executor_class = engine_helpers.executor_class  # a fixture


def random_map(rows, inputs, run, most, weighted, seed=0):
    """Attributes of a map with 0 to `most` entries a row, and its matrix over runs."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, most + 1, rows)
    starts = np.zeros(rows + 1, np.int32)
    np.cumsum(counts, out=starts[1:])
    indices = random.integers(0, inputs, starts[-1]).astype(np.int32)
    factors = random.standard_normal(starts[-1]).astype(np.float32) if weighted else None
    matrix = np.zeros((rows, inputs))
    np.add.at(matrix, (np.repeat(np.arange(rows), counts), indices), 1.0 if factors is None else factors)
    return {"starts": starts, "indices": indices, "factors": factors, "run": run}, matrix


# input shape, output shape, run
SHAPES = [((3, 4, 2), (5, 2, 2), 2), ((3, 4, 2), (2, 3, 4), 1), ((2, 3, 8), (4, 5, 8), 8), ((1, 2, 17), (1, 5, 17), 17),
          ((1, 1, 6), (2, 1, 9), 3), ((2, 2, 20), (3, 1, 20), 10)]


@pytest.mark.parametrize("weighted", [False, True], ids=["ones", "factors"])
@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize(("shape", "output", "run"), SHAPES, ids=str)
def test_gather_and_its_gradient_hold_the_matrix(executor_class, shape, output, run, most, weighted):
    attributes, matrix = random_map(int(np.prod(output)) // run, int(np.prod(shape)) // run, run, most, weighted)
    network = Network(shape)
    network.add("gather", output, **attributes)
    program = network.build()
    executor = executor_class(program)
    for n in BATCHES:
        x = images(program, n)
        dy = images(program, n, seed=3).ravel()[:1] + np.random.default_rng(4).standard_normal(
            (n, *output)).astype(np.float32)
        rows, gradients = np.float64(x).reshape(n, -1, run), np.float64(dy).reshape(n, -1, run)
        assert_rounded(executor.predict(x), np.einsum("oi,nir->nor", matrix, rows).reshape(dy.shape),
                       np.einsum("oi,nir->nor", np.abs(matrix), np.abs(rows)).reshape(dy.shape), most)
        _, _, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
        assert_rounded(dx, np.einsum("oi,nor->nir", matrix, gradients).reshape(x.shape),
                       np.einsum("oi,nor->nir", np.abs(matrix), np.abs(gradients)).reshape(x.shape), len(matrix))


@pytest.mark.parametrize("n", [1, 3, 17, 33])
def test_gather_between_convolutions_holds_float64(executor_class, n):
    network = Network((6, 7, 2)).rescale(0.5).conv2d(5, (3, 3), padding="same").activation("relu")
    network.gather(maps.resize(6, 9), maps.window(-2, 10)).conv2d(3, (3, 3), padding="same").pool("max", (2, 2))
    network.permute(2, 0, 1)
    program = network.conv2d(2, (2, 2)).flatten().gather_vector([3, 1, 1, -1]).dense(3).build()
    executor, reference64 = executor_class(program), exact(program)
    x, dy = images(program, n), images(program, n, seed=5)[:, :1, :1, :1] * np.ones((1, 1, 1, 3), np.float32)
    assert_close(executor.predict(x), reference64.predict(x))
    _, gradients, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    _, expected, expected_dx = reference64.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert_all_close([*gradients, dx], [*expected, expected_dx])


def test_gather_of_a_reshaped_image(executor_class):
    """The map counts the values of the new shape, whatever lies beside the old one in memory."""
    network = Network((4, 6, 3)).conv2d(4, (3, 3), padding="same").reshape(8, 3, 4)
    program = network.gather(maps.window(1, 6), maps.repeat(3, 2)).build()
    for n in (1, 17):
        x = images(program, n)
        assert_close(executor_class(program).predict(x), exact(program).predict(x))


def test_gather_passes_only_its_own_values_on(executor_class):
    program = Network((2, 2, 1)).gather(maps.window(-1, 3), maps.window(0, 2)).build()
    x = np.array([[1, np.nan], [np.inf, 2]], np.float32).reshape(1, 2, 2, 1)
    for n in (1, 17):
        y = executor_class(program).predict(np.repeat(x, n, axis=0))[0, ..., 0]
        np.testing.assert_array_equal(y, [[0, 0], [1, np.nan], [np.inf, 2]])


def test_gather_gives_the_same_bits_for_any_number_of_threads():
    network = Network((9, 8, 3)).conv2d(4, (3, 3)).gather(maps.resize(7, 13), maps.resize(6, 5)).conv2d(2, (3, 3))
    program, before = network.build(), engine.config()["threads"]
    x = images(program, 70)
    dy = np.random.default_rng(3).standard_normal((70, *program.output_shape)).astype(np.float32)
    results = []
    try:
        for threads in (1, 2, 3):
            engine.set_num_threads(threads)
            executor = engine.Executor(program)
            results.append([executor.predict(x), *executor.gradients(x, dy, INNER_PRODUCT)[1]])
    finally:
        engine.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


GOOD = {"starts": np.arange(5, dtype=np.int32), "indices": np.zeros(4, np.int32), "factors": None, "run": 1}


@pytest.mark.parametrize(("name", "value", "message"), [
    ("run", 0, "run=0"),
    ("run", 3, "divides the channels"),
    ("starts", np.arange(5), "starts to be a C-contiguous int32"),
    ("starts", np.arange(4, dtype=np.int32), "5 ascending starts"),
    ("starts", np.array([0, 2, 1, 3, 4], np.int32), "5 ascending starts"),
    ("starts", np.array([1, 1, 2, 3, 4], np.int32), "5 ascending starts"),
    ("starts", np.array([0, 1, 2, 3, 5], np.int32), "5 ascending starts"),
    ("indices", [0, 0, 0, 0], "indices to be"),
    ("indices", np.array([0, 0, 0, 6], np.int32), r"indices in \[0, 6\)"),
    ("indices", np.array([0, -1, 0, 0], np.int32), r"indices in \[0, 6\)"),
    ("indices", np.zeros(8, np.int32)[::2], "C-contiguous"),
    ("factors", np.ones(3, np.float32), "5 ascending starts"),
    ("factors", np.ones(4), "factors to be a C-contiguous float32"),
], ids=str)
def test_bad_maps_are_refused(executor_class, name, value, message):
    network = Network((1, 3, 2))
    network.add("gather", (1, 2, 2), **{**GOOD, name: value})
    with pytest.raises(ValueError, match=message) as caught:
        executor_class(network.build())
    assert "\n" not in str(caught.value)

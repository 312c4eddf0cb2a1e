"""Whole networks: the seed network's gradient, networks at random, and every way to pass a batch."""

from __future__ import annotations

import functools

import engine_helpers
import numpy as np
import oracles
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
    labels_for,
    new_state,
    seed_network,
)

from tinyconv.engine.program import Loss, Metric, Program

executor_class = engine_helpers.executor_class  # a fixture

SPARSE = Loss("sparse_categorical_crossentropy")
DENSE = Loss("categorical_crossentropy")


def strokes(n, seed=1):
    """Images (n, 28, 28, 1) in [0, 1], mostly 0, as digits are."""
    x = np.random.default_rng(seed).random((n, 28, 28, 1))
    return np.maximum(0, 4 * x - 3).astype(np.float32)


def mean_loss(executor, x, y):
    return executor.evaluate(x, y, SPARSE)[0] / len(x)


def without_trainable(program, first=0):
    """The operations from `first` on, with the same weights, none trainable."""
    return Program(program.ops[first:], program.weights, (False,) * len(program.weights),
                   program.ops[first].input_shape, program.output_shape)


@pytest.fixture(scope="module")
def seed_differences():
    """(program, x, y, central differences of the loss in float64 for all 5,994 weights)."""
    program = seed_network()
    x, y = strokes(2), labels_for(SPARSE, program, 2)
    differences = []
    for i, weight in enumerate(program.weights):
        # What comes before a weight does not change with it: only the rest is run again.
        first = next(k for k, op in enumerate(program.ops) if i in op.weights)
        head = Program(program.ops[:first], program.weights, program.trainable, program.input_shape,
                       program.ops[first].input_shape)
        features = exact(head).predict(x).astype(np.float32)
        tail = exact(without_trainable(program, first))
        loss = functools.partial(mean_loss, tail, features, y)
        differences.append(oracles.weight_difference(loss, weight, 1e-5))
    return program, x, y, differences


def test_seed_network_has_5994_weights():
    assert sum(weight.size for weight in seed_network().weights) == 5994


def test_seed_network_gradient_holds_central_differences(executor_class, seed_differences):
    program, x, y, differences = seed_differences
    _, gradients, _ = executor_class(program).gradients(x, y, SPARSE)
    for gradient, expected in zip(gradients, differences, strict=True):
        assert np.abs(gradient - expected).max() < 1e-3 * np.abs(expected).max()
        assert np.linalg.norm(gradient - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("n", [*BATCHES, 100])
def test_seed_network_holds_float64(executor_class, n):
    program = seed_network(3)
    executor, reference64 = executor_class(program), exact(program)
    x, y = strokes(n), labels_for(SPARSE, program, n)
    p = reference64.predict(x)
    # Three products in a row: 25, 200 and 256 terms.
    assert_rounded(executor.predict(x), p, 3 * p.max(), 481)
    metrics = (Metric("sparse_categorical_accuracy"),)
    np.testing.assert_allclose(executor.evaluate(x, y, SPARSE, metrics),
                               reference64.evaluate(x, y, SPARSE, metrics), rtol=1e-5)
    sums, gradients, dx = executor.gradients(x, y, SPARSE, input_gradient=True)
    expected_sums, expected, expected_dx = reference64.gradients(x, y, SPARSE, input_gradient=True)
    np.testing.assert_allclose(sums, expected_sums, rtol=1e-5)
    lengths = (576 * n, 576 * n, 64 * n, 64 * n, n, n)
    for gradient, other, length in zip(gradients, expected, lengths, strict=True):
        assert_rounded(gradient, other, 4 * np.abs(other).max(), length + 481)
    assert_rounded(dx, expected_dx, 4 * np.abs(expected_dx).max(), 1000)


def test_input_gradient_holds_central_differences(executor_class):
    program = seed_network()
    x, y = strokes(2), labels_for(SPARSE, program, 2)
    frozen = exact(without_trainable(program))
    _, _, dx = executor_class(program).gradients(x, y, SPARSE, input_gradient=True)
    pixels = np.random.default_rng(5).integers(0, x.size, 120).tolist()
    expected = oracles.weight_difference(lambda: mean_loss(frozen, x, y), x, 1e-5, pixels)
    assert np.abs(dx.ravel()[pixels] - expected).max() < 1e-3 * np.abs(dx).max()


def pair(random, low, high):
    return int(random.integers(low, high)), int(random.integers(low, high))


def random_network(seed):
    """A few operations of any kind that fit."""
    random = np.random.default_rng(seed)
    network = Network((*pair(random, 1, 14), int(random.choice([1, 2, 3, 8, 10, 16, 17]))), seed)
    functions = ["relu", "sigmoid", "tanh", "elu", "silu", "gelu", "softplus", "leaky_relu", "softmax"]
    if random.random() < 0.5:
        network.rescale(0.7, 0.1)
    for _ in range(random.integers(1, 5)):
        kind = random.choice(["conv2d"] * 3 + ["max", "average", "activation", "dropout", "rescale", "reshape"])
        padding = str(random.choice(["valid", "same"]))
        height, width, _ = network.shape
        if kind == "conv2d":
            window = tuple(map(min, pair(random, 1, 6), (height, width)))
            strides, dilation = pair(random, 1, 3), (1, 1) if random.random() < 0.7 else pair(random, 1, 3)
            if padding == "valid" and any((k - 1) * d >= room for k, d, room in
                                          zip(window, dilation, (height, width), strict=True)):
                dilation = (1, 1)
            network.conv2d(int(random.choice([1, 3, 8, 10, 16, 17])), window, strides, padding, dilation,
                           random.random() < 0.8)
            if random.random() < 0.7:
                network.activation(str(random.choice(functions)))
        elif kind in ("max", "average"):
            window = tuple(map(min, pair(random, 1, 4), (height, width)))
            network.pool(kind, window, pair(random, 1, 4), padding)
        elif kind == "activation":
            network.activation(str(random.choice(functions)))
        elif kind == "dropout":
            network.dropout(float(random.uniform(0, 0.8)))
        elif kind == "reshape":
            network.reshape(width, height, network.shape[2])
        else:
            network.rescale(1.3, -0.1)
    if random.random() < 0.6:
        network.flatten().dense(int(random.choice([1, 3, 10, 17])))
        if random.random() < 0.7:
            network.activation("softmax")
    return network.build()


@pytest.mark.parametrize("seed", range(60))
def test_networks_at_random_hold_float64(executor_class, seed):
    program = random_network(seed)
    random = np.random.default_rng(seed + 1000)
    n = int(random.choice([1, 2, 3, 7, 16, 17, 33]))
    loss = [SPARSE, DENSE, INNER_PRODUCT, Loss("mean_squared_error")][seed % 4]
    if "crossentropy" in loss.kind and not program.softmax_output:
        loss = Loss(loss.kind, True)
    x, y = images(program, n, seed), labels_for(loss, program, n, seed)
    executor, reference64 = executor_class(program), exact(program)
    assert_close(executor.predict(x), reference64.predict(x), 2e-5)
    for training in (False, True):
        sums, gradients, dx = executor.gradients(x, y, loss, 5, training, input_gradient=True)
        expected_sums, expected, expected_dx = reference64.gradients(x, y, loss, 5, training,
                                                                     input_gradient=True)
        np.testing.assert_allclose(sums, expected_sums, rtol=1e-4, atol=1e-4)
        assert_all_close([*gradients, dx], [*expected, expected_dx], 1e-4)


@pytest.mark.parametrize("first", ["conv2d", "dense"])
@pytest.mark.parametrize("then", ["relu", "elu", "max", "relu max", "relu conv2d", "average"])
def test_what_follows_a_reshape_sees_the_new_shape(executor_class, first, then):
    """Operations that would fuse with the one before must not where a reshape lies between."""
    network = Network((6, 4, 2), seed=3)
    if first == "conv2d":
        network.conv2d(3, (3, 3), padding="same").reshape(4, 9, 2)
    else:
        network.flatten().dense(72).reshape(4, 9, 2)
    for operation in then.split():
        if operation == "conv2d":
            network.conv2d(2, (3, 3), padding="same")
        elif operation in ("max", "average"):
            network.pool(operation, (2, 2))
        else:
            network.activation(operation)
    program = network.build()
    for n in (1, 3, 17):
        x, y = images(program, n), labels_for(INNER_PRODUCT, program, n)
        executor, reference64 = executor_class(program), exact(program)
        assert_close(executor.predict(x), reference64.predict(x))
        _, gradients, dx = executor.gradients(x, y, INNER_PRODUCT, input_gradient=True)
        _, expected, expected_dx = reference64.gradients(x, y, INNER_PRODUCT, input_gradient=True)
        assert_all_close([*gradients, dx], [*expected, expected_dx])


# --- ways to pass a batch ---


@pytest.mark.parametrize("first", ["rescale", "conv2d", "dense", "pool"])
def test_uint8_images_are_their_float32_values(executor_class, first):
    network = Network((6, 7, 2))
    if first == "rescale":
        network.rescale(1 / 255)
    if first == "pool":
        network.pool("max", (2, 2))
    if first != "dense":
        network.conv2d(5, (3, 3)).activation("relu")
    program = network.flatten().dense(3).activation("softmax").build()
    program.weights[0][...] *= 1 if first == "rescale" else 1 / 255
    x = np.random.default_rng(1).integers(0, 256, (19, 6, 7, 2)).astype(np.uint8)
    y, executor, floats = labels_for(SPARSE, program, 19), executor_class(program), x.astype(np.float32)
    np.testing.assert_array_equal(executor.predict(x), executor.predict(floats))
    np.testing.assert_array_equal(executor.predict(x[:1]), executor.predict(floats[:1]))
    assert_close(executor.predict(x), exact(program).predict(x))
    one, other = (executor.gradients(z, y, SPARSE, input_gradient=True) for z in (x, floats))
    for a, b in zip([one[0], *one[1], one[2]], [other[0], *other[1], other[2]], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", [SPARSE, DENSE], ids=["sparse", "dense"])
@pytest.mark.parametrize("n", [1, 5, 16, 40])
def test_indices_gather_rows_of_everything(executor_class, loss, n):
    network = Network((5, 6, 2)).conv2d(4, (3, 3)).activation("relu")
    program = network.flatten().dense(5).activation("softmax").build()
    executor = executor_class(program)
    x, y = images(program, 25), labels_for(loss, program, 25)
    weight = np.random.default_rng(6).uniform(0, 2, 25).astype(np.float32)
    indices = np.random.default_rng(n).integers(0, 25, n)  # unordered, with repetitions
    rows = x[indices], y[indices]
    np.testing.assert_array_equal(executor.predict(x, indices), executor.predict(rows[0]))
    assert executor.evaluate(x, y, loss, (), indices, weight) == executor.evaluate(*rows, loss, (), None,
                                                                                   weight[indices])
    one = executor.gradients(x, y, loss, indices=indices, sample_weight=weight, input_gradient=True)
    other = executor.gradients(*rows, loss, sample_weight=weight[indices], input_gradient=True)
    for a, b in zip([one[0], *one[1], one[2]], [other[0], *other[1], other[2]], strict=True):
        np.testing.assert_array_equal(a, b)
    kept, results = [w.copy() for w in program.weights], []
    for data, rows_taken in ((((x, y), indices)), (rows, None)):
        for w, value in zip(program.weights, kept, strict=True):
            w[...] = value
        executor.weights_changed()
        given = weight if rows_taken is not None else weight[indices]
        sums = executor.train_step(*data, loss, "momentum", (0.1, 0.9, 1.0), new_state(program, 1), 3, (),
                                   rows_taken, given)
        results.append([sums, *(w.copy() for w in program.weights)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_sample_does_not_see_its_neighbours(executor_class):
    program = seed_network()
    executor, x = executor_class(program), strokes(37)
    together = executor.predict(x)
    for n in (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33):
        assert_close(executor.predict(x[:n]), together[:n], 1e-5)
    spoiled = x.copy()
    spoiled[[3, 36]] = np.nan
    y = executor.predict(spoiled)
    assert np.isnan(y[[3, 36]]).all()
    others = [i for i in range(37) if i not in (3, 36)]
    np.testing.assert_array_equal(y[others], together[others])


@pytest.mark.parametrize("n", BATCHES)
def test_evaluate_fills_predictions(executor_class, n):
    program = Network((6, 5, 3)).conv2d(4, (3, 3), padding="same").activation("softmax").build()
    executor, x = executor_class(program), images(program, n)
    y = labels_for(SPARSE, program, n)
    for shape in ((n, 6, 5, 4), (n, 120)):
        predictions = np.full(shape, np.nan, np.float32)
        executor.evaluate(x, y, SPARSE, (), None, None, predictions)
        assert_close(predictions.reshape(n, 6, 5, 4), executor.predict(x), 1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_passed_on(executor_class, value):
    network = Network((6, 6, 2)).conv2d(3, (3, 3)).activation("relu").pool("max", (2, 2))
    program = network.flatten().dense(4).build()
    program.weights[0][...] = np.abs(program.weights[0])
    executor, x = executor_class(program), images(program, 5)
    x[2, 3, 3, 1] = value
    y, loss = labels_for(SPARSE, program, 5), Loss(SPARSE.kind, True)
    outputs = executor.predict(x)
    assert not np.isfinite(outputs[2]).any()
    assert np.isfinite(np.delete(outputs, 2, axis=0)).all()
    assert not np.isfinite(executor.evaluate(x, y, loss)[0])
    sums, gradients, _ = executor.gradients(x, y, loss)
    assert not np.isfinite(sums[0]) and not np.isfinite(gradients[2]).all()
    executor.train_step(x, y, loss, "sgd", (0.1,), new_state(program, 0), 0)
    assert not np.isfinite(program.weights[2]).all()


def test_what_is_not_finite_in_a_weight_is_passed_on(executor_class):
    program = Network((6, 6, 2)).conv2d(3, (3, 3)).pool("max", (2, 2)).flatten().dense(4).build()
    program.weights[0][1, 1, 0, 2] = np.nan
    executor = executor_class(program)
    assert np.isnan(executor.predict(images(program, 1))).all()
    assert np.isnan(executor.predict(images(program, 17))).all()


@pytest.mark.parametrize("function", ["exponential", "squareplus"])
def test_what_images_keep_finite_is_finite_in_every_batch(executor_class, function):
    # Of an image of zeros, as lanes without an image might hold, the activation is infinite.
    program = Network((1, 1, 1)).dense(1).activation(function).dense(1).build()
    large = 100 if function == "exponential" else 3e38
    program.weights[0][...], program.weights[1][...] = -1, large
    executor = executor_class(program)
    for n in BATCHES:
        x, y = np.full((n, 1), large, np.float32), np.ones((n, 1), np.float32)
        _, gradients, _ = executor.gradients(x, y, Loss("mean_squared_error"))
        _, expected, _ = exact(program).gradients(x, y, Loss("mean_squared_error"))
        for gradient, wanted in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(gradient, wanted, rtol=1e-5)


def test_subnormal_numbers_do_no_harm(executor_class):
    program = Network((1, 1, 8)).dense(4).build()
    x = np.full((3, 8), 1e-41, np.float32)
    y = executor_class(program).predict(x).reshape(3, 4)
    np.testing.assert_allclose(y, np.tile(program.weights[1], (3, 1)), rtol=1e-6)


def test_executors_of_one_program_share_its_weights(executor_class):
    program = seed_network()
    first, second = executor_class(program), executor_class(program)
    x, y = strokes(20), labels_for(SPARSE, program, 20)
    first.train_step(x, y, SPARSE, "sgd", (0.5,), new_state(program, 0), 0)
    second.weights_changed()
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
    assert_close(first.predict(x), exact(program).predict(x), 2e-5)

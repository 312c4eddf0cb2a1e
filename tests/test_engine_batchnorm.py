"""Batch normalization: against formulas in float64 and central differences; folded, frozen, across segments."""

from __future__ import annotations

import dataclasses
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
)

from tinyconv import engine
from tinyconv.engine.program import Loss, Op, Program
from tinyconv.engine.validate import check_program

executor_class = engine_helpers.executor_class  # a fixture

SPARSE = Loss("sparse_categorical_crossentropy")


def one_norm(shape, **settings):
    return Network(shape, seed=4).batch_norm(**settings).build()


def parts(program):
    """gamma, beta (1 and 0 where there are none), mean, variance in float64."""
    op, arrays = program.ops[0], [np.float64(weight) for weight in program.weights]
    variance, mean = arrays.pop(), arrays.pop()
    gamma = arrays.pop(0) if op.attributes["scale"] else 1.0
    return gamma, arrays[0] if op.attributes["center"] else 0.0, mean, variance


def normalized(x, mean, variance, epsilon=1e-3):
    return (np.float64(x) - mean) / np.sqrt(variance + epsilon)


def batch_statistics(x):
    """Mean and biased variance, as Keras takes them."""
    values = np.float64(x).reshape(-1, x.shape[-1])
    mean = values.sum(0) / len(values)
    return mean, ((values - mean) ** 2).sum(0) / len(values)


def train(executor, x, y, loss=INNER_PRODUCT, rate=0.0, **arguments):
    """One step of SGD; returns its outputs."""
    program = executor.program
    outputs = np.empty((len(x), *program.output_shape), np.float32)
    executor.train_step(x, y, loss, "sgd", (rate,), new_state(program, 0), 0, predictions=outputs, **arguments)
    return outputs


SHAPES = [(1, 1, 1), (1, 1, 17), (5, 4, 3), (3, 7, 8), (1, 6, 4)]
PARTS = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_by_moving_statistics(executor_class, shape, n):
    for scale, center in PARTS:
        program = one_norm(shape, scale=scale, center=center)
        gamma, beta, mean, variance = parts(program)
        x = images(program, n)
        y = executor_class(program).predict(x)
        assert_rounded(y, normalized(x, mean, variance) * gamma + beta,
                       np.abs(normalized(np.abs(x) + np.abs(mean), 0, variance) * gamma) + np.abs(beta), 2)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_by_the_statistics_of_the_batch(executor_class, shape, n):
    for scale, center in PARTS:
        program = one_norm(shape, scale=scale, center=center)
        gamma, beta, moving_mean, moving_variance = parts(program)
        x = images(program, n)
        mean, variance = batch_statistics(x)
        y = train(executor_class(program), x, labels_for(INNER_PRODUCT, program, n))
        expected = normalized(x, mean, variance) * gamma + beta
        # Where there is one value a channel its deviation is rounding alone, 30 times as large here.
        assert_close(y, expected, 2e-5 if n * shape[0] * shape[1] > 1 else 2e-4)
        assert_close(program.weights[-2], moving_mean * 0.9 + mean * 0.1, 1e-6)
        assert_close(program.weights[-1], moving_variance * 0.9 + variance * 0.1, 1e-6)


@pytest.mark.parametrize("training", [False, True], ids=["moving", "batch"])
@pytest.mark.parametrize("n", [2, 5, 17, 33])
def test_batch_norm_gradients_hold_their_formula(executor_class, n, training):
    program = one_norm((3, 4, 5))
    gamma, _, mean, variance = parts(program)
    x = images(program, n)
    dy = labels_for(INNER_PRODUCT, program, n).reshape(x.shape)
    if training:
        mean, variance = batch_statistics(x)
    inverse, rows = 1 / np.sqrt(variance + 1e-3), np.float64(dy)
    xhat = normalized(x, mean, variance)
    dx = rows * gamma * inverse
    if training:
        # y depends on x directly, by the mean and by the variance: one term each.
        means = functools.partial(np.mean, axis=(0, 1, 2))
        dx = gamma * inverse * (rows - means(rows) - xhat * means(rows * xhat))
    before = [weight.copy() for weight in program.weights]
    _, gradients, actual = executor_class(program).gradients(x, dy, INNER_PRODUCT, training=training,
                                                             input_gradient=True)
    assert_close(actual, dx)
    assert_all_close(gradients, [(rows * xhat).sum((0, 1, 2)), rows.sum((0, 1, 2)), None, None])
    for weight, value in zip(program.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)  # gradients() moves nothing


def deep(seed=0, activation="relu", pool="max"):
    """Norms behind a convolution, an activation, a dense layer, a reshape and first of all."""
    network = Network((8, 7, 3), seed).batch_norm()
    network.conv2d(8, (3, 3), padding="same", bias=False).batch_norm().activation(activation).pool(pool, (2, 2))
    network.conv2d(5, (3, 3), padding="same").activation("tanh").batch_norm(scale=False).conv2d(4, (2, 2))
    network.flatten().batch_norm(center=False).dense(6).batch_norm().activation(activation)
    return network.dense(4).activation("softmax").build()


def loss_of(executor, x, y):
    return executor.gradients(x, y, SPARSE, training=True)[0][0] / len(x)


def test_gradients_through_norms_hold_central_differences(executor_class):
    program = deep(0, "tanh", "average")  # smooth
    x, y = images(program, 9), labels_for(SPARSE, program, 9)
    _, gradients, dx = executor_class(program).gradients(x, y, SPARSE, input_gradient=True)
    loss = functools.partial(loss_of, exact(program), x, y)
    random = np.random.default_rng(5)
    for array, gradient in [*zip(program.weights, gradients, strict=True), (x, dx)]:
        if gradient is None:
            continue
        chosen = random.permutation(array.size)[:12].tolist()
        expected = oracles.weight_difference(loss, array, 1e-4, chosen)
        # Behind a norm the bias of a convolution changes nothing: its gradient is rounding.
        assert np.abs(gradient.ravel()[chosen] - expected).max() < 1e-3 * np.abs(gradient).max() + 1e-6


@pytest.mark.parametrize("n", [2, 7, 16, 19, 49, 100])
def test_networks_with_norms_hold_float64(executor_class, n):
    program = deep(2)
    executor, reference64 = executor_class(program), exact(program)
    x, y = images(program, n), labels_for(SPARSE, program, n)
    assert_close(executor.predict(x), reference64.predict(x))
    for training in (False, True):
        sums, gradients, dx = executor.gradients(x, y, SPARSE, 3, training, input_gradient=True)
        expected_sums, expected, expected_dx = reference64.gradients(x, y, SPARSE, 3, training, input_gradient=True)
        np.testing.assert_allclose(sums, expected_sums, rtol=1e-4)
        largest = max(np.abs(g).max() for g in expected if g is not None)
        for gradient, other in zip([*gradients, dx], [*expected, expected_dx], strict=True):
            assert (gradient is None) == (other is None)
            if gradient is not None:
                assert np.abs(gradient - other).max() < 1e-3 * np.abs(other).max() + 1e-5 * largest


def test_training_with_norms_holds_float64(executor_class):
    first, second = deep(3), deep(3)
    executor, reference64 = executor_class(first), exact(second)
    x, y = images(first, 40), labels_for(SPARSE, first, 40)
    losses = []
    for step in range(10):
        rows = np.random.default_rng(step).permutation(40)[:21]
        one, other = (e.train_step(x, y, SPARSE, "sgd", (0.05,), new_state(first, 0), step, indices=rows)
                      for e in (executor, reference64))
        np.testing.assert_allclose(one, other, rtol=2e-3)
        losses.append(one[0])
    assert losses[-1] < losses[0]
    for weight, expected in zip(first.weights, second.weights, strict=True):
        assert np.abs(weight - expected).max() < 2e-3 * np.abs(expected).max()
    assert_close(executor.predict(x), reference64.predict(x), 5e-3)


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_statistics_keep_their_digits_beside_a_large_mean(executor_class, offset):
    program = one_norm((6, 5, 3), momentum=0.0)
    x = (images(program, 50) + np.float32(offset)).astype(np.float32)
    mean, variance = batch_statistics(x)
    train(executor_class(program), x, np.zeros_like(x))
    np.testing.assert_allclose(program.weights[-2], mean, rtol=1e-6)
    # The mean rounds to float32 before anything is subtracted from it in the reference.
    np.testing.assert_allclose(program.weights[-1], variance, rtol=2e-5)


def test_statistics_do_not_see_sample_weights(executor_class):
    program = one_norm((4, 3, 2), momentum=0.0)
    x = images(program, 21)
    weight = np.zeros(21, np.float32)
    weight[:3] = 5
    train(executor_class(program), x, np.ones_like(x), sample_weight=weight)
    mean, variance = batch_statistics(x)
    assert_close(program.weights[-2], mean, 1e-5)
    assert_close(program.weights[-1], variance, 1e-5)


def test_a_frozen_norm_keeps_its_statistics_in_training(executor_class):
    for trainable in (True, False):
        program = Network((5, 4, 3), 1, trainable).batch_norm(frozen=True).build()
        before = [weight.copy() for weight in program.weights]
        executor, x = executor_class(program), images(program, 19)
        y = train(executor, x, labels_for(INNER_PRODUCT, program, 19))
        assert_close(y, executor.predict(x), 1e-6)
        for weight, value in zip(program.weights, before, strict=True):
            np.testing.assert_array_equal(weight, value)


def test_a_frozen_norm_passes_the_gradient_on(executor_class):
    """Behind a convolution that is frozen, too, it is folded into it: the same gradients come out."""
    network = Network((6, 6, 2), 1).conv2d(4, (3, 3))
    network.train = False
    network.conv2d(8, (3, 3), padding="same").batch_norm(frozen=True).activation("relu")
    network.train = True
    program = network.flatten().dense(3).build()
    x, dy = images(program, 20), labels_for(INNER_PRODUCT, program, 20)
    assert_all_close(executor_class(program).gradients(x, dy, INNER_PRODUCT)[1],
                     exact(program).gradients(x, dy, INNER_PRODUCT)[1], 1e-5)


@pytest.mark.parametrize("behind", ["conv2d", "dense", "activation", "reshape", "pool"])
@pytest.mark.parametrize("n", [1, 3, 17])
def test_inference_folds_norms_where_it_can(executor_class, behind, n):
    network = Network((6, 5, 3), seed=2)
    if behind == "conv2d":
        network.conv2d(9, (3, 3), bias=False)
    elif behind == "dense":
        network.flatten().dense(7)
    elif behind == "activation":
        network.conv2d(9, (3, 3), padding="same").activation("tanh")
    elif behind == "reshape":
        network.conv2d(4, (3, 3)).reshape(2, 6, 4)
    else:
        network.pool("average", (2, 2))
    network.batch_norm().activation("relu")
    if behind == "conv2d":
        network.pool("max", (2, 2))
    program = network.build()
    executor, x = executor_class(program), images(program, n)
    assert_close(executor.predict(x), exact(program).predict(x))
    train(executor, x, labels_for(INNER_PRODUCT, program, n), rate=0.01)
    assert_close(executor.predict(x), exact(program).predict(x))  # packed anew


def test_evaluate_uses_the_moving_statistics(executor_class):
    program = deep(5)
    x, y = images(program, 23), labels_for(SPARSE, program, 23)
    before = [weight.copy() for weight in program.weights]
    np.testing.assert_allclose(executor_class(program).evaluate(x, y, SPARSE),
                               exact(program).evaluate(x, y, SPARSE), rtol=1e-5)
    for weight, value in zip(program.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_norms_are_the_same_for_every_number_of_threads():
    if engine.backend() != "native":
        pytest.skip("the reference leaves threads to NumPy")
    x, results = images(deep(), 300), []
    y, before = labels_for(SPARSE, deep(), 300), engine.get_num_threads()
    try:
        for threads in (1, 2, 3, 5):
            engine.set_num_threads(threads)
            program = deep()
            executor = engine.Executor(program)
            for step in range(3):
                sums = executor.train_step(x, y, SPARSE, "momentum", (0.1, 0.9, 0.0), new_state(program, 1), step)
            _, gradients, dx = executor.gradients(x, y, SPARSE, input_gradient=True)
            results.append([sums, *program.weights, *(g for g in gradients if g is not None), dx])
    finally:
        engine.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_gradients_do_not_depend_on_what_else_is_asked(executor_class):
    program = deep(1)
    x, y = images(program, 37), labels_for(SPARSE, program, 37)
    executor = executor_class(program)
    _, whole, _ = executor.gradients(x, y, SPARSE, input_gradient=True)
    _, without, _ = executor.gradients(x, y, SPARSE)
    for frozen in range(len(program.weights)):
        flags = tuple(flag and i >= frozen for i, flag in enumerate(program.trainable))
        _, upper, _ = executor_class(dataclasses.replace(program, trainable=flags)).gradients(x, y, SPARSE)
        for flag, one, two, three in zip(flags, whole, without, upper, strict=True):
            if flag:
                np.testing.assert_array_equal(one, two)
                np.testing.assert_array_equal(one, three)
            else:
                assert three is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spoils_the_batch_of_its_channel(executor_class, value):
    program = one_norm((3, 3, 4))
    x = images(program, 18)
    x[17, 1, 1, 2] = value
    y = train(executor_class(program), x, np.zeros_like(x))
    assert np.isnan(y[..., 2]).all() and np.isfinite(y[..., [0, 1, 3]]).all()
    assert np.isnan(program.weights[-1][2]) and np.isfinite(program.weights[-1][[0, 1, 3]]).all()


def test_workspace_counts_what_segments_keep(executor_class):
    plain = Network((12, 12, 3)).conv2d(8, (3, 3)).activation("relu").conv2d(8, (3, 3)).build()
    normed = Network((12, 12, 3)).conv2d(8, (3, 3)).batch_norm().activation("relu").conv2d(8, (3, 3)).build()
    executor = executor_class(normed)
    values = 12 * 12 * 3 + 2 * 10 * 10 * 8 + 8 * 8 * 8
    assert executor.workspace_bytes(512) - executor.workspace_bytes(256) >= 256 * values * 4
    # In inference the norm is folded away: numbers of a few channels are left.
    ours, theirs = executor.workspace_bytes(512, False), executor_class(plain).workspace_bytes(512, False)
    if executor.backend == "native":
        assert abs(ours - theirs) < 1 << 17


@pytest.mark.parametrize(("settings", "weights", "trainable", "message"), [
    ({"epsilon": 0.0}, (0, 1, 2, 3), False, "a positive epsilon"),
    ({"momentum": float("nan")}, (0, 1, 2, 3), False, "a positive epsilon and a finite momentum"),
    ({}, (0, 1, 2), False, "4 weights"),
    ({}, (0, 1, 2, 4), False, r"weights of the shapes"),
    ({}, (0, 1, 2, 3), True, "not trainable"),
], ids=["epsilon", "momentum", "count", "shape", "trainable"])
def test_program_refuses_a_norm_that_is_not_one(settings, weights, trainable, message):
    arrays = tuple(np.ones(size, np.float32) for size in (3, 3, 3, 3, 2))
    attributes = {"epsilon": 1e-3, "momentum": 0.9, "scale": True, "center": True, "frozen": False, **settings}
    op = Op("batch_normalization", (2, 2, 3), (2, 2, 3), attributes, weights)
    with pytest.raises(ValueError, match=f"batch_normalization.*expected.*{message}.*Received: "):
        check_program(Program((op,), arrays, (True, True, trainable, trainable, False), (2, 2, 3), (2, 2, 3)))

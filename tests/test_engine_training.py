"""Training steps: updates, optimizer state, sums, frozen weights, and dropout's random numbers."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

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
    exact,
    executors,
    images,
    labels_for,
    new_state,
    seed_network,
)

from tinyconv import engine
from tinyconv.engine import reference
from tinyconv.engine.program import OPTIMIZERS, Loss, Metric, Program, random_bits, random_key

executor_class = engine_helpers.executor_class  # a fixture

SPARSE = Loss("sparse_categorical_crossentropy")
ACCURACY = (Metric("sparse_categorical_accuracy"),)
OPTIMIZER_CASES = [("sgd", (0.1,)), ("momentum", (0.1, 0.9, 0.0)), ("momentum", (0.1, 0.9, 1.0)),
                   ("adam", (0.01, 0.9, 0.999, 1e-7)), ("adam", (0.01, 0.5, 0.9, 1e-2))]


def small_network(seed=0):
    network = Network((8, 9, 2), seed).conv2d(5, (3, 3)).activation("relu").pool("max", (2, 2))
    return network.flatten().dense(4).activation("softmax").build()


def hyperparameters_at(name, numbers, step):
    """Adam's step size is that of Keras: lr * sqrt(1 - beta_2**t) / (1 - beta_1**t)."""
    if name != "adam":
        return numbers
    rate, beta_1, beta_2, epsilon = numbers
    return rate * math.sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1)), beta_1, beta_2, epsilon


def update(name, w, g, state, numbers):
    """The rules of engine/program.py in float64."""
    if name == "sgd":
        return w - numbers[0] * g, []
    if name == "momentum":
        rate, momentum, nesterov = numbers
        m = momentum * state[0] - rate * g
        return w + (momentum * m - rate * g if nesterov else m), [m]
    alpha, beta_1, beta_2, epsilon = numbers
    m = beta_1 * state[0] + (1 - beta_1) * g
    v = beta_2 * state[1] + (1 - beta_2) * g * g
    return w - alpha * m / (np.sqrt(v) + epsilon), [m, v]


@pytest.mark.parametrize(("name", "numbers"), OPTIMIZER_CASES, ids=str)
def test_updates_hold_the_rule_over_several_steps(executor_class, name, numbers):
    program = small_network()
    executor, state = executor_class(program), new_state(program, OPTIMIZERS[name][1])
    for step in range(5):
        x, y = images(program, 19, seed=step), labels_for(SPARSE, program, 19, seed=step)
        _, gradients, _ = executor.gradients(x, y, SPARSE)
        now = hyperparameters_at(name, numbers, step)
        expected = [update(name, np.float64(w), np.float64(g), [np.float64(s) for s in states], now)
                    for w, g, states in zip(program.weights, gradients, state, strict=True)]
        before = [w.copy() for w in program.weights]
        executor.train_step(x, y, SPARSE, name, now, state, step)
        for i, (w, states) in enumerate(expected):
            # The gradient may differ in its last bits from what `gradients` returned.
            change = np.abs(w - before[i]).max()
            np.testing.assert_allclose(program.weights[i], w, rtol=3e-7, atol=1e-4 * change)
            for own, other in zip(state[i], states, strict=True):
                np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6 * np.abs(other).max())


# Adam with a small epsilon makes a whole step of a gradient's last bits.
STEADY_CASES = [case for case in OPTIMIZER_CASES if case[1][-1] != 1e-7]


@pytest.mark.parametrize(("name", "numbers"), STEADY_CASES, ids=str)
def test_training_follows_float64(executor_class, name, numbers):
    results = []
    for make in (executor_class, exact):
        program = seed_network()
        executor, state = make(program), new_state(program, OPTIMIZERS[name][1])
        losses = []
        for step in range(6):
            x, y = images(program, 33, seed=step), labels_for(SPARSE, program, 33, seed=step)
            now = hyperparameters_at(name, numbers, step)
            losses.append(executor.train_step(x, y, SPARSE, name, now, state, step, ACCURACY))
        results.append((np.array(losses), program.weights))
    (losses, weights), (expected_losses, expected_weights) = results
    np.testing.assert_allclose(losses[:, 0], expected_losses[:, 0], rtol=1e-4)
    assert np.abs(losses[:, 1] - expected_losses[:, 1]).max() <= 1
    assert_all_close(weights, expected_weights, 1e-3)


def test_training_learns(executor_class):
    program = small_network()
    executor, state = executor_class(program), new_state(program, 2)
    x, y = images(program, 40), labels_for(SPARSE, program, 40)
    first = executor.evaluate(x, y, SPARSE, ACCURACY)
    for step in range(150):
        now = hyperparameters_at("adam", (0.02, 0.9, 0.999, 1e-7), step)
        executor.train_step(x, y, SPARSE, "adam", now, state, step)
    last = executor.evaluate(x, y, SPARSE, ACCURACY)
    assert last[0] < first[0] / 20
    assert last[1] == 40


@pytest.mark.parametrize("n", BATCHES)
def test_train_step_returns_sums_and_predictions_of_before_the_update(executor_class, n):
    program = small_network()
    executor = executor_class(program)
    x, y = images(program, n), labels_for(SPARSE, program, n)
    expected, outputs = executor.evaluate(x, y, SPARSE, ACCURACY), executor.predict(x)
    predictions = np.full((n, 4), np.nan, np.float32)
    sums = executor.train_step(x, y, SPARSE, "sgd", (0.1,), new_state(program, 0), 0, ACCURACY, None, None,
                               predictions)
    assert sums.shape == (2,) and sums.dtype == np.float64
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    assert_close(predictions, outputs.reshape(n, 4), 1e-5)
    # The executor sees its own update without being told.
    assert not np.allclose(executor.predict(x), outputs, atol=1e-6)
    assert_close(executor.predict(x), exact(program).predict(x), 1e-5)


def test_weights_changed_makes_new_weights_count(executor_class):
    program = small_network()
    executor, x = executor_class(program), images(program, 17)
    for n in (1, 17):
        executor.predict(x[:n])
        for weight in program.weights:
            weight *= -1.5
        executor.weights_changed()
        assert_close(executor.predict(x[:n]), exact(program).predict(x[:n]), 1e-5)
        y = labels_for(SPARSE, program, n)
        assert_all_close(executor.gradients(x[:n], y, SPARSE)[1],
                         exact(program).gradients(x[:n], y, SPARSE)[1])


@pytest.mark.parametrize("frozen", [(0, 1), (2, 3), (0,), (1, 3), (0, 1, 2, 3)], ids=str)
def test_frozen_weights_have_no_gradient_and_stay(executor_class, frozen):
    program = small_network()
    program.trainable = tuple(i not in frozen for i in range(4))
    executor, x, y = executor_class(program), images(program, 18), labels_for(SPARSE, program, 18)
    _, gradients, dx = executor.gradients(x, y, SPARSE, input_gradient=True)
    _, expected, expected_dx = exact(program).gradients(x, y, SPARSE, input_gradient=True)
    assert [g is None for g in gradients] == [i in frozen for i in range(4)]
    assert_all_close([*gradients, dx], [*expected, expected_dx])
    assert_all_close(executor.gradients(x, y, SPARSE)[1], expected)
    before = [w.copy() for w in program.weights]
    state = [[] if i in frozen else [np.zeros_like(w)] for i, w in enumerate(program.weights)]
    executor.train_step(x, y, SPARSE, "momentum", (0.1, 0.9, 0.0), state, 0)
    for i, (weight, kept) in enumerate(zip(program.weights, before, strict=True)):
        assert (weight == kept).all() == (i in frozen)


def test_sample_weights_scale_gradients(executor_class):
    program = small_network()
    executor, x, y = executor_class(program), images(program, 21), labels_for(SPARSE, program, 21)
    weight = np.random.default_rng(8).uniform(0, 3, 21).astype(np.float32)
    weight[[0, 20]] = 0
    sums, gradients, dx = executor.gradients(x, y, SPARSE, sample_weight=weight, input_gradient=True)
    expected_sums, expected, expected_dx = exact(program).gradients(x, y, SPARSE, sample_weight=weight,
                                                                   input_gradient=True)
    np.testing.assert_allclose(sums, expected_sums, rtol=1e-5)
    assert_all_close([*gradients, dx], [*expected, expected_dx])
    assert not dx[[0, 20]].any()


def test_state_arrays_may_be_replaced_within_the_same_list(executor_class):
    program = small_network()
    executor, x, y = executor_class(program), images(program, 5), labels_for(SPARSE, program, 5)
    state = new_state(program, 1)
    executor.train_step(x, y, SPARSE, "momentum", (0.1, 0.9, 0.0), state, 0)
    old = [arrays[0] for arrays in state]
    kept = [array.copy() for array in old]
    for arrays in state:
        arrays[0] = np.zeros_like(arrays[0])
    executor.train_step(x, y, SPARSE, "momentum", (0.1, 0.9, 0.0), state, 1)
    for arrays, array, value in zip(state, old, kept, strict=True):
        assert arrays[0].any()
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("n", [1, 7, 33, 512])
def test_threads_do_not_change_a_bit(n):
    results = []
    before = engine.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            engine.set_num_threads(threads)
            program = seed_network()
            executor, state = engine.Executor(program), new_state(program, 2)
            for step in range(2):
                x, y = images(program, n, step), labels_for(SPARSE, program, n, step)
                sums = executor.train_step(x, y, SPARSE, "adam", (0.01, 0.9, 0.999, 1e-7), state, step,
                                           ACCURACY)
            results.append([sums, executor.predict(x), *program.weights])
    finally:
        engine.set_num_threads(before)
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_several_python_threads_predict_at_once(executor_class):
    program = seed_network()
    executor, x = executor_class(program), images(program, 50)
    expected = executor.predict(x)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: executor.predict(x), range(16)):
            np.testing.assert_array_equal(y, expected)


def test_weights_written_while_others_predict_count_afterwards(executor_class):
    program = seed_network()
    executor, x = executor_class(program), images(program, 17)
    done = threading.Event()

    def keep_predicting():
        while not done.is_set():
            executor.predict(x)
            executor.predict(x[:1])

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(keep_predicting) for _ in range(2)]
        try:
            for _ in range(20):
                for weight in program.weights:
                    weight *= np.float32(1.01)
                executor.weights_changed()
        finally:
            done.set()
        for future in running:
            future.result()
    fresh = executor_class(program)
    np.testing.assert_array_equal(executor.predict(x), fresh.predict(x))
    np.testing.assert_array_equal(executor.predict(x[:1]), fresh.predict(x[:1]))


def test_an_empty_batch_changes_nothing(executor_class):
    program = small_network()
    executor, x, y = executor_class(program), images(program, 3), labels_for(SPARSE, program, 3)
    before, state, none = [w.copy() for w in program.weights], new_state(program, 2), np.empty(0, np.int64)
    for array in (a for arrays in state for a in arrays):
        array += 1
    assert executor.predict(x, none).shape == (0, 1, 1, 4)
    assert executor.predict(x[:0]).shape == (0, 1, 1, 4)
    assert executor.evaluate(x, y, SPARSE, ACCURACY, none).tolist() == [0, 0]
    sums = executor.train_step(x, y, SPARSE, "adam", (0.1, 0.9, 0.999, 1e-7), state, 0, (), none)
    assert sums.tolist() == [0]
    _, gradients, dx = executor.gradients(x, y, SPARSE, indices=none, input_gradient=True)
    assert not any(g.any() for g in gradients) and dx.shape == (0, 8, 9, 2)
    assert all((w == kept).all() for w, kept in zip(program.weights, before, strict=True))
    assert all((array == 1).all() for arrays in state for array in arrays)


# --- dropout ---


def dropout_output(executor_class, x, rate, seed=7, step=3, streams=1):
    """What training makes of x behind `streams` dropouts."""
    network = Network(x.shape[1:], seed)
    for _ in range(streams):
        network.dropout(rate)
    program = network.build()
    predictions = np.empty((len(x), x[0].size), np.float32)
    executor_class(program).train_step(x, np.zeros_like(x), INNER_PRODUCT, "sgd", (0.1,), [], step, (), None,
                                       None, predictions)
    return predictions


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_dropout_mask_is_that_of_the_written_generator(executor_class, n, rate):
    x = np.ones((n, 2, 3, 5), np.float32)
    expected = oracles.dropout_mask(7, 3, 0, n, 30, rate)
    y = dropout_output(executor_class, x, rate)
    np.testing.assert_array_equal(y != 0, expected)
    np.testing.assert_allclose(y[expected], 1 / (1 - rate), rtol=1e-6)


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (2**63 + 5, 1), (2**64 - 1, 2**40), (12345, 2**31)])
def test_dropout_takes_large_seeds_and_steps(executor_class, seed, step):
    y = dropout_output(executor_class, np.ones((3, 1, 1, 40), np.float32), 0.5, seed, step)
    np.testing.assert_array_equal(y != 0, oracles.dropout_mask(seed, step, 0, 3, 40, 0.5))


def test_program_random_numbers_are_those_of_the_written_generator():
    elements = np.arange(50, dtype=np.uint32)
    for seed, step, stream, image in [(0, 0, 0, 0), (7, 3, 1, 19), (2**64 - 1, 2**33, 2, 2**20)]:
        u = random_bits(random_key(seed, step, stream, image), elements)
        if image < 100:
            expected = oracles.dropout_mask(seed, step, stream, image + 1, 50, 0.3)[image]
            np.testing.assert_array_equal((u >> 8) >= math.ceil(0.3 * 2**24), expected)
        assert u.dtype == np.uint32
    assert len(set(random_bits(random_key(1, 2, 3, 4), np.arange(10_000)).tolist())) > 9_990


def test_dropout_keeps_its_share(executor_class):
    x = np.ones((50, 10, 10, 8), np.float32)
    for rate in (0.1, 0.5, 0.9):
        kept = dropout_output(executor_class, x, rate).reshape(x.shape) != 0
        deviation = math.sqrt(rate * (1 - rate) / kept.size)
        assert abs(kept.mean() - (1 - rate)) < 5 * deviation
        for axis in range(4):  # no image, row, column or channel is favoured
            shares = kept.mean(axis=tuple(a for a in range(4) if a != axis))
            assert np.abs(shares - (1 - rate)).max() < 6 * deviation * math.sqrt(x.shape[axis])


def test_dropout_differs_between_seeds_steps_streams_and_images(executor_class):
    x = np.ones((2, 1, 1, 4000), np.float32)
    masks = [dropout_output(executor_class, x, 0.5, seed, step) != 0 for seed in (1, 2) for step in (0, 1)]
    masks = [mask[image] for mask in masks for image in (0, 1)]
    masks.append((oracles.dropout_mask(1, 0, 1, 1, 4000, 0.5))[0])
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert abs((one == other).mean() - 0.5) < 5 * math.sqrt(0.25 / 4000)
    both = dropout_output(executor_class, x, 0.5, 1, 0, streams=2)[0]
    np.testing.assert_array_equal(both, np.where(masks[0] & masks[-1], 4, 0))


def test_dropout_depends_on_the_position_in_the_batch_only(executor_class):
    program = Network((1, 1, 60), 5).dropout(0.4).build()
    executor, x = executor_class(program), np.ones((40, 60), np.float32)
    outputs = []
    for indices in (np.arange(40), np.arange(40)[::-1].copy(), np.arange(40)[:19]):
        predictions = np.empty((len(indices), 60), np.float32)
        executor.train_step(x, x, INNER_PRODUCT, "sgd", (0.1,), [], 9, (), indices, None, predictions)
        outputs.append(predictions)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0][:19], outputs[2])


def test_dropout_is_the_identity_outside_of_training(executor_class):
    program = Network((1, 1, 60), 5).dropout(0.4).build()
    executor, x = executor_class(program), images(program, 18)
    np.testing.assert_array_equal(executor.predict(x), x)
    total = float((np.float64(x) * x).sum())
    np.testing.assert_allclose(executor.evaluate(x, x, INNER_PRODUCT), [total], rtol=1e-6)
    _, _, dx = executor.gradients(x, x, INNER_PRODUCT, training=False, input_gradient=True)
    np.testing.assert_array_equal(dx, x)


@pytest.mark.parametrize("n", [1, 16, 19])
def test_dropout_gradient_uses_the_mask_of_its_step(executor_class, n):
    network = Network((6, 5, 3), 11).conv2d(4, (3, 3)).activation("relu").dropout(0.5).pool("max", (2, 2))
    program = network.flatten().dropout(0.3).dense(3).activation("softmax").build()
    executor, reference64 = executor_class(program), exact(program)
    x, y = images(program, n), labels_for(SPARSE, program, n)
    seen = []
    for step in (0, 1):
        sums, gradients, dx = executor.gradients(x, y, SPARSE, step, True, input_gradient=True)
        expected_sums, expected, expected_dx = reference64.gradients(x, y, SPARSE, step, True,
                                                                     input_gradient=True)
        np.testing.assert_allclose(sums, expected_sums, rtol=1e-5)
        assert_all_close([*gradients, dx], [*expected, expected_dx])
        seen.append(dx)
    assert not np.array_equal(*seen)
    weight = program.weights[0]
    frozen = reference.Executor(Program(program.ops, program.weights, (False,) * 4, program.input_shape,
                                        program.output_shape, program.seed), dtype=np.float64)
    differences = oracles.weight_difference(lambda: frozen.gradients(x, y, SPARSE, 1, True)[0][0] / n, weight,
                                            1e-4)
    assert np.abs(gradients[0] - differences).max() < 1e-3 * np.abs(differences).max()


def test_masks_are_the_same_bits_on_every_backend():
    x = np.ones((35, 3, 3, 7), np.float32)
    for rate in (0.1, 0.3, 0.7):
        masks = [dropout_output(make, x, rate, streams=2) != 0 for make in executors().values()]
        for mask in masks[1:]:
            np.testing.assert_array_equal(mask, masks[0])


def test_reference_gives_the_same_in_chunks(monkeypatch):
    network = Network((6, 5, 3), 11).conv2d(4, (3, 3)).dropout(0.5)
    program = network.flatten().dense(3).activation("softmax").build()
    x, y = images(program, 41), labels_for(SPARSE, program, 41)
    weight = np.random.default_rng(8).uniform(0, 3, 41).astype(np.float32)
    indices = np.random.default_rng(9).permutation(41)

    def results():
        executor = reference.Executor(program)
        predictions = np.empty((41, 3), np.float32)
        sums = executor.evaluate(x, y, SPARSE, ACCURACY, indices, weight, predictions)
        total, gradients, dx = executor.gradients(x, y, SPARSE, 4, True, indices, weight, True)
        return [sums, total, executor.predict(x, indices), predictions, dx, *gradients]

    whole = results()
    monkeypatch.setattr(reference, "_CHUNK_BYTES", 7 * 4 * 600)
    assert len(reference.Executor(program)._chunks(41, True)) > 3
    assert_all_close(results(), whole, 1e-6)

"""Losses with their gradients, and metrics, against number-by-number float64."""

from __future__ import annotations

from functools import cache

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import (
    BATCHES,
    INNER_PRODUCT,
    Network,
    identity,
    labels_for,
    one_hot,
)

from tinyconv.engine.program import LOSSES, METRICS, REDUCTIONS, SMOOTHED_LOSSES, Loss, Metric

executor_class = engine_helpers.executor_class  # a fixture

SHAPES = [(1, 1, 1), (1, 1, 17), (2, 3, 4)]
CROSSENTROPIES = ("categorical_crossentropy", "sparse_categorical_crossentropy")
LOSS_CASES = [Loss(kind, from_logits, smoothing) for kind in LOSSES for from_logits in (False, True)
              for smoothing in (0.0, 0.1)
              if (not from_logits or "crossentropy" in kind) and (not smoothing or kind in SMOOTHED_LOSSES)]
LOSS_CASES += [
    Loss("huber", parameters=(0.5,)),
    Loss("sparse_categorical_crossentropy", True, parameters=(2.0,)),
    Loss("sparse_categorical_crossentropy", parameters=(0.0,)),
    *(Loss("binary_focal_crossentropy", logits, parameters=(gamma, 0.75, 0.25))
      for logits in (False, True) for gamma in (0.0, 1.0, 1.5)),
    *(Loss("categorical_focal_crossentropy", logits, parameters=(gamma, 0.5))
      for logits in (False, True) for gamma in (0.0, 1.0, 3.5)),
]


def loss_id(loss):
    marks = ["logits"] * loss.from_logits + ["smoothed"] * bool(loss.label_smoothing)
    return "-".join([loss.kind, *marks, *(f"{value:g}" for value in loss.parameters)])


def outputs_for(loss, shape, n):
    """What the loss is taken of: logits, probabilities or any numbers, (n, H, W, C)."""
    random = np.random.default_rng(5)
    if not loss.from_logits and (loss.kind in CROSSENTROPIES or loss.kind == "categorical_focal_crossentropy"):
        return random.uniform(0.05, 1, (n, *shape)).astype(np.float32)  # not summing to 1: the loss divides
    if not loss.from_logits and loss.kind.startswith("binary") or loss.kind in ("poisson", "kl_divergence"):
        return random.uniform(0.02, 0.98, (n, *shape)).astype(np.float32)
    return (3 * random.standard_normal((n, *shape))).astype(np.float32)


# What the oracle takes beside output and label, where a loss names none.
DEFAULTS = {kind: LOSSES[kind] for kind in ("binary_focal_crossentropy", "categorical_focal_crossentropy")}


def positions_of(array, program, kind):
    """(n, P, C), or class ids (n, P)."""
    height, width, channels = program.output_shape
    sparse = kind.startswith("sparse_")
    return array.reshape(len(array), height * width, *([] if sparse else [channels]))


def oracle(loss, z, y):
    """The loss of every sample, (n,); z (n, P, C), y (n, P, C) or class ids (n, P)."""
    return oracles.loss(loss.kind, z, y, loss.from_logits, loss.label_smoothing,
                        loss.parameters or DEFAULTS.get(loss.kind, ()))


def expected_values(program, loss, z, y):
    return oracle(loss, positions_of(z, program, ""), positions_of(y, program, loss.kind))


def expected_gradient(program, loss, z, y):
    """Central differences, all positions at once: each one's loss depends on its own outputs only."""
    rows, labels = positions_of(np.float64(z), program, ""), positions_of(y, program, loss.kind)
    positions = rows.shape[1]
    rows, labels = rows.reshape(-1, 1, rows.shape[2]), labels.reshape(-1, 1, *labels.shape[2:])
    gradient = np.zeros_like(rows)
    for k in range(rows.shape[2]):
        step = np.zeros(rows.shape[2])
        step[k] = 1e-5
        gradient[:, 0, k] = (oracle(loss, rows + step, labels) - oracle(loss, rows - step, labels)) / 2e-5
    if loss.kind != "inner_product":
        gradient /= positions
    return gradient.reshape(z.shape)


@cache
def case(loss, shape, n):
    """Program, outputs, labels, and in float64 the loss of every sample and its gradient; for every executor."""
    program = identity(*shape)
    z, y = outputs_for(loss, shape, n), labels_for(loss, program, n)
    found = z, y, expected_values(program, loss, z, y), expected_gradient(program, loss, z, y)
    for array in found:
        array.flags.writeable = False
    return program, *found


def counted_share(loss, y):
    """Positions that do not count raise the weight of the others."""
    return np.mean(y != loss.parameters[0]) if loss.kind.startswith("sparse") and loss.parameters else 1


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("loss", LOSS_CASES, ids=loss_id)
def test_loss_and_its_gradient_hold_the_formula(executor_class, loss, shape):
    if shape[2] == 1 and (loss.kind in CROSSENTROPIES and not loss.from_logits
                          or loss.kind in ("categorical_focal_crossentropy", "cosine_similarity")):
        pytest.skip("the only class always has probability 1, where the clip is, and the only direction")
    n = 19
    program, z, y, values, gradient = case(loss, shape, n)
    counted = counted_share(loss, y)
    if loss.kind != "inner_product":
        gradient = gradient / n
    executor = executor_class(program)
    for weight in (None, np.random.default_rng(6).uniform(0, 2, n).astype(np.float32)):
        factors = (np.ones(n) if weight is None else np.float64(weight)) / (counted or np.inf)
        sums = executor.evaluate(z, y, loss, (), None, weight)
        assert sums.shape == (1,) and sums.dtype == np.float64
        np.testing.assert_allclose(sums[0], (factors * values).sum(), rtol=1e-5, atol=1e-5)

        again, gradients, dz = executor.gradients(z, y, loss, sample_weight=weight, input_gradient=True)
        assert gradients == []
        np.testing.assert_allclose(again, sums, rtol=1e-6)
        expected = gradient * factors[:, None, None, None]
        np.testing.assert_allclose(dz, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max() + 1e-9)


@pytest.mark.parametrize("loss", LOSS_CASES, ids=loss_id)
def test_idle_lanes_do_not_count(executor_class, loss):
    program, most = identity(2, 1, 5), max(BATCHES)
    z, y = outputs_for(loss, (2, 1, 5), most), labels_for(loss, program, most)
    values = expected_values(program, loss, z, y)
    executor = executor_class(program)
    for n in BATCHES:
        counted = counted_share(loss, y[:n])
        expected = values[:n].sum() / (counted or 1)
        np.testing.assert_allclose(executor.evaluate(z[:n], y[:n], loss)[0], expected, rtol=1e-5, atol=1e-5,
                                   err_msg=f"batch of {n}")


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("shape", [(1, 1, 10), (2, 2, 3)], ids=str)
def test_crossentropy_behind_a_softmax_is_that_of_its_input(executor_class, sparse, shape):
    kind = CROSSENTROPIES[sparse]
    program = Network(shape).activation("softmax").build()
    z, y = outputs_for(Loss(kind, True), shape, 19), labels_for(Loss(kind), program, 19)
    sums, _, dz = executor_class(program).gradients(z, y, Loss(kind), input_gradient=True)
    np.testing.assert_allclose(sums[0], expected_values(program, Loss(kind, True), z, y).sum(), rtol=1e-5)
    expected = expected_gradient(program, Loss(kind, True), z, y) / 19
    np.testing.assert_allclose(dz, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("place", ["last", "before a reshape"])
def test_saturated_softmax_has_the_exact_gradient(executor_class, sparse, place):
    network = Network((1, 1, 4)).activation("softmax")
    program = (network.reshape(1, 1, 4) if place != "last" else network).build()
    ids = np.array([1], np.int32)
    y = ids[:, None] if sparse else one_hot(ids, 4)
    executor = executor_class(program)
    for z, p, loss in [([200, 0, 0, 0], [1, 0, 0, 0], 200), ([0, 200, 0, 0], [0, 1, 0, 0], 0),
                       ([-1e5, -1e5, 1e5, 0], [0, 0, 1, 0], 2e5), ([0, 0, 0, 0], [0.25] * 4, np.log(4))]:
        sums, _, dz = executor.gradients(np.array([z], np.float32), y, Loss(CROSSENTROPIES[sparse]),
                                         input_gradient=True)
        assert dz.ravel().tolist() == (np.array(p) - one_hot(ids, 4)[0]).tolist()
        np.testing.assert_allclose(sums[0], loss, rtol=1e-6, atol=1e-30)


def test_saturated_sigmoid_has_the_exact_gradient(executor_class):
    program = Network((1, 1, 1)).activation("sigmoid").build()
    z, y = np.array([[200], [-200], [200], [0]], np.float32), np.array([[0], [1], [1], [1]], np.float32)
    sums, _, dz = executor_class(program).gradients(z, y, Loss("binary_crossentropy"), input_gradient=True)
    assert (4 * dz.ravel()).tolist() == [1, -1, 0, -0.5]
    np.testing.assert_allclose(sums[0], 400 + np.log(2), rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_probabilities_are_clipped_and_have_no_gradient_there(executor_class, sparse):
    program = identity(1, 1, 3)
    p = np.array([[0, 0.5, 0.5], [0.2, 0.8, 0]], np.float32)
    ids = np.array([0, 1], np.int32)
    y = ids if sparse else one_hot(ids, 3)
    sums, _, dp = executor_class(program).gradients(p, y, Loss(CROSSENTROPIES[sparse]), input_gradient=True)
    np.testing.assert_allclose(sums[0], -np.log(1e-7) - np.log(0.8), rtol=1e-6)
    expected = np.array([[0, 0, 0], [1, 1 - 1 / 0.8, 1]]) / 2
    np.testing.assert_allclose(dp.reshape(2, 3), expected, rtol=1e-5, atol=1e-7)


def test_binary_probabilities_are_clipped_and_have_no_gradient_there(executor_class):
    program = identity(1, 1, 1)
    p, y = np.array([[0], [0.25]], np.float32), np.array([[1], [1]], np.float32)
    sums, _, dp = executor_class(program).gradients(p, y, Loss("binary_crossentropy"), input_gradient=True)
    np.testing.assert_allclose(sums[0], -np.log(1e-7) - np.log(0.25), rtol=1e-6)
    np.testing.assert_allclose(dp.ravel(), [0, -2], rtol=1e-6)


def test_soft_labels_need_not_sum_to_one(executor_class):
    program = identity(1, 1, 6)
    loss = Loss("categorical_crossentropy", True)
    z = outputs_for(loss, (1, 1, 6), 5)
    y = np.random.default_rng(6).uniform(0, 2, (5, 6)).astype(np.float32)
    sums, _, dz = executor_class(program).gradients(z, y, loss, input_gradient=True)
    np.testing.assert_allclose(sums[0], expected_values(program, loss, z, y).sum(), rtol=1e-5)
    np.testing.assert_allclose(dz, expected_gradient(program, loss, z, y) / 5, rtol=1e-5, atol=1e-6)


def test_a_sample_of_weight_zero_does_not_train(executor_class):
    program = identity(1, 1, 3)
    z = np.array([[1, 2, 3], [np.nan, 0, 0], [1, 1, 1]], np.float32)
    weight = np.array([1, 0, 2], np.float32)
    _, _, dz = executor_class(program).gradients(z, np.zeros(3, np.int32), Loss(CROSSENTROPIES[1], True),
                                                 sample_weight=weight, input_gradient=True)
    assert np.isfinite(dz).all()
    assert not dz[1].any() and dz[0].all() and dz[2].all()


@pytest.mark.parametrize("loss", LOSS_CASES, ids=loss_id)
def test_loss_of_nan_is_nan(executor_class, loss):
    program = identity(1, 1, 4)
    z, y = outputs_for(loss, (1, 1, 4), 3), labels_for(loss, program, 3)
    z[1, 0, 0, 2] = np.nan
    assert np.isnan(executor_class(program).evaluate(z, y, loss)[0])


def test_labels_of_another_shape_of_the_same_size(executor_class):
    program = Network((2, 3, 4)).build()
    x, y = np.ones((5, 24), np.float32), np.ones((5, 4, 3, 2), np.float32)
    assert executor_class(program).evaluate(x, y, INNER_PRODUCT).tolist() == [120]


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions_scale_loss_and_gradient(executor_class, reduction, weighted):
    program = identity(2, 1, 3)
    mean, other = Loss("mean_squared_error"), Loss("mean_squared_error", reduction=reduction, weight=0.5)
    n = 7
    z, y = outputs_for(mean, (2, 1, 3), 11), labels_for(mean, program, 11)
    rows = np.array([3, 0, 10, 4, 4, 7, 9])
    weight = np.random.default_rng(3).uniform(0, 2, 11).astype(np.float32) if weighted else None
    executor = executor_class(program)
    total = n if weight is None else np.float64(weight[rows]).sum()
    scale = 0.5 * {"mean": 1, "sum": 2 * n, "mean_with_sample_weight": n / total}[reduction]
    sums, _, dz = executor.gradients(z, y, mean, indices=rows, sample_weight=weight, input_gradient=True)
    scaled, _, dz_scaled = executor.gradients(z, y, other, indices=rows, sample_weight=weight, input_gradient=True)
    np.testing.assert_allclose(scaled, scale * sums, rtol=1e-6)
    np.testing.assert_allclose(dz_scaled, scale * dz, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(executor.evaluate(z, y, other, (), rows, weight), scaled, rtol=1e-6)


@pytest.mark.parametrize("kind", ["hinge", "squared_hinge"])
def test_hinges_take_labels_of_0_and_1_as_signs(executor_class, kind):
    program = identity(1, 1, 4)
    z, y = outputs_for(Loss(kind), (1, 1, 4), 6), labels_for(Loss(kind), program, 6)
    executor = executor_class(program)
    assert executor.evaluate(z, (y + 1) / 2, Loss(kind)) == executor.evaluate(z, y, Loss(kind))
    y[0, 0] = 0  # now a number among others
    expected = expected_values(program, Loss(kind), z, y).sum()
    np.testing.assert_allclose(executor.evaluate(z, y, Loss(kind))[0], expected, rtol=1e-5)


def test_a_batch_of_ignored_labels_has_no_loss_and_no_gradient(executor_class):
    program = identity(1, 1, 3)
    loss = Loss("sparse_categorical_crossentropy", True, parameters=(255.0,))
    z, y = np.ones((4, 3), np.float32), np.full(4, 255, np.int32)
    metrics = (Metric("sparse_categorical_accuracy"), Metric("sparse_top_k_categorical_accuracy", 5))
    executor = executor_class(program)
    assert executor.evaluate(z, y, loss, metrics).tolist() == [0, 0, 0]
    assert not executor.gradients(z, y, loss, input_gradient=True)[2].any()
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        executor.evaluate(z, y - 1, loss)


def test_equal_maxima_share_the_gradient_of_the_categorical_hinge(executor_class):
    program = identity(1, 1, 3)
    z, y = np.array([[1, 2, 2]], np.float32), np.array([[1, 0, 0]], np.float32)
    sums, _, dz = executor_class(program).gradients(z, y, Loss("categorical_hinge"), input_gradient=True)
    assert sums[0] == 2 and dz.ravel().tolist() == [-1, 0.5, 0.5]


# --- metrics ---

SCORES = [[0.1, 0.7, 0.2], [0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [0.3, 0.3, 0.3], [3, 2, 1], [-1, -2, -3]]
IDS = [1, 0, 1, 2, 2, 0]


def metric_labels(metric, ids, channels):
    ids = np.array(ids, np.int32)
    return ids if metric.kind.startswith("sparse_") else one_hot(ids, channels)


def counted(executor_class, metric, scores, y):
    """The metric's sum, counted by evaluate and by train_step alike."""
    scores = np.array(scores, np.float32)
    program = identity(1, 1, scores.shape[1])
    loss = Loss("mean_squared_error")
    if y.dtype == np.int32:
        loss = Loss("sparse_categorical_crossentropy", True)
    executor = executor_class(program)
    total = executor.evaluate(scores, y, loss, (metric,))[1]
    assert executor.train_step(scores, y, loss, "sgd", (0.1,), [], 0, (metric,))[1] == total
    return total


@pytest.mark.parametrize("kind", ["categorical_accuracy", "sparse_categorical_accuracy"])
def test_accuracy_takes_the_lowest_index_of_equals(executor_class, kind):
    metric = Metric(kind)
    hits = [counted(executor_class, metric, [row], metric_labels(metric, [label], 3))
            for row, label in zip(SCORES, IDS, strict=True)]
    assert hits == [1, 1, 0, 0, 0, 1]
    assert counted(executor_class, metric, SCORES, metric_labels(metric, IDS, 3)) == 3


@pytest.mark.parametrize("kind", ["top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy"])
@pytest.mark.parametrize(("k", "expected"), [(1, [1, 1, 1, 1, 0, 1]), (2, [1, 1, 1, 1, 0, 1]), (3, [1] * 6),
                                             (5, [1] * 6)])
def test_top_k_counts_ties_at_the_boundary(executor_class, kind, k, expected):
    metric = Metric(kind, k)
    hits = [counted(executor_class, metric, [row], metric_labels(metric, [label], 3))
            for row, label in zip(SCORES, IDS, strict=True)]
    assert hits == expected


@pytest.mark.parametrize("threshold", [0.5, 0.25])
def test_binary_accuracy_is_a_mean_over_the_outputs(executor_class, threshold):
    scores = [[0.1, 0.9, 0.5], [0.3, 0.2, 0.8]]
    y = np.array([[0, 1, 0], [1, 0, 0]], np.float32)
    expected = ((np.array(scores) > threshold) == y).mean(axis=1).sum()
    total = counted(executor_class, Metric("binary_accuracy", threshold), scores, y)
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("n", BATCHES)
def test_metrics_hold_the_definition(executor_class, kind, n):
    metric = Metric(kind, 0.1 if "binary" in kind else 3)
    random = np.random.default_rng(7)
    scores, ids = random.standard_normal((n, 2, 2, 10)).astype(np.float32), random.integers(0, 10, (n, 4))
    program = identity(2, 2, 10)
    if kind.startswith("sparse_"):
        y, loss = ids.astype(np.int32), Loss("sparse_categorical_crossentropy", True)
    else:
        y, loss = one_hot(ids, 10), Loss("mean_squared_error")
    expected = 0.0
    for sample, own in zip(scores.reshape(n, 4, 10), ids, strict=True):
        for row, label in zip(sample, own, strict=True):
            if "binary" in kind:
                hits = [(value > np.float32(0.1)) == (c == label) for c, value in enumerate(row)]
                expected += np.mean(hits) / 4
            elif "top_k" in kind:
                expected += sum(row > row[label]) < 3 and 1 / 4
            else:
                expected += (row.argmax() == label) / 4
    sums = executor_class(program).evaluate(scores, y, loss, (metric,))
    np.testing.assert_allclose(sums[1], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", METRICS)
def test_nan_is_never_a_hit(executor_class, kind):
    metric = Metric(kind, 0.5 if "binary" in kind else 2)
    rows = [[np.nan] * 3, [np.nan, 0.1, 0.2]]
    for row in rows:
        if "binary" in kind:
            y = np.array([[0, 0, 0]], np.float32)
            expected = (3 - np.isnan(row).sum()) / 3
        else:
            y, expected = metric_labels(metric, [0], 3), 0
        np.testing.assert_allclose(counted(executor_class, metric, [row], y), expected, rtol=1e-6)


def test_several_metrics_at_once_come_in_order_and_unweighted(executor_class):
    program = identity(1, 1, 3)
    metrics = (Metric("top_k_categorical_accuracy", 2), Metric("categorical_accuracy"),
               Metric("binary_accuracy", 0.4))
    scores, y = np.array(SCORES, np.float32), one_hot(IDS, 3)
    executor = executor_class(program)
    together = executor.evaluate(scores, y, Loss("mean_squared_error"), metrics,
                                 sample_weight=np.full(6, 0.5, np.float32))
    alone = [executor.evaluate(scores, y, Loss("mean_squared_error"), (metric,))[1] for metric in metrics]
    assert together[1:].tolist() == alone
    plain = executor.evaluate(scores, y, Loss("mean_squared_error"))
    np.testing.assert_allclose(together[0], plain[0] / 2, rtol=1e-6)


def test_the_metric_sees_the_output_where_the_loss_sees_the_input_of_the_softmax(executor_class):
    program = Network((1, 1, 2)).activation("softmax").build()
    z, y = np.array([[3, 1], [0, 1]], np.float32), np.array([[1, 0], [0, 1]], np.float32)
    metrics = (Metric("binary_accuracy", 0.8),)
    sums = executor_class(program).evaluate(z, y, Loss("categorical_crossentropy"), metrics)
    np.testing.assert_allclose(sums[1], 1.5, rtol=1e-6)  # softmax([0, 1]) is [0.27, 0.73]


def test_what_a_batch_decides_of_a_loss():
    assert Loss("hinge").by_batch and Loss("squared_hinge").by_batch
    assert not Loss("categorical_hinge").by_batch and not Loss("mean_squared_error").by_batch
    assert Loss("mean_squared_error", reduction="sum").by_batch
    assert Loss("sparse_categorical_crossentropy", parameters=(2.0,)).by_batch

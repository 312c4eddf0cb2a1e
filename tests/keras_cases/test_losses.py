"""Losses and metrics: the figures that Keras' own tests expect."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import losses, metrics

TRUE, PRED = np.array([[1, 9, 2], [-5, -2, 6]]), np.array([[4, 8, 12], [8, 1, 3]], np.float32)
SAMPLES, POSITIONS = [1.2, 3.4], np.array([[3, 6, 5], [0, 4, 2]])
LOGITS = np.array([[8, 1, 1], [0, 9, 1], [2, 3, 5]], np.float32)
SHARES = np.array([[0.9, 0.05, 0.05], [0.5, 0.89, 0.6], [0.05, 0.01, 0.94]], np.float32)
MARGINS = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.6, 0.4], [0.4, 0.6]])
CERTAIN = np.array([[10, -10, 10], [10, 10, -10]], np.float32)
BITS = np.array([[1, 0, 1], [0, 1, 1]])


@pytest.mark.parametrize(("loss", "weight", "expected"), [
    (losses.MeanSquaredError(), None, 49.5),
    (losses.MeanSquaredError(), 2.3, 113.85),
    (losses.MeanSquaredError(), SAMPLES, 767.8 / 6),
    (losses.MeanSquaredError(reduction=None), 2.3, [84.3333, 143.3666]),
    (losses.MeanSquaredError(reduction="sum"), 2.3, 227.7),
    (losses.MeanSquaredError(reduction="mean_with_sample_weight"), SAMPLES, (110 / 3 * 1.2 + 187 / 3 * 3.4) / 4.6),
    (losses.MeanAbsoluteError(), None, 5.5),
    (losses.MeanAbsoluteError(), SAMPLES, 81.4 / 6),
    (losses.MeanAbsoluteError(reduction=None), 2.3, [10.7333, 14.5666]),
    (losses.MeanAbsoluteError(reduction="mean_with_sample_weight"), SAMPLES, (14 / 3 * 1.2 + 19 / 3 * 3.4) / 4.6),
    (losses.MeanAbsolutePercentageError(), None, 211.8518),
    (losses.MeanAbsolutePercentageError(), SAMPLES, 422.8888),
    (losses.MeanAbsolutePercentageError(reduction=None), 2.3, [621.8518, 352.6666]),
    (losses.MeanSquaredLogarithmicError(), None, 1.4370),
    (losses.MeanSquaredLogarithmicError(), 2.3, 3.3051),
    (losses.MeanSquaredLogarithmicError(), SAMPLES, 3.7856),
    *((kind(), 0.0, 0.0) for kind in (losses.MeanSquaredError, losses.MeanAbsoluteError, losses.LogCosh,
                                      losses.MeanAbsolutePercentageError, losses.CosineSimilarity, losses.Huber)),
])
def test_error_has_the_value_of_keras(loss, weight, expected):
    np.testing.assert_allclose(loss(TRUE, PRED, weight), expected, rtol=1e-4)


@pytest.mark.parametrize(("loss", "expected"), [
    (losses.MeanSquaredError(), 97.833336), (losses.MeanAbsoluteError(), 13.833333),
    (losses.MeanAbsolutePercentageError(), 694.4444), (losses.MeanSquaredLogarithmicError(), 2.647374)])
def test_weights_of_positions_count_as_in_keras(loss, expected):
    np.testing.assert_allclose(loss(TRUE[..., None], PRED[..., None], POSITIONS), expected, rtol=1e-5)


@pytest.mark.parametrize(("kind", "each"), [
    (losses.Hinge, [1.1, 1.5]), (losses.SquaredHinge, [1.46, 2.26]), (losses.CategoricalHinge, [1.2, 1.6])])
def test_hinge_has_the_values_of_keras(kind, each):
    for reduction, value, weighted in ((None, each, [each[0], 0]), ("sum", sum(each), each[0]),
                                       ("sum_over_batch_size", sum(each) / 2, each[0] / 2)):
        np.testing.assert_allclose(kind(reduction=reduction)(*MARGINS), value, rtol=1e-6)
        np.testing.assert_allclose(kind(reduction=reduction)(*MARGINS, [1, 0]), weighted, rtol=1e-6)
    with pytest.raises(ValueError, match="reduction"):
        kind(reduction="abc")


@pytest.mark.parametrize(("loss", "y", "weight", "expected"), [
    (losses.BinaryCrossentropy(from_logits=True), BITS, None, 20 / 6),
    (losses.BinaryCrossentropy(from_logits=True), BITS, 2.3, 2.3 * 20 / 6),
    (losses.BinaryCrossentropy(from_logits=True), BITS, [4, 3], 10.0),
    (losses.BinaryCrossentropy(from_logits=True, reduction=None), BITS, None, [0.0, 20 / 3]),
])
def test_binary_crossentropy_has_the_values_of_keras(loss, y, weight, expected):
    np.testing.assert_allclose(loss(y, CERTAIN, weight), expected, rtol=1e-4, atol=1e-4)


def test_label_smoothing_has_the_values_of_keras():
    smooth = losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    np.testing.assert_allclose(smooth([[1, 0, 1]], [[10.0, -10, -10]]), (10 + 5 * 0.1) / 3, rtol=1e-4)
    smooth = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    np.testing.assert_allclose(smooth([[1, 0, 0]], [[100.0, -100, -100]]), 400 * 0.1 / 3, rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_categorical_crossentropy_has_the_values_of_keras(sparse):
    kind = losses.SparseCategoricalCrossentropy if sparse else losses.CategoricalCrossentropy
    y = [[0], [1], [2]] if sparse else np.eye(3)  # three decimals are known
    for weight, shares, logits in ((None, 0.3239, 0.0573), (2.3, 0.7449, 0.1317),
                                   ([1.2, 3.4, 5.6], 1.0696, 0.31829)):
        np.testing.assert_allclose(kind()(y, SHARES, weight), shares, atol=5e-4)
        np.testing.assert_allclose(kind(from_logits=True)(y, LOGITS, weight), logits, atol=5e-4)
    np.testing.assert_allclose(kind(from_logits=True, reduction=None)(y, LOGITS), [0.001822, 0.000459, 0.169846],
                               atol=1e-6)


@pytest.mark.parametrize("loss", [losses.BinaryCrossentropy(), losses.CategoricalCrossentropy()])
def test_labels_of_another_shape_are_refused(loss):
    with pytest.raises(ValueError, match="shape"):
        loss([[0], [1], [2]], SHARES)


Y, SCORES, WEIGHTS = [0, 0, 1, 1], [0, 0.5, 0.3, 0.9], [1, 2, 3, 4]


@pytest.mark.parametrize(("arguments", "weights", "expected"), [
    ({}, None, 0.75), ({"thresholds": [0.5]}, None, 0.75),
    ({}, WEIGHTS, 0.7855), ({"summation_method": "majoring"}, WEIGHTS, 1.0),
    ({"summation_method": "minoring"}, WEIGHTS, 0.5714),
    ({"curve": "PR", "summation_method": "majoring"}, WEIGHTS, 1.0),
    ({"curve": "PR", "summation_method": "minoring"}, WEIGHTS, 0.7 * 0.429),
    ({"curve": "PR"}, WEIGHTS, (2.416 + 4) / 7), ({"curve": "PR"}, [-1] * 4, 0.0),
])
def test_area_is_that_of_keras(arguments, weights, expected):
    auc = metrics.AUC(num_thresholds=3, **arguments)
    auc.update_state(Y, SCORES, weights)
    assert auc.result() == pytest.approx(expected, abs=1e-3)


def test_area_takes_thresholds_without_their_number():
    auc = metrics.AUC(num_thresholds=None, thresholds=[0.5, 0.3])
    assert auc.num_thresholds == 4
    np.testing.assert_allclose(auc.thresholds, [0, 0.3, 0.5, 1], atol=2e-7)
    with pytest.raises((TypeError, ValueError), match="num_thresholds"):
        metrics.AUC(num_thresholds=None)


@pytest.mark.parametrize(("aggregation", "regressors", "plain", "weighted"), [
    (None, 0, [0.37, -1.295, 0.565], [0.17305559, -8.836666, -0.521]),
    (None, 1, [-0.26, -3.59, 0.13], [-0.65388882, -18.673332, -2.042]),
    (None, 2, [0.37, -1.295, 0.565], [0.17305559, -8.836666, -0.521]),
    ("uniform_average", 0, -0.12, -3.0615367), ("uniform_average", 1, -1.24, -7.1230735),
    ("variance_weighted_average", 0, -0.12, -1.3710224), ("variance_weighted_average", 1, -1.24, -3.7420444),
])
def test_adjusted_score_counts_samples(aggregation, regressors, plain, weighted):
    """As Keras 3.16 does; before, every value counted as a sample."""
    y = np.eye(3)[[2, 1, 0]]
    for predictions, weights, expected in (
            ([[0.4, 0.5, 0.6], [0.1, 0.2, 0.3], [0.5, 0.8, 0.2]], None, plain),
            ([[0.4, 0.9, 1.6], [0.1, 1.2, 0.6], [1.5, 0.8, 0.6]], [0.8, 0.1, 0.4], weighted)):
        score = metrics.R2Score(aggregation, regressors)
        score.update_state(y, predictions, weights)
        score.update_state([[7.0, 8.0, 9.0]], [[0.0, 0.0, 0.0]], [0.0])  # counts for nothing
        np.testing.assert_allclose(score.result(), expected, rtol=1e-5)

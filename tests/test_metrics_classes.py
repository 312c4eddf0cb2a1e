"""Metrics of positives and negatives, areas, scores of classes and errors, against loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinyconv import metrics
from tinyconv.metrics import AUC, F1Score, FBetaScore, MeanIoU, OneHotMeanIoU, Precision, R2Score, Recall

RANDOM = np.random.default_rng(2)
SAMPLES, CLASSES = 40, 4
# Sixteenths: some lie on thresholds, some are equal.
SCORES = (RANDOM.integers(0, 17, (SAMPLES, CLASSES)) / 16).astype(np.float32)
LABELS = RANDOM.integers(0, 2, (SAMPLES, CLASSES)).astype(np.float32)
WEIGHTS = RANDOM.uniform(0, 2, SAMPLES)
WEIGHTED = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])


def in_batches(metric, y_true=LABELS, y_pred=SCORES, weights=None):
    """The metric's result after three batches of unequal size, twice: `reset_state` forgets."""
    for _ in range(2):
        metric.reset_state()
        for rows in (slice(0, 7), slice(7, 8), slice(8, None)):
            metric.update_state(y_true[rows], y_pred[rows], *([] if weights is None else [weights[rows]]))
    return metric.result()


def counts(threshold, weights=None, labels=LABELS, scores=SCORES, kept=None):
    """(tp, fp, tn, fn), pair by pair."""
    total = {(True, True): 0.0, (False, True): 0.0, (False, False): 0.0, (True, False): 0.0}
    for n, (row, values) in enumerate(zip(labels, scores, strict=True)):
        for c, (label, value) in enumerate(zip(row, values, strict=True)):
            positive = value > threshold and (kept is None or kept[n][c])
            total[bool(label), bool(positive)] += 1 if weights is None else weights[n]
    return [total[True, True], total[False, True], total[False, False], total[True, False]]


def share(a, b):
    return a / (a + b) if a + b else 0.0


@WEIGHTED
@pytest.mark.parametrize("thresholds", [None, 0.25, [0.75, 0.25, 0.5]], ids=str)
def test_counts_precision_and_recall_hold_the_definition(thresholds, weights):
    listed = [0.5 if thresholds is None else thresholds] if not isinstance(thresholds, list) else thresholds
    expected = np.array([counts(threshold, weights) for threshold in listed])
    named = ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives")
    for i, name in enumerate(named):
        result = in_batches(getattr(metrics, name)(thresholds), weights=weights)
        assert np.ndim(result) == (len(listed) > 1)
        np.testing.assert_allclose(np.atleast_1d(result), expected[:, i], rtol=1e-12)
    precision = in_batches(Precision(thresholds), weights=weights)
    recall = in_batches(Recall(thresholds), weights=weights)
    np.testing.assert_allclose(np.atleast_1d(precision), [share(tp, fp) for tp, fp, _, _ in expected], rtol=1e-12)
    np.testing.assert_allclose(np.atleast_1d(recall), [share(tp, fn) for tp, _, _, fn in expected], rtol=1e-12)


def test_precision_of_the_top_k_and_of_one_class():
    kept = [[sorted(range(CLASSES), key=lambda c: (-row[c], c)).index(c) < 2 for c in range(CLASSES)]
            for row in SCORES.tolist()]
    tp, fp, _, fn = counts(-1, kept=kept)
    assert in_batches(Precision(top_k=2)) == pytest.approx(share(tp, fp))
    assert in_batches(Recall(top_k=2)) == pytest.approx(share(tp, fn))
    tp, fp, _, _ = counts(0.5, labels=LABELS[:, 1:2], scores=SCORES[:, 1:2])
    assert in_batches(Precision(class_id=1)) == pytest.approx(share(tp, fp))
    assert in_batches(Precision(), weights=np.zeros(SAMPLES)) == 0


def test_nan_exceeds_no_threshold():
    assert Precision()([[1.0, 1.0]], [[np.nan, 0.75]]) == 1
    assert Recall()([[1.0, 1.0]], [[np.nan, 0.75]]) == 0.5


@WEIGHTED
@pytest.mark.parametrize(("name", "held", "reported"), [
    ("SensitivityAtSpecificity", "specificity", "recall"), ("SpecificityAtSensitivity", "recall", "specificity"),
    ("PrecisionAtRecall", "recall", "precision"), ("RecallAtPrecision", "precision", "recall"),
])
def test_constrained_metrics_hold_the_definition(name, held, reported, weights):
    best = 0.0
    for threshold in np.arange(9) / 8:
        tp, fp, tn, fn = counts(threshold, weights)
        shares = {"recall": share(tp, fn), "precision": share(tp, fp), "specificity": share(tn, fp)}
        if shares[held] >= 0.5:
            best = max(best, shares[reported])
    metric = getattr(metrics, name)(0.5, num_thresholds=9)
    assert in_batches(metric, weights=weights) == pytest.approx(best, rel=1e-12)


@WEIGHTED
def test_auc_is_the_chance_that_a_positive_goes_before_a_negative(weights):
    # With a threshold between all scores the trapezoids give exactly that, ties counting half.
    pairs = [(float(score), bool(label), 1.0 if weights is None else weights[n])
             for n in range(SAMPLES) for score, label in zip(SCORES[n], LABELS[n], strict=True)]
    won = total = 0.0
    for score, label, weight in pairs:
        for other, other_label, other_weight in pairs:
            if label and not other_label:
                total += weight * other_weight
                won += weight * other_weight * ((score > other) + (score == other) / 2)
    assert in_batches(AUC(), weights=weights) == pytest.approx(won / total, rel=1e-12)


@pytest.mark.parametrize("curve", ["ROC", "PR"])
def test_auc_sums_are_ordered_and_close_in(curve):
    areas = [in_batches(AUC(curve=curve, summation_method=method))
             for method in ("minoring", "interpolation", "majoring")]
    assert areas == sorted(areas)
    assert AUC(curve=curve)([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == pytest.approx(1)


# Keras 3.15's figures.
@pytest.mark.parametrize(("arguments", "expected"), [
    ({"num_thresholds": 3}, 0.75), ({"num_thresholds": 3, "curve": "PR"}, 0.8206994),
    ({"num_thresholds": 3, "from_logits": True}, 0.75), ({"thresholds": [0.4, 0.2]}, 0.625),
], ids=str)
def test_auc_of_keras(arguments, expected):
    assert AUC(**arguments)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]) == pytest.approx(expected, rel=1e-5)


def test_auc_of_several_labels_is_a_mean_of_areas():
    single = [in_batches(AUC(), LABELS[:, c], SCORES[:, c]) for c in range(CLASSES)]
    assert in_batches(AUC(multi_label=True)) == pytest.approx(np.mean(single), rel=1e-12)
    weighted = AUC(multi_label=True, num_labels=CLASSES, label_weights=[1, 2, 3, 4])
    assert in_batches(weighted) == pytest.approx(np.average(single, weights=[1, 2, 3, 4]), rel=1e-12)


@WEIGHTED
@pytest.mark.parametrize("average", [None, "micro", "macro", "weighted"])
@pytest.mark.parametrize("threshold", [None, 0.5], ids=str)
def test_f_beta_holds_the_definition(average, threshold, weights):
    positive = SCORES > 0.5 if threshold else SCORES == SCORES.max(axis=1, keepdims=True)
    table = np.array([counts(0.5, weights, LABELS[:, c:c + 1], positive[:, c:c + 1]) for c in range(CLASSES)])
    support = table[:, 0] + table[:, 3]
    if average == "micro":
        table = table.sum(axis=0, keepdims=True)
    scores = [5 * tp / (5 * tp + 4 * fn + fp) for tp, fp, _, fn in table]  # beta = 2
    expected = scores if average is None else np.mean(scores)
    if average == "weighted":
        expected = np.average(scores, weights=support)
    metric = FBetaScore(average, 2.0, threshold)
    np.testing.assert_allclose(in_batches(metric, weights=weights), expected, rtol=1e-5)


def test_f1_of_a_row_of_zeros_has_no_positive():
    assert F1Score("micro")([[1.0, 0.0]], [[0.0, 0.0]]) == 0
    assert F1Score("micro")([[1.0, 0.0]], [[0.7, 0.1]]) == pytest.approx(1, rel=1e-5)


def test_iou_holds_the_definition():
    truth, predicted = LABELS.argmax(axis=1), SCORES.argmax(axis=1)
    expected = []
    for c in range(CLASSES):
        both = sum(t == p == c for t, p in zip(truth, predicted, strict=True))
        expected.append(both / sum(c in pair for pair in zip(truth, predicted, strict=True)))
    assert in_batches(MeanIoU(CLASSES), truth, predicted) == pytest.approx(np.mean(expected))
    assert in_batches(MeanIoU(CLASSES + 1), truth, predicted) == pytest.approx(np.mean(expected))  # none of class 4
    assert in_batches(OneHotMeanIoU(CLASSES)) == pytest.approx(np.mean(expected))
    assert in_batches(metrics.OneHotIoU(CLASSES, [1, 3])) == pytest.approx((expected[1] + expected[3]) / 2)
    binary = metrics.BinaryIoU([1], threshold=0.3)([0, 1, 1, 0], [0.3, 0.1, 0.9, 0.2])
    assert binary == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="threshold.*Received: threshold=2"):
        metrics.BinaryIoU(threshold=2)
    weighted = MeanIoU(2)([0, 0, 1, 1], [0, 1, 0, 1], [0.3, 0.3, 0.3, 0.1])
    assert weighted == pytest.approx((0.3 / 0.9 + 0.1 / 0.7) / 2)
    assert MeanIoU(2, ignore_class=1)([0, 1], [0, 0]) == 1


def test_confusion_matrix_counts_rows_of_labels_and_columns_of_predictions():
    matrix = metrics.confusion_matrix([1, 2, 4], [2, 2, 4])
    assert matrix.shape == (5, 5) and matrix.dtype == np.int64
    assert np.argwhere(matrix).tolist() == [[1, 2], [2, 2], [4, 4]]
    one_hot = np.eye(3)[[0, 1, 1, 2]]
    scores = [[0.5, 0.2, 0.3], [0.1, 0.2, 0.7], [0, 1, 0], [0.9, 0.05, 0.05]]
    assert metrics.confusion_matrix(one_hot, scores).tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
    weighted = metrics.confusion_matrix([0, 1, 1], [0, 0, 0], 2, weights=[0.5, 1.0, 2.0])
    assert weighted.tolist() == [[0.5, 0], [3, 0]]
    assert metrics.confusion_matrix([], []).shape == (0, 0)
    assert metrics.per_class_accuracy([0, 0, 1, 1], [0, 1, 1, 1], 3).tolist() == [0.5, 1, 0]


@pytest.mark.parametrize("call", [
    lambda: metrics.confusion_matrix([0, 1], [0]),
    lambda: metrics.confusion_matrix([0, -1], [0, 0]),
    lambda: metrics.confusion_matrix([0.5], [0]),
    lambda: metrics.confusion_matrix([0, 3], [0, 0], 3),
    lambda: metrics.confusion_matrix(np.zeros((2, 2, 2)), [0, 0]),
    lambda: metrics.confusion_matrix([0], [0], weights=[1.0, 2.0]),
    lambda: Precision(thresholds=[0.5, 2]),
    lambda: Precision(top_k=0),
    lambda: Recall(class_id=-1),
    lambda: Recall(class_id=4)(LABELS, SCORES),
    lambda: metrics.SensitivityAtSpecificity(1.5),
    lambda: metrics.SensitivityAtSpecificity(0.5, 0),
    lambda: AUC(1),
    lambda: AUC(curve="ROCK"),
    lambda: AUC(summation_method="sum"),
    lambda: AUC(num_labels=3),
    lambda: AUC(multi_label=True, num_labels=3)(LABELS, SCORES),
    lambda: AUC(label_weights=[1.0])(LABELS, SCORES),
    lambda: F1Score("mean"),
    lambda: FBetaScore(beta=0.0),
    lambda: F1Score(threshold=0.0),
    lambda: F1Score()(LABELS[:, 0], SCORES[:, 0]),
    lambda: MeanIoU(0),
    lambda: metrics.IoU(3, [3]),
    lambda: R2Score("mean"),
    lambda: R2Score(num_regressors=-1),
    lambda: R2Score()([1.0], [1.0]),
    lambda: metrics.get("SensitivityAtSpecificity"),
    lambda: metrics.Mean()([1.0, 2.0], [1.0]),
    lambda: metrics.CosineSimilarity(axis=0),
])
def test_metrics_refuse_bad_values_in_one_line(call):
    with pytest.raises(ValueError, match=r"Expected|expected") as caught:
        call()
    assert "Received: " in str(caught.value) and "\n" not in str(caught.value)


@WEIGHTED
def test_errors_hold_the_definition(weights):
    w = np.ones(SAMPLES) if weights is None else weights
    truth = np.float64(LABELS) + 1
    squares = np.square(truth - SCORES)
    mean = np.average(squares.mean(axis=1), weights=w)
    assert in_batches(metrics.RootMeanSquaredError(), truth, weights=weights) == pytest.approx(math.sqrt(mean))
    cosines = [t @ s / (np.linalg.norm(t) * np.linalg.norm(s)) for t, s in zip(truth, SCORES, strict=True)]
    found = in_batches(metrics.CosineSimilarity(), truth, weights=weights)
    assert found == pytest.approx(np.average(cosines, weights=w))
    centered = truth - np.average(truth, axis=0, weights=w)
    spread, residual = w @ np.square(centered), w @ squares
    scores = 1 - residual / spread
    np.testing.assert_allclose(in_batches(R2Score(None), truth, weights=weights), scores)
    assert in_batches(R2Score(), truth, weights=weights) == pytest.approx(scores.mean())
    assert in_batches(R2Score("variance_weighted_average"), truth, weights=weights) == pytest.approx(
        1 - residual.sum() / spread.sum())
    n = SAMPLES
    assert in_batches(R2Score(num_regressors=3), truth, weights=weights) == pytest.approx(
        1 - (1 - scores.mean()) * (n - 1) / (n - 4))


@pytest.mark.parametrize(("values", "weights", "mean", "total"), [
    (3.0, None, 3, 3), ([1, 2, 3], None, 2, 6), ([1, 2, 3], [0, 1, 3], 11 / 4, 11), ([[1, 3], [5, 7]], None, 4, 16),
    ([[1, 3], [5, 7]], [1, 3], 5, 40), ([[1, 3], [5, 7]], [[1, 0], [1, 2]], 5, 20), ([], None, 0, 0),
])
def test_mean_and_sum(values, weights, mean, total):
    for metric, expected in ((metrics.Mean(), mean), (metrics.Sum(), total)):
        assert metric(values, weights) == pytest.approx(expected)


CONFIGURED = [
    Precision([0.2, 0.7], 2, 1), Recall(0.3), metrics.TruePositives(0.2), metrics.FalseNegatives(),
    metrics.PrecisionAtRecall(0.3, 20, 1), metrics.SpecificityAtSensitivity(0.5),
    AUC(20, "PR", "majoring", multi_label=True, num_labels=4, label_weights=[1, 2, 3, 4]),
    AUC(thresholds=[0.3, 0.1], from_logits=True), F1Score("macro", 0.5), FBetaScore("micro", 2.0),
    metrics.IoU(3, [0, 2], ignore_class=1, sparse_y_pred=False), MeanIoU(3), metrics.OneHotIoU(3, [1]),
    OneHotMeanIoU(3, sparse_y_pred=True), R2Score(None, 2), metrics.BinaryCrossentropy(from_logits=True),
    metrics.SparseCategoricalCrossentropy(ignore_class=2), metrics.CategoricalCrossentropy(label_smoothing=0.1),
    metrics.LogCoshError(), metrics.Mean("m"), metrics.Sum(), metrics.RootMeanSquaredError(),
]


@pytest.mark.parametrize("metric", CONFIGURED, ids=repr)
def test_metric_config_round_trip(metric):
    config = metrics.serialize(metric)
    again = metrics.get(config)
    assert type(again) is type(metric) and metrics.serialize(again) == config and again.name == metric.name
    assert metric.lower() is None


def test_names_are_those_of_keras():
    for name, cls in (("auc", AUC), ("AUC", AUC), ("precision", Precision), ("f1_score", F1Score),
                      ("kl_divergence", metrics.KLDivergence),
                      ("root_mean_squared_error", metrics.RootMeanSquaredError),
                      ("bce", metrics.BinaryCrossentropy), ("MSLE", metrics.MeanSquaredLogarithmicError),
                      ("cosine_similarity", metrics.CosineSimilarity), ("r2_score", R2Score)):
        metric = metrics.get(name)
        assert type(metric) is cls and metric.name == name
    assert metrics.LogCoshError().name == "logcosh" and R2Score().name == "r2_score"
    first, second = metrics.TrueNegatives().name, metrics.TrueNegatives().name
    assert first.startswith("true_negatives") and second.startswith("true_negatives_") and first != second


def test_weighted_crossentropy_leaves_the_ignored_class_out():
    predictions = [[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]]
    metric = metrics.SparseCategoricalCrossentropy(ignore_class=1)
    assert metric([0, 1, 2], predictions) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 3)
    metric.reset_state()
    assert metric([0, 1, 2], predictions, [1, 5, 3]) == pytest.approx(-(math.log(0.5) + 3 * math.log(0.8)) / 4)


@pytest.mark.parametrize("metric", [F1Score(), R2Score(None)], ids=["F1Score", "R2Score"])
def test_metric_of_every_output_knows_their_number_until_it_was_reset(metric):
    truth = np.eye(4)[[0, 1, 2, 3, 1]]
    metric.update_state(truth, truth)
    np.testing.assert_allclose(metric.result(), [1] * 4, rtol=1e-5)
    with pytest.raises(ValueError, match="with 4 outputs, as before.*Received: 3 outputs"):
        metric.update_state(truth[:, :3], truth[:, :3])
    metric.reset_state()
    assert metric.result().shape == (4,)
    assert metric(truth[:, :3], truth[:, :3]).shape == (3,)

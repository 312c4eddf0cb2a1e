"""Metrics: a line is what the labels and predictions are like (as for losses), and a call."""

from __future__ import annotations

from typing import Any

from parity.harness import New


def metric(name: str, /, *args: Any, **kwargs: Any) -> New:
    return New(f"metrics.{name}", *args, **kwargs)


CASES: list[tuple[str, New]] = [
    ("classes", metric("Accuracy")),
    ("binary", metric("BinaryAccuracy")),
    ("binary", metric("BinaryAccuracy", threshold=0.3)),
    ("probabilities", metric("CategoricalAccuracy")),
    ("sparse", metric("SparseCategoricalAccuracy")),
    ("probabilities", metric("TopKCategoricalAccuracy", k=2)),
    ("probabilities", metric("TopKCategoricalAccuracy")),
    ("sparse", metric("SparseTopKCategoricalAccuracy", 2)),
    ("sparse", metric("SparseTopKCategoricalAccuracy", k=3)),
    ("numbers", metric("MeanSquaredError")),
    ("numbers", metric("MeanAbsoluteError")),
    ("numbers", metric("RootMeanSquaredError")),
    ("positive", metric("MeanAbsolutePercentageError")),
    ("positive", metric("MeanSquaredLogarithmicError")),
    ("numbers", metric("CosineSimilarity")),
    ("numbers", metric("LogCoshError")),
    ("numbers", metric("R2Score")),
    ("numbers", metric("R2Score", class_aggregation=None)),
    ("numbers", metric("R2Score", "variance_weighted_average")),
    ("numbers", metric("PearsonCorrelation")),
    ("numbers", metric("ConcordanceCorrelation")),
    ("signs", metric("Hinge")),
    ("signs", metric("SquaredHinge")),
    ("probabilities", metric("CategoricalHinge")),
    ("probabilities", metric("KLDivergence")),
    ("positive", metric("Poisson")),
    ("binary", metric("BinaryCrossentropy")),
    ("binary logits", metric("BinaryCrossentropy", from_logits=True, label_smoothing=0.1)),
    ("probabilities", metric("CategoricalCrossentropy")),
    ("logits", metric("CategoricalCrossentropy", from_logits=True, label_smoothing=0.1)),
    ("sparse", metric("SparseCategoricalCrossentropy")),
    ("sparse logits", metric("SparseCategoricalCrossentropy", from_logits=True)),
    ("binary", metric("Precision")),
    ("binary", metric("Precision", thresholds=0.3)),
    ("binary", metric("Precision", thresholds=[0.2, 0.6])),
    ("binary", metric("Precision", top_k=2)),
    ("binary", metric("Precision", class_id=1)),
    ("binary", metric("Precision", top_k=3, class_id=2, name="mine")),
    ("binary", metric("Precision", 0.4, class_id=0)),
    ("binary", metric("Recall")),
    ("binary", metric("Recall", thresholds=0.4, class_id=3)),
    ("binary", metric("Recall", [0.2, 0.6])),
    ("binary", metric("Recall", top_k=2, class_id=1)),
    ("binary", metric("TruePositives")),
    ("binary", metric("TrueNegatives", thresholds=[0.2, 0.6])),
    ("binary", metric("FalsePositives", 0.3)),
    ("binary", metric("FalseNegatives")),
    ("binary", metric("AUC")),
    ("binary", metric("AUC", curve="PR", summation_method="minoring", num_thresholds=9)),
    ("binary", metric("AUC", summation_method="majoring", num_thresholds=9)),
    ("binary", metric("AUC", num_thresholds=None, thresholds=[0.3, 0.5], curve="PR", name="mine")),
    ("binary", metric("AUC", multi_label=True, num_labels=4, label_weights=[1.0, 2.0, 0.5, 0.0])),
    ("binary", metric("AUC", num_thresholds=20, curve="PR")),
    ("binary", metric("AUC", num_thresholds=20, summation_method="minoring")),
    ("binary", metric("AUC", num_thresholds=20, summation_method="majoring", curve="PR")),
    ("binary", metric("AUC", thresholds=[0.25, 0.5, 0.75])),
    ("binary", metric("AUC", multi_label=True, num_labels=4)),
    ("binary logits", metric("AUC", from_logits=True)),
    *(("binary", metric(name, share, **more))
      for name in ("PrecisionAtRecall", "RecallAtPrecision", "SensitivityAtSpecificity", "SpecificityAtSensitivity")
      for share, more in ((0.5, {}), (0.8, {"num_thresholds": 5}), (0.4, {"class_id": 2}))),
    ("probabilities", metric("F1Score")),
    ("probabilities", metric("F1Score", average="macro")),
    ("binary", metric("F1Score", average="micro", threshold=0.4)),
    ("binary", metric("FBetaScore", average="weighted", beta=2.0, threshold=0.5)),
    ("classes", metric("IoU", 4, [0, 2])),
    ("classes", metric("MeanIoU", num_classes=4)),
    ("binary", metric("BinaryIoU", target_class_ids=[0, 1], threshold=0.4)),
    ("probabilities", metric("OneHotIoU", num_classes=4, target_class_ids=[0, 1])),
    ("probabilities", metric("OneHotMeanIoU", num_classes=4)),
]
# Metrics of numbers, without labels.
PLAIN: list[New] = [metric("Mean"), metric("Mean", name="average"), metric("Sum")]

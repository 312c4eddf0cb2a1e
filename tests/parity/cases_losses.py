"""Losses: a line is what the labels and predictions are like, and a call."""

from __future__ import annotations

from typing import Any

from parity.harness import New


def loss(name: str, /, *args: Any, **kwargs: Any) -> New:
    return New(f"losses.{name}", *args, **kwargs)


# What y_true and y_pred hold, by name: see `data` in test_losses.py.
CASES: list[tuple[str, New]] = [
    ("probabilities", loss("CategoricalCrossentropy")),
    ("probabilities", loss("CategoricalCrossentropy", label_smoothing=0.2)),
    ("probabilities", loss("CategoricalCrossentropy", from_logits=False, label_smoothing=1.0, name="mine")),
    ("logits", loss("CategoricalCrossentropy", from_logits=True)),
    ("logits", loss("CategoricalCrossentropy", True, 0.1)),
    ("sparse", loss("SparseCategoricalCrossentropy")),
    ("sparse logits", loss("SparseCategoricalCrossentropy", from_logits=True)),
    ("sparse logits", loss("SparseCategoricalCrossentropy", from_logits=True, ignore_class=1)),
    ("binary", loss("BinaryCrossentropy")),
    ("binary", loss("BinaryCrossentropy", label_smoothing=0.2)),
    ("binary logits", loss("BinaryCrossentropy", from_logits=True)),
    ("binary logits", loss("BinaryCrossentropy", True, 0.3)),
    ("numbers", loss("MeanSquaredError")),
    ("numbers", loss("MeanAbsoluteError")),
    ("positive", loss("MeanAbsolutePercentageError")),
    ("positive", loss("MeanSquaredLogarithmicError")),
    ("numbers", loss("Huber")),
    ("numbers", loss("Huber", delta=0.3)),
    ("numbers", loss("Huber", 2.5, name="mine")),
    ("numbers", loss("LogCosh")),
    ("numbers", loss("CosineSimilarity")),
    ("positive", loss("CosineSimilarity", axis=-1)),
    ("signs", loss("Hinge")),
    ("signs", loss("SquaredHinge")),
    ("binary logits", loss("Hinge")),
    ("probabilities", loss("CategoricalHinge")),
    ("probabilities", loss("KLDivergence")),
    ("positive", loss("Poisson")),
    ("binary", loss("BinaryFocalCrossentropy")),
    ("binary", loss("BinaryFocalCrossentropy", apply_class_balancing=True, alpha=0.3, gamma=1.5)),
    ("binary logits", loss("BinaryFocalCrossentropy", from_logits=True, label_smoothing=0.1)),
    ("binary", loss("BinaryFocalCrossentropy", gamma=0.0, apply_class_balancing=True)),
    ("probabilities", loss("CategoricalFocalCrossentropy")),
    ("probabilities", loss("CategoricalFocalCrossentropy", label_smoothing=0.1, gamma=0.0)),
    ("logits", loss("CategoricalFocalCrossentropy", alpha=0.5, gamma=3.0, from_logits=True)),
    ("binary", loss("Dice")),
    ("binary", loss("Tversky", alpha=0.3, beta=0.6)),
]

"""docs/keras.md and README.md: what they name is there, and what is there is named; docstrings are there at all."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tinyconv import (
    activations,
    callbacks,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
NAMES = set(re.findall(r"`([A-Za-z_]\w*)`", PAGE))
# Not what a user writes down, or said in words.
PLUMBING = {"get", "serialize", "deserialize", "Layer", "Weight", "Loss", "Metric", "Optimizer", "Initializer",
            "Regularizer", "Constraint", "Callback", "CallbackList", "Activation", "LearningRateSchedule",
            "MeanMetricWrapper", "compute_fans", "lower", "schedules"}


def classes_of(module) -> list[str]:
    """Public classes, without aliases."""
    return sorted({value.__name__ for name in module.__all__ if isinstance(value := getattr(module, name), type)}
                  - PLUMBING)


@pytest.mark.parametrize("module", [layers, losses, initializers, regularizers, constraints, optimizers,
                                    optimizers.schedules, callbacks], ids=lambda module: module.__name__)
def test_every_class_stands_on_the_page(module):
    assert not set(classes_of(module)) - NAMES


def test_every_layer_and_activation_has_its_other_name_on_the_page():
    functions = {name for name in layers.__all__ if name.islower() and not isinstance(getattr(layers, name), type)}
    aliases = {"avg_pool1d", "avg_pool2d", "global_avg_pool1d", "global_avg_pool2d", "global_max_pool1d",
               "global_max_pool2d", "max_pool1d", "max_pool2d"}
    assert not functions - PLUMBING - aliases - NAMES
    assert not set(activations.__all__) - PLUMBING - NAMES


def test_the_families_of_metrics_are_complete():
    said = ("accuracy", "topk", "error", "crossentropy", "hinge", "iou", "positives", "negatives", "sensitivity",
            "specificity", "recall", "precision", "kldivergence", "poisson", "similarity", "logcosh")
    left = [name for name in classes_of(metrics)
            if name not in NAMES and not any(part in name.lower() for part in said)]
    assert not left


def test_what_the_layer_table_names_exists():
    table = PAGE.split("## Layers")[1].split("Everywhere:")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    assert len(rows) > 30
    for row in rows:
        for name in re.findall(r"`(\w+)`", " ".join(row)):
            assert hasattr(layers, name), name


def defined(body: list[ast.stmt]) -> list[ast.FunctionDef | ast.ClassDef]:
    return [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]


def test_everything_public_has_a_docstring():
    """What `__all__` names, and the methods of classes; one that is overridden has that of the base."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "tinyconv").rglob("*.py"))]
    every = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    classes = [cls for cls in every if not cls.name.startswith("_")]
    said = {method.name for cls in every for method in defined(cls.body) if ast.get_docstring(method)}
    silent = [f"{cls.name}.{method.name}" for cls in classes for method in defined(cls.body)
              if not ast.get_docstring(method) and method.name not in said]
    for tree in trees:
        names = next((ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
                      and getattr(node.targets[0], "id", "") == "__all__"), ())
        silent += [node.name for node in defined(tree.body) if node.name in names and not ast.get_docstring(node)]
    assert silent == []

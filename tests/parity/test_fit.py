"""fit and evaluate do what Keras' do: figures of every epoch, weights, which samples count where and how much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from parity.harness import as_numpy, keras, random_array, tinyconv

# Keras' own variables, with NumPy 2, and its inputs in a list; and what runs out of data says so in both.
pytestmark = [
    pytest.mark.usefixtures("cheap_start"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*ran out of data:UserWarning"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match:UserWarning"),
]

SAMPLES, FEATURES, CLASSES = 11, 6, 3
X = random_array((SAMPLES, FEATURES))
IDS = np.arange(SAMPLES) % CLASSES
Y = np.eye(CLASSES, dtype=np.float32)[IDS]
WEIGHTS = np.abs(random_array((SAMPLES,), 1)) * (np.arange(SAMPLES) != 3)
PART = X[:5], Y[:5]
WEIGHED = {"weighted_metrics": ["accuracy", "mse"]}


def batches(parts: int = 2) -> Iterator[tuple[np.ndarray, ...]]:
    """All samples in batches of 4, without end: inputs and labels, and with 3 parts their weights."""
    while True:
        for start in range(0, SAMPLES, 4):
            yield tuple(array[start:start + 4] for array in (X, Y, WEIGHTS)[:parts])


def fitted(library: Any, compiled: dict[str, Any], fit: dict[str, Any]) -> tuple[Any, Any]:
    """A model of one layer after `fit`, and its history."""
    rule = compiled.pop("regularizer", None)
    model = library.Sequential([library.layers.Input((FEATURES,)), library.layers.Dense(
        CLASSES, activation="softmax", kernel_regularizer=rule)])
    model.compile(library.optimizers.SGD(0.1), compiled.pop("loss", "categorical_crossentropy"),
                  **{"metrics": ["accuracy"], "run_eagerly": True, **compiled})
    model.set_weights([0.5 * random_array((FEATURES, CLASSES), 2), random_array((CLASSES,), 3)])
    arguments = {name: value() if callable(value) else value for name, value in fit.items()}
    arguments = {"epochs": 2, "shuffle": False, "verbose": 0, **arguments}
    if "x" not in arguments:
        arguments = {"x": X, "y": Y, "batch_size": 4, **arguments}
    return model, model.fit(**arguments)


@pytest.mark.parametrize(("compiled", "fit"), [
    ({}, {}),
    ({**WEIGHED, "loss": ["categorical_crossentropy"], "metrics": [["accuracy", "mse"]]},
     {"x": [X], "y": [Y], "sample_weight": [WEIGHTS], "validation_data": ([PART[0]], [PART[1]]), "batch_size": 4}),
    (WEIGHED, {"sample_weight": WEIGHTS}),
    (WEIGHED, {"class_weight": {0: 2.0, 1: 0.5, 7: 4.0}}),
    ({**WEIGHED, "loss": "sparse_categorical_crossentropy", "weighted_metrics": ["accuracy"]},
     {"y": IDS[:, None], "class_weight": {2: 3.0}}),
    (WEIGHED, {"validation_split": 0.3, "sample_weight": WEIGHTS}),
    (WEIGHED, {"validation_split": 0.3, "class_weight": {0: 5.0, 1: 0.1}}),
    ({}, {"validation_split": 0.09}),
    (WEIGHED, {"validation_data": (*PART, WEIGHTS[:5])}),
    (WEIGHED, {"validation_data": PART, "class_weight": {0: 5.0, 1: 0.1}}),
    ({}, {"validation_data": PART, "validation_freq": [1, 4], "epochs": 4}),
    ({}, {"validation_data": (X, Y), "validation_steps": 2, "validation_batch_size": 3}),
    ({}, {"epochs": 4, "steps_per_epoch": 2}),
    ({}, {"epochs": 4, "initial_epoch": 2, "steps_per_epoch": 2}),
    ({}, {"batch_size": 10**6}),
    ({**WEIGHED, "regularizer": "l2", "loss_weights": [0.5]}, {"sample_weight": WEIGHTS}),
    (WEIGHED, {"x": batches, "steps_per_epoch": 3}),
    (WEIGHED, {"x": lambda: batches(3), "steps_per_epoch": 3, "validation_data": (X, Y, WEIGHTS)}),
    ({"metrics": ["accuracy", "accuracy"], "weighted_metrics": ["accuracy"]}, {"sample_weight": WEIGHTS}),
    ({"metrics": ["auc", "MSE", "top_k_categorical_accuracy"]}, {"epochs": 1}),
], ids=lambda value: "-".join(value) or "plain")
def test_fit_is_that_of_keras(compiled, fit):
    (model, history), (reference, expected) = (fitted(library, dict(compiled), fit) for library in (tinyconv, keras))
    assert history.epoch == expected.epoch
    assert set(history.history) == set(expected.history)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=2e-5, atol=1e-6, err_msg=name)
    for own, theirs in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(own, as_numpy(theirs), rtol=1e-4, atol=1e-5)
    assert model.optimizer.iterations == int(as_numpy(reference.optimizer.iterations))


@pytest.mark.parametrize("arguments", [
    {"sample_weight": WEIGHTS}, {"batch_size": 4, "steps": 2},
], ids=lambda value: "-".join(value) or "plain")
def test_evaluate_is_that_of_keras(arguments):
    results = [fitted(library, {**WEIGHED, "regularizer": "l2"}, {"epochs": 1})[0].evaluate(
        X, Y, verbose=0, return_dict=True, **arguments) for library in (tinyconv, keras)]
    assert set(results[0]) == set(results[1])
    for name, value in results[1].items():
        assert results[0][name] == pytest.approx(value, rel=2e-5), name

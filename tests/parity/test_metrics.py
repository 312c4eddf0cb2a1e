"""Every metric of the table, fed batch by batch, has the results of Keras."""

from __future__ import annotations

import numpy as np
import pytest
from parity.cases_metrics import CASES, PLAIN
from parity.harness import (
    assert_agrees,
    assert_same_config,
    is_present,
    keras,
    libraries,
    random_array,
    tinyconv,
)
from parity.test_losses import data

BATCHES = (5, 1, 5)  # JAX compiles anew for every size
CLASSES = 4
PRESENT = [(kind, call) for kind, call in CASES if is_present(call)]
metrics = pytest.mark.parametrize(("kind", "call"), PRESENT, ids=[f"{call}-{kind}" for kind, call in PRESENT])
pytestmark = [
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning"),  # JAX has no int64
    pytest.mark.filterwarnings("ignore:You are passing weight as `float`:UserWarning"),
]


def batch(kind: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if kind == "classes":
        random = np.random.default_rng(seed)
        return random.integers(0, CLASSES, (n, 1)), random.integers(0, CLASSES, (n, 1))
    return data(kind, (n, CLASSES), seed)


@metrics
@pytest.mark.parametrize("weighted", [False, True])
def test_metric_has_the_results_of_keras(kind, call, weighted):
    tinyconv.utils.clear_session()  # some names are numbered
    keras.utils.clear_session()
    ours, theirs = libraries(call)
    assert ours.name == theirs.name
    for turn in range(2):
        for seed, n in enumerate(BATCHES):
            y_true, y_pred = batch(kind, n, 10 * turn + seed)
            # Keras cuts the weights of an IoU to integers, with a warning; tinyconv does not.
            weight = np.linspace(0.25, 1.5, n, dtype=np.float32) if weighted else None
            weight = np.ceil(weight) if weighted and call.name.endswith("IoU") else weight
            if weighted and call.name == "BinaryIoU":  # Keras wants one for each position there
                weight = np.repeat(weight[:, None], CLASSES, axis=1)
            ours.update_state(y_true, y_pred, weight)
            theirs.update_state(y_true, y_pred, weight)
            expected = keras.ops.convert_to_numpy(theirs.result())
            assert_agrees(np.asarray(ours.result()), expected, CLASSES * sum(BATCHES), f"result {seed}", scale=1.0)
        ours.reset_state()
        theirs.reset_state()
        assert_agrees(np.asarray(ours.result()), keras.ops.convert_to_numpy(theirs.result()), 1, "at the start")


@metrics
def test_metric_has_the_config_of_keras(kind, call):
    ours, theirs = libraries(call)
    assert_same_config(ours.get_config(), theirs.get_config(), {"name"})
    again = type(ours).from_config(theirs.get_config())
    assert again.get_config() == {**ours.get_config(), "name": theirs.name}


@metrics
def test_metric_improves_the_way_of_keras(kind, call):
    ours, theirs = libraries(call)
    assert ours.direction == getattr(theirs, "_direction", None)


@metrics
def test_metric_of_a_model_has_the_results_of_keras(kind, call):
    """Through evaluate, where the engine may count; batches are of unequal sizes."""
    y_true, y_pred = batch(kind, 11, 3)
    if y_pred.dtype.kind == "i":
        pytest.skip("a model puts out numbers")
    ours, theirs = libraries(call)
    sparse = kind.startswith("sparse")
    loss = "sparse_categorical_crossentropy" if sparse else "mse"
    model = tinyconv.Sequential([tinyconv.Input((CLASSES,)), tinyconv.layers.Activation("linear")])
    model.compile("sgd", loss, metrics=[ours])
    model.evaluate(np.abs(y_pred), y_true, batch_size=3)  # what was before is forgotten
    _, value = model.evaluate(y_pred, y_true, batch_size=4)
    theirs.update_state(y_true, y_pred)
    expected = keras.ops.convert_to_numpy(theirs.result())
    assert_agrees(np.asarray(value), expected, y_pred.size, "evaluate", scale=1.0)


@pytest.mark.parametrize("call", [call for call in PLAIN if is_present(call)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_metric_of_numbers_has_the_results_of_keras(call, weighted):
    ours, theirs = libraries(call)
    for seed in range(3):
        values = random_array((4,), seed)
        weight = np.linspace(0, 1, 4, dtype=np.float32) if weighted else None
        ours.update_state(values, weight)
        theirs.update_state(values, weight)
        assert_agrees(np.asarray(ours.result()), keras.ops.convert_to_numpy(theirs.result()), 12, scale=1.0)

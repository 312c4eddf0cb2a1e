"""Every loss of the table: values, weights, reductions and gradients are Keras'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity.cases_losses import CASES
from parity.harness import (
    as_numpy,
    assert_agrees,
    assert_same_config,
    is_present,
    jax,
    keras,
    libraries,
    member,
    random_array,
    tinyconv,
)

SHAPES = [(6, 4), (5, 3, 4)]
PRESENT = [(kind, call) for kind, call in CASES if is_present(call)]
losses = pytest.mark.parametrize(("kind", "call"), PRESENT, ids=[f"{call}-{kind}" for kind, call in PRESENT])
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
# Losses of a whole batch at once, not of every position.
WHOLE = {"Dice", "Tversky"}


def data(kind: str, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """y_true and y_pred of one kind."""
    random, classes = np.random.default_rng(seed), shape[-1]
    y_pred = random_array(shape, seed + 1)
    if kind.startswith("binary"):
        y_true = random.integers(0, 2, shape).astype(np.float32)
        return y_true, y_pred if "logits" in kind else 1 / (1 + np.exp(-y_pred))
    if kind == "positive":
        return np.abs(random_array(shape, seed + 2)) + np.float32(0.1), np.abs(y_pred) + np.float32(0.1)
    if kind == "signs":
        return np.sign(random_array(shape, seed + 2)), y_pred
    if kind == "numbers":
        return random_array(shape, seed + 2), y_pred
    ids = random.integers(0, classes, shape[:-1])
    y_true = ids.astype(np.int32) if kind.startswith("sparse") else np.eye(classes, dtype=np.float32)[ids]
    if "logits" in kind:
        return y_true, y_pred
    probabilities = np.exp(y_pred)
    return y_true, probabilities / probabilities.sum(-1, keepdims=True)


@losses
@shapes
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none", None, "mean",
                                       "mean_with_sample_weight"])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_has_the_value_of_keras(kind, call, shape, reduction, weighted):
    y_true, y_pred = data(kind, shape)
    call = type(call)(call.path, *call.args, **call.kwargs, reduction=reduction)
    ours, theirs = libraries(call)
    weight = np.linspace(0, 2, y_pred[..., 0].size, dtype=np.float32).reshape(shape[:-1]) if weighted else None
    if weighted and call.name in WHOLE:
        pytest.skip("one value for the whole batch")
    expected = np.asarray(theirs(y_true, y_pred, weight))
    values = as_numpy(theirs.call(y_true, y_pred))
    scale = float(np.abs(values).max()) * (values.size if reduction == "sum" else 1)
    assert_agrees(np.asarray(ours(y_true, y_pred, weight)), expected, y_pred.size, "value", scale=scale)


@losses
def test_loss_has_the_config_of_keras(kind, call):
    ours, theirs = libraries(call)
    assert_same_config(ours.get_config(), theirs.get_config(), set())
    forgotten = {"delta": ours.delta} if call.name == "Huber" else {}  # Keras does not write it
    again = type(ours).from_config({**theirs.get_config(), **forgotten})
    assert again.get_config() == ours.get_config()


@losses
@shapes
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_trains_with_the_gradient_of_keras(kind, call, shape, weighted):
    if call.name in WHOLE:
        pytest.skip("one value for the whole batch")
    if weighted and len(shape) > 2:
        pytest.skip("Keras takes weights of samples for outputs of one position only")
    y_true, y_pred = data(kind, shape)
    weight = np.linspace(0, 2, shape[0], dtype=np.float32) if weighted else None
    ours, theirs = libraries(call)
    value, gradient = jax.value_and_grad(lambda y: theirs(y_true, y, weight))(jax.numpy.asarray(y_pred))
    model = _identity(shape, ours)
    assert_agrees(model.evaluate(y_pred, y_true, sample_weight=weight), value, y_pred.size, "loss", scale=1.0)
    prepared = model._prepare(y_pred, y_true, weight)
    _, _, dx = model._executor().gradients(prepared.x, prepared.y, model._resolve().loss, input_gradient=True,
                                           sample_weight=prepared.sample_weight)
    assert_agrees(dx.reshape(shape), gradient, y_pred.size, "gradient")


def _identity(shape: tuple[int, ...], loss: Any) -> Any:
    model = tinyconv.Sequential([tinyconv.Input(shape[1:]), tinyconv.layers.Activation("linear")])
    model.compile("sgd", loss)
    return model


@losses
def test_loss_functions_have_the_values_of_keras(kind, call):
    name = type(libraries(call)[0]).function.__name__
    y_true, y_pred = data(kind, SHAPES[1])
    arguments = {key: value for key, value in call.kwargs.items() if key not in ("reduction", "name")}
    if call.args:
        pytest.skip("the arguments are those of the class")
    ours, theirs = member(tinyconv, f"losses.{name}"), member(keras, f"losses.{name}")
    assert_agrees(ours(y_true, y_pred, **arguments), np.asarray(theirs(y_true, y_pred, **arguments)), y_pred.size)


@losses
def test_loss_is_found_under_the_names_of_keras(kind, call):
    theirs = keras.losses.get(call.name)
    assert type(tinyconv.losses.get(call.name)).__name__ == type(theirs).__name__

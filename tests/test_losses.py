"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinyconv import losses
from tinyconv.engine import program
from tinyconv.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

ONE_HOT = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
PROBABILITIES = np.array([[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]], np.float32)
# -log(0.95), -log(0.1)
CROSSENTROPIES = [0.05129329, 2.30258509]


def test_categorical_crossentropy_of_probabilities():
    np.testing.assert_allclose(
        losses.categorical_crossentropy(ONE_HOT, PROBABILITIES), CROSSENTROPIES, rtol=1e-6
    )
    assert CategoricalCrossentropy()(ONE_HOT, PROBABILITIES) == pytest.approx(1.17693919, rel=1e-6)


def test_categorical_crossentropy_divides_by_the_sum():
    np.testing.assert_allclose(
        losses.categorical_crossentropy(ONE_HOT, 3 * PROBABILITIES), CROSSENTROPIES, rtol=1e-6
    )


def test_categorical_crossentropy_clips():
    loss = losses.categorical_crossentropy([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(loss, [-math.log(1e-7), -math.log(1 - 1e-7)], rtol=1e-6)


def test_categorical_crossentropy_label_smoothing():
    # y = (0.05, 0.95) of two classes at p = (0.25, 0.75)
    expected = -(0.05 * math.log(0.25) + 0.95 * math.log(0.75))
    loss = CategoricalCrossentropy(label_smoothing=0.1)([[0.0, 1.0]], [[0.25, 0.75]])
    assert loss == pytest.approx(expected, rel=1e-12)


def test_crossentropies_from_logits_agree_with_softmax():
    logits = np.array([[1.0, 2.0, 4.0], [-300.0, 0.0, 300.0]])
    expected = [math.log(math.e + math.e**2 + math.e**4) - 2.0, 0.0]
    np.testing.assert_allclose(
        losses.categorical_crossentropy(ONE_HOT, logits, from_logits=True), expected, rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(
        losses.sparse_categorical_crossentropy([1, 2], logits, from_logits=True),
        expected,
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("shape", [(2,), (2, 1)], ids=str)
def test_sparse_categorical_crossentropy_equals_the_one_hot_form(shape):
    ids = np.array([1, 2]).reshape(shape)
    np.testing.assert_allclose(
        losses.sparse_categorical_crossentropy(ids, PROBABILITIES), CROSSENTROPIES, rtol=1e-6
    )


def test_sparse_categorical_crossentropy_per_position():
    probabilities = np.broadcast_to(PROBABILITIES[:, None], (2, 4, 3))
    loss = losses.sparse_categorical_crossentropy(np.array([[1] * 4, [2] * 4]), probabilities)
    np.testing.assert_allclose(loss, np.repeat(np.array(CROSSENTROPIES)[:, None], 4, axis=1), rtol=1e-6)


def test_binary_crossentropy_of_probabilities_and_logits():
    y_true, y_pred = [[0.0, 1.0], [0.0, 0.0]], [[0.6, 0.4], [0.4, 0.6]]
    expected = [(-math.log(0.4) - math.log(0.4)) / 2, (-math.log(0.6) - math.log(0.4)) / 2]
    np.testing.assert_allclose(losses.binary_crossentropy(y_true, y_pred), expected, rtol=1e-12)
    logits = np.log(np.array(y_pred) / (1 - np.array(y_pred)))
    np.testing.assert_allclose(
        losses.binary_crossentropy(y_true, logits, from_logits=True), expected, rtol=1e-12
    )
    assert losses.binary_crossentropy([1.0], [-1000.0], from_logits=True) == 1000.0


def test_binary_crossentropy_clips_and_smooths():
    assert losses.binary_crossentropy([[1.0]], [[0.0]])[0] == pytest.approx(-math.log(1e-7), rel=1e-6)
    expected = -(0.9 * math.log(0.8) + 0.1 * math.log(0.2))
    assert BinaryCrossentropy(label_smoothing=0.2)([[1.0]], [[0.8]]) == pytest.approx(expected, rel=1e-12)


def test_mean_squared_error():
    np.testing.assert_allclose(losses.mean_squared_error([[0, 1], [0, 0]], [[1, 1], [1, 2]]), [0.5, 2.5])
    assert MeanSquaredError()([[0, 1], [0, 0]], [[1, 1], [1, 2]]) == 1.5
    assert losses.mse is losses.MSE is losses.mean_squared_error


def test_labels_of_shape_n_go_with_predictions_of_shape_n_1():
    assert losses.mean_squared_error([1.0, 2.0], [[1.0], [4.0]]).tolist() == [0.0, 4.0]
    assert losses.binary_crossentropy([1.0, 0.0], [[0.5], [0.5]]).shape == (2,)


@pytest.mark.parametrize(
    "reduction, expected",
    [("sum_over_batch_size", 1.5), ("sum", 3.0), ("none", [0.5, 2.5]), (None, [0.5, 2.5]), ("auto", 1.5)],
)
def test_reduction(reduction, expected):
    loss = MeanSquaredError(reduction=reduction)([[0, 1], [0, 0]], [[1, 1], [1, 2]])
    np.testing.assert_allclose(loss, expected)


def test_sample_weight_is_divided_by_the_batch_size_not_by_itself():
    y_true, y_pred = [[0, 1], [0, 0]], [[1, 1], [1, 2]]
    assert MeanSquaredError()(y_true, y_pred, sample_weight=[2.0, 0.0]) == 0.5
    assert MeanSquaredError()(y_true, y_pred, sample_weight=[[2.0], [4.0]]) == 5.5
    with pytest.raises(ValueError, match="sample_weight.*Received"):
        MeanSquaredError()(y_true, y_pred, sample_weight=[1.0])


def test_losses_leave_their_arguments_alone():
    y_true, y_pred = ONE_HOT.copy(), PROBABILITIES.copy()
    for array in (y_true, y_pred):
        array.flags.writeable = False
    for loss in (CategoricalCrossentropy(label_smoothing=0.1), BinaryCrossentropy(), MeanSquaredError()):
        assert math.isfinite(loss(y_true, y_pred))


@pytest.mark.parametrize(
    "loss, expected",
    [
        (CategoricalCrossentropy(), program.Loss("categorical_crossentropy")),
        (CategoricalCrossentropy(True, 0.25), program.Loss("categorical_crossentropy", True, 0.25)),
        (SparseCategoricalCrossentropy(True), program.Loss("sparse_categorical_crossentropy", True)),
        (BinaryCrossentropy(label_smoothing=0.5), program.Loss("binary_crossentropy", False, 0.5)),
        (MeanSquaredError(), program.Loss("mean_squared_error")),
    ],
    ids=repr,
)
def test_lower_and_config_round_trip(loss, expected):
    assert loss.lower() == expected and expected.kind in program.LOSSES
    config = losses.serialize(loss)
    again = losses.get(config)
    assert type(again) is type(loss) and losses.serialize(again) == config


def test_lower_refuses_other_reductions():
    with pytest.raises(ValueError, match="sum_over_batch_size.*Received.*'sum'"):
        MeanSquaredError(reduction="sum").lower()


def test_get_finds_names_functions_classes_and_configs():
    for identifier in (
        "mse",
        "MSE",
        "mean_squared_error",
        "MeanSquaredError",
        losses.mse,
        MeanSquaredError,
        {"class_name": "MeanSquaredError", "config": {"name": "x", "fn": "y"}},
        {"class_name": "function", "config": "mean_squared_error", "module": "builtins"},
    ):
        assert isinstance(losses.get(identifier), MeanSquaredError)
    for name in ("categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy"):
        assert losses.get(name).name == name
        assert losses.get(getattr(losses, name)).lower().kind == name
    loss = MeanSquaredError()
    assert losses.get(loss) is loss


@pytest.mark.parametrize(
    "identifier",
    [
        "hinge?",
        None,
        3,
        abs,
        losses.Loss,
        {},
        {"class_name": "Loss", "config": {}},
        {"class_name": "MeanSquaredError", "config": {"evil": 1}},
    ],
    ids=str,
)
def test_get_refuses_unknown(identifier):
    with pytest.raises(ValueError, match="Received:"):
        losses.get(identifier)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: losses.mean_squared_error(np.zeros((2, 3)), np.zeros((2, 4))), "same shape"),
        (lambda: losses.categorical_crossentropy([0, 1], PROBABILITIES), "same shape"),
        (lambda: losses.sparse_categorical_crossentropy([0, 3], PROBABILITIES), r"\[0, 3\)"),
        (lambda: losses.sparse_categorical_crossentropy([0, -1], PROBABILITIES), r"\[0, 3\)"),
        (lambda: losses.sparse_categorical_crossentropy([0, 0.5], PROBABILITIES), r"\[0, 3\)"),
        (lambda: losses.sparse_categorical_crossentropy([0, np.nan], PROBABILITIES), r"\[0, 3\)"),
        (lambda: losses.sparse_categorical_crossentropy(ONE_HOT, PROBABILITIES), "one class index"),
        (lambda: losses.categorical_crossentropy(ONE_HOT, PROBABILITIES, axis=1), "axis"),
        (lambda: CategoricalCrossentropy(axis=0), "axis"),
        (lambda: CategoricalCrossentropy(label_smoothing=1.5), "label_smoothing"),
        (lambda: CategoricalCrossentropy(from_logits="yes"), "from_logits"),
        (lambda: SparseCategoricalCrossentropy(ignore_class=0), "ignore_class"),
        (lambda: MeanSquaredError(reduction="median"), "reduction"),
    ],
)
def test_losses_refuse_bad_values(call, message):
    with pytest.raises(ValueError, match=message + ".*Received"):
        call()


def test_losses_refuse_what_is_no_number():
    with pytest.raises(TypeError, match="y_true.*Received"):
        losses.mean_squared_error(["a"], [1.0])
    with pytest.raises(TypeError, match="dtype"):
        MeanSquaredError(dtype="float16")

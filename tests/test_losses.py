"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest

from tinyconv import losses
from tinyconv.engine import program
from tinyconv.losses import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
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


RANDOM = np.random.default_rng(1)
REAL = RANDOM.standard_normal((4, 5))
POSITIVE = RANDOM.uniform(0.05, 0.95, (4, 5))
SIGNS = RANDOM.choice([-1.0, 1.0], (4, 5))
HOT = np.eye(5)[[0, 2, 2, 4]]


@pytest.mark.parametrize(
    "loss, y_true, y_pred",
    [
        (BinaryFocalCrossentropy(), SIGNS > 0, POSITIVE),
        (BinaryFocalCrossentropy(True, 0.3, 1.5, True, 0.2), SIGNS > 0, 3 * REAL),
        (CategoricalFocalCrossentropy(), HOT, POSITIVE),
        (CategoricalFocalCrossentropy(0.5, 3.5, True, 0.2), HOT, 3 * REAL),
        (SparseCategoricalCrossentropy(ignore_class=2), HOT.argmax(axis=1), POSITIVE),
        (losses.MeanAbsoluteError(), 2 * REAL, POSITIVE),
        (losses.MeanAbsolutePercentageError(), REAL, POSITIVE),
        (losses.MeanSquaredLogarithmicError(), POSITIVE, REAL),
        (losses.Huber(), 2 * REAL, POSITIVE),
        (losses.Huber(0.25), 2 * REAL, POSITIVE),
        (losses.LogCosh(), 2 * REAL, POSITIVE),
        (losses.Poisson(), 2 * POSITIVE, POSITIVE[::-1]),
        (losses.KLDivergence(), POSITIVE, POSITIVE[::-1]),
        (losses.Hinge(), SIGNS, REAL),
        (losses.SquaredHinge(), SIGNS, REAL),
        (losses.CategoricalHinge(), HOT, REAL),
        (losses.CosineSimilarity(), REAL, POSITIVE),
    ],
    ids=repr,
)
def test_losses_hold_the_formula(loss, y_true, y_pred):
    lowered = loss.lower()
    labels = np.asarray(y_true)[:, None]
    expected = oracles.loss(lowered.kind, y_pred[:, None], labels, lowered.from_logits, lowered.label_smoothing,
                            lowered.parameters)
    counted = np.asarray(y_true) != loss.ignore_class if hasattr(loss, "ignore_class") else np.ones(4)
    np.testing.assert_allclose(type(loss).function(y_true, y_pred, **loss.arguments()), expected, rtol=1e-6)
    assert loss(y_true, y_pred) == pytest.approx(expected.sum() / counted.sum(), rel=1e-6)
    config = losses.serialize(loss)
    assert losses.serialize(losses.get(config)) == config
    assert type(losses.get(type(loss).function)) is type(losses.get(type(loss).function.__name__)) is type(loss)


def test_hinges_take_labels_of_0_and_1_as_signs():
    for function in (losses.hinge, losses.squared_hinge):
        np.testing.assert_array_equal(function(SIGNS > 0, REAL), function(SIGNS, REAL))
    # Not where another label is among them.
    assert losses.hinge([[0.0, -1.0]], [[2.0, -3.0]]).tolist() == [0.5]


def test_logarithmic_and_percentage_errors_have_floors():
    assert losses.mape([[0.0]], [[1e-7]]).tolist() == [pytest.approx(100)]
    assert losses.msle([[0.0]], [[-5.0]]).tolist() == [0.0]
    assert losses.cosine_similarity([[0.0, 0.0]], [[1.0, 0.0]]).tolist() == [0.0]
    assert losses.kld([[0.0, 1.0]], [[0.5, 0.5]]).tolist() == [pytest.approx(np.log(2), rel=1e-5)]


def test_names_of_losses_are_those_of_keras():
    for short, cls in (("bce", BinaryCrossentropy), ("kld", losses.KLDivergence), ("mae", losses.MeanAbsoluteError),
                       ("mape", losses.MeanAbsolutePercentageError), ("mse", MeanSquaredError),
                       ("msle", losses.MeanSquaredLogarithmicError)):
        assert type(losses.get(short)) is type(losses.get(short.upper())) is cls
    assert losses.Huber().name == "huber_loss" and losses.LogCosh().name == "log_cosh"
    assert losses.KLDivergence().name == "kl_divergence"


def test_mean_with_sample_weight_divides_by_the_weights():
    loss = MeanSquaredError(reduction="mean_with_sample_weight")
    assert loss([[0, 1], [0, 0]], [[1, 1], [1, 2]]) == 1.5
    assert loss([[0, 1], [0, 0]], [[1, 1], [1, 2]], [3.0, 1.0]) == (3 * 0.5 + 2.5) / 4
    assert loss([[0, 1]], [[1, 1]], [0.0]) == 0


def test_ignored_class_is_left_out_of_the_mean():
    loss = SparseCategoricalCrossentropy(ignore_class=255)
    assert loss([1, 255], PROBABILITIES) == pytest.approx(CROSSENTROPIES[0], rel=1e-6)
    assert loss([255, 255], PROBABILITIES) == 0
    with pytest.raises(ValueError, match=r"\[0, 3\).*Received"):
        loss([1, 254], PROBABILITIES)


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


def test_lower_refuses_a_loss_without_reduction():
    with pytest.raises(ValueError, match="reduced to a number.*Received.*'none'"):
        MeanSquaredError(reduction=None).lower()


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
        (lambda: SparseCategoricalCrossentropy(ignore_class=0.5), "ignore_class"),
        (lambda: losses.Huber(0), "delta"),
        (lambda: losses.BinaryFocalCrossentropy(gamma=-1), "gamma"),
        (lambda: losses.CategoricalFocalCrossentropy(alpha=[0.5, 0.5]), "alpha"),
        (lambda: losses.CosineSimilarity(axis=0), "axis"),
        (lambda: losses.get(["mse"]), "one output"),
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

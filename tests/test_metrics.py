"""Metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import losses, metrics
from tinyconv.engine import program
from tinyconv.metrics import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    MeanAbsoluteError,
    MeanMetricWrapper,
    MeanSquaredError,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)

PREDICTIONS = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]])
ONE_HOT = np.eye(3)[[1, 1, 0, 2]]
IDS = np.array([1, 1, 0, 2])
HITS = [1, 0, 0, 1]  # a tie goes to the lowest index
TOP_2 = [1, 1, 1, 1]  # ties at the boundary count


def test_categorical_accuracies():
    assert metrics.categorical_accuracy(ONE_HOT, PREDICTIONS).tolist() == HITS
    assert metrics.sparse_categorical_accuracy(IDS, PREDICTIONS).tolist() == HITS
    assert metrics.sparse_categorical_accuracy(IDS[:, None], PREDICTIONS).tolist() == HITS


def test_top_k_counts_ties_as_hits():
    assert metrics.top_k_categorical_accuracy(ONE_HOT, PREDICTIONS, k=2).tolist() == TOP_2
    assert metrics.sparse_top_k_categorical_accuracy(IDS, PREDICTIONS, k=1).tolist() == [1, 1, 0, 1]
    assert metrics.top_k_categorical_accuracy([[1.0, 0, 0]], [[0.1, 0.5, 0.4]], k=2).tolist() == [0]
    assert metrics.top_k_categorical_accuracy([[1.0, 0, 0]], [[0.1, 0.5, 0.4]]).tolist() == [1]  # k > classes
    assert metrics.top_k_categorical_accuracy([[1.0, 0]], [[np.nan, 0.5]], k=1).tolist() == [0]


def test_binary_accuracy_and_its_threshold():
    y_true, y_pred = [[1, 1], [0, 0]], [[0.98, 0.5], [0.51, 0.2]]
    assert metrics.binary_accuracy(y_true, y_pred).tolist() == [0.5, 0.5]
    assert metrics.binary_accuracy(y_true, y_pred, threshold=0.4).tolist() == [1.0, 0.5]
    assert BinaryAccuracy(threshold=0.55)(y_true, y_pred) == 0.75
    assert metrics.binary_accuracy([1, 0], [[0.9], [0.9]]).tolist() == [1, 0]


def test_regression_metrics():
    y_true, y_pred = [[0, 1], [0, 0]], [[1, 1], [1, -3]]
    assert metrics.mean_absolute_error(y_true, y_pred).tolist() == [0.5, 2.0]
    assert metrics.mean_squared_error(y_true, y_pred).tolist() == [0.5, 5.0]
    assert MeanAbsoluteError()(y_true, y_pred) == 1.25
    assert MeanSquaredError()(y_true, y_pred) == 2.75
    assert Accuracy()([[1], [2], [3]], [[1], [2], [4]]) == pytest.approx(2 / 3)


def test_metric_is_the_mean_over_all_samples_of_all_batches():
    metric = CategoricalAccuracy()
    assert metric.result() == 0.0
    metric.update_state(ONE_HOT[:3], PREDICTIONS[:3])
    assert metric.result() == pytest.approx(1 / 3)
    metric.update_state(ONE_HOT[3:], PREDICTIONS[3:])
    assert metric.result() == 0.5
    metric.reset_state()
    assert metric(ONE_HOT, PREDICTIONS, sample_weight=[1, 0, 0, 3]) == 1.0
    with pytest.raises(ValueError, match="sample_weight.*Received"):
        metric.update_state(ONE_HOT, PREDICTIONS, sample_weight=[1.0])


def test_metric_over_positions():
    ids = np.array([[0, 1], [1, 1]])
    predictions = np.zeros((2, 2, 2))
    predictions[..., 1] = 1.0
    assert SparseCategoricalAccuracy()(ids, predictions) == 0.75
    assert SparseCategoricalAccuracy()(ids, predictions, sample_weight=[1.0, 0.0]) == 0.5


ALL = [
    (CategoricalAccuracy(), program.Metric("categorical_accuracy")),
    (SparseCategoricalAccuracy("acc"), program.Metric("sparse_categorical_accuracy")),
    (BinaryAccuracy(threshold=0.25), program.Metric("binary_accuracy", 0.25)),
    (TopKCategoricalAccuracy(3), program.Metric("top_k_categorical_accuracy", 3.0)),
    (SparseTopKCategoricalAccuracy(), program.Metric("sparse_top_k_categorical_accuracy", 5.0)),
    (MeanSquaredError(), None),
    (MeanAbsoluteError("error"), None),
    (Accuracy(), None),
]


@pytest.mark.parametrize("metric, lowered", ALL, ids=lambda v: getattr(v, "name", ""))
def test_lower_and_config_round_trip(metric, lowered):
    assert metric.lower() == lowered
    if lowered is not None:
        assert lowered.kind in program.METRICS
    config = metrics.serialize(metric)
    again = metrics.get(config)
    assert type(again) is type(metric) and metrics.serialize(again) == config


@pytest.mark.parametrize(
    "loss, output_shape, expected",
    [
        ("categorical_crossentropy", (None, 10), CategoricalAccuracy),
        ("sparse_categorical_crossentropy", (None, 10), SparseCategoricalAccuracy),
        ("binary_crossentropy", (None, 1), BinaryAccuracy),
        ("mse", (None, 1), BinaryAccuracy),
        ("binary_crossentropy", (None, 10), CategoricalAccuracy),  # Keras 3 goes by the shapes
        ("mse", (None, 28, 28, 3), CategoricalAccuracy),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "acc", "Accuracy", "ACC"])
def test_accuracy_is_chosen_as_keras_chooses(name, loss, output_shape, expected):
    metric = metrics.get(name, losses.get(loss), output_shape)
    assert type(metric) is expected
    assert metric.name == name


def test_crossentropy_metric_is_chosen_by_the_loss():
    metric = metrics.get("crossentropy", losses.get("sparse_categorical_crossentropy"), (None, 3))
    assert metric.name == "crossentropy" and metric.lower() is None
    assert metric([1], [[0.25, 0.5, 0.25]]) == pytest.approx(np.log(2))


def test_get_keeps_given_names():
    assert metrics.get("mse").name == "mse"
    assert metrics.get("mean_squared_error").name == "mean_squared_error"
    assert isinstance(metrics.get("mae"), MeanAbsoluteError)
    assert metrics.get("CategoricalAccuracy").name == "CategoricalAccuracy"
    assert metrics.get(TopKCategoricalAccuracy).k == 5
    assert isinstance(metrics.get(metrics.binary_accuracy), BinaryAccuracy)
    assert isinstance(metrics.get("top_k_categorical_accuracy"), TopKCategoricalAccuracy)
    assert isinstance(metrics.get({"class_name": "function", "config": "mae"}), MeanAbsoluteError)
    wrapped = {
        "class_name": "MeanMetricWrapper",
        "config": {"name": "accuracy", "dtype": "float32", "fn": "categorical_accuracy"},
    }
    assert isinstance(metrics.get(wrapped), CategoricalAccuracy) and metrics.get(wrapped).name == "accuracy"
    metric = CategoricalAccuracy()
    assert metrics.get(metric) is metric


def test_custom_function_is_a_metric():
    def spread(y_true, y_pred):
        return y_pred.max(axis=-1) - y_pred.min(axis=-1)

    metric = metrics.get(spread)
    assert isinstance(metric, MeanMetricWrapper) and metric.name == "spread" and metric.lower() is None
    assert metric(ONE_HOT, PREDICTIONS) == pytest.approx((0.6 + 0.2 + 0.1 + 0.4) / 4)
    whole = MeanMetricWrapper(lambda y_true, y_pred: 0.25, name="whole")
    whole.update_state(ONE_HOT, PREDICTIONS)
    assert whole.result() == 0.25 and whole.count == 1  # of a batch


def test_custom_function_must_give_a_value_per_sample():
    with pytest.raises(ValueError, match="4 samples.*Received"):
        metrics.get(lambda y_true, y_pred: np.zeros(3))(ONE_HOT, PREDICTIONS)
    with pytest.raises(TypeError, match="numbers.*Received"):
        metrics.get(lambda y_true, y_pred: ["a"] * 4)(ONE_HOT, PREDICTIONS)


@pytest.mark.parametrize(
    "identifier",
    [
        "accurate",
        None,
        3,
        {},
        {"class_name": "eval", "config": {}},
        {"class_name": "BinaryAccuracy", "config": {"evil": 1}},
    ],
    ids=str,
)
def test_get_refuses_unknown(identifier):
    with pytest.raises(ValueError, match="Received:"):
        metrics.get(identifier)


@pytest.mark.parametrize(
    "create",
    [
        lambda: TopKCategoricalAccuracy(0),
        lambda: TopKCategoricalAccuracy(2.5),
        lambda: BinaryAccuracy(threshold=2),
        lambda: MeanMetricWrapper(3),
        lambda: CategoricalAccuracy(name=3),
    ],
)
def test_metrics_refuse_bad_arguments(create):
    with pytest.raises(ValueError, match="Expected .*Received:"):
        create()

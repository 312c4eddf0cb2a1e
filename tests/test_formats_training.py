"""Compile settings in the form of TensorFlow.js and Keras 2, and in full in this package's own part."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from formats_cases import data, read_description, same_bits, small_model, write_description

from tinyconv import load_model, losses, metrics, optimizers
from tinyconv.formats.training import read_training_config, write_training_config

ADAM = {"class_name": "Adam", "config": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07}}


def settings(loss: Any = "mse", asked: Any = (), **more: Any) -> dict[str, Any]:
    return {"optimizer": optimizers.serialize(optimizers.Adam()), "loss": loss, "metrics": list(asked), **more}


@pytest.mark.parametrize(("loss", "written"), [
    (losses.MeanSquaredError, "mean_squared_error"),
    (losses.MeanAbsoluteError, "mean_absolute_error"),
    (losses.MeanAbsolutePercentageError, "mean_absolute_percentage_error"),
    (losses.MeanSquaredLogarithmicError, "mean_squared_logarithmic_error"),
    (losses.Hinge, "hinge"),
    (losses.SquaredHinge, "squared_hinge"),
    (losses.CategoricalHinge, "categorical_hinge"),
    (losses.LogCosh, "logcosh"),
    (losses.KLDivergence, "kullback_leibler_divergence"),
    (losses.Poisson, "poisson"),
    (losses.CosineSimilarity, "cosine_proximity"),
    (losses.BinaryCrossentropy, "binary_crossentropy"),
    (losses.CategoricalCrossentropy, "categorical_crossentropy"),
    (losses.SparseCategoricalCrossentropy, "sparse_categorical_crossentropy"),
], ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_loss_goes_by_the_name_of_tensorflow_js_and_comes_back(loss: Any, written: str) -> None:
    config = write_training_config(settings(losses.serialize(loss())), 4, False)
    assert config == {"loss": written, "metrics": [], "optimizer_config": ADAM}
    assert type(losses.get(read_training_config(config)["loss"])) is loss


@pytest.mark.parametrize("loss", [
    losses.Huber(), losses.BinaryFocalCrossentropy(), losses.CategoricalFocalCrossentropy(),
    losses.MeanSquaredError(reduction="sum"), losses.BinaryCrossentropy(from_logits=True),
    losses.SparseCategoricalCrossentropy(ignore_class=255),
], ids=repr)
def test_loss_that_tensorflow_js_lacks_is_not_written(loss: losses.Loss) -> None:
    assert write_training_config(settings(losses.serialize(loss)), 4, False) is None


def test_weight_of_the_loss_is_not_dropped() -> None:
    assert write_training_config(settings(loss_weights=0.5), 4, False) is None


@pytest.mark.parametrize(("metric", "written"), [
    ("acc", "acc"), ("ce", "ce"), ("MSE", "mse"), ("mean_absolute_percentage_error", "mape"),
    ("MeanSquaredError", "mse"), (metrics.MeanAbsoluteError(), "mae"), (metrics.BinaryAccuracy(), "binary_accuracy"),
    (metrics.CategoricalCrossentropy(), "categorical_crossentropy"),
    (metrics.BinaryAccuracy(threshold=0.4), None), (metrics.CategoricalCrossentropy(label_smoothing=0.1), None),
    (metrics.Accuracy(), None), (metrics.CosineSimilarity(), None), (metrics.Precision(), None),
    (metrics.MeanIoU(3), None), ("top_k_categorical_accuracy", None),
], ids=repr)
def test_metric_goes_by_the_name_of_tensorflow_js_or_is_left_out(metric: Any, written: str | None) -> None:
    asked = metric if isinstance(metric, str) else metrics.serialize(metric)
    config = write_training_config(settings("categorical_crossentropy", [asked]), 4, False)
    assert config is not None and config["metrics"] == ([] if written is None else [written])


@pytest.mark.parametrize(("loss", "outputs", "written"), [
    ("binary_crossentropy", 1, ["accuracy", "ce"]),
    ("binary_crossentropy", 3, ["categorical_accuracy", "categorical_crossentropy"]),
    ("categorical_crossentropy", 3, ["accuracy", "ce"]),
])
def test_short_names_of_metrics_mean_the_same_there(loss: str, outputs: int, written: list[str]) -> None:
    config = write_training_config(settings(loss, ["accuracy", "ce"]), outputs, False)
    assert config is not None and config["metrics"] == written


@pytest.mark.parametrize(("optimizer", "has_state", "class_name"), [
    (optimizers.Adagrad(), True, "Adagrad"), (optimizers.Adagrad(epsilon=1e-6), True, None),
    (optimizers.Adamax(), False, "Adamax"), (optimizers.Adamax(), True, None), (optimizers.RMSprop(), True, "RMSProp"),
    (optimizers.RMSprop(centered=True), False, None), (optimizers.Adadelta(), False, None),
    (optimizers.Adam(amsgrad=True), False, None), (optimizers.SGD(0.1, clipvalue=1.0), False, None),
], ids=repr)
def test_optimizer_is_written_where_its_steps_are_the_same_there(optimizer: Any, has_state: bool,
                                                                  class_name: str | None) -> None:
    config = write_training_config({**settings(), "optimizer": optimizers.serialize(optimizer)}, 4, has_state)
    assert (config and config["optimizer_config"]["class_name"]) == class_name
    if config is not None:
        assert read_training_config(config)["optimizer"] == optimizers.serialize(optimizer)


def test_decay_of_keras_2_is_a_schedule() -> None:
    config = {"loss": "mse", "optimizer_config": {"class_name": "SGD", "config": {"lr": 0.5, "decay": 0.25}}}
    rate = optimizers.deserialize(read_training_config(config)["optimizer"])._learning_rate
    assert [float(rate(step)) for step in (0, 4)] == [0.5, 0.25]


def test_schedule_of_keras_2s_nadam_is_the_one_there_is() -> None:
    config: dict[str, Any] = {"loss": "mse", "optimizer_config": {"class_name": "Nadam", "config": {
        "lr": 0.5, "schedule_decay": 0.004}}}
    assert read_training_config(config)["optimizer"] == optimizers.serialize(optimizers.Nadam(0.5))
    config["optimizer_config"]["config"]["schedule_decay"] = 0.1
    with pytest.raises(ValueError, match="schedule_decay"):
        read_training_config(config)


@pytest.mark.parametrize(("written", "read"), [
    ("meanSquaredError", "mean_squared_error"), ("MSE", "MSE"), (["hinge"], "hinge"), ("logcosh", "log_cosh"),
    ("cosineProximity", "cosine_similarity"), ("kullbackLeiblerDivergence", "kl_divergence"),
])
def test_loss_is_read_under_its_old_names(written: Any, read: str) -> None:
    found = read_training_config({"loss": written, "optimizer_config": ADAM})["loss"]
    assert found == read
    losses.get(found)


def test_settings_of_keras_2_are_read() -> None:
    config = {
        "loss": {"class_name": "CategoricalCrossentropy", "config": {
            "reduction": "auto", "name": "categorical_crossentropy", "from_logits": False, "label_smoothing": 0.1,
            "axis": -1}},
        "metrics": [[{"class_name": "Precision", "config": {
            "name": "p", "dtype": "float32", "thresholds": None, "top_k": None, "class_id": 1}}]],
        "weighted_metrics": ["accuracy", {"class_name": "AUC", "config": {
            "name": "auc", "dtype": "float32", "num_thresholds": 200, "curve": "ROC",
            "summation_method": "interpolation", "multi_label": False, "num_labels": None, "label_weights": None,
            "from_logits": False}}],
        "sample_weight_mode": None, "loss_weights": [0.5], "optimizer_config": ADAM,
    }
    model = small_model()
    model.compile_from_config(read_training_config(config))
    assert model.metrics_names == ["loss", "p", "accuracy", "auc"]
    found = model.get_compile_config()
    assert found is not None and found["loss_weights"] == 0.5
    assert found["loss"]["config"]["label_smoothing"] == 0.1
    assert found["metrics"][0]["config"]["class_id"] == 1


@pytest.mark.parametrize("nothing", [None, [], {}], ids=str)
def test_no_weight_of_the_loss_may_be_an_empty_one(nothing: Any) -> None:
    config = {"loss": "mse", "loss_weights": nothing, "weighted_metrics": nothing, "optimizer_config": ADAM}
    assert read_training_config(config).keys() == {"optimizer", "loss", "metrics"}


def test_all_settings_come_back_and_training_goes_on(tmp_path: Path) -> None:
    x, y = data()
    model = small_model()
    model.compile(optimizers.Adam(0.01), losses.CategoricalFocalCrossentropy(gamma=1.5, reduction="sum"),
                  loss_weights=0.25, metrics=["acc", metrics.F1Score("macro"), metrics.AUC(20, "PR", name="pr")],
                  weighted_metrics=[metrics.MeanAbsoluteError(name="m"), metrics.MeanIoU(4)])
    model.fit(x, y, verbose=0)
    model.save(tmp_path)
    assert "trainingConfig" not in read_description(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_model(tmp_path)
    assert loaded.get_compile_config() == model.get_compile_config()
    histories = [each.fit(x, y, epochs=2, verbose=0).history for each in (model, loaded)]
    assert histories[0] == histories[1]
    assert same_bits(model, loaded)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"loss": "ctc"}, "ctc"), ({"loss": ["mse", "mse"]}, "one output"), ({"metrics": ["cosineProximity"]}, "cosine"),
    ({"metrics": ["sparse_categorical_accuracy"]}, "vectors"), ({"sample_weight_mode": "temporal"}, "temporal"),
    ({"loss_weights": {"dense": 2.0}}, "loss_weights"),
    ({"weighted_metrics": [{"class_name": "MeanIoU", "config": {}}]}, "num_classes"),
    ({"optimizer_config": None}, "optimizer_config"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_model_of_settings_that_are_lacking_is_loaded_uncompiled(tmp_path: Path, changes: Any, reason: str) -> None:
    model = small_model()
    model.compile("adam", "categorical_crossentropy")
    model.save(tmp_path)
    document = read_description(tmp_path)
    del document["userDefinedMetadata"]
    document["trainingConfig"].update(changes)
    write_description(tmp_path, document)
    with pytest.warns(UserWarning, match=f"not compiled.*{reason}") as record:
        loaded = load_model(tmp_path)
    assert len(record) == 1 and "\n" not in str(record[0].message)
    assert not loaded.compiled
    assert same_bits(model, loaded)

"""compile: its arguments, and what an optimizer, a loss and metrics are to a model."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import training_helpers
from training_helpers import CLASSES, X, Y, assert_same_weights, dense_model

from tinyconv import Sequential, layers, losses, metrics, models, optimizers
from tinyconv.callbacks import LambdaCallback

blobs = training_helpers.blobs  # a fixture


# --- compile ---

def test_fit_without_compile_says_so():
    model = Sequential([layers.Dense(2, input_shape=(6,))])
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="must be compiled first"):
            call(X, Y)
    assert model.get_compile_config() is None
    assert not model.compiled


@pytest.mark.parametrize("arguments", [
    {"loss": None}, {"loss": "nothing"}, {"optimizer": "nothing"}, {"metrics": ["nothing"]},
    {"loss_weights": [1.0, 2.0]}, {"loss_weights": "a"}, {"weighted_metrics": ["nothing"]},
    {"metrics": ["sparse_categorical_accuracy"]}, {"metrics": ["MeanIoU"]}, {"loss": ["mse", "mae"]}, {"loss": []},
    {"metrics": [["nothing"]]},
    {"loss": losses.MeanSquaredError(reduction="none")},
])
def test_compile_refuses_what_it_does_not_know(arguments):
    model = Sequential([layers.Dense(CLASSES, input_shape=(6,))])
    with pytest.raises(ValueError, match="Received: "):
        model.compile(**{"optimizer": "sgd", "loss": "categorical_crossentropy", **arguments})


@pytest.mark.parametrize("optimizer", ["sgd", optimizers.SGD, "instance"], ids=["string", "class", "instance"])
@pytest.mark.parametrize("loss", ["mse", losses.MeanSquaredError, losses.MeanSquaredError(),
                                  losses.mean_squared_error], ids=["string", "class", "instance", "function"])
def test_compile_takes_every_form(optimizer, loss):
    model = Sequential([layers.Dense(CLASSES, input_shape=(6,))], seed=1)
    optimizer = optimizers.SGD() if optimizer == "instance" else optimizer
    model.compile(optimizer, loss, metrics="mae", jit_compile=False, run_eagerly=False)
    assert isinstance(model.optimizer, optimizers.SGD)
    assert len(model.train_on_batch(X, Y)) == 2


ONES = np.ones((8, 6), np.float32)


def _optimized(optimizer, frozen: bool = False) -> Sequential:
    """A model of two layers after a step of training."""
    model = Sequential([layers.Dense(4, input_shape=(6,)), layers.Dense(CLASSES)], seed=1)
    model.layers[0].trainable = not frozen
    model.compile(optimizer, "mse")
    model.fit(ONES, Y, batch_size=len(ONES), verbose=0)
    return model


def test_an_optimizer_goes_on_when_its_model_is_compiled_again():
    once, twice = _optimized(optimizers.Adam()), _optimized(optimizers.Adam())
    twice.compile(twice.optimizer, "mse")
    for model in (once, twice):
        model.fit(ONES, Y, batch_size=len(ONES), verbose=0)
        assert model.optimizer.iterations == 2
    assert_same_weights(once, twice)


@pytest.mark.parametrize("change", ["other model", "thawed", "thawed and compiled", "added", "replaced"])
def test_an_optimizer_refuses_weights_that_it_was_not_built_for(change):
    model = _optimized(optimizers.Adam(), frozen="thawed" in change)
    optimizer = model.optimizer
    if change == "other model":
        model = Sequential.from_config(model.get_config())
    elif change == "replaced":
        model.pop()
    if "thawed" in change:
        model.layers[0].trainable = True
    elif change != "other model":
        model.add(layers.Dense(CLASSES))
    if change != "thawed":
        model.compile(optimizer, "mse")
    before, state = model.get_weights(), optimizer.get_weights()
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match="'adam' was built for other weights: compile .*Received: .* of shape"):
            train(ONES, Y)
    model.evaluate(ONES, Y, verbose=0)  # needs no optimizer
    for one, other in zip([*before, *state], [*model.get_weights(), *optimizer.get_weights()], strict=True):
        np.testing.assert_array_equal(one, other)
    model.compile("adam", "mse")
    model.fit(ONES, Y, verbose=0)


def test_an_optimizer_keeps_the_state_of_frozen_and_popped_layers():
    model = _optimized(optimizers.Adam())
    count, moments = len(model.optimizer.get_weights()), model.optimizer.state_of(model.weights[0])
    model.layers[0].trainable = False
    model.compile(model.optimizer, "mse")
    kept = [array.copy() for array in moments]
    model.fit(ONES, Y, verbose=0)
    assert len(model.optimizer.get_weights()) == count
    np.testing.assert_array_equal(model.optimizer.state_of(model.weights[0]), kept)
    model.layers[0].trainable = True
    model.fit(ONES, Y, verbose=0)  # trained once already: known
    assert not np.array_equal(moments[0], kept[0])
    model.pop()
    model.fit(ONES, np.zeros((len(ONES), 4), np.float32), verbose=0)
    assert len(model.optimizer.get_weights()) == count


def test_averages_of_frozen_weights_do_not_overwrite_them():
    model = _optimized(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    model.layers[0].trainable = False
    model.layers[0].set_weights([np.ones((6, 4)), np.ones(4)])
    model.fit(ONES, Y, verbose=0)
    assert (model.get_weights()[0] == 1).all() and (model.get_weights()[1] == 1).all()
    np.testing.assert_array_equal(model.get_weights()[2], model.optimizer.state_of(model.weights[2])[0])


def test_compile_config_round_trip(blobs):
    model = dense_model(metrics=["acc", metrics.TopKCategoricalAccuracy(3)],
                        loss=losses.CategoricalCrossentropy(label_smoothing=0.1),
                        optimizer=optimizers.SGD(0.1, momentum=0.9, nesterov=True))
    again = Sequential.from_config(model.get_config())
    again.compile_from_config(model.get_compile_config())
    assert again.get_compile_config() == model.get_compile_config()
    again.set_weights(model.get_weights())
    x, _, y = blobs
    assert again.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert_same_weights(model, again)


def test_compile_config_leaves_functions_out():
    model = dense_model(metrics=["accuracy", lambda y_true, y_pred: y_pred[:, 0]])
    with pytest.warns(UserWarning, match="Python function"):
        assert model.get_compile_config()["metrics"] == ["accuracy"]


def test_models_built_by_their_first_data_train(blobs):
    x, _, y = blobs
    model = Sequential([layers.Dense(CLASSES, activation="softmax")], seed=1)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    with pytest.raises(ValueError, match="must be built first"):
        model.metrics_names  # noqa: B018
    assert set(model.fit(x, y, verbose=0).history) == {"loss", "accuracy"}


def test_exception_in_a_callback_leaves_a_usable_model(blobs):
    x, _, y = blobs
    model = dense_model()

    def fail(batch, logs):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(x, y, verbose=1, callbacks=LambdaCallback(on_train_batch_end=fail))
    assert model.optimizer.iterations == 1
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()
    model.fit(x, y, verbose=0)


# --- optimizers ---

def _tiny(optimizer=None, seed=4):
    model = Sequential([layers.Dense(3, input_shape=(4,))], seed=seed)
    model.compile(loss="mse", **({} if optimizer is None else {"optimizer": optimizer}))
    return model, np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4), np.ones((12, 3), np.float32)


def test_compile_defaults_to_rmsprop():
    assert type(_tiny()[0].optimizer) is optimizers.RMSprop


@pytest.mark.parametrize("fails", [False, True])
def test_weights_are_their_average_when_fit_ends(fails):
    def stop(epoch, logs):
        if fails and epoch == 1:
            raise RuntimeError("stop")

    model, x, y = _tiny(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    try:
        model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[LambdaCallback(on_epoch_end=stop)])
    except RuntimeError:
        assert fails
    for weight, (average,) in zip(model.get_weights(), model.optimizer.state, strict=True):
        np.testing.assert_array_equal(weight, average)
    np.testing.assert_allclose(model.predict(x), x @ model.get_weights()[0] + model.get_weights()[1], rtol=1e-5)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    together, x, y = _tiny(optimizers.SGD(0.1))
    apart, *_ = _tiny(optimizers.SGD(0.1, gradient_accumulation_steps=3))
    together.fit(x, y, batch_size=12, epochs=2, shuffle=False, verbose=0)
    apart.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert (apart.optimizer.iterations, apart.optimizer.batches) == (2, 6)
    for one, other in zip(together.get_weights(), apart.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# --- losses and metrics of a model ---

def keras_line(loss, **arguments):
    """The model of the figures below, and its data: ten samples of three features, two targets."""
    x = np.arange(30, dtype=np.float32).reshape(10, 3) / 10
    y = np.arange(20, dtype=np.float32).reshape(10, 2) / 7
    model = Sequential([layers.Dense(2, kernel_initializer="ones", input_shape=(3,))])
    model.compile(optimizers.SGD(0.01), loss, **arguments)
    return model, x, y


# What Keras 3.15 (JAX) makes of an epoch of batches of four: loss, two weights, and the loss evaluated.
@pytest.mark.parametrize(("reduction", "weighted", "loss", "weights", "evaluated"), [
    ("sum", False, 25.54545783996582, [0.5764307, 0.58895874], 3.133620023727417),
    ("sum", True, 243.2752227783203, [2.55176, 2.4858875], 2626.972412109375),
    ("mean", False, 10.611871719360352, [0.80539757, 0.8112249], 5.633681297302246),
    ("sum_over_batch_size", True, 38.83561325073242, [0.16161825, 0.17870268], 10.898788452148438),
    ("mean_with_sample_weight", False, 10.611871719360352, [0.80539757, 0.8112249], 5.633681297302246),
    ("mean_with_sample_weight", True, 11.23280143737793, [0.797336, 0.80350107], 5.814122200012207),
])
def test_reductions_train_as_in_keras(reduction, weighted, loss, weights, evaluated):
    model, x, y = keras_line(losses.MeanSquaredError(reduction=reduction))
    weight = np.arange(10, dtype=np.float32) if weighted else None
    history = model.fit(x, y, batch_size=4, sample_weight=weight, shuffle=False, verbose=0).history
    # Eight figures were printed; float32 rounding grows with the diverging weights.
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(model.get_weights()[0].ravel()[:2], weights, rtol=1e-5)
    assert model.evaluate(x, y, batch_size=4, sample_weight=weight, verbose=0) == pytest.approx(evaluated, rel=1e-4)


@pytest.mark.parametrize("loss_weights", [0.5, [0.5]], ids=str)
def test_loss_weights_scale_the_loss_as_in_keras(loss_weights):
    model, x, y = keras_line("mse", loss_weights=loss_weights)
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(5.659491062164307, rel=1e-5)
    np.testing.assert_allclose(model.get_weights()[0].ravel()[:2], [0.8983644, 0.90147924], rtol=1e-5)


def test_weighted_metrics_count_samples_by_their_weights_as_in_keras():
    model, x, y = keras_line("mse", metrics=["mse"], weighted_metrics=["mse", "mae"])
    weight = np.arange(10, dtype=np.float32)
    history = model.fit(x, y, batch_size=4, sample_weight=weight, shuffle=False, verbose=0).history
    assert list(history) == ["loss", "mae", "mse", "weighted_mse"]
    assert history["mse"][0] == pytest.approx(6.591233253479004, rel=1e-5)
    assert history["weighted_mse"][0] == pytest.approx(8.630136489868164, rel=1e-5)
    plain = model.evaluate(x, y, verbose=0, return_dict=True)
    assert plain["mse"] == pytest.approx(plain["weighted_mse"])
    config = model.get_compile_config()
    assert config["weighted_metrics"] == ["mse", "mae"] and "loss_weights" not in config


@pytest.mark.parametrize("one_hot", [False, True], ids=["sparse", "one-hot"])
def test_class_weight_is_a_sample_weight_for_loss_and_weighted_metrics(one_hot):
    labels = np.arange(10) % 3
    x = np.arange(30, dtype=np.float32).reshape(10, 3) / 10
    loss = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    y = np.eye(3, dtype=np.float32)[labels] if one_hot else labels
    results = []
    for arguments in ({"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}},
                      {"sample_weight": np.array([1, 3, 0.5], np.float32)[labels]}):
        model = Sequential([layers.Dense(3, "softmax", input_shape=(3,))], seed=1)
        model.compile("sgd", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
        results.append([model.fit(x, y, shuffle=False, verbose=0, **arguments).history,
                        model.train_on_batch(x, y, return_dict=True, **arguments)])
    assert results[0] == results[1]
    assert list(results[0][1]) == ["accuracy", "loss", "weighted_accuracy"]


def test_ignored_class_neither_trains_nor_counts():
    x = np.random.default_rng(1).standard_normal((12, 3)).astype(np.float32)
    y = np.arange(12) % 4
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=3)
    weights, history = [], []
    for kept in (slice(None), y != 3):
        model = Sequential([layers.Dense(3, input_shape=(3,))], seed=2)
        model.compile("sgd", loss)
        history.append(model.fit(x[kept], y[kept], batch_size=12, shuffle=False, verbose=0).history["loss"][0])
        weights.append(model.get_weights()[0])
    assert history[0] == pytest.approx(history[1], rel=1e-6)
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-5, atol=1e-7)


def test_metrics_of_many_numbers_are_arrays_in_the_history(capsys):
    x, y = np.ones((6, 3), np.float32), np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 0]]
    model = Sequential([layers.Dense(2, "softmax", input_shape=(3,))])
    model.compile("sgd", "mse", metrics=["f1_score", metrics.Precision([0.2, 0.7]), "AUC"])
    history = model.fit(x, y, verbose=2).history
    assert history["f1_score"][0].shape == (2,) and isinstance(history["AUC"][0], float)
    assert "f1_score: 0." in capsys.readouterr().out


def test_compile_with_a_metric_that_does_not_fit_changes_nothing():
    model = Sequential([layers.Dense(3, activation="softmax", input_shape=(4,))])
    with pytest.raises(ValueError, match="labels that are vectors"):
        model.compile("adam", "categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
    assert not model.compiled
    model.compile("adam", "mse", metrics=["mae"])
    with pytest.raises(ValueError, match="labels that are vectors"):
        model.compile("sgd", "categorical_crossentropy", weighted_metrics=["acc"],
                      metrics=["sparse_categorical_accuracy"])
    assert model.metrics_names == ["loss", "mae"] and type(model.optimizer).__name__ == "Adam"


def test_averages_of_an_earlier_training_are_not_put_back(blobs):
    x, _, y = blobs
    model = dense_model(optimizer=optimizers.SGD(0.1, use_ema=True))
    model.fit(x, y, epochs=2, verbose=0)
    fresh = [np.zeros_like(weight) for weight in model.get_weights()]
    model.set_weights(fresh)
    model.fit(x, y, epochs=0, verbose=0)

    def refuse(logs):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(x, y, verbose=0, callbacks=LambdaCallback(on_train_begin=refuse))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), fresh, strict=True))


def test_metrics_given_as_classes_keep_one_name(blobs):
    x, _, y = blobs
    model = dense_model(metrics=[metrics.Precision, {"class_name": "Recall", "config": {}}])
    names = model.metrics_names
    history = model.fit(x, y, verbose=0)
    model.layers[0].trainable = False
    again = model.fit(x, y, verbose=0)
    assert model.metrics_names == names
    assert set(history.history) == set(again.history) == set(names)


def test_names_of_metrics_are_keras_names_and_never_hide_the_loss():
    def MeanError(y_true, y_pred):
        return abs(y_true - y_pred).mean(axis=-1)

    model = dense_model(metrics=[MeanError, lambda y_true, y_pred: y_pred[:, 0],
                                 metrics.CategoricalAccuracy(name="loss")])
    history = model.fit(X, Y, verbose=0).history
    assert set(history) == {"loss", "mean_error", "lambda", "loss_1"}
    assert model.metrics_names == ["loss", "mean_error", "lambda", "loss_1"]
    plain = dense_model(metrics=[])
    assert history["loss"] == plain.fit(X, Y, verbose=0).history["loss"]


def test_metric_of_several_results_is_refused_in_a_line():
    class Several(metrics.Metric):
        def update_state(self, y_true, y_pred, sample_weight=None):
            pass

        def result(self):
            return {"a": 1.0, "b": 2.0}

        def reset_state(self):
            pass

    with pytest.raises(TypeError, match="Expected the result of a metric to be a number or an array. Received: {'a'"):
        dense_model(metrics=[Several(name="several")]).fit(X, Y, verbose=0)


def changed_since_compile():
    """A model whose metrics fitted the output that it had."""
    model = Sequential([layers.Input((6,)), layers.Dense(CLASSES, activation="softmax")], seed=1)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.add(layers.Dense(1))
    return model


def test_model_whose_layers_changed_since_compile_is_saved_and_cloned(tmp_path):
    model = changed_since_compile()
    with pytest.raises(ValueError, match="Expected a metric for labels that are class ids"):
        model.fit(X, np.arange(8) % CLASSES, verbose=0)
    model.save(tmp_path / "model")
    for again in (models.load_model(tmp_path / "model"), models.clone_model(model)):
        assert again.get_compile_config() == model.get_compile_config()
        with pytest.raises(ValueError, match="Expected a metric for labels that are class ids"):
            again.fit(X, np.arange(8) % CLASSES, verbose=0)


def test_layers_that_a_frozen_model_was_given_stay_frozen_when_it_is_saved(tmp_path):
    model = Sequential([layers.Input((6,)), layers.Dense(4)], seed=1)
    model.trainable = False
    model.add(layers.Dense(CLASSES, activation="softmax"))
    model.compile("adam", "categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model")
    copies = [models.load_model(tmp_path / "model"), models.clone_model(model),
              Sequential.from_config(model.get_config())]
    for again in copies:
        assert again.trainable_weights == []
        again.set_weights(model.get_weights())
        if again.compiled:
            again.fit(X, Y, verbose=0)
        assert_same_weights(again, model)


@pytest.mark.parametrize(("loss", "found"), [
    (["mse"], ["mae", "accuracy"]), (("mse",), [["mae", "accuracy"]]),
    ([losses.MeanSquaredError()], ["mae", ["accuracy"]]), ([["mse"]], (("mae",), ("accuracy",))),
], ids=str)
def test_lists_of_the_one_output_are_taken_as_in_keras(loss, found, blobs):
    x, _, y = blobs
    plain, listed = (dense_model(loss="mse", metrics=["mae", "accuracy"]) for _ in range(2))
    listed.compile("adam", loss, metrics=found, weighted_metrics=[["mse"]], loss_weights=[1.0])
    plain.compile("adam", "mse", metrics=["mae", "accuracy"], weighted_metrics=["mse"])
    assert listed.fit(x, y, verbose=0).history == plain.fit(x, y, verbose=0).history
    assert listed.get_compile_config()["metrics"] == ["mae", "accuracy"]
    listed.compile_from_config(listed.get_compile_config())
    assert listed.metrics_names == ["loss", "mae", "accuracy", "mse"]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
                         ids=["copy", "deepcopy", "pickle"])
def test_copies_of_an_optimizer_are_built_for_no_weights(duplicate, blobs):
    x, _, y = blobs
    optimizer = optimizers.Adam(0.03, weight_decay=0.1, use_ema=True)
    model = dense_model(optimizer=optimizer)
    optimizer.exclude_from_weight_decay([model.weights[0]], ["bias"])
    model.fit(x, y, epochs=2, verbose=0)
    state = optimizer.get_weights()
    other = duplicate(optimizer)
    assert (other.built, other.batches, other.state) == (False, 0, [])
    assert other.get_config() == optimizer.get_config()
    # As one that was never built; weights that do not decay are known by their names alone.
    again = optimizers.Adam(0.03, weight_decay=0.1, use_ema=True)
    again.exclude_from_weight_decay(var_names=["bias"])
    copied, made = dense_model(optimizer=other), dense_model(optimizer=again)
    for network in (copied, made):
        network.fit(x, y, epochs=2, verbose=0)
    assert_same_weights(copied, made)
    for array, kept in zip(optimizer.get_weights(), state, strict=True):
        np.testing.assert_array_equal(array, kept)
    model.fit(x, y, verbose=0)

"""Regularizers and constraints: their configs, and what they do to layers and models."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tinyconv import Sequential, constraints, layers, load_model, regularizers
from tinyconv.constraints import MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from tinyconv.optimizers import SGD
from tinyconv.regularizers import L1, L1L2, L2

REGULARIZERS = [(L1(), {"l1": 0.01}), (L2(), {"l2": 0.01}), (L1L2(), {"l1": 0.0, "l2": 0.0}),
                (L1L2(0.5, 0.25), {"l1": 0.5, "l2": 0.25}), (L2(0.125), {"l2": 0.125})]
CONSTRAINTS = [(MaxNorm(), {"max_value": 2, "axis": 0}), (UnitNorm(), {"axis": 0}), (NonNeg(), {}),
               (MinMaxNorm(), {"min_value": 0.0, "max_value": 1.0, "rate": 1.0, "axis": 0}),
               (MaxNorm(np.float32(1.5)), {"max_value": 1.5, "axis": 0}),
               (MaxNorm(3.0, axis=(0, 1, 2)), {"max_value": 3.0, "axis": [0, 1, 2]}), (UnitNorm(-1), {"axis": -1})]
RULES = [(regularizers, *case) for case in REGULARIZERS] + [(constraints, *case) for case in CONSTRAINTS]


@pytest.mark.parametrize(("module", "rule", "config"), RULES, ids=[repr(rule) for _, rule, _ in RULES])
def test_config_is_keras_and_survives_a_round_trip(module, rule, config):
    assert rule.get_config() == config
    again = module.get(json.loads(json.dumps(module.serialize(rule))))
    assert type(again) is type(rule) and repr(again) == repr(rule)
    keras = {"module": "keras", "class_name": type(rule).__name__, "config": config, "registered_name": None}
    assert repr(module.get(keras)) == repr(rule)


@pytest.mark.parametrize(("module", "name", "expected"), [
    (regularizers, "l1", L1), (regularizers, "l2", L2), (regularizers, "l1_l2", L1L2), (regularizers, "L1L2", L1L2),
    (constraints, "max_norm", MaxNorm), (constraints, "non_neg", NonNeg), (constraints, "UnitNorm", UnitNorm),
    (constraints, "min_max_norm", MinMaxNorm),
], ids=lambda value: value if isinstance(value, str) else "")
def test_get_finds_names_classes_and_instances(module, name, expected):
    assert type(module.get(name)) is expected and type(module.get(expected)) is expected
    instance = expected()
    assert module.get(instance) is instance and module.get(None) is None


@pytest.mark.parametrize("identifier", ["l3", 3, dict, {}, {"class_name": "os"},
                                        {"class_name": "L2", "config": {"x": 1}},
                                        {"class_name": "OrthogonalRegularizer", "config": {"factor": 0.1}}, abs],
                         ids=str)
@pytest.mark.parametrize("module", [regularizers, constraints], ids=["regularizers", "constraints"])
def test_get_refuses_unknown(module, identifier):
    with pytest.raises(ValueError, match="Received:"):
        module.get(identifier)


@pytest.mark.parametrize(("make", "name"), [
    (lambda: L1(-1.0), "l1"), (lambda: L2(math.inf), "l2"), (lambda: L1L2(0.1, "x"), "l2"),
    (lambda: MaxNorm(-1), "max_value"), (lambda: MaxNorm(axis=0.5), "axis"), (lambda: UnitNorm([]), "axis"),
    (lambda: UnitNorm(True), "axis"), (lambda: MinMaxNorm(rate=1.5), "rate"), (lambda: MinMaxNorm(-1.0), "min_value"),
])
def test_bad_arguments_are_refused(make, name):
    with pytest.raises(ValueError, match=f"{name}.*Received: {name}="):
        make()


def test_rules_can_be_called():
    w = np.array([[3.0, -1.0], [-4.0, 0.0]])
    assert L1L2(0.5, 0.25)(w) == pytest.approx(0.5 * 8 + 0.25 * 26)
    np.testing.assert_array_equal(NonNeg()(w), [[3, 0], [0, 0]])
    np.testing.assert_allclose(UnitNorm()(w), [[0.6, -1], [-0.8, 0]], rtol=1e-6)
    np.testing.assert_allclose(MaxNorm(2.0, axis=1)(w), [[6 / math.sqrt(10), -2 / math.sqrt(10)], [-2, 0]], rtol=1e-6)
    assert w[0, 0] == 3


def dense(units=3, **rules):
    return Sequential([layers.Dense(units, input_shape=(4,), **rules)], seed=1)


@pytest.mark.parametrize("axis", [2, -3, [0, 0], [0, -2]], ids=str)
def test_axis_that_a_weight_lacks_is_refused(axis):
    with pytest.raises(ValueError, match="Layer 'dense.*kernel: Expected axis.*shape .4, 3.. Received: axis="):
        dense(kernel_constraint=UnitNorm(axis))


def test_layer_refuses_bad_rules_by_their_argument():
    with pytest.raises(ValueError, match="kernel_regularizer: Unknown regularizer.*Received: 'l3'"):
        layers.Dense(3, kernel_regularizer="l3")
    with pytest.raises(ValueError, match="bias_constraint: Unknown constraint.*Received: 'l2'"):
        layers.Conv2D(3, 3, bias_constraint="l2")
    with pytest.raises(ValueError, match="activity_regularizer to be None.*Received: activity_regularizer='l2'"):
        layers.Dense(3, activity_regularizer="l2")


@pytest.mark.parametrize("make", [
    lambda: layers.Dense(3, kernel_regularizer="l1", bias_constraint="non_neg", name="layer"),
    lambda: layers.Conv2D(3, 3, bias_regularizer=L2(0.5), kernel_constraint=MaxNorm(1.5, axis=[0, 1, 2]), name="layer"),
    lambda: layers.BatchNormalization(gamma_regularizer="l2", beta_constraint="non_neg", name="layer"),
], ids=["Dense", "Conv2D", "BatchNormalization"])
def test_config_of_a_layer_has_its_rules(make):
    layer = make()
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert again.get_config() == config
    names = [name for name in config if name.endswith(("_regularizer", "_constraint"))]
    assert len(names) == 4
    for name in names:
        assert repr(getattr(again, name)) == repr(getattr(layer, name))


DATA = (np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32),
        np.random.default_rng(1).standard_normal((10, 3)).astype(np.float32))


def test_penalties_are_part_of_every_reported_loss():
    plain, penalized = dense(), dense(kernel_regularizer=L1L2(0.5, 0.25), bias_regularizer="l2")
    penalized.set_weights([plain.get_weights()[0], np.array([1.0, -2.0, 3.0])])
    plain.set_weights(penalized.get_weights())
    kernel = np.float64(plain.get_weights()[0])
    penalty = 0.5 * np.abs(kernel).sum() + 0.25 * (kernel**2).sum() + 0.01 * 14
    for model in (plain, penalized):
        model.compile(SGD(0.0), "mse", metrics=["mse"])
    without, _ = plain.evaluate(*DATA, verbose=0)
    loss, mse = penalized.evaluate(*DATA, verbose=0)
    assert mse == pytest.approx(without, rel=1e-6) and loss == pytest.approx(without + penalty, rel=1e-6)
    assert penalized.evaluate(*DATA, batch_size=3, verbose=0)[0] == pytest.approx(loss, rel=1e-6)
    assert penalized.train_on_batch(*DATA)[0] == pytest.approx(loss, rel=1e-6)
    assert penalized.test_on_batch(*DATA)[0] == pytest.approx(loss, rel=1e-6)
    history = penalized.fit(*DATA, batch_size=4, verbose=0, validation_data=DATA).history
    assert history["loss"] == pytest.approx([loss], rel=1e-6) == history["val_loss"]
    penalized.layers[0].trainable = False  # then there is nothing to penalize
    assert penalized.evaluate(*DATA, verbose=0)[0] == pytest.approx(without, rel=1e-6)
    penalized.layers[0].trainable = True
    assert penalized.test_on_batch(*DATA)[0] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize(("rule", "holds"), [
    (NonNeg(), lambda w: w.min() == 0),
    (UnitNorm(), lambda w: np.allclose(np.linalg.norm(w, axis=0), 1, atol=1e-5)),
    (UnitNorm(axis=-1), lambda w: np.allclose(np.linalg.norm(w, axis=1), 1, atol=1e-5)),
    (MaxNorm(0.5), lambda w: np.linalg.norm(w, axis=0).max() <= 0.5 + 1e-6),
    (MinMaxNorm(2.0, 3.0), lambda w: np.allclose(np.linalg.norm(w, axis=0).clip(2, 3), np.linalg.norm(w, axis=0),
                                                 atol=1e-5)),
], ids=["NonNeg", "UnitNorm", "UnitNorm-last", "MaxNorm", "MinMaxNorm"])
def test_constraints_hold_after_training(rule, holds):
    model = dense(kernel_constraint=rule)
    model.compile(SGD(0.1), "mse")
    model.fit(*DATA, epochs=3, batch_size=4, verbose=0)
    assert holds(model.get_weights()[0])


def test_rules_reach_a_dense_layer_over_images():
    model = Sequential([layers.Dense(3, input_shape=(2, 2, 4), kernel_constraint=UnitNorm(0), kernel_regularizer="l2")])
    model.compile(SGD(0.1), "mse")
    x = np.ones((2, 2, 2, 4), np.float32)
    model.train_on_batch(x, np.zeros((2, 2, 2, 3), np.float32))
    np.testing.assert_allclose(np.linalg.norm(model.get_weights()[0], axis=0), 1, rtol=1e-5)
    assert model.program.rules[0].shape == (1, 4, 3, 1, 1)


def test_rules_are_saved_with_a_model(tmp_path):
    model = Sequential([
        layers.Conv2D(2, 2, input_shape=(2, 2, 1), kernel_regularizer=L2(0.5), kernel_constraint=MaxNorm(1, [0, 1, 2])),
        layers.Flatten(), layers.Dense(3, bias_regularizer="l1", bias_constraint="non_neg"),
    ])
    model.compile(SGD(0.1), "mse")
    model.save(tmp_path)
    document = json.loads((tmp_path / "model.json").read_text())
    written = document["modelTopology"]["config"]["layers"][0]["config"]
    assert written["kernel_regularizer"] == {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.5}}
    loaded = load_model(tmp_path)
    x, y = np.ones((3, 2, 2, 1), np.float32), np.ones((3, 3), np.float32)
    losses = [[m.train_on_batch(x, y) for _ in range(3)] for m in (model, loaded)]
    assert losses[0] == losses[1]
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_regularizers_and_constraints_are_called_on_arrays():
    w = np.array([[3.0, -1.0], [-4.0, 0.5]], np.float32)
    assert L1L2(0.5, 0.25)(w) == 0.5 * 8.5 + 0.25 * 26.25
    assert L1(0.1)(w) == pytest.approx(0.85) and L2(0.1)(w) == pytest.approx(2.625)
    np.testing.assert_array_equal(NonNeg()(w), [[3, 0], [0, 0.5]])
    np.testing.assert_allclose(np.linalg.norm(UnitNorm()(w), axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(MaxNorm(2.5)(w)[:, 0], w[:, 0] / 2, rtol=1e-6)
    np.testing.assert_allclose(MinMaxNorm(6, 8, 0.5)(w)[:, 0], w[:, 0] * 1.1, rtol=1e-6)
    np.testing.assert_array_equal(w[0], [3, -1])

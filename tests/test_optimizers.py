from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tinyconv import optimizers
from tinyconv.engine.program import OPTIMIZERS
from tinyconv.optimizers import SGD, Adam

ALL = [
    SGD(),
    SGD(0.15),
    SGD(0.1, 0.9),
    SGD(0.1, momentum=0.9, nesterov=True),
    Adam(),
    Adam(2e-3, beta_1=0.8, beta_2=0.95, epsilon=1e-5),
]


def _weights() -> list[np.ndarray]:
    return [np.ones((2, 3), np.float32), np.ones(3, np.float32), np.ones((3, 1), np.float32)]


def _without_name(config: dict) -> dict:
    return {key: value for key, value in config.items() if key != "name"}


def test_defaults_are_keras():
    assert _without_name(Adam().get_config()) == {
        "learning_rate": 0.001,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-7,
    }
    assert _without_name(SGD().get_config()) == {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_hyperparameters_fit_the_engine_rule(optimizer):
    names, states = OPTIMIZERS[optimizer.kind]
    assert len(optimizer.hyperparameters()) == len(names)
    optimizer.build(_weights())
    assert [len(arrays) for arrays in optimizer.state] == [states] * 3
    for weight, arrays in zip(_weights(), optimizer.state, strict=True):
        for array in arrays:
            assert array.shape == weight.shape and array.dtype == np.float32 and not array.any()


def test_adam_alpha_corrects_the_bias():
    adam = Adam(0.001)
    assert adam.hyperparameters(0)[0] == pytest.approx(0.001 * math.sqrt(0.001) / 0.1, rel=1e-12)
    adam.iterations = 9
    expected = 0.001 * math.sqrt(1 - 0.999**10) / (1 - 0.9**10)
    assert adam.hyperparameters()[0] == pytest.approx(expected, rel=1e-12)
    assert adam.hyperparameters(9) == adam.hyperparameters()
    assert adam.hyperparameters(100_000)[0] == pytest.approx(0.001, rel=1e-9)
    assert adam.hyperparameters(0)[1:] == (0.9, 0.999, 1e-7)


def test_sgd_chooses_the_rule_by_momentum():
    assert (SGD(0.5).kind, SGD(0.5).hyperparameters()) == ("sgd", (0.5,))
    sgd = SGD(0.5, momentum=0.25, nesterov=True)
    assert (sgd.kind, sgd.hyperparameters()) == ("momentum", (0.5, 0.25, 1.0))


def test_learning_rate_is_settable_and_checked():
    adam = Adam()
    adam.learning_rate = np.float32(0.5)
    assert adam.learning_rate == 0.5 and type(adam.learning_rate) is float
    assert adam.get_config()["learning_rate"] == 0.5
    for value in (-1.0, math.nan, math.inf, "0.1", None, True):
        with pytest.raises(ValueError, match="`learning_rate`.*Received: learning_rate="):
            adam.learning_rate = value
    assert adam.learning_rate == 0.5


@pytest.mark.parametrize(
    "cls, arguments",
    [
        (Adam, {"beta_1": 1.0}),
        (Adam, {"beta_2": -0.1}),
        (Adam, {"beta_2": 1.0}),
        (Adam, {"epsilon": -1e-7}),
        (Adam, {"learning_rate": -0.001}),
        (SGD, {"momentum": 1.1}),
        (SGD, {"momentum": -0.1}),
        (SGD, {"nesterov": "yes"}),
        (SGD, {"learning_rate": math.nan}),
        (Adam, {"amsgrad": True}),
        (SGD, {"clipnorm": 1.0}),
        (Adam, {"weight_decay": 0.01}),
        (Adam, {"use_ema": True}),
    ],
    ids=str,
)
def test_optimizer_refuses_bad_arguments(cls, arguments):
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}="):
        cls(**arguments)


def test_optimizer_refuses_unknown_arguments():
    with pytest.raises(TypeError, match="Received: rho=0.9"):
        Adam(rho=0.9)


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_config_round_trip(optimizer):
    config = json.loads(json.dumps(optimizers.serialize(optimizer)))
    again = optimizers.get(config)
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()


def test_from_config_reads_keras_and_tensorflowjs():
    keras = {
        "module": "keras.optimizers",
        "class_name": "Adam",
        "registered_name": None,
        "config": {
            "name": "adam",
            "learning_rate": 0.0010000000474974513,
            "weight_decay": None,
            "clipnorm": None,
            "global_clipnorm": None,
            "clipvalue": None,
            "use_ema": False,
            "ema_momentum": 0.99,
            "ema_overwrite_frequency": None,
            "loss_scale_factor": None,
            "gradient_accumulation_steps": None,
            "beta_1": 0.9,
            "beta_2": 0.999,
            "epsilon": 1e-07,
            "amsgrad": False,
        },
    }
    assert optimizers.get(keras).learning_rate == 0.0010000000474974513
    tfjs = {
        "class_name": "Adam",
        "config": {"learning_rate": 0.01, "beta1": 0.8, "beta2": 0.9, "epsilon": None},
    }
    assert optimizers.get(tfjs).get_config() == Adam(0.01, 0.8, 0.9, name="adam").get_config()
    old = {"class_name": "SGD", "config": {"lr": 0.25, "momentum": 0.0, "decay": 0.0, "nesterov": False}}
    assert optimizers.get(old).learning_rate == 0.25


def test_get_finds_names_classes_and_instances():
    assert isinstance(optimizers.get("adam"), Adam) and isinstance(optimizers.get("Adam"), Adam)
    assert isinstance(optimizers.get("SGD"), SGD) and isinstance(optimizers.get(SGD), SGD)
    sgd = optimizers.sgd(0.15)
    assert optimizers.get(sgd) is sgd and sgd.learning_rate == 0.15
    assert optimizers.adam is Adam


@pytest.mark.parametrize(
    "identifier",
    [
        "adamm",
        None,
        3,
        dict,
        optimizers.Optimizer,
        {},
        {"class_name": "os"},
        {"class_name": "SGD", "config": {"evil": 1}},
    ],
    ids=str,
)
def test_get_refuses_unknown(identifier):
    with pytest.raises(ValueError, match="Received:"):
        optimizers.get(identifier)


def test_build_leaves_frozen_weights_without_state():
    adam = Adam()
    weights = _weights()
    adam.build(weights, trainable=[True, False, True])
    assert [len(arrays) for arrays in adam.state] == [2, 0, 2]
    with pytest.raises(ValueError, match="`trainable`.*Received: 1 entries"):
        adam.build(weights, trainable=[True])


def test_build_keeps_the_state_of_the_same_weights():
    adam = Adam()
    weights = _weights()
    adam.build(weights, trainable=[True, False, True])
    kept = adam.state[0][0]
    kept[...] = 3.0
    adam.iterations = 5
    adam.build(weights)
    assert adam.state[0][0] is kept and adam.iterations == 5
    assert [len(arrays) for arrays in adam.state] == [2, 2, 2]
    adam.build([weights[0][None], *weights[1:]])
    assert adam.iterations == 0 and not adam.state[0][0].any()
    assert adam.state[0][0].shape == (1, 2, 3)


def test_get_and_set_weights_round_trip():
    adam = Adam()
    adam.build(_weights())
    adam.iterations = 7
    for index, arrays in enumerate(adam.state):
        arrays[0][...], arrays[1][...] = index, index + 10
    saved = adam.get_weights()
    assert len(saved) == 7 and saved[0] == 7
    other = Adam()
    other.build(_weights())
    inside = other.state[1][1]
    other.set_weights(saved)
    assert other.iterations == 7 and other.state[1][1] is inside and (inside == 11).all()
    saved[1][...] = 99
    assert (other.state[0][0] == 0).all()


def test_set_weights_refuses_what_does_not_fit():
    adam = Adam()
    adam.build(_weights())
    saved = adam.get_weights()
    with pytest.raises(ValueError, match="expected 7 arrays. Received: 6"):
        adam.set_weights(saved[:-1])
    saved[0], saved[4] = np.array(9), np.zeros((1, 1))
    with pytest.raises(ValueError, match="position 4. Received: shape"):
        adam.set_weights(saved)
    assert adam.iterations == 0


@pytest.mark.parametrize("value", [-1, 1.5, None, True], ids=repr)
def test_iterations_are_checked(value):
    with pytest.raises(ValueError, match="Received: iterations="):
        SGD().iterations = value

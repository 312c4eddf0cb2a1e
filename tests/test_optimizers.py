from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from tinyconv import optimizers
from tinyconv.engine.program import OPTIMIZERS
from tinyconv.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Nadam, RMSprop, schedules

ALL = [
    SGD(), SGD(0.1, 0.9), SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1), Adam(), Adam(amsgrad=True),
    Adam(2e-3, beta_1=0.8, beta_2=0.95, epsilon=1e-5, clipnorm=1.0), AdamW(), AdamW(weight_decay=0.1, amsgrad=True),
    Adamax(clipvalue=0.5), Nadam(global_clipnorm=1.0), RMSprop(), RMSprop(centered=True, momentum=0.5),
    RMSprop(momentum=0.5), RMSprop(centered=True), Adagrad(initial_accumulator_value=0.5), Adadelta(),
    SGD(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5, gradient_accumulation_steps=2),
    Adam(schedules.CosineDecay(0.1, 100, warmup_target=0.2, warmup_steps=5)),
]
NAMES = [f"{number}-{type(optimizer).__name__}" for number, optimizer in enumerate(ALL)]
COMMON = {"weight_decay": None, "clipnorm": None, "global_clipnorm": None, "clipvalue": None, "use_ema": False,
          "ema_momentum": 0.99, "ema_overwrite_frequency": None, "loss_scale_factor": None,
          "gradient_accumulation_steps": None}


def _weights() -> list[np.ndarray]:
    return [np.ones((2, 3), np.float32), np.ones(3, np.float32), np.ones((3, 1), np.float32)]


def _without_name(config: dict) -> dict:
    return {key: value for key, value in config.items() if key != "name"}


@pytest.mark.parametrize(("cls", "own"), [
    (SGD, {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}),
    (RMSprop, {"learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False}),
    (Adam, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}),
    (AdamW, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False,
             "weight_decay": 0.004}),
    (Adamax, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    (Nadam, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    (Adagrad, {"learning_rate": 0.001, "initial_accumulator_value": 0.1, "epsilon": 1e-7}),
    (Adadelta, {"learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7}),
])
def test_defaults_are_keras(cls, own):
    assert _without_name(cls().get_config()) == {**COMMON, **own}
    assert cls().name == cls.__name__.lower()


@pytest.mark.parametrize("optimizer", ALL, ids=NAMES)
def test_hyperparameters_fit_the_engine_rule(optimizer):
    names, states = OPTIMIZERS[optimizer.kind]
    assert len(optimizer.hyperparameters()) == len(names)
    optimizer.build(_weights())
    assert [len(arrays) for arrays in optimizer.state] == [len(optimizer.slots)] * 3
    assert len(optimizer._rule_slots()) == states
    firsts = {"average": 1.0, "accumulator": getattr(optimizer, "initial_accumulator_value", 0.0)}
    for weight, arrays in zip(_weights(), optimizer.state, strict=True):
        for slot, array in zip(optimizer.slots, arrays, strict=True):
            assert array.shape == weight.shape and array.dtype == np.float32
            assert (array == np.float32(firsts.get(slot, 0.0))).all()


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
    assert adam.learning_rate == 0.5 and isinstance(adam.learning_rate, float)
    assert adam.get_config()["learning_rate"] == 0.5
    for value in (-1.0, math.nan, math.inf, "0.1", None, True, [0.1]):
        with pytest.raises(ValueError, match="learning_rate.*Received: learning_rate="):
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
        (Adam, {"amsgrad": 3}),
        (SGD, {"clipnorm": -1.0}),
        (SGD, {"clipnorm": 1.0, "clipvalue": 1.0}),
        (SGD, {"global_clipnorm": 1.0, "clipvalue": 1.0}),
        (Adam, {"weight_decay": math.inf}),
        (AdamW, {"weight_decay": None}),
        (Adam, {"use_ema": 2}),
        (Adam, {"ema_momentum": 1.5}),
        (Adam, {"ema_overwrite_frequency": -1}),
        (Adam, {"gradient_accumulation_steps": 1}),
        (Adam, {"loss_scale_factor": 128.0}),
        (RMSprop, {"rho": 2.0}),
        (RMSprop, {"momentum": -0.5}),
        (RMSprop, {"centered": "no"}),
        (Adadelta, {"rho": -1.0}),
        (Adagrad, {"initial_accumulator_value": -0.1}),
        (SGD, {"decay": -0.1}),
    ],
    ids=str,
)
def test_optimizer_refuses_bad_arguments(cls, arguments):
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=f"{name}.*Received: .*{name}="):
        cls(**arguments)


def test_optimizer_refuses_unknown_arguments():
    with pytest.raises(TypeError, match="Received: rho=0.9"):
        Adam(rho=0.9)
    with pytest.raises(TypeError, match="name to be a string. Received: name="):
        Adam(name=["adam"])


@pytest.mark.parametrize("optimizer", ALL, ids=NAMES)
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


@pytest.mark.parametrize("cls", [SGD, RMSprop, Adam, Adadelta, Adagrad])
def test_learning_rate_of_keras_2_goes_by_its_old_name(cls):
    assert cls(lr=0.25).get_config() == cls(0.25).get_config() == cls(lr=0.25, decay=0.0).get_config()


def test_decay_of_keras_2_divides_the_learning_rate():
    """lr / (1 + decay * iterations), as Keras 2.10's optimizers computed it."""
    optimizer = SGD(lr=0.5, decay=0.25, momentum=0.9)
    rates = []
    for step in range(4):
        optimizer.batches = step
        rates.append(float(optimizer.learning_rate))
    assert rates == [0.5 / (1 + 0.25 * step) for step in range(4)]
    assert optimizers.deserialize(optimizers.serialize(optimizer)).get_config() == optimizer.get_config()
    assert Adam(decay=0.25).learning_rate == 0.001
    with pytest.raises(ValueError, match="decay.*schedule.*Received: decay=0.1"):
        SGD(optimizers.schedules.CosineDecay(0.1, 10), decay=0.1)


def test_get_finds_names_classes_and_instances():
    assert isinstance(optimizers.get("adam"), Adam) and isinstance(optimizers.get("Adam"), Adam)
    assert isinstance(optimizers.get("SGD"), SGD) and isinstance(optimizers.get(SGD), SGD)
    sgd = optimizers.sgd(0.15)
    assert optimizers.get(sgd) is sgd and sgd.learning_rate == 0.15
    assert optimizers.adam is Adam
    assert isinstance(optimizers.get("rmsprop"), RMSprop) and isinstance(optimizers.get("RMSProp"), RMSprop)
    assert isinstance(optimizers.get({"class_name": "RMSProp", "config": {}}), RMSprop)


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
    with pytest.raises(ValueError, match="trainable.*Received: 1 entries"):
        adam.build(weights, trainable=[True])


def test_build_keeps_the_state_of_the_same_weights():
    adam = Adam()
    weights = _weights()
    adam.build(weights)
    kept = adam.state[0][0]
    kept[...] = 3.0
    adam.iterations = 5
    adam.build(weights, trainable=[True, False, True])
    assert adam.state[0][0] is kept and adam.iterations == 5
    assert [len(arrays) for arrays in adam.state] == [2, 0, 2]
    adam.build([weights[0][None], *weights[2:]])  # the same numbers in memory
    assert len(adam.get_weights()) == 1 + 6
    assert adam.state[0][0] is kept and adam.state_of(weights[0].ravel())[0] is kept
    for others in ([weights[0][:1]], [weights[0].copy()]):
        with pytest.raises(ValueError, match="built for other weights.*Received: weight 0 of shape"):
            adam.build(others)
    assert adam.state[0][0] is kept and adam.iterations == 5


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


def test_learning_rate_of_a_schedule_follows_the_batches_and_is_not_settable():
    sgd = SGD(schedules.ExponentialDecay(0.4, 2, 0.25), gradient_accumulation_steps=2)
    assert (sgd.learning_rate, sgd.hyperparameters(1)) == (0.4, (0.2,))
    sgd.batches = 4
    assert (sgd.iterations, sgd.learning_rate) == (2, 0.025)
    with pytest.raises(TypeError, match="Received: learning_rate=0.1"):
        sgd.learning_rate = 0.1
    sgd.learning_rate = schedules.InverseTimeDecay(1.0, 4, 1.0)
    assert sgd.learning_rate == 0.5 and sgd.scheduled and not SGD().scheduled
    sgd = SGD()
    sgd.learning_rate = schedules.ExponentialDecay(0.4, 2, 0.25)
    assert sgd.learning_rate == 0.4


def test_learning_rate_may_be_a_function():
    sgd = SGD(lambda step: 1 / (1 + step))
    assert sgd.hyperparameters(3) == (0.25,)
    assert SGD(lambda: 0.75).hyperparameters(9) == (0.75,)
    with pytest.raises(ValueError, match="learning_rate.*Received: learning_rate=-1"):
        SGD(lambda step: -1.0).hyperparameters()
    sgd.batches = 1
    with pytest.warns(UserWarning, match="learning_rate that is a Python function"):
        assert sgd.get_config()["learning_rate"] == 0.5


@pytest.mark.parametrize(("optimizer", "order"), [
    (Adam(amsgrad=True), ["momentum 0", "velocity 0", "momentum 1", "velocity 1", "velocity_hat 0", "velocity_hat 1"]),
    (RMSprop(centered=True, momentum=0.5), ["velocity 0", "velocity 1", "momentum 0", "momentum 1",
                                            "average_gradient 0", "average_gradient 1"]),
    (SGD(0.1, 0.9, use_ema=True, gradient_accumulation_steps=2), [
        "average 0", "average 1", "gradient_accumulator 0", "gradient_accumulator 1", "momentum 0", "momentum 1"]),
], ids=["adam", "rmsprop", "sgd"])
def test_get_weights_has_the_order_of_keras(optimizer, order):
    optimizer.build(_weights()[:2])
    for index, arrays in enumerate(optimizer.state):
        for place, array in enumerate(arrays):
            array[...] = 10 * place + index
    names = [f"{optimizer.slots[int(array.flat[0]) // 10]} {int(array.flat[0]) % 10}"
             for array in optimizer.get_weights()[1:]]
    assert names == order


def test_finalize_overwrites_trained_weights_with_their_average():
    sgd, weights = SGD(use_ema=True), _weights()
    sgd.build(weights, [True, False, True])
    for arrays in sgd.state:
        for array in arrays:
            array[...] = 5.0
    sgd.finalize_variable_values()
    assert [float(weight.flat[0]) for weight in weights] == [1, 1, 1]  # nothing was trained yet
    sgd.batches = 1
    sgd.finalize_variable_values(weights)
    assert [float(weight.flat[0]) for weight in weights] == [5, 1, 5]


def test_a_schedule_that_grows_without_end_is_refused_when_it_has():
    sgd = SGD(schedules.ExponentialDecay(0.1, 1, 1e200))
    assert sgd.hyperparameters(1)[0] == pytest.approx(1e199)
    with pytest.raises(ValueError, match="learning_rate to be a finite number"):
        sgd.hyperparameters(2)


def test_hyperparameters_of_nadam_do_not_depend_on_what_was_asked_before():
    straight, jumping = Nadam(), Nadam()
    rows = [straight.hyperparameters(step) for step in range(30)]
    assert [jumping.hyperparameters(step) for step in (29, 3, 4, 0, 17)] == [rows[i] for i in (29, 3, 4, 0, 17)]
    assert all(map(math.isfinite, straight.hyperparameters(10**7)))


def test_more_batches_than_int32_counts_are_kept():
    adam, again = optimizers.Adam(), optimizers.Adam()
    adam.build([np.zeros(2, np.float32)])
    again.build([np.zeros(2, np.float32)])
    adam.batches = 2**31 + 5  # hours of training on single samples
    again.set_weights(adam.get_weights())
    assert again.batches == again.iterations == 2**31 + 5


def steady_rate():
    return 0.25


def test_optimizer_with_a_function_as_its_rate_is_pickled():
    again = pickle.loads(pickle.dumps(optimizers.SGD(steady_rate)))
    assert again.learning_rate == 0.25
    assert repr(again) == repr(optimizers.SGD(steady_rate)) == "<SGD name=sgd, learning_rate='steady_rate'>"

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tinyconv.optimizers import schedules
from tinyconv.optimizers.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    OneCycle,
    PiecewiseConstantDecay,
    PolynomialDecay,
)

# Learning rates at steps, worked out by hand from the published formulas.
CASES = [
    (ExponentialDecay(0.8, 10, 0.25), {0: 0.8, 5: 0.4, 10: 0.2, 20: 0.05}),
    (ExponentialDecay(0.8, 10, 0.25, staircase=True), {0: 0.8, 9: 0.8, 10: 0.2, 19: 0.2, 20: 0.05}),
    (InverseTimeDecay(0.6, 4, 0.5), {0: 0.6, 4: 0.4, 8: 0.3, 20: 0.6 / 3.5}),
    (InverseTimeDecay(0.6, 4, 0.5, staircase=True), {3: 0.6, 4: 0.4, 7: 0.4, 8: 0.3}),
    (PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1]), {0: 1.0, 10: 1.0, 11: 0.5, 20: 0.5, 21: 0.1, 999: 0.1}),
    (PolynomialDecay(1.0, 10, 0.5), {0: 1.0, 5: 0.75, 10: 0.5, 50: 0.5}),
    (PolynomialDecay(1.0, 10, 0.0, power=2.0), {5: 0.25, 9: 0.01}),
    (PolynomialDecay(1.0, 10, 0.0, cycle=True), {0: 1.0, 10: 0.0, 11: 0.45, 15: 0.25, 20: 0.0, 25: 1 / 6}),
    (CosineDecay(2.0, 8), {0: 2.0, 2: 1 + math.sqrt(0.5), 4: 1.0, 8: 0.0, 99: 0.0}),
    (CosineDecay(2.0, 8, alpha=0.5), {0: 2.0, 4: 1.5, 8: 1.0}),
    (CosineDecay(0.5, 8, warmup_target=1.5, warmup_steps=4), {0: 0.5, 1: 0.75, 4: 1.5, 8: 0.75, 12: 0.0, 99: 0.0}),
    (CosineDecayRestarts(1.0, 4), {0: 1.0, 2: 0.5, 4: 1.0, 8: 0.5, 12: 1.0, 20: 0.5, 28: 1.0}),
    (CosineDecayRestarts(1.0, 4, t_mul=1.0, m_mul=0.5), {0: 1.0, 2: 0.5, 4: 0.5, 6: 0.25, 8: 0.25}),
    (CosineDecayRestarts(1.0, 4, t_mul=3.0, alpha=0.1), {2: 0.55, 4: 1.0, 10: 0.55, 16: 1.0}),
    (OneCycle(1.0, 100, pct_start=0.5, div_factor=4.0, final_div_factor=25.0),
     {0: 0.25, 25: 0.625, 50: 1.0, 75: 0.505, 100: 0.01, 1000: 0.01}),
]
IDS = [f"{number}-{type(schedule).__name__}" for number, (schedule, _) in enumerate(CASES)]


@pytest.mark.parametrize(("schedule", "rates"), CASES, ids=IDS)
def test_schedule_has_the_published_values(schedule, rates):
    for step, rate in rates.items():
        assert schedule(step) == pytest.approx(rate, rel=1e-12, abs=1e-15), step


@pytest.mark.parametrize(("schedule", "rates"), CASES, ids=IDS)
def test_schedule_survives_a_round_trip(schedule, rates):
    config = json.loads(json.dumps(schedules.serialize(schedule)))
    again = schedules.deserialize(config)
    assert type(again) is type(schedule) and again.get_config() == schedule.get_config()
    assert all(again(step) == schedule(step) for step in rates)
    assert repr(again) == repr(schedule)


@pytest.mark.parametrize("t_mul", [1.0, 1.1, 2.0, 3.0, 10.0])
def test_waves_restart_on_their_first_step(t_mul):
    schedule = CosineDecayRestarts(1.0, 10, t_mul=t_mul, m_mul=0.5)
    start, length = 0.0, 10.0
    for wave in range(6):
        # Where a wave begins between two steps, its first step is the one behind.
        assert schedule(math.ceil(start)) <= 0.5**wave + 1e-12
        if start == int(start):
            assert schedule(int(start)) == pytest.approx(0.5**wave, rel=1e-9)
        start, length = start + length, length * t_mul


def test_schedules_of_keras_are_read():
    config = {"module": "keras.optimizers.schedules", "class_name": "ExponentialDecay", "registered_name": None,
              "config": {"initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.5, "staircase": False,
                         "name": "ExponentialDecay"}}
    assert schedules.deserialize(config)(5) == 0.05


@pytest.mark.parametrize("config", [
    {}, {"class_name": "LearningRateSchedule", "config": {}}, {"class_name": "os.system", "config": {}},
    {"class_name": "CosineDecay", "config": {"evil": 1}}, {"class_name": "CosineDecay", "config": 3},
], ids=str)
def test_deserialize_refuses_what_is_no_schedule(config):
    with pytest.raises(ValueError, match="Received:"):
        schedules.deserialize(config)


@pytest.mark.parametrize(("cls", "arguments", "name"), [
    (ExponentialDecay, (0.1, 0, 0.5), "decay_steps"),
    (ExponentialDecay, (-0.1, 5, 0.5), "initial_learning_rate"),
    (ExponentialDecay, (0.1, 5, -0.5), "decay_rate"),
    (ExponentialDecay, (0.1, 5, 0.5, "yes"), "staircase"),
    (InverseTimeDecay, (0.1, -5, 0.5), "decay_steps"),
    (PiecewiseConstantDecay, ([2, 1], [0.1, 0.2, 0.3]), "boundaries"),
    (PiecewiseConstantDecay, ([1], [0.1, -0.2]), "values"),
    (PolynomialDecay, (0.1, 10, math.nan), "end_learning_rate"),
    (PolynomialDecay, (0.1, 10, 0.0, -1.0), "power"),
    (CosineDecay, (0.1, 10, -1.0), "alpha"),
    (CosineDecay, (0.1, 10, 0.0, "n", -1.0), "warmup_target"),
    (CosineDecay, (0.1, 10, 0.0, "n", 1.0, -1), "warmup_steps"),
    (CosineDecayRestarts, (0.1, 0), "first_decay_steps"),
    (CosineDecayRestarts, (0.1, 5, 0.5), "t_mul"),
    (OneCycle, (0.1, 0), "total_steps"),
    (OneCycle, (0.1, 10, 1.5), "pct_start"),
    (OneCycle, (0.1, 10, 0.3, 0.0), "div_factor"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_schedule_refuses_bad_arguments(cls, arguments, name):
    with pytest.raises(ValueError, match=f"{name}.*Received: {name}="):
        cls(*arguments)


@pytest.mark.parametrize("number", [np.int64(7), np.int32(7), np.float32(7), np.float64(7)], ids=repr)
@pytest.mark.parametrize("create", [
    lambda number: ExponentialDecay(number, number, number),
    lambda number: PiecewiseConstantDecay([number], [number, number]),
    lambda number: CosineDecay(number, number, warmup_target=number, warmup_steps=number),
    lambda number: CosineDecayRestarts(number, number, number, number),
    lambda number: PolynomialDecay(number, number, number, number),
])
def test_numbers_of_numpy_become_what_json_holds(create, number):
    config = schedules.serialize(create(number))
    assert json.loads(json.dumps(config)) == config == schedules.serialize(create(int(number)))


def test_piecewise_constant_refuses_lists_that_do_not_fit():
    with pytest.raises(ValueError, match="one more in values. Received: 1 boundaries, 1 values"):
        PiecewiseConstantDecay([1], [0.1])
    with pytest.raises(TypeError, match="boundaries to be a list"):
        PiecewiseConstantDecay(3, [0.1])


def test_schedule_of_the_user_is_called():
    class Mine(LearningRateSchedule):
        def __call__(self, step):
            return step + 0.5

    assert Mine()(2) == 2.5
    with pytest.raises(NotImplementedError, match="Mine must override `get_config"):
        Mine().get_config()

"""Every optimizer of the table takes 20 steps of a small model to where Keras takes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity.cases_optimizers import OPTIMIZERS, SCHEDULES
from parity.harness import (
    as_numpy,
    assert_agrees,
    assert_same_config,
    is_present,
    jax,
    keras,
    libraries,
    random_array,
    tinyconv,
)

# Keras' own variables, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

STEPS = 20
SHAPES = ((4, 5), (5,), (5, 3), (3,))

optimizers = pytest.mark.parametrize("call", [call for call in OPTIMIZERS if is_present(call)], ids=str)
schedules = pytest.mark.parametrize("call", [call for call in SCHEDULES if is_present(call)], ids=str)


def start() -> list[np.ndarray]:
    return [random_array(shape, seed, 0.5) for seed, shape in enumerate(SHAPES)]


X, Y = random_array((8, 4), 20), random_array((8, 3), 21)


@jax.jit
def gradients_of_keras(weights: list[Any]) -> list[Any]:
    """Of the mean squared error of two layers: the same function for every optimizer."""
    def error(weights: list[Any]) -> Any:
        kernel, bias, kernel_2, bias_2 = weights
        return jax.numpy.square(jax.numpy.tanh(X @ kernel + bias) @ kernel_2 + bias_2 - Y).mean()
    return jax.grad(error)(weights)


def train_keras(optimizer: Any) -> list[np.ndarray]:
    """What fit does in Keras: steps, then the averages where there are any."""
    variables = [keras.Variable(value) for value in start()]
    optimizer.build(variables)
    apply = optimizer.stateless_apply
    if optimizer.gradient_accumulation_steps:  # a branch, which would be compiled anew at every step
        apply = jax.jit(apply)
    state, values = [variable.value for variable in optimizer.variables], [variable.value for variable in variables]
    for _ in range(STEPS):
        scale = optimizer.loss_scale_factor or 1.0
        values, state = apply(state, [gradient * scale for gradient in gradients_of_keras(values)], values)
    for variable, value in zip([*optimizer.variables, *variables], [*state, *values], strict=True):
        variable.assign(value)
    optimizer.finalize_variable_values(variables)
    return [np.asarray(variable.value) for variable in variables]


def train_ours(optimizer: Any) -> list[np.ndarray]:
    model = tinyconv.Sequential([tinyconv.Input((4,)), tinyconv.layers.Dense(5, activation="tanh"),
                                 tinyconv.layers.Dense(3)])
    model.set_weights(start())
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=8, epochs=STEPS, verbose=0)
    return model.get_weights()


@optimizers
def test_optimizer_goes_where_keras_goes(call):
    ours, theirs = libraries(call)
    # A step's rounding is one of the sums over batch and inputs; every step adds its own.
    for i, (actual, expected) in enumerate(zip(train_ours(ours), train_keras(theirs), strict=True)):
        assert_agrees(actual, expected, STEPS**2 * X.size, f"weight {i}")
    assert int(ours.iterations) == int(theirs.iterations)


@optimizers
def test_optimizer_has_the_config_of_keras(call):
    ours, theirs = libraries(call)
    # Keras keeps rates as float32; a schedule is compared by itself.  Names that it gives are numbered.
    keys = {"learning_rate"} if "name" in call.kwargs else {"learning_rate", "name"}
    assert_same_config(ours.get_config(), theirs.get_config(), keys)
    if not isinstance(call.kwargs.get("learning_rate", (*call.args, 0.0)[0]), float):
        return
    assert np.float32(ours.get_config()["learning_rate"]) == as_numpy(theirs.get_config()["learning_rate"])
    again = type(ours).from_config(theirs.get_config())
    assert {key: value for key, value in again.get_config().items() if key not in keys} == {
        key: value for key, value in ours.get_config().items() if key not in keys}


@schedules
def test_schedule_has_the_rates_of_keras(call):
    ours, theirs = libraries(call)
    steps = [*range(30), 50, 1000]
    assert_agrees([float(ours(step)) for step in steps], jax.jit(jax.vmap(theirs))(np.array(steps)), 10)
    assert_same_config(ours.get_config(), theirs.get_config(), set())
    again = type(ours).from_config(theirs.get_config())
    assert again.get_config() == ours.get_config()

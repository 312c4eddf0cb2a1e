"""Every layer of the table: shapes, weights, outputs, gradients and configuration are Keras'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity.cases_layers import CASES, CERTAIN, IMAGE, RANDOM
from parity.harness import (
    assert_agrees,
    assert_same_config,
    is_present,
    jax,
    keras,
    libraries,
    random_array,
    tinyconv,
)

from tinyconv.engine.program import Loss

BATCH = 5
INNER_PRODUCT = Loss("inner_product")
pytestmark = [pytest.mark.filterwarnings("ignore:You are using a softmax over axis:UserWarning"),
              pytest.mark.usefixtures("cheap_start")]


class Pair:
    """The same layer in both libraries, built for a shape, with the same random weights."""

    def __init__(self, shape: tuple[int, ...], call: Any) -> None:
        self.ours, self.theirs = libraries(call)
        self.shape = shape
        self.model = tinyconv.Sequential([tinyconv.Input(shape), self.ours], seed=1)
        self.theirs.build((None, *shape))

    def set_random_weights(self) -> None:
        values = [_values_for(weight.name, tuple(weight.shape), seed)
                  for seed, weight in enumerate(self.theirs.weights)]
        self.ours.set_weights(values)
        self.theirs.set_weights(values)
        if hasattr(self.theirs, "finalize_state"):  # preprocessing computes with a copy
            self.theirs.finalize_state()

    def length(self, x: np.ndarray) -> int:
        """No sum in the layer or in its gradients is longer."""
        sizes = [np.prod(weight.shape) for weight in self.theirs.weights]
        return int(max(x.size, BATCH * np.prod(self.ours.output_shape), *sizes, 1))

    def theirs_vjp(self, x: np.ndarray, training: bool) -> tuple[Any, Any]:
        """Keras' output, and the function from its gradient to those of (trainable weights, input)."""
        fixed = [variable.value for variable in self.theirs.non_trainable_variables]
        arguments = {"training": training} if self.theirs._call_has_training_arg else {}

        def run(trained: Any, x: Any) -> Any:
            return self.theirs.stateless_call(trained, fixed, x, **arguments)[0]

        return jax.vjp(run, [variable.value for variable in self.theirs.trainable_variables], x)


def _values_for(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    values = random_array(shape, seed + 10, 0.5)
    return np.abs(values) + np.float32(0.1) if "variance" in name else values


def cases() -> Any:
    chosen = [(shape, call) for shape, call in CASES if is_present(call)]
    return pytest.mark.parametrize(("shape", "call"), chosen,
                                   ids=[f"{'x'.join(map(str, shape))}-{call}" for shape, call in chosen])


@cases()
def test_layer_has_the_weights_of_keras(shape, call):
    pair = Pair(shape, call)
    assert [(w.name, w.shape, w.trainable) for w in pair.ours.weights] == [
        (w.name, tuple(w.shape), w.trainable) for w in pair.theirs.weights]
    assert pair.ours.count_params() == pair.theirs.count_params()


@cases()
def test_layer_has_the_output_shape_of_keras(shape, call):
    pair = Pair(shape, call)
    expected = tuple(pair.theirs.compute_output_shape((None, *shape)))
    assert pair.model.output_shape == expected


@cases()
def test_layer_has_the_config_of_keras(shape, call):
    pair = Pair(shape, call)
    # A name counts the layers of its library, a dtype is a policy in Keras.
    assert_same_config(pair.ours.get_config(), pair.theirs.get_config(), {"name", "dtype"})


@cases()
def test_layer_is_read_from_the_config_of_keras(shape, call):
    pair = Pair(shape, call)
    again = type(pair.ours).from_config(pair.theirs.get_config())
    assert again.get_config() == {**pair.ours.get_config(), "name": pair.theirs.name}


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@cases()
def test_layer_has_the_output_and_the_gradients_of_keras(shape, call, training):
    if training and call.name in RANDOM:
        pytest.skip("random numbers differ")
    pair = Pair(shape, call)
    pair.set_random_weights()
    x = random_array((BATCH, *shape), 1)
    dy = random_array((BATCH, *pair.ours.output_shape), 2)
    expected, vjp = pair.theirs_vjp(x, training)
    expected_weights, expected_dx = vjp(jax.numpy.asarray(dy))
    length = pair.length(x)
    y = pair.model(x, training=training)
    assert_agrees(y, expected, length, "output")
    _, gradients, dx = pair.model._executor().gradients(
        x, dy.reshape(BATCH, -1), INNER_PRODUCT, training=training, input_gradient=True)
    assert_agrees(dx.reshape(x.shape), expected_dx, length, "gradient of the input")
    ours = [gradient for gradient in gradients if gradient is not None]
    for variable, gradient, wanted in zip(pair.theirs.trainable_variables, ours, expected_weights, strict=True):
        assert_agrees(gradient.reshape(variable.shape), wanted, length, f"gradient of {variable.name}")


@pytest.mark.parametrize("call", CERTAIN, ids=str)
@pytest.mark.parametrize("shape", [IMAGE, (5, 5, 1)], ids=str)
def test_augmentation_without_chance_has_the_output_of_keras(shape, call):
    pair = Pair(shape, call)
    x = random_array((BATCH, *shape), 1)
    expected = pair.theirs(x, training=True)
    # Where a pixel comes from is rounded too, in numbers as large as the image.
    assert_agrees(pair.model(x, training=True), expected, x.size**2, "output")
    np.testing.assert_array_equal(pair.model(x, training=False), x)


@pytest.mark.parametrize("number", [0.3, 1.0, 1.8])
@pytest.mark.parametrize("call", ["channels_last", "channels_first"])
@pytest.mark.parametrize("limits", [(-2.0, 2.0), (-0.5, 0.3)], ids=str)
def test_contrast_of_a_given_number_is_that_of_keras(limits, call, number):
    ours, theirs = (library.layers.RandomContrast(0.5, limits, data_format=call) for library in (tinyconv, keras))
    ours.numbers = lambda: (number, number)
    model = tinyconv.Sequential([tinyconv.Input(IMAGE), ours], seed=1)
    x, dy = random_array((BATCH, *IMAGE), 1), random_array((BATCH, *IMAGE), 2)
    factor = {"contrast_factor": jax.numpy.full((BATCH, 1, 1, 1), number)}
    expected, vjp = jax.vjp(lambda x: theirs.transform_images(x, factor), x)
    assert_agrees(model(x, training=True), expected, x.size, "output")
    dx = model._executor().gradients(x, dy.reshape(BATCH, -1), INNER_PRODUCT, training=True, input_gradient=True)[2]
    assert_agrees(dx.reshape(x.shape), vjp(jax.numpy.asarray(dy))[0], x.size, "gradient of the input")


def test_rounding_is_seen_beyond_its_bound():
    """The tolerance is no more than it says: three digits less are seen."""
    with pytest.raises(AssertionError, match="off by"):
        assert_agrees(np.float32(1.0002), 1.0, 1000)
    assert keras.backend.floatx() == "float32"

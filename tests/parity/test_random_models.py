"""Random models: the outputs, the loss, every gradient and the weights after three steps are Keras'.

`--models 3000 --seed 7` draws more, and others (tests/parity/README.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
from parity.architectures import Architecture, architectures
from parity.cases_layers import layer
from parity.harness import New, assert_agrees, jax, keras, libraries, make, random_array, tinyconv
from parity.kinks import is_near_kink

PER_PART = 50  # models in one test, so that several processes share them
STEPS = 3
DRAWS = 30


class Twins:
    """The same model in both libraries, with the same random weights."""

    def __init__(self, drawn: Architecture) -> None:
        pairs = [libraries(call) for call in drawn.layers]
        self.ours = tinyconv.Sequential([tinyconv.Input(drawn.input_shape), *(ours for ours, _ in pairs)], seed=1)
        self.theirs = keras.Sequential([keras.Input(drawn.input_shape), *(theirs for _, theirs in pairs)])
        self.loss = make(keras, drawn.loss)
        self.optimizer = make(keras, drawn.optimizer)
        self.optimizer.build(self.theirs.trainable_variables)
        self.drawn = drawn
        self._step = jax.jit(self._step_of_keras)

    def start(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Random weights, and the data: x and y."""
        weights = [_start_value(weight.name, tuple(weight.shape), 100 * seed + i)
                   for i, weight in enumerate(self.theirs.weights)]
        self.ours.set_weights(weights)
        self.theirs.set_weights(weights)
        self.ours.compile(make(tinyconv, self.drawn.optimizer), make(tinyconv, self.drawn.loss))
        self.state = ([v.value for v in self.theirs.trainable_variables],
                      [v.value for v in self.theirs.non_trainable_variables],
                      [v.value for v in self.optimizer.variables])
        x = random_array((self.drawn.batch, *self.drawn.input_shape), 100 * seed + 50)
        return x, _labels(self.drawn.loss, (self.drawn.batch, *self.ours.layers[-1].output_shape), seed)

    def _step_of_keras(self, trained: Any, fixed: Any, state: Any, x: Any, y: Any) -> Any:
        def objective(trained: Any) -> Any:
            output, after, losses = self.theirs.stateless_call(trained, fixed, x, training=True, return_losses=True)
            return self.loss(y, output) + sum(losses), (output, after)

        plain, _ = self.theirs.stateless_call(trained, fixed, x, training=False)
        (loss, (output, after)), gradients = jax.value_and_grad(objective, has_aux=True)(trained)
        moved, state = self.optimizer.stateless_apply(state, gradients, trained)
        return loss, plain, output, gradients, (moved, after, state)

    def step_of_keras(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any, Any, Any]:
        """(loss, output, output in training, gradients); the weights move."""
        loss, plain, output, gradients, self.state = self._step(*self.state, x, y)
        return loss, plain, output, gradients

    def weights_of_keras(self) -> list[Any]:
        trained, fixed = iter(self.state[0]), iter(self.state[1])
        return [next(trained if variable.trainable else fixed) for variable in self.theirs.weights]

    def length(self, x: np.ndarray) -> int:
        """No sum is longer, and every layer adds its rounding to those before it."""
        sizes = [math.prod(layer.output_shape) * len(x) for layer in self.ours.layers]
        sizes += [weight.value.size for weight in self.ours.weights]
        return max(x.size, *sizes) * len(self.ours.layers) ** 2


def _start_value(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Values that keep what goes through the network around 1."""
    values = random_array(shape, seed)
    if "variance" in name or name == "gamma":
        return np.abs(values) / 2 + np.float32(0.7)
    return values * np.float32(0.3 if len(shape) < 2 else 1 / math.sqrt(math.prod(shape[:-1])))


def _labels(loss: Any, shape: tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed + 7)
    classes = shape[-1]
    if loss.name.startswith("Sparse"):
        return random.integers(0, classes, shape[:-1]).astype(np.int32)
    if loss.name.startswith(("Categorical", "KL")):
        return np.eye(classes, dtype=np.float32)[random.integers(0, classes, shape[:-1])]
    if loss.name.startswith(("Binary", "Hinge")):
        return random.integers(0, 2, shape).astype(np.float32)
    return random.standard_normal(shape).astype(np.float32)


def compare(drawn: Architecture) -> None:
    """Draws data until three steps stay away from every kink, and compares all along."""
    twins = Twins(drawn)
    for seed in range(drawn.seed, drawn.seed + DRAWS):
        x, y = twins.start(seed)
        for findings in _train(twins, x, y):
            if findings is None:
                break
        else:
            return
    hypothesis.reject()


def _train(twins: Twins, x: np.ndarray, y: np.ndarray) -> Iterator[bool | None]:
    """Compares step by step; yields None where a step comes near a kink."""
    length = twins.length(x)
    before = twins.ours.get_weights()
    for step in range(STEPS):
        if is_near_kink(twins.ours, x):
            yield None
        loss, plain, output, gradients = twins.step_of_keras(x, y)
        if _is_clipped(twins.drawn, np.asarray(output)):
            yield None
        # Weights and data keep what is added up around 1, however small its sum is.
        assert_agrees(twins.ours(x), plain, length, f"output {step}", scale=1.0)
        cancellation = _cancellation(np.asarray(output), y, twins.drawn.layers[-1].kwargs["activation"],
                                     twins.drawn.loss.name)
        _assert_gradients(twins, x, y, gradients, length, step, cancellation)
        assert_agrees(twins.ours.train_on_batch(x, y), loss, length, f"loss {step}",
                      scale=max(1.0, float(np.abs(np.asarray(output)).max())))
    for weight, first, value in zip(twins.ours.weights, before, twins.weights_of_keras(), strict=True):
        assert_agrees(weight.value, value, length * STEPS**2, f"{weight.name} after {STEPS} steps",
                      scale=float(np.abs(first).max(initial=0)))


def _is_clipped(drawn: Architecture, output: np.ndarray) -> bool:
    """Whether Keras clips probabilities, with no gradient beyond; tinyconv goes on (docs/keras.md)."""
    of_probabilities = drawn.layers[-1].kwargs["activation"] in ("softmax", "sigmoid")
    return of_probabilities and bool(output.min() < 1e-6 or output.max() > 1 - 1e-6)


def _cancellation(output: np.ndarray, y: np.ndarray, activation: str | None, loss: str) -> float:
    """How much larger what is rounded at the end of a model is than the gradient that begins there.

    The gradient of a cross-entropy begins with p - y: where p is near 1, rounding it is rounding a number
    of that size, however small the difference.  That of a squared error behind a hyperbolic tangent begins
    with (p - y) (1 - p^2), and the square is rounded where it is near 1.  That of a cosine is the difference
    of two unit vectors, smaller than they are where labels and outputs are nearly in line.  1 for other outputs.
    """
    if loss == "CosineSimilarity":
        one, other = (v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12) for v in (output, y))
        across = np.linalg.norm(other - one * (one * other).sum(-1, keepdims=True), axis=-1)
        return max(1.0, 1 / max(float(across.max()), 1e-6))
    if activation == "tanh":
        distances = np.abs(output - y)
        return max(1.0, float(distances.max() / (distances * (1 - output**2)).max()))
    if output.min() < 0 or output.max() > 1:
        return 1.0
    labels = np.eye(output.shape[-1])[y] if y.dtype == np.int32 else y
    if labels.min() < 0 or labels.max() > 1:
        return 1.0
    return max(1.0, float(output.max() / np.abs(output - labels.reshape(output.shape)).max()))


def _assert_gradients(twins: Twins, x: np.ndarray, y: np.ndarray, expected: Any, length: int, step: int,
                      cancellation: float) -> None:
    data, loss = twins.ours._prepare(x, y, None), twins.ours._resolve().loss
    _, gradients, _ = twins.ours._executor().gradients(data.x, data.y, loss, step, True)
    ours = [gradient for gradient in gradients if gradient is not None]
    largest = max((float(np.abs(np.asarray(gradient)).max(initial=0)) for gradient in expected), default=0.0)
    for weight, gradient, wanted in zip(twins.ours.trainable_weights, ours, expected, strict=True):
        assert_agrees(gradient.reshape(weight.shape), wanted, length, f"gradient {step} of {weight.name}",
                      scale=largest * cancellation)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "part" in metafunc.fixturenames:
        count = int(metafunc.config.getoption("--models", 300))
        metafunc.parametrize("part", range(math.ceil(count / PER_PART)))


# Models that once failed, each for a reason of its own.
REGULAR = {
    "saturated tanh": Architecture(
        (9, 2), [layer("ReLU", None, 0.2, 0.3), layer("ELU", 0.5), layer("Dense", 3, activation="sigmoid"),
                 layer("Dense", 1, activation="leaky_relu"), layer("ELU", 0.5), layer("Reshape", (3, -1)),
                 layer("Flatten"), layer("Dense", 2, activation="tanh")],
        New("losses.MeanSquaredError"), New("optimizers.Nadam", 0.01, epsilon=0.01), 1, 310),
    "clipped probability": Architecture(
        (6, 10, 2), [layer("Flatten"), layer("Dense", 2, activation="softmax")],
        New("losses.SparseCategoricalCrossentropy"), New("optimizers.SGD", 0.1), 1, 8),
    "clipped probability of a batch": Architecture(
        (12, 11, 1), [layer("MaxPooling2D", (4, 3), strides=1), layer("Conv2D", 4, (1, 1), use_bias=False),
                      layer("Flatten"), layer("ELU", 1.0), layer("Dense", 2, activation="softmax")],
        New("losses.SparseCategoricalCrossentropy"), New("optimizers.SGD", 0.1), 4, 0),
    "output that cancels": Architecture(
        (7,), [layer("Flatten"), layer("Dense", 2, activation=None)],
        New("losses.SparseCategoricalCrossentropy", from_logits=True), New("optimizers.Adam", 0.01, epsilon=0.01),
        1, 6),
    "cosine in line": Architecture(
        (7,), [layer("LeakyReLU", 0.3), layer("Rescaling", -1.5, 0.0), layer("Activation", "silu"),
               layer("RepeatVector", 2), layer("Flatten"), layer("Dense", 3, activation=None)],
        New("losses.CosineSimilarity"), New("optimizers.Adadelta", 0.5, epsilon=0.01), 1, 3274),
    "loss of a cosine": Architecture(
        (2, 2, 2), [layer("Softmax"), layer("Activation", "relu"), layer("Flatten"),
                    layer("Dense", 2, activation=None)],
        New("losses.CosineSimilarity"), New("optimizers.Adam", 0.01, epsilon=0.01), 1, 11),
}


@pytest.mark.usefixtures("cheap_start")
@pytest.mark.parametrize("drawn", REGULAR.values(), ids=REGULAR)
def test_models_that_once_failed_train_as_in_keras(drawn):
    compare(drawn)


@pytest.mark.usefixtures("cheap_start")
def test_random_models_train_as_in_keras(part, pytestconfig):
    seed = int(pytestconfig.getoption("--seed", 0))
    run = hypothesis.given(architectures(keras))(compare)
    run = hypothesis.settings(max_examples=PER_PART, deadline=None, database=None,
                              suppress_health_check=list(hypothesis.HealthCheck))(run)
    hypothesis.seed(f"{seed} {part}")(run)()
    jax.clear_caches()

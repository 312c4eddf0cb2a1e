"""Steps along given gradients: the figures that Keras' own tests of its optimizers expect."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import Input, Sequential, layers, optimizers

STEPS = 5
RISING = np.linspace(0.1, 1.0, 10, dtype=np.float32)

# The optimizer, and ten weights that begin at 1 after a step along 0.01, and after steps along 0.1, 0.2 ... 1.
GOLDEN = [
    (optimizers.SGD(nesterov=True), [1 - 0.0001 - 0.01 * step * RISING for step in range(STEPS)]),
    (optimizers.Adagrad(learning_rate=0.2, initial_accumulator_value=0.3, epsilon=1e-6), [
        [0.9963] * 10,
        [0.9604, 0.9278, 0.9003, 0.8784, 0.8615, 0.8487, 0.8388, 0.8313, 0.8255, 0.8209],
        [0.9251, 0.8629, 0.8137, 0.7768, 0.7497, 0.7298, 0.7151, 0.704, 0.6956, 0.6891],
        [0.8903, 0.8012, 0.7342, 0.6862, 0.6521, 0.6277, 0.6099, 0.5967, 0.5867, 0.579],
        [0.856, 0.7422, 0.6604, 0.6037, 0.5644, 0.5367, 0.5168, 0.5021, 0.491, 0.4825]]),
    (optimizers.Adamax(learning_rate=0.2, beta_1=0.85, beta_2=0.95, epsilon=1e-6), [
        [0.8] * 10,
        [0.6827, 0.6873, 0.6888, 0.6896, 0.6901, 0.6904, 0.6906, 0.6908, 0.6909, 0.691],
        [0.5333, 0.5407, 0.5431, 0.5444, 0.5451, 0.5456, 0.546, 0.5462, 0.5464, 0.5466],
        [0.368, 0.3773, 0.3804, 0.382, 0.3829, 0.3835, 0.384, 0.3843, 0.3846, 0.3848],
        [0.1933, 0.204, 0.2076, 0.2094, 0.2105, 0.2112, 0.2117, 0.2121, 0.2124, 0.2126]]),
    (optimizers.Nadam(learning_rate=0.5, beta_1=0.5, beta_2=0.67, epsilon=1e-5), [
        [0.4281] * 10,
        [-0.1738, -0.1731, -0.1726, -0.1723, -0.1721, -0.172, -0.1719, -0.1718, -0.1718, -0.1717],
        [-0.7115, -0.7103, -0.7096, -0.7092, -0.709, -0.7088, -0.7086, -0.7085, -0.7085, -0.7084],
        [-1.2335, -1.2322, -1.2313, -1.2309, -1.2306, -1.2304, -1.2302, -1.2301, -1.23, -1.2299],
        [-1.7492, -1.7478, -1.7469, -1.7464, -1.7461, -1.7459, -1.7457, -1.7456, -1.7455, -1.7454]]),
    (optimizers.AdamW(learning_rate=1.0, weight_decay=0.5, epsilon=2), [
        [0.4998] * 10,
        [0.2486, 0.2475, 0.2463, 0.2451, 0.244, 0.2428, 0.2417, 0.2405, 0.2394, 0.2382],
        [0.1223, 0.1198, 0.1174, 0.1149, 0.1124, 0.11, 0.1075, 0.1051, 0.1027, 0.1003],
        [0.0586, 0.0549, 0.0512, 0.0475, 0.0439, 0.0402, 0.0366, 0.033, 0.0294, 0.0258],
        [0.0263, 0.0215, 0.0167, 0.012, 0.0073, 0.0026, -0.0021, -0.0067, -0.0113, -0.0159]]),
]


def model_of(optimizer: optimizers.Optimizer, start: np.ndarray) -> Sequential:
    """A model whose gradient is the sample: the loss is the distance from a number far below."""
    model = Sequential([Input((start.size,)), layers.Dense(1, use_bias=False)])
    model.set_weights([start.reshape(-1, 1)])
    model.compile(optimizer, "mae")
    return model


def step(model: Sequential, gradient: np.ndarray) -> np.ndarray:
    """The weights after a step along a gradient."""
    model.train_on_batch(gradient[None], np.full((1, 1), -1e6, np.float32))
    return model.get_weights()[0].ravel()


@pytest.mark.parametrize(("optimizer", "expected"), GOLDEN, ids=[type(case[0]).__name__ for case in GOLDEN])
def test_optimizer_goes_the_steps_of_keras(optimizer, expected):
    model = model_of(optimizer, np.ones(10, np.float32))
    for gradient, weights in zip([np.full(10, 0.01, np.float32), *[RISING] * 4], expected, strict=True):
        np.testing.assert_allclose(step(model, gradient), weights, atol=6e-5)  # four decimals are known


@pytest.mark.parametrize(("optimizer", "expected"), [
    (optimizers.Adam(amsgrad=True), [0.999, 0.9982, 0.9974, 0.9965, 0.9955]),
    (optimizers.Adadelta(learning_rate=1.0, rho=0.8, epsilon=1e-6), [0.9978, 0.9947, 0.9915, 0.9882, 0.9849]),
    (optimizers.RMSprop(centered=True), [0.9967, 0.9933, 0.9908, 0.9885, 0.9864]),
], ids=["Adam", "Adadelta", "RMSprop"])
def test_size_of_the_gradient_matters_little(optimizer, expected):
    model = model_of(optimizer, np.ones(10, np.float32))
    for gradient, weight in zip([np.full(10, 0.01, np.float32), *[RISING] * 4], expected, strict=True):
        np.testing.assert_allclose(step(model, gradient), weight, atol=5e-4)


@pytest.mark.parametrize(("optimizer", "expected"), [
    (optimizers.SGD(learning_rate=0.5), [0.5, -1.0, -0.5, 3.0]),
    (optimizers.Adagrad(learning_rate=0.5), [0.5233, 1.5007, 2.5005, 3.5061]),
    (optimizers.Adam(learning_rate=0.5), [0.5, 1.5, 2.5, 3.5]),
    (optimizers.AdamW(learning_rate=0.5), [0.4980, 1.4960, 2.494, 3.492]),
    (optimizers.Adamax(learning_rate=0.5), [0.5, 1.5, 2.5, 3.5]),
    (optimizers.Nadam(learning_rate=0.5), [0.4686, 1.4686, 2.4686, 3.4686]),
    (optimizers.Adadelta(learning_rate=0.5), [0.9993, 1.9993, 2.9993, 3.9993]),
    (optimizers.RMSprop(learning_rate=0.5), [-0.5811, 0.4189, 1.4189, 2.4189]),
], ids=lambda value: type(value).__name__ if isinstance(value, optimizers.Optimizer) else "")
def test_first_step_is_that_of_keras(optimizer, expected):
    model = model_of(optimizer, np.array([1, 2, 3, 4], np.float32))
    np.testing.assert_allclose(step(model, np.array([1, 6, 7, 2], np.float32)), expected, atol=1.5e-4)


@pytest.mark.parametrize("kind", ["Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "SGD"])
def test_weight_decay_without_a_gradient_is_that_of_keras(kind):
    model = model_of(getattr(optimizers, kind)(learning_rate=1.0, weight_decay=0.004), np.full(1, 2, np.float32))
    expected = 2 - 2 * 0.004
    np.testing.assert_allclose(step(model, np.zeros(1, np.float32)), expected, rtol=1e-6)


def test_average_of_weights_is_that_of_keras():
    """Begun after the first step, and written over the weights after every third."""
    model = model_of(optimizers.SGD(1.0, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3),
                     np.array([3, 4, 5, 6], np.float32))
    for expected in ([2, 3, 4, 5], [1, 2, 3, 4], [1.71, 2.71, 3.71, 4.71]):
        np.testing.assert_allclose(step(model, np.ones(4, np.float32)), expected, rtol=1e-6)


def test_average_of_weights_stays_after_fit():
    model = Sequential([Input((1,)), layers.Dense(2, kernel_initializer="ones", use_bias=False)])
    model.compile(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
    model.fit(np.ones((1, 1)), np.zeros((1, 2)), batch_size=1, epochs=2, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], [[0.891, 0.891]], rtol=1e-6)


@pytest.mark.parametrize("option", [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 1.0}], ids=str)
def test_clipping_is_that_of_keras(option):
    model = model_of(optimizers.SGD(1.0, **option), np.zeros(2, np.float32))
    expected = 1.0 if "clipvalue" in option else 2**-0.5
    np.testing.assert_allclose(step(model, np.full(2, 100, np.float32)), -expected, rtol=1e-6)

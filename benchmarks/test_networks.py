"""Whole networks: the training step (gather, forward, backward, Adam, metrics) and prediction."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.conftest import Measure
from benchmarks.machine import Setup
from benchmarks.peers.adapters.tinyconv import build
from benchmarks.peers.workloads import SEED_NETWORK, SKETCH_NETWORK, Network, make_data
from tinyconv import Sequential, layers
from tinyconv.bench import operations
from tinyconv.engine.program import Loss, Metric, Program

LOSS, METRICS = Loss("sparse_categorical_crossentropy"), (Metric("sparse_categorical_accuracy"),)
ADAM = ("adam", (1e-3, 0.9, 0.999, 1e-7))
SAMPLES = 5500


def named(value: object) -> str:
    return value.name if isinstance(value, Network) else str(value)


@pytest.mark.parametrize(
    ("network", "batch"), [(SEED_NETWORK, 512), (SEED_NETWORK, 32), (SKETCH_NETWORK, 256)], ids=named)
def test_training_step(network: Network, batch: int, setup: Setup, measure: Measure) -> None:
    program = build(network).program
    executor = setup.executor(program)
    x, y = make_data(network, SAMPLES)
    y = y.astype(np.int32)
    rows = np.random.default_rng(1).permutation(SAMPLES)[:batch]
    state = [[np.zeros_like(weight), np.zeros_like(weight)] for weight in program.weights]

    def step() -> np.ndarray:
        return executor.train_step(x, y, LOSS, *ADAM, state, 0, METRICS, rows)
    sums = measure(step, f"{network.name}, training step, batch {batch}",
                   operations=batch * operations(program, training=True))
    assert np.isfinite(sums).all()


def normed_network() -> Program:
    """Two convolutions, each with batch normalization, ReLU and a pool."""
    blocks = [(layers.Conv2D(filters, 3), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(2))
              for filters in (16, 32)]
    return Sequential([layers.Input((28, 28, 1)), *blocks[0], *blocks[1], layers.Flatten(),
                       layers.Dense(10, activation="softmax")], seed=1).program


def test_training_step_with_batch_normalization(setup: Setup, measure: Measure) -> None:
    program, batch = normed_network(), 256
    executor = setup.executor(program)
    x, y = make_data(SEED_NETWORK, batch)
    y = y.astype(np.int32)
    state = [[np.zeros_like(weight), np.zeros_like(weight)] for weight in program.weights]
    sums = measure(lambda: executor.train_step(x, y, LOSS, *ADAM, state, 0, METRICS),
                   f"batch normalization, training step, batch {batch}",
                   operations=batch * operations(program, training=True))
    assert np.isfinite(sums).all()


@pytest.mark.parametrize("batch", [512, 1])
@pytest.mark.parametrize("network", [SEED_NETWORK, SKETCH_NETWORK], ids=named)
def test_prediction(network: Network, batch: int, setup: Setup, measure: Measure) -> None:
    program = build(network).program
    executor = setup.executor(program)
    x, _ = make_data(network, batch)
    probabilities = measure(lambda: executor.predict(x), f"{network.name}, prediction, batch {batch}",
                            operations=batch * operations(program))
    assert probabilities.reshape(batch, -1).sum(axis=1) == pytest.approx(1, abs=1e-4)


def kinds_network(kind: str) -> Program:
    """A small network of a kind of convolution that takes a path of its own for one image."""
    blocks: dict[str, list[layers.Layer]] = {
        "groups": [layers.Conv2D(filters, 3, padding="same", groups=filters // 4, activation="relu")
                   for filters in (16, 32)],
        "multiplied depthwise": [layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu"),
                                 layers.Conv2D(32, 1, activation="relu")],
        "transposed": [layers.Conv2DTranspose(filters, 4, strides=2, padding="same", activation="relu")
                       for filters in (16, 3)],
    }
    return Sequential([layers.Input((28, 28, 1)), layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
                       *blocks[kind], layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")],
                      seed=1).program


@pytest.mark.parametrize("kind", ["groups", "multiplied depthwise", "transposed"])
def test_prediction_of_one_image(kind: str, setup: Setup, measure: Measure) -> None:
    program = kinds_network(kind)
    executor = setup.executor(program)
    x, _ = make_data(SEED_NETWORK, 1)
    probabilities = measure(lambda: executor.predict(x), f"{kind}, prediction, batch 1", operations=operations(program))
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)

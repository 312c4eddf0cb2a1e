"""Updates: a training step of one image through a dense layer of ten million weights.

The rate counts what the update alone has to move: its gradient, weight and state arrays.  The
passes through the layer, which the step cannot do without, are in the time but not in the
bytes: compare optimizers with each other, and with plain SGD, which is little else.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.conftest import Measure
from benchmarks.machine import Setup
from tinyconv import optimizers
from tinyconv.engine.program import Loss, ProgramBuilder

INPUTS, UNITS = 4000, 2500
LOSS = Loss("mean_squared_error")
CASES = [
    optimizers.SGD(), optimizers.SGD(momentum=0.9), optimizers.RMSprop(),
    optimizers.RMSprop(momentum=0.9, centered=True),
    optimizers.Adam(), optimizers.Adam(amsgrad=True), optimizers.AdamW(), optimizers.Adamax(), optimizers.Nadam(),
    optimizers.Adagrad(), optimizers.Adadelta(), optimizers.Adam(global_clipnorm=1.0), optimizers.Adam(use_ema=True),
]
NAMES = ["sgd", "momentum", "rmsprop", "rmsprop-centered-momentum", "adam", "amsgrad", "adamw", "adamax", "nadam",
         "adagrad", "adadelta", "adam-global_clipnorm", "adam-use_ema"]


@pytest.mark.parametrize(("optimizer", "name"), list(zip(CASES, NAMES, strict=True)), ids=NAMES)
def test_update(optimizer: optimizers.Optimizer, name: str, setup: Setup, measure: Measure) -> None:
    random = np.random.default_rng(1)
    builder = ProgramBuilder((1, 1, INPUTS))
    kernel = random.standard_normal((INPUTS, UNITS), np.float32)
    builder.add("dense", (1, 1, UNITS), (builder.weight(kernel),))
    program = builder.build()
    executor = setup.executor(program)
    x, y = random.standard_normal((1, INPUTS), np.float32), random.standard_normal((1, UNITS), np.float32)
    optimizer.build(program.weights)

    def step() -> np.ndarray:
        return executor.train_step(x, y, LOSS, optimizer.kind, optimizer.hyperparameters(), optimizer.state, 0,
                                   options=optimizer.options())
    # The gradient is read; weights and states are read and written.
    sums = measure(step, f"update of 10M weights, {name}", moved=kernel.nbytes * (3 + 2 * len(optimizer.slots)))
    assert np.isfinite(sums).all()

"""How a peer is timed and checked; runs in the peer's process.  Nothing is timed before
its result agreed with the NumPy peer's."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import workloads as wl

CHECKED_STEPS = 8  # of training; from there on rounding grows
TOLERANCE = 2e-3  # relative
FIT_TOLERANCE = 0.3  # of a whole training, where everyone shuffles differently


class Disagreement(Exception):
    """A peer computed something else than the others."""


class Results:
    """What one process found.

    metrics: name -> (value, unit).  checks: name -> what must agree with `expected`,
    which is None in the process that says what to expect.
    """

    def __init__(self, seconds: float, expected: dict[str, list[float]] | None) -> None:
        self.seconds = seconds
        self.metrics: dict[str, tuple[float, str]] = {}
        self.checks: dict[str, list[float]] = {}
        self._expected = expected

    def check(self, name: str, values: Any, tolerance: float = TOLERANCE) -> None:
        """Raises Disagreement unless values are those expected."""
        found = [float(value) for value in np.atleast_1d(values)]
        self.checks[name] = found
        if self._expected is not None and name in self._expected:
            expected = self._expected[name]
            if not np.allclose(found, expected, rtol=tolerance, atol=1e-6):
                raise Disagreement(f"{name}: expected {expected}, computed {found}")

    @property
    def timing(self) -> bool:
        """Whether to time at all, or to check only."""
        return self.seconds > 0


def median(values: list[float]) -> float:
    return float(np.median(values))


def time_calls(function: Callable[[], object], seconds: float, warm_up: int = 3, most: int = 20000) -> float:
    """Median seconds of a call, of as many calls as take `seconds`; 3 at least, unless they are very slow."""
    start = time.perf_counter()
    for _ in range(warm_up):
        function()
        if time.perf_counter() - start > seconds:
            break
    times: list[float] = []
    clock = time.perf_counter
    end, latest = clock() + seconds, clock() + 4 * seconds
    while not times or (clock() < (end if len(times) >= 3 else latest) and len(times) < most):
        before = clock()
        function()
        times.append(clock() - before)
    return median(times)


def train(engine: Any, workload: str, results: Results, batches: list[int] | None = None) -> None:
    """W1, W2: images a second, epoch by epoch, at every batch size."""
    plan = wl.TRAINING[workload]
    x, y = wl.make_data(plan.network, plan.samples)
    for batch in batches or plan.batches:
        epoch = engine.trainer(plan.network, x, y, batch)
        rows = partial(_epoch_rows, np.random.default_rng(wl.SEED), plan.samples, batch)
        loss = epoch(rows()[:CHECKED_STEPS])
        results.check(f"batch {batch}: mean loss of {CHECKED_STEPS} steps", loss)
        if results.timing:
            seconds = time_calls(partial(_run_epoch, epoch, rows), results.seconds, warm_up=1)
            results.metrics[f"batch {batch}"] = (rows().size / seconds, "images/s")


def _epoch_rows(random: np.random.Generator, samples: int, batch: int) -> np.ndarray:
    """The samples of an epoch in a new order, (steps, batch); what does not fill a batch is left out."""
    return random.permutation(samples)[:samples // batch * batch].reshape(-1, batch)


def _run_epoch(epoch: Callable[[np.ndarray], float], rows: Callable[[], np.ndarray]) -> None:
    epoch(rows())


def fit(engine: Any, results: Results) -> None:
    """W1e: trains once; the runner takes the time of the process."""
    network = wl.SEED_NETWORK
    training = wl.make_data(network, wl.FIT_SAMPLES)
    validation = wl.make_data(network, wl.FIT_VALIDATION, wl.SEED + 1)
    loss, accuracy = engine.fit(network, training, validation, wl.FIT_BATCH, wl.FIT_EPOCHS)
    results.check("validation loss", loss, FIT_TOLERANCE)
    results.check("validation accuracy", accuracy, FIT_TOLERANCE)


def predict(engine: Any, results: Results) -> None:
    """W3: from a NumPy batch to the NumPy array of its probabilities."""
    for network in wl.PREDICTION:
        images, _ = wl.make_data(network, max(wl.PREDICTION_BATCHES))
        for batch in wl.PREDICTION_BATCHES:
            x = images[:batch].copy()
            predictor = engine.predictor(network, batch)
            name = f"{network.name}, batch {batch}: probabilities"
            results.check(name, predictor(x).reshape(batch, -1)[0, :4])
            if results.timing:
                seconds = time_calls(partial(predictor, x), results.seconds, warm_up=20)
                if batch == 1:
                    results.metrics[f"{network.name}, one image"] = (seconds * 1e6, "us")
                else:
                    results.metrics[f"{network.name}, batch {batch}"] = (batch / seconds, "images/s")


def convolutions(engine: Any, cases: tuple[wl.Convolution, ...], results: Results) -> None:
    """W4, W6, W7: forward and both gradients."""
    random = np.random.default_rng(wl.SEED)
    for case in cases:
        functions = engine.convolution(
            case, _uniform(random, case.images, case.height, case.width, case.channels),
            _uniform(random, *case.kernel_shape),
            _uniform(random, case.images, *case.output_size, case.filters))
        for part, function in zip(("forward", "backward input", "backward kernel"), functions, strict=True):
            name = f"conv2d {case}: {part}"
            results.check(name, _fingerprint(function()))
            if results.timing:
                seconds = time_calls(function, results.seconds)
                results.metrics[name] = (case.operations / seconds * 1e-9, "GFLOP/s")


def pools_and_losses(engine: Any, results: Results) -> None:
    """W4.  A pool counts x and y as moved, or dy and dx, once each."""
    random = np.random.default_rng(wl.SEED)
    for n, height, width, channels in wl.POOLS if hasattr(engine, "max_pool") else ():
        x = _uniform(random, n, height, width, channels)
        dy = _uniform(random, n, height // 2, width // 2, channels)
        for part, function in zip(("forward", "backward"), engine.max_pool(x, dy), strict=True):
            name = f"max-pool 2x2 {n}x{height}x{width}x{channels}: {part}"
            results.check(name, _fingerprint(function()))
            if results.timing:
                seconds = time_calls(function, results.seconds)
                results.metrics[name] = ((x.nbytes + dy.nbytes) / seconds * 1e-9, "GB/s")
    for n, classes in wl.LOSSES if hasattr(engine, "softmax_cross_entropy") else ():
        function = engine.softmax_cross_entropy(_uniform(random, n, classes), random.integers(0, classes, n))
        name = f"softmax cross-entropy and gradient {n}x{classes}"
        results.check(name, function())
        if results.timing:
            results.metrics[name] = (time_calls(function, results.seconds) * 1e6, "us")


def run(engine: Any, workload: str, results: Results, batches: list[int] | None = None) -> None:
    """One workload of one peer."""
    if workload in wl.TRAINING:
        train(engine, workload, results, batches)
    elif workload == "W1e":
        fit(engine, results)
    elif workload == "W3":
        predict(engine, results)
    elif workload == "W4":
        convolutions(engine, wl.CONVOLUTIONS, results)
        pools_and_losses(engine, results)
    elif workload == "W6":
        convolutions(engine, wl.OTHER_CONVOLUTIONS, results)
    elif workload == "W7":
        convolutions(engine, wl.GROUPED_CONVOLUTIONS, results)
    else:
        raise ValueError(f"Unknown workload. Expected one of {tuple(wl.WORKLOADS)}. Received: {workload}")


def _uniform(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.random(shape, dtype=np.float32) - np.float32(0.5)


def _fingerprint(result: Any) -> float:
    """A number that does not depend on the order of the axes."""
    return float(np.abs(np.asarray(result, np.float64)).mean())

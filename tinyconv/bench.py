"""How fast this machine runs tinyconv: what `tinyconv bench` does.

Every instruction set and number of threads runs in a process of its own, since both
are chosen when the engine is loaded.  What is timed is what a user calls: `fit`,
`predict_on_batch`, with everything that belongs to them.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

import tinyconv
from tinyconv import config, engine, layers
from tinyconv.engine.program import Program

__all__ = ["Figures", "configurations", "describe", "measure", "operations", "report", "run", "seed_network",
           "table_row"]

BATCH = 512


class Figures(NamedTuple):
    """What one configuration reached.

    instruction_set: its name, or "numpy" for the reference.  peak: FLOP/s, None for the
    reference.  training and prediction: images a second in batches of 512.
    one_image: seconds.  training_share, prediction_share: parts of the peak, or None.
    """

    instruction_set: str
    threads: int
    peak: float | None
    training: float
    training_share: float | None
    prediction: float
    prediction_share: float | None
    one_image: float


def seed_network() -> tinyconv.Sequential:
    """The network of the classic MNIST tutorial: 5,994 parameters."""
    model = tinyconv.Sequential([
        layers.Input(shape=(28, 28, 1)),
        layers.Conv2D(8, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def operations(program: Program, training: bool = False) -> int:
    """Float operations of one image in convolutions and dense layers; a multiply-add is two.

    Training takes the forward pass, the gradient of every kernel, and the gradient of
    every input but that of the first of these layers, which nobody needs.  What `"same"`
    padding adds counts, as everybody counts it; activations and pools do not.
    """
    forward = [2 * work for work in map(program.multiply_adds, program.ops) if work]
    return 3 * sum(forward) - forward[0] if training and forward else sum(forward)


def measure(seconds: float) -> Figures:
    """The figures of this process: of the instruction set and the threads that it uses."""
    settings = engine.config()
    native = settings["backend"] == "native"
    random = np.random.default_rng(1)
    samples = 10 * BATCH if native else 2 * BATCH
    x = random.random((samples, 28, 28, 1), dtype=np.float32)
    y = random.integers(0, 10, samples).astype(np.int32)
    model = seed_network()
    peaks = [engine.measure_peak(seconds * 0.07)]
    training = samples / _seconds_a_call(
        lambda: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0), seconds * 0.35)
    peaks.append(engine.measure_peak(seconds * 0.07))
    batch, image = x[:BATCH].copy(), x[:1].copy()
    prediction = BATCH / _seconds_a_call(lambda: model.predict_on_batch(batch), seconds * 0.3)
    peaks.append(engine.measure_peak(seconds * 0.07))
    one_image = _seconds_a_call(lambda: model.predict_on_batch(image), seconds * 0.15)
    # Three times, for the processor may be busy with something else for a while.
    peak = max((speed for speed in peaks if speed is not None), default=None)

    def share(speed: float, train: bool) -> float | None:
        return None if peak is None else speed * operations(model.program, train) / peak

    return Figures(settings["instruction_set"] if native else "numpy", settings["threads"], peak, training,
                   share(training, True), prediction, share(prediction, False), one_image)


def _seconds_a_call(function: Callable[[], object], seconds: float) -> float:
    """The median; the first call, which prepares things, is left out."""
    function()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def configurations() -> list[tuple[str, int]]:
    """(instruction set, threads) to run: one thread and all, for all sets of this machine; NumPy last."""
    settings = engine.config()
    forced = os.environ.get("TINYCONV_ISA")
    names = [name for name in settings["instruction_sets_available"] if not forced or name == forced]
    counts = sorted({1, settings["threads"]})
    return [(name, threads) for name in names for threads in counts] + [("numpy", 1)]


def run(seconds: float, chosen: Iterable[tuple[str, int]]) -> Iterator[Figures]:
    """Measures the configurations one after the other, for about so many seconds altogether.

    Raises:
        OSError: If a process ends without a result.
    """
    import json
    import subprocess

    chosen = list(chosen)
    for name, threads in chosen:
        variables = {key: value for key, value in os.environ.items() if not key.startswith("TINYCONV_")}
        if name == "numpy":
            variables |= {"TINYCONV_BACKEND": "numpy"}
        else:
            variables |= {"TINYCONV_BACKEND": "native", "TINYCONV_ISA": name,
                          "TINYCONV_NUM_THREADS": str(threads)}
        # -P: a file in the current folder must not stand in for a module.
        command = [sys.executable, "-P", "-m", "tinyconv.bench", str(seconds / len(chosen))]
        result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
            raise OSError(f"The measurement of {name} on {threads} threads failed: {reason}")
        yield Figures(**json.loads(result.stdout))


def describe() -> dict[str, Any]:
    """What the figures belong to: versions, processor, date, the work of one image."""
    model = seed_network()
    return {**config.config(), "processor": _processor(), "date": time.strftime("%Y-%m-%d"),
            "training_operations": operations(model.program, training=True),
            "prediction_operations": operations(model.program)}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


TABLE_HEAD = """\
                             peak    training, batch 512   prediction, batch 512  one image
instruction set  threads  GFLOP/s   images/s   of peak     images/s   of peak            us"""


def table_row(figures: Figures) -> str:
    """One line under TABLE_HEAD."""
    def share(part: float | None) -> str:
        return "-" if part is None else f"{part:.0%}"

    peak = "-" if figures.peak is None else f"{figures.peak / 1e9:.1f}"
    threads = "-" if figures.instruction_set == "numpy" else str(figures.threads)
    training = f"{figures.training:>9,.0f}   {share(figures.training_share):>7}"
    prediction = f"{figures.prediction:>11,.0f}   {share(figures.prediction_share):>7}"
    return (f"{figures.instruction_set:<15}  {threads:>7}  {peak:>7}  {training}  {prediction}  "
            f"{figures.one_image * 1e6:>12.1f}")


def report(seconds: float, as_json: bool = False) -> None:
    """Measures every configuration for so many seconds altogether and prints a table, or JSON.

    Raises:
        ValueError: If seconds is not a positive number.
        OSError: If a process ends without a result.
    """
    if not 0 < seconds < float("inf"):
        raise ValueError(f"Expected seconds to be a positive number. Received: seconds={seconds}")
    about = describe()
    if as_json:
        import json

        results = [figures._asdict() for figures in run(seconds, configurations())]
        print(json.dumps({**about, "results": results}, indent=1))
        return
    work = [f"{about[f'{name}_operations'] / 1e6:.2f}" for name in ("training", "prediction")]
    machine = f"{about['processor']}, {about['threads']} threads"
    print(f"tinyconv {about['tinyconv']} on {machine}, {about['date']}\n"
          "The network of the MNIST tutorial, 28x28x1, float32: "
          f"{work[0]} MFLOP an image to train, {work[1]} to predict\n\n{TABLE_HEAD}")
    for figures in run(seconds, configurations()):
        print(table_row(figures), flush=True)
    print("\npeak: the most that these threads multiply and add; numpy: the reference in NumPy; "
          "one image: a call of predict_on_batch")


if __name__ == "__main__":
    import json

    print(json.dumps(measure(float(sys.argv[1]))._asdict()))

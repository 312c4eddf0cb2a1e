"""What the benchmarks run on: instruction sets, threads, and the machine's measured limits."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tinyconv import engine
from tinyconv.engine import arrays_reference, reference
from tinyconv.engine.program import Program

NUMPY = "numpy"


@dataclass(frozen=True)
class Setup:
    """An instruction set of the engine and a number of threads, or the NumPy reference."""

    instruction_set: str
    threads: int

    def __str__(self) -> str:
        return NUMPY if self.is_reference else f"{self.instruction_set}-{self.threads}"

    @property
    def is_reference(self) -> bool:
        return self.instruction_set == NUMPY

    def activate(self) -> None:
        """What is made after this runs on this setup."""
        if not self.is_reference:
            from tinyconv.engine import native

            if not native.select_instruction_set(self.instruction_set):
                raise RuntimeError(f"{self.instruction_set} is not available here")
            native.set_num_threads(self.threads)

    def executor(self, program: Program) -> Any:
        return reference.Executor(program) if self.is_reference else engine.Executor(program)

    @property
    def arrays(self) -> Any:
        """The module with the functions of whole arrays."""
        if self.is_reference:
            return arrays_reference
        from tinyconv.engine import native

        return native

    def peak(self) -> float | None:
        """FLOP/s; None for NumPy, whose threads are its own."""
        return None if self.is_reference else _peak(self)

    def bandwidth(self, size: int) -> float | None:
        """Bytes/s, read and written, of a copy that moves `size` bytes; None for NumPy."""
        return None if self.is_reference else copy_speed(self.threads, size)


def setups() -> list[Setup]:
    """All instruction sets of this machine on one thread and on all; the reference last."""
    settings = engine.config()
    return [Setup(name, threads) for name in settings["instruction_sets_available"]
            for threads in sorted({1, settings["threads"]})] + [Setup(NUMPY, 1)]


@cache
def _peak(setup: Setup) -> float:
    setup.activate()
    return max(engine.measure_peak(0.1) or 0.0 for _ in range(3))


@cache
def copy_speed(threads: int, size: int) -> float:
    """Bytes/s of `threads` copies side by side which read and write `size` bytes altogether.

    Arrays that fit into a cache are copied there, as the benchmark's own arrays are.
    """
    count = max(size // 8 // threads, 1024)
    arrays = [(np.ones(count, np.float32), np.zeros(count, np.float32)) for _ in range(threads)]
    repeats = max(1, int(2e8 / (8 * count * threads)))
    return max(_copy_once(arrays, repeats) for _ in range(5))


def _copy_once(arrays: list[tuple[np.ndarray, np.ndarray]], repeats: int) -> float:
    barrier = threading.Barrier(len(arrays))
    seconds: list[float] = []

    def work(source: np.ndarray, target: np.ndarray) -> None:
        barrier.wait()
        start = time.perf_counter()
        for _ in range(repeats):
            np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    workers = [threading.Thread(target=work, args=pair) for pair in arrays]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    moved = 2 * sum(source.nbytes for source, _ in arrays)
    return moved * repeats / statistics.mean(seconds)

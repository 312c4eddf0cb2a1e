"""Starts the workers: every case in a process of its own, round by round."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

ADAPTERS = Path(__file__).parent / "adapters"
WORKER = Path(__file__).parent / "worker.py"
HELPERS = {"__init__", "onnx_model"}
REFERENCE = "numpy"  # says what the others must compute

# For variants named "-tuned": freed memory is kept (a training step of some peers allocates and
# frees megabytes), and OpenMP's threads stay where they are.
TUNED = {"MALLOC_TOP_PAD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_MAX_": "0",
         "OMP_PROC_BIND": "true"}

# What holds the peers to an instruction set.
INSTRUCTION_SETS = {
    "avx2": {"TINYCONV_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
             "OPENBLAS_CORETYPE": "Haswell", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "avx512": {"TINYCONV_ISA": "avx512"},
}


@dataclass(frozen=True)
class Settings:
    """What holds for all cases of a run."""

    rounds: int = 3
    seconds: float = 1.0  # a metric and round
    timeout: float = 300.0
    isa: str | None = None
    batches: tuple[int, ...] | None = None  # of W1 and W2, instead of their own


@dataclass(frozen=True)
class Case:
    workload: str
    peer: str
    variant: str
    threads: int


@dataclass
class Record:
    """What one process found, or why it did not."""

    case: Case
    round: int
    metrics: dict[str, tuple[float, str]] = field(default_factory=dict)
    checks: dict[str, list[float]] = field(default_factory=dict)
    version: str = "?"
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        metrics = {name: (float(value), str(unit)) for name, (value, unit) in data["metrics"].items()}
        case = Case(**data["case"])
        return cls(case, data["round"], metrics, data["checks"], data["version"], data["error"])


def home() -> Path:
    return Path(os.environ.get("PEERS_HOME") or Path.home() / ".cache" / "peers")


def peers() -> list[str]:
    return sorted(path.stem for path in ADAPTERS.glob("*.py") if path.stem not in HELPERS)


def adapter(peer: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.peers.adapters.{peer}")


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def interpreter(peer: str) -> str | None:
    """The Python that has the peer: PEERS_PYTHON_<PEER>, else its environment, else this one; or None."""
    module = adapter(peer)
    named = os.environ.get(f"PEERS_PYTHON_{peer.upper()}")
    if named:
        return named
    if module.ENVIRONMENT:
        own = python_of(home() / module.ENVIRONMENT)
        if own.exists():
            return str(own)
    # The top module only: finding an inner one would import it.
    return sys.executable if importlib.util.find_spec(module.LIBRARY.partition(".")[0]) else None


def cases(workload: str, chosen: Iterable[str], variants: Iterable[str], threads: Iterable[int],
          isa: str | None) -> list[Case]:
    """The cases of a workload that can run here; variants are patterns such as "eager*"."""
    variants = list(variants)
    result = []
    for count in threads:
        for peer in chosen:
            module = adapter(peer)
            if interpreter(peer) is None or (isa and not module.INSTRUCTION_SETS):
                continue
            names = ("import",) if workload == "W5" else module.VARIANTS.get(workload, ())
            result += [Case(workload, peer, name, count) for name in names
                       if any(fnmatch.fnmatch(name, pattern) for pattern in variants)]
    return result


def processors(threads: int) -> list[int]:
    """Those that a case may use: the last ones of this process."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[-threads:]


def environment(case: Case, isa: str | None) -> dict[str, str]:
    variables = {**os.environ, "PEERS_HOME": str(home()), "TF_CPP_MIN_LOG_LEVEL": "3",
                 "CUDA_VISIBLE_DEVICES": ""}
    variables.pop("PYTHONPATH", None)  # what is installed is measured
    variables |= INSTRUCTION_SETS[isa] if isa else {}
    variables |= TUNED if case.variant.endswith("-tuned") else {}
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    return variables | dict.fromkeys(names, str(case.threads))


def run_case(case: Case, number: int, settings: Settings, expected: dict[str, list[float]] | None,
             seconds: float) -> Record:
    """One process.  seconds: of each metric; 0 to compute the checks only."""
    specification = {**asdict(case), "seconds": seconds, "expected": expected, "batches": settings.batches,
                     "processors": processors(case.threads)}
    record = Record(case, number)
    command = [interpreter(case.peer) or sys.executable, str(WORKER), json.dumps(specification)]
    start = time.perf_counter()
    try:
        result = subprocess.run(command, env=environment(case, settings.isa), timeout=settings.timeout,
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                                check=False)
    except subprocess.TimeoutExpired:
        record.error = f"no result after {settings.timeout:.0f} s"
        return record
    wall = time.perf_counter() - start
    lines = [line[2:] for line in result.stdout.splitlines() if line.startswith("@@")]
    if result.returncode or not lines:
        output = result.stderr.strip() or result.stdout.strip() or f"exit status {result.returncode}"
        record.error = output.splitlines()[-1][:500]
        return record
    answer = json.loads(lines[-1])
    record.version, record.checks = answer["version"], answer["checks"]
    record.metrics = {name: (value, unit) for name, (value, unit) in answer["metrics"].items()}
    if case.workload == "W1e":
        record.metrics = {"wall time": (wall, "s"), "peak memory": (answer["memory"], "MB")}
    return record


def footprint(case: Case, number: int, settings: Settings) -> Record:
    """W5: a process that imports the library, and the size of the library's environment."""
    module = adapter(case.peer)
    python = interpreter(case.peer) or sys.executable
    code = (f"import {module.LIBRARY}\n"
            "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])")
    record = Record(case, number)
    walls, memory = [], []
    for _ in range(4):
        start = time.perf_counter()
        result = subprocess.run([python, "-P", "-c", code], env=environment(case, settings.isa),
                                timeout=settings.timeout, capture_output=True, text=True, check=False)
        if result.returncode:
            record.error = result.stderr.strip().splitlines()[-1][:500]
            return record
        walls.append(time.perf_counter() - start)
        memory.append(int(result.stdout.split()[-1]) * 1024 / 1e6)
    # The first import may have compiled modules.
    record.metrics = {"import, whole process": (statistics.median(walls[1:]), "s"),
                      "memory after import": (statistics.median(memory[1:]), "MB")}
    if python != sys.executable:  # else it holds more than the peer
        record.metrics["installed, with what it needs"] = (_installed_size(Path(python).parent.parent), "MB")
    return record


def _installed_size(folder: Path) -> float:
    """MB of the packages of a virtual environment, without pip and compiled Python."""
    total = 0
    for site in folder.glob("lib*/**/site-packages"):
        for root, folders, files in os.walk(site):
            folders[:] = [name for name in folders if name != "__pycache__"
                          and not name.startswith(("pip", "setuptools", "pkg_resources", "_distutils_hack"))]
            total += sum(os.lstat(os.path.join(root, name)).st_size for name in files)
    return total / 1e6


def expectations(workload: str, settings: Settings) -> dict[str, list[float]]:
    """What every peer must compute: the checks of the NumPy peer."""
    variant = adapter(REFERENCE).VARIANTS[workload][0]
    record = run_case(Case(workload, REFERENCE, variant, 1), 0, settings, None, seconds=0)
    if record.error:
        raise RuntimeError(f"The NumPy peer, which the others are checked against, failed: {record.error}")
    return record.checks


def run(workload: str, chosen: list[Case], settings: Settings) -> Iterator[Record]:
    """Round by round over the cases, every second round backwards; what failed once is not tried again."""
    expected = None if workload == "W5" else expectations(workload, settings)
    failed: set[Case] = set()
    for number in range(settings.rounds):
        for case in chosen if number % 2 == 0 else reversed(chosen):
            if case in failed:
                continue
            if workload == "W5":
                record = footprint(case, number, settings)
            else:
                record = run_case(case, number, settings, expected, settings.seconds)
            if record.error:
                failed.add(case)
            yield record

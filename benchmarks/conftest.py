"""Fixtures of the benchmarks, and the table of rates that follows pytest-benchmark's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tinyconv
from benchmarks.machine import Setup, setups
from tinyconv import engine

SECONDS = "0.3"  # a benchmark, unless --benchmark-max-time says otherwise


class Rate(NamedTuple):
    """What one benchmark reached; share: part of the machine's limit, None where there is none."""

    group: str
    setup: Setup
    value: float
    unit: str
    share: float | None

    def __str__(self) -> str:
        share = "" if self.share is None else f" {self.share:4.0%}"
        return f"{self.value:.1f}{share}"


RATES = pytest.StashKey[list[Rate]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATES] = []
    if str(getattr(config.option, "benchmark_max_time", "")) == "1.0":  # pytest-benchmark's default
        config.option.benchmark_max_time = SECONDS


def pytest_report_header() -> str:
    settings = engine.config()
    return (f"tinyconv {tinyconv.__version__} in {Path(tinyconv.__file__).parent}: "
            f"{', '.join(settings['instruction_sets_available'])}; {settings['threads']} threads")


@pytest.fixture(params=setups(), ids=str)
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    """The instruction set and the threads of a benchmark, active while it runs."""
    before = engine.config()
    request.param.activate()
    yield request.param
    if before["backend"] == "native":
        Setup(before["instruction_set"], before["threads"]).activate()


Measure = Callable[..., Any]


@pytest.fixture
def measure(benchmark: Any, setup: Setup, request: pytest.FixtureRequest) -> Measure:
    """measure(function, group, operations=n) or (..., moved=bytes): benchmarks function().

    The rate and its share of the machine's limit go into extra_info, into the name in
    pytest-benchmark's table, and into the table at the end.  Returns what function returned.
    """
    def run(function: Callable[[], Any], group: str, operations: float = 0, moved: int = 0) -> Any:
        benchmark.group = group
        limit = setup.peak() if operations else setup.bandwidth(moved)
        setup.activate()
        result = benchmark(function)
        if benchmark.stats is None:  # --benchmark-disable
            return result
        value = (operations or moved) / benchmark.stats.stats.median
        unit = "GFLOP/s" if operations else "GB/s"
        rate = Rate(group, setup, value * 1e-9, unit, value / limit if limit else None)
        benchmark.extra_info.update({
            "instruction_set": setup.instruction_set, "threads": setup.threads, unit: rate.value,
            "percent_of_peak": rate.share and 100 * rate.share, "peak": limit and limit * 1e-9})
        benchmark.stats.name = f"{setup!s:<10} {rate!s:>12} {unit}"
        request.config.stash[RATES].append(rate)
        return result
    return run


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """The names without the rates, so that runs can be compared."""
    for entry in output_json["benchmarks"]:
        entry["name"] = entry["fullname"].rpartition("::")[2]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A row for each group, a column for each setup."""
    rates = config.stash[RATES]
    if not rates:
        return
    columns = list(dict.fromkeys(rate.setup for rate in rates))
    groups = list(dict.fromkeys((rate.group, rate.unit) for rate in rates))
    cells = {(rate.group, rate.setup): str(rate) for rate in rates}
    first = max(len(f"{group}, {unit}") for group, unit in groups)
    terminalreporter.section("rates, and shares of the measured peak")
    terminalreporter.write_line(" " * first + "".join(f"{setup!s:>13}" for setup in columns))
    for group, unit in groups:
        row = "".join(f"{cells.get((group, setup), '-'):>13}" for setup in columns)
        terminalreporter.write_line(f"{group + ', ' + unit:<{first}}{row}")

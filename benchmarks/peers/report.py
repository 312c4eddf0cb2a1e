"""Tables of a run, in Markdown: tinyconv beside the best peer, then all peers, then every variant."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from .runner import Record
from .workloads import HIGHER_IS_BETTER, WORKLOADS

OWN = "tinyconv"
Key = tuple[str, str]  # peer, variant


@dataclass(frozen=True)
class Spread:
    """The rounds of one case."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def text(self, unit: str) -> str:
        if self.low == self.high:
            return number(self.median, unit)
        return f"{number(self.median, unit)} ({number(self.low, unit)} to {number(self.high, unit)})"


@dataclass
class Metric:
    """One row of a workload: what every variant of every peer reached, by number of threads."""

    workload: str
    name: str
    unit: str
    values: dict[int, dict[Key, Spread]] = field(default_factory=dict)

    def best(self, threads: int, peer: str | None = None) -> tuple[Key, Spread] | None:
        """The best variant of a peer, or of all but tinyconv; None where there is none."""
        found = {key: spread for key, spread in self.values.get(threads, {}).items()
                 if (key[0] == peer if peer else key[0] != OWN)}
        if not found:
            return None
        pick = max if HIGHER_IS_BETTER[self.unit] else min
        return pick(found.items(), key=lambda item: item[1].median)

    def ratio(self, ours: Spread, theirs: Spread) -> float:
        """How many times faster (smaller) ours is."""
        if HIGHER_IS_BETTER[self.unit]:
            return ours.median / theirs.median
        return theirs.median / ours.median


def collect(records: Iterable[Record]) -> list[Metric]:
    """The metrics in the order in which they first came."""
    metrics: dict[tuple[str, str], Metric] = {}
    values: dict[tuple[str, str], dict[tuple[int, Key], list[float]]] = {}
    for record in records:
        case = record.case
        for name, (value, unit) in record.metrics.items():
            key = (case.workload, name)
            metrics.setdefault(key, Metric(*key, unit))
            values.setdefault(key, {}).setdefault((case.threads, (case.peer, case.variant)), []).append(value)
    for key, metric in metrics.items():
        for (threads, who), rounds in sorted(values[key].items()):
            metric.values.setdefault(threads, {})[who] = Spread.of(rounds)
    return list(metrics.values())


def number(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.3f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Aligned, so that it reads well as plain text too; the first column to the left."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(row: list[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join([row[0].ljust(widths[0]), *cells]) + " |"
    rules = ["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]
    return "\n".join([line(head), "|" + "|".join(rules) + "|", *map(line, rows)])


def summary(metrics: list[Metric]) -> str:
    """tinyconv and the best peer, a row a metric and number of threads."""
    rows = []
    for metric in metrics:
        for threads in sorted(metric.values):
            ours, best = metric.best(threads, OWN), metric.best(threads)
            if ours is None or best is None:
                continue
            (peer, variant), theirs = best
            rows.append([f"{metric.workload} {metric.name}, {metric.unit}", str(threads),
                         ours[1].text(metric.unit), f"{theirs.text(metric.unit)} {peer} {variant}",
                         f"{metric.ratio(ours[1], theirs):.2f}"])
    return table(["workload", "threads", "tinyconv", "best peer", "times"], rows) if rows else ""


def compact(metrics: list[Metric], threads: int) -> str:
    """A row a metric, a column a peer: the median of its best variant; the best of the row in bold."""
    found_peers = {peer for metric in metrics for peer, _ in metric.values.get(threads, {})}
    peers = sorted(found_peers, key=lambda peer: (peer != OWN, peer))
    rows = []
    for metric in metrics:
        found = {peer: best[1].median for peer in peers if (best := metric.best(threads, peer))}
        top = (max if HIGHER_IS_BETTER[metric.unit] else min)(found.values(), default=None)
        cells = [number(found[peer], metric.unit) if peer in found else "" for peer in peers]
        rows.append([f"{metric.name}, {metric.unit}"] + [f"**{cell}**" if found.get(peer) == top else cell
                                                         for peer, cell in zip(peers, cells, strict=True)])
    return table([f"{threads} thread{'s' if threads > 1 else ''}", *peers], rows)


def details(metric: Metric) -> str:
    """Every variant, the best first; "times": how far tinyconv is ahead of it."""
    counts = sorted(metric.values)
    head = ["peer"]
    for threads in counts:
        head += [f"{threads} thread{'s' if threads > 1 else ''}", "times"]
    ours = {threads: metric.best(threads, OWN) for threads in counts}
    last = metric.values[counts[-1]]
    sign = -1 if HIGHER_IS_BETTER[metric.unit] else 1
    keys = {key for found in metric.values.values() for key in found}
    rows = []
    for key in sorted(keys, key=lambda k: (k not in last, sign * last[k].median if k in last else 0, k)):
        row = [" ".join(key)]
        for threads in counts:
            spread, own = metric.values[threads].get(key), ours[threads]
            row.append(spread.text(metric.unit) if spread else "-")
            row.append(f"{metric.ratio(own[1], spread):.2f}" if spread and own and key[0] != OWN else "-")
        rows.append(row)
    better = "higher" if HIGHER_IS_BETTER[metric.unit] else "lower"
    return f"### {metric.workload} {metric.name} ({metric.unit}, {better} is better)\n\n{table(head, rows)}"


def failures(records: list[Record]) -> str:
    lines = {f"- {r.case.workload} {r.case.peer} {r.case.variant}, {r.case.threads} threads: {r.error}": None
             for r in records if r.error}
    return "\n".join(lines)


def markdown(records: list[Record], about: dict[str, str], variants: bool = False) -> str:
    """The whole report; variants: with a table of all of them for each metric."""
    metrics = collect(records)
    versions = {record.case.peer: record.version for record in records if record.version != "?"}
    if versions:
        listed = ", ".join(f"{peer} {version}" for peer, version in sorted(versions.items()))
        about = {**about, "versions": listed}
    parts = ["# tinyconv beside other engines",
             "\n".join(f"- {name}: {text}" for name, text in about.items())]
    overview = summary(metrics)
    if overview:
        legend = "Medians (lowest to highest round); times: how many times as fast, or as small, tinyconv is."
        parts += ["## tinyconv and the best peer", legend, overview]
    for workload in dict.fromkeys(metric.workload for metric in metrics):
        parts.append(f"## {workload}: {WORKLOADS[workload]}")
        rows = [metric for metric in metrics if metric.workload == workload]
        counts = sorted({count for row in rows for count in row.values})
        parts += [compact(rows, threads) for threads in counts]
        parts += [details(metric) for metric in rows if variants]
    failed = failures(records)
    if failed:
        parts += ["## Failed", failed]
    return "\n\n".join(parts) + "\n"

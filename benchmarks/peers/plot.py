"""The chart of a run: a panel for each metric, a bar for each peer at its best; as a picture, and as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .report import OWN, Metric, number
from .workloads import HIGHER_IS_BETTER

OWN_COLOR, PEER_COLOR = "#c2410c", "#94a3b8"


def draw(metrics: list[Metric], threads: int, path: Path, subtitle: str = "") -> None:
    """Writes a PNG.

    Args:
        metrics: What to draw; those without tinyconv or without a peer are left out.
        threads: Of which number of threads.
        path: The file.
        subtitle: Machine and date.

    Raises:
        ValueError: If no metric can be drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [metric for metric in metrics if metric.best(threads) and metric.best(threads, OWN)]
    if not panels:
        raise ValueError(f"Expected results of tinyconv and of a peer with {threads} threads. Received: none")
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    most = max(len(_bars(metric, threads)) for metric in panels)
    figure, axes = pyplot.subplots(down, across, squeeze=False, layout="constrained",
                                   figsize=(4.2 * across, down * (0.9 + 0.28 * most) + 0.6))
    for ax, metric in zip(axes.flat, panels, strict=False):
        _panel(ax, metric, threads)
    for ax in axes.flat[len(panels):]:
        ax.set_visible(False)
    plural = "s" if threads > 1 else ""
    title = f"tinyconv beside other engines, {threads} thread{plural}\n{subtitle}"
    figure.suptitle(title.strip(), fontsize=11)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


# Characters of the longest bar of a chart in text.
_WIDTH = 40


def text(metrics: list[Metric], threads: int) -> str:
    """The same chart in characters, for a README: the longest bar is the largest value."""
    panels = [metric for metric in metrics if metric.best(threads) and metric.best(threads, OWN)]
    wide = max((len(name) for metric in panels for name, _ in _bars(metric, threads)), default=0)
    lines = []
    for metric in panels:
        bars = _bars(metric, threads)
        longest = max(value for _, value in bars)
        better = "" if HIGHER_IS_BETTER[metric.unit] else ", less is better"
        lines += ["", f"{metric.workload} {metric.name}, {metric.unit}{better}"]
        lines += [f"  {name:<{wide}} {'█' * max(1, round(_WIDTH * value / longest))} {number(value, metric.unit)}"
                  for name, value in bars]
    return "\n".join(lines[1:])


def _bars(metric: Metric, threads: int) -> list[tuple[str, float]]:
    """(peer, median of its best variant), the best first."""
    peers = {peer for peer, _ in metric.values[threads]}
    found = {peer: metric.best(threads, peer) for peer in peers}
    values = [(peer, best[1].median) for peer, best in found.items() if best]
    return sorted(values, key=lambda bar: bar[1], reverse=HIGHER_IS_BETTER[metric.unit])


def _panel(ax: Any, metric: Metric, threads: int) -> None:
    bars = _bars(metric, threads)
    names, values = [name for name, _ in bars], [value for _, value in bars]
    drawn = ax.barh(names, values, color=[OWN_COLOR if name == OWN else PEER_COLOR for name in names])
    ax.bar_label(drawn, [number(value, metric.unit) for value in values], padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.margins(x=0.22)
    ax.set_xticks([])
    ax.tick_params(left=False, labelsize=8)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    better = "more" if HIGHER_IS_BETTER[metric.unit] else "less"
    title = f"{metric.workload} {metric.name}\n{metric.unit}, {better} is better"
    ax.set_title(title, fontsize=9, loc="left")

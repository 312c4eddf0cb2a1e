"""The table that `Sequential.summary` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyconv.shapes import check_integer
from tinyconv.utils import check_flag

if TYPE_CHECKING:
    from tinyconv.layers import Layer
    from tinyconv.network import Network

__all__ = ["summary"]

_TITLES = ("Layer (type)", "Output Shape", "Param #", "Multiply-Adds", "Bytes", "Trainable")
_LEFT = 2  # columns that are words; numbers end at one place


def summary(model: Network, line_length: int | None = None, positions: Any = None,
            show_trainable: bool = False, layer_range: Any = None) -> list[str]:
    """The lines of the table; see `Sequential.summary`."""
    show_trainable = check_flag(show_trainable, "show_trainable")
    columns = len(_TITLES) - (not show_trainable)
    layers = _chosen(model.layers, layer_range)
    work = _multiply_adds(model) if model.built else {}
    rows = [_TITLES, *(_row(layer, work) for layer in layers)]
    ends = _ends([row[:columns] for row in rows], line_length, positions)
    lines = [f'Model: "{model.name}"', "_" * ends[-1], _format(_TITLES, ends), "=" * ends[-1]]
    lines += [_format(row, ends) for row in rows[1:]]
    return [*lines, "=" * ends[-1], *_totals(model, work), "_" * ends[-1]]


def _totals(model: Network, work: dict[str, int]) -> list[str]:
    if not model.built:
        return ["Total params: ? (the model is not built)"]
    total = model.count_params()
    trainable = sum(weight.value.size for weight in model.trainable_weights)
    return [f"Total params: {_count(total)}", f"Trainable params: {_count(trainable)}",
            f"Non-trainable params: {_count(total - trainable)}",
            f"Multiply-adds of a sample: {sum(work.values()):,}"]


def _multiply_adds(model: Network) -> dict[str, int]:
    """By layer: those of one sample's forward pass."""
    program, work = model.program, dict.fromkeys((layer.name for layer in model.layers), 0)
    for op in program.ops:
        work[op.layer] = work.get(op.layer, 0) + program.multiply_adds(op)
    return work


def _chosen(layers: list[Layer], layer_range: Any) -> list[Layer]:
    """The layers from one name to another, both included."""
    if layer_range is None:
        return layers
    names = [layer.name for layer in layers]
    if (not isinstance(layer_range, (list, tuple)) or len(layer_range) != 2
            or any(name not in names for name in layer_range)):
        raise ValueError("Expected layer_range to be the names of a first and a last layer. "
                         f"Received: layer_range={layer_range!r}")
    first, last = map(names.index, layer_range)
    return layers[first:last + 1]


def _row(layer: Layer, work: dict[str, int]) -> tuple[str, ...]:
    title = f"{layer.name} ({type(layer).__name__})"
    frozen = "Y" if layer.trainable else "N"
    if not layer.built:
        return title, "?", "?", "?", "?", frozen
    shape, parameters = layer.output_shape, layer.count_params()
    return (title, str((None, *shape)), f"{parameters:,}", f"{work[layer.name]:,}" if layer.name in work else "?",
            f"{4 * (parameters + math.prod(shape)):,}", frozen)


def _ends(rows: list[tuple[str, ...]], line_length: int | None, positions: Any) -> list[int]:
    """Where the columns end: as wide as their texts, or at the given shares of the line."""
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    ends = [sum(widths[:column + 1]) for column in range(len(widths))]
    if line_length is None and positions is None:
        return ends
    length = ends[-1] if line_length is None else check_integer(line_length, "line_length", 20)
    if positions is None:
        return [max(1, round(end * length / ends[-1])) for end in ends]
    valid = isinstance(positions, (list, tuple)) and len(positions) == len(ends) and all(
        isinstance(position, (int, float)) and position > 0 for position in positions)
    if not valid or list(positions) != sorted(positions):
        raise ValueError(f"Expected positions to be {len(ends)} growing numbers: shares of the line, or columns. "
                         f"Received: positions={positions!r}")
    return [round(position * length) if positions[-1] <= 1 else int(position) for position in positions]


def _format(row: tuple[str, ...], ends: list[int]) -> str:
    line = ""
    for column, end in enumerate(ends):
        width = max(1, end - len(line) - 1)
        text = row[column][:width]
        line += f" {text:<{width}}" if column < _LEFT else f" {text:>{width}}"
    return line.rstrip()


def _count(parameters: int) -> str:
    size, unit = 4.0 * parameters, "B"
    for larger in ("KB", "MB", "GB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{parameters:,} ({size:.2f} {unit})"

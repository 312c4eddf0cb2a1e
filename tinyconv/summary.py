"""The table that `Sequential.summary` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyconv.shapes import check_integer

if TYPE_CHECKING:
    from tinyconv.layers import Layer
    from tinyconv.network import Network

__all__ = ["summary"]

_TITLES = ("Layer (type)", "Output Shape", "Param #")
# Where the columns end, as shares of the line.
_COLUMNS = (0.45, 0.80, 1.0)


def summary(model: Network, line_length: int | None = None) -> list[str]:
    """The lines of the table: layers, output shapes, parameters, totals.

    Args:
        model: Any network; what is not known before it is built is shown as "?".
        line_length: Characters a line. Defaults to 65, or more where names need it.
    """
    rows = [_row(layer) for layer in model.layers]
    if line_length is None:
        wanted = [max(map(len, column)) + 2 for column in zip(_TITLES, *rows)]
        ends = (wanted[0], wanted[0] + wanted[1])
        length = max(65, round(max(ends[0] / _COLUMNS[0], ends[1] / _COLUMNS[1])))
    else:
        length = check_integer(line_length, "line_length", 20)
    lines = [f'Model: "{model.name}"', "_" * length, _format(_TITLES, length), "=" * length]
    lines += [_format(row, length) for row in rows]
    lines.append("=" * length)
    if model.built:
        total = model.count_params()
        trainable = sum(weight.value.size for weight in model.trainable_weights)
        lines += [f"Total params: {_count(total)}", f"Trainable params: {_count(trainable)}",
                  f"Non-trainable params: {_count(total - trainable)}"]
    else:
        lines += ["Total params: ? (the model is not built)"]
    return [*lines, "_" * length]


def _row(layer: Layer) -> tuple[str, str, str]:
    title = f"{layer.name} ({type(layer).__name__})"
    if not layer.built:
        return title, "?", "?"
    return title, str((None, *(layer.output_shape or ()))), f"{layer.count_params():,}"


def _format(row: tuple[str, str, str], length: int) -> str:
    line = ""
    for text, share in zip(row, _COLUMNS):
        end = int(length * share)
        line = (line + text)[:end - 1].ljust(end)
    return " " + line.rstrip()[:length - 1]


def _count(parameters: int) -> str:
    size, unit = 4.0 * parameters, "B"
    for larger in ("KB", "MB", "GB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{parameters:,} ({size:.2f} {unit})"

"""Callbacks that write figures down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyconv.callbacks.base import Callback, Logs
from tinyconv.progress import Progress, verbosity

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CSVLogger", "ProgbarLogger"]


class CSVLogger(Callback):
    """Writes the figures of every epoch as a row of a CSV file.

    Args:
        filename: The file.
        separator: Character between the values. Defaults to `","`.
        append: Whether to add to an existing file. Defaults to `False`: it is replaced.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        from pathlib import Path

        super().__init__()
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"CSVLogger expected separator to be one character. Received: {separator!r}")
        self.filename = Path(filename)
        self.separator = separator
        self.append = append
        self.keys: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if not self.append:
            self.filename.write_text("", encoding="utf-8")
            self.keys = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        import csv

        logs = logs or {}
        # The file is closed after each row, so that it is whole whenever training stops.
        with open(self.filename, "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if self.keys is None:
                self.keys = self._columns(logs)
                if file.tell() == 0:
                    writer.writerow(["epoch", *self.keys])
            writer.writerow([epoch, *(logs.get(key, "NA") for key in self.keys)])

    def _columns(self, logs: Logs) -> list[str]:
        keys = sorted(logs)
        if self.params.get("validation") and not any(key.startswith("val_") for key in keys):
            keys += [f"val_{key}" for key in keys]  # validation_freq > 1: the first epoch has none
        return keys


class ProgbarLogger(Callback):
    """Shows the progress of `fit`, `evaluate` or `predict`, which do so by themselves with `verbose=1`.

    Useful with `verbose=0`, which it overrides: it prints what `verbose=1` would.
    """

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._in_fit = False

    def _begin(self, title: str) -> None:
        shown = verbosity(self.params.get("verbose", 0)) == 0  # else the method itself shows it
        self._progress = Progress(1, title, self.params.get("steps")) if shown else None

    def _batch(self) -> None:
        if self._progress is not None and self._progress.batch is not None:
            self._progress.batch()

    def _end(self, logs: Logs | None) -> None:
        if self._progress is not None:
            self._progress.end(logs or {})
            self._progress = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._in_fit = True  # validation stays silent

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._in_fit = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._begin(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._batch()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._end(logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        if not self._in_fit:
            self._begin("")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if not self._in_fit:
            self._batch()

    def on_test_end(self, logs: Logs | None = None) -> None:
        if not self._in_fit:
            self._end(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._begin("")

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._batch()

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._end(None)

"""Callbacks that write figures down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyconv.callbacks.base import Callback, Logs
from tinyconv.progress import Progress, verbosity
from tinyconv.utils import import_extra

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CSVLogger", "ProgbarLogger", "TensorBoard"]


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


class TensorBoard(Callback):
    """Writes the figures for TensorBoard; needs the package `tensorboard` (`pip install tinyconv[tensorboard]`).

    Scalars only: `epoch_loss` and so on, below `train` and `validation`, and with `update_freq`
    also `batch_loss` and so on.

    Args:
        log_dir: Folder to write to. Defaults to `"logs"`.
        histogram_freq, embeddings_freq: Must be 0: histograms and embeddings are not written.
        write_graph, write_images: Accepted for scripts that pass them; nothing of the kind is written.
        write_steps_per_second: Whether to write the speed of every epoch. Defaults to `False`.
        update_freq: `"epoch"`, `"batch"`, or a number of batches after which figures are written
            besides those of the epochs. Defaults to `"epoch"`.
        profile_batch: Must be 0: there is no profile.

    Raises:
        ImportError: If the package `tensorboard` is missing.
    """

    def __init__(self, log_dir: str | Path = "logs", histogram_freq: int = 0, write_graph: bool = True,
                 write_images: bool = False, write_steps_per_second: bool = False,
                 update_freq: str | int = "epoch", profile_batch: int = 0, embeddings_freq: int = 0,
                 embeddings_metadata: None = None) -> None:
        from pathlib import Path

        super().__init__()
        for name, value in (("histogram_freq", histogram_freq), ("profile_batch", profile_batch),
                            ("embeddings_freq", embeddings_freq), ("embeddings_metadata", embeddings_metadata)):
            if value:
                raise ValueError(f"TensorBoard writes scalars only; expected {name} to be 0. "
                                 f"Received: {name}={value!r}")
        is_count = isinstance(update_freq, int) and not isinstance(update_freq, bool) and update_freq > 0
        if update_freq not in ("epoch", "batch") and not is_count:
            raise ValueError("TensorBoard expected update_freq to be 'epoch', 'batch' or a positive number of "
                             f"batches. Received: update_freq={update_freq!r}")
        self._make_writer = import_extra("tensorboard.summary", "tensorboard", "TensorBoard's files").Writer
        self.log_dir = Path(log_dir)
        self.update_freq = update_freq
        self.write_steps_per_second = write_steps_per_second
        self._writers: dict[str, Any] = {}
        self._every = 0 if update_freq == "epoch" else 1 if update_freq == "batch" else int(update_freq)
        self._batches = 0
        self._begun = (0.0, 0)
        # A hook for every batch only where it is needed.
        if self._every or write_steps_per_second:
            vars(self)["on_train_batch_end"] = self._count_batch

    def _write(self, run: str, figures: Logs, step: int) -> None:
        if not figures:
            return
        if run not in self._writers:
            self._writers[run] = self._make_writer(str(self.log_dir / run))
        for name, value in figures.items():
            self._writers[run].add_scalar(name, value, step)
        self._writers[run].flush()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        import time

        self._begun = (time.perf_counter(), self._batches)

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self._every and self._batches % self._every == 0:
            self._write("train", {f"batch_{name}": value for name, value in (logs or {}).items()}, self._batches)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        import time

        logs = logs or {}
        training = {f"epoch_{name}": value for name, value in logs.items() if not name.startswith("val_")}
        if self.write_steps_per_second:
            start, batches = self._begun
            training["epoch_steps_per_second"] = (self._batches - batches) / (time.perf_counter() - start)
        self._write("train", training, epoch)
        self._write("validation", {f"epoch_{name.removeprefix('val_')}": value for name, value in logs.items()
                                   if name.startswith("val_")}, epoch)

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

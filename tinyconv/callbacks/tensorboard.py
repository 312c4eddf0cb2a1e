"""The callback TensorBoard: figures and weights in the files that the program of that name shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv.callbacks.base import Callback, Logs
from tinyconv.shapes import check_integer
from tinyconv.utils import import_extra

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes the figures for TensorBoard; needs the package `tensorboard` (`pip install tinyconv[tensorboard]`).

    Scalars: `epoch_loss` and so on, below `train` and `validation`, and with `update_freq` also
    `batch_loss` and so on.  With `histogram_freq` the weights as histograms, below `train`.

    Args:
        log_dir: Folder to write to. Defaults to `"logs"`.
        histogram_freq: Every so many epochs the histograms of the weights are written, those that are
            finite: `sequential/conv2d/kernel/histogram` and so on. Defaults to 0: never.
        embeddings_freq: Must be 0: there are no embeddings.
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
        for name, value in (("profile_batch", profile_batch), ("embeddings_freq", embeddings_freq),
                            ("embeddings_metadata", embeddings_metadata)):
            if value:
                raise ValueError(f"TensorBoard writes scalars and histograms; expected {name} to be 0. "
                                 f"Received: {name}={value!r}")
        is_count = isinstance(update_freq, int) and not isinstance(update_freq, bool) and update_freq > 0
        if update_freq not in ("epoch", "batch") and not is_count:
            raise ValueError("TensorBoard expected update_freq to be 'epoch', 'batch' or a positive number of "
                             f"batches. Received: update_freq={update_freq!r}")
        self.histogram_freq = check_integer(histogram_freq, "histogram_freq", 0)
        for module in ("tensorboard.summary.writer.event_file_writer", "tensorboard.plugins.scalar.summary_v2"):
            import_extra(module, "tensorboard", "TensorBoard's files")
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
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self._add(run, [scalar_pb(name, value) for name, value in figures.items()], step)

    def _write_weights(self, step: int) -> None:
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        weights = {f"{self.model.name}/{layer.name}/{weight.name}/histogram": weight.numpy()
                   for layer in self.model.layers for weight in layer.weights}
        self._add("train", [histogram_pb(tag, value[np.isfinite(value)]) for tag, value in weights.items()], step)

    def _add(self, run: str, summaries: list[Any], step: int) -> None:
        import time

        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if not summaries:
            return
        if run not in self._writers:
            self._writers[run] = EventFileWriter(str(self.log_dir / run))
        for summary in summaries:
            self._writers[run].add_event(Event(wall_time=time.time(), step=step, summary=summary))
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
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

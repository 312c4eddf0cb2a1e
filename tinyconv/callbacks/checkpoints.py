"""Callbacks that save: the model for later use, or a training run against its interruption."""

from __future__ import annotations

import contextlib
import math
import os
from os import PathLike
from typing import TYPE_CHECKING, Any

from tinyconv.callbacks.base import Callback, Logs
from tinyconv.callbacks.monitor import Monitor
from tinyconv.utils import warn

# What only some scripts need is imported where it is used: `import tinyconv` stays quick.
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BackupAndRestore", "ModelCheckpoint"]


def _check_frequency(owner: str, save_freq: Any) -> None:
    is_count = isinstance(save_freq, int) and not isinstance(save_freq, bool) and save_freq > 0
    if save_freq != "epoch" and not is_count:
        raise ValueError(f"{owner} expected save_freq to be 'epoch' or a positive number of batches. "
                         f"Received: save_freq={save_freq!r}")


class ModelCheckpoint(Callback):
    """Saves the model after every epoch, every n batches, or when it is the best so far.

    Args:
        filepath: Where to save, as of `Sequential.save`; with `save_weights_only` as of `save_weights`. May
            hold fields of the form `{epoch:02d}` and `{val_loss:.2f}`: the epoch, from 1, and the figures of
            the epoch; where batches are counted, those so far, and `{batch}`, from 1 in every epoch.
        monitor: Name of the figure that `save_best_only` looks at. Defaults to `"val_loss"`.
        verbose: 1 prints a line whenever the model is saved. Defaults to 0.
        save_best_only: Whether to save only when the figure improves. Defaults to `False`.
        save_weights_only: Whether to save with `save_weights`, not with `save`. Defaults to `False`.
        mode: `"min"`, `"max"`, or `"auto"`: as the model's metric of that name says. Defaults to `"auto"`.
        save_freq: `"epoch"`, or a number of batches. Defaults to `"epoch"`.
        initial_value_threshold: The value to improve on at the start.
    """

    def __init__(self, filepath: str | Path, monitor: str = "val_loss", verbose: int = 0,
                 save_best_only: bool = False, save_weights_only: bool = False, mode: str = "auto",
                 save_freq: str | int = "epoch", initial_value_threshold: float | None = None) -> None:
        super().__init__()
        _check_frequency("ModelCheckpoint", save_freq)
        self.filepath = str(filepath)
        _check_template(self.filepath)
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self._monitor = Monitor("ModelCheckpoint", monitor, mode)
        self._batches = 0
        self._epoch = 0
        if save_freq != "epoch":  # a hook for every batch only where it is needed
            vars(self)["on_train_batch_end"] = self._count_batch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.model._check_save_path(self.filepath, self.save_weights_only)
        if self.save_best_only:
            self._monitor.begin(self.model)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self._batches % int(self.save_freq) == 0:
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})})

    def _save(self, epoch: int, logs: Logs) -> None:
        path = _fill_template(self.filepath, {**logs, "epoch": epoch + 1})
        if not self._is_due(epoch, logs, path):
            return
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: finished saving model to {path}")

    def _is_due(self, epoch: int, logs: Logs, path: str) -> bool:
        """Whether the model is to be saved, which is also told."""
        message = f"saving model to {path}"
        current = logs.get(self.monitor)
        due = True
        if self.save_best_only and current is None:
            warn(f"ModelCheckpoint needs {self.monitor!r} to save only the best model, which is not "
                 f"available: it is saved. Available: {', '.join(logs)}")
        elif self.save_best_only and current is not None:
            best = "None" if self.best is None else f"{self.best:.5f}"
            due = self._monitor.improves(current, self.best) and not (self.best is None and math.isnan(current))
            if due:
                self.best, message = current, f"{self.monitor} improved from {best} to {current:.5f}, {message}"
            else:
                message = f"{self.monitor} did not improve from {best}"
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: {message}")
        return due


def _check_template(template: str) -> None:
    """Fields may be plain names only: no attributes, no items, no nested fields."""
    import string

    try:
        fields = [(name, spec) for _, name, spec, _ in string.Formatter().parse(template) if name is not None]
        for _, name, spec, conversion in string.Formatter().parse(template):
            if name is not None and not conversion and "{" not in (spec or ""):
                format(1 if name in ("epoch", "batch") else 1.0, spec or "")
    except ValueError as error:
        raise ValueError(f"ModelCheckpoint expected a filepath with fields such as {{epoch:02d}} ({error}). "
                         f"Received: filepath={template!r}") from None
    for name, spec in fields:
        if not name.isidentifier() or "{" in (spec or ""):
            raise ValueError("ModelCheckpoint expected the fields of filepath to be plain names such as "
                             f"{{epoch:02d}}. Received: filepath={template!r}")


def _fill_template(template: str, values: dict[str, float]) -> str:
    try:
        return template.format_map(values)
    except KeyError as error:
        raise ValueError(f"ModelCheckpoint has no figure for the field {error} of filepath. Expected one of: "
                         f"{', '.join(values)}. Received: filepath={template!r}") from None


class BackupAndRestore(Callback):
    """Backs a training run up, and goes on from there when the same script runs again.

    A run that was interrupted at the end of an epoch ends with the same weights, bit for bit, as
    one that was not, where x gives the batches of an epoch by their numbers or always in one order.
    The model has to be built before `fit`.

    Args:
        backup_dir: Folder for the backup; what else it holds is left alone.
        save_freq: `"epoch"`, or a number of batches; a run goes on from the start of the epoch
            that it was in. Defaults to `"epoch"`.
        double_checkpoint: Whether to keep the backup before the last one as well, for the case
            that the last cannot be read. Defaults to `False`.
        delete_checkpoint: Whether to delete the backup once training has ended; one that was
            ended by Ctrl-C keeps it. Defaults to `True`.

    Raises:
        ValueError: If `save_freq` is neither, or a backup is not one of this model.
    """

    _INDEX = "training.json"

    def __init__(self, backup_dir: str | PathLike[str], save_freq: str | int = "epoch",
                 double_checkpoint: bool = False, delete_checkpoint: bool = True) -> None:
        from pathlib import Path

        super().__init__()
        if not isinstance(backup_dir, (str, PathLike)) or not str(backup_dir):
            raise ValueError(f"BackupAndRestore expected backup_dir to be a path. Received: {backup_dir!r}")
        _check_frequency("BackupAndRestore", save_freq)
        self.backup_dir = Path(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._kept: list[dict[str, Any]] = []  # the backups there are, the last one first
        self._epoch = 0
        self._batches = 0
        if save_freq != "epoch":
            vars(self)["on_train_batch_end"] = self._count_batch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._kept, self._batches = self._read_index(), 0
        for position, entry in enumerate(self._kept):
            try:
                self.model._restore(self.backup_dir / entry["folder"])
            except (OSError, ValueError):
                if position + 1 == len(self._kept):
                    raise
                continue
            self.model._initial_epoch = entry["epoch"]
            return

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch + 1
        if self.save_freq == "epoch":
            self._save()

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self._batches % int(self.save_freq) == 0:
            self._save()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint and not self.model.interrupted:
            import shutil

            for name in (self._INDEX, f"{self._INDEX}.new"):
                (self.backup_dir / name).unlink(missing_ok=True)
            for name in ("a", "b"):
                shutil.rmtree(self.backup_dir / name, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty: it holds more than the backup
                self.backup_dir.rmdir()

    def _save(self) -> None:
        """Into the folder that the last backup is not in; the index then says that it counts."""
        import json
        import shutil

        last = self._kept[0]["folder"] if self._kept else "b"
        folder = "b" if last == "a" else "a"
        entry = {"folder": folder, "epoch": self._epoch}
        self.model.save(self.backup_dir / folder, dialect="tinyconv")
        self._kept = [entry, *self._kept[:1]] if self.double_checkpoint else [entry]
        index, new = self.backup_dir / self._INDEX, self.backup_dir / f"{self._INDEX}.new"
        with open(new, "w", encoding="utf-8") as file:
            json.dump(self._kept, file)
            file.flush()
            os.fsync(file.fileno())  # else a loss of power could leave an empty index
        new.replace(index)
        if not self.double_checkpoint:
            shutil.rmtree(self.backup_dir / last, ignore_errors=True)

    def _read_index(self) -> list[dict[str, Any]]:
        import json

        path = self.backup_dir / self._INDEX
        if not path.exists():
            return []
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            valid = bool(entries) and all(entry["folder"] in ("a", "b") and type(entry["epoch"]) is int
                                          and entry["epoch"] >= 0 for entry in entries)
        except (ValueError, TypeError, KeyError, RecursionError):
            valid = False
        if not valid:
            raise ValueError(f"BackupAndRestore expected the index of a backup. Received: {path}")
        return list(entries)

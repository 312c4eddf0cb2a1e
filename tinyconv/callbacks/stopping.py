"""Callbacks that end training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tinyconv.callbacks.base import Callback, Logs
from tinyconv.callbacks.monitor import Monitor
from tinyconv.utils import warn

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EarlyStopping", "TerminateOnNaN"]


class EarlyStopping(Callback):
    """Stops training when a monitored figure no longer improves.

    Args:
        monitor: Name of the figure, as in `History.history`. Defaults to `"val_loss"`.
        min_delta: The least change that counts as an improvement. Defaults to 0.
        patience: Epochs without improvement before training stops. Defaults to 0.
        verbose: 1 prints a line when training stops. Defaults to 0.
        mode: `"min"`, `"max"`, or `"auto"`: as the model's metric of that name says.
        baseline: A value to beat: waiting starts anew only where it is beaten.
        restore_best_weights: Whether to end with the weights of the best epoch.
            Defaults to `False`: those of the last.
        start_from_epoch: Epochs to leave out of account at the start. Defaults to 0.
    """

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0, patience: int = 0, verbose: int = 0,
                 mode: str = "auto", baseline: float | None = None, restore_best_weights: bool = False,
                 start_from_epoch: int = 0) -> None:
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._monitor = Monitor("EarlyStopping", monitor, mode, min_delta)
        self.mode, self.min_delta = self._monitor.mode, self._monitor.min_delta
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._monitor.begin(self.model)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        current = (logs or {}).get(self.monitor)
        if current is None:
            warn(f"EarlyStopping needs {self.monitor!r}, which is not available. "
                 f"Available: {', '.join(logs or {})}")
            return
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            # Without an improvement later on (all NaN, say) these are the best.
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self._monitor.improves(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._monitor.improves(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0 and self.verbose > 0:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class TerminateOnNaN(Callback):
    """Ends training as soon as the loss is NaN or infinite.

    Args:
        raise_error: Whether to raise an error instead of stopping quietly. Defaults to `False`.

    Raises:
        RuntimeError: While training, with `raise_error=True`.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"The loss is no longer finite. Received: loss={loss} at batch {batch}")
        print(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True

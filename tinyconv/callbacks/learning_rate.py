"""Callbacks that set the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.callbacks.base import Callback, Logs
from tinyconv.callbacks.monitor import Monitor
from tinyconv.shapes import check_integer
from tinyconv.utils import check_number, warn

__all__ = ["LearningRateScheduler", "ReduceLROnPlateau"]


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of every epoch; its value joins the figures of the epoch.

    Args:
        schedule: A function of the epoch, from 0, and of the learning rate so far (or of the epoch
            alone) that returns the new learning rate.
        verbose: 1 prints a line an epoch. Defaults to 0.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(f"LearningRateScheduler expected schedule to be a function. Received: {schedule!r}")
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _accepts_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        rate = self.schedule(epoch, optimizer.learning_rate) if self._takes_rate else self.schedule(epoch)
        if not isinstance(rate, (float, np.floating)):
            raise TypeError("LearningRateScheduler expected schedule to return a float. "
                            f"Received: {rate!r} for epoch {epoch}")
        optimizer.learning_rate = float(rate)
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


def _accepts_two(function: Callable[..., Any]) -> bool:
    import inspect

    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a built-in function without a signature
        return True
    return True


class ReduceLROnPlateau(Callback):
    """Lowers the learning rate when a monitored figure no longer improves.

    Args:
        monitor: Name of the figure, as in `History.history`. Defaults to `"val_loss"`.
        factor: What the learning rate is multiplied by, in (0, 1). Defaults to 0.1.
        patience: Epochs without improvement before that. Defaults to 10.
        verbose: 1 prints a line whenever the learning rate changes. Defaults to 0.
        mode: `"min"`, `"max"`, or `"auto"`: as the model's metric of that name says.
        min_delta: The least change that counts as an improvement. Defaults to 0.0001.
        cooldown: Epochs after a change in which nothing is counted. Defaults to 0.
        min_lr: The learning rate is never set below it. Defaults to 0.
    """

    def __init__(self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, verbose: int = 0,
                 mode: str = "auto", min_delta: float = 1e-4, cooldown: int = 0, min_lr: float = 0.0) -> None:
        super().__init__()
        self.factor = check_number(factor, "factor", 0.0, 1.0, exclusive=True)
        self.patience = check_integer(patience, "patience", 0)
        self.cooldown = check_integer(cooldown, "cooldown", 0)
        self.min_lr = check_number(min_lr, "min_lr", 0.0)
        self.monitor = monitor
        self.verbose = verbose
        self._monitor = Monitor("ReduceLROnPlateau", monitor, mode, min_delta)
        self.mode, self.min_delta = self._monitor.mode, self._monitor.min_delta
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._monitor.begin(self.model)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        current = logs.get(self.monitor)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if current is None:
            warn(f"ReduceLROnPlateau needs {self.monitor!r}, which is not available. "
                 f"Available: {', '.join(logs)}")
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._monitor.improves(current, self.best):
            self.best, self.wait = current, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch):
                self.cooldown_counter, self.wait = self.cooldown, 0

    def _reduce(self, epoch: int) -> bool:
        optimizer = self.model.optimizer
        if optimizer.learning_rate <= self.min_lr:
            return False
        optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {optimizer.learning_rate}.")
        return True

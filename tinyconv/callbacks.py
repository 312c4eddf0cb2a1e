"""Callbacks: functions that `fit`, `evaluate` and `predict` call at fixed moments.

Names, arguments and moments are those of Keras.  A hook that no callback
overrides costs nothing: see `CallbackList`.
"""

from __future__ import annotations

import math
import string
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from tinyconv.models import Sequential

__all__ = [
    "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback", "ModelCheckpoint",
]

Logs = dict[str, float]


class Callback:
    """Base class of all callbacks: override the hooks that you need.

    Attributes:
        params: dict with `"verbose"`, `"epochs"`, `"steps"` (batches an epoch) and
            `"samples"`, set by `fit`.
        model: The model that runs.

    `logs` holds the figures so far: `"loss"` and one entry a metric; at the end of
    an epoch also `"val_loss"` and so on where validation ran.
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.model: Any = None

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def set_model(self, model: Sequential) -> None:
        self.model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called once when `fit` starts."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called once when `fit` ends; `logs` are those of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch and its validation."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a training batch; batches count from 0 in every epoch."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a training batch; `logs` are means over the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called when an evaluation starts, also the validation inside `fit`."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called when an evaluation ends."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of an evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called when `predict` starts."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called when `predict` ends."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: dict[str, np.ndarray] | None = None) -> None:
        """Called after a batch of `predict`; `logs` holds `"outputs"`."""


# A hook counts as used where it, or the hook that it forwards to, is overridden.
_FORWARDED = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


def _overrides(callback: Callback, hook: str) -> bool:
    names = (hook, _FORWARDED[hook]) if hook in _FORWARDED else (hook,)
    return any(name in vars(callback) or getattr(type(callback), name) is not getattr(Callback, name)
               for name in names)


class CallbackList:
    """Several callbacks that are called as one.

    Each hook is an attribute: a function that calls the callbacks which override
    that hook, in order, or None where no callback does.  So loops can leave out
    what nobody listens to.

    Args:
        callbacks: A callback, an iterable of callbacks, a `CallbackList`, or None.
        model: The model to hand to the callbacks.
        params: What `Callback.set_params` gets.
    """

    HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))

    def __init__(self, callbacks: Callback | Iterable[Callback] | CallbackList | None = None,
                 model: Any = None, params: dict[str, Any] | None = None) -> None:
        if isinstance(callbacks, CallbackList):
            callbacks = callbacks.callbacks
        elif isinstance(callbacks, Callback):
            callbacks = (callbacks,)
        elif callbacks is not None and not isinstance(callbacks, Iterable):
            raise TypeError("Expected callbacks to be a list of tinyconv.callbacks.Callback. "
                            f"Received: callbacks={callbacks!r}")
        self.callbacks: list[Callback] = list(callbacks or ())
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError("Expected every item of callbacks to be an instance of "
                                f"tinyconv.callbacks.Callback. Received: {callback!r}")
            if params is not None:
                callback.set_params(params)
            if model is not None:
                callback.set_model(model)
        self._used = {hook: [getattr(c, hook) for c in self.callbacks if _overrides(c, hook)]
                      for hook in self.HOOKS}

    def listens(self, *hooks: str) -> bool:
        """Whether any callback overrides one of the hooks."""
        return any(self._used[hook] for hook in hooks)

    def call(self, hook: str, *args: Any) -> None:
        """Calls one hook of every callback that overrides it."""
        for function in self._used[hook]:
            function(*args)


class History(Callback):
    """Records the figures of every epoch; `fit` returns it.

    Attributes:
        epoch: The numbers of the epochs that ran.
        history: dict from `"loss"`, `"accuracy"`, `"val_loss"`, ... to the list of
            values, one an epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """A callback made of functions.

    Args:
        on_epoch_begin, on_epoch_end: Called as `f(epoch, logs)`.
        on_train_begin, on_train_end: Called as `f(logs)`.
        on_train_batch_begin, on_train_batch_end: Called as `f(batch, logs)`.
        **kwargs: Any other hook by its name.
    """

    def __init__(self, on_epoch_begin: Callable[..., Any] | None = None,
                 on_epoch_end: Callable[..., Any] | None = None,
                 on_train_begin: Callable[..., Any] | None = None,
                 on_train_end: Callable[..., Any] | None = None,
                 on_train_batch_begin: Callable[..., Any] | None = None,
                 on_train_batch_end: Callable[..., Any] | None = None,
                 **kwargs: Callable[..., Any] | None) -> None:
        super().__init__()
        hooks = dict(kwargs, on_epoch_begin=on_epoch_begin, on_epoch_end=on_epoch_end,
                     on_train_begin=on_train_begin, on_train_end=on_train_end,
                     on_train_batch_begin=on_train_batch_begin, on_train_batch_end=on_train_batch_end)
        for name, function in hooks.items():
            if name not in CallbackList.HOOKS:
                raise TypeError("LambdaCallback expected names of hooks such as on_epoch_end. "
                                f"Received: {name}=")
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"LambdaCallback expected {name} to be callable. Received: {function!r}")
            setattr(self, name, function)


_LARGER_IS_BETTER = ("acc", "auc", "top_k", "precision", "recall", "f1", "fmeasure")
_SMALLER_IS_BETTER = ("loss", "error", "entropy", "mse", "mae", "divergence")


def _is_larger_better(owner: str, monitor: str, mode: str) -> bool:
    """Which way a monitored figure improves."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"{owner} expected mode to be 'auto', 'min' or 'max'. Received: mode={mode!r}")
    if mode != "auto":
        return mode == "max"
    name = monitor.lower()
    if any(part in name for part in _SMALLER_IS_BETTER):
        return False
    if any(part in name for part in _LARGER_IS_BETTER):
        return True
    raise ValueError(f"{owner} cannot tell whether {monitor!r} should grow or shrink; pass mode='max' or "
                     f"mode='min'. Received: monitor={monitor!r}, mode={mode!r}")


class EarlyStopping(Callback):
    """Stops training when a monitored figure no longer improves.

    Args:
        monitor: Name of the figure, as in `History.history`. Defaults to `"val_loss"`.
        min_delta: The least change that counts as an improvement. Defaults to 0.
        patience: Epochs without improvement before training stops. Defaults to 0.
        verbose: 1 prints a line when training stops. Defaults to 0.
        mode: `"min"`, `"max"`, or `"auto"`: by the name of the figure.
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
        self.mode = "max" if _is_larger_better("EarlyStopping", monitor, mode) else "min"
        self.min_delta = abs(min_delta)
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        current = (logs or {}).get(self.monitor)
        if current is None:
            warnings.warn(f"EarlyStopping needs {self.monitor!r}, which is not available. "
                          f"Available: {', '.join(logs or {})}", stacklevel=2)
            return
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            # Without an improvement later on (all NaN, say) these are the best.
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self._improves(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._improves(current, self.baseline):
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

    def _improves(self, value: float, reference: float | None) -> bool:
        if reference is None:
            return True
        if self.mode == "max":
            return value - self.min_delta > reference
        return value + self.min_delta < reference


class ModelCheckpoint(Callback):
    """Saves the model after every epoch, every n batches, or when it is the best so far.

    Args:
        filepath: Folder to save to. May hold fields of the form `{epoch:02d}` and
            `{val_loss:.2f}`: the epoch, from 1, and the figures of the epoch.
        monitor: Name of the figure that `save_best_only` looks at. Defaults to `"val_loss"`.
        verbose: 1 prints a line whenever the model is saved. Defaults to 0.
        save_best_only: Whether to save only when the figure improves. Defaults to `False`.
        save_weights_only: Must be `False`: models are saved whole.
        mode: `"min"`, `"max"`, or `"auto"`: by the name of the figure.
        save_freq: `"epoch"`, or a number of batches. Defaults to `"epoch"`.
        initial_value_threshold: The value to improve on at the start.
    """

    def __init__(self, filepath: str | Path, monitor: str = "val_loss", verbose: int = 0,
                 save_best_only: bool = False, save_weights_only: bool = False, mode: str = "auto",
                 save_freq: str | int = "epoch", initial_value_threshold: float | None = None) -> None:
        super().__init__()
        if save_weights_only:
            raise ValueError("ModelCheckpoint saves whole models; expected save_weights_only=False. "
                             "Received: save_weights_only=True")
        is_count = isinstance(save_freq, int) and not isinstance(save_freq, bool) and save_freq > 0
        if save_freq != "epoch" and not is_count:
            raise ValueError("ModelCheckpoint expected save_freq to be 'epoch' or a positive number of "
                             f"batches. Received: save_freq={save_freq!r}")
        self.filepath = str(filepath)
        _check_template(self.filepath)
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self._larger_is_better = save_best_only and _is_larger_better("ModelCheckpoint", monitor, mode)
        self._batches = 0
        self._epoch = 0
        if is_count:  # a hook for every batch only where it is needed
            self.on_train_batch_end = self._count_batch  # type: ignore[method-assign]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.model._check_save_path(self.filepath)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self._batches % int(self.save_freq) == 0:
            self._save(self._epoch, logs or {})

    def _save(self, epoch: int, logs: Logs) -> None:
        path = _fill_template(self.filepath, {**logs, "epoch": epoch + 1})
        if not self.save_best_only:
            if self.verbose > 0:
                print(f"\nEpoch {epoch + 1}: saving model to {path}")
            self.model.save(path)
            return
        current = logs.get(self.monitor)
        if current is None:
            warnings.warn(f"ModelCheckpoint needs {self.monitor!r}, which is not available; nothing is "
                          f"saved. Available: {', '.join(logs)}", stacklevel=3)
        elif self._improves(current):
            if self.verbose > 0:
                best = "inf" if self.best is None else f"{self.best:.5f}"
                print(f"\nEpoch {epoch + 1}: {self.monitor} improved from {best} to {current:.5f}, "
                      f"saving model to {path}")
            self.best = current
            self.model.save(path)
        elif self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {self.best:.5f}")

    def _improves(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        return value > self.best if self._larger_is_better else value < self.best


def _check_template(template: str) -> None:
    """Fields may be plain names only: no attributes, no items, no nested fields."""
    try:
        fields = [(name, spec) for _, name, spec, _ in string.Formatter().parse(template) if name is not None]
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


class CSVLogger(Callback):
    """Writes the figures of every epoch as a row of a CSV file.

    Args:
        filename: The file.
        separator: Character between the values. Defaults to `","`.
        append: Whether to add to an existing file. Defaults to `False`: it is replaced.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
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

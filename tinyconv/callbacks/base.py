"""The hooks, the list that calls them, and the two callbacks that are nothing but hooks.

A hook that no callback overrides costs nothing: see `CallbackList`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from tinyconv.models import Sequential

__all__ = ["Callback", "CallbackList", "History", "LambdaCallback", "Logs"]

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

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to no model, so that callbacks and histories can be copied and pickled."""
        return {**self.__dict__, "model": None}

    def set_params(self, params: dict[str, Any]) -> None:
        """Takes over what the run is about; see `params`."""
        self.params = params

    def set_model(self, model: Sequential) -> None:
        """Takes over the model that runs."""
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

    `listens` says whether any callback overrides a hook, so that loops can leave out
    what nobody listens to; `call` calls those that do, in order.

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

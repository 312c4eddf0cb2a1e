"""Ctrl-C while a model trains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

__all__ = ["Interrupts"]


class Interrupts:
    """While it is entered, Ctrl-C never strikes between a training step and its bookkeeping.

    It raises `KeyboardInterrupt` as ever, but inside `held()` only at its end.  Signals belong to
    the main thread, and a program may handle them itself: then nothing is changed.
    """

    def __init__(self) -> None:
        self._holding = False
        self._count = 0
        self._previous: Any = None

    def __enter__(self) -> Self:
        if (threading.current_thread() is threading.main_thread()
                and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _handle(self, number: int, frame: Any) -> None:
        self._count += 1
        if not self._holding or self._count > 1:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """What runs inside is not interrupted the first time."""
        before, self._holding = self._count, True
        try:
            yield
        finally:
            self._holding = False
        if self._count > before:
            raise KeyboardInterrupt

    def first(self) -> bool:
        """Whether at most one interrupt came so far."""
        return self._count <= 1

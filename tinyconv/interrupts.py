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

    It raises `KeyboardInterrupt` inside `allowed()` alone, and there inside `held()` only at its end;
    elsewhere `came()` tells of it.  A second one is raised at once.  Signals belong to the main thread,
    and a program may handle them itself: then nothing is changed.  Where one is entered inside another,
    because a callback trains a model, Ctrl-C ends both.
    """

    def __init__(self) -> None:
        self._holding = True
        self._count = 0
        self._previous: Any = None

    def __enter__(self) -> Self:
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and (
                handler is signal.default_int_handler or _owner(handler) is not None):
            self._previous = handler
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            outer, self._previous = _owner(self._previous), None
            if outer is not None and self._count:
                outer._struck(self._count)

    def _handle(self, number: int, frame: Any) -> None:
        self._struck(1)

    def _struck(self, times: int) -> None:
        self._count += times
        if not self._holding or self._count > 1:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """What runs inside may be interrupted."""
        try:
            self._holding = False
            if self._count:
                raise KeyboardInterrupt
            yield
        finally:
            self._holding = True

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

    def came(self) -> bool:
        """Whether an interrupt came."""
        return self._count > 0


def _owner(handler: Any) -> Interrupts | None:
    """Whose handler of signals it is."""
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, Interrupts) else None

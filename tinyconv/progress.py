"""What `fit`, `evaluate` and `predict` print."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyconv.utils import import_extra

__all__ = ["Progress", "make_bar", "verbosity"]

# Whether it was said that there are no bars.
_told = False


def verbosity(verbose: Any, auto: int = 1) -> int:
    """0 (silent), 1 (a progress bar) or 2 (a line an epoch); "auto" is for the caller to say.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(verbose, str) and verbose == "auto":
        return auto
    if isinstance(verbose, (bool, int)) and int(verbose) in (0, 1, 2):
        return int(verbose)
    raise ValueError(f"Expected verbose to be 'auto', 0, 1 or 2. Received: verbose={verbose!r}")


class Progress:
    """The lines or the bar of one epoch, or of one evaluation.

    Verbose 1 is a tqdm bar where tqdm is installed and otherwise like 2: one line
    when the epoch is over.

    Args:
        verbose: 0, 1 or 2.
        title: Printed first, such as "Epoch 1/5"; may be empty.
        steps: Number of batches; None where it is not known before the end.
    """

    def __init__(self, verbose: int, title: str, steps: int | None) -> None:
        self._verbose = verbose
        self._steps = steps
        self._start = time.perf_counter()
        self._bar = make_bar(total=steps, desc=title or None, unit="batch", file=sys.stdout,
                             mininterval=0.1) if verbose == 1 else None
        # None where a batch needs no call: the loop then skips it.
        self.batch = None if self._bar is None else self._bar.update
        if verbose and self._bar is None and title:
            print(title, flush=True)

    def end(self, logs: Mapping[str, float], steps: int | None = None) -> None:
        """Shows the figures, name by name; steps: how many batches there were, where that was open."""
        figures = " - ".join(f"{name}: {_number(value)}" for name, value in logs.items())
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=True)
            self.close()
        elif self._verbose:
            seconds = time.perf_counter() - self._start
            count = self._steps if steps is None else steps
            timing = f"{seconds:.0f}s"
            if count is not None:
                timing = f"{count}/{count} - {timing} - {_duration(seconds / max(1, count))}/step"
            print(f"{timing} - {figures}" if figures else timing, flush=True)

    def close(self) -> None:
        """Leaves the bar as it is; also after an exception."""
        if self._bar is not None:
            self._bar.close()


def make_bar(**settings: Any) -> Any:
    """A bar of tqdm; None where that is not installed, which a terminal is told once.

    Args:
        **settings: Arguments of `tqdm.tqdm`.
    """
    global _told
    try:
        return import_extra("tqdm", "progress", "Progress bars").tqdm(**settings)
    except ImportError as error:
        if not _told and sys.stderr.isatty():
            print(f"tinyconv: {error}", file=sys.stderr, flush=True)
            _told = True
        return None


def _number(value: Any) -> str:
    if np.ndim(value):
        return " ".join(map(_number, value))
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"

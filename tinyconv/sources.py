"""Where batches come from: arrays, or anything that yields them.

Arrays are passed to the executor whole, with the row numbers of each batch, so that
nothing is copied.  Iterables (generators, `keras.utils.PyDataset`, a PyTorch
`DataLoader`) are read by a thread of their own, two batches ahead, while the engine
computes: it does so without the interpreter's lock.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyconv.utils import warn

__all__ = ["PyDataset", "Stream", "is_stream", "warn_of_end"]

# Batches made ahead of the one that is computed.
_AHEAD = 2


def is_stream(x: Any) -> bool:
    """Whether x yields batches: it iterates, or counts and gives them, and is no array or list."""
    if isinstance(x, (np.ndarray, list, tuple, dict, str, type)) or hasattr(x, "__array__") or _has_buffer(x):
        return False
    return hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def _has_buffer(x: Any) -> bool:
    try:
        memoryview(x)
    except TypeError:
        return False
    return True


class PyDataset:
    """Base of data sets that give their batches by number: a subclass writes `__len__` and `__getitem__`.

    Args:
        workers, use_multiprocessing, max_queue_size: Accepted for scripts that pass them: one thread reads
            ahead of the training, whatever they say.
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __len__(self) -> int:
        """The number of batches."""
        raise TypeError(f"{type(self).__name__} does not say how many batches it has: define `__len__`.")

    def __getitem__(self, index: int) -> Any:
        """The batch of a number, (x, y) or (x, y, sample_weight)."""
        raise TypeError(f"{type(self).__name__} does not say what its batches are: define `__getitem__`.")

    @property
    def num_batches(self) -> int:
        """The number of batches."""
        return len(self)

    def on_epoch_begin(self) -> None:
        """Called before an epoch."""

    def on_epoch_end(self) -> None:
        """Called after an epoch."""


class Stream:
    """Batches (x, y, sample_weight) out of an iterable; y and sample_weight may be None.

    As in Keras, an iterable is begun anew every epoch, but goes on where it stood while the
    caller counts the steps of an epoch; a generator, which cannot be begun anew, always goes on.

    Args:
        source: A generator or iterable of x, (x,), (x, y) or (x, y, sample_weight), or an object with
            `__len__` and `__getitem__` that gives such batches by number.
        name: What to call it in messages.
        order: A seed and the number of the first epoch, for batches that are given by number to come in
            an order that follows from them. Defaults to None: as they are numbered.
    """

    def __init__(self, source: Any, name: str = "x", order: tuple[int, int] | None = None) -> None:
        self._source = source
        self._name = name
        self._order = order
        self._iterator: Iterator[Any] | None = None
        self._peeked = False  # the next epoch goes on with what `first` began
        self._once = hasattr(source, "__next__")
        self.exhausted = False

    def __len__(self) -> int:
        """The number of batches an epoch; TypeError where it is not known."""
        return len(self._source)

    @property
    def steps(self) -> int | None:
        """The number of batches an epoch, or None where it is not known."""
        try:
            return len(self._source)
        except (TypeError, NotImplementedError):
            return None

    def first(self) -> tuple[Any, Any, Any]:
        """The first batch, which the next epoch will give again.

        Raises:
            ValueError: If there is none.
        """
        iterator = self._begin()
        try:
            batch = next(iterator)
        except StopIteration:
            raise ValueError(f"Expected at least one batch. Received: {self._name} that yields none") from None
        self._iterator, self._peeked = itertools.chain([batch], iterator), True
        return self._unpacked(batch)

    def restart(self) -> None:
        """Lets the next epoch begin the source anew, unless it can be read only once."""
        if not self._once and not self._peeked:
            self._iterator = None

    def epoch(self, steps: int | None, order: tuple[int, int] | None = None) -> Iterator[tuple[Any, Any, Any]]:
        """The batches of one epoch; to be closed, or read to its end.

        Args:
            steps: At most so many, going on where the last epoch ended; None: all there are.
            order: As of the class, for this epoch.
        """
        self._order = order
        if hasattr(self._source, "on_epoch_begin"):
            self._source.on_epoch_begin()
        if steps is None:
            self.restart()
        seen = 0
        ahead = _Ahead(itertools.islice(self._read(), steps))
        try:
            for batch in ahead.batches():
                seen += 1
                yield self._unpacked(batch)
        finally:
            ahead.close()
        if steps is None or seen < steps:
            self._iterator = None
            self.exhausted = self._once
        if hasattr(self._source, "on_epoch_end"):
            self._source.on_epoch_end()
        if steps is not None and seen < steps:
            warn_of_end(self._name, seen)

    def _read(self) -> Iterator[Any]:
        """What is left of the source; where nothing is, all of it, for the last epoch took it to its end."""
        begun, self._peeked = self._iterator is None, False
        nothing = True
        for batch in self._begin():
            nothing = False
            yield batch
        if nothing and not begun and not self._once:
            self._iterator = None
            yield from self._begin()

    def _begin(self) -> Iterator[Any]:
        if self._iterator is None:
            self._iterator = iter(self._source) if hasattr(self._source, "__iter__") else self._by_number()
        return self._iterator

    def _by_number(self) -> Iterator[Any]:
        order = np.arange(len(self._source))
        if self._order is not None:
            seed, epoch = self._order
            np.random.default_rng((seed & (1 << 64) - 1, epoch)).shuffle(order)
        for number in order.tolist():
            yield self._source[number]

    def _unpacked(self, batch: Any) -> tuple[Any, Any, Any]:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(f"Expected {self._name} to yield (x, y) or (x, y, sample_weight). "
                             f"Received: {len(parts)} parts")
        x, y, weight = (_numpy(part, self._name) for part in (*parts, None, None)[:3])
        return x, y, weight


def warn_of_end(name: str, seen: int) -> None:
    """Where an epoch has fewer batches than steps were asked for."""
    warn(f"{name} ran out of data after {seen} batches: the epoch ends here. It should give at least "
         "steps_per_epoch * epochs batches.")


def _numpy(part: Any, name: str) -> Any:
    """Tensors of other frameworks as arrays; they have reasons of their own why they cannot be."""
    if part is None or isinstance(part, (np.ndarray, list, tuple, dict, str)):
        return part
    try:
        return np.asarray(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"Expected {name} to yield arrays. Received: {type(part).__name__} ({error})") from None


class _Ahead:
    """Reads an iterator in a thread, a little ahead of whoever reads this."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(_AHEAD)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(iterator,), daemon=True,
                                        name="tinyconv-batches")

    def _read(self, iterator: Iterator[Any]) -> None:
        try:
            for batch in iterator:
                if not self._put("batch", batch):
                    return
            self._put("end", None)
        except BaseException as error:  # noqa: BLE001 - to be raised where the batches are read
            self._put("error", error)

    def _put(self, kind: str, value: Any) -> bool:
        while not self._closing.is_set():
            try:
                self._queue.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def batches(self) -> Iterator[Any]:
        """What the iterator yields; to be followed by `close` however it ends."""
        self._thread.start()
        while True:
            kind, value = self._queue.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value

    def close(self) -> None:
        """Lets the thread end; it finishes the batch that it is making."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

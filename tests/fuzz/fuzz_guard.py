"""What has to hold whatever a file says: own errors of one line, little time and memory, no file but the ones given."""

from __future__ import annotations

import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Finding", "allowing", "examine", "limit_memory"]

SECONDS = 2.0
# Beside what is read, a reader may take this much: Python's own objects, buffers, h5py.
_FACTOR, _FREE_BYTES = 4, 64 << 20
_MESSAGE = 1000
# What a reader may look into beside the files: modules, imported when they are needed.
_MODULES = tuple({os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, *filter(None, sys.path))})
_CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
             "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "shutil.",
             "socket.", "ctypes.dlopen", "pickle.find_class", "urllib.Request", "ftplib.", "tempfile.")
# The folder that is read now, and what was done that must not be.
_watched: list[str] = []
_seen: list[str] = []
# Where a reader may keep what comes from elsewhere, and what else it may do for that.
_scratch: list[str] = []
_events: list[str] = []


class Finding(AssertionError):
    """A reader did what it must not do."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or event in _events:
        return
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int):
            return
        place = os.path.realpath(os.fsdecode(path))
        if place.startswith(tuple(_scratch)):
            return
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        writes = flags & writing if mode is None else set(mode) & set("wax+")
        if writes or not place.startswith((_watched[0], *_MODULES)):
            _seen.append(f"open {place} mode {mode} flags {flags}")
    elif event.startswith(_CHANGING):
        _seen.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_audit)


@contextmanager
def allowing(scratch: str, *events: str) -> Iterator[None]:
    """Lets a reader have temporary files in a folder, and do what these audit events tell."""
    _scratch.append(os.path.join(os.path.realpath(scratch), "tinyconv-"))
    _events.extend((*events, "tempfile.mkdtemp", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"))
    try:
        yield
    finally:
        _scratch.clear()
        _events.clear()


def limit_memory(more: int) -> None:
    """Lets this process have at most so many bytes beside those of now: what asks for more is an error, no swapping."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + more, held + more))


def examine(read: Callable[[Path], Any], use: Callable[[Any], None], folder: Path) -> bool:
    """Reads a folder's files; whether they were accepted.

    Args:
        read: The reader; gets the folder, returns what it read.
        use: Called with that: it has to work as well.
        folder: The folder, with nothing but the files in it.

    Raises:
        Finding: If a reader did what it must not do.
    """
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    before, peak = _resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    result, error = _read(read, folder)
    took = time.process_time() - began
    if took > SECONDS:
        raise Finding(f"time: {took:.1f} s")
    risen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    need = size + _bytes_of(result)
    if risen > peak and risen * 1024 - before > _FACTOR * need + _FREE_BYTES:
        raise Finding(f"memory: {risen * 1024 - before >> 20} MiB for {need >> 10} KiB of files and of values")
    if error is not None:
        _check_error(error)
        return False
    use(result)
    return True


def _read(read: Callable[[Path], Any], folder: Path) -> tuple[Any, Exception | None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _seen.clear()
        _watched.append(os.path.realpath(folder))
        result, error = None, None
        try:
            result = read(folder)
        except (ValueError, TypeError, OSError) as refusal:
            error = refusal
        except Exception as other:
            raise Finding(f"error: {type(other).__name__}: {other}") from other
        finally:
            _watched.clear()
    if _seen:
        raise Finding(f"files: {_seen[0]}")
    for warning in caught:
        text = str(warning.message)
        if not issubclass(warning.category, UserWarning) or "\n" in text or len(text) > _MESSAGE:
            raise Finding(f"warning: {warning.category.__name__}: {text[:300]}")
    return result, error


def _check_error(error: Exception) -> None:
    """An error of ours is one line that says what was expected, or the system's about a file that is missing."""
    text = str(error)
    ours = any(words in text for words in ("xpected", "Received: ", "no such file", "damaged", "Could not download"))
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        ours = True
    if not ours or "\n" in text or not text.isprintable() or len(text) > _MESSAGE:
        raise Finding(f"message: {type(error).__name__}: {text[:300]!r}") from error


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _bytes_of(result: Any) -> int:
    """Bytes of the values that were read: the arrays of a data set, the weights of a model."""
    if result is None:
        return 0
    if hasattr(result, "get_weights"):
        optimizer = getattr(result, "optimizer", None)
        state = [array for arrays in (getattr(optimizer, "state", None) or []) for array in arrays]
        return sum(array.nbytes for array in [*result.get_weights(), *state])
    if isinstance(result, list | tuple):
        return sum(map(_bytes_of, result))
    return sum(getattr(getattr(result, name, None), "nbytes", 0) for name in ("images", "labels")) \
        or getattr(result, "nbytes", 0)

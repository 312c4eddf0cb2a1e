"""Temporary files and folders beside what they are to replace; those of a process that ended are removed.

The process that writes one holds a lock on it, which the system takes back when the
process ends, however it ends: whoever gets the lock may remove the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["PENDING", "abandoned", "is_temporary", "new_name", "remove", "remove_abandoned", "sync_folder",
           "temporary_file", "temporary_folder"]

# Ends of temporary names. The files of the second kind may count already: see `datasets.replace`.
_PLAIN, PENDING = "tmp", "new"
_NAME = re.compile(r"\.tinyconv-[0-9a-f]{16}\.(tmp|new)")
# Seconds: a file has no lock yet in the moment after it was made; without locks only its age tells.
_YOUNG, _OLD = 2.0, 3600.0


def new_name(kind: str = _PLAIN) -> str:
    """A name for a temporary file that no other has."""
    return f".tinyconv-{secrets.token_hex(8)}.{kind}"


def is_temporary(name: str, kind: str = _PLAIN) -> bool:
    """Whether a file's name is one of `new_name`'s."""
    return (found := _NAME.fullmatch(name)) is not None and found[1] == kind


@contextlib.contextmanager
def temporary_file(folder: Path, kind: str = _PLAIN) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in `folder`; removed afterwards where it still has its temporary name."""
    path = folder / new_name(kind)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with _locked(path), os.fdopen(descriptor, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`; removed afterwards where it still has its temporary name."""
    path = parent / new_name()
    path.mkdir()
    try:
        with _locked(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock: on a descriptor of its own, as the file is closed before it is renamed."""
    try:
        import fcntl
    except ImportError:  # Windows, where nobody could remove a file that is open
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def abandoned(folder: Path, kind: str = _PLAIN) -> list[Path]:
    """The temporary files and folders in `folder` whose process has ended."""
    with contextlib.suppress(OSError):
        return [path for path in folder.iterdir() if is_temporary(path.name, kind) and _is_abandoned(path)]
    return []


def _is_abandoned(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    age = time.time() - status.st_mtime
    if age < _YOUNG or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return False
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(descriptor)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return age > _OLD


def remove_abandoned(folder: Path, kind: str = _PLAIN) -> None:
    """Removes what processes left in `folder` that ended while they wrote."""
    for path in abandoned(folder, kind):
        remove(path)


def remove(path: Path) -> None:
    """Removes a temporary file or folder, if it can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes new names last through a loss of power, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Several files of a folder replaced as one: a reader sees all the old ones or all the new ones.

The new files are written whole under temporary names.  A journal, `.tinyconv-replace.json`,
then says which file each of them is to be; from that moment on they count, for
`current` looks there first.  Then they are renamed, and the journal is removed.  What a
process that was killed left undone the next one that writes to the folder ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tinyconv.formats.guard import FormatError, checked_dict, checked_string, fail, parse_json, read_json
from tinyconv.formats.store import put, write_file
from tinyconv.formats.temporary import (
    PENDING,
    is_temporary,
    new_name,
    remove_abandoned,
    sync_folder,
    temporary_file,
)

__all__ = ["current", "file_names", "replace_all"]

JOURNAL = ".tinyconv-replace.json"


# --- reading ---


def current(path: Path) -> Path:
    """Where the content of a file lies: there, or where a replacement that was interrupted has it."""
    source = _pending(path.parent).get(path.name)
    return path if source is None else path.with_name(source)


def file_names(folder: Path) -> list[str]:
    """The names of the plain files of a folder, without hidden ones, as they are when all replacements are done."""
    pending = _pending(folder)
    found = {entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith(".")}
    return sorted((found | pending.keys()) - {name for name, source in pending.items() if source is None})


def _pending(folder: Path) -> dict[str, str | None]:
    """What is still to be done: for a file's name that of the file that is to be it; None: it is to be removed."""
    return {name: source for name, source in _read_journal(folder).items()
            if source is None or (folder / source).is_file() and not (folder / source).is_symlink()}


def _read_journal(folder: Path) -> dict[str, str | None]:
    if not (folder / JOURNAL).is_file():
        return {}
    try:
        moves = checked_dict(parse_json(read_json(folder, JOURNAL), JOURNAL), JOURNAL)
        for name, source in moves.items():
            if os.path.basename(checked_string(name, JOURNAL)) != name or name.startswith(".") or "\\" in name:
                fail(JOURNAL, "names of files", name)
            if source is not None and not (isinstance(source, str) and is_temporary(source, PENDING)):
                fail(JOURNAL, "names of temporary files", source)
    except FormatError:  # written by nobody: a journal of ours is there as a whole or not at all
        return {}
    return moves


# --- writing ---


def replace_all(files: list[tuple[Path, Callable[[BinaryIO], Any]]]) -> None:
    """Writes every file beside its place, then gives all their names; after an error all are as they were.

    Files of one folder are replaced as one, whenever the process ends; folders one after the other.
    """
    folders: dict[Path, dict[str, str | None]] = {}
    with contextlib.ExitStack() as stack:
        for path, write in files:
            if path.is_dir():
                raise ValueError(f"Expected path to name files. Received: {path}, which is a folder")
            if path.parent not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                _settle(path.parent)
            temporary, file = stack.enter_context(temporary_file(path.parent, PENDING))
            write(file)
            file.flush()
            os.fsync(file.fileno())
            file.close()  # Windows renames closed files only
            folders.setdefault(path.parent, {})[path.name] = temporary.name
        kept: dict[Path, dict[str, str | None]] = {}
        try:
            for folder, moves in folders.items():
                with _alone(folder):
                    _move(folder, _read_journal(folder))
                    kept[folder] = {name: stack.enter_context(_second_name(folder, name)) for name in moves}
                    _commit(folder, moves)
        except BaseException:
            for folder, moves in kept.items():
                with _alone(folder):
                    _commit(folder, moves)
            raise


def _settle(folder: Path) -> None:
    """Ends what a process that was killed left undone, and removes what it left behind."""
    with _alone(folder):
        _move(folder, _read_journal(folder))
        remove_abandoned(folder, PENDING)


def _commit(folder: Path, moves: dict[str, str | None]) -> None:
    """Gives files their names, all or none."""
    if len(moves) > 1:
        journal = json.dumps(moves).encode()
        write_file(folder / JOURNAL, lambda file: put(file, journal))
    _move(folder, moves)


def _move(folder: Path, moves: dict[str, str | None]) -> None:
    """Does what is still to be done; what was done before does no harm."""
    for name, source in moves.items():
        if source is None:
            (folder / name).unlink(missing_ok=True)
        elif (folder / source).is_file():
            os.replace(folder / source, folder / name)
    sync_folder(folder)
    (folder / JOURNAL).unlink(missing_ok=True)


@contextlib.contextmanager
def _second_name(folder: Path, name: str) -> Iterator[str | None]:
    """A temporary second name of a file; None where there is no such file."""
    path, copy = folder / name, folder / new_name(PENDING)
    try:
        if not os.path.lexists(path):
            yield None
            return
        try:
            os.link(path, copy, follow_symlinks=False)
        except (OSError, NotImplementedError):  # a file system without links
            shutil.copy2(path, copy)
        yield copy.name
    finally:
        copy.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets no other process replace files of the folder meanwhile, where the system can."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

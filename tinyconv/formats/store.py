"""Writes a model's folder so that it holds the old model or the new one at every moment.

A folder is one description, `model.json`, and one file of weights that it names.
The weights are written first, under a name that nothing refers to; replacing
`model.json` is the moment at which the new model is there; then the weights that
only the old description named are removed.  Where the process ends in between, a
reader sees one whole model, and at most a spare weights file stays behind.

The first model of a folder has its weights in `weights.bin`, those that replace it
have `weights-<start of their SHA-256>.bin`: a name never comes back with another
content, so that a reader with the old description, or a browser's cache, cannot mix
two models.  No other file of the folder is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tinyconv.formats.guard import FormatError, parse_json, read_json

__all__ = ["DESCRIPTION", "GENERATOR", "commit", "write_file"]

DESCRIPTION = "model.json"
GENERATOR = "tinyconv"
_WEIGHTS = re.compile(r"weights(-[0-9a-f]{16})?\.bin")
_TEMPORARY = re.compile(r"\.tinyconv-[0-9a-f]{16}\.tmp")
# A temporary file this old, in seconds, was left by a save that was interrupted.
_ABANDONED = 3600.0


def commit(folder: Path, write_weights: Callable[[Callable[[Any], None]], None],
           describe: Callable[[str, str], bytes]) -> None:
    """Puts a model into `folder`, in place of the one that is there.

    Args:
        folder: The folder; created with its parents where it is missing.
        write_weights: Called with a function that appends bytes to the weights file.
        describe: Called with the name and the SHA-256 of the weights file; returns model.json.

    Raises:
        OSError: If the folder cannot be written; the old model is unchanged.
    """
    existed = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    placed: Path | None = None
    try:
        with _temporary(folder) as (path, file):
            digest = _write(file, write_weights)
            placed, is_new = _place(path, folder, digest)
        try:
            with _temporary(folder) as (path, file):
                _write(file, lambda append: append(describe(placed.name, digest)))
                stale = _weights_of(folder)
                os.replace(path, folder / DESCRIPTION)
        except BaseException:
            if is_new:
                placed.unlink(missing_ok=True)
            raise
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):  # somebody else's files are in it by now
                folder.rmdir()
        raise
    _sync_folder(folder)
    # Another process may have saved meanwhile: what the folder's model needs now stays.
    for name in stale - _weights_of(folder) - {placed.name}:
        (folder / name).unlink(missing_ok=True)
    _remove_abandoned(folder)


def write_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes one file under a temporary name and gives it its own when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path.parent) as (temporary, file):
        write(file)
        file.flush()
        os.fsync(file.fileno())
        file.close()  # Windows renames closed files only
        temporary.replace(path)
    _sync_folder(path.parent)
    _remove_abandoned(path.parent)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in `folder`; removed afterwards where it still has its temporary name."""
    path = folder / f".tinyconv-{secrets.token_hex(8)}.tmp"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def _write(file: BinaryIO, write: Callable[[Callable[[Any], None]], None]) -> str:
    """Writes a file to the disk and returns the SHA-256 of what was written."""
    import hashlib

    digest = hashlib.sha256()

    def append(data: Any) -> None:
        digest.update(data)
        file.write(data)

    write(append)
    file.flush()
    os.fsync(file.fileno())
    # Windows renames closed files only.
    file.close()
    return digest.hexdigest()


def _place(path: Path, folder: Path, digest: str) -> tuple[Path, bool]:
    """Gives the weights their name; returns it and whether there was no such file before."""
    default = folder / "weights.bin"
    if not (folder / DESCRIPTION).exists():
        with contextlib.suppress(OSError):
            os.link(path, default)  # unlike a rename, it fails where the name is taken
            return default, True
    named = folder / f"weights-{digest[:16]}.bin"
    is_new = not named.exists()
    os.replace(path, named)
    return named, is_new


def _weights_of(folder: Path) -> set[str]:
    """The weights files of the model in `folder`, if this package wrote it."""
    try:
        document = parse_json(read_json(folder, DESCRIPTION), DESCRIPTION)
        if not str(document["generatedBy"]).startswith(GENERATOR):
            return set()
        paths = {path for group in document["weightsManifest"] for path in group["paths"]}
    except (FormatError, LookupError, TypeError):
        return set()
    return {path for path in paths if isinstance(path, str) and _WEIGHTS.fullmatch(path)}


def _sync_folder(folder: Path) -> None:
    """Makes the new names last through a loss of power, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if _TEMPORARY.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _ABANDONED:
                path.unlink()

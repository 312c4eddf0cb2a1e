"""Writes a model's folder so that it holds the old model or the new one at every moment.

A folder is one description, `model.json`, and the files of weights that it names.
The weights are written first, under a name that nothing refers to; replacing
`model.json` is the moment at which the new model is there; then the weights that
only the old description named are removed.  Where the process ends in between, a
reader sees one whole model; what it left the next save removes before it begins.

The first model of a folder has its weights in `weights.bin`, those that replace it
have `weights-<start of their SHA-256>.bin`: a name never comes back with another
content, so that a reader with the old description, or a browser's cache, cannot mix
two models.  Weights in several files have `-shard1of3` and so on before the `.bin`.
No other file of the folder is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Self

from tinyconv.formats.guard import FormatError, parse_json, read_json
from tinyconv.formats.temporary import abandoned, remove, remove_abandoned, sync_folder, temporary_file

__all__ = ["DESCRIPTION", "GENERATOR", "check_place", "commit", "put", "write_file"]

DESCRIPTION = "model.json"
GENERATOR = "tinyconv"
_WEIGHTS = re.compile(r"weights(-[0-9a-f]{16})?(-shard\d+of\d+)?\.bin")


def check_place(path: Path) -> None:
    """Raises OSError where no file or folder can be created at a path, as far as that can be told beforehand.

    Args:
        path: The file or folder; what is missing of its parents would be created.
    """
    place = Path(os.path.realpath(path))
    place = place if place.is_dir() else place.parent
    place = next((folder for folder in (place, *place.parents) if folder.exists()), Path(place.anchor))
    if not place.is_dir():
        raise NotADirectoryError(f"Expected a place in a folder. Received: {path} ({place} is none)")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"Expected a place that can be written to. Received: {path} (permission denied: {place})")


def commit(folder: Path, write_weights: Callable[[Callable[[Any], None]], None],
           describe: Callable[[list[str], list[str]], bytes], shard_bytes: int | None = None) -> None:
    """Puts a model into `folder`, in place of the one that is there.

    Args:
        folder: The folder; created with its parents where it is missing.
        write_weights: Called with a function that appends bytes to the weights.
        describe: Called with the names and the SHA-256 of the files of weights; returns model.json.
        shard_bytes: The size of every file of weights but the last; None: there is one.

    Raises:
        OSError: If the folder cannot be written; the old model is unchanged.
    """
    existed = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    try:
        with _Shards(folder, shard_bytes) as shards:
            write_weights(shards.append)
            files = shards.finish()
            first = not (folder / DESCRIPTION).exists()
            if not (first and _put(folder, files, describe, is_shared=False)):
                _put(folder, files, describe, is_shared=True)
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):  # somebody else's files are in it by now
                folder.rmdir()
        raise
    sync_folder(folder)


class _Shards:
    """Files of weights under temporary names, which are removed at the end where they still have these."""

    def __init__(self, folder: Path, size: int | None) -> None:
        self._folder, self._size = folder, size or sys.maxsize
        self._stack = contextlib.ExitStack()
        self._files: list[tuple[Path, BinaryIO, Any]] = []  # the digest comes last
        self._room = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def append(self, data: Any) -> None:
        """Writes bytes."""
        rest = memoryview(data)
        while rest:
            if not self._room:
                self._begin()
            piece, rest = rest[:self._room], rest[self._room:]
            _, file, digest = self._files[-1]
            digest.update(piece)
            file.write(piece)
            self._room -= len(piece)

    def _begin(self) -> None:
        import hashlib

        if self._files:
            _close(self._files[-1][1])
        self._files.append((*self._stack.enter_context(temporary_file(self._folder)), hashlib.sha256()))
        self._room = self._size

    def finish(self) -> list[tuple[Path, str]]:
        """Brings everything to the disk; returns the names that the files have, and their SHA-256."""
        if not self._files:
            self._begin()  # a model without weights has a file all the same
        _close(self._files[-1][1])
        return [(path, digest.hexdigest()) for path, _, digest in self._files]


def _close(file: BinaryIO) -> None:
    """Closes a file when it is on the disk; Windows renames closed files only."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _put(folder: Path, files: list[tuple[Path, str]], describe: Callable[[list[str], list[str]], bytes],
         is_shared: bool) -> bool:
    """Gives the weights their names, and then the folder its description; False where a name is another's.

    Args:
        folder: The model's folder.
        files: The weights' temporary names and their SHA-256.
        describe: See `commit`.
        is_shared: Whether the names are those of the content: a file that has one already has the same.
    """
    names = [f"weights{f'-{digest[:16]}' if is_shared else ''}"
             f"{f'-shard{index + 1}of{len(files)}' if len(files) > 1 else ''}.bin"
             for index, (_, digest) in enumerate(files)]
    with temporary_file(folder) as (description, file):
        # Written before the weights have their names: who is killed then leaves word of them.
        file.write(describe(names, [digest for _, digest in files]))
        _close(file)
        created: list[str] = []
        try:
            for (path, _), name in zip(files, names, strict=True):
                is_new = not (folder / name).exists()
                if is_shared:
                    os.replace(path, folder / name)
                elif not _link(path, folder / name):
                    _take_back(folder, created)
                    return False
                created += [name] * is_new
            stale = _weights_of(folder)
            os.replace(description, folder / DESCRIPTION)
        except BaseException:
            _take_back(folder, created)
            raise
    # Another process may have saved meanwhile: what the folder's model needs now stays.
    _take_back(folder, stale - set(names))
    return True


def _link(path: Path, name: Path) -> bool:
    """Gives a file another name; unlike a rename, it fails where the name is taken."""
    try:
        os.link(path, name)
    except OSError:
        return False
    return True


def _take_back(folder: Path, names: Iterable[str]) -> None:
    """Removes files of weights, but for those of the model that is in the folder."""
    for name in set(names) - _weights_of(folder):
        (folder / name).unlink(missing_ok=True)


def write_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes one file under a temporary name and gives it its own when it is whole and on the disk.

    The permissions of a file that is replaced stay, and a link leads to the new one.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    with temporary_file(path.parent) as (temporary, file):
        write(file)
        _close(file)
        with contextlib.suppress(OSError):  # there is none yet, or it is another's
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
    sync_folder(path.parent)


def put(file: BinaryIO, data: bytes) -> None:
    """Writes bytes: what `write_file` calls where they are at hand."""
    file.write(data)


def _weights_of(folder: Path, name: str = DESCRIPTION) -> set[str]:
    """The weights files of the model in `folder`, if this package wrote it."""
    try:
        document = parse_json(read_json(folder, name), name)
        if not str(document["generatedBy"]).startswith(GENERATOR):
            return set()
        paths = {path for group in document["weightsManifest"] for path in group["paths"]}
    except (FormatError, LookupError, TypeError):
        return set()
    return {path for path in paths if isinstance(path, str) and _WEIGHTS.fullmatch(path)}


def _remove_abandoned(folder: Path) -> None:
    """Removes what saves left that were killed: temporary files, and weights that only such a description names."""
    for path in abandoned(folder):
        _take_back(folder, _weights_of(folder, path.name))
        remove(path)

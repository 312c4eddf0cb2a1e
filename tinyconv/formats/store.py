"""Writes a model's folder so that it holds the old model or the new one at every moment.

A folder is one description, `model.json`, and one file of weights that it names.
The weights are written first, under a name that nothing refers to; replacing
`model.json` is the moment at which the new model is there; then the weights that
only the old description named are removed.  Where the process ends in between, a
reader sees one whole model; what it left the next save removes before it begins.

The first model of a folder has its weights in `weights.bin`, those that replace it
have `weights-<start of their SHA-256>.bin`: a name never comes back with another
content, so that a reader with the old description, or a browser's cache, cannot mix
two models.  No other file of the folder is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from tinyconv.formats.guard import FormatError, parse_json, read_json
from tinyconv.formats.temporary import abandoned, remove, remove_abandoned, sync_folder, temporary_file

__all__ = ["DESCRIPTION", "GENERATOR", "commit", "put", "write_file"]

DESCRIPTION = "model.json"
GENERATOR = "tinyconv"
_WEIGHTS = re.compile(r"weights(-[0-9a-f]{16})?\.bin")


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
    _remove_abandoned(folder)
    try:
        with temporary_file(folder) as (weights, file):
            digest = _write(file, write_weights)
            named = folder / f"weights-{digest[:16]}.bin"
            default = folder / "weights.bin"
            first = not (folder / DESCRIPTION).exists()
            if not (first and _put(folder, weights, default, digest, describe, is_shared=False)):
                _put(folder, weights, named, digest, describe, is_shared=True)
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):  # somebody else's files are in it by now
                folder.rmdir()
        raise
    sync_folder(folder)


def _put(folder: Path, weights: Path, placed: Path, digest: str, describe: Callable[[str, str], bytes],
         is_shared: bool) -> bool:
    """Gives the weights their name, and then the folder its description; False where the name is another's.

    Args:
        folder: The model's folder.
        weights: The weights under their temporary name.
        placed: Their name.
        digest: Their SHA-256.
        describe: See `commit`.
        is_shared: Whether a file of this name has the same content.
    """
    with temporary_file(folder) as (description, file):
        # Written before the weights have their name: who is killed then leaves word of it.
        _write(file, lambda append: append(describe(placed.name, digest)))
        is_new = not placed.exists()
        if is_shared:
            os.replace(weights, placed)
        else:
            try:
                os.link(weights, placed)  # unlike a rename, it fails where the name is taken
            except OSError:
                return False
        try:
            stale = _weights_of(folder)
            os.replace(description, folder / DESCRIPTION)
        except BaseException:
            if is_new and placed.name not in _weights_of(folder):
                placed.unlink(missing_ok=True)
            raise
    # Another process may have saved meanwhile: what the folder's model needs now stays.
    for name in stale - _weights_of(folder) - {placed.name}:
        (folder / name).unlink(missing_ok=True)
    return True


def write_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes one file under a temporary name and gives it its own when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    with temporary_file(path.parent) as (temporary, file):
        write(file)
        file.flush()
        os.fsync(file.fileno())
        file.close()  # Windows renames closed files only
        temporary.replace(path)
    sync_folder(path.parent)


def put(file: BinaryIO, data: bytes) -> None:
    """Writes bytes: what `write_file` calls where they are at hand."""
    file.write(data)


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
        for name in _weights_of(folder, path.name) - _weights_of(folder):
            (folder / name).unlink(missing_ok=True)
        remove(path)

"""Downloads files over http and https: checked, resumed, and whole or not at all."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

from tinyconv.progress import make_bar
from tinyconv.shapes import describe
from tinyconv.web import DownloadError, WrongRange, check_url, open_url, reading, too_long, total_length

__all__ = ["DownloadError", "cache_folder", "download", "has_checksum"]

MAX_BYTES = 1 << 30
TIMEOUT = 30.0
_PIECE = 1 << 16


def cache_folder() -> Path:
    """Where downloads are kept: the environment variable TINYCONV_CACHE, or `~/.cache/tinyconv`."""
    given = os.environ.get("TINYCONV_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "tinyconv"


def has_checksum(path: Path, sha256: str) -> bool:
    """Whether there is a file with this SHA-256."""
    import hashlib

    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def download(url: str, path: str | os.PathLike[str], sha256: str | None = None, max_bytes: int = MAX_BYTES,
             timeout: float = TIMEOUT, progress: bool = True) -> Path:
    """Downloads a file; `path` appears only when it is complete.

    A download that was interrupted leaves `<path>.part`, from which the next call goes on; only where
    there is a checksum to tell whether the pieces fit.

    Args:
        url: Address, http or https. Redirections must stay with these, and with https once there.
        path: Where to put the file; folders are created. A file that is there is replaced, unless it
            has the checksum: then nothing is downloaded.
        sha256: SHA-256 of the file, 64 hexadecimal digits. Defaults to None: what arrives is compared
            with the MD5 that the server states, if it does (Google's storage: `x-goog-hash`).
        max_bytes: Most bytes to accept. Defaults to 1 GiB.
        timeout: Seconds to wait for the server each time. Defaults to 30.
        progress: Whether to show progress on stderr. Defaults to True.

    Returns:
        The path.

    Raises:
        DownloadError: If the server cannot be reached, answers with an error, ends too early, or sends
            more than `max_bytes` or another file than `sha256` says.
        ValueError: If the address is not http or https.
    """
    path = Path(path)
    check_url(url)
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"Expected sha256 to be 64 hexadecimal digits. Received: sha256={describe(sha256)}")
    if sha256 is not None and has_checksum(path, sha256):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with _locked(part) as file:
        try:
            # Another process may have brought the file while this one waited.
            if sha256 is None or not has_checksum(path, sha256):
                _fill(url, file, sha256, max_bytes, timeout, progress)
                _place(file, part, path)
            else:
                file.truncate(0)
        finally:
            if not file.closed and (sha256 is None or os.fstat(file.fileno()).st_size == 0):
                if os.name == "nt":
                    file.close()  # Windows removes closed files only
                # Elsewhere while it is locked: once it is not, it may be another process' download.
                part.unlink(missing_ok=True)
    return path


def _fill(url: str, file: BinaryIO, sha256: str | None, max_bytes: int, timeout: float,
          progress: bool) -> None:
    """Brings a partial download to its end; where the pieces do not fit, it starts over once."""
    resumable = sha256 is not None and os.fstat(file.fileno()).st_size > 0
    digest = None
    for resume in (True, False) if resumable else (False,):
        try:
            digest = _transfer(url, file, resume, max_bytes, timeout, progress)
        except WrongRange:
            continue
        if sha256 in (None, digest):
            os.fsync(file.fileno())
            return
    file.truncate(0)  # not to be resumed
    raise DownloadError(f"Expected {url} to have the SHA-256 {sha256}. Received: {digest}")


def _place(file: BinaryIO, part: Path, path: Path) -> None:
    if os.name == "nt":
        file.close()  # Windows renames closed files only
    os.replace(part, path)
    file.close()


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Opens a partial download for this process alone; another one that loads the same file waits."""
    while True:
        file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")
        try:
            if _lock(file, part):
                yield file
                return
        finally:
            file.close()


def _lock(file: BinaryIO, part: Path) -> bool:
    """Waits for the lock; False where the file was renamed or removed meanwhile."""
    try:
        import fcntl
    except ImportError:  # Windows: the checksum tells where two processes wrote into each other
        return True
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(part))
    except FileNotFoundError:
        return False


def _transfer(url: str, file: BinaryIO, resume: bool, max_bytes: int, timeout: float, progress: bool) -> str:
    """Brings `file` to its full length; returns its SHA-256."""
    import hashlib

    file.seek(0)
    digest = hashlib.sha256()
    if resume:
        while piece := file.read(_PIECE):
            digest.update(piece)
    start = file.tell()
    try:
        with reading(url), open_url(url, timeout, start) as response:
            if start and response.status != 206:  # the server sends everything
                start, digest = 0, hashlib.sha256()
            total = total_length(response, url, start)
            if total is not None and total > max_bytes:
                raise too_long(url, max_bytes, total)
            file.seek(start)
            file.truncate()
            received = start
            stated = _stated_md5(response) if start == 0 else None
            md5 = hashlib.md5(usedforsecurity=False)  # against damage, not against malice
            with _Meter(url, total, received, progress) as meter:
                while piece := response.read(_PIECE):
                    received += len(piece)
                    if received > max_bytes:
                        raise too_long(url, max_bytes, received)
                    file.write(piece)
                    digest.update(piece)
                    md5.update(piece)
                    meter.update(len(piece))
    finally:
        file.flush()
    if total is not None and received != total:
        raise DownloadError(f"Expected {url} to send {total} bytes. Received: {received} bytes before the "
                            "connection ended")
    if stated is not None and md5.digest() != stated:
        raise DownloadError(f"Expected {url} to have the MD5 {stated.hex()}. Received: {md5.hexdigest()}")
    return digest.hexdigest()


def _stated_md5(response: Any) -> bytes | None:
    """The MD5 of the whole file, where the server states it."""
    import base64
    import binascii

    for header in response.headers.get_all("x-goog-hash", []):
        for part in header.split(","):
            name, _, value = part.strip().partition("=")
            if name == "md5":
                try:
                    return base64.b64decode(value, validate=True)
                except binascii.Error:
                    return None
    return None


class _Meter:
    """Progress on stderr: a bar where tqdm is installed, otherwise a line at each tenth."""

    def __init__(self, url: str, total: int | None, start: int, show: bool) -> None:
        name = url.rpartition("/")[2]
        self._bar = make_bar(total=total, initial=start, desc=name, unit="B", unit_scale=True,
                             file=sys.stderr) if show else None
        self._show = show and self._bar is None
        self._name, self._total, self._done, self._tenth = name, total, start, -1
        self._report()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        self._report()

    def _report(self) -> None:
        tenth = 10 * self._done // self._total if self._total else self._done >> 20
        if self._show and tenth > self._tenth:
            self._tenth = tenth
            of = f" of {self._total / 1e6:.1f}" if self._total else ""
            print(f"{self._name}: {self._done / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)

"""TensorFlow.js models on a server: model.json by its address, and the files of weights beside it.

The files lie in the folder of model.json, or below it, and are asked for with the query string
of its address, as `tf.loadLayersModel` does.  The names in model.json pass the same check as
those in a folder on the disk; nothing that a server says names a file here.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv.formats import tfjs
from tinyconv.formats.guard import MAX_JSON_BYTES, FormatError, check_inside, fail, parse_json
from tinyconv.formats.manifest import Group
from tinyconv.formats.store import DESCRIPTION
from tinyconv.web import DownloadError, check_url, open_url, reading, too_long, total_length

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["load"]

# Most bytes of all weights together, seconds to wait for the server each time, and for everything.
MAX_BYTES = 1 << 30
TIMEOUT = 30.0
MAX_SECONDS = 600.0
# Most files of weights, each a question to the server, and characters of a name there.
MAX_FILES, MAX_NAME = 2000, 400
_PIECE = 1 << 16


def load(url: str) -> Any:
    """Reads the model at an address. See `formats.load_model`."""
    from urllib.parse import urlsplit

    check_url(url)
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("load_model expected an address without a user's name or password. "
                         f"Received: one of {parts.hostname}")
    if parts.path.endswith("/") or not parts.path:
        parts = parts._replace(path=f"{parts.path or '/'}{DESCRIPTION}")
    address = parts._replace(fragment="").geturl()
    deadline = time.monotonic() + MAX_SECONDS
    data = bytearray()
    _fetch(address, MAX_JSON_BYTES, deadline, data.extend)
    with tempfile.TemporaryDirectory(prefix="tinyconv-") as folder:
        try:
            return tfjs.read(parse_json(bytes(data), "JSON"),
                             lambda groups: _bring(groups, parts, Path(folder), deadline))
        except FormatError as error:
            raise FormatError(f"{address}: {error}") from None


def _bring(groups: list[Group], parts: SplitResult, folder: Path, deadline: float) -> tuple[Path, list[Group]]:
    """Downloads the files of weights into `folder`; returns it and the groups with the names that they have there."""
    from urllib.parse import quote

    total = sum(group.nbytes for group in groups)
    if total > MAX_BYTES:
        fail("weightsManifest", f"at most {MAX_BYTES} bytes of weights from a server", f"{total} bytes")
    count = sum(len(group.paths) for group in groups)
    if count > MAX_FILES:
        fail("weightsManifest paths", f"at most {MAX_FILES} files of weights from a server", count)
    base = parts.path.rpartition("/")[0]
    brought = []
    for number, group in enumerate(groups):
        names: list[str] = []
        left = group.nbytes
        for path in group.paths:
            inner = "/".join(check_inside(path, "weightsManifest paths", "the folder of model.json"))
            if len(inner) > MAX_NAME:
                fail("weightsManifest paths", f"names of at most {MAX_NAME} characters", path)
            address = parts._replace(path=f"{base}/{quote(inner)}", fragment="").geturl()
            name = f"{number}-{len(names)}"
            with (folder / name).open("xb") as file:
                left -= _fetch(address, left, deadline, file.write)
            names.append(name)
        if left:
            fail(f"weights in {list(group.paths)}", f"{group.nbytes} bytes for {len(group.specs)} weights",
                 f"{group.nbytes - left} bytes")
        brought.append(replace(group, paths=tuple(names)))
    return folder, brought


def _fetch(url: str, limit: int, deadline: float, write: Callable[[bytes], Any]) -> int:
    """Hands the content of an address to `write`, piece by piece; returns its size, at most `limit` bytes.

    Raises:
        DownloadError: If the server does not send exactly what it says, or sends too much, or too slowly.
    """
    with _in_time(url, deadline), reading(url), open_url(url, TIMEOUT, deadline=deadline) as response:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip", "x-gzip"):
            raise DownloadError(f"Expected {url} to be sent as it is, or compressed with gzip. "
                                f"Received: Content-Encoding {encoding[:40]!r}")
        decoder = _Gzip(url) if "gzip" in encoding else None
        total = total_length(response, url)
        if decoder is None and total is not None and total > limit:
            raise too_long(url, limit, total)
        received = size = 0
        while piece := response.read1(_PIECE):
            received += len(piece)
            if received > limit + limit // 100 + _PIECE:  # also of what unpacks to nothing
                raise too_long(url, limit, received)
            for content in (piece,) if decoder is None else decoder.decode(piece):
                size += len(content)
                if size > limit:
                    raise too_long(url, limit, size)
                write(content)
    if total is not None and received != total:
        raise DownloadError(f"Expected {url} to send {total} bytes. Received: {received} bytes before the "
                            "connection ended")
    if decoder is not None:
        decoder.check_end()
    return size


@contextmanager
def _in_time(url: str, deadline: float) -> Iterator[None]:
    try:
        yield
    except DownloadError:
        if time.monotonic() < deadline:
            raise
        raise DownloadError(f"Could not download {url}: the model took more than {MAX_SECONDS:.0f} seconds") from None


class _Gzip:
    """Unpacks gzip in pieces of bounded size, whatever it unpacks to."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stream = zlib.decompressobj(wbits=31)

    def decode(self, data: bytes) -> Iterator[bytes]:
        try:
            while data and not self._stream.eof:
                yield self._stream.decompress(data, _PIECE)
                data = self._stream.unconsumed_tail
        except zlib.error as error:
            raise DownloadError(f"Expected {self._url} to send gzip. Received: {error}") from None

    def check_end(self) -> None:
        if not self._stream.eof or self._stream.unused_data:
            raise DownloadError(f"Expected {self._url} to send gzip, all of it and nothing else. Received: "
                                f"{'more' if self._stream.eof else 'a part'}")

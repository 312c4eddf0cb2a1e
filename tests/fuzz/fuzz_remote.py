"""The reader of models on servers, without a server: what a connection sends is a file, its head another one."""

from __future__ import annotations

import http.client
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fuzz_cases import Files
from fuzz_guard import allowing

from tinyconv import load_model

__all__ = ["read_remote", "remote_seeds"]

HEAD = "@head"
_ADDRESS = "http://127.0.0.1/models/model.json"
_PLAIN = b"HTTP/1.1 200 OK\r\n\r\n"
_HEADS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Encoding: identity\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: x\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /other/model.json?key\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\nContent-Range: bytes 0-1/2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
)


class _Connection:
    """A socket that answers with the file that it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._asked = b""

    def sendall(self, data: bytes) -> None:
        self._asked += data

    def makefile(self, mode: str) -> io.BufferedReader:
        name = unquote(self._asked.split(b" ")[1].decode("latin-1")).partition("?")[0].rpartition("/")[2]
        there = {path.name: path for path in self._folder.iterdir() if path.is_file()}
        head = there[name + HEAD].read_bytes() if name + HEAD in there else _PLAIN
        content = there[name].read_bytes() if name in there else b""
        source: Any = io.BytesIO(head + content)  # without what a raw stream has for sockets alone
        return io.BufferedReader(source)

    def settimeout(self, seconds: float) -> None:
        pass

    def gettimeout(self) -> float:
        return 1.0

    def close(self) -> None:
        pass


@contextmanager
def _connected(folder: Path) -> Iterator[None]:
    """Lets connections be to the files of a folder."""

    def connect(connection: Any) -> None:
        connection.sock = _Connection(folder)

    kinds: tuple[Any, ...] = (http.client.HTTPConnection, http.client.HTTPSConnection)
    kept = [kind.connect for kind in kinds]
    for kind in kinds:
        kind.connect = connect
    try:
        yield
    finally:
        for kind, true_connect in zip(kinds, kept, strict=True):
            kind.connect = true_connect


def read_remote(folder: Path) -> Any:
    """What `load_model` makes of the files, each sent by a server."""
    with _connected(folder), allowing(tempfile.gettempdir(), "urllib.Request"):
        return load_model(_ADDRESS)


def remote_seeds(seeds: list[Files]) -> list[Files]:
    """Inputs that a folder's reader begins from, as a server sends them."""
    found = [{**files, **{name + HEAD: _PLAIN for name in files}} for files in seeds[:2]]
    for head in _HEADS:
        files = dict(found[0])
        content = files["model.json"]
        if b"chunked" in head:
            files["model.json"] = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        elif b"gzip" in head:
            import gzip

            files["model.json"] = gzip.compress(content, mtime=0)
        files["model.json" + HEAD] = head % len(content) if b"%d" in head else head
        found.append(files)
    return found

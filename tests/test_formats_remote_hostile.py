"""Servers that never come to an end, or answer with what is no answer: one line, in time, little memory."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from tinyconv import load_model
from tinyconv.formats import FormatError, remote
from tinyconv.web import DownloadError

pytestmark = pytest.mark.once
SECONDS = 0.6
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def description(paths: list[str], shape: list[int] | None = None) -> bytes:
    settings = {"name": "d", "units": 3, "use_bias": False, "batch_input_shape": [None, 4]}
    stack = [{"class_name": "Dense", "config": settings}]
    weights = [{"name": "d/kernel", "shape": shape or [4, 3], "dtype": "float32"}]
    topology = {"class_name": "Sequential", "config": {"name": "m", "layers": stack}}
    manifest = [{"paths": paths, "weights": weights}]
    return json.dumps({"format": "layers-model", "modelTopology": topology, "weightsManifest": manifest}).encode()


def answer(content: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([OK.strip(), b"Content-Length: %d" % len(content), *headers, b"", content])


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """A function that starts a server of raw answers, in pieces, and returns the address of its model."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[socket.socket] = []

    def run(server: socket.socket, reply: Callable[[str], Iterable[bytes]]) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    path = connection.recv(65_536).split(b" ")[1].decode()
                    for piece in reply(path):
                        connection.sendall(piece)

    def serve(reply: Callable[[str], Iterable[bytes]]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=run, args=(server, reply), daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/model.json"

    yield serve
    for server in servers:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def slowly(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece
        time.sleep(0.1)


ENDLESS: dict[str, Callable[[], Iterable[bytes]]] = {
    "status line": lambda: slowly(b"H"),
    "header": lambda: itertools.chain([OK + b"X: "], slowly(b"x")),
    "continue": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "body": lambda: itertools.chain([OK + b"\r\n"], slowly(b" ")),
    "chunk size": lambda: itertools.chain([CHUNKED], slowly(b"0")),
    "trailer": lambda: itertools.chain([CHUNKED + b"1\r\n \r\n0\r\n"], itertools.repeat(b"a: b\r\n" * 1000)),
    "nothing": lambda: slowly(b""),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_answers_without_an_end_are_given_up(name: str, serve: Callable[..., str],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_SECONDS", SECONDS)
    url = serve(lambda path: ENDLESS[name]())
    began = time.monotonic()
    with pytest.raises(DownloadError, match=f"Could not download {url}: the model took more than 1 seconds"):
        load_model(url)
    assert time.monotonic() - began < SECONDS + 10  # not a speed: whether it ends, on a busy machine too


@pytest.mark.parametrize("start", [b"HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n", b"HTTP/1.1 404 No\r\n\r\n"])
def test_what_comes_with_a_redirection_or_an_error_is_not_read(start: bytes, serve: Callable[..., str]) -> None:
    url = serve(lambda path: itertools.chain([start], itertools.repeat(bytes(1 << 16))))
    with pytest.raises(DownloadError, match="HTTP status (302|404)"):
        load_model(url)


@pytest.mark.parametrize(("reply", "message"), [
    (b"HTTP/1.1 404 \x1b[31mred\x07 \x9b\r\n\r\n", r"HTTP status 404 \?\[31mred\? \?$"),
    (b"HTTP/1.1 404 " + b"x" * 60_000 + b"\r\n\r\n", "HTTP status 404 x{150,200}...$"),
    (b"SSH-2.0-x\x1b\r\n", r"SSH-2.0-x\?$"),
    (b"", "connection without response"),
    *((b"HTTP/1.1 302 Found\r\nLocation: %s\r\n\r\n" % place, "Could not download") for place in (
        b"http://[::1", b"http://" + b"a" * 70 + b"/", b"http://a..b/", b"http://127.0.0.1:x/",
        b"http://\xe9\xe8.invalid/", b"http://127.0.0.1\0/", b"http://me:secret@127.0.0.1:1/")),
], ids=range(11))
def test_answers_that_are_none_are_errors_of_one_line(reply: bytes, message: str, serve: Callable[..., str]) -> None:
    with pytest.raises(DownloadError, match=message) as caught:
        load_model(serve(lambda path: [reply]))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("length", [b"9" * 5000, b"-7", b"abc", b"\xb2", b"1e3"])
def test_lengths_that_are_none_do_not_count(length: bytes, serve: Callable[..., str]) -> None:
    files = {"/model.json": description(["w"]), "/w": bytes(48)}
    url = serve(lambda path: [OK + b"Content-Length: " + length + b"\r\n\r\n" + files[path]])
    assert load_model(url).count_params() == 12


@pytest.mark.parametrize("host", ["a" * 70, "a..b"])
def test_names_of_hosts_that_are_none_are_refused(host: str) -> None:
    with pytest.raises(DownloadError, match=f"Could not download http://{host}/model.json: "):
        load_model(f"http://{host}/model.json")


@pytest.mark.parametrize("piece", [b"name" * 5000, b"\0\0\0\xff\xff" * 5000], ids=["name", "blocks"])
def test_gzip_that_unpacks_to_nothing_is_bounded(piece: bytes, serve: Callable[..., str]) -> None:
    flags = b"\x08" if piece.startswith(b"name") else b"\0"
    start = OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08" + flags + bytes(6)
    files = {"/model.json": [answer(description(["w"]))]}
    url = serve(lambda path: files.get(path) or itertools.chain([start], itertools.repeat(piece)))
    with pytest.raises(DownloadError, match="w to send at most 48 bytes"):
        load_model(url)


def test_files_are_not_too_many_and_their_names_not_too_long(serve: Callable[..., str]) -> None:
    asked = []

    def reply(path: str) -> list[bytes]:
        asked.append(path)
        return [answer(content)]

    many = description([f"w{number}" for number in range(2001)])
    for content, message in [(many, "at most 2000 files .* Received: 2001"),
                             (description(["x" * 401]), "names of at most 400 characters")]:
        url = serve(reply)
        with pytest.raises(FormatError, match=message) as caught:
            load_model(url)
        assert len(str(caught.value)) < 400
    assert asked == ["/model.json"] * 2


def test_bombs_in_gzip_are_refused(serve: Callable[..., str]) -> None:
    url = serve(lambda path: [answer(gzip.compress(bytes(64 << 20), 1), b"Content-Encoding: gzip")])
    with pytest.raises(DownloadError, match="to send at most 16777216 bytes"):
        load_model(url)

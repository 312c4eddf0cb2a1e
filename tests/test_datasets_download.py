"""Downloads, from a server on this machine."""

from __future__ import annotations

import hashlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tinyconv.datasets.download import DownloadError, cache_folder, download

pytestmark = pytest.mark.once

CONTENT = bytes(range(256)) * 1200  # 307,200 bytes: several pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at every path; attributes say how badly."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.content = CONTENT
        self.ranges = True  # answers to Range
        self.send: int | None = None  # closes the connection after so many bytes
        self.length = True  # says how much will come
        self.redirects: dict[str, str] = {}
        self.status = 200
        self.shift = 0  # sends another range than was asked for
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/data"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append((handler.path, wanted))
        handler.close_connection = True
        if handler.path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path])
            handler.end_headers()
            return
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if self.status != 200 or start >= len(self.content):
            handler.send_error(self.status if self.status != 200 else 416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start + self.shift}-{len(self.content) - 1}/"
                                                 f"{len(self.content)}")
        if self.length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:self.send])

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def failing(*arguments, message, **options):
    with pytest.raises(DownloadError, match=message) as error:
        download(*arguments, progress=False, **options)
    assert "\n" not in str(error.value)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["checksum", "no checksum"])
@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_download_brings_the_file(server, tmp_path, sha256, length):
    server.length = length
    path = download(server.url, tmp_path / "new" / "file", sha256, progress=False)
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file"]


def test_download_is_not_repeated_where_the_checksum_is_there(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    download(server.url, tmp_path / "file", SHA256, progress=False)
    assert server.requests == []
    download(server.url, tmp_path / "file", progress=False)
    assert len(server.requests) == 1


def test_download_replaces_another_file(server, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    download(server.url, tmp_path / "file", SHA256, progress=False)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_truncated_transfer_is_resumed(server, tmp_path):
    server.send = 100_000
    failing(server.url, tmp_path / "file", SHA256,
            message="to send 307200 bytes. Received: 100000 bytes before the connection ended")
    assert names(tmp_path) == ["file.part"]
    server.send = None
    download(server.url, tmp_path / "file", SHA256, progress=False)
    assert server.requests[-1] == ("/data", "bytes=100000-")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file"]


def test_truncated_transfer_without_checksum_leaves_nothing(server, tmp_path):
    server.send = 100_000
    failing(server.url, tmp_path / "file", message="Received: 100000 bytes before the connection ended")
    assert names(tmp_path) == []


def test_truncated_transfer_of_unknown_length_fails_the_checksum(server, tmp_path):
    server.send, server.length = 100_000, False
    failing(server.url, tmp_path / "file", SHA256, message=f"SHA-256 {SHA256}. Received: ")
    assert names(tmp_path) == []


@pytest.mark.parametrize("part", [CONTENT[:5] + b"other", CONTENT, CONTENT + b"more", b"x" * 400_000],
                         ids=["other bytes", "complete", "too long", "foreign"])
def test_partial_download_that_does_not_fit_starts_over(server, tmp_path, part):
    (tmp_path / "file.part").write_bytes(part)
    download(server.url, tmp_path / "file", SHA256, progress=False)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [f"bytes={len(part)}-", None]


def test_server_that_knows_no_ranges_sends_everything(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    download(server.url, tmp_path / "file", SHA256, progress=False)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_server_that_sends_another_range_is_asked_for_everything(server, tmp_path):
    server.shift = 1
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    download(server.url, tmp_path / "file", SHA256, progress=False)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_wrong_checksum_leaves_the_old_file(server, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    server.content = CONTENT[:-1] + b"?"
    failing(server.url, tmp_path / "file", SHA256, message=f"SHA-256 {SHA256}. Received: [0-9a-f]{{64}}$")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("status", [404, 500, 403])
def test_error_status_is_reported(server, tmp_path, status):
    server.status = status
    failing(server.url, tmp_path / "file", SHA256, message=f"{server.url}: HTTP status {status} ")
    assert names(tmp_path) == []


def test_error_status_keeps_a_partial_download(server, tmp_path):
    server.status = 500
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    failing(server.url, tmp_path / "file", SHA256, message="HTTP status 500")
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:1000]


def test_refused_connection_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/data"
        failing(url, tmp_path / "file", SHA256, message="Could not download http://127.0.0.1.*refused")
    assert names(tmp_path) == []


def test_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/data"
        failing(url, tmp_path / "file", timeout=0.1, message="timed out")
    assert names(tmp_path) == []


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_budget_is_kept(server, tmp_path, length):
    server.length = length
    failing(server.url, tmp_path / "file", max_bytes=100_000, message="at most 100000 bytes. Received: ")
    assert names(tmp_path) == []


def test_redirect_is_followed(server, tmp_path):
    server.redirects = {"/data": "/moved"}
    assert download(server.url, tmp_path / "file", SHA256, progress=False).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/data", "/moved"]


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/data", "data:,x", "gopher://x/"])
def test_redirect_to_another_scheme_is_refused(server, tmp_path, target):
    server.redirects = {"/data": target}
    failing(server.url, tmp_path / "file",
            message=f"Could not download {server.url}: .*[Rr]edirect.*'{target}'")
    assert names(tmp_path) == []


def test_endless_redirects_are_given_up(server, tmp_path):
    server.redirects = {"/data": "/data"}
    failing(server.url, tmp_path / "file", message="HTTP status 302 .* infinite loop")


@pytest.mark.parametrize("url", [
    "file:///etc/hostname", "ftp://example.org/x", "example.org/x", "http://", "", None, 5, "http://[x/",
    "http://x:99999/", "http://example.org/a b", "http://example.org/\r\nHost: x",
], ids=repr)
def test_addresses_that_are_not_http_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match="http or https address. Received: ") as error:
        download(url, tmp_path / "file")
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []


def test_checksum_must_be_one(tmp_path):
    with pytest.raises(ValueError, match="64 hexadecimal digits. Received: sha256='abc'"):
        download("http://127.0.0.1/", tmp_path / "file", "abc")


def test_two_downloads_of_one_file_do_not_disturb_each_other(server, tmp_path):
    threads = [threading.Thread(target=download, args=(server.url, tmp_path / "file", SHA256),
                                kwargs={"progress": False}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file"]


def test_progress_is_shown_with_tqdm(server, tmp_path, capsys):
    pytest.importorskip("tqdm")
    download(server.url, tmp_path / "file")
    assert "data: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_progress_is_shown_without_tqdm(server, tmp_path, capsys, monkeypatch, length):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    server.length = length
    download(server.url, tmp_path / "file")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("data: 0.0")
    assert not length or lines[-1] == "data: 0.3 of 0.3 MB"


def test_no_progress_where_none_is_wanted(server, tmp_path, capsys):
    download(server.url, tmp_path / "file", progress=False)
    assert capsys.readouterr() == ("", "")


def test_cache_folder_is_the_environments_or_the_homes(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("TINYCONV_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tinyconv"

"""Models by their address, from a server on this machine."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from formats_cases import read_description, same_bits, small_model

from tinyconv import Sequential, load_model
from tinyconv.formats import FormatError, remote
from tinyconv.web import DownloadError

pytestmark = pytest.mark.once


class Server:
    """Answers paths, with their query strings or without, from `files`: content, status and headers."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, int, dict[str, str]]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.headers.append(dict(self.headers))
                content, status, headers = outer.files.get(self.path.partition("?")[0], (b"", 404, {}))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def put(self, path: str, content: bytes, status: int = 200, **headers: str) -> None:
        self.files[path] = content, status, {name.replace("_", "-"): value for name, value in headers.items()}

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    yield running
    running.close()


class Site:
    """A model on the server, in three files of weights; `describe` puts another model.json there."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.model = small_model()
        self.model.save(folder)
        self.document = read_description(folder)
        self.content = (folder / "weights.bin").read_bytes()
        [group] = self.document["weightsManifest"]
        del group["sha256"]
        group["paths"] = ["part1.bin", "./part2.bin", "more/part3.bin"]
        self.server, self.group, self.url = server, group, f"{server.url}/models/mine/model.json"
        for number, name in enumerate(("part1.bin", "part2.bin", "more/part3.bin")):
            server.put(f"/models/mine/{name}", self.content[200 * number:200 * (number + 1) if number < 2 else None])
        self.describe()

    def describe(self) -> None:
        self.server.put("/models/mine/model.json", json.dumps(self.document).encode())


@pytest.fixture
def site(server: Server, tmp_path: Path) -> Site:
    return Site(server, tmp_path)


def refused(url: str, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        load_model(url)
    assert "\n" not in str(caught.value)


def test_load_model_reads_an_address(site: Site) -> None:
    assert same_bits(site.model, load_model(site.url))
    assert site.server.asked == [f"/models/mine/{name}" for name in ("model.json", "part1.bin", "part2.bin",
                                                                     "more/part3.bin")]
    assert set().union(*site.server.headers) == {"Host", "User-Agent", "Accept-Encoding", "Connection"}


@pytest.mark.parametrize(("address", "query"), [
    ("/models/mine/", ""), ("/models/mine/model.json#part", ""),
    ("/models/mine/model.json?v=2/3&sig=%2B=", "?v=2/3&sig=%2B="),
    ("/models/mine/?key", "?key"),
])
def test_files_are_asked_for_with_the_query_of_the_address(address: str, query: str, site: Site) -> None:
    assert same_bits(site.model, Sequential.load(site.server.url + address))
    assert [path.removeprefix("/models/mine/") for path in site.server.asked] == [
        f"{name}{query}" for name in ("model.json", "part1.bin", "part2.bin", "more/part3.bin")]


def test_files_lie_beside_the_address_that_was_asked_for(site: Site) -> None:
    """As in a browser, where model.json is redirected to another place."""
    site.server.put("/latest/model.json", b"", 302, Location="/models/mine/model.json?from=latest")
    for name in ("part1.bin", "part2.bin", "more/part3.bin"):
        site.server.put(f"/latest/{name}", b"", 302, Location=f"{site.server.url}/models/mine/{name}")
    assert same_bits(site.model, load_model(f"{site.server.url}/latest/model.json?key=secret"))
    assert [path for path in site.server.asked if "secret" in path] == [
        f"/latest/{name}?key=secret" for name in ("model.json", "part1.bin", "part2.bin", "more/part3.bin")]


def test_names_are_names_and_not_addresses(site: Site) -> None:
    site.group["paths"] = ["a b%2e%2e?.bin"]
    site.describe()
    site.server.put("/models/mine/a%20b%252e%252e%3F.bin", site.content)
    assert same_bits(site.model, load_model(site.url))


@pytest.mark.parametrize("path", ["../part1.bin", "/models/mine/part1.bin", "//127.0.0.1/x", "http://127.0.0.1/x",
                                  "..\\x", "C:x", "more/../../x", "", 3])
def test_paths_out_of_the_folder_are_refused(path: object, site: Site) -> None:
    site.group["paths"] = [path]
    site.describe()
    refused(site.url, FormatError, f"{site.url}: weightsManifest paths: expected")
    assert site.server.asked == ["/models/mine/model.json"]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/model.json", "file:///etc/passwd", "s3://bucket/model.json",
                                 "data://x", "https://", "http://:80/m", "http://127.0.0.1:x/m", "http://a b/m"])
def test_other_addresses_are_refused(url: str) -> None:
    refused(url, ValueError, "Expected the url to be an http or https address. Received: ")


def test_passwords_are_refused_and_not_shown(server: Server) -> None:
    with pytest.raises(ValueError, match="without a user's name or password. Received: one of 127.0.0.1") as caught:
        load_model(server.url.replace("//", "//me:secret@"))
    assert "secret" not in str(caught.value) and server.asked == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:application/json,{}"])
def test_redirections_to_other_schemes_are_refused(target: str, site: Site) -> None:
    site.server.put("/models/mine/part2.bin", b"", 301, Location=target)
    refused(site.url, DownloadError, "part2.bin: (redirected to|HTTP status 301 .* is not allowed)")


def test_redirections_in_a_circle_are_refused(site: Site) -> None:
    site.server.put("/models/mine/model.json", b"", 302, Location="/models/mine/model.json")
    refused(site.url, DownloadError, "Could not download http.*model.json: HTTP status 302")


def test_passwords_of_a_proxy_go_to_the_proxy_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.server.url.replace("//", "//me:secret@"))
    far = "http://far.invalid/model.json"
    site.server.put(far, b"", 302, Location=site.url)
    refused(far, DownloadError, "Could not download http://far.invalid/part1.bin: HTTP status 404")
    assert site.server.asked == [far, "/models/mine/model.json", "http://far.invalid/part1.bin"]
    assert ["Proxy-Authorization" in headers for headers in site.server.headers] == [True, False, True]


def test_missing_files_are_named(site: Site) -> None:
    refused(f"{site.server.url}/nothing/model.json", DownloadError,
            "Could not download http.*/nothing/model.json: HTTP status 404 Not Found$")
    del site.server.files["/models/mine/more/part3.bin"]
    refused(site.url, DownloadError, "Could not download http.*/mine/more/part3.bin: HTTP status 404 Not Found$")


@pytest.mark.parametrize(("change", "message"), [
    (lambda part: part[:-4], r"weights in \[.*expected 568 bytes.*Received: '564 bytes'"),
    (lambda part: part + bytes(4), "part3.bin to send at most 168 bytes. Received: 172 bytes"),
    (lambda part: bytes(0), "Received: '400 bytes'"),
])
def test_files_of_another_size_are_refused(change: Any, message: str, site: Site) -> None:
    path = "/models/mine/more/part3.bin"
    headers: list[dict[str, Any]] = [{}, {"Content_Length": ""}]
    for length in headers:  # whether the server says so first
        site.server.put(path, change(site.content[400:]), **length)
        refused(site.url, (FormatError, DownloadError), message)


@pytest.mark.parametrize("length", ["900", "1000000000000"])
def test_files_that_end_before_their_stated_length_are_refused(length: str, site: Site) -> None:
    site.server.put("/models/mine/part2.bin", site.content[200:400], Content_Length=length)
    refused(site.url, DownloadError, "part2.bin to send")


def test_compressed_files_are_read(site: Site) -> None:
    for path, (content, _, _) in list(site.server.files.items()):
        site.server.put(path, gzip.compress(content), Content_Encoding="gzip")
    assert same_bits(site.model, load_model(site.url))


@pytest.mark.parametrize(("content", "encoding", "message"), [
    (gzip.compress(bytes(50 << 20), mtime=0), "gzip", "part1.bin to send at most 568 bytes"),
    (gzip.compress(bytes(196), mtime=0)[:-9], "gzip", "all of it and nothing else. Received: a part"),
    (gzip.compress(bytes(196), mtime=0) + b"x", "gzip", "all of it and nothing else. Received: more"),
    (b"not gzip", "gzip", "to send gzip. Received: Error"),
    (bytes(200), "br", "compressed with gzip. Received: Content-Encoding 'br'"),
])
def test_badly_compressed_files_are_refused(content: bytes, encoding: str, message: str, site: Site) -> None:
    site.server.put("/models/mine/part1.bin", content, Content_Encoding=encoding)
    refused(site.url, DownloadError, message)


def test_what_cannot_be_read_is_refused_before_its_weights_come(site: Site) -> None:
    for document, message in [
        (b"<html>not here</html>", "JSON: expected JSON"),
        (json.dumps({**site.document, "format": "graph-model"}).encode(), "expected layers-model"),
        (json.dumps({**site.document, "weightsManifest": [
            {**site.group, "weights": site.group["weights"][1:]}]}).encode(),
         "expected the model's 4 weights"),
    ]:
        site.server.put("/models/mine/model.json", document)
        refused(site.url, FormatError, f"{site.url}: .*{message}")
    assert set(site.server.asked) == {"/models/mine/model.json"}


def test_size_and_time_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_BYTES", 500)
    refused(site.url, FormatError, "at most 500 bytes of weights from a server. Received: '568 bytes'")
    monkeypatch.setattr(remote, "MAX_JSON_BYTES", 100)
    refused(site.url, DownloadError, "model.json to send at most 100 bytes")
    monkeypatch.setattr(remote, "MAX_SECONDS", -1.0)
    refused(site.url, DownloadError, "the model took more than")


def test_a_server_that_is_not_there_is_named(server: Server) -> None:
    url = f"{server.url}/model.json"
    server.close()
    refused(url, DownloadError, f"Could not download {url}: ")

"""Asks servers for files over http and https: nothing else is ever opened, also by a redirection.

What a server says is not trusted: it may be no text for a terminal, and may never end.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinyconv.shapes import describe

__all__ = ["DownloadError", "WrongRange", "check_url", "open_url", "reading", "too_long", "total_length"]

_SCHEMES = ("http", "https")
# Characters of a server's own words in a message, and digits of a length that is one.
_SHOWN, _DIGITS = 200, 18


class DownloadError(OSError):
    """A file could not be downloaded; the message is one line and names the address."""


class WrongRange(DownloadError):
    """What is there of a partial download does not fit what the server has."""


def check_url(url: Any) -> None:
    """Raises ValueError where an address is none of http or https."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        valid = isinstance(url, str) and parts.scheme in _SCHEMES and bool(parts.hostname) \
            and re.search(r"[\x00-\x20\x7f]", url) is None and (parts.port or 1) > 0
    except (ValueError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise ValueError(f"Expected the url to be an http or https address. Received: {describe(url)}")


def open_url(url: str, timeout: float, start: int = 0, deadline: float | None = None) -> Any:
    """The response to a request for a file from byte `start` on; no credentials are sent.

    Args:
        url: The address.
        timeout: Seconds to wait for the server each time.
        start: The first byte. Defaults to 0.
        deadline: When, on the clock `time.monotonic`, everything has to be there that is read from the response;
            a server may send a byte now and then, or headers without end. Defaults to None: never.

    Raises:
        DownloadError: If the server answers with an error, or redirects to where no file may come from.
        WrongRange: If it has no such part of the file.
    """
    from urllib.error import HTTPError
    from urllib.request import Request

    request = Request(url, headers={"User-Agent": "tinyconv", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return _opener(deadline).open(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        if start and error.code == 416:
            raise WrongRange(f"Could not resume {url}: HTTP status 416") from None
        status = _line(f"{error.code} {error.reason}")
        raise DownloadError(f"Could not download {url}: HTTP status {status}") from None


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Makes what goes wrong with a connection a DownloadError of one line.

    Raises:
        DownloadError: Instead of what goes wrong inside.
    """
    import http.client

    try:
        yield
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueErrors are of addresses that are none
        reason = _line(str(getattr(error, "reason", None) or error)) or type(error).__name__
        raise DownloadError(f"Could not download {url}: {reason}") from error


def _line(text: str) -> str:
    """What a server said, as a part of a message: on one line, not long, and without what a terminal obeys."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split())[:_SHOWN])
    return shown if len(shown) < _SHOWN else f"{shown[:-3]}..."


def _opener(deadline: float | None) -> Any:
    """What fetches http and https addresses and nothing else: no files, no FTP, no data addresses."""
    import http.client
    from urllib import request

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(sock, *arguments, **options)
            if deadline is not None:  # before the first line is read
                self.fp: Any = io.BufferedReader(_Timed(self.fp.detach(), sock, deadline))

    def connecting(connection: Any) -> Any:
        def connect(*arguments: Any, **options: Any) -> Any:
            connected = connection(*arguments, **options)
            connected.response_class = Response
            return connected

        return connect

    class Http(request.HTTPHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
            return super().do_open(connecting(http_class), req, **options)

    class Https(request.HTTPSHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
            return super().do_open(connecting(http_class), req, **options)

    class Redirects(request.HTTPRedirectHandler):
        def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
            try:
                return super().http_error_302(req, fp, code, msg, headers)
            except ValueError:  # of an address that is none
                fp.close()
                raise

        http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            scheme = newurl.partition(":")[0].lower()
            if scheme not in _SCHEMES or (scheme == "http" and req.type == "https"):
                fp.close()
                raise DownloadError(f"Could not download {req.full_url}: redirected to {describe(newurl)}")
            fp.close()  # else all that comes with the answer would be read, however much
            redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
            if redirected is not None:  # for the proxy alone, which gets it anew where there is one
                redirected.remove_header("Proxy-authorization")
            return redirected

    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler, request.UnknownHandler, Http, Https,
                    request.HTTPDefaultErrorHandler, Redirects, request.HTTPErrorProcessor):
        opener.add_handler(handler())
    return opener


class _Timed(io.RawIOBase):
    """What a connection sends, until a deadline."""

    def __init__(self, source: Any, sock: Any, deadline: float) -> None:
        self._source, self._sock, self._deadline = source, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it takes too long")
        self._sock.settimeout(min(left, self._sock.gettimeout() or left))
        return self._source.readinto(buffer)

    def close(self) -> None:
        self._source.close()
        super().close()


def total_length(response: Any, url: str, start: int = 0) -> int | None:
    """Size of the whole file, as the server states it.

    Raises:
        WrongRange: If the server sends another part of it.
    """
    if start:
        stated = response.headers.get("Content-Range", "").strip()
        match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", stated)
        if not match or int(match[1]) != start:
            raise WrongRange(f"Could not resume {url} at byte {start}: the server sends another part")
        if match[2] != "*":
            return int(match[2])
    length = response.headers.get("Content-Length")
    return start + int(length) if length and length.isdecimal() and len(length) <= _DIGITS else None


def too_long(url: str, max_bytes: int, received: int) -> DownloadError:
    """The error of a server that sends more than was expected."""
    return DownloadError(f"Expected {url} to send at most {max_bytes} bytes. Received: {received} bytes")

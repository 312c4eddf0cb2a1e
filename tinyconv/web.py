"""Asks servers for files over http and https: nothing else is ever opened, also by a redirection."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinyconv.shapes import describe

__all__ = ["DownloadError", "WrongRange", "check_url", "open_url", "reading", "too_long", "total_length"]

_SCHEMES = ("http", "https")


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


def open_url(url: str, timeout: float, start: int = 0) -> Any:
    """The response to a request for a file from byte `start` on; no credentials are sent.

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
        return _opener().open(request, timeout=timeout)
    except HTTPError as error:
        with error:
            if start and error.code == 416:
                raise WrongRange(f"Could not resume {url}: HTTP status 416") from None
            status = " ".join(f"{error.code} {error.reason}".split())
            raise DownloadError(f"Could not download {url}: HTTP status {status}") from None


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Makes what goes wrong with a connection a DownloadError of one line."""
    import http.client

    try:
        yield
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        raise DownloadError(f"Could not download {url}: {reason}") from error


def _opener() -> Any:
    """What fetches http and https addresses and nothing else: no files, no FTP, no data addresses."""
    from urllib import request

    class Redirects(request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            scheme = newurl.partition(":")[0].lower()
            if scheme not in _SCHEMES or (scheme == "http" and req.type == "https"):
                fp.close()
                raise DownloadError(f"Could not download {req.full_url}: redirected to {describe(newurl)}")
            redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
            if redirected is not None:  # for the proxy alone, which gets it anew where there is one
                redirected.remove_header("Proxy-authorization")
            return redirected

    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler, request.UnknownHandler, request.HTTPHandler, request.HTTPSHandler,
                    request.HTTPDefaultErrorHandler, Redirects, request.HTTPErrorProcessor):
        opener.add_handler(handler())
    return opener


def total_length(response: Any, url: str, start: int = 0) -> int | None:
    """Size of the whole file, as the server states it."""
    if start:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not match or int(match[1]) != start:
            raise WrongRange(f"Could not resume {url} at byte {start}: the server sends another part")
        if match[2] != "*":
            return int(match[2])
    length = response.headers.get("Content-Length")
    return start + int(length) if length and length.isdecimal() else None


def too_long(url: str, max_bytes: int, received: int) -> DownloadError:
    return DownloadError(f"Expected {url} to send at most {max_bytes} bytes. Received: {received} bytes")

"""Fetch photos from URLs that the user gave, within a total time and size, whatever the server does.

The gateway and the Lambda function take URLs from strangers, with stricter rules (`serving.safe_fetch`).
The HTTP libraries are imported with the first URL: they load TLS, which a program without URLs does not need.
"""

import functools
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from image_classification_trash.errors import FetchError, FetchTooLargeError, first_line
from image_classification_trash.files import as_text
from image_classification_trash.inference.images import MAX_BYTES

if TYPE_CHECKING:
    import urllib.request

SECONDS = 60.0
"""From the connection to the last byte."""
_SILENT_SECONDS = 20.0
_PREFIXES = ("http://", "https://")


def is_url(name: str) -> bool:
    """Return whether a name is an http(s) URL, not a file."""
    return name.lower().startswith(_PREFIXES)


def fetch_url(url: str, seconds: float = SECONDS) -> bytes:
    """Fetch the bytes behind a URL.

    Raises:
        FetchError: the request fails or takes longer than `seconds`.
        FetchTooLargeError: it returns more than `MAX_BYTES`.
    """
    import http.client  # noqa: PLC0415  see the top
    import urllib.request  # noqa: PLC0415

    hint = "Check the address and the network, or save the photo and give its path."
    try:
        with _time_limit(seconds) as limit:
            request = urllib.request.Request(_encoded(url), headers={"User-Agent": "trash-classifier"})  # noqa: S310  see is_url
            with _opener(limit).open(request, timeout=_SILENT_SECONDS) as answer:
                data: bytes = answer.read(MAX_BYTES + 1)
                if answer.length and len(data) <= MAX_BYTES:
                    raise http.client.IncompleteRead(data, answer.length)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = f"it takes longer than {seconds:g} seconds" if limit.is_over else first_line(error)
        raise FetchError(as_text(f"{url} could not be fetched: {reason}."), hint) from error
    if len(data) > MAX_BYTES:
        raise FetchTooLargeError(
            f"{as_text(url)} is longer than {MAX_BYTES // 2**20} MiB.", "Give a smaller photo."
        )
    return data


class _TimeLimit:
    """Shuts connections down when the time is over, so that a server that sends byte by byte cannot keep them open."""

    def __init__(self) -> None:
        self.is_over = False
        self._sockets: list[socket.socket] = []

    def watch(self, opened: socket.socket) -> None:
        self._sockets.append(opened)
        if self.is_over:
            self.end()

    def end(self) -> None:
        self.is_over = True
        for opened in self._sockets:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)


@contextmanager
def _time_limit(seconds: float) -> Iterator[_TimeLimit]:
    limit = _TimeLimit()
    timer = threading.Timer(seconds, limit.end)
    timer.daemon = True
    timer.start()
    try:
        yield limit
        if limit.is_over:  # a body of unknown length reads as complete when it is shut down
            raise TimeoutError
    finally:
        timer.cancel()


def _opener(limit: _TimeLimit) -> "urllib.request.OpenerDirector":
    """Return an opener, with the environment's proxies, whose connections `limit` shuts down."""
    import http.client  # noqa: PLC0415  see the top
    import urllib.request  # noqa: PLC0415

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            limit.watch(self.sock)

    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            limit.watch(self.sock)

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(Connection), request)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(SecureConnection), request)

    return urllib.request.build_opener(Handler, SecureHandler)


def _encoded(url: str) -> str:
    """Return a URL as it is sent: the host in IDNA, spaces and letters beyond ASCII percent-encoded.

    Raises:
        ValueError: it is not a URL.
    """
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname:
        raise ValueError("the address names no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    port = "" if parts.port is None else f":{parts.port}"
    path, query = (
        urllib.parse.quote(text, safe="/%:@!$&'()*+,;=~?", errors="surrogateescape")
        for text in (parts.path, parts.query)
    )
    return urllib.parse.urlunsplit((parts.scheme, f"{host}{port}", path or "/", query, ""))

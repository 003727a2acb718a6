"""One bad address never ends a run: whatever a server does, the photo becomes an error, within a bounded time."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from image_classification_trash.errors import FetchError
from image_classification_trash.inference import web_photos
from image_classification_trash.inference.web_photos import fetch_url, is_url

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "/good": OK + b"Content-Length: 5\r\n\r\nphoto",
    "/garbage": b"SSH-2.0-x\r\n\r\n",
    "/chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "/headers": OK + b"X: a\r\n" * 200 + b"\r\n",
    "/cut": OK + b"Content-Length: 50\r\n\r\nphoto",
    "/long": OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "/nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
    "/round": b"HTTP/1.1 302 Found\r\nLocation: /round\r\nContent-Length: 0\r\n\r\n",
    "/status": b"HTTP/1.1 999999 ?\r\n\r\n",
    "/none": b"",
}


class Server(socketserver.StreamRequestHandler):
    """Answers with the bytes above; `/drip` and `/slow-body` never end, a byte at a time."""

    def handle(self) -> None:
        path = self.rfile.readline(65537).split(b" ")[1].decode("latin1")
        while self.rfile.readline().strip():
            pass
        if path in ("/drip", "/slow-body"):
            self.wfile.write(OK if path == "/drip" else OK + b"\r\n")
            with suppress(OSError):
                while not self.server.done.wait(0.01):  # type: ignore[attr-defined]
                    self.wfile.write(b"a")
        elif path.startswith(("/%C3%A4%20b", "/a%20b")):
            self.wfile.write(ANSWERS["/good"])
        else:
            self.wfile.write(ANSWERS[path])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads, server.done = True, threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.done.set()  # type: ignore[attr-defined]
        server.shutdown()


@pytest.mark.parametrize("path", ["/good", "/a b.jpg", "/ä b.jpg?x=1#part"])
def test_addresses_are_encoded_and_fetched(address: str, path: str) -> None:
    assert fetch_url(address + path) == b"photo"
    assert fetch_url(address.replace("http", "HTTP") + path) == b"photo"


@pytest.mark.parametrize("path", sorted(set(ANSWERS) - {"/good"}))
def test_whatever_a_server_answers_is_an_error_of_this_photo(address: str, path: str) -> None:
    with pytest.raises(FetchError, match="could not be fetched") as caught:
        fetch_url(address + path)
    assert address + path in caught.value.found and "\n" not in caught.value.found


@pytest.mark.parametrize("path", ["/drip", "/slow-body"])
def test_a_server_that_drips_is_given_up(address: str, path: str) -> None:
    with pytest.raises(FetchError, match=r"takes longer than 0\.5 seconds"):
        fetch_url(address + path, seconds=0.5)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/x.jpg",
        "http:///x",
        "http://a:b:c/x",
        "http://127.0.0.1:99999/x",
        "http://a..b/x",
        "http://\x00/",
    ],
)
def test_what_is_no_address_is_an_error_of_this_photo(url: str) -> None:
    with pytest.raises(FetchError, match="could not be fetched"):
        fetch_url(url)


def test_a_body_without_end_is_cut(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_photos, "MAX_BYTES", 4)
    with pytest.raises(FetchError, match="is longer than"):
        fetch_url(address + "/good")


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match="could not be fetched"):
        fetch_url(f"http://127.0.0.1:{port}/x")


def test_names_of_files_are_no_addresses() -> None:
    assert is_url("HTTPS://example.org/a.jpg") and not is_url("http.jpg")

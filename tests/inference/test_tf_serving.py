"""A model server over real HTTP that behaves, is slow, breaks off, lies, or comes back."""

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from image_classification_trash.errors import ModelServerError, ModelServerTimeoutError
from image_classification_trash.inference.tf_serving import ModelServer, TfServingRuntime

PHOTOS = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
GOOD = [[0.25, 0.75], [0.5, 0.5]]
Answer = Callable[[BaseHTTPRequestHandler, Any], None]


def says(status: int, body: object) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def breaks_off(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def drips(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _piece in range(300):
        handler.wfile.write(b" ")
        time.sleep(0.1)


@contextmanager
def serving(*answers: Answer) -> Iterator[tuple[str, list[Any]]]:
    """A server that gives these answers in turn, the last again and again; and the bodies it was sent."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            try:
                answers[min(len(asked), len(answers)) - 1](self, body)
            except OSError:
                self.close_connection = True

        def do_GET(self) -> None:
            answers[-1](self, None)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def runtime(url: str, **options: Any) -> TfServingRuntime:
    return TfServingRuntime(ModelServer(url, **options), classes=2)


def test_photos_arrive_as_they_are_and_probabilities_come_back() -> None:
    with serving(says(200, {"predictions": GOOD})) as (url, asked):
        rows = runtime(f"{url}/", model="waste")(PHOTOS)
    assert rows.dtype == np.float32 and rows.tolist() == GOOD
    ((path, body),) = asked
    assert path == "/v1/models/waste:predict" and body["signature_name"] == "serving_bytes"
    sent = [np.asarray(Image.open(io.BytesIO(base64.b64decode(row["b64"])))) for row in body["instances"]]
    assert np.array_equal(np.stack(sent), PHOTOS)


@pytest.mark.parametrize("passing", [breaks_off, says(503, {"error": "busy"}), says(429, b"")])
def test_a_passing_failure_is_tried_again(passing: Answer) -> None:
    with serving(passing, passing, says(200, {"predictions": GOOD})) as (url, asked):
        assert runtime(url, retries=2)(PHOTOS).tolist() == GOOD
    assert len(asked) == 3


def test_tries_are_bounded() -> None:
    with serving(breaks_off) as (url, asked), pytest.raises(ModelServerError, match="cannot be reached"):
        runtime(url, retries=1)(PHOTOS)
    assert len(asked) == 2


def test_a_refusal_is_passed_on_and_not_tried_again() -> None:
    with (
        serving(says(400, {"error": "input\n size mismatch"})) as (url, asked),
        pytest.raises(ModelServerError, match="status 400: input size mismatch"),
    ):
        runtime(url)(PHOTOS)
    assert len(asked) == 1


def test_a_long_refusal_is_cut() -> None:
    with serving(says(500, b"x" * 5000)) as (url, _), pytest.raises(ModelServerError) as caught:
        runtime(url)(PHOTOS)
    assert len(caught.value.found) < 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no predictions"),
        (b"<html>", "no predictions"),
        ([], "no predictions"),
        ({"predictions": "x"}, "no predictions"),
        ({"predictions": [[0.5], [0.5, 0.5]]}, "no predictions"),
        ({"predictions": [[0.5, 0.5]]}, "not 2 rows of 2"),
        ({"predictions": [[0.2, 0.3, 0.5]] * 2}, "another model"),
        ({"predictions": [[3.0, -2.0]] * 2}, "not probabilities"),
        ({"predictions": [[float("nan"), 1.0]] * 2}, "not probabilities"),
        (b" " * 2**21, "does not end"),
    ],
)
def test_an_answer_that_is_none_is_refused(body: object, said: str) -> None:
    with serving(says(200, body)) as (url, _), pytest.raises(ModelServerError, match=said):
        runtime(url)(PHOTOS)


@pytest.mark.parametrize("slow", [drips, lambda *_: time.sleep(30)])
def test_the_time_for_the_whole_answer_is_bounded(slow: Answer) -> None:
    with serving(slow) as (url, asked), pytest.raises(ModelServerTimeoutError, match=r"0\.3 seconds"):
        runtime(url, seconds=0.3)(PHOTOS)
    assert len(asked) == 1


def test_a_server_that_is_away_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = runtime(f"http://127.0.0.1:{port}")
    assert not away.is_available()
    with pytest.raises(ModelServerError, match="cannot be reached"):
        away(PHOTOS)


@pytest.mark.parametrize(
    ("body", "available"),
    [
        ({"model_version_status": [{"state": "END"}, {"state": "AVAILABLE"}]}, True),
        ({"model_version_status": [{"state": "LOADING"}]}, False),
        ({"error": "no such model"}, False),
        ([], False),
        (b"<html>", False),
    ],
)
def test_state(body: object, available: bool) -> None:
    with serving(says(200, body)) as (url, _):
        assert runtime(url).is_available() is available

"""What strangers do to a running gateway while others are answered: slow, many, tiny, loud. Real processes on loopback."""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import patient
from helpers.gateways import COMMAND, CONFIG, UNHURRIED, address, connected, photos, write_onnx
from helpers.patient import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="limits of files and signals are those of POSIX"
)
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "model.onnx", CONFIG)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log.txt"


@pytest.fixture(scope="module")
def gateway(model: Path, log: Path) -> Iterator[str]:
    """A gateway that may open 64 files."""
    line = [*COMMAND, str(model), "--port", "0", "--upload-seconds", "60"]
    limited = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *line]
    with (
        log.open("w") as out,
        subprocess.Popen(limited, env=os.environ | UNHURRIED, stderr=out, text=True) as process,
    ):
        try:
            wait_until(lambda: "serving" in log.read_text())
            url = address(log.read_text().splitlines())
            wait_until(lambda: patient.get(f"{url}/readyz").status_code == 200)
            yield url
        finally:
            process.kill()


@contextlib.contextmanager
def strangers(url: str, count: int, first: bytes, then: bytes) -> Iterator[None]:
    """Keep `count` connections, which each send `first` and then `then`, a byte each 0.1 seconds; they come again when closed."""
    done = threading.Event()

    def keep() -> None:
        held: list[socket.socket] = []
        while not done.is_set():
            while len(held) < count:
                connection = connected(url)
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    connection.send(first)
                held.append(connection)
            for connection in list(held):
                try:
                    connection.send(then)
                except BlockingIOError:
                    pass
                except OSError:
                    connection.close()
                    held.remove(connection)
            time.sleep(0.1)
        for connection in held:
            connection.close()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        time.sleep(1)
        yield
    finally:
        done.set()
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("first", "then"),
    [(HEAD, b"X"), (b"", b""), (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"), (b"GET /healthz HTTP/1.1\r\nContent-Length: 9999\r\nHost: x\r\n\r\n", b"x")],
    ids=["headers", "silent", "bodies", "bodies of GET"],
)  # fmt: skip
def test_others_are_answered_beside_a_hundred_slow_connections(
    gateway: str, first: bytes, then: bytes
) -> None:
    data = photos(1)[0]
    with strangers(gateway, 100, first, then):
        for _ in range(10):
            assert patient.post(f"{gateway}/predict", files={"x": data}).status_code == 200


def test_a_head_that_does_not_end_is_given_up(gateway: str) -> None:
    with connected(gateway) as connection:
        connection.sendall(HEAD)
        assert b" 408 " in connection.recv(4096)
        assert connection.recv(4096) == b""
    with connected(gateway) as silent:
        assert silent.recv(4096) == b""


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(gateway: str) -> None:
    with connected(gateway) as connection:
        connection.sendall(b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        assert b" 404 " in connection.recv(4096)
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096):
                pass
            return
        pytest.fail("it was cut off")


def test_chunks_of_a_byte_are_refused_and_larger_ones_are_taken(gateway: str) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with connected(gateway) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head + b"1\r\nx\r\n" * 100_000)
        assert b" 400 " in connection.recv(4096)
    data = photos(1)[0]
    pieces = [data[start : start + 100] for start in range(0, len(data), 100)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    with connected(gateway) as connection:
        connection.sendall(head + body)
        assert b" 200 " in connection.recv(4096)


@pytest.mark.parametrize("head", [b"GET /healthz HTTP/1.1\r\nHost: x\r\n", HEAD])
def test_a_body_that_is_no_http_is_refused_once_and_without_a_word_of_a_fault(
    gateway: str, log: Path, head: bytes
) -> None:
    with connected(gateway) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\nno length\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.count(b"HTTP/1.1 ") == 1 and b" 400 " in answer
    assert patient.get(f"{gateway}/healthz").status_code == 200
    assert "Traceback" not in log.read_text()


def test_pipelined_requests_are_answered_in_order(gateway: str) -> None:
    with connected(gateway) as connection:
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 400
            + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answers.count(b'{"status":"alive"}') == 401


def test_the_log_stays_short(gateway: str, log: Path) -> None:
    before = len(log.read_text())
    for _ in range(300):
        with connected(gateway) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert b" 400 " in connection.recv(4096)
    assert len(log.read_text()) - before < 20_000
    assert log.read_text().count("\n") < 300

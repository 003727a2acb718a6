"""A gateway whose work hangs, whose workers or parent are killed, or that is asked to stop meanwhile; real processes."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from helpers import patient
from helpers.gateways import CONFIG, connected, photos, serving, write_onnx
from helpers.patient import PATIENCE, wait_until
from helpers.photo_bombs import png
from helpers.processes import decoders, descendants, is_running, stop_and_go, workers

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="processes are found as Linux lists them"
)

ENDED = (0, -signal.SIGALRM)
"""How a gateway ends in time: by itself, or, on a machine too busy for that, by the last alarm."""
UPLOAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100\r\n\r\n{"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "model.onnx", CONFIG)


def ask(url: str, data: bytes | None = None) -> httpx.Response:
    return patient.post(f"{url}/predict", files={"photos": data or photos(1)[0]})


@contextlib.contextmanager
def stuck(url: str, pid: int) -> Iterator[list[int]]:
    """More photos in decoders that have been stopped than there are places for; they are never answered in vain."""
    assert ask(url).status_code == 200
    halted = decoders(pid)
    stop_and_go(halted, signal.SIGSTOP)
    with contextlib.suppress(httpx.TransportError):
        asking = [threading.Thread(target=ask_in_vain, args=(url,), daemon=True) for _ in range(4)]
        for thread in asking:
            thread.start()
    yield halted


def ask_in_vain(url: str) -> None:
    with contextlib.suppress(httpx.TransportError):
        ask(url)


def metric(url: str, name: str) -> float:
    lines = patient.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def halt_all(pid: int) -> bool:
    """Stop every decoder, also those that were made since; tell whether there is one."""
    found = decoders(pid)
    stop_and_go(found, signal.SIGSTOP)
    return bool(found)


def test_photos_that_are_stuck_make_it_unready_and_no_stop_waits_for_them(model: Path) -> None:
    with serving(model, "--stop-seconds", "1", "--threads", "64") as (url, process):
        with stuck(url, process.pid) as halted:
            wait_until(lambda: patient.get(f"{url}/readyz").status_code == 503)
            assert patient.get(f"{url}/healthz").status_code == 200
            stop_and_go(halted, signal.SIGCONT)
            wait_until(lambda: patient.get(f"{url}/readyz").status_code == 200)
        with stuck(url, process.pid), connected(url) as upload:
            upload.sendall(UPLOAD)
            wait_until(lambda: patient.get(f"{url}/readyz").status_code == 503)
            family = descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) in ENDED
            wait_until(lambda: not any(map(is_running, family)))


def test_a_time_out_ends_the_work_and_frees_its_place(model: Path) -> None:
    with serving(model, "--model-seconds", "3", "--queue-size", "0", "--max-photos", "1", "--threads", "64") as (url, process):  # fmt: skip
        wait_until(lambda: ask(url).status_code == 200)
        halted = decoders(process.pid)
        stop_and_go(halted, signal.SIGSTOP)
        assert ask(url).status_code == 504
        wait_until(lambda: not any(map(is_running, halted)))
        wait_until(lambda: ask(url).status_code == 200)


def test_a_photo_that_takes_too_much_computing_is_answered_with_413(model: Path) -> None:
    with serving(model, "--decode-seconds", "0.02") as (url, _):
        response = ask(url, png(5000, 8, 2))
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
        assert "computing" in response.json()["error"]["message"]


def test_workers_are_replaced_and_end_with_their_parent(model: Path) -> None:
    """A worker that is killed while it receives an upload leaves no gauge; then the parent is killed, and nobody stays."""
    with serving(model, "--workers", "2", "--stop-seconds", "1") as (url, process):
        first = workers(process.pid)
        assert len(first) == 2
        with connected(url) as upload:
            upload.sendall(UPLOAD)
            wait_until(lambda: metric(url, "trash_requests_held ") == 1)
            for pid in first:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: len(workers(process.pid)) == 2 and not set(first) & set(workers(process.pid)))
        wait_until(lambda: ask(url).status_code == 200)
        assert metric(url, "trash_requests_held ") == 0
        wait_until(lambda: bool(decoders(process.pid)))
        family = descendants(process.pid)
        process.kill()
        wait_until(lambda: not any(map(is_running, family)))


def test_several_workers_with_stuck_work_and_open_uploads_stop_in_time(model: Path) -> None:
    with serving(model, "--workers", "2", "--stop-seconds", "1", "--threads", "64") as (url, process):
        assert ask(url).status_code == 200
        wait_until(lambda: halt_all(process.pid))
        asking = [threading.Thread(target=ask_in_vain, args=(url,), daemon=True) for _ in range(8)]
        for thread in asking:
            thread.start()
        with connected(url) as upload:
            upload.sendall(UPLOAD)
            wait_until(lambda: metric(url, "trash_requests_held ") >= 2)
            family = descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) in ENDED
            wait_until(lambda: not any(map(is_running, family)))


def test_a_worker_that_holds_too_much_memory_gives_its_place_to_a_new_one(model: Path) -> None:
    with serving(model, "--worker-mb", "1") as (url, process):
        (first,) = workers(process.pid)
        while is_running(first):
            assert ask(url).status_code == 200
        assert process.poll() is None and ask(url).status_code == 200

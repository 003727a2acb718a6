"""The real `trash-classifier serve`, as a process on loopback, with a model made here; and schemathesis against it."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import patient
from helpers.commands import GUARD
from helpers.gateways import (
    COMMAND,
    CONFIG,
    LABELS,
    SIZE,
    connected,
    photos,
    ranked,
    serving,
    write_onnx,
)
from helpers.patient import PATIENCE, wait_until
from onnx import helper

from image_classification_trash.inference.bundle import describe
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import read_photo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "model.onnx", CONFIG)


@pytest.fixture(scope="module")
def gateway(model: Path) -> Iterator[str]:
    with serving(model, "--max-mb", "4") as (url, _):
        yield url


def test_all_routes_agree_with_the_classifier(model: Path, gateway: str) -> None:
    encoded = photos(5)
    pixels = np.stack([read_photo(data, SIZE) for data in encoded])
    expected = TrashClassifier.load(model).probabilities(pixels)
    files = [("photos", (f"{n}.jpg", data)) for n, data in enumerate(encoded)]
    predictions = patient.post(f"{gateway}/predict", files=files).json()["predictions"]
    b64 = [base64.b64encode(data).decode() for data in encoded]
    tensor = {
        "name": "images",
        "datatype": "UINT8",
        "shape": list(pixels.shape),
        "data": pixels.ravel().tolist(),
    }
    answers: Sequence[object] = (
        [[ranked(p)[label] for label in LABELS] for p in predictions],
        post(f"{gateway}/v1/models/trash:predict", {"instances": [{"b64": b} for b in b64]})["predictions"],
        post(f"{gateway}/v1/models/trash:predict", {"instances": pixels.tolist()})["predictions"],
        np.reshape(
            post(f"{gateway}/v2/models/trash/infer", {"inputs": [tensor]})["outputs"][0]["data"], (5, 3)
        ),
    )
    for answer in answers:
        assert np.allclose(answer, expected, atol=1e-6)


def post(url: str, body: object) -> dict:  # type: ignore[type-arg]
    response = patient.post(url, json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"files": {"photos": b"no photo"}}, 400, "not_a_photo"),
        ({"json": {"url": "http://no-such-host.invalid/"}}, 400, "url_failed"),
        ({"files": {"photos": b"x" * 5 * 2**20}}, 413, "too_large"),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "wrong_content_type"),
        ({"json": {}}, 422, "wrong_body"),
        ({"json": {"url": "http://127.0.0.1/"}}, 422, "url_refused"),
        ({"json": {"url": "http://169.254.169.254/latest/meta-data/"}}, 422, "url_refused"),
        ({"json": {"url": "file:///etc/passwd"}}, 422, "url_refused"),
    ],
)
def test_errors(gateway: str, request_: dict, status: int, code: str) -> None:  # type: ignore[type-arg]
    response = patient.post(f"{gateway}/predict", **request_)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_an_upload_that_stalls_is_given_up(model: Path) -> None:
    with serving(model, "--upload-seconds", "0.3") as (url, _), connected(url) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: 100\r\n\r\n{")
        assert b" 408 " in connection.recv(4096)


def test_a_signal_lets_a_request_in_flight_finish(model: Path) -> None:
    """The body is still on its way when the signal comes; its answer comes all the same, then the process ends well."""
    body = json.dumps({"image": base64.b64encode(photos(1)[0]).decode()}).encode()
    with serving(model) as (url, process):
        with connected(url) as connection:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:10])
            wait_until(lambda: "trash_requests_held 1.0" in patient.get(f"{url}/metrics").text)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not listens(url))
            assert process.poll() is None
            connection.sendall(body[10:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200") and b'"decision"' in answer
        assert process.wait(PATIENCE) == 0


def listens(url: str) -> bool:
    try:
        connected(url).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers share a socket as POSIX has it")
def test_several_workers_count_together_and_stop_together(model: Path) -> None:
    with serving(model, "--workers", "2") as (url, process):
        for data in photos(8):
            assert patient.post(f"{url}/predict", files={"photos": data}).status_code == 200
        text = patient.get(f"{url}/metrics").text
        assert 'trash_requests_total{route="/predict",status="200"} 8.0' in text
        assert 'trash_step_seconds_count{step="infer"} 8.0' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_taken_port_and_a_missing_model_are_said(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, str(model), "--port", port], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and f"port {port} cannot be listened on" in done.stderr
    done = subprocess.run(
        [*COMMAND, "models/none"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "models/none" in done.stderr


def test_a_model_that_does_not_describe_itself_is_refused(model: Path, tmp_path: Path) -> None:
    foreign = onnx.load(model)
    helper.set_model_props(foreign, {"bundle.json": describe(replace(CONFIG, labels=LABELS[:2]), {}, {})})
    onnx.save(foreign, tmp_path / "model.onnx")
    done = subprocess.run(
        [*COMMAND, str(tmp_path / "model.onnx")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "labels" in done.stderr


@pytest.mark.slow
def test_schemathesis_finds_nothing(gateway: str, tmp_path: Path) -> None:
    """`positive_data_acceptance` is left out: a schema cannot say which strings are photos, or addresses that answer."""
    line = [
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{gateway}/openapi.json", "--max-examples", "40",
        "--exclude-checks", "positive_data_acceptance", "--seed", "1", "--generation-database", "none",
    ]  # fmt: skip
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=GUARD)
    assert done.returncode == 0, done.stdout[-5000:]

"""A gateway before a model server, both as processes. The gateway itself speaks TensorFlow Serving's REST format, so a
second one stands in for the model server here; `test_stand_in.py` asks one that is not ours."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import patient
from helpers.gateways import (
    CONFIG,
    LABELS,
    SIZE,
    free_port,
    photos,
    ranked,
    serving,
    write_bundle,
    write_onnx,
)
from helpers.patient import wait_until

from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import read_photo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "model.onnx", CONFIG)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", CONFIG)


def before(url: str, *more: str) -> list[str]:
    return ["--runtime", "tf-serving", "--backend-url", url, *more]


@pytest.fixture(scope="module")
def pair(model: Path, bundle: Path) -> Iterator[str]:
    with serving(model) as (url, _), serving(bundle, *before(url)) as (front, _):
        yield front


def test_the_answer_is_the_models_own(model: Path, pair: str) -> None:
    encoded = photos(6)
    expected = TrashClassifier.load(model).probabilities(np.stack([read_photo(p, SIZE) for p in encoded]))
    files = [("photos", (f"{n}.jpg", data)) for n, data in enumerate(encoded)]
    predictions = patient.post(f"{pair}/predict", files=files).json()["predictions"]
    answered = [[ranked(p)[label] for label in LABELS] for p in predictions]
    assert np.allclose(answered, expected, atol=1e-6)


def test_a_bad_photo_never_reaches_the_model_server(pair: str) -> None:
    response = patient.post(f"{pair}/predict", files={"photos": b"no photo"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "not_a_photo")


def test_the_model_servers_own_error_is_passed_on(model: Path, bundle: Path) -> None:
    with (
        serving(model) as (url, _),
        serving(bundle, *before(url, "--backend-model", "other"), ready=False) as (front, _),
    ):
        assert patient.get(f"{front}/readyz").status_code == 503
        response = patient.post(f"{front}/predict", files={"photos": photos(1)[0]})
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (502, "model_server")
        assert "status 404: Not Found" in error["message"]


def test_a_model_server_that_comes_goes_and_comes_back(model: Path, bundle: Path) -> None:
    """The gateway starts first, says that it is not ready, and needs no restart at any time."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    photo = {"photos": photos(1)[0]}
    with serving(bundle, *before(url), ready=False) as (front, _):
        assert patient.get(f"{front}/readyz").status_code == 503
        assert patient.get(f"{front}/v1/models/trash").json()["model_version_status"][0]["state"] == "UNKNOWN"
        assert patient.post(f"{front}/predict", files=photo).status_code == 502
        for _ in range(2):
            with serving(model, port=port) as (_, server):
                wait_until(lambda: patient.get(f"{front}/readyz").status_code == 200)
                assert patient.post(f"{front}/predict", files=photo).status_code == 200
                server.kill()
                server.wait()
            assert patient.post(f"{front}/predict", files=photo).status_code == 502


def test_a_model_server_that_hangs_is_given_up(model: Path, bundle: Path) -> None:
    with (
        serving(model) as (url, server),
        serving(bundle, *before(url, "--backend-seconds", "0.5")) as (front, _),
    ):
        server.send_signal(signal.SIGSTOP)
        response = patient.post(f"{front}/predict", files={"photos": photos(1)[0]})
        assert (response.status_code, response.json()["error"]["code"]) == (504, "too_slow")
        server.send_signal(signal.SIGCONT)
        wait_until(
            lambda: patient.post(f"{front}/predict", files={"photos": photos(1)[0]}).status_code == 200
        )

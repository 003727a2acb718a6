"""A running gateway gets another model: by a signal, by a request, in one process and in several; a bad one is refused."""

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import patient
from helpers.commands import CLI
from helpers.gateways import CONFIG, photos, serving, write_onnx
from helpers.patient import PATIENCE, wait_until
from onnx import numpy_helper

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGHUP is a signal of POSIX")
RELOAD = "/v1/models/trash:reload"


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def spoiled(path: Path, weights: float) -> Path:
    """A model whose scores are not finite (nan)."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "weights":
            tensor.CopyFrom(numpy_helper.from_array(np.full((3, 3), weights, np.float32), "weights"))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "first": write_onnx(folder / "first.onnx", CONFIG),
        "second": write_onnx(folder / "second.onnx", replace(CONFIG, name="second", threshold=0.9)),
        "bad": spoiled(write_onnx(folder / "bad.onnx", CONFIG), float("nan")),
    }


@pytest.fixture
def served(models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(models["first"], tmp_path / "model.onnx"))


@pytest.fixture
def gateway(served: Path) -> Iterator[tuple[str, int]]:
    with serving(served, "--reload-route") as (url, process):
        yield url, process.pid


def put(model: Path, served: Path) -> None:
    beside = served.with_suffix(".new")
    shutil.copy(model, beside)
    beside.replace(served)


def test_a_signal_and_a_request_replace_the_model_and_a_bad_one_is_refused(
    models: dict[str, Path], served: Path, gateway: tuple[str, int]
) -> None:
    url, pid = gateway
    data = photos(1)[0]

    def answer() -> tuple[str, str]:
        response = patient.post(f"{url}/predict", files={"x": data})
        model = response.json()["model"]
        assert response.headers["model-digest"] == f"sha256:{model['digest']}"
        return response.headers["model-digest"], model["name"]

    first, second = digest_of(models["first"]), digest_of(models["second"])
    assert answer() == (first, "tiny")
    put(models["second"], served)
    assert answer() == (first, "tiny")  # nothing is read again before it is told
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: answer() == (second, "second"))
    assert patient.get(f"{url}/v2/models/trash").json()["parameters"]["digest"] == second.removeprefix(
        "sha256:"
    )
    for bad in (models["bad"], None):
        if bad is None:
            served.write_bytes(b"no model")
        else:
            put(bad, served)
        refused = patient.post(f"{url}{RELOAD}")
        assert refused.status_code == 409 and "goes on answering" in refused.json()["error"]
        os.kill(pid, signal.SIGHUP)
        assert answer() == (second, "second")
    put(models["first"], served)
    assert patient.post(f"{url}{RELOAD}").json() == {"model": "tiny", "digest": first.removeprefix("sha256:")}
    assert answer() == (first, "tiny")


def test_all_workers_follow(models: dict[str, Path], served: Path) -> None:
    data, second = photos(1)[0], digest_of(models["second"])
    with serving(served, "--workers", "2", "--reload-route") as (url, process):
        put(models["second"], served)
        assert patient.post(f"{url}{RELOAD}").status_code == 202

        def follows() -> bool:
            answers = [patient.post(f"{url}/predict", files={"x": data}) for _ in range(8)]
            return {answer.headers.get("model-digest") for answer in answers} == {second}

        wait_until(follows)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_model_whose_answers_are_no_probabilities_is_not_served(models: dict[str, Path]) -> None:
    line = [*CLI, "serve", str(models["bad"]), "--port", "0"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not finite" in done.stderr and "serving" not in done.stderr


def test_there_is_no_such_route_by_default(served: Path) -> None:
    with serving(served) as (url, _):
        assert patient.post(f"{url}{RELOAD}").status_code == 404

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
from helpers.processes import decoders, descendants, stop_and_go, workers
from onnx import numpy_helper

from image_classification_trash.serving.operations.access import KEYS

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
        "third": write_onnx(folder / "third.onnx", replace(CONFIG, name="third")),
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
        assert refused.status_code == 409 and "keeps answering" in refused.json()["error"]
        os.kill(pid, signal.SIGHUP)
        assert answer() == (second, "second")
    put(models["first"], served)
    assert patient.post(f"{url}{RELOAD}").json() == {"model": "tiny", "digest": first.removeprefix("sha256:")}
    assert answer() == (first, "tiny")


def digests(url: str) -> set[str]:
    """What the next answers name, which come from several workers."""
    answers = [patient.post(f"{url}/predict", files={"x": photos(1)[0]}) for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["model-digest"] for answer in answers}


@pytest.mark.parametrize("supervised", [("--workers", "2"), ("--worker-mb", "100000")])
def test_all_workers_follow(models: dict[str, Path], served: Path, supervised: tuple[str, ...]) -> None:
    with serving(served, *supervised, "--reload-route") as (url, process):
        before = workers(process.pid)
        put(models["second"], served)
        assert patient.post(f"{url}{RELOAD}").status_code == 202
        wait_until(lambda: digests(url) == {digest_of(models["second"])})
        wait_until(lambda: not set(before) & set(workers(process.pid)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_the_last_of_several_signals_counts(models: dict[str, Path], served: Path) -> None:
    with serving(served, "--workers", "2") as (url, process):
        before = workers(process.pid)
        put(models["second"], served)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(workers(process.pid)) > 2)  # a successor is on its way
        put(models["third"], served)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(workers(process.pid)) == 2 and not set(before) & set(workers(process.pid)))
        assert digests(url) == {digest_of(models["third"])}


def test_workers_go_on_when_a_new_model_is_bad(models: dict[str, Path], served: Path) -> None:
    log: list[str] = []
    first = {digest_of(models["first"])}
    with serving(served, "--workers", "2", "--reload-route", log=log) as (url, process):
        before = workers(process.pid)
        for one in before:  # each answers by itself: one that still starts would read the bad model
            others = [other for other in before if other != one]
            stop_and_go(others, signal.SIGSTOP)
            wait_until(lambda: patient.get(f"{url}/readyz").status_code == 200)
            stop_and_go(others, signal.SIGCONT)
        put(models["bad"], served)
        refused = patient.post(f"{url}{RELOAD}")
        assert refused.status_code == 409 and "keeps answering" in refused.json()["error"]
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "A new worker did not start" in "".join(log))
        assert "not finite" in "".join(log) and "Traceback" not in "".join(log)
        assert workers(process.pid) == before and digests(url) == first
        os.kill(before[0], signal.SIGKILL)  # the other one goes on, however often its neighbour cannot start
        wait_until(lambda: "".join(log).count("This worker does not serve") >= 3)
        assert digests(url) == first and before[1] in workers(process.pid)
        put(models["second"], served)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: digests(url) == {digest_of(models["second"])} and len(workers(process.pid)) == 2)


def test_decoders_outlive_a_reload(models: dict[str, Path], served: Path) -> None:
    """The signal goes to every process, as a terminal that is closed sends it."""
    with serving(served) as (url, process):
        assert digests(url) == {digest_of(models["first"])}
        before = decoders(process.pid)
        put(models["second"], served)
        for pid in (process.pid, *descendants(process.pid)):
            os.kill(pid, signal.SIGHUP)
        wait_until(lambda: digests(url) == {digest_of(models["second"])})
        assert before and set(before) <= set(decoders(process.pid))


def test_keys_are_asked_for_by_all_workers_and_metrics_count_them_together(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "first-key-0123456789"
    monkeypatch.setenv(KEYS, key)
    data, headers = photos(1)[0], {"X-API-Key": key}
    with serving(served, "--workers", "2", "--reload-route") as (url, process):
        for _ in range(8):
            assert patient.post(f"{url}/predict", files={"x": data}).status_code == 401
            assert patient.post(f"{url}/predict", files={"x": data}, headers=headers).status_code == 200
        for path in ("/healthz", "/readyz"):
            assert patient.get(f"{url}{path}").status_code == 200
        counts = patient.get(f"{url}/metrics").text
        assert 'trash_requests_total{route="/predict",status="200"} 8.0' in counts
        assert 'status="401"} 8.0' in counts
        assert patient.post(f"{url}{RELOAD}").status_code == 401
        before = workers(process.pid)
        assert patient.post(f"{url}{RELOAD}", headers=headers).status_code == 202
        wait_until(lambda: not set(before) & set(workers(process.pid)))
        assert patient.post(f"{url}/predict", files={"x": data}).status_code == 401


def test_a_model_whose_answers_are_no_probabilities_is_not_served(models: dict[str, Path]) -> None:
    line = [*CLI, "serve", str(models["bad"]), "--port", "0"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not finite" in done.stderr and "serving" not in done.stderr


def test_there_is_no_such_route_by_default(served: Path) -> None:
    with serving(served) as (url, _):
        assert patient.post(f"{url}{RELOAD}").status_code == 404

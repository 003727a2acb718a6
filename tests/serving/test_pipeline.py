"""The pipeline alone: plain data out, bad photos as errors, limits, times, and no framework."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from helpers.tiny_model import CONFIG, LABELS, SIZE, MakeClient, mean_colour
from PIL import Image

from image_classification_trash.cli import run
from image_classification_trash.errors import FetchError, PhotoError, PhotoTooLargeError
from image_classification_trash.inference.classifier import Prediction, TrashClassifier
from image_classification_trash.inference.images import read_photo
from image_classification_trash.serving.http import gateway as gateway_module
from image_classification_trash.serving.http.api_errors import RefusalError
from image_classification_trash.serving.http.schemas import PlainErrorAnswer, TfPredictAnswer
from image_classification_trash.serving.pipeline import Batch, Limits, Photo, Pipeline

ROOT = Path(__file__).parents[2]


def encoded(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


def pipeline(**changes: Any) -> Pipeline:
    return Pipeline(TrashClassifier(replace(CONFIG, **changes), mean_colour), Limits(10, max_photos=3))


def builtin(value: object) -> bool:
    """Whether nothing but JSON's own types is in there; numpy's float64 would be a float too."""
    if type(value) is dict:
        return all(type(key) is str and builtin(item) for key, item in value.items())
    if type(value) is list:
        return all(map(builtin, value))
    return value is None or type(value) in (str, float, int, bool)


@pytest.mark.parametrize("negative", [None, LABELS[2]])
def test_answers_are_plain_data(negative: str | None) -> None:
    steps = pipeline(negative_label=negative, negative_threshold=negative and 0.5, conformal_threshold=0.9)
    photos = [Photo("a", encoded(), 0.25), Photo("b", b"no photo"), Photo("c", encoded("blue"))]
    answer = steps.encode([steps.predict(photo) for photo in photos])
    assert builtin(answer) and json.loads(json.dumps(answer)) == answer
    good, bad, _ = answer["predictions"]
    assert list(good) == list(bad)
    assert good["milliseconds"]["fetch"] == 250 and good["milliseconds"]["decode"] > 0
    assert good["label"] == LABELS[0] and good["error"] is None
    assert bad["error"]["code"] == "not_a_photo" and bad["label"] is None and bad["probabilities"] == []
    assert set(bad["milliseconds"].values()) == {0.0}


def test_a_request_without_a_good_photo_is_refused_for_the_first() -> None:
    steps = pipeline()
    answers = [steps.predict(Photo("a", data)) for data in (FetchError("no host."), b"no photo")]
    with pytest.raises(RefusalError, match=r"no host\.") as refused:
        steps.encode(answers)
    assert refused.value.as_json() == {"code": "url_failed", "message": "no host."}


def test_what_fails_in_decoding_is_raised_and_the_model_not_run() -> None:
    begun = []

    @contextlib.contextmanager
    def timer(step: str) -> Iterator[None]:
        begun.append(step)
        yield

    def decode() -> Batch:
        raise PhotoError("bad.")

    with pytest.raises(PhotoError):
        pipeline().run(decode, timer)
    assert begun == ["decode"]


def test_photos_of_strangers_have_a_smaller_budget_than_ones_own() -> None:
    buffer = io.BytesIO()
    Image.new("1", (9_000, 8_000)).save(buffer, "PNG")  # 72 million pixels
    assert read_photo(buffer.getvalue(), SIZE).shape == (*SIZE, 3)
    with pytest.raises(PhotoTooLargeError, match=r"more than 50\.5 million pixels"):
        pipeline().decode(buffer.getvalue())
    answered = pipeline().predict(Photo("a", buffer.getvalue()))
    with pytest.raises(RefusalError) as refused:
        pipeline().encode([answered])
    assert (refused.value.status, refused.value.code) == (413, "too_large")


def test_limits() -> None:
    limits = Limits(max_bytes=2**20, max_photos=2)
    limits.check_length(2**20, "photo")
    limits.check_count(2)
    with pytest.raises(RefusalError, match="The photo is longer than 1 MiB"):
        limits.check_length(2**20 + 1, "photo")
    for count in (0, 3):
        with pytest.raises(RefusalError, match=f"There are {count} photos; a request holds from 1 to 2"):
            limits.check_count(count)


def test_a_prediction_is_plain_without_an_answer_too() -> None:
    assert Prediction("a", error="x").as_json() == {
        "photo": "a",
        "decision": None,
        "label": None,
        "probability": None,
        "waste_score": None,
        "prediction_set": [],
        "probabilities": [],
        "error": {"code": "not_a_photo", "message": "x"},
    }


def test_command_gateway_and_python_give_one_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["good.jpg", "bad.jpg"]
    (tmp_path / names[0]).write_bytes(next((ROOT / "data/sample/test/metal").glob("*.jpg")).read_bytes())
    (tmp_path / names[1]).write_bytes(b"no photo")
    monkeypatch.chdir(tmp_path)
    classifier = TrashClassifier.load()
    steps = Pipeline(classifier, Limits(2**20, 2))
    rest = steps.encode([steps.predict(Photo(name, Path(name).read_bytes())) for name in names])
    assert all(
        set(answer.pop("milliseconds")) == {"fetch", "decode", "infer"} for answer in rest["predictions"]
    )
    python = [prediction.as_json() for prediction in classifier.predict(names)]
    assert run(["predict", *names, "--json", "--model", "shipped"]) == 3
    command = json.loads(capsys.readouterr().out)
    assert command["model"] == rest["model"] == classifier.as_json()
    assert command["predictions"] == python
    good, bad = rest["predictions"]
    assert good == python[0]
    assert bad["error"].pop("message") and python[1]["error"].pop(
        "message"
    )  # one names the file, one the bytes
    assert bad == python[1]


class BareTensor:
    """Bytes of one photo's pixels in, a list of probabilities out."""

    route, paths, tag = "bare", ("/v1/bare",), "Bare"
    body, answer = PlainErrorAnswer, TfPredictAnswer

    def decode(self, body: bytes, pipeline: Pipeline) -> Batch:
        return Batch(np.frombuffer(body, np.uint8).reshape(1, *pipeline.classifier.config.input_size, 3))

    def encode(self, batch: Batch, rows: list[list[float]]) -> dict[str, Any]:
        return {"predictions": rows}

    def add_state_routes(self, app: FastAPI, model: Any, is_ready: Any) -> None:
        pass


def test_a_protocol_is_its_decode_and_its_encode(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "PROTOCOLS", (BareTensor(),))
    client: TestClient = make_client()
    pixels = np.full((1, *SIZE, 3), (9, 7, 8), np.uint8)
    answer = client.post("/v1/bare", content=pixels.tobytes())
    assert np.allclose(answer.json()["predictions"], mean_colour(pixels))
    assert 'trash_step_seconds_count{step="infer"} 1.0' in client.get("/metrics").text


def test_neither_pydantic_nor_a_web_framework_is_imported() -> None:
    code = "import sys, image_classification_trash.serving.pipeline; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"pydantic", "fastapi", "starlette", "asyncio", "prometheus_client"}

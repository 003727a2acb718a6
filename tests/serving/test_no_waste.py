"""A photo without waste: the gateway and the Lambda's handler say so, with the score; a model without such a label has none."""

import base64
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from helpers.tiny_model import CONFIG, LABELS, mean_colour
from PIL import Image

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.serving import lambda_function
from image_classification_trash.serving.http.gateway import create_app

NOTHING = LABELS[2]


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 20_000


def photo(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


def classifier(negative: str | None) -> TrashClassifier:
    threshold = None if negative is None else 0.5
    return TrashClassifier(
        replace(CONFIG, negative_label=negative, negative_threshold=threshold), mean_colour
    )


def by_gateway(model: TrashClassifier, data: bytes) -> dict[str, Any]:
    client = TestClient(create_app(ServeSettings(isolation=False), model, None))
    answer = client.post("/predict", files={"photos": ("a.png", data)})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["predictions"][0])


def by_lambda(model: TrashClassifier, data: bytes, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(lambda_function, "classifier", lambda: model)
    event = {
        "version": "2.0",
        "headers": {"content-type": "image/png"},
        "requestContext": {"http": {"method": "POST"}},
        "body": base64.b64encode(data).decode(),
        "isBase64Encoded": True,
    }
    answer = lambda_function.handler(event, Context())
    assert answer["statusCode"] == 200, answer
    return dict(json.loads(answer["body"])["predictions"][0])


@pytest.mark.parametrize(("colour", "decision"), [("blue", NOTHING), ("red", "glass")])
def test_both_say_whether_there_is_waste(colour: str, decision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = classifier(NOTHING), photo(colour)
    for answer in (by_gateway(model, data), by_lambda(model, data, monkeypatch)):
        assert answer["decision"] == decision
        assert answer["label"] != NOTHING
        assert answer["prediction_set"] == ([] if decision == NOTHING else [decision])
        assert (answer["waste_score"] < 0.01) == (decision == NOTHING)


def test_a_model_without_such_a_label_gives_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = classifier(None), photo("blue")
    for answer in (by_gateway(model, data), by_lambda(model, data, monkeypatch)):
        assert answer["decision"] == answer["label"] == NOTHING and answer["waste_score"] is None

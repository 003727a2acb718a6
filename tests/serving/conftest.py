"""A gateway on the tiny model."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from helpers.patient import PATIENCE
from helpers.tiny_model import CONFIG, MakeClient, mean_colour

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.runtimes import Runtime
from image_classification_trash.serving.http.gateway import create_app
from image_classification_trash.serving.safe_fetch import FetchRules


@pytest.fixture
def make_client() -> MakeClient:
    def make(runtime: Runtime = mean_colour, rules: FetchRules | None = None, **settings: Any) -> TestClient:
        chosen = ServeSettings(**{"model_seconds": PATIENCE, "isolation": False, **settings})
        app = create_app(chosen, TrashClassifier(CONFIG, runtime), rules)
        return TestClient(app, raise_server_exceptions=False)

    return make


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    return make_client()

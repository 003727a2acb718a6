"""Traces are off unless they are asked for, cost no import then, and need their extra."""

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
from fastapi.testclient import TestClient
from helpers.tiny_model import CONFIG, mean_colour

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import MissingExtraError
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.serving.http.gateway import create_app
from image_classification_trash.serving.operations.tracing import add_traces

IS_INSTALLED = (
    find_spec("opentelemetry") is not None and find_spec("opentelemetry.instrumentation") is not None
)


def app(**settings: Any) -> Any:
    return create_app(ServeSettings(isolation=False, **settings), TrashClassifier(CONFIG, mean_colour))


def test_nothing_of_it_is_imported_by_default() -> None:
    code = (
        "import sys; from image_classification_trash.serving.http import server; "
        "print(sum(name.startswith(('opentelemetry.sdk', 'opentelemetry.instr')) for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    assert not hasattr(app().state, "tracer_provider")


@pytest.mark.skipif(IS_INSTALLED, reason="the extra trace is installed")
def test_without_the_extra_it_is_named() -> None:
    with pytest.raises(MissingExtraError, match="OpenTelemetry"):
        app(traces=True)


@pytest.mark.skipif(
    not IS_INSTALLED, reason="the extra trace is not installed: opentelemetry-instrumentation-fastapi"
)
def test_requests_are_traced_and_probes_are_not() -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, traced = InMemorySpanExporter(), app()
    add_traces(traced, "/metrics", exporter)
    client = TestClient(traced)
    for path in ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2"):
        assert client.get(path).status_code == 200
    assert client.post("/predict").status_code == 415
    traced.state.tracer_provider.force_flush()
    spans = exporter.get_finished_spans()
    names = {span.name for span in spans}
    assert {"GET /v2", "POST /predict"} <= names and not [
        name for name in names if "health" in name or "metrics" in name
    ]
    assert spans[0].resource.attributes["service.name"] == "trash-classifier"

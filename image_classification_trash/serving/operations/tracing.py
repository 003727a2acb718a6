"""Sends a trace of each request to an OpenTelemetry collector: `serve --traces`, with the extra `trace`.

Where to, and under which name, say OpenTelemetry's own variables: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, ...
Nothing of it is imported without the setting.
"""

import os
from typing import Any

from fastapi import FastAPI

from image_classification_trash.errors import MissingExtraError, install_hint

NOT_TRACED = ("/healthz$", "/readyz$", "/health/(live|ready)$", "/models/trash/ready$")
"""Regular expressions of addresses that probes ask for, beside that of the metrics."""


def add_traces(app: FastAPI, metrics_path: str, exporter: Any = None) -> None:
    """Trace an application's requests.

    Args:
        app: not yet started.
        metrics_path: is not traced.
        exporter: takes the spans; by default one for a collector, over HTTP.

    Raises:
        MissingExtraError: the extra `trace` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        found = "--traces needs OpenTelemetry, which is not installed."
        raise MissingExtraError(found, install_hint("trace")) from error
    is_named = "OTEL_SERVICE_NAME" in os.environ
    provider = TracerProvider(resource=Resource.create({} if is_named else {"service.name": app.title}))
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    excluded = [*NOT_TRACED, *([f"{metrics_path}$"] if metrics_path else [])]
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, excluded_urls=",".join(excluded))
    app.state.tracer_provider = provider

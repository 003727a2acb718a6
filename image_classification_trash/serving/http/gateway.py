"""Answers photos over HTTP with JSON: the REST gateway. `trash-classifier serve models/trashnet` runs it.

    POST /predict                    photos as files, a photo's bytes, or JSON {"url": ...} or {"image": base64}
    GET  /                           a web page for people, and what it needs       (page.py)
    GET  /healthz, /readyz           is the process alive; does it answer
    GET  /metrics, /docs             Prometheus; OpenAPI
    /v1/models/trash[:predict], ...  TensorFlow Serving's REST format     (protocols.py)
    /v2/models/trash[/infer], ...    the Open Inference Protocol          (protocols.py)

Every GET route answers HEAD too.
Every request takes the pipeline's steps (pipeline.py); the gateway adds the queue, the metrics and the counts.
"""

import asyncio
import copy
import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import ModelServerError, PhotoError
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.photo_cost import MEBIBYTE
from image_classification_trash.inference.runtimes import Probabilities
from image_classification_trash.serving.http import page
from image_classification_trash.serving.http.api_errors import RefusalError, refusal_of
from image_classification_trash.serving.http.middleware import (
    Bounded,
    Counted,
    Guarded,
    HeadAsGet,
    SecurityHeaders,
    route_path,
)
from image_classification_trash.serving.http.protocols import PREFIXES, PROTOCOLS, BinaryBody, ForeignProtocol
from image_classification_trash.serving.http.reload import (
    add_reload_route,
    digest_header,
    load_model,
    reload_on_hangup,
)
from image_classification_trash.serving.http.request_body import (
    JSON,
    MULTIPART,
    content_type,
    read_body,
    uploads,
)
from image_classification_trash.serving.http.request_json import (
    SMALL_BODY,
    Link,
    asked_photo,
    inflate,
    parse_json,
)
from image_classification_trash.serving.http.schemas import (
    PREDICT_BODY,
    PREDICT_ERRORS,
    PROTOCOL_ERRORS,
    ErrorAnswer,
    PredictAnswer,
    json_body,
)
from image_classification_trash.serving.operations.access import ApiKeys, host_is_allowed
from image_classification_trash.serving.operations.held_bytes import HeldBytes, hold
from image_classification_trash.serving.operations.isolation import Decoders
from image_classification_trash.serving.operations.photo_reader import PhotoReader
from image_classification_trash.serving.operations.prediction_log import StatisticsFile
from image_classification_trash.serving.operations.prometheus import CONTENT_TYPE, Metrics
from image_classification_trash.serving.operations.tracing import add_traces
from image_classification_trash.serving.operations.worker_pool import Turn, WorkQueue, photos_at_once
from image_classification_trash.serving.pipeline import Answered, Batch, Json, Limits, Photo, Pipeline
from image_classification_trash.serving.safe_fetch import FetchRules, fetch
from image_classification_trash.version import __version__

OPEN_PATHS = (
    "/",
    "/healthz",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
    *(f"/web/{name}" for name in page.WEB_FILES),
)
"""Paths, beside that of the metrics, that need no API key: states, and the page's program, which asks for one."""
READY_SECONDS = 5.0
"""Time without a free place for a photo, after which the gateway says that it is not ready."""
LARGE_BODY = 2**20
"""Bytes from which on bodies are parsed one at a time, as that takes memory for two copies; compressed ones always are."""
_T = TypeVar("_T")


class Gateway:
    """A pipeline behind a queue, with its metrics and its counts of answers."""

    def __init__(
        self,
        settings: ServeSettings,
        classifier: TrashClassifier,
        rules: FetchRules,
        model: Path | None = None,
    ) -> None:
        """Set up, and run the model once, so that the first request is not the slowest.

        Raises:
            BundleError: the model's answer to a black photo is not one of probabilities.
        """
        self.settings, self.rules = settings, rules
        self.pipeline = Pipeline(classifier, Limits(settings.max_bytes, settings.max_photos))
        self.metrics = Metrics()
        self.statistics = StatisticsFile(settings, classifier)
        jobs = photos_at_once(settings, classifier.is_remote)
        self.queue = WorkQueue(jobs, settings.queue_size, settings.model_seconds)
        decoders = Decoders(settings.decode_seconds) if settings.isolation else None
        self.photos = PhotoReader(decoders, settings.decode_mb * MEBIBYTE)
        self.metrics.waiting.set_function(lambda: self.queue.waiting)
        if not classifier.is_remote:  # a model server warms itself up, and may start later than the gateway
            classifier.warm_up()
        self.offer = page.Offer.of(classifier, model)
        self._open = True
        self._parsing = asyncio.Lock()

    def as_now(self) -> "Gateway":
        """Return a view with the model of this moment, for one request: a reload replaces the model here, not there."""
        return copy.copy(self)

    @property
    def classifier(self) -> TrashClassifier:
        """The model that answers now."""
        return self.pipeline.classifier

    async def decode(self, request: Request) -> list[Photo]:
        """Take the photos, still encoded, out of a request to /predict; fetch the one behind an address.

        Raises:
            RefusalError: the request is too large, of the wrong type, or does not hold photos.
        """
        kind = content_type(request)
        body = await self.body(request)
        async with self._parsing if len(body) > LARGE_BODY else nullcontext():
            asked = await self._parsed(kind, request, body)
        return [await self._fetch(asked, request)] if isinstance(asked, Link) else asked

    async def _parsed(self, kind: str, request: Request, body: bytes) -> list[Photo] | Link:
        if kind == MULTIPART:
            return await uploads(request.headers, body, self.pipeline.limits)
        if kind != JSON:
            return [Photo("photo 1", body)]
        if len(body) > SMALL_BODY:
            asked = await run_in_threadpool(lambda: asked_photo(parse_json(body)))
        else:
            asked = asked_photo(parse_json(body))
        return [asked] if isinstance(asked, Photo) else asked

    async def body(self, request: Request) -> bytes:
        """Read the request's body, within the settings' limits, and inflate it where it is compressed.

        Raises:
            RefusalError: 408, 413, 415 or 422; 503 where the worker holds too many bytes.
        """
        limits = self.pipeline.limits
        body = await read_body(request, limits, self.settings.upload_seconds)
        encoding = request.headers.get("content-encoding")
        if not encoding:
            return body
        async with self._parsing:
            inflated = await run_in_threadpool(inflate, body, encoding, limits)
            hold(request.scope, len(inflated) - len(body))
        return inflated

    async def predict(self, photos: list[Photo]) -> list[Answered]:
        """Classify photos, each in a job of its own.

        Raises:
            RefusalError: 503 or 504, as the queue says.
            ModelServerError: the model server failed.
        """
        answers = []

        def job(photo: Photo, turn: Turn) -> Answered:
            return self._pipeline_of(turn).predict(photo)

        for answered in map(_result, await self.queue.run(job, photos)):
            for step, seconds in vars(answered.seconds).items():
                if seconds:
                    self.metrics.steps.labels(step).observe(seconds)
            if not isinstance(answered.row, PhotoError):
                self.statistics.add(answered.row[None])
            answers.append(answered)
        return answers

    async def predict_batch(self, protocol: ForeignProtocol, body: bytes) -> tuple[Batch, Probabilities]:
        """Decode and classify a request of another protocol, both in one job; probabilities are float32 (N, C).

        Raises:
            RefusalError: the body is wrong; 503 or 504, as the queue says.
            PhotoError: a photo in it cannot be decoded.
            ModelServerError: the model server failed.
        """

        def job(body: bytes, turn: Turn) -> tuple[Batch, Probabilities]:
            pipeline = self._pipeline_of(turn)
            return pipeline.run(
                lambda: protocol.decode(body, pipeline),
                lambda step: self.metrics.steps.labels(step).time(),
            )

        ((batch, rows),) = map(_result, await self.queue.run(job, [body]))
        self.statistics.add(rows)
        return batch, rows

    def use(self, classifier: TrashClassifier, model: Path) -> None:
        """Let another model answer from now on; requests that have begun are answered by the one before.

        Raises:
            BundleError: its .tflite was changed after the export.
        """
        offer = page.Offer.of(classifier, model)
        self.pipeline, self.offer = replace(self.pipeline, classifier=classifier), offer
        self.statistics.restart(classifier)

    def is_ready(self) -> bool:
        """Tell whether a photo would be answered now; asks the model server where there is one."""
        is_stuck = self.queue.stuck_seconds > READY_SECONDS
        return self._open and not is_stuck and self.pipeline.classifier.is_ready()

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Keep the counts of answers while the gateway runs; when it stops, take no more work."""
        await run_in_threadpool(self.photos.warm_up)
        async with self.statistics.kept():
            with reload_on_hangup(self):
                yield
        self._open = False
        self.queue.close()
        self.photos.close()
        self.metrics.close()

    def _pipeline_of(self, turn: Turn) -> Pipeline:
        return replace(self.pipeline, reader=functools.partial(self.photos.read, turn))

    async def _fetch(self, link: Link, request: Request) -> Photo:
        start, rules = time.perf_counter(), replace(self.rules, hold=functools.partial(hold, request.scope))
        try:
            data: bytes | PhotoError = await fetch(link.url, rules)
        except PhotoError as error:
            data = error
        return Photo(link.url, data, time.perf_counter() - start)


class _App(FastAPI):
    """An application whose every answer passes through what `around` holds: those of faults, which FastAPI's own
    middleware does not see, and those of CORS and redirects too."""

    around: tuple[Callable[[ASGIApp], ASGIApp], ...] = ()
    _whole: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, through the whole; the last of `around` is outermost."""
        if self._whole is None:
            whole: ASGIApp = super().__call__
            for wrap in self.around:
                whole = wrap(whole)
            self._whole = whole
        await self._whole(scope, receive, send)


def create_app(
    settings: ServeSettings,
    classifier: TrashClassifier | None = None,
    rules: FetchRules | None = None,
    model: Path | None = None,
) -> FastAPI:
    """Make the gateway as an ASGI application.

    Args:
        settings: of the stage `serve`.
        classifier: a model that is loaded already; by default the settings' model is loaded here.
        rules: what may be fetched; by default what the settings say.
        model: where `classifier` was loaded from; by default what the settings name.

    Raises:
        BundleError: there is no model, or it is damaged, or its answers are no probabilities.
        MissingExtraError: its engine, or OpenTelemetry for `traces`, is not installed.
    """
    if rules is None:
        hosts, ports = tuple(settings.allowed_hosts), tuple(settings.allowed_ports)
        rules = FetchRules(settings.max_bytes, settings.fetch_seconds, hosts, ports)
    if classifier is None:
        classifier, model = load_model(settings)
    gateway = Gateway(settings, classifier, rules, model or settings.model)
    app = _App(
        title="trash-classifier",
        version=__version__,
        summary="Tells waste apart by photo.",
        description=f"Classes: {', '.join(classifier.config.labels)}.",
        docs_url=None,
        redoc_url=None,
        lifespan=gateway.lifespan,
    )
    app.root_path = settings.root_path
    _add_middleware(app, gateway)
    _add_error_handlers(app)
    _add_routes(app, gateway)
    page.add_routes(app, lambda: gateway.offer)
    page.add_docs(app)
    if settings.reload_route:
        add_reload_route(app, gateway)
    for protocol in PROTOCOLS:
        protocol.add_state_routes(app, lambda: gateway.classifier, gateway.is_ready)
        _add_protocol(app, gateway, protocol)
    if settings.traces:
        add_traces(app, settings.metrics_path)
    return app


def _add_middleware(app: _App, gateway: Gateway) -> None:
    """Wrap the routes; what is added last is outermost."""
    held = max(gateway.settings.held_mb * MEBIBYTE, gateway.settings.max_bytes)
    app.add_middleware(HeldBytes, limit=int(held))
    app.add_middleware(
        Bounded,
        limit=gateway.settings.max_requests,
        is_full=lambda: gateway.queue.is_full,
        answer=_refused,
        metrics=gateway.metrics,
    )
    keys, hosts = ApiKeys.of(gateway.settings), gateway.settings.server_hosts
    exempt = {*OPEN_PATHS, gateway.settings.metrics_path}

    def check(request: Request) -> RefusalError | None:
        host = request.headers.get("host", "")
        if not host_is_allowed(host, hosts):
            message = f"This gateway is not called {host[:100]!r}. If it is, start it with --server-hosts."
            return RefusalError(421, "wrong_host", message)
        if keys is None or route_path(request.scope) in exempt:
            return None
        return keys.check(request.headers.get("authorization", ""), request.headers.get("x-api-key", ""))

    app.add_middleware(Guarded, check=check, answer=_refused)
    app.add_middleware(Counted, metrics=gateway.metrics)
    app.around = (SecurityHeaders, HeadAsGet)
    if gateway.settings.cors_origins:
        cors = functools.partial(
            CORSMiddleware,
            allow_origins=gateway.settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=("Retry-After",),
        )
        app.around = (cors, *app.around)


def _add_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.post(
        "/predict",
        responses=PREDICT_ERRORS,
        openapi_extra=PREDICT_BODY,
        summary="Classify photos",
        response_model=PredictAnswer,
    )
    async def predict(request: Request, response: Response) -> Json:
        here = gateway.as_now()
        photos = await here.decode(request)
        answers = await here.predict(photos)
        response.headers.update(digest_header(here.classifier))
        return here.pipeline.encode(answers)

    @app.get("/healthz", summary="Is the process alive?")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"model": ErrorAnswer}}, summary="Can it answer?")
    def ready() -> dict[str, str]:
        if not gateway.is_ready():
            raise RefusalError(
                503, "not_ready", "The gateway is stopping or stuck, or its model server is away."
            )
        return {"status": "ready"}

    if gateway.settings.metrics_path:

        @app.get(gateway.settings.metrics_path, response_class=PlainTextResponse, summary="For Prometheus")
        def metrics() -> Response:
            return Response(gateway.metrics.text(), media_type=CONTENT_TYPE)


def _add_protocol(app: FastAPI, gateway: Gateway, protocol: ForeignProtocol) -> None:
    async def predict(request: Request, response: Response) -> Json:
        here = gateway.as_now()
        json_length = request.headers.get("inference-header-content-length")
        body = BinaryBody.of(await here.body(request), json_length)
        batch, rows = await here.predict_batch(protocol, body)
        response.headers.update(digest_header(here.classifier))
        return protocol.encode(batch, rows.tolist())

    for path in protocol.paths:
        app.post(
            path,
            name=protocol.route,
            tags=[protocol.tag],
            summary="Classify photos",
            responses=PROTOCOL_ERRORS,
            openapi_extra=json_body(protocol.body),
            response_model=protocol.answer,
            response_model_exclude_none=True,
        )(predict)


def _result(found: _T | BaseException) -> _T:
    """Return what a job returned, or raise what it raised."""
    if isinstance(found, BaseException):
        raise found
    return found


async def _refused(request: Request, refusal: RefusalError) -> JSONResponse:
    """Answer with a refusal, in the form that the route's clients know."""
    plain = route_path(request.scope).startswith(PREFIXES)
    error = refusal.message if plain else refusal.as_json()
    return JSONResponse({"error": error}, refusal.status, refusal.headers)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RefusalError)
    async def refused(request: Request, refusal: RefusalError) -> Response:
        return await _refused(request, refusal)

    @app.exception_handler(PhotoError)
    @app.exception_handler(ModelServerError)
    async def failed(request: Request, error: PhotoError | ModelServerError) -> Response:
        return await _refused(request, refusal_of(error))

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "error")
        response = await _refused(request, RefusalError(error.status_code, code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def fault(request: Request, _: Exception) -> Response:  # uvicorn logs it
        return await _refused(
            request, RefusalError(500, "fault", "The gateway failed. The cause is in its log.")
        )

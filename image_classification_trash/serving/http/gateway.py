"""The REST gateway: photos in, JSON out. `trash-classifier serve models/trashnet` runs it.

    POST /predict                    photos as files, or JSON {"url": ...} or {"image": base64}
    GET  /                           a web page for people, and what it needs       (page.py)
    GET  /healthz, /readyz           is the process alive; does it answer
    GET  /metrics, /docs             Prometheus; OpenAPI
    /v1/models/trash[:predict]       TensorFlow Serving's REST format     (protocols.py)
    /v2/models/trash[/infer], ...    the Open Inference Protocol          (protocols.py)

Four steps in every request, after LitServe: setup once, then decode, predict, encode.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from image_classification_trash import __version__
from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.errors import ModelServerError, PhotoError
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.inference.tf_serving import ModelServer
from image_classification_trash.serving.http import page, protocols
from image_classification_trash.serving.http.api_errors import RefusalError, refusal_of, refusal_of_server
from image_classification_trash.serving.http.middleware import Bounded, Counted, SecurityHeaders
from image_classification_trash.serving.http.request_body import (
    JSON,
    MULTIPART,
    content_type,
    read_body,
    uploads,
)
from image_classification_trash.serving.http.request_json import Link, asked_photo, parse_json
from image_classification_trash.serving.http.schemas import (
    Error,
    ErrorAnswer,
    ImageBody,
    LabelAnswer,
    LinkBody,
    ModelAnswer,
    PhotoAnswer,
    PhotoMilliseconds,
    PredictAnswer,
)
from image_classification_trash.serving.operations.prediction_log import StatisticsFile
from image_classification_trash.serving.operations.prometheus import CONTENT_TYPE, Metrics
from image_classification_trash.serving.operations.worker_pool import WorkQueue, cores
from image_classification_trash.serving.safe_fetch import FetchRules, fetch

_T = TypeVar("_T")
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "not a photo, or the address did not give one"},
    408: {"model": ErrorAnswer, "description": "the body took too long to arrive"},
    413: {"model": ErrorAnswer, "description": "too many bytes or pixels"},
    415: {"model": ErrorAnswer, "description": "wrong content type"},
    422: {"model": ErrorAnswer, "description": "wrong body, or an address that is not fetched"},
    502: {"model": ErrorAnswer, "description": "the model server failed"},
    503: {"model": ErrorAnswer, "description": "full; see Retry-After"},
    504: {"model": ErrorAnswer, "description": "the model is too slow"},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": ["photos"],
                    "properties": {
                        "photos": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
            JSON: {"schema": {"oneOf": [LinkBody.model_json_schema(), ImageBody.model_json_schema()]}},
        },
    }
}


@dataclass(frozen=True)
class Photo:
    """A photo of a request: its bytes, or why there are none."""

    name: str
    data: bytes | PhotoError
    fetch_seconds: float = 0.0


@dataclass(frozen=True)
class Answered:
    """One photo's probabilities, float32 (C,), and the seconds of each step; or why there are none."""

    photo: Photo
    row: npt.NDArray[np.float32] | PhotoError
    decode_seconds: float = 0.0
    infer_seconds: float = 0.0


class Gateway:
    """A loaded model, its queue, and the steps from a request to its answer."""

    def __init__(self, settings: ServeSettings, classifier: TrashClassifier, rules: FetchRules) -> None:
        """Setup; the model runs once, so that the first request is not the slowest."""
        self.settings, self.classifier, self.rules = settings, classifier, rules
        self.metrics = Metrics()
        self.statistics = StatisticsFile(settings, classifier)
        self.queue = WorkQueue(
            _jobs_at_once(settings, classifier), settings.queue_size, settings.model_seconds
        )
        self.metrics.waiting.set_function(lambda: self.queue.waiting)
        if not classifier.is_remote:  # a model server warms itself up, and may start later than the gateway
            classifier.probabilities(np.zeros((1, *classifier.config.input_size, 3), np.uint8))
        self._open = True

    async def decode(self, request: Request) -> list[Photo]:
        """The request's photos, still encoded.

        Raises:
            RefusalError: the request is too large, of the wrong type, or does not hold photos.
        """
        kind = content_type(request, MULTIPART, JSON)
        body = await self.body(request)
        if kind == MULTIPART:
            files = await uploads(request.headers, body, self.settings.max_photos)
            return [Photo(file.name, file.data) for file in files]
        asked = asked_photo(parse_json(body))
        if isinstance(asked, Link):
            return [await self._fetched(asked.url)]
        return [Photo("photo 1", asked.data)]

    async def body(self, request: Request) -> bytes:
        """The request's body, within the settings' limits."""
        return await read_body(request, self.settings.max_bytes, self.settings.upload_seconds)

    async def predict(self, photos: list[Photo]) -> list[Answered]:
        """Pixels and probabilities of each photo, in threads.

        Raises:
            RefusalError: 503 or 504, as the queue says.
        """
        found = await self.queue.run(self._classify, photos)
        return [self._observed(answered) for answered in map(_result, found)]

    def encode(self, answers: list[Answered]) -> PredictAnswer:
        """The answer for all photos; a bad one among good ones has its error.

        Raises:
            RefusalError: there is no good photo; what is wrong with the first.
        """
        if all(isinstance(answer.row, PhotoError) for answer in answers):
            raise refusal_of(next(a.row for a in answers if isinstance(a.row, PhotoError)))
        return PredictAnswer(model=self.about(), predictions=[self._photo_answer(a) for a in answers])

    def about(self) -> ModelAnswer:
        """Which model answers."""
        config = self.classifier.config
        return ModelAnswer(
            name=config.name,
            architecture=config.architecture,
            git_commit=config.git_commit,
            created=config.created,
            threshold=config.threshold,
        )

    def is_ready(self) -> bool:
        """Whether a photo would be answered now; asks the model server where there is one."""
        return self._open and self.classifier.is_ready()

    def close(self) -> None:
        """Take no more work."""
        self._open = False
        self.queue.close()
        self.metrics.close()

    async def _fetched(self, url: str) -> Photo:
        start = time.perf_counter()
        try:
            data: bytes | PhotoError = await fetch(url, self.rules)
        except PhotoError as error:
            data = error
        return Photo(url, data, time.perf_counter() - start)

    def _classify(self, photo: Photo) -> Answered:
        """One photo in one thread."""
        if isinstance(photo.data, PhotoError):
            return Answered(photo, photo.data)
        config, start = self.classifier.config, time.perf_counter()
        try:
            pixels = read_photo(photo.data, config.input_size, config.fit)
        except PhotoError as error:
            return Answered(photo, error)
        decoded = time.perf_counter()
        row = self.classifier.probabilities(pixels[None])[0]
        return Answered(photo, row, decoded - start, time.perf_counter() - decoded)

    def _observed(self, answer: Answered) -> Answered:
        steps = {
            "fetch": answer.photo.fetch_seconds,
            "decode": answer.decode_seconds,
            "infer": answer.infer_seconds,
        }
        for step, seconds in steps.items():
            if seconds:
                self.metrics.steps.labels(step).observe(seconds)
        if not isinstance(answer.row, PhotoError):
            self.statistics.add(answer.row[None])
        return answer

    def _photo_answer(self, answer: Answered) -> PhotoAnswer:
        name = answer.photo.name
        if isinstance(answer.row, PhotoError):
            refusal = refusal_of(answer.row)
            return PhotoAnswer(photo=name, error=Error(code=refusal.code, message=refusal.message))
        prediction = self.classifier.prediction(name, answer.row)
        seconds = (answer.photo.fetch_seconds, answer.decode_seconds, answer.infer_seconds)
        fetched, decoded, inferred = (round(1000 * step, 3) for step in seconds)
        return PhotoAnswer(
            photo=name,
            decision=prediction.decision,
            label=prediction.label,
            probability=prediction.probability,
            waste_score=prediction.waste_score,
            candidates=list(prediction.candidates),
            probabilities=[
                LabelAnswer(label=label, probability=p) for label, p in prediction.probabilities.items()
            ],
            milliseconds=PhotoMilliseconds(fetch=fetched, decode=decoded, infer=inferred),
        )


def create_app(
    settings: ServeSettings, classifier: TrashClassifier | None = None, rules: FetchRules | None = None
) -> FastAPI:
    """The gateway as an ASGI application.

    Args:
        settings: of the stage `serve`.
        classifier: a model that is loaded already; by default the settings' model is loaded here.
        rules: what may be fetched; by default what the settings say.

    Raises:
        BundleError: there is no model, or it is damaged.
        MissingExtraError: its engine is not installed.
    """
    gateway = Gateway(settings, classifier or load_model(settings), rules or _rules(settings))
    app = FastAPI(
        title="trash-classifier",
        version=__version__,
        summary="Tells waste apart by photo.",
        description=f"Classes: {', '.join(gateway.classifier.config.labels)}. This page needs a network for its looks; "
        "the document itself is at /openapi.json.",
        redoc_url=None,
        lifespan=partial(_lifespan, gateway),
    )
    app.add_middleware(
        Bounded,
        limit=settings.max_requests,
        is_full=lambda: gateway.queue.is_full,
        answer=_refused,
        metrics=gateway.metrics,
    )
    app.add_middleware(Counted, metrics=gateway.metrics)
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(RefusalError, _refused)  # type: ignore[arg-type]
    app.add_exception_handler(ModelServerError, _server_failed)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _fault)
    _add_routes(app, gateway)
    _add_state_routes(app, gateway)
    page.add_routes(app, gateway.classifier.config, settings.model)
    protocols.add_routes(app, gateway)
    return app


def load_model(settings: ServeSettings) -> TrashClassifier:
    """The settings' model, or the newest bundle.

    Raises:
        BundleError: there is no model, or it is damaged.
        MissingExtraError: its engine is not installed.
    """
    model = chosen_model(settings.model, settings.models_dir)
    if settings.backend_url is None:
        return TrashClassifier.load(model, settings.runtime, settings.threads)
    server = ModelServer(
        settings.backend_url,
        settings.backend_model,
        settings.backend_seconds,
        settings.backend_retries,
        settings.backend_connections,
    )
    return TrashClassifier.connect(model, server)


def _add_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.post("/predict", responses=_ERRORS, openapi_extra=_BODY, summary="Classify photos")
    async def predict(request: Request) -> PredictAnswer:
        photos = await gateway.decode(request)
        answers = await gateway.predict(photos)
        return gateway.encode(answers)


def _add_state_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/healthz", summary="Is the process alive?")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"model": ErrorAnswer}}, summary="Can it answer?")
    def ready() -> dict[str, str]:
        if not gateway.is_ready():
            raise RefusalError(503, "not_ready", "The gateway is stopping, or its model server is away.")
        return {"status": "ready"}

    @app.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus")
    def metrics() -> Response:
        return Response(gateway.metrics.text(), media_type=CONTENT_TYPE)


@asynccontextmanager
async def _lifespan(gateway: Gateway, _: FastAPI) -> AsyncIterator[None]:
    async with gateway.statistics.kept():
        yield
    gateway.close()


def _rules(settings: ServeSettings) -> FetchRules:
    return FetchRules(
        max_bytes=settings.max_bytes,
        seconds=settings.fetch_seconds,
        allowed_hosts=tuple(settings.allowed_hosts),
        allowed_ports=tuple(settings.allowed_ports),
    )


def _jobs_at_once(settings: ServeSettings, classifier: TrashClassifier) -> int:
    """As many as the cores carry; where a model server works, a job mostly waits for it."""
    if classifier.is_remote:
        return settings.backend_connections
    return max(1, cores() // (settings.workers * settings.threads))


def _result(found: _T | BaseException) -> _T:
    """What a job returned; what it raised is the model server's failure or a fault of the gateway, never a bad photo."""
    if isinstance(found, BaseException):
        raise found
    return found


async def _refused(request: Request, refusal: RefusalError) -> JSONResponse:
    """A refusal in the form that the route's clients know."""
    plain = request.url.path.startswith(protocols.PREFIXES)
    error: Any = refusal.message if plain else {"code": refusal.code, "message": refusal.message}
    return JSONResponse({"error": error}, refusal.status, refusal.headers)


async def _server_failed(request: Request, error: ModelServerError) -> JSONResponse:
    """A model server's failure; its own sentence is passed on."""
    return await _refused(request, refusal_of_server(error))


async def _http_error(request: Request, error: HTTPException) -> Response:
    """No such path, or not by this method."""
    code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "error")
    response = await _refused(request, RefusalError(error.status_code, code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _fault(request: Request, _: Exception) -> Response:
    """A fault of the gateway itself; uvicorn logs it."""
    return await _refused(request, RefusalError(500, "fault", "The gateway failed. The cause is in its log."))

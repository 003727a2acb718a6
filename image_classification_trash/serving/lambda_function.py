"""The classifier as an AWS Lambda function: `handler`, behind a Function URL, API Gateway, or invoked plainly.

    {"url": "https://example.org/bottle.jpg"} or {"image": "base64"}    as the event, or as a request's JSON body
    a photo's own bytes                                                 as a request's body of type image/*

    TRASH_LAMBDA_MODEL            one exported file, such as models/trashnet/export/model_int8.tflite
    TRASH_LAMBDA_FETCH_SECONDS    for a photo behind an address, redirects included; default 10
    TRASH_LAMBDA_MAX_MB           MiB of a photo; default 32
    TRASH_LAMBDA_ALLOWED_HOSTS    hosts that photos are fetched from, by commas, *.example.org for those below

Answers and errors are the gateway's. The start of a function is waited for by somebody, so nothing is imported here
that a photo does not need: no web framework, no pydantic, and the network only once an address comes along.
"""

import base64
import binascii
import json
import logging
import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from image_classification_trash.errors import BundleError, PhotoError, SettingsError
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import read_photo
from image_classification_trash.serving.http.api_errors import RefusalError, refusal_of, wrong_body
from image_classification_trash.serving.http.request_json import Image, Link, asked_photo, parse_json

Json = dict[str, Any]
ANSWER_SECONDS = 2.0
"""Kept back from the function's own time-out when a photo is fetched: for decoding it and for saying what is wrong."""
_HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_log = logging.getLogger(__name__)


class Context(Protocol):
    """What is used of the context that Lambda hands over."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""
        ...


def handler(event: Any, context: Context) -> Json:
    """Classify the photo of one event.

    Returns:
        The gateway's answer for one photo, or `{"error": {"code", "message"}}`; where the event is an HTTP request,
        as the body of `{"statusCode", "headers", "body"}`.
    """
    is_http = isinstance(event, dict) and "requestContext" in event
    try:
        asked = request_photo(event) if is_http else asked_photo(event)
        status, headers, answer = 200, {}, predict(asked, context)
    except RefusalError as refusal:
        status, headers, answer = refusal.status, refusal.headers, _error(refusal)
    except (
        Exception
    ):  # the caller must get JSON whatever happens; the log tells the cause and an alarm watches it
        _log.exception("fault")
        status, headers, answer = (
            500,
            {},
            _error(RefusalError(500, "fault", "The function failed. Its log tells why.")),
        )
    if not is_http:
        return answer
    return {
        "statusCode": status,
        "headers": _HEADERS | headers,
        "body": json.dumps(answer, ensure_ascii=False),
        "isBase64Encoded": False,
    }


def request_photo(event: Json) -> Link | Image:
    """The photo of an HTTP request, in the form of API Gateway (1.0 and 2.0) or of a Function URL (2.0).

    Raises:
        RefusalError: 405 not a POST, 415 neither JSON nor a photo, 422 a body that holds none.
    """
    method = event.get("httpMethod") or event["requestContext"].get("http", {}).get("method")
    if method != "POST":
        raise RefusalError(405, "wrong_method", "Send the photo with POST.")
    body = _body(event)
    given = _content_type(event.get("headers") or {})
    if given == "application/json":
        return asked_photo(parse_json(body))
    if given.startswith("image/"):
        return Image(body)
    message = f"The content type is {given or 'missing'}; send application/json or image/*."
    raise RefusalError(415, "wrong_content_type", message)


def predict(asked: Link | Image, context: Context) -> Json:
    """Fetch, decode and classify; the gateway's PredictAnswer for one photo.

    Raises:
        RefusalError: the photo cannot be had or read.
    """
    start = time.perf_counter()
    try:
        name, data = (
            (asked.url, _fetched(asked.url, context)) if isinstance(asked, Link) else ("photo 1", asked.data)
        )
        _check_length(data)
        fetched = time.perf_counter() if isinstance(asked, Link) else start
        model = classifier()
        decode_start = time.perf_counter()
        pixels = read_photo(data, model.config.input_size, model.config.fit)
    except PhotoError as error:
        raise refusal_of(error) from error
    decoded = time.perf_counter()
    row = model.probabilities(pixels[None])[0]
    seconds = {
        "fetch": fetched - start,
        "decode": decoded - decode_start,
        "infer": time.perf_counter() - decoded,
    }
    return _answer(model, name, row, seconds)


@cache
def classifier() -> TrashClassifier:
    """The model, loaded once in the life of a container.

    Raises:
        BundleError: TRASH_LAMBDA_MODEL names none, or a damaged one.
    """
    path = os.environ.get("TRASH_LAMBDA_MODEL", "")
    if not path:
        hint = "Set it to an exported file, such as model_int8.tflite."
        raise BundleError("TRASH_LAMBDA_MODEL names no model.", hint)
    return TrashClassifier.load(path)


def _answer(model: TrashClassifier, name: str, row: Any, seconds: Mapping[str, float]) -> Json:
    config, prediction = model.config, model.prediction(name, row)
    return {
        "model": {
            "name": config.name,
            "architecture": config.architecture,
            "git_commit": config.git_commit,
            "created": config.created,
            "threshold": config.threshold,
        },
        "predictions": [
            {
                "photo": name,
                "decision": prediction.decision,
                "label": prediction.label,
                "probability": prediction.probability,
                "waste_score": prediction.waste_score,
                "candidates": list(prediction.candidates),
                "probabilities": [
                    {"label": label, "probability": p} for label, p in prediction.probabilities.items()
                ],
                "milliseconds": {step: round(1000 * taken, 3) for step, taken in seconds.items()},
                "error": None,
            }
        ],
    }


def _error(refusal: RefusalError) -> Json:
    return {"error": {"code": refusal.code, "message": refusal.message}}


def _body(event: Json) -> bytes:
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(text).encode(errors="surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong_body("The body is not the base64 that the request says it is.") from error


def _content_type(headers: Mapping[str, str]) -> str:
    """The body's media type; API Gateway's form 1.0 keeps the names of headers as they were written."""
    written = {name.lower(): value for name, value in headers.items()}
    return written.get("content-type", "").partition(";")[0].strip().lower()


def _fetched(url: str, context: Context) -> bytes:
    import asyncio  # noqa: PLC0415  a photo that comes along needs no network

    from image_classification_trash.serving.safe_fetch import FetchRules, fetch  # noqa: PLC0415

    left = context.get_remaining_time_in_millis() / 1000 - ANSWER_SECONDS
    rules = FetchRules(
        max_bytes=_max_bytes(),
        seconds=max(0.1, min(_number("TRASH_LAMBDA_FETCH_SECONDS", 10), left)),
        allowed_hosts=tuple(filter(None, os.environ.get("TRASH_LAMBDA_ALLOWED_HOSTS", "").split(","))),
    )
    return asyncio.run(fetch(url, rules))


def _check_length(data: bytes) -> None:
    if len(data) > _max_bytes():
        raise RefusalError(413, "too_large", f"The photo is longer than {_max_bytes() / 2**20:g} MiB.")


def _max_bytes() -> int:
    return int(_number("TRASH_LAMBDA_MAX_MB", 32) * 2**20)


def _number(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        return float(text)
    except ValueError as error:
        raise SettingsError(
            f"{name} is {text!r}, not a number.", "Correct the function's environment."
        ) from error


if "AWS_LAMBDA_RUNTIME_API" in os.environ:  # in a container: load before the first request is waiting
    classifier()

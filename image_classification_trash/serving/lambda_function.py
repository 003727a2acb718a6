"""Runs the classifier as an AWS Lambda function: `handler`, behind a Function URL, API Gateway, a load balancer, or directly.

    {"url": "https://example.org/bottle.jpg"} or {"image": "base64"}    as the event, or as a request's JSON body
    a photo's own bytes                                                 as a request's body of type image/*

    TRASH_LAMBDA_MODEL            one exported file, such as models/trashnet/export/model_int8.tflite
    TRASH_LAMBDA_FETCH_SECONDS    for a photo behind an address, redirects included; default 10
    TRASH_LAMBDA_MAX_MB           largest photo in MiB; default 32
    TRASH_LAMBDA_ALLOWED_HOSTS    hosts that photos may be fetched from, separated by commas; *.example.org for subdomains

Answers and errors are those of the gateway. A caller waits for a cold start, so nothing is imported that a photo does not
need: no web framework, no pydantic, and asyncio and TLS only once a photo must be fetched.
"""

import base64
import binascii
import json
import logging
import os
import time
from functools import cache
from typing import Any, Protocol

from image_classification_trash.errors import BundleError, PhotoError, SettingsError
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.serving.http.api_errors import (
    RefusalError,
    refusal_of,
    wrong_body,
    wrong_type,
)
from image_classification_trash.serving.http.request_json import (
    Link,
    asked_photo,
    check_charset,
    inflate,
    media_type,
    parse_json,
)
from image_classification_trash.serving.pipeline import Json, Limits, Photo, Pipeline

ANSWER_SECONDS = 2.0
"""Time kept back from the function's own time-out when a photo is fetched: for classifying it or reporting an error."""
_HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_log = logging.getLogger(__name__)


class Context(Protocol):
    """The part of Lambda's context object that is used here."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function is stopped."""
        ...


def handler(event: Any, context: Context) -> Json:
    """Classify the photo of one event.

    Returns:
        The gateway's answer for one photo, or `{"error": {"code", "message"}}`; where the event is an HTTP request,
        as the body of `{"statusCode", "headers", "body"}`.
    """
    is_http = isinstance(event, dict) and "requestContext" in event
    refusal = None
    try:
        answer = predict(request_photo(event) if is_http else asked_photo(event), context)
    except RefusalError as error:
        refusal = error
    except Exception:  # the caller must get JSON whatever happens; an alarm watches the log
        _log.exception("fault")
        refusal = RefusalError(500, "fault", "The function failed. Its log tells why.")
    if refusal is not None:
        answer = {"error": refusal.as_json()}
    if not is_http:
        return answer
    headers = _HEADERS | ({} if refusal is None else refusal.headers)
    # A load balancer that sends lists of values alone reads nothing else.
    lists = isinstance(event.get("multiValueHeaders"), dict) and not event.get("headers")
    return {
        "statusCode": 200 if refusal is None else refusal.status,
        **({"multiValueHeaders": {n: [v] for n, v in headers.items()}} if lists else {"headers": headers}),
        "body": json.dumps(answer, ensure_ascii=False),
        "isBase64Encoded": False,
    }


def request_photo(event: Json) -> Link | Photo:
    """Read an HTTP request, in the form of API Gateway (1.0 and 2.0), a Function URL (2.0) or a load balancer.

    Raises:
        RefusalError: 405 not a POST, 415 neither JSON nor a photo, 422 a body that holds none.
    """
    http = _dict(_dict(event.get("requestContext")).get("http"))
    if (event.get("httpMethod") or http.get("method")) != "POST":
        raise RefusalError(405, "wrong_method", "Send the photo with POST.")
    headers = _headers(event)
    body = inflate(_body(event), headers.get("content-encoding", ""), _limits())
    check_charset(headers.get("content-type", ""))
    given = media_type(headers.get("content-type", ""))
    if given == "application/json":
        return asked_photo(parse_json(body))
    if given.startswith("image/"):
        return Photo("photo 1", body)
    raise wrong_type(given, "application/json", "image/*")


def predict(asked: Link | Photo, context: Context) -> Json:
    """Fetch the photo where a link is given, classify it, and return the gateway's answer.

    Raises:
        RefusalError: the photo cannot be fetched or decoded.
    """
    limits = _limits()
    photo = _fetch(asked.url, limits, context) if isinstance(asked, Link) else asked
    if isinstance(photo.data, PhotoError):
        raise refusal_of(photo.data)
    limits.check_length(len(photo.data), "photo")
    pipeline = Pipeline(classifier(), limits)
    return pipeline.encode([pipeline.predict(photo)])


@cache
def classifier() -> TrashClassifier:
    """Load the model, once in the life of a container.

    Raises:
        BundleError: TRASH_LAMBDA_MODEL names none, or a damaged one.
    """
    path = os.environ.get("TRASH_LAMBDA_MODEL", "")
    if not path:
        hint = "Set it to an exported file, such as model_int8.tflite."
        raise BundleError("TRASH_LAMBDA_MODEL names no model.", hint)
    return TrashClassifier.load(path)


def _limits() -> Limits:
    return Limits(max_bytes=int(_number("TRASH_LAMBDA_MAX_MB", 32) * 2**20))


def _headers(event: Json) -> dict[str, str]:
    """Headers by their names in lower case, for API Gateway's form 1.0 keeps names as they were written.

    A header that is null, or a list without values, is none; of several values the last one counts.
    """
    headers = {}
    for form in ("multiValueHeaders", "headers"):
        for name, given in _dict(event.get(form)).items():
            value = given[-1] if isinstance(given, list) and given else given
            if isinstance(value, str):
                headers[name.lower()] = value
    return headers


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _body(event: Json) -> bytes:
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(text).encode(errors="surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong_body("The body is not the base64 that the request says it is.") from error


def _fetch(url: str, limits: Limits, context: Context) -> Photo:
    start = time.perf_counter()
    import asyncio  # noqa: PLC0415  a photo that comes along needs no network

    from image_classification_trash.serving.safe_fetch import FetchRules, fetch  # noqa: PLC0415

    left = context.get_remaining_time_in_millis() / 1000 - ANSWER_SECONDS
    rules = FetchRules(
        limits.max_bytes,
        seconds=max(0.1, min(_number("TRASH_LAMBDA_FETCH_SECONDS", 10), left)),
        allowed_hosts=tuple(filter(None, os.environ.get("TRASH_LAMBDA_ALLOWED_HOSTS", "").split(","))),
    )
    try:
        data: bytes | PhotoError = asyncio.run(fetch(url, rules))
    except PhotoError as error:
        data = error
    return Photo(url, data, time.perf_counter() - start)


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

"""The routes that clients of other model servers know, so that those clients work unchanged.

TensorFlow Serving's REST format: `instances` are nested uint8 lists (H, W, 3), or `{"b64": ...}` with an encoded photo.
The Open Inference Protocol: one input, `images` as UINT8 (N, H, W, 3), or `image_bytes` as BYTES (N) in base64.
Errors are `{"error": "a sentence"}`, as both of them have it. Like them, these routes look at no content type.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request
from pydantic import BaseModel, ValidationError

from image_classification_trash import __version__
from image_classification_trash.errors import PhotoError
from image_classification_trash.inference.images import Pixels, Size, read_photo
from image_classification_trash.serving.http.api_errors import refusal_of, wrong_body
from image_classification_trash.serving.http.request_body import JSON
from image_classification_trash.serving.http.request_json import decode_base64, parse_json
from image_classification_trash.serving.http.schemas import (
    InferAnswer,
    InferBody,
    PlainErrorAnswer,
    TensorAnswer,
    TensorBody,
    TfPredictAnswer,
    TfPredictBody,
)

if TYPE_CHECKING:
    from image_classification_trash.serving.http.gateway import Gateway

NAME, VERSION = "trash", "1"
PREFIXES = ("/v1/", "/v2")
INPUT, BYTES_INPUT, OUTPUT = "images", "image_bytes", "probabilities"
SIGNATURES = ("serving_default", "serving_bytes")
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": PlainErrorAnswer, "description": said}
    for status, said in {
        400: "not a photo", 408: "the body took too long to arrive", 413: "too large", 422: "wrong body", 502: "the model server failed", 503: "full; see Retry-After", 504: "the model is too slow",
    }.items()
}  # fmt: skip
_BodyT = TypeVar("_BodyT", bound=BaseModel)
Decode = Callable[[bytes], Pixels]


def add_routes(app: FastAPI, gateway: "Gateway") -> None:
    """Add both protocols to the application."""
    _add_tensorflow_serving(app, gateway)
    _add_open_inference(app, gateway)


def _add_tensorflow_serving(app: FastAPI, gateway: "Gateway") -> None:
    @app.get(f"/v1/models/{NAME}", tags=["TensorFlow Serving"], summary="State of the model")
    def state() -> dict[str, Any]:
        state = "AVAILABLE" if gateway.is_ready() else "UNKNOWN"
        status = {"error_code": "OK", "error_message": ""}
        return {"model_version_status": [{"version": VERSION, "state": state, "status": status}]}

    @app.post(
        f"/v1/models/{NAME}:predict",
        tags=["TensorFlow Serving"],
        summary="Classify photos",
        responses=_ERRORS,
        openapi_extra=_json_body(TfPredictBody),
    )
    async def tf_predict(request: Request) -> TfPredictAnswer:
        body = await gateway.body(request)
        rows = await _answer(gateway, lambda: _instances(_parsed(body, TfPredictBody), gateway))
        return TfPredictAnswer(predictions=rows)


def _add_open_inference(app: FastAPI, gateway: "Gateway") -> None:
    tags: list[Any] = ["Open Inference Protocol"]

    @app.get("/v2", tags=tags, summary="About this server")
    async def server() -> dict[str, Any]:
        return {"name": "trash-classifier", "version": __version__, "extensions": []}

    @app.get("/v2/health/live", tags=tags, summary="Is the process alive?")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", tags=tags, summary="Can it answer?")
    def ready() -> dict[str, bool]:
        return {"ready": gateway.is_ready()}

    @app.get(f"/v2/models/{NAME}/ready", tags=tags, summary="Can the model answer?")
    def model_ready() -> dict[str, Any]:
        return {"name": NAME, "ready": gateway.is_ready()}

    @app.get(f"/v2/models/{NAME}", tags=tags, summary="Inputs and outputs of the model")
    async def metadata() -> dict[str, Any]:
        return _metadata(gateway)

    @app.post(
        f"/v2/models/{NAME}/infer",
        tags=tags,
        summary="Classify photos",
        responses=_ERRORS,
        openapi_extra=_json_body(InferBody),
        response_model_exclude_none=True,
    )
    async def infer(request: Request) -> InferAnswer:
        body = await gateway.body(request)
        asked: list[InferBody] = []

        def read() -> Pixels:
            asked.append(_parsed(body, InferBody))
            return _tensor(asked[0].inputs[0], gateway)

        rows = await _answer(gateway, read)
        output = TensorAnswer(
            name=OUTPUT, shape=[len(rows), len(rows[0])], datatype="FP32", data=[*itertools.chain(*rows)]
        )
        return InferAnswer(model_name=NAME, model_version=VERSION, id=asked[0].id, outputs=[output])


async def _answer(gateway: "Gateway", read: Callable[[], Pixels]) -> list[list[float]]:
    """Read pixels and run the model, both in one job of the queue; rows of probabilities (N, C)."""

    def job(read: Callable[[], Pixels]) -> Any:
        steps = gateway.metrics.steps
        try:
            with steps.labels("decode").time():
                pixels = read()
        except PhotoError as error:
            raise refusal_of(error) from error
        with steps.labels("infer").time():
            return gateway.classifier.probabilities(pixels)

    (found,) = await gateway.queue.run(job, [read])
    if isinstance(found, BaseException):
        raise found
    gateway.statistics.add(found)
    rows: list[list[float]] = found.tolist()
    return rows


def _instances(body: TfPredictBody, gateway: "Gateway") -> Pixels:
    """uint8 (N, H, W, 3) of TensorFlow Serving's rows."""
    if body.signature_name not in SIGNATURES:
        raise wrong_body(
            f"There is no signature {body.signature_name!r}; there is {' and '.join(SIGNATURES)}."
        )
    _check_count(len(body.instances), gateway)
    rows = [_unwrapped(instance) for instance in body.instances]
    encoded = [row["b64"] for row in rows if isinstance(row, dict)]
    if not encoded:
        return _pixels(rows, gateway.classifier.config.input_size)
    if len(encoded) < len(rows):
        raise wrong_body("Instances are all encoded photos, or all pixels.")
    return _decoded(encoded, gateway)


def _unwrapped(instance: Any) -> Any:
    """`{"images": X}` and `{"image_bytes": X}` are X, as with TensorFlow Serving's named inputs."""
    if isinstance(instance, dict) and len(instance) == 1:
        ((name, value),) = instance.items()
        if name == "b64" and isinstance(value, str):
            return instance
        if name in (INPUT, BYTES_INPUT):
            return _unwrapped(value)
    if isinstance(instance, list):
        return instance
    raise wrong_body('An instance is a list (H, W, 3) of pixels, or {"b64": "an encoded photo"}.')


def _tensor(tensor: TensorBody, gateway: "Gateway") -> Pixels:
    """uint8 (N, H, W, 3) of a tensor of the Open Inference Protocol."""
    _check_count(tensor.shape[0] if tensor.shape else 0, gateway)
    size = gateway.classifier.config.input_size
    if (tensor.name, tensor.datatype) == (BYTES_INPUT, "BYTES"):
        if tensor.shape != [len(tensor.data)]:
            raise wrong_body(f"The shape is {tensor.shape}, but there are {len(tensor.data)} photos.")
        return _decoded(tensor.data, gateway)
    if (tensor.name, tensor.datatype) != (INPUT, "UINT8") or tensor.shape[1:] != [*size, 3]:
        raise wrong_body(
            f"Send {INPUT} as UINT8 [N, {size[0]}, {size[1]}, 3], or {BYTES_INPUT} as BYTES [N]."
        )
    values = _integers(tensor.data)
    if values.size != np.prod(tensor.shape):
        raise wrong_body(f"The shape is {tensor.shape}, but there are {values.size} values.")
    return values.reshape(tensor.shape)


def _pixels(rows: Sequence[Any], size: Size) -> Pixels:
    values = _integers(rows)
    if values.shape[1:] != (*size, 3):
        raise wrong_body(f"Pixels are (N, {size[0]}, {size[1]}, 3), not {values.shape}.")
    return values


def _integers(values: Sequence[Any]) -> Pixels:
    """Nested lists as uint8.

    Raises:
        RefusalError: they are ragged, or hold anything but whole numbers from 0 to 255.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise wrong_body("The lists differ in length.") from error
    if array.dtype.kind not in "iu" or array.size == 0 or array.min() < 0 or array.max() > 255:
        raise wrong_body("Pixels are whole numbers from 0 to 255.")
    return array.astype(np.uint8)


def _decoded(texts: Sequence[Any], gateway: "Gateway") -> Pixels:
    """Encoded photos, as base64, to pixels."""
    if not all(isinstance(text, str) for text in texts):
        raise wrong_body("Encoded photos are base64 strings.")
    config = gateway.classifier.config
    return np.stack([read_photo(decode_base64(text), config.input_size, config.fit) for text in texts])


def _check_count(count: int, gateway: "Gateway") -> None:
    most = gateway.settings.max_photos
    if not 1 <= count <= most:
        raise wrong_body(f"There are {count} photos; a request holds from 1 to {most}.")


def _parsed(body: bytes, schema: type[_BodyT]) -> _BodyT:
    try:
        return schema.model_validate(parse_json(body))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "The body"
        raise wrong_body(f"{where}: {first['msg']}.") from error


def _metadata(gateway: "Gateway") -> dict[str, Any]:
    config = gateway.classifier.config
    return {
        "name": NAME,
        "versions": [VERSION],
        "platform": "trash_classifier",
        "inputs": [
            {"name": INPUT, "datatype": "UINT8", "shape": [-1, *config.input_size, 3]},
            {"name": BYTES_INPUT, "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(config.labels)]}],
        "parameters": {"labels": list(config.labels), "model": config.name},
    }


def _json_body(schema: type[BaseModel]) -> dict[str, Any]:
    # A body is parsed in a thread, not by FastAPI in the event loop, so the document is told of it here.
    content = {JSON: {"schema": _without_references(schema.model_json_schema())}}
    return {"requestBody": {"required": True, "content": content}}


def _without_references(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its definitions put in place, as it stands inside a larger document."""
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolved(definitions[node["$ref"].rpartition("/")[2]])
            return {name: resolved(value) for name, value in node.items()}
        return [resolved(item) for item in node] if isinstance(node, list) else node

    whole: dict[str, Any] = resolved(schema)
    return whole

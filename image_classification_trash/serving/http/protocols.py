"""Speaks two protocols of other model servers, so that their clients work unchanged; each is a decode and an encode.

TensorFlow Serving's REST format: `instances` are nested uint8 lists (H, W, 3), or `{"b64": ...}` with an encoded photo.
The Open Inference Protocol: one input, `images` as UINT8 (N, H, W, 3), or `image_bytes` as BYTES (N) in base64; or either in
Triton's binary form, behind the JSON. Answers are JSON.
Errors are `{"error": "a sentence"}`, as in both originals. Like them, these routes accept any content type.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError

from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.images import Pixels
from image_classification_trash.serving.http.api_errors import wrong_body
from image_classification_trash.serving.http.long_json import LongText
from image_classification_trash.serving.http.request_json import FEW_VALUES, decode_base64, parse_json
from image_classification_trash.serving.http.schemas import (
    InferAnswer,
    InferBody,
    TfPredictAnswer,
    TfPredictBody,
)
from image_classification_trash.serving.pipeline import Batch, Json, Pipeline
from image_classification_trash.version import __version__

NAME, VERSION = "trash", "1"
PREFIXES = ("/v1/", "/v2")
INPUT, BYTES_INPUT, OUTPUT = "images", "image_bytes", "probabilities"
SIGNATURES = ("serving_default", "serving_bytes")
VERSION_LABELS = ("stable", "production")
"""Names of the version, as TensorFlow Serving calls them; its operators choose them, and these are usual."""
_TF_MODEL, _OIP_MODEL = f"/v1/models/{NAME}", f"/v2/models/{NAME}"
_TF_MODELS = (
    _TF_MODEL,
    f"{_TF_MODEL}/versions/{VERSION}",
    *(f"{_TF_MODEL}/labels/{label}" for label in VERSION_LABELS),
)
_OIP_MODELS = (_OIP_MODEL, f"{_OIP_MODEL}/versions/{VERSION}")


class Model(Protocol):
    """What the state routes tell of the model that answers now."""

    @property
    def config(self) -> BundleConfig:
        """Its description."""
        ...

    @property
    def digest(self) -> str | None:
        """SHA-256 of its file."""
        ...


_BodyT = TypeVar("_BodyT", bound=BaseModel)


class BinaryBody(bytes):
    """A body of Triton's binary extension: JSON, and behind it the tensor's bytes."""

    json_length: int

    @classmethod
    def of(cls, body: bytes, header: str | None) -> bytes:
        """Mark the length of the JSON, as the header Inference-Header-Content-Length says it; without one, the body.

        Raises:
            RefusalError: 422, it is no length, or longer than the body.
        """
        if header is None:
            return body
        if not (header.isascii() and header.isdecimal() and len(header) < 12 and int(header) <= len(body)):
            raise wrong_body("The header Inference-Header-Content-Length is not a length within the body.")
        marked = cls(body)
        marked.json_length = int(header)
        return marked


def split_binary(data: bytes) -> list[bytes]:
    """Split a tensor of BYTES: each element follows its length, four bytes, the lowest first.

    Raises:
        RefusalError: 422, an element is cut off.
    """
    elements, start = [], 0
    while start < len(data):
        stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if stop > len(data) or stop < start + 4:
            raise wrong_body("An encoded photo is cut off.")
        elements.append(data[start + 4 : stop])
        start = stop
        if len(elements) > FEW_VALUES:
            raise wrong_body(f"There are more than {FEW_VALUES} elements.")
    return elements


class ForeignProtocol(Protocol):
    """A plug-in of the gateway, which adds the route, the queue, the timing and the errors.

    Attributes:
        route: name of the route that classifies, as the OpenAPI document has it.
        paths: of that route, with the version and without.
        tag: under which the OpenAPI document lists the protocol's routes.
        body: schema of a request's body.
        answer: schema of what `encode` returns.
    """

    route: str
    paths: tuple[str, ...]
    tag: str
    body: type[BaseModel]
    answer: type[BaseModel]

    def decode(self, body: bytes, pipeline: Pipeline) -> Batch:
        """Decode a request's body; runs in a thread of the queue.

        Raises:
            RefusalError: 422, the body does not hold what it should.
            PhotoError: an encoded photo cannot be decoded.
        """
        ...

    def encode(self, batch: Batch, rows: list[list[float]]) -> Json:
        """Turn rows of probabilities (N, C), in the order of the labels, into plain data."""
        ...

    def add_state_routes(
        self, app: FastAPI, model: Callable[[], Model], is_ready: Callable[[], bool]
    ) -> None:
        """Add the routes that tell a client what the server and its model are, and whether they can answer."""
        ...


class TensorFlowServing:
    """TensorFlow Serving's REST format."""

    route, tag = "tf_predict", "TensorFlow Serving"
    paths = tuple(f"{model}:predict" for model in _TF_MODELS)
    body: type[BaseModel] = TfPredictBody
    answer: type[BaseModel] = TfPredictAnswer

    def decode(self, body: bytes, pipeline: Pipeline) -> Batch:
        """Decode `instances`: all of them pixels, or all of them encoded photos."""
        asked = _parse(body, TfPredictBody, pipeline)
        if asked.signature_name not in SIGNATURES:
            raise wrong_body(
                f"There is no signature {asked.signature_name!r}; there is {' and '.join(SIGNATURES)}."
            )
        instances, column = asked.instances, asked.inputs
        if (column is None) == (not instances):
            raise wrong_body("Send either instances or inputs.")
        if isinstance(column, dict):
            if len(column) != 1 or not {*column} <= {INPUT, BYTES_INPUT}:
                raise wrong_body(f"The inputs are {INPUT}, or {BYTES_INPUT}.")
            (column,) = column.values()
        return replace(self._batch(instances or column or [], pipeline), is_column=column is not None)

    def encode(self, batch: Batch, rows: list[list[float]]) -> Json:
        """Answer one row of probabilities for each instance."""
        return {"outputs": rows} if batch.is_column else {"predictions": rows}

    def _batch(self, instances: list[Any], pipeline: Pipeline) -> Batch:
        whole = instances[0] if len(instances) == 1 else None
        if isinstance(whole, np.ndarray):  # a long list, see `parse_long_json`
            return Batch(self._fitting(whole, pipeline))
        pipeline.limits.check_count(len(instances))
        rows = [_unwrap(instance) for instance in instances]
        encoded = [row["b64"] for row in rows if isinstance(row, dict)]
        if encoded and len(encoded) < len(rows):
            raise wrong_body("Instances are all encoded photos, or all pixels.")
        if encoded:
            return Batch(_decode_photos(encoded, pipeline))
        return Batch(self._fitting(_integers(rows), pipeline))

    @staticmethod
    def _fitting(pixels: Pixels, pipeline: Pipeline) -> Pixels:
        """Refuse pixels of another shape than the model's, or of too many photos."""
        height, width = pipeline.classifier.config.input_size
        if pixels.shape[1:] != (height, width, 3):
            raise wrong_body(f"Pixels are (N, {height}, {width}, 3), not {pixels.shape}.")
        pipeline.limits.check_count(len(pixels))
        return pixels

    def add_state_routes(
        self, app: FastAPI, model: Callable[[], Model], is_ready: Callable[[], bool]
    ) -> None:
        """Add the state of the model and its signatures."""

        def state() -> dict[str, Any]:
            ready = is_ready()
            state, status = "AVAILABLE" if ready else "UNKNOWN", {"error_code": "OK", "error_message": ""}
            versions = [{"version": VERSION, "state": state, "status": status}]
            return {
                "model_version_status": versions,
                "name": NAME,
                "ready": ready,
            }  # the rest: KServe's V1 protocol

        async def metadata() -> dict[str, Any]:
            return {
                "model_spec": {"name": NAME, "signature_name": "", "version": VERSION},
                "metadata": {"signature_def": {"signature_def": _signatures(model().config)}},
            }

        for path in _TF_MODELS:
            app.get(path, tags=[self.tag], summary="State of the model")(state)
            app.get(f"{path}/metadata", tags=[self.tag], summary="Inputs and outputs of the model")(metadata)


class OpenInference:
    """The Open Inference Protocol, which KServe, Triton and others speak."""

    route, tag = "infer", "Open Inference Protocol"
    paths = tuple(f"{model}/infer" for model in _OIP_MODELS)
    body: type[BaseModel] = InferBody
    answer: type[BaseModel] = InferAnswer

    def decode(self, body: bytes, pipeline: Pipeline) -> Batch:
        """Decode the one input tensor, pixels or encoded photos."""
        text = body[: body.json_length] if isinstance(body, BinaryBody) else body
        asked, binary = _parse(text, InferBody, pipeline), body[len(text) :]
        tensor, (height, width) = asked.inputs[0], pipeline.classifier.config.input_size
        pipeline.limits.check_count(tensor.shape[0] if tensor.shape else 0)
        if tensor.parameters.get("binary_data_size", 0) != len(binary) or (tensor.data and binary):
            raise wrong_body(f"{len(binary)} bytes follow the JSON, but it announces another number of them.")
        if (tensor.name, tensor.datatype) == (BYTES_INPUT, "BYTES"):
            photos = split_binary(binary) if binary else tensor.data
            if tensor.shape != [len(photos)]:
                raise wrong_body(f"The shape is {tensor.shape}, but there are {len(photos)} photos.")
            return Batch(_decode_photos(photos, pipeline), asked.id)
        if (tensor.name, tensor.datatype) != (INPUT, "UINT8") or tensor.shape[1:] != [height, width, 3]:
            raise wrong_body(
                f"Send {INPUT} as UINT8 [N, {height}, {width}, 3], or {BYTES_INPUT} as BYTES [N]."
            )
        values = np.frombuffer(binary, np.uint8) if binary else _integers(tensor.data)
        if values.size != np.prod(tensor.shape):
            raise wrong_body(f"The shape is {tensor.shape}, but there are {values.size} values.")
        return Batch(values.reshape(tensor.shape), asked.id)

    def encode(self, batch: Batch, rows: list[list[float]]) -> Json:
        """Answer one tensor of probabilities (N, C), its values in one flat list, under the request's id."""
        output = {
            "name": OUTPUT,
            "shape": [len(rows), len(rows[0])],
            "datatype": "FP32",
            "data": [*itertools.chain(*rows)],
        }
        return {"model_name": NAME, "model_version": VERSION, "id": batch.request_id, "outputs": [output]}

    def add_state_routes(
        self, app: FastAPI, model: Callable[[], Model], is_ready: Callable[[], bool]
    ) -> None:
        """Add health, readiness and the description of inputs and outputs."""
        tags: list[Any] = [self.tag]

        @app.get("/v2/", include_in_schema=False)
        @app.get("/v2", tags=tags, summary="About this server")
        async def server() -> dict[str, Any]:
            return {"name": "trash-classifier", "version": __version__, "extensions": []}

        @app.get("/v2/health/live", tags=tags, summary="Is the process alive?")
        async def live() -> dict[str, bool]:
            return {"live": True}

        @app.get("/v2/health/ready", tags=tags, summary="Can it answer?")
        def ready() -> dict[str, bool]:
            return {"ready": is_ready()}

        def model_ready() -> dict[str, Any]:
            return {"name": NAME, "ready": is_ready()}

        async def metadata() -> dict[str, Any]:
            config, digest = model().config, model().digest
            named = {"digest": digest} if digest else {}
            return {
                "name": NAME,
                "versions": [VERSION],
                "platform": "trash_classifier",
                "inputs": [
                    {"name": INPUT, "datatype": "UINT8", "shape": [-1, *config.input_size, 3]},
                    {"name": BYTES_INPUT, "datatype": "BYTES", "shape": [-1]},
                ],
                "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(config.labels)]}],
                "parameters": {"labels": list(config.labels), "model": config.name, **named},
            }

        for path in _OIP_MODELS:
            app.get(f"{path}/ready", tags=tags, summary="Can the model answer?")(model_ready)
            app.get(path, tags=tags, summary="Inputs and outputs of the model")(metadata)


PROTOCOLS: tuple[ForeignProtocol, ...] = (TensorFlowServing(), OpenInference())


def _parse(body: bytes, schema: type[_BodyT], pipeline: Pipeline) -> _BodyT:
    """Parse a body that may hold as many pixels, in lists of three, as photos are allowed."""
    height, width = pipeline.classifier.config.input_size
    max_values = pipeline.limits.max_photos * (height * (width * 4 + 1) + 1) + FEW_VALUES
    try:
        return schema.model_validate(parse_json(body, max_values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "The body"
        raise wrong_body(f"{where}: {first['msg']}.") from error


def _signatures(config: BundleConfig) -> Json:
    """The signatures of the exported SavedModel, as TensorFlow Serving writes a SignatureDef in JSON."""

    def tensor(kind: str, name: str, *sides: int) -> Json:
        sizes = [{"size": str(side), "name": ""} for side in (-1, *sides)]
        return {"dtype": kind, "tensor_shape": {"dim": sizes, "unknown_rank": False}, "name": name}

    default, encoded = SIGNATURES
    inputs = {
        default: {INPUT: tensor("DT_UINT8", f"{default}_{INPUT}:0", *config.input_size, 3)},
        encoded: {BYTES_INPUT: tensor("DT_STRING", f"{encoded}_{BYTES_INPUT}:0")},
    }
    output = {OUTPUT: tensor("DT_FLOAT", "StatefulPartitionedCall:0", len(config.labels))}
    method = "tensorflow/serving/predict"
    return {
        name: {"inputs": given, "outputs": output, "method_name": method} for name, given in inputs.items()
    }


def _unwrap(instance: Any) -> Any:
    """Take X out of `{"images": X}` and `{"image_bytes": X}`, TensorFlow Serving's named inputs."""
    if isinstance(instance, dict) and len(instance) == 1:
        ((name, value),) = instance.items()
        if name == "b64" and isinstance(value, str | LongText):
            return instance
        if name in (INPUT, BYTES_INPUT):
            return _unwrap(value)
    if isinstance(instance, list):
        return instance
    raise wrong_body('An instance is a list (H, W, 3) of pixels, or {"b64": "an encoded photo"}.')


def _decode_photos(texts: Sequence[Any], pipeline: Pipeline) -> Pixels:
    """Decode photos that were sent as base64, or as they are: uint8 (N, H, W, 3)."""
    if not all(isinstance(text, str | LongText | bytes) for text in texts):
        raise wrong_body("Encoded photos are base64 strings.")
    photos = (text if isinstance(text, bytes) else decode_base64(text) for text in texts)
    return np.stack([pipeline.decode(photo) for photo in photos])


def _integers(values: Sequence[Any]) -> Pixels:
    """Turn nested lists into uint8 of the same shape.

    Raises:
        RefusalError: they are ragged, or hold anything but whole numbers from 0 to 255.
    """
    if any(isinstance(value, np.ndarray) for value in values):
        (whole,) = values if len(values) == 1 else (None,)
        if whole is None:
            raise wrong_body("The lists differ in length.")
        return np.asarray(whole, np.uint8)
    if values and all(
        isinstance(row, list) and len(row) == 1 and isinstance(row[0], np.ndarray) for row in values
    ):
        if len({row[0].shape for row in values}) > 1:
            raise wrong_body("The lists differ in length.")
        return np.stack([row[0] for row in values])
    array = np.asarray(
        values, dtype=object
    )  # of any other type, one long string would make every item as long
    kinds = set(map(type, array.ravel().tolist()))
    if list in kinds:
        raise wrong_body("The lists differ in length.")
    try:
        numbers = array.astype(np.int64) if kinds == {int} else None
    except OverflowError:
        numbers = None
    if numbers is None or numbers.min() < 0 or numbers.max() > 255:
        raise wrong_body("Pixels are whole numbers from 0 to 255.")
    return numbers.astype(np.uint8)

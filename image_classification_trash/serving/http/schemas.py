"""Describes the JSON that the gateway takes and answers, for the OpenAPI document and for checks."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MAX_NAME = 1024
"""Characters of a name that is repeated in an answer."""
Milliseconds = Annotated[float, Field(ge=0, description="milliseconds")]


class LinkBody(BaseModel):
    """A photo behind an address."""

    model_config = ConfigDict(extra="forbid", title="Link")
    url: str = Field(description="http or https", examples=["https://example.org/bottle.jpg"])


class ImageBody(BaseModel):
    """A photo as base64."""

    model_config = ConfigDict(extra="forbid", title="Image")
    image: str = Field(
        description="an encoded photo, as base64 or a data: URI", json_schema_extra={"format": "byte"}
    )


class Error(BaseModel):
    """Why there is no answer."""

    code: str = Field(description="stable, for programs")
    message: str = Field(description="what was found and what to do, for people")


class ErrorAnswer(BaseModel):
    """Every error of this gateway's own routes."""

    error: Error


class PlainErrorAnswer(BaseModel):
    """Every error of the routes that follow TensorFlow Serving or the Open Inference Protocol."""

    error: str


class ModelAnswer(BaseModel):
    """Which model answers."""

    name: str
    architecture: str
    git_commit: str = Field(description="of the code that trained it")
    created: str
    digest: str | None = Field(
        None, description="SHA-256 of the file that answers; null where a model server runs it"
    )
    threshold: float = Field(description="smallest probability that is answered; below it: unsure")


class LabelAnswer(BaseModel):
    """A class and its calibrated probability."""

    label: str
    probability: float = Field(ge=0, le=1)


class PhotoMilliseconds(BaseModel):
    """How long each step took for one photo; fetch is 0 where nothing was fetched."""

    fetch: Milliseconds = 0
    decode: Milliseconds = 0
    infer: Milliseconds = 0


class PhotoAnswer(BaseModel):
    """The answer for one photo, or its error."""

    photo: str = Field(description="name of the file, or the address")
    decision: str | None = Field(
        None, description="the label, unsure, or the model's label for no waste; null with an error"
    )
    label: str | None = Field(None, description="the most probable class of waste; null with an error")
    probability: float | None = Field(None, description="of that class; null with an error")
    waste_score: float | None = Field(
        None, description="probability that the photo shows waste; null where the model cannot tell"
    )
    prediction_set: list[str] = Field(
        [], description="the classes that it may be, most probable first; none where no waste is seen"
    )
    probabilities: list[LabelAnswer] = Field([], description="all labels, most probable first")
    milliseconds: PhotoMilliseconds = PhotoMilliseconds()
    error: Error | None = None


class PredictAnswer(BaseModel):
    """Answers in the order of the photos."""

    model: ModelAnswer
    predictions: list[PhotoAnswer]


class TfPredictBody(BaseModel):
    """TensorFlow Serving's row format, or its column format."""

    model_config = ConfigDict(extra="ignore", title="TensorFlow Serving request")
    signature_name: str = Field("serving_default", max_length=MAX_NAME)
    instances: list[Any] = Field([], description="row format: pixels (H, W, 3), or encoded photos, of each")
    inputs: list[Any] | dict[str, list[Any]] | None = Field(
        None, description="column format: the same, all in one list, which may be named"
    )


class TfPredictAnswer(BaseModel):
    """TensorFlow Serving's answer: for each instance, probabilities in the order of the labels."""

    predictions: list[list[float]] | None = Field(None, description="to the row format")
    outputs: list[list[float]] | None = Field(None, description="to the column format")


class TensorBody(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    shape: list[Annotated[int, Field(ge=0, le=2**31)]] = Field(max_length=8)
    datatype: str
    data: list[Any] = Field([], description="none where the tensor follows the JSON in binary")
    parameters: dict[str, Any] = Field({}, description="binary_data_size: bytes that follow the JSON")


class InferBody(BaseModel):
    """A request of the Open Inference Protocol."""

    model_config = ConfigDict(extra="ignore", title="Open Inference request")
    id: str | None = Field(None, max_length=MAX_NAME)
    inputs: list[TensorBody] = Field(min_length=1, max_length=1)


class TensorAnswer(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferAnswer(BaseModel):
    """An answer of the Open Inference Protocol."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[TensorAnswer]


PREDICT_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "not a photo, or the address did not give one"},
    408: {"model": ErrorAnswer, "description": "the body took too long to arrive"},
    413: {"model": ErrorAnswer, "description": "too many bytes or pixels"},
    415: {"model": ErrorAnswer, "description": "wrong content type"},
    422: {"model": ErrorAnswer, "description": "wrong body, or an address that is not fetched"},
    502: {"model": ErrorAnswer, "description": "the model server failed"},
    503: {"model": ErrorAnswer, "description": "full; see Retry-After"},
    504: {"model": ErrorAnswer, "description": "the model is too slow"},
}
PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
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
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {"oneOf": [LinkBody.model_json_schema(), ImageBody.model_json_schema()]}
            },
        },
    }
}
PROTOCOL_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": PlainErrorAnswer, "description": said}
    for status, said in {
        400: "not a photo", 408: "the body took too long to arrive", 413: "too large", 422: "wrong body", 502: "the model server failed", 503: "full; see Retry-After", 504: "the model is too slow",
    }.items()
}  # fmt: skip


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """Describe a body in the OpenAPI document; FastAPI cannot, as the body is parsed in a thread, not by FastAPI."""
    content = {"application/json": {"schema": _without_references(schema.model_json_schema())}}
    return {"requestBody": {"required": True, "content": content}}


def _without_references(schema: dict[str, Any]) -> dict[str, Any]:
    """Put a schema's definitions in place, as it must stand inside a larger document."""
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolved(definitions[node["$ref"].rpartition("/")[2]])
            return {name: resolved(value) for name, value in node.items()}
        return [resolved(item) for item in node] if isinstance(node, list) else node

    whole: dict[str, Any] = resolved(schema)
    return whole

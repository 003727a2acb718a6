"""What the gateway takes and answers, as JSON."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Milliseconds = Annotated[float, Field(ge=0, description="milliseconds")]


class LinkBody(BaseModel):
    """A photo behind an address."""

    model_config = ConfigDict(extra="forbid", title="Link")
    url: str = Field(description="http or https", examples=["https://example.org/bottle.jpg"])


class ImageBody(BaseModel):
    """A photo as base64."""

    model_config = ConfigDict(extra="forbid", title="Image")
    image: str = Field(description="an encoded photo, as base64", json_schema_extra={"format": "byte"})


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
    candidates: list[str] = Field(
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
    """TensorFlow Serving's row format."""

    model_config = ConfigDict(extra="ignore", title="TensorFlow Serving request")
    signature_name: str = "serving_default"
    instances: list[Any] = Field(min_length=1)


class TfPredictAnswer(BaseModel):
    """TensorFlow Serving's answer: for each instance, probabilities in the order of the labels."""

    predictions: list[list[float]]


class TensorBody(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    shape: list[Annotated[int, Field(ge=0)]]
    datatype: str
    data: list[Any]


class InferBody(BaseModel):
    """A request of the Open Inference Protocol."""

    model_config = ConfigDict(extra="ignore", title="Open Inference request")
    id: str | None = None
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

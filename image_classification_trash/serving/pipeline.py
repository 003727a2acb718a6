"""Takes a photo to its answer in four steps, after LitServe: setup, decode, predict, encode.

    pipeline = Pipeline(TrashClassifier.load(), Limits(max_bytes=32 * 2**20))    # setup: once
    photo = Photo("bottle.jpg", data)                                            # decode: what a protocol brings
    answered = pipeline.predict(photo)                                           # in any thread
    json.dumps(pipeline.encode([answered]))                                      # encode: dicts, lists, built-in types

The REST gateway, both foreign protocols and the Lambda use it and no other way. It imports neither pydantic nor a web
framework, because a Lambda's caller waits for every import.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from image_classification_trash.errors import PhotoError
from image_classification_trash.inference.classifier import Prediction, TrashClassifier
from image_classification_trash.inference.images import Pixels, ResizeMode, Size, read_photo
from image_classification_trash.inference.photo_cost import SERVING
from image_classification_trash.inference.runtimes import Probabilities
from image_classification_trash.serving.http.api_errors import RefusalError, refusal_of, wrong_body

Json = dict[str, Any]
Reader = Callable[[bytes, Size, ResizeMode], Pixels]
"""Decodes a photo to uint8 (H, W, 3), as `read_photo` does within the budget for photos from strangers."""
Timer = Callable[[str], AbstractContextManager[object]]
"""Takes the name of a step, `decode` or `infer`, and measures what runs within."""


@dataclass(frozen=True)
class Limits:
    """How much one request may hold.

    Attributes:
        max_bytes: of its body, and of a photo that is fetched for it.
        max_photos: in one request; there must be at least one.
    """

    max_bytes: int
    max_photos: int = 1

    def check_length(self, length: int, what: str) -> None:
        """Raise RefusalError 413 where `what` has more than `max_bytes` bytes."""
        if length > self.max_bytes:
            raise RefusalError(413, "too_large", f"The {what} is longer than {self.max_bytes / 2**20:g} MiB.")

    def check_count(self, count: int) -> None:
        """Raise RefusalError 422 unless there are 1 to `max_photos` photos."""
        if not 1 <= count <= self.max_photos:
            raise wrong_body(f"There are {count} photos; a request holds from 1 to {self.max_photos}.")


@dataclass(frozen=True)
class Photo:
    """A photo of a request: its encoded bytes, or why there are none."""

    name: str
    data: bytes | PhotoError
    fetch_seconds: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Decoded photos, uint8 (N, H, W, 3), and what of their request decides on the form of the answer.

    Attributes:
        photos: in the order of the request.
        request_id: repeated in the answer.
        is_column: whether the request was in TensorFlow Serving's column format.
    """

    photos: Pixels
    request_id: str | None = None
    is_column: bool = False


@dataclass
class Seconds:
    """How long each step took for one photo; 0 where a step did not happen or failed."""

    fetch: float = 0.0
    decode: float = 0.0
    infer: float = 0.0

    @contextmanager
    def timer(self, step: str) -> Iterator[None]:
        """Measure one step, unless it fails."""
        start = time.perf_counter()
        yield
        setattr(self, step, time.perf_counter() - start)


@dataclass(frozen=True)
class Answered:
    """One photo's probabilities, float32 (C,), or why there are none; and the seconds of each step."""

    name: str
    row: Probabilities | PhotoError
    seconds: Seconds


def read_here(data: bytes, size: Size, resize_mode: ResizeMode) -> Pixels:
    """Decode in the calling thread, as a Lambda does: its platform ends what takes too long."""
    return read_photo(data, size, resize_mode, SERVING)


@dataclass(frozen=True)
class Pipeline:
    """A loaded model, and the steps from a photo to its answer; may be used from several threads at once."""

    classifier: TrashClassifier
    limits: Limits
    reader: Reader = read_here

    def decode(self, data: bytes) -> Pixels:
        """Decode an encoded photo to uint8 (H, W, 3) at the model's size, within the budget for photos from strangers.

        Raises:
            PhotoError: it cannot be decoded.
            PhotoTooLargeError: decoding it would take more pixels, memory or time than `SERVING` allows.
        """
        config = self.classifier.config
        return self.reader(data, config.input_size, config.resize_mode)

    def run(self, decode: Callable[[], Batch], timer: Timer) -> tuple[Batch, Probabilities]:
        """Decode a batch and run the model on it, each timed.

        Returns:
            The batch, and its probabilities, float32 (N, C).

        Raises:
            ModelServerError: the model server failed.
            RefusalError, PhotoError: as `decode` raises them.
        """
        with timer("decode"):
            batch = decode()
        with timer("infer"):
            return batch, self.classifier.probabilities(batch.photos)

    def predict(self, photo: Photo) -> Answered:
        """Decode and classify one photo; an error of the photo is returned, not raised.

        Raises:
            ModelServerError: the model server failed.
        """
        data, seconds = photo.data, Seconds(fetch=photo.fetch_seconds)
        if isinstance(data, PhotoError):
            return Answered(photo.name, data, seconds)
        try:
            _, (row,) = self.run(lambda: Batch(self.decode(data)[None]), seconds.timer)
        except PhotoError as error:
            return Answered(photo.name, error, seconds)
        return Answered(photo.name, row, seconds)

    def encode(self, answers: Sequence[Answered]) -> Json:
        """Turn answers into plain data, ready for JSON; a bad photo among good ones has its error.

        Raises:
            RefusalError: there is no good photo; says what is wrong with the first.
        """
        errors = [answer.row for answer in answers if isinstance(answer.row, PhotoError)]
        if len(errors) == len(answers):
            raise refusal_of(errors[0])
        config = self.classifier.config
        model = {
            "name": config.name,
            "architecture": config.architecture,
            "git_commit": config.git_commit,
            "created": config.created,
            "digest": self.classifier.digest,
            "threshold": config.threshold,
        }
        return {"model": model, "predictions": [self._encode_one(answer) for answer in answers]}

    def _encode_one(self, answer: Answered) -> Json:
        error = None
        if isinstance(answer.row, PhotoError):
            prediction, error = Prediction(answer.name), refusal_of(answer.row).as_json()
        else:
            prediction = self.classifier.prediction(answer.name, answer.row)
        milliseconds = {step: round(1000 * taken, 3) for step, taken in vars(answer.seconds).items()}
        return prediction.as_json() | {"milliseconds": milliseconds, "error": error}

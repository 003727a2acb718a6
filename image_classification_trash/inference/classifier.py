"""Photos in, predictions out.

classifier = TrashClassifier.load("models/quickstart")
for prediction in classifier.stream(["a.jpg", "b.heic"]):
    print(prediction.path, prediction.decision, prediction.probability)
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from image_classification_trash.errors import BundleError, PhotoError
from image_classification_trash.inference.bundle import Bundle, BundleConfig, read_bundle
from image_classification_trash.inference.images import PhotoSource, Pixels, read_photo
from image_classification_trash.inference.runtimes import Runtime, open_runtime

UNSURE = "unsure"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo, or the reason why there is none.

    Attributes:
        path: the photo's path, or `photo N` for bytes and images without one.
        label: the most probable class; None with an error.
        probability: calibrated probability of `label`, 0 to 1.
        decision: `label`, or `unsure` where `probability` is under the bundle's threshold.
        probabilities: class to calibrated probability, highest first.
        error: what was wrong with the photo; None if it was answered.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    decision: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None


class TrashClassifier:
    """A trained bundle, loaded into an engine."""

    def __init__(self, config: BundleConfig, runtime: Runtime) -> None:
        self.config = config
        self._runtime = runtime

    @classmethod
    def load(
        cls, bundle: Bundle | Path | str, runtime: str = "auto", threads: int | None = None
    ) -> "TrashClassifier":
        """Read a bundle, check it, and load it into an engine.

        Raises:
            BundleError: the bundle is damaged, or no such engine is known.
            MissingExtraError: the engine is not installed.
        """
        opened = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        return cls(opened.config, open_runtime(opened, runtime, threads))

    def predict(
        self, photos: Iterable[PhotoSource], batch_size: int = 32, top_k: int | None = None
    ) -> list[Prediction]:
        """Answer all photos, in their order; a photo that cannot be read has an `error` and no label.

        Args:
            photos: paths, encoded bytes or PIL images, mixed as you like.
            batch_size: photos run through the model at once.
            top_k: keep only the k most probable classes in `probabilities`.
        """
        return list(self.stream(photos, batch_size, top_k))

    def stream(
        self, photos: Iterable[PhotoSource], batch_size: int = 32, top_k: int | None = None
    ) -> Iterator[Prediction]:
        """Like `predict`, but yields each answer as it comes; memory stays flat however many photos there are.

        The next batch is decoded while the model works on this one.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            waiting: list[Future[Pixels | str]] = []
            names: list[str] = []
            for batch in _batches(enumerate(photos), batch_size):
                decoding = [pool.submit(self._decode, photo) for _, photo in batch]
                yield from self._answer(names, waiting, top_k)
                names, waiting = [_name(photo, i) for i, photo in batch], decoding
            yield from self._answer(names, waiting, top_k)

    def probabilities(self, photos: Pixels) -> npt.NDArray[np.float32]:
        """Run decoded photos: uint8 (B, H, W, 3) at the bundle's size in, float32 (B, C) out.

        Raises:
            BundleError: wrong dtype or shape.
        """
        expected = (*self.config.input_size, 3)
        if photos.dtype != np.uint8 or photos.ndim != 4 or photos.shape[1:] != expected:
            found = f"The model takes uint8 photos (B, {expected[0]}, {expected[1]}, 3), not {photos.dtype} {photos.shape}."
            raise BundleError(
                found, "Decode photos with inference.images.read_photo at the bundle's input size."
            )
        return self._runtime(photos)

    def _decode(self, photo: PhotoSource) -> Pixels | str:
        try:
            return read_photo(photo, self.config.input_size, self.config.fit)
        except PhotoError as error:
            return str(error)

    def _answer(
        self, names: Sequence[str], decoding: Sequence[Future[Pixels | str]], top_k: int | None
    ) -> Iterator[Prediction]:
        decoded = [future.result() for future in decoding]
        good = [pixels for pixels in decoded if not isinstance(pixels, str)]
        rows = iter(self.probabilities(np.stack(good)) if good else ())
        for name, pixels in zip(names, decoded, strict=True):
            if isinstance(pixels, str):
                yield Prediction(name, error=pixels)
            else:
                yield self._prediction(name, next(rows), top_k)

    def _prediction(self, name: str, row: npt.NDArray[np.float32], top_k: int | None) -> Prediction:
        order = np.argsort(-row, kind="stable")
        ranked = {self.config.labels[i]: float(row[i]) for i in order[:top_k]}
        label, probability = self.config.labels[order[0]], float(row[order[0]])
        decision = label if probability >= self.config.threshold else UNSURE
        return Prediction(name, label, probability, decision, ranked)


def _batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while batch := list(islice(items, size)):
        yield batch


def _name(photo: PhotoSource, index: int) -> str:
    return str(photo) if isinstance(photo, str | Path) else f"photo {index + 1}"

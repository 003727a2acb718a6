"""Photos in, predictions out.

classifier = TrashClassifier.load()                                          # the model that comes with the package
classifier = TrashClassifier.load("models/quickstart")                       # a bundle, in the best engine there is
classifier = TrashClassifier.load("models/quickstart/export/model.tflite")   # or one exported file
for prediction in classifier.stream(["a.jpg", "b.heic"]):
    print(prediction.path, prediction.decision, prediction.probability)
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from image_classification_trash.errors import BundleError, PhotoError
from image_classification_trash.inference.bundle import Bundle, BundleConfig, read_bundle
from image_classification_trash.inference.images import PhotoSource, Pixels, read_photo
from image_classification_trash.inference.photo_cost import DEFAULT_BUDGET, Budget
from image_classification_trash.inference.runtimes import Runtime, open_bundle, open_file
from image_classification_trash.inference.shipped import shipped_model
from image_classification_trash.inference.tf_serving import ModelServer, TfServingRuntime

UNSURE = "unsure"
BATCH_SIZE = 8
_T = TypeVar("_T")


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo, or the reason why there is none.

    Attributes:
        path: the photo's path, or `photo N` for bytes and images without one.
        label: the most probable class of waste; None with an error.
        probability: calibrated probability of `label`, 0 to 1.
        decision: `label`; `unsure` where `probability` is under the bundle's threshold; the bundle's negative label,
            `not waste`, where the photo seems to show none.
        probabilities: label to calibrated probability, highest first; they sum to 1.
        waste_score: 1 minus the probability of the negative label; None where the model has no such label.
        prediction_set: the classes that it may be, most probable first: a set that held the right one for a stated share of
            the validation photos; `label` alone where that was not fitted; none with an error or where no waste is seen.
        error: what was wrong with the photo; None if it was answered.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    decision: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    waste_score: float | None = None
    prediction_set: tuple[str, ...] = ()
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Turn the answer into plain data, ready for JSON, without `error`: each place says errors in its own form."""
        return {
            "photo": self.path,
            "decision": self.decision,
            "label": self.label,
            "probability": self.probability,
            "waste_score": self.waste_score,
            "prediction_set": list(self.prediction_set),
            "probabilities": [
                {"label": label, "probability": probability}
                for label, probability in self.probabilities.items()
            ],
        }


class TrashClassifier:
    """A trained model, loaded into an engine; may be used from several threads at once."""

    def __init__(self, config: BundleConfig, runtime: Runtime, threads: int | None = None) -> None:
        self.config = config
        self._runtime = runtime
        self._workers = max(1, (os.cpu_count() or 1) // (threads or 1))

    @classmethod
    def load(
        cls, model: Bundle | Path | str | None = None, runtime: str = "auto", threads: int | None = None
    ) -> "TrashClassifier":
        """Read a bundle or one exported file, check it, and load it into an engine.

        Args:
            model: a bundle, its folder, or a .tflite or .onnx file that `trash-classifier export` made; None: the one
                that comes with the package.
            runtime: litert, onnxruntime, torch, or auto: the first of them that can run the model.
            threads: of one run of the model; default 1, for then `stream` runs one on each processor core.

        Raises:
            BundleError: the model is damaged or foreign, or no such engine is known.
            MissingExtraError: the engine is not installed.
        """
        model = shipped_model() if model is None else model
        if not isinstance(model, Bundle) and Path(model).is_file():
            config, opened = open_file(Path(model), runtime, threads)
            return cls(config, opened, threads)
        bundle = model if isinstance(model, Bundle) else read_bundle(model)
        return cls(bundle.config, open_bundle(bundle, runtime, threads), threads)

    @classmethod
    def connect(cls, model: Bundle | Path | str, server: ModelServer) -> "TrashClassifier":
        """Read a bundle, whose model a model server runs; that the server is there is seen at the first photo.

        Raises:
            BundleError: the bundle is damaged or foreign.
            MissingExtraError: the library that asks the server is not installed.
        """
        bundle = model if isinstance(model, Bundle) else read_bundle(model)
        return cls(bundle.config, TfServingRuntime(server, len(bundle.config.labels)))

    @property
    def is_remote(self) -> bool:
        """Whether a model server runs the model."""
        return isinstance(self._runtime, TfServingRuntime)

    def is_ready(self) -> bool:
        """Whether the model can answer now: always, unless a model server runs it, which is asked."""
        return not isinstance(self._runtime, TfServingRuntime) or self._runtime.is_available()

    def predict(
        self,
        photos: Iterable[PhotoSource],
        batch_size: int = BATCH_SIZE,
        top_k: int | None = None,
        budget: Budget = DEFAULT_BUDGET,
    ) -> list[Prediction]:
        """Answer all photos, in their order; a photo that cannot be read has an `error` and no label.

        Args:
            photos: paths, encoded bytes or PIL images, mixed as you like.
            batch_size: photos run through the model at once.
            top_k: keep only the k most probable classes in `probabilities`.
            budget: what decoding one photo may ask for; a photo above it has an `error`.
        """
        return list(self.stream(photos, batch_size, top_k, budget))

    def stream(
        self,
        photos: Iterable[PhotoSource],
        batch_size: int = BATCH_SIZE,
        top_k: int | None = None,
        budget: Budget = DEFAULT_BUDGET,
    ) -> Iterator[Prediction]:
        """Like `predict`, but yields each answer as it comes; memory stays flat however many photos there are.

        Each processor core decodes and runs batches of its own.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        batches = _batches(enumerate(photos), batch_size)
        start = list(islice(batches, 2))
        if len(start) < 2:  # a single batch needs no other thread
            yield from (answer for batch in start for answer in self._answer(batch, top_k, budget))
            return
        running: deque[Future[list[Prediction]]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            for batch in chain(start, batches):
                running.append(pool.submit(self._answer, batch, top_k, budget))
                if len(running) > 2 * self._workers:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()

    def probabilities(self, photos: Pixels) -> npt.NDArray[np.float32]:
        """Run decoded photos: uint8 (B, H, W, 3) at the bundle's size in, float32 (B, C) out.

        Raises:
            BundleError: wrong dtype or shape, or the model answers with numbers that are not finite.
        """
        expected = (*self.config.input_size, 3)
        if photos.dtype != np.uint8 or photos.ndim != 4 or photos.shape[1:] != expected:
            found = f"The model takes uint8 photos (B, {expected[0]}, {expected[1]}, 3), not {photos.dtype} {photos.shape}."
            raise BundleError(
                found, "Decode photos with inference.images.read_photo at the bundle's input size."
            )
        rows = self._runtime(photos)
        if not np.isfinite(rows).all():
            found = f"The model {self.config.name} answers with numbers that are not finite."
            hint = "Its weights are damaged, or its training diverged: copy it again, or train with a lower learning rate."
            raise BundleError(found, hint)
        return rows

    def _decode(self, photo: PhotoSource, budget: Budget) -> Pixels | str:
        try:
            return read_photo(photo, self.config.input_size, self.config.resize_mode, budget)
        except PhotoError as error:
            return str(error)

    def _answer(
        self, batch: Sequence[tuple[int, PhotoSource]], top_k: int | None, budget: Budget
    ) -> list[Prediction]:
        decoded = [self._decode(photo, budget) for _, photo in batch]
        good = [pixels for pixels in decoded if not isinstance(pixels, str)]
        rows = iter(self.probabilities(np.stack(good)) if good else ())
        return [
            Prediction(_name(photo, i), error=pixels)
            if isinstance(pixels, str)
            else self.prediction(_name(photo, i), next(rows), top_k)
            for (i, photo), pixels in zip(batch, decoded, strict=True)
        ]

    def prediction(self, name: str, row: npt.NDArray[np.float32], top_k: int | None = None) -> Prediction:
        """Rank one photo's probabilities, float32 (C,), and decide: a class, `unsure`, or the negative label."""
        order = np.argsort(-row, kind="stable")
        ranked = {self.config.labels[i]: float(row[i]) for i in order[:top_k]}
        best = int(row[: len(self.config.classes)].argmax())
        label, probability = self.config.labels[best], float(row[best])
        score = None if self.config.negative_label is None else 1 - float(row[-1])
        decision = decide(self.config, label, probability, score)
        possible = prediction_set(self.config, row) if decision in (label, UNSURE) else ()
        return Prediction(name, label, probability, decision, ranked, score, possible)


def decide(config: BundleConfig, label: str, probability: float, waste_score: float | None) -> str:
    """What is answered: the negative label if the photo seems to show no waste, `unsure` under the threshold, else `label`."""
    negative = config.negative_label
    if negative is not None and waste_score is not None and 1 - waste_score >= config.negative_threshold:
        return negative
    return label if probability >= config.threshold else UNSURE


def prediction_set(config: BundleConfig, row: npt.NDArray[np.float32]) -> tuple[str, ...]:
    """The classes that a photo with these probabilities, float32 (C,), may show, most probable first; at least one."""
    shares = row[: len(config.classes)].astype(np.float64)
    order = np.argsort(-shares, kind="stable")
    before = mass_before(shares[None] / max(shares.sum(), 1e-12))[0]
    return tuple(config.classes[i] for i in order if before[i] <= (config.conformal_threshold or 0.0))


def mass_before(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each class, what all more probable ones hold: rows of probabilities (N, C) to (N, C)."""
    order = np.argsort(-shares, axis=1, kind="stable")
    ranked = np.take_along_axis(shares, order, axis=1)
    before = np.empty_like(shares)
    np.put_along_axis(before, order, np.cumsum(ranked, axis=1) - ranked, axis=1)
    return np.maximum(before, 0.0)


def _batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while batch := list(islice(items, size)):
        yield batch


def _name(photo: PhotoSource, index: int) -> str:
    return str(photo) if isinstance(photo, str | Path) else f"photo {index + 1}"

"""Photos in, predictions out.

classifier = TrashClassifier.load()                                          # the model that comes with the package
classifier = TrashClassifier.load("production")                              # a name, version or alias in models/
classifier = TrashClassifier.load("models/quickstart/export/model.tflite")   # or one exported file
print(classifier("photo.jpg").decision)                                      # one photo: one answer
answers = classifier.predict(["a.jpg", "https://example.org/b.jpg", "folder"])
for prediction in classifier.stream(names):                                  # many photos, in flat memory
    print(prediction.path, prediction.decision, prediction.probability)
"""

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice, starmap
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from image_classification_trash.errors import BundleError, PhotoError
from image_classification_trash.files import as_text
from image_classification_trash.inference.bundle import Bundle, BundleConfig, read_bundle
from image_classification_trash.inference.images import (
    NAMED_AS,
    PHOTO_SUFFIXES,
    EncodedPhoto,
    PhotoSource,
    Pixels,
    check_source,
    photo_bytes,
    read_photo,
)
from image_classification_trash.inference.model_store import chosen_bundle, chosen_model
from image_classification_trash.inference.photo_cost import DEFAULT_BUDGET, Budget
from image_classification_trash.inference.runtimes import (
    LiteRtRuntime,
    Runtime,
    engine_name,
    open_bundle,
    open_file,
)
from image_classification_trash.inference.shipped import SHIPPED
from image_classification_trash.inference.tf_serving import ModelServer, TfServingRuntime
from image_classification_trash.inference.web_photos import fetch_url, is_url

UNSURE = "unsure"
WARM_UP_TOLERANCE = 0.03
"""By how much probabilities of an int8 model, rounded to 1/256 each, may miss 1 in all."""
BATCH_SIZE = 8
OnePhoto = EncodedPhoto | Image.Image | np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]
"""What `predict` gives one answer for."""
ManyPhotos = Iterable[PhotoSource] | np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]
"""What `predict` gives a list of answers for."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo, or the reason why there is none.

    Attributes:
        path: the photo's path or address, or `photo N` if it has none.
        label: the most probable waste class; None if there is an error.
        probability: calibrated probability of `label`, 0 to 1.
        decision: `label`; `unsure` if `probability` is below the bundle's threshold; the bundle's negative label,
            `not waste`, if the photo seems to show none.
        probabilities: label to calibrated probability, highest first; they sum to 1.
        waste_score: 1 minus the probability of the negative label; None if the model has no such label.
        prediction_set: the classes that the photo may show, most probable first: a set that contains the true class for
            a stated share of the validation photos; only `label` if no conformal threshold was fitted; empty if there
            is an error or the decision is `not waste`.
        error: why the photo could not be classified; None if it was.
        error_code: the kind of that error, for programs: `not_a_photo`, `too_large`, `url_failed` or `url_refused`.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    decision: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    waste_score: float | None = None
    prediction_set: tuple[str, ...] = ()
    error: str | None = None
    error_code: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain data, ready for JSON: what `predict --json` prints and the gateway answers for a photo."""
        error = (
            None
            if self.error is None
            else {"code": self.error_code or PhotoError.code, "message": as_text(self.error)}
        )
        return {
            "photo": as_text(self.path),
            "decision": self.decision,
            "label": self.label,
            "probability": self.probability,
            "waste_score": self.waste_score,
            "prediction_set": list(self.prediction_set),
            "probabilities": [
                {"label": label, "probability": probability}
                for label, probability in self.probabilities.items()
            ],
            "error": error,
        }


class TrashClassifier:
    """A trained model, loaded into an engine; may be used from several threads at once."""

    def __init__(
        self, config: BundleConfig, runtime: Runtime, threads: int | None = None, workers: int | None = None
    ) -> None:
        self.config = config
        self._runtime = runtime
        self._workers = workers or max(1, (os.cpu_count() or 1) // (threads or 1))

    def __repr__(self) -> str:
        config = self.config
        return (
            f"TrashClassifier(name={config.name!r}, architecture={config.architecture!r}, "
            f"classes={list(config.classes)}, engine={self.engine!r})"
        )

    @property
    def engine(self) -> str:
        """Return the name of the engine that runs the model: litert, onnxruntime, torch or tf-serving."""
        return "tf-serving" if self.is_remote else engine_name(self._runtime)

    @classmethod
    def load(
        cls,
        model: Bundle | Path | str | None = None,
        runtime: str = "auto",
        threads: int | None = None,
        models_dir: Path | str = "models",
        workers: int | None = None,
    ) -> "TrashClassifier":
        """Read a bundle or one exported file, check it, and load it into an engine.

        Args:
            model: as `--model` on the command line: a bundle's folder, a .tflite or .onnx file that `trash-classifier
                export` made, or a name (`trashnet`), version (`trashnet@2`) or alias (`production`) in `models_dir`;
                a bundle that was read; `shipped` or None: the model that comes with the package; `shipped-large`: the
                larger one, in `models_dir`.
            runtime: litert, onnxruntime, torch, or auto: the first of them that can run the model.
            threads: threads of one run of the model; default 1, because `stream` runs one on each processor core.
            models_dir: folder of the models that have names.
            workers: batches that `stream` answers at a time; default: one on each processor core of the machine, which a
                process that may use only some of them (on Ray, under Slurm) must not take.

        Raises:
            BundleError: there is no such model, it is damaged or foreign, or the engine is unknown.
            MissingExtraError: the engine is not installed.
        """
        if not isinstance(model, Bundle):
            path = chosen_model(SHIPPED if model is None else model, Path(models_dir))
            if path.is_file():
                config, opened = open_file(path, runtime, threads)
                return cls(config, opened, threads, workers)
            model = read_bundle(path)
        return cls(model.config, open_bundle(model, runtime, threads), threads, workers)

    @classmethod
    def connect(
        cls, model: Bundle | Path | str, server: ModelServer, models_dir: Path | str = "models"
    ) -> "TrashClassifier":
        """Read a bundle whose model runs on a model server, which is asked for the first time at the first photo.

        Raises:
            BundleError: there is no such bundle, or it is damaged or foreign.
            MissingExtraError: the library that asks the server is not installed.
        """
        bundle = model if isinstance(model, Bundle) else read_bundle(chosen_bundle(model, Path(models_dir)))
        return cls(bundle.config, TfServingRuntime(server, len(bundle.config.labels)))

    def as_json(self) -> dict[str, Any]:
        """Return which model answers, ready for JSON: what `predict --json` and the gateway state as `model`."""
        config = self.config
        return {
            "name": config.name,
            "architecture": config.architecture,
            "git_commit": config.git_commit,
            "created": config.created,
            "digest": self.digest,
            "threshold": config.threshold,
        }

    @property
    def is_remote(self) -> bool:
        """Return whether a model server runs the model."""
        return isinstance(self._runtime, TfServingRuntime)

    @property
    def digest(self) -> str | None:
        """Return the SHA-256 of the file that the engine was opened from; None if a model server runs the model."""
        digest: str | None = getattr(self._runtime, "digest", None)
        return digest

    @property
    def tflite(self) -> bytes | None:
        """Return the .tflite file that LiteRT runs; None in another engine."""
        return self._runtime.content if isinstance(self._runtime, LiteRtRuntime) else None

    def warm_up(self) -> None:
        """Run the model once on a black photo, so that the first photo is not the slowest, and check its answer.

        Raises:
            BundleError: the answer is not finite, or its probabilities are not between 0 and 1 or do not sum to 1.
        """
        (row,) = self.probabilities(np.zeros((1, *self.config.input_size, 3), np.uint8))
        if row.min() < 0 or abs(float(row.sum()) - 1) > WARM_UP_TOLERANCE:
            found = (
                f"The model {self.config.name} answers a black photo with {row.sum():g} in all, not with 1."
            )
            raise BundleError(
                found, "Its file is damaged or no classifier: copy it again, or export it again."
            )

    def is_ready(self) -> bool:
        """Return whether the model can answer now; only a model server, which is asked, may be unable to."""
        return not isinstance(self._runtime, TfServingRuntime) or self._runtime.is_available()

    @overload
    def predict(  # type: ignore[overload-overlap]  # a string is an iterable of strings, but here one photo
        self,
        photos: OnePhoto,
        batch_size: int = BATCH_SIZE,
        top_k: int | None = None,
        budget: Budget = DEFAULT_BUDGET,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        photos: ManyPhotos,
        batch_size: int = BATCH_SIZE,
        top_k: int | None = None,
        budget: Budget = DEFAULT_BUDGET,
    ) -> list[Prediction]: ...

    def predict(
        self,
        photos: Any,
        batch_size: int = BATCH_SIZE,
        top_k: int | None = None,
        budget: Budget = DEFAULT_BUDGET,
    ) -> Prediction | list[Prediction]:
        """Classify one photo or many; a photo that cannot be read has an `error` and no label.

        Args:
            photos: one photo: a path, an http(s) address, encoded bytes, an open binary file, a PIL image, or RGB
                pixels, uint8 (H, W, 3). Many: a folder (searched with its subfolders), a glob, a batch of pixels, uint8
                (N, H, W, 3), or an iterable of any of these, each of which adds its photos to the list.
            batch_size: photos run through the model at once.
            top_k: keep only the k most probable classes in `probabilities`.
            budget: what decoding one photo may ask for; a photo above it has an `error`.

        Returns:
            One `Prediction` for one photo, a list in the order of the photos for many. Type checkers treat every path as
            one photo, so typed code gives folders and globs as `predict([folder])`.

        Raises:
            PhotoError: the folder or glob holds no photos, or `photos` is of another type, dtype or shape. Inside an
                iterable, that is the `error` of one answer.
        """
        many: Iterable[Any] | None = _photos_of(photos)
        if many is None and isinstance(photos, Iterable) and not _is_one(photos):
            many = (photo for item in photos for photo in _photos_of(item) or [item])
        if many is None:
            check_source(photos)
            return next(self.stream([photos], batch_size, top_k, budget))
        if many == [] and not isinstance(photos, np.ndarray):
            raise PhotoError(f"{as_text(os.fspath(photos))} holds no photos.", NAMED_AS)
        return list(self.stream(many, batch_size, top_k, budget))

    __call__ = predict

    def stream(
        self,
        photos: Iterable[PhotoSource],
        batch_size: int = BATCH_SIZE,
        top_k: int | None = None,
        budget: Budget = DEFAULT_BUDGET,
    ) -> Iterator[Prediction]:
        """Yield one answer for each item, in order, as it comes; memory stays flat however many photos there are.

        The arguments are those of `predict`, but folders, globs and batches are not expanded. Each processor core
        decodes and runs batches of its own; open files are read when they are drawn from `photos`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        batches = _batches(starmap(_Item.of, enumerate(photos, 1)), batch_size)
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
        """Run the model on decoded photos: uint8 (B, H, W, 3) at the bundle's size to float32 (B, C).

        Raises:
            BundleError: wrong dtype or shape, or the model returns numbers that are not finite.
        """
        expected = (*self.config.input_size, 3)
        if photos.dtype != np.uint8 or photos.ndim != 4 or photos.shape[1:] != expected:
            found = f"The model takes uint8 photos (B, {expected[0]}, {expected[1]}, 3), not {photos.dtype} {photos.shape}."
            raise BundleError(
                found, "Decode photos with inference.images.read_photo at the bundle's input size."
            )
        rows = self._runtime(photos)
        if not np.isfinite(rows).all():
            found = f"The model {self.config.name} returns numbers that are not finite."
            hint = "Its weights are damaged, or its training diverged: copy it again, or train with a lower learning rate."
            raise BundleError(found, hint)
        return rows

    def _answer(self, batch: Sequence["_Item"], top_k: int | None, budget: Budget) -> list[Prediction]:
        decoded: list[Pixels | PhotoError] = []
        for item in batch:
            try:
                size, resize_mode = self.config.input_size, self.config.resize_mode
                decoded.append(read_photo(item.content(), size, resize_mode, budget))
            except PhotoError as error:
                decoded.append(error)
        good = [pixels for pixels in decoded if not isinstance(pixels, PhotoError)]
        rows = iter(self.probabilities(np.stack(good)) if good else ())
        return [
            Prediction(item.name, error=str(pixels), error_code=pixels.code)
            if isinstance(pixels, PhotoError)
            else self.prediction(item.name, next(rows), top_k)
            for item, pixels in zip(batch, decoded, strict=True)
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
    """Return the negative label if the photo seems to show no waste, `unsure` below the threshold, else `label`."""
    negative = config.negative_label
    if negative is not None and waste_score is not None and 1 - waste_score >= config.negative_threshold:
        return negative
    return label if probability >= config.threshold else UNSURE


def prediction_set(config: BundleConfig, row: npt.NDArray[np.float32]) -> tuple[str, ...]:
    """Return the classes that a photo with probabilities float32 (C,) may show, most probable first; at least one."""
    shares = row[: len(config.classes)].astype(np.float64)
    order = np.argsort(-shares, kind="stable")
    before = mass_before(shares[None] / max(shares.sum(), 1e-12))[0]
    return tuple(config.classes[i] for i in order if before[i] <= (config.conformal_threshold or 0.0))


def mass_before(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum, for each class, the probabilities of all more probable classes: (N, C) to (N, C)."""
    order = np.argsort(-shares, axis=1, kind="stable")
    ranked = np.take_along_axis(shares, order, axis=1)
    before = np.empty_like(shares)
    np.put_along_axis(before, order, np.cumsum(ranked, axis=1) - ranked, axis=1)
    return np.maximum(before, 0.0)


@dataclass(frozen=True)
class _Item:
    """One photo of a stream: the name of its answer, and the photo or the reason why its file could not be read."""

    name: str
    source: PhotoSource | PhotoError

    @classmethod
    def of(cls, number: int, photo: Any) -> "_Item":
        """Name a photo; an open file is read at once, since its owner may close it before its batch is run."""
        if isinstance(photo, str | os.PathLike):
            return cls(os.fsdecode(photo), photo)
        name = getattr(photo, "name", None)
        name = name if hasattr(photo, "read") and isinstance(name, str) else f"photo {number}"
        try:
            return cls(name, photo_bytes(photo) if hasattr(photo, "read") else photo)
        except PhotoError as error:
            return cls(name, error)

    def content(self) -> PhotoSource:
        """Return what `read_photo` takes; an address is fetched.

        Raises:
            PhotoError: the file or the address could not be read.
        """
        if isinstance(self.source, PhotoError):
            raise self.source
        return fetch_url(self.source) if isinstance(self.source, str) and is_url(self.source) else self.source


def _is_one(photo: object) -> bool:
    """Tell whether an iterable object is one photo, such as bytes, an open file or another library's array of pixels."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray, Image.Image)
    foreign_array = hasattr(photo, "__array__") and getattr(photo, "ndim", 1) > 1
    return isinstance(photo, kinds) or hasattr(photo, "read") or foreign_array


def _photos_of(photo: Any) -> list[Any] | None:
    """List the photos of a folder, a glob, or an array of names or of pixels (N, H, W, 3); None: it is one photo."""
    if isinstance(photo, str | os.PathLike):
        return photos_below(photo)
    if isinstance(photo, np.ndarray):
        is_batch = photo.dtype == np.uint8 and photo.ndim == 4 and photo.shape[3] == 3
        if is_batch or (photo.dtype.kind in "OU" and photo.ndim == 1):
            return list(photo)
    return None


def photos_below(name: str | os.PathLike[str]) -> list[str] | None:
    """List the photos in a folder and its subfolders, or those that match a glob, sorted; None: it is neither.

    A subfolder that cannot be read is listed too, so that it gives an error as a photo does. A file, an address and a name that
    no file can have are neither a folder nor a glob.
    """
    text = os.path.expanduser(os.fsdecode(name))  # noqa: PTH111  names that no file can have pass through
    try:
        if is_url(text) or os.path.isfile(text):  # noqa: PTH113  does not raise
            return None
        closed: list[str] = []
        if os.path.isdir(text):  # noqa: PTH112
            tree = os.walk(Path(text), onerror=lambda error: closed.append(error.filename))
            found: Iterable[Path] = (Path(folder, name) for folder, _, names in tree for name in names)
        elif glob.has_magic(text):
            found = map(Path, glob.glob(text, recursive=True))  # noqa: PTH207  a pattern may be absolute
        else:
            return None
        photos = (str(path) for path in found if path.suffix.lower() in PHOTO_SUFFIXES)
        return sorted([*filter(os.path.isfile, photos), *closed])
    except (OSError, ValueError):  # too long, with a NUL, or a folder that may not be read
        return None


def _batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while batch := list(islice(items, size)):
        yield batch

"""Adapt a model to a camera and its place from a few labelled photos a class, in seconds and without torch.

    trash-classifier adapt shipped --photos my-photos --output my-place
    trash-classifier adapt shipped --unlabelled many-photos --output my-place

The network stays; its head gets a correction that a ridge holds near the head as it was (`networks/head_correction.py`).
A bundle becomes a new bundle, a .tflite file a new .tflite file; the model that is given is never changed.
"""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from image_classification_trash.arrays import Floats
from image_classification_trash.config.models import AdaptSettings
from image_classification_trash.drift.prior_shift import MIN_PHOTOS, assumed_shares, estimate_shares
from image_classification_trash.errors import (
    BundleError,
    DatasetError,
    ExportError,
    MissingExtraError,
)
from image_classification_trash.evaluation.result import AdaptationRecord
from image_classification_trash.export.head_replacement import TFLITE, Origin, notice_of, open_origin
from image_classification_trash.features.owner_photos import (
    MOST_PHOTOS,
    Flags,
    OwnerPhotos,
    class_photos,
    read_photos,
)
from image_classification_trash.files import only_writer, sha256_of
from image_classification_trash.inference.bundle import EXPORT
from image_classification_trash.inference.classifier import TrashClassifier, photos_below
from image_classification_trash.inference.images import Pixels
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.networks.head_correction import (
    MOST_FITS,
    RIDGE,
    Examples,
    Head,
    adapt_head,
    held_out_scores,
    refit_temperature,
    softmax,
)
from image_classification_trash.provenance import git_commit
from image_classification_trash.show import GOOD, SOME_UNREADABLE, Note, Result, Shown, Table

TOLERANCE = 1e-3
"""How far the new model's answers may be from what was fitted."""
_GONE = ("validation", "validation_under_shift", "rejection_head", "comparison")
"""Figures of a training that no longer hold."""


@dataclass(frozen=True)
class Adapted(Result):
    """A model that was adapted.

    Attributes:
        path: folder of the new bundle, or the new .tflite file.
        record: what it was adapted from and to.
        right: of each class, the number of photos that are right before, and after when left out of the fit.
        temperature: of the new model.
        unreadable: a reason for each photo that could not be read.
        unused: a reason for each file or folder that is no photo of a class, and for each copy.
        seconds: that it took.
    """

    path: Path
    record: AdaptationRecord
    right: Mapping[str, tuple[int, int]]
    temperature: float
    unreadable: tuple[str, ...]
    unused: tuple[str, ...]
    seconds: float

    def for_people(self) -> Iterator[Shown]:
        """Yield a row per class, the accuracy before and after, what to know about it, and the new model."""
        record = self.record
        for line in (*self.unreadable, *self.unused):
            yield Note(f"left out: {line}")
        if record.n:
            yield from self.of_labelled()
        if record.shares is not None:
            shares = ", ".join(f"{share:.1%} {label}" for label, share in record.shares.items())
            yield (
                f"Shares in {record.unlabelled} unlabelled photos, estimated: {shares}. That assumes that each class looks there as it "
                "did in training; check them against what you know of the place."
            )
        yield f"Temperature {self.temperature:.3f} (was {record.temperature_before:.3f}); {self.seconds:.1f} s."
        yield f"{self.path}: figures of {record.origin} no longer hold. Use it with --model {self.path}"

    def of_labelled(self) -> Iterator[Shown]:
        """Yield what the labelled photos say."""
        record = self.record
        rows = [
            [label, str(n), f"{before} of {n}", f"{after} of {n}"] if n else [label, "0", "", ""]
            for (label, n), (before, after) in zip(record.photos.items(), self.right.values(), strict=True)
        ]
        yield Table(["class", "photos", "right before", "right after, left out"], rows)
        before, after = record.right_before / record.n, record.right_after / record.n
        yield (
            f"Accuracy on these {record.n} photos: {before:.1%} before, {after:.1%} after, each answered by a head adapted without "
            f"it (left out {record.left_out}). Optimistic if several photos show the same object, or if the model learned from them."
        )
        if missing := [label for label, n in record.photos.items() if not n]:
            held = (
                "the means of its training photos stand for them"
                if record.class_means
                else "their scores stay"
            )
            yield f"No photos of {', '.join(missing)}: {held}."
        if record.right_after <= record.right_before:
            yield "It is no better on these photos: keep the model as it was, or give more photos of more objects."

    def as_json(self) -> dict[str, Any]:
        """Return the path of the new model and everything that was measured."""
        return {
            "model": str(self.path),
            **asdict(self.record),
            "per_class": {
                label: {"right_before": before, "right_after": after}
                for label, (before, after) in self.right.items()
            },
            "temperature": self.temperature,
            "unreadable_photos": list(self.unreadable),
            "unused": list(self.unused),
            "seconds": round(self.seconds, 2),
        }

    @property
    def exit_status(self) -> int:
        """Return 3 if some photos could not be read."""
        return SOME_UNREADABLE if self.unreadable else GOOD


@dataclass(frozen=True)
class Fit:
    """A head that is fitted step by step.

    Attributes:
        head: with scores at temperature 1.
        temperature: that fits it.
        labelled: photos it was fitted to.
        before: which of them the origin is right on (N,).
        after: which of them a head that was adapted to the others is right on (N,).
        unlabelled: photos whose shares of the classes it was shifted to.
        shares: these shares (C,).
    """

    head: Head
    temperature: float
    labelled: OwnerPhotos | None = None
    before: Flags | None = None
    after: Flags | None = None
    unlabelled: OwnerPhotos | None = None
    shares: Floats | None = None

    @classmethod
    def of(cls, origin: Origin) -> "Fit":
        """Begin with the head as it is."""
        return cls(origin.head, origin.config.temperature)

    @property
    def photos(self) -> list[OwnerPhotos]:
        """Return the labelled photos and the unlabelled ones, if there are such."""
        return [photos for photos in (self.labelled, self.unlabelled) if photos is not None]

    def listed(self, name: str) -> tuple[str, ...]:
        """Return what all photos list under this name."""
        return tuple(line for photos in self.photos for line in getattr(photos, name))


def adapt(settings: AdaptSettings) -> Adapted:
    """Write a new model that is adapted to photos; the given one stays as it is.

    Raises:
        BundleError: there is no such model, it is damaged or in another format, or the name of the new one is in use.
        DatasetError: a folder is not named as a class, or there are no photos, or of one class only, too few or too many.
        ExportError: the head of a .tflite file cannot be changed, or the new model does not answer as fitted.
        BusyError: another process is writing the same model.
    """
    assert settings.output is not None  # the settings refuse anything else
    began, place = time.perf_counter(), settings.models_dir / settings.output
    for taken in (place, place.with_name(f"{place.name}.tflite")):
        if taken.exists():
            raise BundleError(f"{taken} exists already.", "Choose another --output, or move it away.")
    origin = open_origin(chosen_model(settings.model, settings.models_dir))
    fit = Fit.of(origin)
    if settings.photos is not None:
        fit = fit_to_labelled(origin, fit, settings.photos)
    if settings.unlabelled is not None:
        fit = fit_to_unlabelled(origin, fit, settings.unlabelled)
    record, right = record_of(origin, fit)
    training = {name: value for name, value in origin.config.training.items() if name not in _GONE}
    config = replace(
        origin.config,
        name=place.name,
        temperature=fit.temperature,
        training={**training, "adaptation": asdict(record)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        conformal_threshold=None,  # its guarantee was for the scores before
    )
    photos = fit.unlabelled if fit.labelled is None else fit.labelled
    assert photos is not None  # the settings ask for one of them
    with only_writer(place):
        path = origin.write(place, config, fit.head)
        expected = softmax(fit.head(photos.embedded[: len(photos.pixels)]) / fit.temperature)
        check(path, photos.pixels, expected)
    seconds = time.perf_counter() - began
    unreadable, unused = fit.listed("unreadable"), fit.listed("unused")
    return Adapted(path, record, right, fit.temperature, unreadable, unused, seconds)


def fit_to_labelled(origin: Origin, fit: Fit, folder: Path) -> Fit:
    """Correct the head by photos in class folders, and fit the temperature again.

    Raises:
        DatasetError: a folder is not named as a class, or there are no photos, or of one class only, or too many.
    """
    files, unused = class_photos(folder, origin.config.classes)
    photos = read_photos(origin, files, unused)
    if len(set(photos.y_true.tolist())) < 2:
        found = f"Photos of {len(set(photos.y_true.tolist()))} classes can be read: {photos.unreadable[0]}"
        raise DatasetError(found, "Give photos of two classes or more.")
    means = None if origin.means is None else origin.means.means
    examples = Examples(photos.embedded, photos.y_true, means)
    held_out = held_out_scores(fit.head, examples)
    return replace(
        fit,
        head=adapt_head(fit.head, examples),
        temperature=refit_temperature(fit.temperature, held_out, photos.y_true),
        labelled=photos,
        before=fit.head(photos.embedded).argmax(1) == photos.y_true,
        after=held_out.argmax(1) == photos.y_true,
    )


def fit_to_unlabelled(origin: Origin, fit: Fit, folder: Path) -> Fit:
    """Shift the scores to the shares of the classes that unlabelled photos seem to have; rejected photos do not count.

    Raises:
        DatasetError: there is no such folder, or it has too few or too many photos.
    """
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}.", "Give --unlabelled a folder of photos.")
    files = [("", Path(name)) for name in photos_below(folder) or []]
    if len(files) > MOST_PHOTOS:
        found = f"{folder} holds {len(files)} photos, and adapt takes {MOST_PHOTOS} at most."
        raise DatasetError(found, "Give a sample of them that is drawn at random.")
    photos = read_photos(origin, files, ()) if files else None
    kept = 0 if photos is None else int(photos.waste.sum())
    if photos is None or kept < MIN_PHOTOS:
        found = f"{folder} holds {kept} photos that can be read and are not rejected."
        raise DatasetError(found, f"Shares are estimated from {MIN_PHOTOS} or more.")
    assumed = assumed_shares(origin.config)
    shares = estimate_shares(softmax(fit.head(photos.embedded[photos.waste]) / fit.temperature), assumed)
    shift = fit.temperature * np.log(shares / assumed)
    return replace(fit, head=Head(fit.head.weight, fit.head.bias + shift), unlabelled=photos, shares=shares)


def record_of(origin: Origin, fit: Fit) -> tuple[AdaptationRecord, dict[str, tuple[int, int]]]:
    """Record an adaptation, and count of each class the labelled photos that are right before and after."""
    classes, none = origin.config.classes, np.zeros(0, bool)
    y_true = np.zeros(0, np.int64) if fit.labelled is None else fit.labelled.y_true
    before, after = (none if flags is None else flags for flags in (fit.before, fit.after))
    own = {label: y_true == number for number, label in enumerate(classes)}
    digests = [photos.fingerprint for photos in fit.photos]
    shares = None if fit.shares is None else dict(zip(classes, fit.shares.tolist(), strict=True))
    record = AdaptationRecord(
        origin=origin.config.name,
        origin_sha256=origin.sha256,
        photos={label: int(rows.sum()) for label, rows in own.items()},
        unreadable=len(fit.listed("unreadable")),
        fingerprint=digests[0] if len(digests) == 1 else sha256_of("\n".join(digests).encode()),
        right_before=int(before.sum()),
        right_after=int(after.sum()),
        fits=min(len(y_true), MOST_FITS),
        temperature_before=origin.config.temperature,
        ridge=RIDGE,
        class_means=origin.means is not None,
        git_commit=git_commit(),
        unlabelled=0 if fit.unlabelled is None else int(fit.unlabelled.waste.sum()),
        shares=shares,
    )
    return record, {label: (int(before[rows].sum()), int(after[rows].sum())) for label, rows in own.items()}


def check(path: Path, pixels: Pixels, expected: Floats) -> None:
    """Run the new model on photos, uint8 (K, H, W, 3), and compare it with the fitted probabilities (K, C).

    Raises:
        ExportError: they differ; the new model is deleted.
    """
    engines = ("litert", "torch") if (path / EXPORT / TFLITE).is_file() else ("auto",)
    miss = 0.0
    for engine in engines:
        try:
            rows = TrashClassifier.load(path, engine).probabilities(pixels)[:, : expected.shape[1]]
            given = rows.astype(np.float64) / np.maximum(rows.sum(1, keepdims=True), 1e-12)
            miss = max(miss, float(np.abs(given - expected).max()))
        except MissingExtraError:  # torch is not needed
            continue
        except BundleError:
            miss = np.inf
    if not miss <= TOLERANCE:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
            notice_of(path).unlink(missing_ok=True)
        found = f"The adapted model answers differently from what was fitted, by {miss:.2g}; it was deleted."
        raise ExportError(found, "Adapt the bundle, or a float32 or fp16 .tflite file of it.")


if __name__ == "__main__":
    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.show import carry_out

    sys.exit(carry_out("adapt", lambda: load_settings(AdaptSettings, sys.argv[1:]), adapt))

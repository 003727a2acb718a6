"""Adapt a model to a camera and its place from a few labelled photos a class, in seconds and without torch.

    trash-classifier adapt shipped --photos my-photos --output my-place
    trash-classifier adapt shipped --unlabelled many-photos --output my-place

The network stays; its head gets a correction that a ridge holds near the head as it was (`networks/head_correction.py`).
A bundle becomes a new bundle, a .tflite file a new .tflite file; the model that is given is never changed.
"""

import json
import shutil
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from image_classification_trash.arrays import Embeddings, Floats, Ints
from image_classification_trash.config.models import AdaptSettings
from image_classification_trash.drift.prior_shift import MIN_PHOTOS, assumed_shares, estimate_shares
from image_classification_trash.errors import (
    BundleError,
    DatasetError,
    ExportError,
    MissingExtraError,
    PhotoError,
)
from image_classification_trash.evaluation.model_card import model_card
from image_classification_trash.evaluation.result import AdaptationRecord
from image_classification_trash.export.tflite_head import HeadOfFile
from image_classification_trash.export.tflite_metadata import with_metadata
from image_classification_trash.features.class_means import FILE as CLASS_MEANS
from image_classification_trash.features.class_means import ClassMeans, read_class_means
from image_classification_trash.files import only_writer, sha256_of, write_bytes
from image_classification_trash.inference.bundle import (
    CARD,
    EXPORT,
    NOTICE,
    WEIGHTS,
    Bundle,
    BundleConfig,
    add_to_bundle,
    read_bundle,
    write_bundle,
)
from image_classification_trash.inference.classifier import TrashClassifier, photos_below
from image_classification_trash.inference.file_digest import files_in_tflite
from image_classification_trash.inference.images import Pixels, read_photo
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.inference.runtimes import DESCRIPTION, LiteRtRuntime, open_file
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
from image_classification_trash.networks.safetensors_file import read_tensor, with_tensor
from image_classification_trash.provenance import git_commit
from image_classification_trash.show import GOOD, SOME_UNREADABLE, Note, Result, Shown, Table

Embed = Callable[[Pixels], Embeddings]
Flags = npt.NDArray[np.bool_]
TFLITE = "model.tflite"
WEIGHT, BIAS, TEMPERATURE = "head.1.weight", "head.1.bias", "temperature"
MOST_PHOTOS = 3000
"""Largest number of photos; the fit grows with its square, and with so many it is time to train."""
BATCH, CHECKED, TOLERANCE = 16, 16, 1e-3
"""Photos embedded at once; photos that the new model is run on, and how far it may be from what was fitted."""
_GONE = ("validation", "validation_under_shift", "rejection_head", "comparison")
"""Figures of a training that no longer hold."""


@dataclass(frozen=True)
class OwnerPhotos:
    """Photos of the owner's camera that could be read.

    Attributes:
        embedded: float32 (N, D).
        y_true: class numbers (N,); -1 without a label.
        waste: of unlabelled photos, which are not rejected (N,); true for labelled ones.
        pixels: the first photos, uint8 (K, H, W, 3), to run the new model on.
        unreadable: a reason for each photo that could not be read.
        unused: a reason for each file or folder that is no photo of a class, and for each copy.
        fingerprint: SHA-256 of contents and labels.
    """

    embedded: Embeddings
    y_true: Ints
    waste: Flags
    pixels: Pixels
    unreadable: tuple[str, ...]
    unused: tuple[str, ...]
    fingerprint: str


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


class Origin(Protocol):
    """A model to adapt.

    Attributes:
        path: its folder or file.
        config: its description.
        sha256: of its weights or of its file.
        head: its head, with scores at temperature 1.
        means: of its training photos; None if it does not carry them.
    """

    path: Path
    config: BundleConfig
    sha256: str
    head: Head
    means: ClassMeans | None

    @property
    def embed(self) -> Embed:
        """What maps photos, uint8 (B, H, W, 3), to what enters the head, float32 (B, D); opened on first use."""
        ...

    def write(self, place: Path, config: BundleConfig, head: Head) -> Path:
        """Write a copy with another description and head; return its path."""
        ...


class TfliteOrigin:
    """A .tflite file to adapt; an inner tensor of its graph is read, so that files of any version will do.

    Raises:
        BundleError: it is damaged, or was not exported by this program.
        ExportError: its head is not found, or computes with integers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, runtime = open_file(path, "litert")
        assert isinstance(runtime, LiteRtRuntime)  # of all engines, `litert` names this one
        self.content, self.sha256 = runtime.content, runtime.digest
        self._head = HeadOfFile(self.content, len(self.config.classes))
        self.head = self._head.head().divided_by(1 / self.config.temperature)
        self.files = files_in_tflite(self.content)
        stored = self.files.get(CLASS_MEANS)
        self.means = (
            None
            if stored is None
            else read_class_means(stored, self.config.classes, self.head.weight.shape[1], str(path))
        )

    @cached_property
    def embed(self) -> Embed:
        """Run the file up to its head."""
        return LiteRtRuntime(self._head.embeds(), self.path)

    def write(self, place: Path, config: BundleConfig, head: Head) -> Path:
        """Write `place`.tflite, and the notice that the given file's photos ask for."""
        path = place.with_name(f"{place.name}.tflite")
        write_bytes(path, self.adapted(config, head))
        for folder in (
            self.path.parent,
            self.path.parent.parent,
        ):  # beside a shipped file; above an exported one
            if (folder / NOTICE).is_file():
                write_bytes(path.with_name(f"{place.name}.{NOTICE}"), (folder / NOTICE).read_bytes())
                break
        return path

    def adapted(self, config: BundleConfig, head: Head) -> bytes:
        """Return the file with another description and head."""
        model = HeadOfFile(self.content, len(config.classes)).with_head(head.divided_by(config.temperature))
        described = {**json.loads(self.files[DESCRIPTION]), **asdict(config), "metrics": {}}
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
        return with_metadata(model, config, {**self.files, DESCRIPTION: text.encode()})


class BundleOrigin:
    """A bundle to adapt.

    Raises:
        BundleError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.bundle = path, read_bundle(path)
        self.config = self.bundle.config
        self._weights = self.bundle.weights.read_bytes()
        self.sha256 = sha256_of(self._weights)
        weight, bias = (read_tensor(self._weights, name, str(self.bundle.weights)) for name in (WEIGHT, BIAS))
        self.head = Head(weight, bias)
        means = path / CLASS_MEANS
        self.means = (
            read_class_means(means.read_bytes(), self.config.classes, weight.shape[1], str(means))
            if means.is_file()
            else None
        )

    @cached_property
    def embed(self) -> Embed:
        """Run the weights in torch or, where that is not installed, the exported file up to its head."""
        return embed_with_torch(self.bundle) or TfliteOrigin(self.bundle.exported(TFLITE)).embed

    def write(self, place: Path, config: BundleConfig, head: Head) -> Path:
        """Write the bundle `place`, with its card, and export/model.tflite if the given one has that."""
        content, origin = self._weights, str(self.bundle.weights)
        values = {WEIGHT: head.weight, BIAS: head.bias, TEMPERATURE: np.array(config.temperature)}
        for name, value in values.items():
            content = with_tensor(content, name, value, origin)
        files = {WEIGHTS: content}
        for name in (NOTICE, CLASS_MEANS):
            if (self.path / name).is_file():
                files[name] = (self.path / name).read_bytes()
        if (self.path / EXPORT / TFLITE).is_file():
            exported = TfliteOrigin(self.bundle.exported(TFLITE))
            files[f"{EXPORT}/{TFLITE}"] = exported.adapted(config, head)
        written = write_bundle(place, config, files)
        add_to_bundle(written, {CARD: model_card(config, {}, None)})
        return written.path


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


def open_origin(path: Path) -> Origin:
    """Open the model to adapt.

    Raises:
        BundleError: it is neither a bundle nor a .tflite file, or damaged.
    """
    if path.suffix == ".onnx":
        hint = "Give the bundle that it was exported from, or the bundle's .tflite file."
        raise BundleError(f"{path} is an ONNX file, and adapt changes bundles and .tflite files.", hint)
    return TfliteOrigin(path) if path.is_file() else BundleOrigin(path)


def embed_with_torch(bundle: Bundle) -> Embed | None:
    """Return what embeds photos with the bundle's weights; None where torch is not installed."""
    try:
        from image_classification_trash.networks.network import (  # noqa: PLC0415  the train extra
            EmbeddingBackbone,
            load_network,
        )
    except ImportError:
        return None
    network = load_network(bundle)
    backbone = EmbeddingBackbone(network)
    return lambda photos: backbone.embed(photos)[:, : network.width]  # without those of a rejection tail


def class_photos(folder: Path, classes: Sequence[str]) -> tuple[list[tuple[str, Path]], tuple[str, ...]]:
    """List the photos in class folders with their labels, and the names of everything else.

    Raises:
        DatasetError: there is no such folder, a folder in it is not named as a class, or there are too few or many photos.
    """
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}.", "Give --photos a folder of class folders.")
    files: list[tuple[str, Path]] = []
    unused, unknown = [], []
    for entry in sorted(folder.iterdir()):
        label = unicodedata.normalize("NFC", entry.name)
        if not entry.is_dir() or label.startswith((".", "_")):
            unused.append(f"{entry.name} is no class's folder")
        elif label not in classes:
            unknown.append(entry.name)
        else:
            own = [Path(name) for name in photos_below(entry) or []]
            files.extend((label, path) for path in own)
            others = {path for path in entry.rglob("*") if path.is_file()} - set(own)
            unused.extend(f"{path.relative_to(folder).as_posix()} is no photo" for path in sorted(others))
    if unknown:
        found = f"{folder} holds classes that the model does not know: {', '.join(unknown)}."
        hint = f"It knows: {', '.join(classes)}. Rename their folders, or start their names with _."
        raise DatasetError(found, hint)
    counts = Counter(label for label, _ in files)
    if len(counts) < 2:
        found = f"{folder} holds photos of {len(counts)} classes."
        raise DatasetError(found, f"Put photos in two or more folders of these: {', '.join(classes)}.")
    if len(files) > MOST_PHOTOS:
        found = f"{folder} holds {len(files)} photos, and adapt takes {MOST_PHOTOS} at most."
        raise DatasetError(found, "Give fewer, or train on all of them: trash-classifier train FOLDER")
    return files, tuple(unused)


def read_photos(origin: Origin, files: Sequence[tuple[str, Path]], unused: tuple[str, ...]) -> OwnerPhotos:
    """Decode and embed photos, each with its label; those that cannot be read, and copies, are left out and listed.

    The label of an unlabelled photo is empty; whether it shows waste is then asked of the origin.

    Raises:
        DatasetError: a photo lies in the folders of two classes.
    """
    config, whole = origin.config, None
    if files[0][0] == "" and config.negative_label is not None:
        whole = TrashClassifier.load(origin.path)
    y_true, unreadable, copies, waste = [], [], [], []
    embedded: list[Embeddings] = []
    waiting: list[Pixels] = []
    first: list[Pixels] = []
    seen: dict[str, tuple[str, Path]] = {}
    for number, (label, path) in enumerate(files, 1):
        try:
            digest = sha256_of(path.read_bytes())
            if digest in seen:
                check_label(seen[digest], label, path)
                copies.append(f"{path} is a copy of {seen[digest][1].name}")
            else:
                waiting.append(read_photo(path, config.input_size, config.resize_mode))
                seen[digest] = label, path
                y_true.append(config.classes.index(label) if label else -1)
        except (PhotoError, OSError) as error:
            unreadable.append(str(error))
        if waiting and (len(waiting) == BATCH or number == len(files)):
            batch, waiting = np.stack(waiting), []
            embedded.append(origin.embed(batch))
            waste.append(np.ones(len(batch), bool) if whole is None else is_waste(whole, batch))
            first.extend(batch[: CHECKED - len(first)])
    lines = sorted(f"{digest}  {label}" for digest, (label, _) in seen.items())
    return OwnerPhotos(
        embedded=finite(origin, embedded),
        y_true=np.array(y_true, np.int64),
        waste=np.concatenate([np.empty(0, bool), *waste]),
        pixels=np.array(first, np.uint8),
        unreadable=tuple(unreadable),
        unused=(*unused, *copies),
        fingerprint=sha256_of("\n".join(lines).encode()),
    )


def is_waste(classifier: TrashClassifier, photos: Pixels) -> Flags:
    """Tell which photos, uint8 (B, H, W, 3), a model does not reject."""
    rejected = classifier.probabilities(photos)[:, -1] >= classifier.config.negative_threshold
    return np.asarray(~rejected)


def finite(origin: Origin, embedded: Sequence[Embeddings]) -> Embeddings:
    """Join embeddings to float32 (N, D); raise a BundleError if some are not finite."""
    vectors = np.concatenate([np.empty((0, origin.head.weight.shape[1]), np.float32), *embedded])
    if not np.isfinite(vectors).all():
        raise BundleError(f"{origin.path} returns numbers that are not finite.", "Copy the model again.")
    return vectors.astype(np.float32)


def check_label(seen: tuple[str, Path], label: str, path: Path) -> None:
    """Raise a DatasetError if a photo that was seen before has another label now."""
    if seen[0] != label:
        found = f"{path} is the same photo as {seen[1]}, in the folder of another class."
        raise DatasetError(found, "Delete it where it does not belong.")


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
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        found = f"The adapted model answers differently from what was fitted, by {miss:.2g}; it was deleted."
        raise ExportError(found, "Adapt the bundle, or a float32 or fp16 .tflite file of it.")


if __name__ == "__main__":
    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.show import carry_out

    sys.exit(carry_out("adapt", lambda: load_settings(AdaptSettings, sys.argv[1:]), adapt))

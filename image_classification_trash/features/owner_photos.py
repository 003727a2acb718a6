"""Photos of an owner's camera: listed with their labels, decoded and embedded, and everything left out is named.

files, unused = class_photos(Path("my-photos"), classes)   # folders named as the model's classes
photos = read_photos(model, files, unused)                 # embeddings, float32 (N, D)
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from image_classification_trash.arrays import Embeddings, Ints
from image_classification_trash.errors import BundleError, DatasetError, PhotoError
from image_classification_trash.files import as_text, sha256_of
from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.classifier import TrashClassifier, photos_below
from image_classification_trash.inference.images import Pixels, photo_bytes, read_photo

Embed = Callable[[Pixels], Embeddings]
"""Maps photos, uint8 (B, H, W, 3), to what enters a model's head, float32 (B, D)."""
Flags = npt.NDArray[np.bool_]
MOST_PHOTOS = 3000
"""Largest number of photos; a fit grows with its square, and with so many it is time to train."""
BATCH, KEPT = 16, 16
"""Photos embedded at once; photos whose pixels are kept."""


class Embedder(Protocol):
    """A model that photos are embedded with.

    Attributes:
        path: its folder or file.
        config: its description.
    """

    path: Path
    config: BundleConfig

    @property
    def embed(self) -> Embed:
        """What maps photos to embeddings."""
        ...


@dataclass(frozen=True)
class OwnerPhotos:
    """Photos of the owner's camera that could be read.

    Attributes:
        embedded: float32 (N, D).
        y_true: class numbers (N,); -1 without a label.
        waste: of unlabelled photos, which are not rejected (N,); true for labelled ones.
        pixels: the first photos, uint8 (K, H, W, 3), as the model takes them.
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


def read_photos(model: Embedder, files: Sequence[tuple[str, Path]], unused: tuple[str, ...]) -> OwnerPhotos:
    """Decode and embed photos, each with its label; those that cannot be read, and copies, are left out and listed.

    The label of an unlabelled photo is empty; whether it shows waste is then asked of the model.

    Raises:
        DatasetError: a photo lies in the folders of two classes.
    """
    config, whole = model.config, None
    if files[0][0] == "" and config.negative_label is not None:
        whole = TrashClassifier.load(model.path)
    y_true, unreadable, copies, waste = [], [], [], []
    embedded: list[Embeddings] = []
    waiting: list[Pixels] = []
    first: list[Pixels] = []
    seen: dict[str, tuple[str, Path]] = {}
    for number, (label, path) in enumerate(files, 1):
        try:
            data = photo_bytes(path)
            digest = sha256_of(data)
            if digest in seen:
                check_label(seen[digest], label, path)
                copies.append(f"{path} is a copy of {seen[digest][1].name}")
            else:
                waiting.append(
                    read_photo(data, config.input_size, config.resize_mode, name=as_text(str(path)))
                )
                seen[digest] = label, path
                y_true.append(config.classes.index(label) if label else -1)
        except PhotoError as error:
            unreadable.append(str(error))
        if waiting and (len(waiting) == BATCH or number == len(files)):
            batch, waiting = np.stack(waiting), []
            embedded.append(model.embed(batch))
            waste.append(np.ones(len(batch), bool) if whole is None else is_waste(whole, batch))
            first.extend(batch[: KEPT - len(first)])
    lines = sorted(f"{digest}  {label}" for digest, (label, _) in seen.items())
    return OwnerPhotos(
        embedded=finite(model, embedded),
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


def finite(model: Embedder, embedded: Sequence[Embeddings]) -> Embeddings:
    """Join embeddings to float32 (N, D); raise a BundleError if some are not finite."""
    vectors = np.concatenate(embedded) if embedded else np.empty((0, 0), np.float32)
    if not np.isfinite(vectors).all():
        raise BundleError(f"{model.path} returns numbers that are not finite.", "Copy the model again.")
    return vectors.astype(np.float32)


def check_label(seen: tuple[str, Path], label: str, path: Path) -> None:
    """Raise a DatasetError if a photo that was seen before has another label now."""
    if seen[0] != label:
        found = f"{path} is the same photo as {seen[1]}, in the folder of another class."
        raise DatasetError(found, "Delete it where it does not belong.")

"""The data set is a table: `manifest.csv` and, beside it, `dataset.json` that says how it was made.

    path,label,split,group,sha256,width,height
    glass/glass1.jpg,glass,train,0007,9b1c...,512,384

`path` is relative to `root` in dataset.json. Rows are sorted by path, so that the same photos give the same bytes.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from image_classification_trash.arrays import Ints
from image_classification_trash.errors import DatasetError
from image_classification_trash.files import recover_directory, sha256_of

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
MANIFEST, DATASET = "manifest.csv", "dataset.json"


@dataclass(frozen=True, slots=True)
class Photo:
    """One row of the manifest.

    Attributes:
        path: relative to the data set's root, with forward slashes.
        label: class name.
        split: train, val or test; empty before the split is made.
        group: photos of one object or one take share it; never split apart by `grouped`.
        sha256: of the file's bytes.
        width: of the photo as displayed, in pixels.
        height: of the photo as displayed, in pixels.
    """

    path: str
    label: str
    split: str
    group: str
    sha256: str
    width: int
    height: int


COLUMNS = [field.name for field in fields(Photo)]


@dataclass(frozen=True, slots=True)
class SplitMade:
    """How the photos were split: the method, its seed, and the shares of val and test that were asked for."""

    method: str
    seed: int
    val: float
    test: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """Photos of one split, how many of them have a near-duplicate in train, and the share of these, from 0 to 1."""

    photos: int
    with_near_duplicate_in_train: int
    share: float


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """How near-duplicates were found, how many pairs and groups there are, and how far val and test overlap with train."""

    found_by: str
    pairs: int
    groups: int
    overlap: Mapping[str, Overlap]


@dataclass(frozen=True, slots=True)
class CorrectionsMade:
    """The file of corrections, how many photos each action changed, and how many suggestions were not applied."""

    file: str
    sha256: str
    photos: Mapping[str, int]
    suggested_and_not_applied: int

    def __str__(self) -> str:
        done = ", ".join(f"{action} {count}" for action, count in self.photos.items()) or "none accepted"
        left = self.suggested_and_not_applied
        return f"{done}; {left} suggested ones were not applied ({self.file})"


@dataclass(frozen=True, slots=True)
class Metadata:
    """How a data set was made.

    Attributes:
        split: how its photos were split.
        problems: how many files were left out, by kind of problem.
        near_duplicates: what was found of them.
        key: of the photos and settings that it was made from.
        corrections: what a person corrected; None where nothing was.
    """

    split: SplitMade
    problems: Mapping[str, int]
    near_duplicates: NearDuplicates
    key: str
    corrections: CorrectionsMade | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as dataset.json keeps it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Manifest:
    """A prepared data set.

    Attributes:
        name: of the data set.
        root: the folder that the photos' paths start from.
        photos: all rows, sorted by path.
        labels: the classes, in the order of the model's outputs.
        metadata: how it was made: split method, seed, overlap, problems.
    """

    name: str
    root: Path
    photos: tuple[Photo, ...]
    labels: tuple[str, ...]
    metadata: Metadata

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the table: the same photos, labels and split have the same fingerprint."""
        return sha256_of(manifest_csv(self.photos).encode())

    def photos_of(self, split: Split) -> list[Photo]:
        """The photos of one split."""
        return [photo for photo in self.photos if photo.split == split]

    def path_of(self, photo: Photo) -> Path:
        """Where a photo's file is."""
        return self.root / photo.path

    def counts(self) -> dict[str, dict[str, int]]:
        """Photos per split and class."""
        tally = Counter((photo.split, photo.label) for photo in self.photos)
        return {split: {label: tally[split, label] for label in self.labels} for split in SPLITS}


def manifest_csv(photos: Sequence[Photo]) -> str:
    """The table as CSV text, rows sorted by path."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(photo) for photo in sorted(photos, key=lambda photo: photo.path))
    return buffer.getvalue()


def write_manifest(folder: Path, manifest: Manifest, final: Path) -> None:
    """Write the table and its description into `folder`, which will stand at `final`."""
    root = os.path.relpath(manifest.root.resolve(), final.resolve())
    about = {
        "name": manifest.name,
        "root": Path(root).as_posix(),
        "root_absolute": str(manifest.root.resolve()),
        "labels": list(manifest.labels),
        "fingerprint": manifest.fingerprint,
        "counts": manifest.counts(),
        **manifest.metadata.as_json(),
    }
    (folder / MANIFEST).write_text(manifest_csv(manifest.photos), encoding="utf-8", newline="")
    (folder / DATASET).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read a prepared data set.

    Raises:
        DatasetError: not prepared yet, or the table was edited or damaged.
    """
    recover_directory(folder)
    if not (folder / MANIFEST).is_file() or not (folder / DATASET).is_file():
        hint = f"Prepare it with: trash-classifier data {folder.name}"
        raise DatasetError(f"There is no prepared data set in {folder}.", hint)
    try:
        about = json.loads((folder / DATASET).read_text(encoding="utf-8"))
        photos = parse_manifest((folder / MANIFEST).read_bytes().decode())  # line ends as they are
        root, labels = _root(folder, about), tuple(about["labels"])
        manifest = Manifest(about["name"], root, tuple(photos), labels, _parse_metadata(about))
        unchanged = manifest.fingerprint == about["fingerprint"]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        hint = f"Prepare it again: trash-classifier data {folder.name} --force"
        raise DatasetError(f"The data set in {folder} cannot be read: {error!r}.", hint) from error
    if not unchanged:
        hint = f"Undo the edit, or prepare it again: trash-classifier data {folder.name} --force"
        raise DatasetError(f"{folder / MANIFEST} was changed since it was made.", hint)
    return manifest


def _root(folder: Path, about: Mapping[str, Any]) -> Path:
    """Where the photos are: as seen from the data set, which moves along with its project, else where they were.

    Raises:
        DatasetError: they are in neither place.
    """
    places: list[Path] = [(folder / about["root"]).resolve()]
    if "root_absolute" in about:
        places.append(Path(about["root_absolute"]))
    for place in dict.fromkeys(places):
        if place.is_dir():
            return place
    found = f"The photos of {folder} are no longer where they were: {' or '.join(map(str, dict.fromkeys(places)))}."
    hint = f"Bring them back, or say where they are: trash-classifier data {folder.name} --source FOLDER"
    raise DatasetError(found, hint)


def _parse_metadata(about: Mapping[str, Any]) -> Metadata:
    """The inverse of `Metadata.as_json`; raises KeyError or TypeError where something is missing or foreign."""
    near, corrections = about["near_duplicates"], about.get("corrections")
    overlap = {split: Overlap(**counts) for split, counts in near["overlap"].items()}
    return Metadata(
        SplitMade(**about["split"]),
        about["problems"],
        NearDuplicates(**{**near, "overlap": overlap}),
        about["key"],
        CorrectionsMade(**corrections) if corrections else None,
    )


def parse_manifest(text: str) -> list[Photo]:
    """Parse CSV text; raises ValueError where it is not a manifest."""
    rows = csv.DictReader(io.StringIO(text))
    if rows.fieldnames != COLUMNS:
        raise ValueError(f"columns {rows.fieldnames} instead of {COLUMNS}")
    photos = []
    for number, row in enumerate(rows, start=2):
        if None in row.values() or None in row:
            raise ValueError(f"line {number} has not {len(COLUMNS)} fields")
        photos.append(Photo(**{**row, "width": int(row["width"]), "height": int(row["height"])}))  # type: ignore[arg-type]
    return photos


def with_splits(photos: Sequence[Photo], splits: Mapping[str, str]) -> list[Photo]:
    """Photos with their parts set from a mapping of path to part."""
    return [replace(photo, split=splits[photo.path]) for photo in photos]


def class_numbers(photos: Sequence[Photo], labels: Sequence[str]) -> Ints:
    """Class numbers (N,) of photos."""
    number = {label: i for i, label in enumerate(labels)}
    return np.array([number[photo.label] for photo in photos], dtype=np.int64)

"""Read and write a data set's table: `manifest.csv`, with `dataset.json` beside it for how it was made.

    path,label,split,group,sha256,width,height
    glass/glass1.jpg,glass,train,0007,9b1c...,512,384

A data set made with a data sources file has the columns `source`, `licence` and `weight` too, and may have rows labelled
`not waste`. `path` is relative to `root` in dataset.json. Rows are sorted by path, so the same photos give the same bytes.
"""

import csv
import difflib
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
from image_classification_trash.files import read_json, recover_directory, sha256_of
from image_classification_trash.inference.bundle import NEGATIVE_LABEL
from image_classification_trash.tables import csv_text, literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
MANIFEST, DATASET = "manifest.csv", "dataset.json"
BUILT_IN = ("sample", "trashnet")
"""Data sets that need no source of the user's."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One row of the manifest.

    Attributes:
        path: path relative to the data set's root, with forward slashes.
        label: class name.
        split: train, val or test; empty before the photos are split.
        group: name shared by photos of one object or one take, which `grouped` keeps in one split.
        sha256: SHA-256 of the file's bytes.
        width: width of the photo as displayed, in pixels.
        height: height of the photo as displayed, in pixels.
        source: name of the source in a data sources file; empty in a data set made without one, as are the next two.
        licence: licence of the photo.
        weight: its weight in training.
    """

    path: str
    label: str
    split: str
    group: str
    sha256: str
    width: int
    height: int
    source: str = ""
    licence: str = ""
    weight: float = 1.0


COLUMNS = [field.name for field in fields(Photo)][:7]
"""The columns of a manifest."""
SOURCE_COLUMNS = ["source", "licence", "weight"]
"""The further columns of a manifest that was made with a data sources file."""


@dataclass(frozen=True, slots=True)
class SplitMade:
    """How the photos were split: the method, its seed, and the requested fractions of val and test."""

    method: str
    seed: int
    val: float
    test: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """Number of photos in a split, how many have a near-duplicate in train, and that share, 0 to 1."""

    photos: int
    with_near_duplicate_in_train: int
    share: float


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """How near-duplicates were found, the number of pairs and groups, and the overlap of val and test with train."""

    found_by: str
    pairs: int
    groups: int
    overlap: Mapping[str, Overlap]


@dataclass(frozen=True, slots=True)
class CorrectionsMade:
    """Name and SHA-256 of a corrections file, photos changed by each action, and suggestions not applied."""

    file: str
    sha256: str
    photos: Mapping[str, int]
    suggested_and_not_applied: int

    def __str__(self) -> str:
        done = ", ".join(f"{action} {count}" for action, count in self.photos.items()) or "none accepted"
        left = self.suggested_and_not_applied
        return f"{done}; {left} suggested and not applied ({self.file})"


@dataclass(frozen=True, slots=True)
class Origin:
    """A source of a data set that a data sources file combined.

    Attributes:
        name: of the source.
        role: what its photos may be used for.
        licence: of its photos; several licences are separated by semicolons.
        attribution: authors and title; may be empty.
        address: where the photos come from.
        left_out_by_map: number of photos left out by the map of labels, by label.
        photos: number of photos in each split.
    """

    name: str
    role: str
    licence: str
    attribution: str
    address: str
    left_out_by_map: Mapping[str, int]
    photos: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Metadata:
    """How a data set was made.

    Attributes:
        split: how its photos were split.
        problems: number of files left out, by kind of problem.
        near_duplicates: how many there are, and their overlap across splits.
        key: hash of the photos and settings that it was made from.
        corrections: summary of the applied corrections file; None without one.
        sources: the sources of a data sources file, in its order; None without one.
    """

    split: SplitMade
    problems: Mapping[str, int]
    near_duplicates: NearDuplicates
    key: str
    corrections: CorrectionsMade | None = None
    sources: tuple[Origin, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields in the form that dataset.json stores."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Manifest:
    """A prepared data set.

    Attributes:
        name: name of the data set.
        root: the folder that the photos' paths are relative to.
        photos: all rows that show an object of a class, sorted by path.
        labels: class names in the order of the model's outputs.
        metadata: how it was made: split method, seed, overlap, problems.
        not_waste: rows of photos that show none, sorted by path; only a data sources file names such photos.
    """

    name: str
    root: Path
    photos: tuple[Photo, ...]
    labels: tuple[str, ...]
    metadata: Metadata
    not_waste: tuple[Photo, ...] = ()

    @property
    def rows(self) -> tuple[Photo, ...]:
        """Return all rows of the table, sorted by path."""
        return tuple(sorted((*self.photos, *self.not_waste), key=lambda photo: photo.path))

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the table; the same photos, labels and splits give the same fingerprint."""
        return sha256_of(manifest_csv(self.rows, formulas=True).encode())

    def photos_of(self, split: Split) -> list[Photo]:
        """Return the photos of one split."""
        return [photo for photo in self.photos if photo.split == split]

    def path_of(self, photo: Photo) -> Path:
        """Return the path of a photo's file."""
        return self.root / photo.path

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of photos per split and class."""
        tally = Counter((photo.split, photo.label) for photo in self.photos)
        return {split: {label: tally[split, label] for label in self.labels} for split in SPLITS}


def manifest_csv(photos: Sequence[Photo], formulas: bool = False) -> str:
    """Return the table as CSV text, rows sorted by path; `formulas` as in `csv_text`."""
    columns = [*COLUMNS, *(SOURCE_COLUMNS if any(photo.source for photo in photos) else ())]
    rows = (astuple(photo)[: len(columns)] for photo in sorted(photos, key=lambda photo: photo.path))
    return csv_text(columns, rows, formulas)


def by_waste(photos: Sequence[Photo], combined: bool) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    """Return the photos of classes and those labelled `not waste`; only a combined data set has the latter."""
    is_waste = [not combined or photo.label != NEGATIVE_LABEL for photo in photos]
    shown = tuple(photo for photo, waste in zip(photos, is_waste, strict=True) if waste)
    return shown, tuple(photo for photo, waste in zip(photos, is_waste, strict=True) if not waste)


def write_manifest(folder: Path, manifest: Manifest, final: Path) -> None:
    """Write manifest.csv and dataset.json into `folder`, which will be renamed to `final`."""
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
    (folder / MANIFEST).write_text(manifest_csv(manifest.rows), encoding="utf-8", newline="")
    (folder / DATASET).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read a prepared data set.

    Raises:
        DatasetError: the data set is not prepared, its table was edited or damaged, or its photos have moved.
    """
    recover_directory(folder)
    if not (folder / MANIFEST).is_file() or not (folder / DATASET).is_file():
        known = {*(table.parent.name for table in folder.parent.glob(f"*/{MANIFEST}")), *BUILT_IN}
        near = difflib.get_close_matches(folder.name, sorted(known - {folder.name}), n=1)
        source = "" if folder.name in BUILT_IN else " --source FOLDER"
        hint = f"Prepare it with: trash-classifier data {folder.name}{source}"
        if near:
            hint = f"Did you mean {near[0]!r}? Else prepare it: trash-classifier data {folder.name}{source}"
        raise DatasetError(f"There is no prepared data set in {folder}.", hint)
    try:
        about = read_json(folder / DATASET, finite=True)
        photos = parse_manifest((folder / MANIFEST).read_bytes().decode())  # keeps line endings
        # The fingerprint does not tell the rows' order, on which a training depends.
        photos.sort(key=lambda photo: photo.path)
        root, labels = _root(folder, about), tuple(about["labels"])
        metadata = _parse_metadata(about)
        shown, not_waste = by_waste(photos, metadata.sources is not None)
        manifest = Manifest(about["name"], root, shown, labels, metadata, not_waste)
        unchanged = manifest.fingerprint == about["fingerprint"]
        if unchanged and sorted(labels) != sorted({photo.label for photo in shown}):
            raise ValueError("its labels are not those of its photos")
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        hint = f"Prepare it again: trash-classifier data {folder.name} --force"
        raise DatasetError(f"The data set in {folder} cannot be read: {error!r}.", hint) from error
    if not unchanged:
        hint = f"Undo the edit, or prepare it again: trash-classifier data {folder.name} --force"
        raise DatasetError(f"{folder / MANIFEST} was changed after it was written.", hint)
    return manifest


def _root(folder: Path, about: Mapping[str, Any]) -> Path:
    """Return the photos' root: the path relative to the data set, which survives a move of both, else the absolute path.

    Raises:
        DatasetError: neither path exists.
    """
    places: list[Path] = [(folder / about["root"]).resolve()]
    if "root_absolute" in about:
        places.append(Path(about["root_absolute"]))
    for place in dict.fromkeys(places):
        if place.is_dir():
            return place
    found = f"The photos of {folder} are no longer where they were: {' or '.join(map(str, dict.fromkeys(places)))}."
    hint = f"Move them back, or pass their new folder: trash-classifier data {folder.name} --source FOLDER"
    raise DatasetError(found, hint)


def _parse_metadata(about: Mapping[str, Any]) -> Metadata:
    """Invert `Metadata.as_json`; raise KeyError or TypeError for missing or unknown fields."""
    near, corrections = about["near_duplicates"], about.get("corrections")
    overlap = {split: Overlap(**counts) for split, counts in near["overlap"].items()}
    return Metadata(
        SplitMade(**about["split"]),
        about["problems"],
        NearDuplicates(**{**near, "overlap": overlap}),
        about["key"],
        CorrectionsMade(**corrections) if corrections else None,
        tuple(Origin(**origin) for origin in about["sources"]) if "sources" in about else None,
    )


def parse_manifest(text: str) -> list[Photo]:
    """Parse the CSV text of a manifest.

    Raises:
        ValueError: the columns are not those of `Photo`, or a row is malformed.
    """
    rows = csv.DictReader(io.StringIO(text))
    columns = list(rows.fieldnames or ())
    if columns not in (COLUMNS, COLUMNS + SOURCE_COLUMNS):
        raise ValueError(f"columns {rows.fieldnames} instead of {COLUMNS}")
    photos = []
    for number, row in enumerate(rows, start=2):
        if None in row.values() or None in row:
            raise ValueError(f"line {number} does not have {len(columns)} fields")
        cells = {name: literal(cell) for name, cell in row.items()}
        numbers = {
            "width": int(row["width"]),
            "height": int(row["height"]),
            "weight": float(row.get("weight", 1)),
        }
        photos.append(Photo(**{**cells, **numbers}))  # type: ignore[arg-type]
    return photos


def with_splits(photos: Sequence[Photo], splits: Mapping[str, str]) -> list[Photo]:
    """Return the photos with their splits set from a mapping of path to split."""
    return [replace(photo, split=splits[photo.path]) for photo in photos]


def class_numbers(photos: Sequence[Photo], labels: Sequence[str]) -> Ints:
    """Return the photos' class numbers, int64 (N,): their labels' positions in `labels`."""
    number = {label: i for i, label in enumerate(labels)}
    return np.array([number[photo.label] for photo in photos], dtype=np.int64)

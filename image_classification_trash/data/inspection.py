"""Decode every photo fully, once, and report the ones that cannot be used.

Nothing is repaired or replaced: each file is either in the manifest or in problems.csv.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from image_classification_trash.data.layouts import Source, SourceFile
from image_classification_trash.data.manifest import Photo
from image_classification_trash.errors import PhotoError
from image_classification_trash.files import sha256_of
from image_classification_trash.inference.images import SUFFIXES, open_photo, photo_bytes, read_photo
from image_classification_trash.parallel.mapper import THREADS, Mapper

_NAMED = 10
"""Copies that a problem's text names; 20,000 equal files would fill gigabytes otherwise."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder that is not in the data set.

    Attributes:
        path: path relative to the source's root; a folder's ends with a slash.
        label: the file's class; empty if it has none.
        kind: unreadable, wrong_name, duplicate, two_labels, no_split, excluded, near_duplicate_in_split, or a kind of `layouts.LeftOut`.
        detail: what is wrong, as a phrase for readers.
    """

    path: str
    label: str
    kind: str
    detail: str


PROBLEM_COLUMNS = tuple(field.name for field in fields(Problem))


@dataclass(frozen=True, slots=True)
class Inspected:
    """A usable photo and its 64-bit perceptual hash."""

    photo: Photo
    phash: int


@dataclass(frozen=True)
class Audit:
    """The usable photos and the problems of a source."""

    good: tuple[Inspected, ...]
    problems: tuple[Problem, ...]


def audit_source(source: Source, mapper: Mapper = THREADS) -> Audit:
    """Decode all files of a source where `mapper` does; sort them into usable photos and problems."""
    outcomes = mapper.map(partial(_inspect, source.root.absolute()), source.files)
    found = list(tqdm(outcomes, total=len(source.files), desc="check photos", unit="photo"))
    good = [outcome for outcome in found if isinstance(outcome, Inspected)]
    problems = [outcome for outcome in found if isinstance(outcome, Problem)]
    problems += [Problem(row.path, "", row.kind, row.detail) for row in source.left_out]
    kept, duplicates = _without_duplicates(good)
    rows = sorted([*problems, *duplicates], key=astuple)
    return Audit(tuple(kept), tuple(rows))


def _inspect(root: Path, file: SourceFile) -> Inspected | Problem:
    try:
        data = photo_bytes(root / file.path)
        header = open_photo(data, file.path)
        pixels = read_photo(data)
    except PhotoError as error:
        # Paths in the table are relative to the root, so that the table is the same on every machine.
        found = error.found.removeprefix(f"{root}{os.sep}")
        return Problem(file.path, file.label, "unreadable", found)
    kind = header.format or "unknown"
    if Path(file.path).suffix.lower() not in SUFFIXES.get(kind, ()):
        return Problem(file.path, file.label, "wrong_name", f"its content is {kind}, its name says otherwise")
    height, width = pixels.shape[:2]
    stated = (file.source, file.licence, file.weight)
    photo = Photo(file.path, file.label, file.split, file.group, sha256_of(data), width, height, *stated)
    bits = np.asarray(imagehash.phash(Image.fromarray(pixels)).hash).ravel()  # 64-bit DCT hash (Zauner, 2010)
    return Inspected(photo, int("".join("1" if bit else "0" for bit in bits), 2))


def _without_duplicates(good: Sequence[Inspected]) -> tuple[list[Inspected], list[Problem]]:
    """Keep the first of identical files, or none of them if their labels differ."""
    by_content: dict[str, list[Inspected]] = defaultdict(list)
    for item in sorted(good, key=lambda item: item.photo.path):
        by_content[item.photo.sha256].append(item)
    kept: list[Inspected] = []
    problems: list[Problem] = []
    for copies in by_content.values():
        if len({item.photo.label for item in copies}) == 1:
            kept.append(copies[0])
            first = copies[0].photo.path
            for path in (item.photo.path for item in copies[1:]):
                detail = "it is listed twice" if path == first else f"the same file as {first}"
                problems.append(Problem(path, copies[0].photo.label, "duplicate", detail))
            continue
        for item in copies:
            others = [other for other in copies[: _NAMED + 1] if other is not item][:_NAMED]
            named = ", ".join(f"{other.photo.path} ({other.photo.label})" for other in others)
            more = f" and {len(copies) - 1 - len(others)} more" if len(copies) - 1 > len(others) else ""
            detail = f"the same file stands under another label: {named}{more}"
            problems.append(Problem(item.photo.path, item.photo.label, "two_labels", detail))
    return sorted(kept, key=lambda item: item.photo.path), problems

"""Split photos into train, val and test in one of three ways; each is a pure function of the photos and the seed.

- official: the split that the source defines (TrashNet's own lists, folders train/val/test, a CSV column);
- stratified: random, with the same proportions in each class;
- grouped: like stratified, but photos of one group (near-duplicates, or an object cluster) stay in one split.
"""

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from image_classification_trash.data.manifest import SPLITS, Photo
from image_classification_trash.errors import DatasetError
from image_classification_trash.inference.classifier import UNSURE

MIN_PHOTOS_PER_CLASS = 3


@dataclass(frozen=True)
class Fractions:
    """Fractions of the photos for val and test, 0 to 1; the rest is train."""

    val: float
    test: float

    def of(self, split: str) -> float:
        """Return the fraction of one split."""
        return {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}[split]


def check_classes(photos: Sequence[Photo]) -> None:
    """Refuse photos that no classifier can be trained on.

    Raises:
        DatasetError: there are no photos, there is only one class, a class is called `unsure`, as the answer below the
            threshold is, or a class has too few photos for three splits.
    """
    counts = Counter(photo.label for photo in photos)
    if not counts:
        raise DatasetError("No usable photo is left.", "See the warnings above for what is wrong with each.")
    if len(counts) < 2:
        found = f"All {len(photos)} usable photos are of one class, {next(iter(counts))!r}."
        raise DatasetError(found, "A classifier needs at least two classes, each in a folder of its own.")
    if taken := [label for label in counts if label.casefold() == UNSURE]:
        found = f"A class is called {taken[0]!r}, which is the answer to photos below a model's threshold."
        raise DatasetError(found, "Rename the class.")
    few = sorted(label for label, count in counts.items() if count < MIN_PHOTOS_PER_CLASS)
    if few:
        named = ", ".join(f"{label!r} ({counts[label]})" for label in few)
        found = f"Too few usable photos in: {named}; train, val and test need one each."
        hint = " ".join(["Add photos, or remove the class.", *alike(list(counts))])
        raise DatasetError(found, hint)


def alike(labels: Iterable[str]) -> list[str]:
    """Return a sentence for each group of labels that differ only in case, spaces, hyphens, underscores or characters without
    a width: likely one class.
    """
    groups = defaultdict(list)
    for label in sorted(set(labels)):
        seen = "".join(sign for sign in label if unicodedata.category(sign) != "Cf")
        groups[re.sub(r"[\s_-]+", " ", seen).strip().casefold()].append(label)
    return [
        f"{', '.join(map(repr, group))} are different classes: rename one if they are the same."
        for group in groups.values()
        if len(group) > 1
    ]


def official(photos: Sequence[Photo], fractions: Fractions, seed: int) -> dict[str, str]:
    """Return the split that the source defines; take missing val or test photos from train in whole groups.

    Raises:
        DatasetError: some photos have no split, or there is no train split.
    """
    without = [photo.path for photo in photos if not photo.split]
    if without:
        found = f"{len(without)} of {len(photos)} photos have no split, such as {without[0]}."
        raise DatasetError(found, "Choose --split grouped, or name a split for each photo.")
    given = {photo.path: photo.split for photo in photos}
    present = set(given.values())
    if "train" not in present:
        raise DatasetError("The source defines no train split.", "Choose --split grouped.")
    missing = [split for split in ("val", "test") if split not in present]
    if missing:
        shares = Fractions(*(fractions.of(split) if split in missing else 0.0 for split in ("val", "test")))
        given |= grouped([photo for photo in photos if photo.split == "train"], shares, seed)
    return given


def stratified(photos: Sequence[Photo], fractions: Fractions, seed: int) -> dict[str, str]:
    """Split each class at random, in the same proportions; return each photo's split by path."""
    return _assign_splits([[photo] for photo in photos], fractions, seed)


def grouped(photos: Sequence[Photo], fractions: Fractions, seed: int) -> dict[str, str]:
    """Assign whole groups, large ones first, to the split that most lacks their classes; return each photo's split by path."""
    groups: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[photo.group].append(photo)
    return _assign_splits(list(groups.values()), fractions, seed)


def grouped_folds(photos: Sequence[Photo], folds: int, seed: int) -> list[int]:
    """Return a fold number, 0 to `folds` - 1, for each photo; classes are balanced and groups kept whole."""
    names = [str(fold) for fold in range(folds)]
    groups: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[photo.group].append(photo)
    fold_of = _assign(list(groups.values()), dict.fromkeys(names, 1 / folds), seed)
    return [int(fold_of[photo.path]) for photo in photos]


def _assign_splits(groups: list[list[Photo]], fractions: Fractions, seed: int) -> dict[str, str]:
    return _assign(groups, {split: fractions.of(split) for split in SPLITS}, seed)


def _assign(groups: list[list[Photo]], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Assign each group to the split (or fold) that is furthest below its share of the group's classes."""
    order = sorted(groups, key=lambda group: min(photo.path for photo in group))
    random.Random(seed).shuffle(order)
    order.sort(key=len, reverse=True)
    totals = Counter(photo.label for group in order for photo in group)
    wanted = {(split, label): share * totals[label] for split, share in shares.items() for label in totals}
    open_splits = [split for split, share in shares.items() if share > 0]
    given: dict[str, str] = {}
    for group in order:
        labels = Counter(photo.label for photo in group)
        chosen = max(open_splits, key=lambda split: _need(wanted, split, labels, shares[split]))
        for photo in group:
            given[photo.path] = chosen
            wanted[chosen, photo.label] -= 1
    return given


def _need(
    wanted: dict[tuple[str, str], float], split: str, labels: Counter[str], share: float
) -> tuple[bool, float]:
    """Return a sort key: whether a split still lacks any of these classes, then how much, relative to its share."""
    # Sorted, as sums of floats depend on their order and the order of the photos must not matter.
    lacking = sum(wanted[split, label] * count for label, count in sorted(labels.items()))
    lacks_any = any(wanted[split, label] > 0 for label in labels)
    return lacks_any, lacking / share


def torn_groups(photos: Iterable[Photo], stated: Mapping[str, str]) -> list[str]:
    """Return a warning if photos that the source puts into one group are in several splits.

    Args:
        photos: with their splits.
        stated: the source's own group of each photo, by path; empty for a photo without one.
    """
    found = defaultdict(set)
    for photo in photos:
        if group := stated.get(photo.path):
            found[group].add(photo.split)
    torn = sorted(group for group, inside in found.items() if len(inside) > 1)
    if not torn:
        return []
    return [
        f"{len(torn)} of the source's {len(found)} groups have photos in several splits, such as {torn[0]!r}; figures of "
        "the test split may flatter"
    ]


def missing_classes(photos: Iterable[Photo], labels: Iterable[str]) -> list[str]:
    """Return a warning for each split that lacks a class."""
    seen = {(photo.split, photo.label) for photo in photos}
    return [
        f"no photo of {label!r} is in {split}"
        for split in SPLITS
        for label in labels
        if (split, label) not in seen
    ]

"""Three ways to part photos into train, val and test. All are pure functions of the photos and the seed.

- official: the split that comes with the photos (TrashNet's own lists, folders train/val/test, a CSV column);
- stratified: each class is shared out at random in the same proportions;
- grouped: like stratified, but photos of one group (near-duplicates) stay together; with the groups of `kinds`, whole kinds.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from image_classification_trash.data.manifest import SPLITS, Photo
from image_classification_trash.errors import DatasetError

MIN_PHOTOS_PER_CLASS = 3


@dataclass(frozen=True)
class Fractions:
    """Shares of the photos that go to val and test; the rest is train."""

    val: float
    test: float

    def of(self, split: str) -> float:
        """The share of one part."""
        return {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}[split]


def check_classes(photos: Sequence[Photo]) -> None:
    """Refuse data that no classifier can be trained on.

    Raises:
        DatasetError: no photos, one class only, or a class with too few photos for three parts.
    """
    counts = Counter(photo.label for photo in photos)
    if not counts:
        raise DatasetError("No usable photo is left.", "The warnings above say what is wrong with each.")
    if len(counts) < 2:
        found = f"All {len(photos)} usable photos are of one class, {next(iter(counts))!r}."
        raise DatasetError(found, "A classifier needs at least two classes, each in a folder of its own.")
    few = sorted(label for label, count in counts.items() if count < MIN_PHOTOS_PER_CLASS)
    if few:
        named = ", ".join(f"{label!r} ({counts[label]})" for label in few)
        found = f"Too few usable photos in: {named}; train, val and test need one each."
        raise DatasetError(found, "Add photos, or leave the class out.")


def official(photos: Sequence[Photo], fractions: Fractions, seed: int) -> dict[str, str]:
    """The split that comes with the photos; a part that the source lacks is taken from train, groups kept whole.

    Raises:
        DatasetError: some photos have no part, or there is no train split.
    """
    without = [photo.path for photo in photos if not photo.split]
    if without:
        found = f"{len(without)} of {len(photos)} photos come without a split, such as {without[0]}."
        raise DatasetError(found, "Choose --split grouped, or name a split for each photo.")
    given = {photo.path: photo.split for photo in photos}
    present = set(given.values())
    if "train" not in present:
        raise DatasetError(
            "The split that comes with the photos has no train split.", "Choose --split grouped."
        )
    missing = [split for split in ("val", "test") if split not in present]
    if missing:
        shares = Fractions(*(fractions.of(split) if split in missing else 0.0 for split in ("val", "test")))
        given |= grouped([photo for photo in photos if photo.split == "train"], shares, seed)
    return given


def stratified(photos: Sequence[Photo], fractions: Fractions, seed: int) -> dict[str, str]:
    """Share out each class at random, in the same proportions."""
    return _share_out([[photo] for photo in photos], fractions, seed)


def grouped(photos: Sequence[Photo], fractions: Fractions, seed: int) -> dict[str, str]:
    """Share out whole groups, large ones first, each to the part that most lacks its classes."""
    groups: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[photo.group].append(photo)
    return _share_out(list(groups.values()), fractions, seed)


def grouped_folds(photos: Sequence[Photo], folds: int, seed: int) -> list[int]:
    """A fold number for each photo, classes balanced and groups kept whole."""
    parts = [str(fold) for fold in range(folds)]
    groups: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[photo.group].append(photo)
    fold_of = _deal(list(groups.values()), dict.fromkeys(parts, 1 / folds), seed)
    return [int(fold_of[photo.path]) for photo in photos]


def _share_out(groups: list[list[Photo]], fractions: Fractions, seed: int) -> dict[str, str]:
    return _deal(groups, {split: fractions.of(split) for split in SPLITS}, seed)


def _deal(groups: list[list[Photo]], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Give each group to the part that is furthest behind its share of the group's classes."""
    order = sorted(groups, key=lambda group: min(photo.path for photo in group))
    random.Random(seed).shuffle(order)
    order.sort(key=len, reverse=True)
    totals = Counter(photo.label for group in order for photo in group)
    wanted = {(part, label): share * totals[label] for part, share in shares.items() for label in totals}
    open_parts = [part for part, share in shares.items() if share > 0]
    given: dict[str, str] = {}
    for group in order:
        labels = Counter(photo.label for photo in group)
        part = max(open_parts, key=lambda part: _need(wanted, part, labels, shares[part]))
        for photo in group:
            given[photo.path] = part
            wanted[part, photo.label] -= 1
    return given


def _need(
    wanted: dict[tuple[str, str], float], part: str, labels: Counter[str], share: float
) -> tuple[bool, float]:
    """How much a part still lacks of these classes, relative to its share; one with room for all comes first."""
    # Sorted, as sums of floats depend on their order and the order of the photos must not matter.
    lacking = sum(wanted[part, label] * count for label, count in sorted(labels.items()))
    has_none = any(wanted[part, label] > 0 for label in labels)
    return has_none, lacking / share


def missing_classes(photos: Iterable[Photo], labels: Iterable[str]) -> list[str]:
    """Warnings for parts that lack a class, in words."""
    seen = {(photo.split, photo.label) for photo in photos}
    return [
        f"no photo of {label!r} is in {split}"
        for split in SPLITS
        for label in labels
        if (split, label) not in seen
    ]

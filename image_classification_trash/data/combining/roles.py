"""Split the photos of several sources so that each source's role holds and no object is in two splits across sources."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from image_classification_trash.data import splits
from image_classification_trash.data.combining.sources_file import ANY, TEST, TRAIN, TRAIN_VAL, check_known
from image_classification_trash.data.manifest import SPLITS, Photo
from image_classification_trash.data.near_duplicates import Pairs
from image_classification_trash.errors import DatasetError

Allowed = tuple[str, ...]


@dataclass(frozen=True)
class Roles:
    """What decides the splits of several sources.

    Attributes:
        role: of each source, by name.
        left_out: sources that become test.
        method: as `--split`; `auto` and `source` keep the splits that a source gives for all its photos.
        fractions: of val and test within each source that may be in all splits.
        seed: of the split.
    """

    role: Mapping[str, str]
    left_out: Collection[str]
    method: str
    fractions: splits.Fractions
    seed: int

    def allowed(self, photo: Photo, keeps_splits: bool) -> Allowed:
        """Return the splits that a photo may be in; one if its source or its role decides.

        Args:
            photo: with the split that its source gives, or none.
            keeps_splits: whether the splits that its source gives are kept.
        """
        role = self.role[photo.source]
        if photo.source in self.left_out or role == TEST:
            return ("test",)
        if role == TRAIN:
            return ("train",)
        may: Allowed = SPLITS[:2] if role == TRAIN_VAL else SPLITS
        if keeps_splits and photo.split in may:
            return (photo.split,)
        return SPLITS[:2] if self.method == "source" else may


def check_left_out(role: Mapping[str, str], left_out: Collection[str]) -> None:
    """Raise a DatasetError if a left-out source does not exist, or if nothing is left to train on.

    Args:
        role: of each source, by name.
        left_out: names of the sources that become test.
    """
    check_known("--leave-out: source", left_out, role)
    if not any(of != TEST and name not in left_out for name, of in role.items()):
        raise DatasetError("Every source is left out or test only.", "Leave one for training.")


def split_sources(roles: Roles, photos: Sequence[Photo], units: Sequence[Photo]) -> list[str]:
    """Return the split of each of N photos; empty for one that shows what a photo of another source in a later split shows.

    A group whose photos may all be in one split stays whole. Where roles contradict each other within a group, the photos
    in test (or else in val) stay, and those of other sources in an earlier split have none: they are left out.

    Args:
        roles: of the sources.
        photos: N photos; `group` is shared by near-duplicates, `split` is what the source gives.
        units: the same photos, with groups of photos that are assigned together.
    """
    lacking = {photo.source for photo in photos if not photo.split}
    keeps = {
        name for name in roles.role if roles.method in ("auto", "official", "source") and name not in lacking
    }
    if roles.method == "official" and (
        without := [n for n in lacking if roles.role[n] == ANY and n not in roles.left_out]
    ):
        found = f"The source {min(without)!r} does not give a split for each of its photos."
        raise DatasetError(found, "Choose --split auto, which splits such sources by groups.")
    allowed = [roles.allowed(photo, photo.source in keeps) for photo in photos]
    given: dict[str, str] = {}
    free: dict[tuple[str, Allowed], list[Photo]] = defaultdict(list)
    for unit in by_group(units).values():
        common: Allowed = tuple(split for split in SPLITS if all(split in allowed[i] for i in unit))
        if len(common) > 1:
            free[photos[unit[0]].source, common] += [units[i] for i in unit]
            continue
        fixed = [allowed[i][0] for i in unit if len(allowed[i]) == 1]
        latest = max(fixed, key=SPLITS.index) if not common else common[0]
        given |= {photos[i].path: latest if latest in allowed[i] else allowed[i][-1] for i in unit}
    for (_, common), members in sorted(free.items()):
        val, test = roles.fractions.val, roles.fractions.test
        shares = roles.fractions if "test" in common else splits.Fractions(val / (1 - test), 0.0)
        given |= splits.grouped(members, shares, roles.seed)
    return without_crossing(photos, [given[photo.path] for photo in photos], roles.method == "stratified")


def without_crossing(photos: Sequence[Photo], chosen: Sequence[str], everywhere: bool) -> list[str]:
    """Return the splits, empty where a photo of another source in the same group is in a later split; `everywhere` keeps all."""
    kept = list(chosen)
    for group in () if everywhere else by_group(photos).values():
        latest: dict[str, int] = defaultdict(int)  # by source, so that a group of thousands takes linear time
        for i in group:
            latest[photos[i].source] = max(latest[photos[i].source], SPLITS.index(chosen[i]))
        for i in group if len(latest) > 1 else ():
            if any(
                last > SPLITS.index(chosen[i]) for name, last in latest.items() if name != photos[i].source
            ):
                kept[i] = ""
    return kept


def contradictions(photos: Sequence[Photo], pairs: Pairs) -> list[str]:
    """Describe each pair of near-duplicates from two sources with different labels, of N photos with their splits."""
    found = []
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        a, b = photos[first], photos[second]
        if a.source != b.source and a.label != b.label:
            found.append(f"{a.path} ({a.label}) and {b.path} ({b.label})")
    return found


def by_group(photos: Sequence[Photo]) -> dict[str, list[int]]:
    """Return the numbers of the photos of each group."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, photo in enumerate(photos):
        groups[photo.group].append(i)
    return groups


def alone(photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos, each in a group of its own."""
    return [replace(photo, group=photo.path) for photo in photos]

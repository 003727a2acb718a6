import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_classification_trash.data import splits
from image_classification_trash.data.manifest import SPLITS, Photo, with_splits
from image_classification_trash.data.splits import Fractions
from image_classification_trash.errors import DatasetError

FRACTIONS = Fractions(0.15, 0.15)
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=40)


def photos_of(rows: list[tuple[str, int]]) -> list[Photo]:
    return [Photo(f"{n:03}.jpg", label, "", f"{group:05}", "", 9, 9) for n, (label, group) in enumerate(rows)]


def singles(label: str, count: int, split: str = "") -> list[Photo]:
    return [
        Photo(f"{label}{split}{n}.jpg", label, split, f"{label}{split}{n}", "", 9, 9) for n in range(count)
    ]


@given(rows=ROWS, seed=st.integers(0, 99), method=st.sampled_from([splits.grouped, splits.stratified]))
def test_every_photo_gets_one_part_whatever_the_order(rows, seed, method) -> None:  # type: ignore[no-untyped-def]
    photos = photos_of(rows)
    parts = method(photos, FRACTIONS, seed)
    assert set(parts) == {photo.path for photo in photos}
    assert set(parts.values()) <= set(SPLITS)
    assert method(photos, FRACTIONS, seed) == parts
    assert method(random.Random(seed).sample(photos, len(photos)), FRACTIONS, seed) == parts


@given(rows=ROWS, seed=st.integers(0, 99))
def test_grouped_never_splits_a_group(rows: list[tuple[str, int]], seed: int) -> None:
    photos = photos_of(rows)
    parts = splits.grouped(photos, FRACTIONS, seed)
    parts_of: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        parts_of[photo.group].add(parts[photo.path])
    assert all(len(found) == 1 for found in parts_of.values())
    folds = splits.grouped_folds(photos, 3, seed)
    assert len({(p.group, fold) for p, fold in zip(photos, folds, strict=True)}) == len(parts_of)


@given(
    rows=ROWS,
    extra=st.integers(3, 9),
    seed=st.integers(0, 99),
    val=st.floats(0.01, 0.49),
    test=st.floats(0.01, 0.49),
)
def test_a_class_with_three_single_photos_is_in_every_part(  # type: ignore[no-untyped-def]
    rows, extra, seed, val, test
) -> None:
    photos = photos_of(rows) + singles("z", extra)
    parted = with_splits(photos, splits.grouped(photos, Fractions(val, test), seed))
    assert {photo.split for photo in parted if photo.label == "z"} == set(SPLITS)
    assert splits.missing_classes(parted, ["z"]) == []


@pytest.mark.parametrize("method", [splits.grouped, splits.stratified])
def test_parts_have_the_sizes_asked_for(method) -> None:  # type: ignore[no-untyped-def]
    photos = singles("a", 100) + singles("b", 40)
    counts = Counter((p.label, p.split) for p in with_splits(photos, method(photos, FRACTIONS, 0)))
    assert [counts["a", split] for split in SPLITS] == [70, 15, 15]
    assert [counts["b", split] for split in SPLITS] == [28, 6, 6]


def test_another_seed_gives_another_split() -> None:
    photos = singles("a", 30)
    assert splits.stratified(photos, FRACTIONS, 0) != splits.stratified(photos, FRACTIONS, 1)


def test_official_keeps_what_is_given_and_takes_a_missing_part_from_train() -> None:
    photos = singles("a", 20, "train") + singles("a", 5, "test")
    parts = splits.official(photos, FRACTIONS, 0)
    counts = Counter(parts.values())
    assert counts == {"train": 17, "val": 3, "test": 5}
    assert all(parts[photo.path] == "test" for photo in photos if photo.split == "test")


@pytest.mark.parametrize(
    ("photos", "found"),
    [
        (singles("a", 3, "train") + singles("a", 2), "2 of 5 photos have no split, such as a0.jpg"),
        (singles("a", 3, "test"), "defines no train split"),
    ],
)
def test_official_refuses_an_incomplete_split(photos: list[Photo], found: str) -> None:
    with pytest.raises(DatasetError, match=found) as caught:
        splits.official(photos, FRACTIONS, 0)
    assert "--split grouped" in caught.value.hint


@pytest.mark.parametrize(
    ("photos", "found", "hint"),
    [
        ([], "No usable photo is left", "warnings above"),
        (singles("a", 9), "All 9 usable photos are of one class, 'a'", "at least two classes"),
        (singles("a", 9) + singles("b", 1), r"Too few usable photos in: 'b' \(1\)", "Add photos, or remove"),
    ],
)
def test_data_that_cannot_train_a_classifier_is_refused(photos: list[Photo], found: str, hint: str) -> None:
    with pytest.raises(DatasetError, match=found) as caught:
        splits.check_classes(photos)
    assert hint in caught.value.hint


def test_no_class_is_called_as_the_answer_below_the_threshold() -> None:
    for name in ("unsure", "Unsure"):
        photos = [Photo(f"{i}.jpg", "a" if i % 2 else name, "", "", str(i), 1, 1) for i in range(6)]
        with pytest.raises(DatasetError, match=f"A class is called '{name}'"):
            splits.check_classes(photos)


def test_groups_of_the_source_in_several_splits_are_told_of() -> None:
    photos = singles("a", 2, "train") + singles("b", 2, "test")
    stated = {photo.path: group for photo, group in zip(photos, ("one", "two", "two", "three"), strict=True)}
    (said,) = splits.torn_groups(photos, stated)
    assert said.startswith("1 of the source's 3 groups have photos in several splits, such as 'two'")
    assert not splits.torn_groups(photos, {photos[0].path: "one", photos[3].path: "three"})


def test_labels_that_are_likely_one_class_are_told_of() -> None:
    assert splits.alike(["glass", "metal", "food waste", "x-y", "x y"]) == [
        "'x y', 'x-y' are different classes: rename one if they are the same."
    ]
    (said,) = splits.alike(["Glass", "glass", "glass", "GLASS ", "paper"])
    assert said.startswith("'GLASS ', 'Glass', 'glass' are different classes")
    (said,) = splits.alike(["glass", "glass\u200b"])  # a joiner without a width
    assert said.startswith(r"'glass', 'glass\u200b' are different")
    assert splits.alike(["food waste", "Food_Waste"]) and not splits.alike(["été", "ete"])


def test_a_class_with_too_few_photos_may_be_another_in_other_letters() -> None:
    photos = [Photo(f"{i}.jpg", "a" if i else "A", "", "", str(i), 1, 1) for i in range(5)]
    with pytest.raises(DatasetError) as caught:
        splits.check_classes(photos)
    assert "'A', 'a' are different classes" in caught.value.hint


def test_a_part_that_lacks_a_class_is_told_of() -> None:
    assert splits.missing_classes(singles("a", 2, "train"), ["a"]) == [
        "no photo of 'a' is in val",
        "no photo of 'a' is in test",
    ]

import math

import numpy as np
import numpy.typing as npt
import pytest

from image_classification_trash import nearest_neighbours
from image_classification_trash.data import near_duplicates
from image_classification_trash.data.manifest import Overlap, Photo
from image_classification_trash.data.near_duplicates import (
    MOST_LISTED,
    PAIR_COLUMNS,
    Pairs,
    find_near_duplicates,
    group_names,
    overlap,
    pair_rows,
)


def photos(*rows: tuple[str, str]) -> list[Photo]:
    """Photos 0.jpg, 1.jpg, ... of `(split, group)`."""
    return [Photo(f"{n}.jpg", "a", split, group, "", 1, 1) for n, (split, group) in enumerate(rows)]


def pairs_of(*pairs: tuple[int, int]) -> Pairs:
    """Pairs of photos, all with a cosine of 0.9 and 3 differing bits."""
    first, second = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    return Pairs(first, second, np.full(len(pairs), 0.9, np.float32), np.full(len(pairs), 3, np.int16))


def found(hashes: list[int], embeddings: npt.NDArray[np.float32] | None) -> list[tuple[int, int]]:
    """Indices of the listed pairs."""
    pairs = find_near_duplicates(hashes, embeddings).pairs
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def objects(count: int, views: int, noise: float) -> npt.NDArray[np.float32]:
    """Embeddings (count x views, 64) of objects; views of one object lie close together, objects far apart."""
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(count, 64)), views, axis=0)
    return (centres + noise * generator.normal(size=centres.shape)).astype(np.float32)


def test_hashes_alone_must_agree_closely() -> None:
    pairs = find_near_duplicates([0, 0b111111, 0b1111111 << 20], None).pairs
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.hash_distance.tolist()) == ([0], [1], [6])
    assert math.isnan(pairs.similarity[0])


def test_embeddings_find_what_hashes_miss_and_veto_what_hashes_mistake() -> None:
    far = 2**64 - 1
    embeddings = np.array([[1, 0], [2, 0.1], [0, 1]], dtype=np.float32)
    assert found([0, far, 0], embeddings) == [(0, 1)]


def test_a_loose_hash_counts_where_embeddings_nearly_agree() -> None:
    angle = math.acos(0.7)
    embeddings = np.array([[1, 0], [math.cos(angle), math.sin(angle)]], dtype=np.float32)
    assert found([0, 0b1111111111], embeddings) == [(0, 1)]
    assert found([0, 0b11111111111], embeddings) == []


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [int(n) for n in np.random.default_rng(0).integers(0, 2**8, 40)]
    whole = found(hashes, None)
    monkeypatch.setattr(near_duplicates, "_CHUNK", 7)
    assert found(hashes, None) == whole


def test_frames_of_a_static_camera_list_their_nearest_and_stay_one_group() -> None:
    frames = objects(1, 300, 0.05)
    near = find_near_duplicates([0] * 300, frames)
    assert len(near.pairs) < 300 * MOST_LISTED
    assert len(set(group_names(photos(*[("", "")] * 300), near.component))) == 1


@pytest.mark.parametrize("flat_up_to", [nearest_neighbours.FLAT_UP_TO, 0])
def test_many_photos_are_found_by_their_nearest_as_by_comparing_all(
    flat_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, hashes = objects(400, 3, 0.3), list(range(0, 1200 << 20, 1 << 20))
    exact = find_near_duplicates(hashes, embeddings)
    monkeypatch.setattr(near_duplicates, "EXACT_UP_TO", 0)
    monkeypatch.setattr(nearest_neighbours, "FLAT_UP_TO", flat_up_to)
    nearest = find_near_duplicates(hashes, embeddings)
    assert len(exact.pairs) >= 1200
    np.testing.assert_array_equal(nearest.pairs.first, exact.pairs.first)
    np.testing.assert_array_equal(nearest.pairs.second, exact.pairs.second)
    np.testing.assert_allclose(nearest.pairs.similarity, exact.pairs.similarity, atol=1e-5)
    unnamed = photos(*[("", "")] * 1200)
    assert group_names(unnamed, nearest.component) == group_names(unnamed, exact.component)


def test_only_more_photos_than_can_be_compared_get_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    reduced = objects(100, 1, 0.3)
    monkeypatch.setattr(nearest_neighbours, "FLAT_UP_TO", 100)
    assert not hasattr(nearest_neighbours.index_of(reduced), "nlist")
    monkeypatch.setattr(nearest_neighbours, "FLAT_UP_TO", 99)
    assert nearest_neighbours.index_of(reduced).nlist == 10


def test_many_photos_without_embeddings_are_found_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    base = generator.integers(0, 2**63, 500, dtype=np.uint64)
    flipped = base ^ np.uint64(0b100001000010000100001000010)  # six bits
    hashes = [int(n) for n in np.concatenate([base, flipped, base])]
    unnamed = photos(*[("", "")] * 1500)
    exact = group_names(unnamed, find_near_duplicates(hashes, None).component)
    monkeypatch.setattr(near_duplicates, "EXACT_UP_TO", 0)
    assert group_names(unnamed, find_near_duplicates(hashes, None).component) == exact


def test_groups_join_chains_and_given_groups() -> None:
    given = photos(("", ""), ("", "x"), ("", ""), ("", "x"), ("", ""))
    assert group_names(given, np.array([0, 0, 1, 1, 2])) == ["00000", "00000", "00000", "00000", "00001"]
    assert group_names(photos(("", ""), ("", "")), np.array([4, 3])) == ["00000", "00001"]


def test_overlap_counts_photos_with_a_twin_in_train() -> None:
    parted = photos(("train", ""), ("val", ""), ("test", ""), ("test", ""))
    report = overlap(parted, pairs_of((0, 1), (1, 2), (0, 3)))
    assert report["val"] == Overlap(photos=1, with_near_duplicate_in_train=1, share=1.0)
    assert report["test"] == Overlap(photos=2, with_near_duplicate_in_train=1, share=0.5)
    assert overlap([], pairs_of())["val"].share == 0.0


def test_the_table_names_both_photos() -> None:
    (row,) = pair_rows(photos(("train", ""), ("test", "")), pairs_of((0, 1)))
    named = dict(zip(PAIR_COLUMNS, row, strict=True))
    assert (named["path_1"], named["split_1"], named["path_2"], named["split_2"]) == (
        "0.jpg",
        "train",
        "1.jpg",
        "test",
    )
    assert (named["similarity"], named["hash_distance"]) == (0.9, 3)

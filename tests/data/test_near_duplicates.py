import csv
import io
import math

import numpy as np
import pytest

from image_classification_trash.data import near_duplicates
from image_classification_trash.data.manifest import Overlap, Photo
from image_classification_trash.data.near_duplicates import Pair, find_pairs, group_names, overlap, pairs_csv


def photos(*rows: tuple[str, str]) -> list[Photo]:
    """Photos 0.jpg, 1.jpg, ... of `(split, group)`."""
    return [Photo(f"{n}.jpg", "a", split, group, "", 1, 1) for n, (split, group) in enumerate(rows)]


def test_hashes_alone_must_agree_closely() -> None:
    pairs = find_pairs([0, 0b111111, 0b1111111 << 20], None)
    assert [(p.first, p.second, p.hash_distance) for p in pairs] == [(0, 1, 6)]
    assert math.isnan(pairs[0].similarity)


def test_embeddings_find_what_hashes_miss_and_veto_what_hashes_mistake() -> None:
    far = 2**64 - 1
    embeddings = np.array([[1, 0], [2, 0.1], [0, 1]], dtype=np.float32)
    assert [(p.first, p.second) for p in find_pairs([0, far, 0], embeddings)] == [(0, 1)]


def test_a_loose_hash_counts_where_embeddings_nearly_agree() -> None:
    angle = math.acos(0.7)
    embeddings = np.array([[1, 0], [math.cos(angle), math.sin(angle)]], dtype=np.float32)
    assert len(find_pairs([0, 0b1111111111], embeddings)) == 1
    assert find_pairs([0, 0b11111111111], embeddings) == []


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [int(n) for n in np.random.default_rng(0).integers(0, 2**8, 40)]
    whole = [(p.first, p.second) for p in find_pairs(hashes, None)]
    monkeypatch.setattr(near_duplicates, "_CHUNK", 7)
    assert [(p.first, p.second) for p in find_pairs(hashes, None)] == whole


def test_groups_join_chains_and_given_groups() -> None:
    given = photos(("", ""), ("", "x"), ("", ""), ("", "x"), ("", ""))
    names = group_names(given, [Pair(0, 1, 0.9, 3), Pair(2, 3, 0.9, 3)])
    assert names == ["00000", "00000", "00000", "00000", "00001"]
    assert group_names(photos(("", ""), ("", "")), []) == ["00000", "00001"]


def test_overlap_counts_photos_with_a_twin_in_train() -> None:
    parted = photos(("train", ""), ("val", ""), ("test", ""), ("test", ""))
    report = overlap(parted, [Pair(0, 1, 0.9, 3), Pair(1, 2, 0.9, 3), Pair(0, 3, 0.9, 3)])
    assert report["val"] == Overlap(photos=1, with_near_duplicate_in_train=1, share=1.0)
    assert report["test"] == Overlap(photos=2, with_near_duplicate_in_train=1, share=0.5)
    assert overlap([], [])["val"].share == 0.0


def test_the_table_names_both_photos() -> None:
    text = pairs_csv(photos(("train", ""), ("test", "")), [Pair(0, 1, 0.9, 3)])
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["path_1"], row["split_1"], row["path_2"], row["split_2"]) == (
        "0.jpg",
        "train",
        "1.jpg",
        "test",
    )
    assert (row["similarity"], row["hash_distance"]) == ("0.9", "3")

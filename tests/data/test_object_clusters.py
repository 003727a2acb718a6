"""Object clusters: clusters of embeddings, which the split method `object-clusters` keeps whole."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.data.manifest import Photo
from image_classification_trash.data.object_clusters import CLUSTERS_PER_CLASS, grouped_by_object
from image_classification_trash.errors import DatasetError

MakeTree = Callable[..., Path]
Vectors = np.ndarray[Any, np.dtype[np.float32]]


def photos_of(kinds: Sequence[tuple[str, int]], groups: Sequence[str] | None = None) -> list[Photo]:
    names = groups or [f"{n:05d}" for n in range(len(kinds))]
    return [
        Photo(path=f"{label}/{n}.jpg", label=label, split="", group=group, sha256=str(n), height=9, width=9)
        for n, ((label, _), group) in enumerate(zip(kinds, names, strict=True))
    ]


def around(kinds: Sequence[tuple[str, int]], seed: int = 0) -> Vectors:
    """Embeddings near one point for each kind."""
    rng = np.random.default_rng(seed)
    middles = {kind: rng.normal(size=32) for kind in dict.fromkeys(kinds)}
    return np.stack([middles[kind] + rng.normal(0, 0.01, 32) for kind in kinds]).astype(np.float32)


LISTED = [(label, kind) for label in "ab" for kind in range(CLUSTERS_PER_CLASS) for _ in range(4)]


def test_photos_that_lie_together_are_of_one_kind() -> None:
    found = grouped_by_object(photos_of(LISTED), around(LISTED), 0)
    named = dict(zip(LISTED, (photo.group for photo in found), strict=True))
    assert len(set(named.values())) == 2 * CLUSTERS_PER_CLASS
    assert [photo.group for photo in found] == [named[kind] for kind in LISTED]


def test_near_duplicates_are_of_one_kind_wherever_they_lie() -> None:
    groups = [f"{n:05d}" for n in range(len(LISTED))]
    groups[-1] = groups[0]  # of another class, far away
    found = grouped_by_object(photos_of(LISTED, groups), around(LISTED), 0)
    assert found[-1].group == found[0].group != found[-2].group


def test_few_photos_are_as_many_kinds() -> None:
    few = [("a", 0), ("a", 1), ("b", 0)]
    assert len({photo.group for photo in grouped_by_object(photos_of(few), around(few), 0)}) == 3


@pytest.mark.filterwarnings("error")
def test_photos_that_embed_alike_are_one_kind() -> None:
    same = [("a", 0)] * 5 + [("b", 0)] * 5
    vectors = np.repeat(np.eye(2, 32, dtype=np.float32), 5, axis=0)
    assert len({photo.group for photo in grouped_by_object(photos_of(same), vectors, 0)}) == 2


def settings(tmp_path: Path, source: Path) -> DataSettings:
    return DataSettings(name="mine", source=source, split="object-clusters", data_dir=tmp_path / "data")


def test_the_split_shows_kinds_in_one_part_alone(make_tree: MakeTree, tmp_path: Path) -> None:
    root = make_tree({"a": 4 * CLUSTERS_PER_CLASS, "b": 4 * CLUSTERS_PER_CLASS})
    kinds = {}

    def embed(photos: Sequence[Photo], root: Path) -> Vectors:
        of_each = [(photo.label, int(Path(photo.path).stem) % CLUSTERS_PER_CLASS) for photo in photos]
        kinds.update({photo.path: kind for photo, kind in zip(photos, of_each, strict=True)})
        rng = np.random.default_rng(1)  # near enough for one kind, too far for near-duplicates
        return around(of_each) + rng.normal(0, 0.6, (len(photos), 32)).astype(np.float32)

    manifest = make_dataset(settings(tmp_path, root), embed).manifest
    assert manifest.metadata.split.method == "object-clusters"
    assert all(count for part in manifest.counts().values() for count in part.values())
    parts = {(kinds[photo.path], photo.split) for photo in manifest.photos}
    assert len(parts) == len(set(kinds.values()))


def test_without_embeddings_there_are_no_kinds(make_tree: MakeTree, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="embeddings") as caught:
        make_dataset(settings(tmp_path, make_tree({"a": 6, "b": 6})))
    assert "--no-embeddings" in caught.value.hint
    assert not (tmp_path / "data" / "processed").exists()

import csv
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data import make_dataset as module
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.data.manifest import SPLITS, Photo, read_manifest
from image_classification_trash.errors import ArchiveError, DatasetError, OutputError

MakeTree = Callable[..., Path]
Settings = Callable[..., DataSettings]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that keep everything below tmp_path."""

    def make(source: Path | None, name: str = "mine", **values: Any) -> DataSettings:
        return DataSettings(name=name, source=source, data_dir=tmp_path / "data", **values)

    return make


def test_a_folder_becomes_a_table_and_a_view(make_tree: MakeTree, settings: Settings) -> None:
    root = make_tree({"altes Papier": 10, "plástico 紙": 8})
    shutil.copy(root / "altes Papier" / "0.jpg", root / "plástico 紙" / "copy.jpg")
    prepared = make_dataset(settings(root))
    assert prepared.manifest.labels == ("altes Papier", "plástico 紙")
    assert len(prepared.manifest.photos) == 17
    assert prepared.manifest.metadata.problems == {"two_labels": 2}
    with (prepared.folder / "problems.csv").open(encoding="utf-8", newline="") as file:
        assert {row["kind"] for row in csv.DictReader(file)} == {"two_labels"}
    for photo in prepared.manifest.photos:
        view = prepared.folder / photo.split / photo.label / f"{photo.sha256[:8]}-{Path(photo.path).name}"
        assert view.is_symlink() and view.resolve() == (root / photo.path).resolve()
    assert sorted(entry.name for entry in prepared.folder.parent.iterdir()) == ["mine"]


def test_the_same_photos_and_seed_give_the_same_bytes(make_tree: MakeTree, settings: Settings) -> None:
    root = make_tree({"a": 12, "b": 12})
    tables = [
        (make_dataset(settings(root, name, seed=seed)).folder / "manifest.csv").read_bytes()
        for name, seed in (("one", 3), ("two", 3), ("three", 4))
    ]
    assert tables[0] == tables[1] != tables[2]


def test_a_second_run_does_nothing_until_something_changes(make_tree: MakeTree, settings: Settings) -> None:
    root = make_tree({"a": 5, "b": 5})
    assert not make_dataset(settings(root)).done_before
    assert make_dataset(settings(root)).done_before
    assert not make_dataset(settings(root, force=True)).done_before
    os.utime(root / "a" / "0.jpg", ns=(1, 1))
    assert not make_dataset(settings(root)).done_before
    shutil.copy(root / "a" / "0.jpg", root / "a" / "new.jpg")
    again = make_dataset(settings(root))
    assert not again.done_before and again.manifest.metadata.problems == {"duplicate": 1}
    assert not make_dataset(settings(root, seed=1)).done_before
    (again.folder / "manifest.csv").unlink()
    assert not make_dataset(settings(root, seed=1)).done_before


@pytest.mark.parametrize("where", ["audit_source", "_write_view"])
def test_a_failure_in_the_middle_leaves_the_old_data_set(
    make_tree: MakeTree, settings: Settings, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    root = make_tree({"a": 5, "b": 5})
    before = make_dataset(settings(root))
    table = (before.folder / "manifest.csv").read_bytes()

    def full_disk(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, where, full_disk)
    with pytest.raises(OSError, match="No space left"):
        make_dataset(settings(root, seed=9))
    assert (before.folder / "manifest.csv").read_bytes() == table
    assert read_manifest(before.folder).fingerprint == before.manifest.fingerprint
    assert [entry.name for entry in before.folder.parent.iterdir()] == ["mine"]


def test_folders_named_after_parts_are_the_official_split(make_tree: MakeTree, settings: Settings) -> None:
    parts = {f"{split}/{label}": 4 for split in SPLITS for label in "ab"}
    prepared = make_dataset(settings(make_tree(parts)))
    assert prepared.manifest.metadata.split.method == "official"
    assert all(photo.path.startswith(f"{photo.split}/") for photo in prepared.manifest.photos)


@pytest.mark.parametrize(
    ("split", "method"), [("auto", "grouped"), ("grouped", "grouped"), ("stratified",) * 2]
)
def test_the_method_is_recorded(make_tree: MakeTree, settings: Settings, split: str, method: str) -> None:
    prepared = make_dataset(settings(make_tree({"a": 10, "b": 10}), split=split))
    assert prepared.manifest.metadata.split.method == method
    assert all(count for part in prepared.manifest.counts().values() for count in part.values())


def test_a_partial_split_is_not_taken_in_silence(
    make_tree: MakeTree, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_tree({"a": 6, "b": 6})
    lines = [f"{label}/{n}.jpg,{label},{'train' if n < 3 else ''}" for label in "ab" for n in range(6)]
    (root / "list.csv").write_text("\n".join(["filepath,label,split", *lines]))
    prepared = make_dataset(settings(root / "list.csv"))
    assert prepared.manifest.metadata.split.method == "grouped"
    assert "6 of 12 photos have no split" in caplog.text


def test_splits_that_the_source_does_not_name_are_not_made_in_silence(
    make_tree: MakeTree, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_tree({f"{split}/{label}": 9 for split in ("train", "test") for label in "ab"})
    assert make_dataset(settings(root)).manifest.counts()["val"]["a"]
    assert "the source names no photos of val, so some of train are taken, at random" in caplog.text


def test_groups_of_a_csv_that_its_own_splits_tear_are_said(
    make_tree: MakeTree, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_tree({"a": 6, "b": 6})
    lines = [f"{c}/{n}.jpg,{c},{SPLITS[n % 3]},{'bin 1' if n < 2 else ''}" for c in "ab" for n in range(6)]
    (root / "list.csv").write_text("\n".join(["filepath,label,split,group", *lines]))
    make_dataset(settings(root / "list.csv"))
    assert (
        "official: 1 of the source's 1 groups have photos in several splits, such as 'bin 1'" in caplog.text
    )


def test_what_is_left_out_of_a_refused_data_set_is_not_in_a_table(
    make_tree: MakeTree, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_tree({"a": 8, "b": 8})
    for photo in root.rglob("*.jpg"):
        photo.write_bytes(b"no photo")
    with pytest.raises(DatasetError, match="No usable photo is left"):
        make_dataset(settings(root))
    assert "left out 6 more (unreadable)" in caplog.text and "table" not in caplog.text


def test_names_as_long_as_a_file_system_allows_are_linked_to(
    make_tree: MakeTree, settings: Settings, tmp_path: Path
) -> None:
    root = make_tree({"a": 3, "b": 3})
    (root / "a/0.jpg").rename(root / "a" / f"{'é' * 125}.jpg")
    labels = {"a": "glass" * 60, "b": "é" * 300}
    rows = [f"{file.relative_to(root)},{labels[file.parent.name]}" for file in sorted(root.rglob("*.jpg"))]
    (root / "t.csv").write_text("\n".join(["filepath,label", *rows]), encoding="utf-8")
    prepared = make_dataset(settings(root / "t.csv"))
    assert prepared.manifest.labels == (labels["a"], labels["b"])
    links = {path.resolve() for path in prepared.folder.rglob("*") if path.is_symlink()}
    assert links == {path.resolve() for path in root.rglob("*.jpg")}


def test_the_authors_lists_bind_only_their_own_split(make_tree: MakeTree, settings: Settings) -> None:
    root = make_tree({"glass": 6, "paper": 6})
    assert len(make_dataset(settings(root, "trashnet", split="grouped")).manifest.photos) == 12
    with pytest.raises(DatasetError, match="No usable photo"):
        make_dataset(settings(root, "trashnet", split="official"))


def test_near_duplicates_by_embeddings_stay_together(make_tree: MakeTree, settings: Settings) -> None:
    def embed(photos: Sequence[Photo], root: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
        vectors = np.eye(len(photos), dtype=np.float32)
        vectors[1] = vectors[0]
        return vectors

    prepared = make_dataset(settings(make_tree({"a": 10, "b": 10})), embed)
    first, second = prepared.manifest.photos[:2]
    assert (first.group, first.split) == (second.group, second.split)
    assert prepared.manifest.metadata.near_duplicates.pairs == 1


def test_a_zip_is_unpacked_once_beside_its_checksum(
    make_tree: MakeTree, settings: Settings, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "x"), "zip", make_tree({"a": 4, "b": 4})))
    prepared = make_dataset(settings(archive))
    assert prepared.manifest.root.parent == (tmp_path / "data" / "raw" / "mine").resolve()
    assert make_dataset(settings(archive)).done_before
    (tmp_path / "text.zip").write_text("Dear reader")
    with pytest.raises(ArchiveError, match="is not a zip file"):
        make_dataset(settings(tmp_path / "text.zip"))


def test_a_folder_that_is_no_data_set_is_not_replaced(
    make_tree: MakeTree, settings: Settings, tmp_path: Path
) -> None:
    theirs = tmp_path / "data/processed/mine"
    theirs.mkdir(parents=True)
    (theirs / "letters.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"mine holds other files, such as letters\.txt"):
        make_dataset(settings(make_tree({"a": 4, "b": 4})))
    assert [file.name for file in theirs.parent.rglob("*")] == ["mine", "letters.txt"]


def test_labels_of_a_csv_cannot_lead_out_of_the_view(
    make_tree: MakeTree, settings: Settings, tmp_path: Path
) -> None:
    root = make_tree({"a": 3, "b": 3})
    labels = {"a": "../../../escaped", "b": ".."}
    rows = [f"{file.relative_to(root)},{labels[file.parent.name]}" for file in sorted(root.rglob("*.jpg"))]
    (root / "t.csv").write_text("\n".join(["filepath,label", *rows]))
    prepared = make_dataset(settings(root / "t.csv"))
    assert prepared.manifest.labels == ("..", "../../../escaped")
    links = [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert len(links) == 6
    assert {link.relative_to(prepared.folder).parts[0] for link in links} <= set(SPLITS)


@pytest.mark.parametrize(
    ("counts", "found", "hint"),
    [
        ({}, "No photos were found in", "folder named after the class"),
        ({"a": 4}, "All 4 usable photos are of one class, 'a'", "at least two classes"),
        ({"a": 4, "b": 1}, "Too few usable photos in: 'b' (1)", "Add photos, or remove the class"),
    ],
)
def test_too_little_data_is_refused_and_nothing_is_written(
    make_tree: MakeTree, settings: Settings, tmp_path: Path, counts: dict[str, int], found: str, hint: str
) -> None:
    root = make_tree(counts)
    root.mkdir(exist_ok=True)
    with pytest.raises(DatasetError) as caught:
        make_dataset(settings(root))
    assert found in caught.value.found and hint in caught.value.hint
    assert not (tmp_path / "data" / "processed").exists()


def test_a_name_without_a_source_says_how_to_give_one(settings: Settings) -> None:
    with pytest.raises(DatasetError, match="'mine' is not a data set that can be downloaded") as caught:
        make_dataset(settings(None))
    assert "trash-classifier data mine --source FOLDER" in caught.value.hint


@pytest.mark.slow
def test_trashnet_is_cleared_of_its_contradictory_photos(trashnet_zip: Path, settings: Settings) -> None:
    manifest = make_dataset(settings(trashnet_zip, "trashnet")).manifest
    assert len(manifest.photos) == 2521
    assert [len(manifest.photos_of(split)) for split in SPLITS] == [1764, 327, 430]
    folder = settings(None, "trashnet").processed_dir / "trashnet"
    with (folder / "problems.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(Path(row["path"]).stem, row["kind"]) for row in rows} == {
        (name, "two_labels")
        for name in ("glass115", "metal91", "glass176", "plastic152", "glass389", "plastic332")
    }

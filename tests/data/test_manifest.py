import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_classification_trash.data.manifest import (
    CorrectionsMade,
    Manifest,
    Metadata,
    NearDuplicates,
    Overlap,
    Photo,
    SplitMade,
    manifest_csv,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from image_classification_trash.errors import DatasetError

# What a source can bring: no control characters, line separators or lone surrogates (sources.py refuses these).
TEXT = st.text(st.characters(exclude_categories=("Cc", "Zl", "Zp", "Cs")), min_size=1) | st.sampled_from(
    ['a, "b"', "''", "'\"", "紙 箱", "=1+1", " x ", ",", '"']
)
PHOTOS = st.lists(
    st.builds(
        Photo,
        TEXT,
        TEXT,
        st.sampled_from(("train", "val", "test")),
        TEXT,
        TEXT,
        st.integers(8),
        st.integers(8),
    ),
    unique_by=lambda photo: photo.path,
)

METADATA = Metadata(
    split=SplitMade("grouped", 0, 0.14, 0.16),
    problems={"duplicate": 2},
    near_duplicates=NearDuplicates("perceptual hash alone", 1, 2, {"val": Overlap(1, 1, 1.0)}),
    key="k",
    corrections=CorrectionsMade("mine.csv", "c" * 64, {"exclude": 1}, 3),
)
MANIFEST_OF_ONE = Manifest(
    "mine", Path("nowhere"), (Photo("a.jpg", "glass", "train", "0", "f" * 64, 9, 8),), ("glass",), METADATA
)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A data set of three photos below tmp_path/raw."""
    folder = tmp_path / "processed" / "mine"
    folder.mkdir(parents=True)
    (tmp_path / "raw").mkdir()
    photos = tuple(
        Photo(f"ä, {n}.jpg", label, split, "0", "f" * 64, 9, 8)
        for n, (label, split) in enumerate([("é", "train"), ("b", "val"), ("b", "test")])
    )
    write_manifest(folder, Manifest("mine", tmp_path / "raw", photos, ("b", "é"), METADATA), final=folder)
    return folder


@given(PHOTOS)
def test_the_table_survives_a_round_trip(photos: list[Photo]) -> None:
    text = manifest_csv(photos)
    assert parse_manifest(text) == sorted(photos, key=lambda photo: photo.path)
    assert manifest_csv(photos[::-1]) == text


def test_a_data_set_is_read_as_it_was_written(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    assert (manifest.name, manifest.labels, manifest.metadata) == ("mine", ("b", "é"), METADATA)
    assert manifest.path_of(manifest.photos[0]) == prepared.parents[1].resolve() / "raw" / "ä, 0.jpg"
    assert [photo.label for photo in manifest.photos_of("val")] == ["b"]
    assert manifest.counts()["train"] == {"b": 0, "é": 1}


def test_a_data_set_can_move_together_with_its_photos(prepared: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("raw", "processed"):
        (tmp_path / name).rename(moved / name)
    assert read_manifest(moved / "processed" / "mine").root == (moved / "raw").resolve()


def test_a_manifest_that_was_read_is_written_with_its_own_fingerprint(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    changed = replace(manifest, photos=tuple(replace(photo, split="train") for photo in manifest.photos))
    write_manifest(prepared, changed, final=prepared)
    assert read_manifest(prepared).fingerprint == changed.fingerprint


def test_the_order_of_the_rows_does_not_matter(prepared: Path) -> None:
    before = read_manifest(prepared)
    file = prepared / "manifest.csv"
    header, *rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([header, *reversed(rows)]), encoding="utf-8")
    assert read_manifest(prepared).photos == before.photos


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ('"b",', "", "its labels are not those of its photos"),
        ('"b",', '"b", "b",', "its labels are not those of its photos"),
        ('"seed": ', '"seed": NaN, "extra": ', "it has a number that is not finite: NaN"),
        ('"seed": ', '"seed": 1e999, "extra": ', "it has a number that is not finite: 1e999"),
    ],
)
def test_an_edited_description_is_refused(prepared: Path, before: str, after: str, found: str) -> None:
    file = prepared / "dataset.json"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(DatasetError, match=found):
        read_manifest(prepared)


def test_an_edited_table_is_refused(prepared: Path) -> None:
    file = prepared / "manifest.csv"
    file.write_text(file.read_text(encoding="utf-8").replace(",val,", ",train,"), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"manifest\.csv was changed after it was written") as caught:
        read_manifest(prepared)
    assert "trash-classifier data mine --force" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.csv", b"path,label\n"),
        ("manifest.csv", b"path,label,split,group,sha256,width,height\na,b,train,0,f\n"),
        ("manifest.csv", b"path,label,split,group,sha256,width,height\na,b,train,0,f,wide,1\n"),
        ("manifest.csv", b"\xff\xfe"),
        (
            "manifest.csv",
            b"path,label,split,group,sha256,width,height\n" + b"a" * 200_000 + b",b,train,0,f,1,1\n",
        ),
        ("dataset.json", b"{"),
        ("dataset.json", b"[]"),
        ("dataset.json", b"{}"),
        ("dataset.json", json.dumps({"name": "x", "root": ".", "labels": ["a"]}).encode()),
    ],
)
def test_damaged_files_are_refused(prepared: Path, name: str, content: bytes) -> None:
    (prepared / name).write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read") as caught:
        read_manifest(prepared)
    assert str(prepared) in caught.value.found
    assert "--force" in caught.value.hint


def test_a_data_set_that_was_never_prepared_says_how(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no prepared data set in") as caught:
        read_manifest(tmp_path / "mine")
    assert caught.value.hint == "Prepare it with: trash-classifier data mine --source FOLDER"
    for typed, meant in (("yards", "yard"), ("sampel", "sample")):
        (tmp_path / "yard").mkdir(exist_ok=True)
        (tmp_path / "yard" / "manifest.csv").touch()
        with pytest.raises(DatasetError) as caught:
            read_manifest(tmp_path / typed)
        assert caught.value.hint.startswith(f"Did you mean '{meant}'? Else prepare it: trash-classifier data")
    with pytest.raises(DatasetError) as caught:
        read_manifest(tmp_path / "trashnet")
    assert caught.value.hint == "Prepare it with: trash-classifier data trashnet"


def test_a_project_that_was_moved_finds_its_photos_inside_it_and_outside(tmp_path: Path) -> None:
    for place in ("project/data/raw", "elsewhere"):
        photos = tmp_path / place
        photos.mkdir(parents=True)
        folder = tmp_path / "project" / "data" / "processed" / "mine"
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(folder, replace(MANIFEST_OF_ONE, root=photos), folder)
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "project").rename(tmp_path / "deep" / "er" / "project")
        moved = tmp_path / "deep" / "er" / "project" / "data"
        expected = moved / "raw" if "raw" in place else photos
        assert read_manifest(moved / "processed" / "mine").root == expected.resolve()
        (tmp_path / "deep" / "er" / "project").rename(tmp_path / "project")
        (tmp_path / "deep" / "er").rmdir()
        (tmp_path / "deep").rmdir()


def test_photos_that_are_gone_are_named_with_the_command_that_helps(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    write_manifest(folder, replace(MANIFEST_OF_ONE, root=tmp_path / "gone"), folder)
    with pytest.raises(DatasetError, match="no longer where they were") as caught:
        read_manifest(folder)
    assert str(tmp_path / "gone") in caught.value.found
    assert "trash-classifier data mine --source FOLDER" in caught.value.hint

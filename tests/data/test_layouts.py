"""Folders as people have them: each is read as what it is, refused with what would settle it, and nothing is left out silently."""

import contextlib
from pathlib import Path

import pytest
from helpers.sources import everything_is_used_or_named, left_out
from hypothesis import given
from hypothesis import strategies as st

from image_classification_trash.data.layouts import Source, read_tree, split_of
from image_classification_trash.errors import DatasetError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(source: Source) -> list[tuple[str, str, str]]:
    return sorted((file.split, file.label, file.path) for file in source.files)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train ", "train"), ("training_set", "train"), ("test-images", "test"), ("val2017", "val"), ("seg_train", "train"),
        ("Validation", "val"), ("eval", "val"), ("trains", None), ("train_test", None), ("set", None), ("été", None),
    ],
)  # fmt: skip
def test_usual_names_of_splits_are_known(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_an_odd_folder_beside_splits_is_left_out_and_named(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg", "unlabeled/3.jpg", "unlabeled/4.jpg"
    )
    source = read_tree(tmp_path)
    assert rows(source) == [
        ("test", "cat", "test/cat/2.jpg"),
        ("train", "cat", "train/cat/1.jpg"),
        ("train", "dog", "train/dog/1.jpg"),
    ]
    assert left_out(source) == {"unlabeled/": "no_label"}
    assert "2 photos" in source.left_out[0].detail
    assert "splits" in source.notes[0]


def test_a_split_without_class_folders_is_left_out_beside_one_that_has_them(tmp_path: Path) -> None:
    source = read_tree(touch(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/2.jpg", "train/loose.jpg"))
    assert {file.split for file in source.files} == {"train"}
    assert left_out(source) == {"test/": "no_label", "train/loose.jpg": "no_label"}


def test_splits_that_hold_no_class_folders_are_refused_with_the_table_beside_them(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "test/2.jpg", "train.csv")
    with pytest.raises(DatasetError, match="splits without class folders") as caught:
        read_tree(tmp_path)
    assert "train/ (1 photos)" in caught.value.found
    assert f"--source {tmp_path / 'train.csv'}" in caught.value.hint


def test_classes_with_splits_inside_are_read(tmp_path: Path) -> None:
    source = read_tree(
        touch(tmp_path, "cat/train/1.jpg", "cat/test/2.jpg", "dog/train/1.jpg", "dog/valid/3.jpg")
    )
    assert [(split, label) for split, label, _ in rows(source)] == [
        ("test", "cat"), ("train", "cat"), ("train", "dog"), ("val", "dog"),
    ]  # fmt: skip


def test_places_with_the_same_classes_are_merged(tmp_path: Path) -> None:
    source = read_tree(
        touch(tmp_path, "site_a/cat/1.jpg", "site_a/dog/1.jpg", "site_b/cat/1.jpg", "site_b/dog/1.jpg")
    )
    assert [(label, path) for _, label, path in rows(source)] == [
        ("cat", "site_a/cat/1.jpg"), ("cat", "site_b/cat/1.jpg"), ("dog", "site_a/dog/1.jpg"), ("dog", "site_b/dog/1.jpg"),
    ]  # fmt: skip
    assert "merged" in source.notes[0]


def test_places_with_splits_and_classes_are_merged(tmp_path: Path) -> None:
    names = [
        f"{site}/{split}/{label}/1.jpg"
        for site in "ab"
        for split in ("train", "test")
        for label in ("x", "y")
    ]
    source = read_tree(touch(tmp_path, *names))
    assert len(source.files) == 8
    assert {(file.split, file.label) for file in source.files} == {
        (s, c) for s in ("train", "test") for c in "xy"
    }


@pytest.mark.parametrize(
    "names",
    [
        ("a/cat/1.jpg", "a/dog/1.jpg", "b/cat/1.jpg", "b/hen/1.jpg"),
        ("cat/train/1.jpg", "cat/test/1.jpg", "dog/1.jpg"),
    ],
    ids=["places that share some classes", "splits in some classes"],
)
def test_what_can_be_read_in_two_ways_is_refused_and_a_flag_settles_it(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DatasetError, match="more than one layout") as caught:
        read_tree(tmp_path)
    assert "--layout classes" in caught.value.hint
    assert f"{names[0].split('/')[1]}/ (1 photos)" in caught.value.found
    assert len(read_tree(tmp_path, "classes").files) == len(names)


def test_folders_inside_classes_are_no_classes_and_that_is_said(tmp_path: Path) -> None:
    source = read_tree(
        touch(tmp_path, "cat/persian/1.jpg", "cat/siamese/1.jpg", "dog/poodle/1.jpg", "dog/2.jpg")
    )
    assert [label for _, label, _ in rows(source)] == ["cat", "cat", "dog", "dog"]
    assert any("cat/persian" in note and "not classes of their own" in note for note in source.notes)


def test_everything_that_is_not_used_is_named_once(tmp_path: Path) -> None:
    touch(
        tmp_path, "cat/1.jpg", "dog/1.jpg", "loose.jpg", "notes.txt", ".DS_Store", "_other/1.jpg", ".git/HEAD"
    )
    touch(tmp_path, "cat/_bad/2.jpg", "cat/.hidden.jpg")
    (tmp_path / "bird").mkdir()
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "dog")
    (tmp_path / "cat" / "round").symlink_to(tmp_path)
    assert left_out(read_tree(tmp_path)) == {
        "loose.jpg": "no_label",
        "notes.txt": "not_a_photo",
        ".DS_Store": "hidden",
        "_other/": "folder",
        ".git/": "folder",
        "bird/": "empty_folder",
        "cat/_bad/": "folder",
        "cat/.hidden.jpg": "hidden",
        "cat/more/": "linked_folder",
        "cat/round/": "linked_folder",
    }


def test_what_lies_beside_a_wrapping_folder_is_named_too(tmp_path: Path) -> None:
    source = read_tree(touch(tmp_path, "dataset/cat/1.jpg", "dataset/dog/1.jpg", "README.txt", "_old/1.jpg"))
    assert left_out(source) == {"../README.txt": "not_a_photo", "../_old/": "folder"}


def test_a_class_folder_that_is_a_link_is_read(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.jpg")
    touch(tmp_path / "data", "dog/1.jpg")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    assert [(label, path) for _, label, path in rows(read_tree(tmp_path / "data"))] == [
        ("cat", "cat/1.jpg"),
        ("dog", "dog/1.jpg"),
    ]


NAMES = st.sampled_from(
    ["train", "Test ", "val_set", "cat", "dog", "site", "_x", ".git", "a.b", "été♻", "bad\nname"]
)
FILES = st.sampled_from(
    ["1.jpg", "2.PNG", "notes.txt", ".DS_Store", "odd\x07.jpg", "\udce9.jpg", "Thumbs.db"]
)
PATHS = st.lists(st.tuples(st.lists(NAMES, max_size=4), FILES), max_size=12)


@given(PATHS)
def test_every_file_is_used_or_named(
    tmp_path_factory: pytest.TempPathFactory, paths: list[tuple[list[str], str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for folders, name in paths:
        folder = root.joinpath(*folders)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with contextlib.suppress(DatasetError):
        everything_is_used_or_named(root, read_tree(root))

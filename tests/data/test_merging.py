"""Several sources become one data set, or are refused with what both have."""

import csv
import shutil
from pathlib import Path

import pytest
from helpers.photos import MakeTree

from image_classification_trash.config.data import DataSettings
from image_classification_trash.config.loader import load_settings
from image_classification_trash.data.make_dataset import Prepared, make_dataset
from image_classification_trash.errors import DatasetError


def prepare(folder: Path, *sources: Path, **values: object) -> Prepared:
    settings = DataSettings(name="mine", source=list(sources), data_dir=folder / "data", **values)
    return make_dataset(settings)


def problems(prepared: Prepared) -> dict[str, str]:
    with (prepared.folder / "problems.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["kind"] for row in csv.DictReader(file)}


def test_every_file_of_every_source_is_used_or_named(tmp_path: Path, make_tree: MakeTree) -> None:
    one, other = make_tree({"a": 5, "b": 5}, "one"), make_tree({"a": 4, "b": 4}, "other", (40, 64))
    shutil.copy(one / "a" / "0.jpg", other / "b" / "copy.jpg")
    shutil.copy(one / "a" / "1.jpg", other / "a" / "again.jpg")
    (other / "notes.txt").touch()
    (one / "loose.jpg").touch()
    prepared = prepare(tmp_path, one, other)
    used, named = {photo.path for photo in prepared.manifest.photos}, problems(prepared)
    files = {path.relative_to(tmp_path).as_posix() for root in (one, other) for path in root.rglob("*.*")}
    assert files == used | set(named) and not used & set(named)
    assert named["other/b/copy.jpg"] == named["one/a/0.jpg"] == "two_labels"
    assert named["other/a/again.jpg"] == "duplicate"
    assert named["other/notes.txt"] == "not_a_photo" and named["one/loose.jpg"] == "no_label"
    assert any("2 sources are merged" in note for note in prepared.notes)
    assert prepare(tmp_path, one, other).done_before
    assert not prepare(tmp_path, other).done_before


def test_near_duplicates_in_two_sources_stay_together(tmp_path: Path, make_tree: MakeTree) -> None:
    one, other = make_tree({"a": 6, "b": 6}, "one"), make_tree({"a": 6, "b": 6}, "other", (96, 128))
    prepared = prepare(tmp_path, one, other)  # the same pictures in two sizes
    split = {photo.path: (photo.group, photo.split) for photo in prepared.manifest.photos}
    assert len(split) == 24
    for photo in prepared.manifest.photos:
        if photo.path.startswith("one/"):
            assert split[photo.path] == split[photo.path.replace("one/", "other/", 1)]


def test_groups_of_one_name_in_two_tables_stay_apart(tmp_path: Path, make_tree: MakeTree) -> None:
    tables = []
    for name, size in (("one", (48, 64)), ("other", (40, 64))):
        root = make_tree({"a": 4, "b": 4} if name == "one" else {"a": 14, "b": 14}, name, size)
        files = sorted(root.rglob("*.jpg"))[-6:] if name == "other" else sorted(root.rglob("*.jpg"))
        rows = [f"{file.relative_to(root)},{'ab'[i % 2]},g{i % 2}" for i, file in enumerate(files)]
        (root / "list.csv").write_text("\n".join(["filepath,label,group", *rows]))
        tables.append(root / "list.csv")
    groups: dict[str, set[str]] = {}
    for photo in prepare(tmp_path, *tables).manifest.photos:
        groups.setdefault(photo.group, set()).add(photo.path.split("/")[0])
    assert sorted(len(sources) for sources in groups.values()) == [1, 1, 1, 1]


def test_a_zip_and_a_folder_are_merged(tmp_path: Path, make_tree: MakeTree) -> None:
    packed = shutil.make_archive(str(tmp_path / "x"), "zip", make_tree({"a": 4, "b": 4}, "one"))
    other = make_tree({"a": 3, "b": 3, "c": 3}, "other", (40, 64))
    prepared = prepare(tmp_path, Path(packed), other)
    assert prepared.manifest.labels == ("a", "b", "c")  # the folder has the classes of both
    assert prepared.manifest.root == tmp_path.resolve()


def test_other_classes_are_refused_with_those_of_both(tmp_path: Path, make_tree: MakeTree) -> None:
    one, other = make_tree({"glass": 3, "paper": 3}, "one"), make_tree({"Glass": 3, "paper": 3}, "other")
    with pytest.raises(DatasetError, match="have different classes") as caught:
        prepare(tmp_path, one, other)
    assert f"{one}: glass, paper" in caught.value.found and f"{other}: Glass, paper" in caught.value.found
    assert not (tmp_path / "data").exists()


def test_one_source_twice_or_inside_another_is_refused(tmp_path: Path, make_tree: MakeTree) -> None:
    root = make_tree({"a": 3, "b": 3})
    (tmp_path / "link").symlink_to(root)
    for again in (root, tmp_path / "link", root / ".." / root.name):
        with pytest.raises(DatasetError, match="are the same photos"):
            prepare(tmp_path, root, again)
    inner = root / "a" / "more"
    for label in "ab":
        shutil.copytree(root / label, inner / label, ignore=shutil.ignore_patterns("more"))
    with pytest.raises(DatasetError, match="lies in --source"):
        prepare(tmp_path, inner, root)


def test_a_path_with_commas_is_one_source() -> None:
    given = load_settings(DataSettings, ["mine", "--source", "a,b", "--source", "[c"])
    assert given.source == [Path("a,b"), Path("[c")]


def test_the_environment_and_python_name_one_source_or_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRASH_DATA_SOURCE", "a,b")
    assert load_settings(DataSettings, ["mine"]).source == [Path("a,b")]
    monkeypatch.setenv("TRASH_DATA_SOURCE", '["a", "b"]')
    assert load_settings(DataSettings, ["mine"]).source == [Path("a"), Path("b")]
    assert DataSettings(source=Path("x")).source == [Path("x")]
    assert DataSettings(source=None).source == []

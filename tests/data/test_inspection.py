import os
import shutil
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import pytest
from PIL import Image

from image_classification_trash.data.inspection import PROBLEM_COLUMNS, Audit, Problem, audit_source
from image_classification_trash.data.sources import read_source
from image_classification_trash.tables import csv_rows, csv_text

MakeTree = Callable[..., Path]


def problems_of(root: Path) -> dict[str, Problem]:
    return {problem.path: problem for problem in audit_source(read_source(root)).problems}


def test_good_photos_are_measured_and_no_problem_is_invented(make_tree: MakeTree) -> None:
    audit = audit_source(read_source(make_tree({"a": 3, "b": 3})))
    assert audit.problems == ()
    assert [item.photo.path for item in audit.good][:2] == ["a/0.jpg", "a/1.jpg"]
    assert {(item.photo.width, item.photo.height) for item in audit.good} == {(64, 48)}
    assert len({item.phash for item in audit.good}) == 6


def test_each_bad_photo_is_kept_out_with_its_reason(make_tree: MakeTree) -> None:
    root = make_tree({"a": 3, "b": 3})
    whole = (root / "a" / "0.jpg").read_bytes()
    (root / "a" / "cut.jpg").write_bytes(whole[:-100])
    (root / "a" / "text.jpg").write_text("Dear reader")
    (root / "a" / "empty.jpg").touch()
    (root / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "a" / "notes.txt").write_text("mine")
    Image.new("RGB", (1, 1)).save(root / "b" / "dot.png")
    Image.new("RGB", (32, 32), "red").save(root / "b" / "png.jpg", "PNG")
    Image.new("1", (20_000, 20_000)).save(root / "b" / "huge.png")
    found = problems_of(root)
    assert {path: (p.kind, p.label) for path, p in found.items()} == {
        "a/cut.jpg": ("unreadable", "a"),
        "a/text.jpg": ("unreadable", "a"),
        "a/empty.jpg": ("unreadable", "a"),
        "a/gone.jpg": ("unreadable", "a"),
        "a/notes.txt": ("not_a_photo", ""),
        "b/dot.png": ("unreadable", "b"),
        "b/png.jpg": ("wrong_name", "b"),
        "b/huge.png": ("unreadable", "b"),
    }
    for path, text in {
        "a/cut.jpg": "truncated",
        "a/text.jpg": "a/text.jpg is not a picture",
        "a/empty.jpg": "a/empty.jpg is empty (0 bytes)",
        "a/gone.jpg": "a/gone.jpg cannot be read: No such file",
        "b/dot.png": "1 x 1 pixels",
        "b/png.jpg": "its content is PNG, its name says otherwise",
        "b/huge.png": "more than 80 million pixels",
    }.items():
        assert text in found[path].detail
        assert str(root) not in found[path].detail


def test_a_photo_that_may_not_be_read_is_reported(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_tree({"a": 2, "b": 2})
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == "1.jpg" and path.parent.name == "a":
            raise PermissionError(13, os.strerror(13))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert problems_of(root)["a/1.jpg"].detail == "a/1.jpg cannot be read: Permission denied."


def test_the_first_of_equal_files_is_kept(make_tree: MakeTree) -> None:
    root = make_tree({"a": 2, "b": 2})
    shutil.copy(root / "a" / "0.jpg", root / "a" / "copy.jpg")
    audit = audit_source(read_source(root))
    assert audit.problems == (Problem("a/copy.jpg", "a", "duplicate", "the same file as a/0.jpg"),)
    assert "a/0.jpg" in {item.photo.path for item in audit.good}


def test_a_photo_that_is_listed_twice_is_kept_once(make_tree: MakeTree) -> None:
    root = make_tree({"a": 2, "b": 2})
    (root / "t.csv").write_text("filepath,label\n" + "a/0.jpg,a\n" * 2 + "b/0.jpg,b\n")
    audit = audit_source(read_source(root / "t.csv"))
    assert audit.problems == (Problem("a/0.jpg", "a", "duplicate", "it is listed twice"),)


def test_a_path_outside_a_folder_is_named_as_it_is(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_tree({"a": 2, "b": 2}))
    (Path("a") / "t.csv").write_text("filepath,label\n0.jpg,a\n/data/gone.jpg,b\n")
    assert problems_of(Path("a/t.csv"))["/data/gone.jpg"].detail.startswith("/data/gone.jpg cannot be read")


def test_a_photo_in_two_classes_is_kept_out_of_both(make_tree: MakeTree) -> None:
    root = make_tree({"a": 2, "b": 2})
    for name in ("b/x.jpg", "b/y.jpg"):
        shutil.copy(root / "a" / "0.jpg", root / name)
    found = problems_of(root)
    assert {path: problem.kind for path, problem in found.items()} == dict.fromkeys(
        ("a/0.jpg", "b/x.jpg", "b/y.jpg"), "two_labels"
    )
    assert found["b/x.jpg"].detail.endswith("another label: a/0.jpg (a), b/y.jpg (b)")


def test_width_and_height_are_those_displayed(make_tree: MakeTree) -> None:
    root = make_tree({"a": 1, "b": 1})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40), "blue").save(root / "a" / "turned.jpg", exif=exif)
    sizes = {i.photo.path: (i.photo.width, i.photo.height) for i in audit_source(read_source(root)).good}
    assert sizes["a/turned.jpg"] == (40, 80)


def test_a_missing_file_of_a_csv_becomes_a_problem(make_tree: MakeTree) -> None:
    root = make_tree({"a": 1, "b": 1})
    (root / "t.csv").write_text("filepath,label\na/0.jpg,a\nb/0.jpg,b\nb/9.jpg,b\n")
    audit: Audit = audit_source(read_source(root / "t.csv"))
    assert [(p.path, p.kind) for p in audit.problems] == [("b/9.jpg", "unreadable")]
    assert "No such file" in audit.problems[0].detail


def test_the_table_of_problems_survives_commas_and_quotes() -> None:
    problem = Problem('a/"x", y.jpg', "ä, b", "unreadable", "is\nempty")
    rows = list(csv_rows(csv_text(PROBLEM_COLUMNS, [astuple(problem)])))
    assert rows == [{"path": problem.path, "label": "ä, b", "kind": "unreadable", "detail": "is\nempty"}]


def test_a_problem_names_few_of_many_copies(make_tree: MakeTree) -> None:
    root = make_tree({"a": 1, "b": 1})
    for n in range(40):
        (root / "ab"[n % 2] / f"copy{n}.jpg").write_bytes((root / "a" / "0.jpg").read_bytes())
    details = [p.detail for p in audit_source(read_source(root)).problems if p.kind == "two_labels"]
    assert len(details) == 41
    assert all(detail.count(".jpg") == 10 and detail.endswith(" and 30 more") for detail in details)

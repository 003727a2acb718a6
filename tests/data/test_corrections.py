"""Corrections: what a person decided is applied, recorded, and refused where it cannot be meant."""

from pathlib import Path

import pytest

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.corrections import (
    COLUMNS,
    Correction,
    apply_corrections,
    corrections_csv,
    read_corrections,
)
from image_classification_trash.data.make_dataset import CORRECTIONS, PROBLEMS, Prepared, make_dataset
from image_classification_trash.data.sources import read_source
from image_classification_trash.errors import DatasetError
from image_classification_trash.files import sha256_of_file

HEADER = ",".join(COLUMNS) + "\n"


def prepare(root: Path, corrections: Path | None = None) -> Prepared:
    settings = DataSettings(
        name="mine",
        source=root,
        corrections=corrections,
        embeddings=False,
        data_dir=root.parent,
    )
    return make_dataset(settings)


def corrections_of(folder: Path, text: str) -> Path:
    path = folder / "corrections.csv"
    path.write_text(HEADER + text, encoding="utf-8")
    return path


def test_accepted_rows_are_applied_and_recorded(make_tree, tmp_path) -> None:
    root = make_tree({"glass": 8, "metal": 8})
    before = prepare(root).manifest
    text = "glass/0.jpg,,exclude,,a hand,accepted\nglass/1.jpg,,relabel,metal,a can,\nglass/2.jpg,,exclude,,,suggested\n"
    prepared = prepare(root, corrections_of(tmp_path, text))
    labels = {photo.path: photo.label for photo in prepared.manifest.photos}
    assert (
        "glass/0.jpg" not in labels and labels["glass/1.jpg"] == "metal" and labels["glass/2.jpg"] == "glass"
    )
    assert prepared.manifest.fingerprint != before.fingerprint
    record = prepared.manifest.metadata.corrections
    assert record.photos == {"exclude": 1, "relabel": 1} and record.suggested_and_not_applied == 1
    assert "glass/0.jpg,glass,excluded,a hand" in (prepared.folder / f"{PROBLEMS}.csv").read_text(
        encoding="utf-8"
    )
    assert "glass/2.jpg" not in (prepared.folder / CORRECTIONS).read_text(encoding="utf-8")


def test_other_corrections_are_other_work(make_tree, tmp_path) -> None:
    root = make_tree({"glass": 8, "metal": 8})
    path = corrections_of(tmp_path, "glass/0.jpg,,exclude,,,\n")
    assert not prepare(root, path).done_before
    assert prepare(root, path).done_before
    corrections_of(tmp_path, "glass/1.jpg,,exclude,,,\n")
    assert not prepare(root, path).done_before
    assert len(prepare(root).manifest.photos) == 16


def test_relabelling_settles_a_contradiction(make_tree, tmp_path) -> None:
    root = make_tree({"glass": 8, "metal": 8})
    (root / "metal" / "copy.jpg").write_bytes((root / "glass" / "3.jpg").read_bytes())
    assert {"glass/3.jpg", "metal/copy.jpg"}.isdisjoint(p.path for p in prepare(root).manifest.photos)
    digest = sha256_of_file(root / "glass" / "3.jpg")
    prepared = prepare(root, corrections_of(tmp_path, f",{digest},relabel,glass,both copies,\n"))
    kept = [photo for photo in prepared.manifest.photos if photo.sha256 == digest]
    assert [(photo.path, photo.label) for photo in kept] == [("glass/3.jpg", "glass")]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("glass/00.jpg,,exclude,,,\n", ["line 2", "glass/00.jpg", "Did you mean 'glass/0.jpg'"]),
        (",abc,exclude,,,\n", ["line 2", "SHA-256 abc"]),
        ("glass/0.jpg,abc,exclude,,,\n", ["line 2", "has changed since it was reviewed"]),
        ("glass/0.jpg,,relabel,metall,,\n", ["line 2", "'metall'", "Did you mean 'metal'"]),
        ("glass/0.jpg,,exclude,,,\nglass/0.jpg,,relabel,metal,,\n", ["lines 2 and 3", "glass/0.jpg"]),
        ("glass/0.jpg,,remove,,,\n", ["line 2", "'remove'", "exclude, relabel"]),
        ("glass/0.jpg,,relabel,,,\n", ["line 2", "relabel but no label"]),
        ("glass/0.jpg,,exclude,metal,,\n", ["line 2", "also the label 'metal'"]),
        (",,exclude,,,\n", ["line 2", "identifies no photo"]),
        ("glass/0.jpg,,exclude,,,maybe\n", ["line 2", "'maybe'"]),
        ("glass/0.jpg,,exclude\n", ["line 2", "as many fields"]),
    ],
)
def test_what_cannot_be_meant_is_refused(make_tree, tmp_path, rows: str, words: list[str]) -> None:
    source = read_source(make_tree({"glass": 3, "metal": 3}))
    with pytest.raises(DatasetError) as caught:
        apply_corrections(source, read_corrections(corrections_of(tmp_path, rows)))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("photo,class\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="path,sha256,action"):
        read_corrections(path)
    path.write_text("path,label,action,label\na.jpg,glass,relabel,metal\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="has the columns path, label, action, label"):
        read_corrections(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_corrections(tmp_path / "none.csv")


def test_same_decision_twice_is_no_contradiction(make_tree, tmp_path) -> None:
    source = read_source(make_tree({"glass": 3, "metal": 3}))
    path = corrections_of(tmp_path, "glass/0.jpg,,exclude,,,\nglass/0.jpg,,exclude,,again,\n")
    assert len(apply_corrections(source, read_corrections(path)).source.files) == 5


def test_written_rows_are_read_back(tmp_path) -> None:
    row = Correction("a/b, c.jpg", "0" * 64, "relabel", "métal", 'said "so"', "suggested")
    path = tmp_path / "c.csv"
    path.write_text(corrections_csv([row]), encoding="utf-8")
    assert list(read_corrections(path).rows.values()) == [row] and not read_corrections(path).accepted

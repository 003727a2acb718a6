"""Every table shows names as text in a spreadsheet, and is read back as it was."""

import csv
import io
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.corrections import Correction, corrections_csv, read_corrections
from image_classification_trash.data.inspection import PROBLEM_COLUMNS, Problem
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.data.manifest import Photo, manifest_csv, parse_manifest, read_manifest
from image_classification_trash.data.near_duplicates import PAIR_COLUMNS, Pairs, pair_rows
from image_classification_trash.inference.classifier import Prediction
from image_classification_trash.inference.prediction_table import PredictionFile
from image_classification_trash.models.audit_data import Issue, issues_csv
from image_classification_trash.tables import csv_rows, csv_text, literal, neutral, write_table

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}")
HOSTILE = [
    '=HYPERLINK("http://a.example","b")', "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''-x", "＝1",
]  # fmt: skip
TEXT = st.one_of(st.text(), st.sampled_from(HOSTILE), st.text("'=+-@\t\r\n,\"x"))


@settings(max_examples=50)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_tables_are_read_back_exactly_and_hold_no_formula(rows: list[tuple[str, str]]) -> None:
    rows = [row for row in rows if "\0" not in "".join(row)]
    text = csv_text(["=path", "label"], rows)
    assert [(row["=path"], row["label"]) for row in csv_rows(text)] == rows
    for cells in csv.reader(io.StringIO(text, newline="")):
        assert not any(cell.startswith(STARTS) for cell in cells)


@settings(max_examples=50)
@given(TEXT)
def test_an_apostrophe_is_added_and_removed_exactly(text: str) -> None:
    assert literal(neutral(text)) == text


def test_numbers_and_plain_names_are_unchanged() -> None:
    assert (
        csv_text(["a"], [[-1.5], ["glass-1.jpg"], [None], ["it's"], ["'quoted'"]])
        == "a\n-1.5\nglass-1.jpg\n\"\"\nit's\n'quoted'\n"
    )


def tables(name: str, folder: Path) -> dict[str, str]:
    """Every kind of table that the project writes, with `name` as the path, the class and the reason."""
    photo = Photo(name, name, "train", name, "0" * 64, 4, 4)
    with PredictionFile(folder / "p.csv", "csv", "m", [name, "other"], False) as file:
        file.add(Prediction(name, name, 0.9, name, {name: 0.9, "other": 0.1}, None, (name,)))
        file.add(Prediction(name, error=name))
    pair = (np.array([0]), np.array([1]), np.array([np.nan], np.float32), np.array([3], np.int16))
    write_table(folder, "near", PAIR_COLUMNS, pair_rows([photo, photo], Pairs(*pair)))
    write_table(folder, "problems", PROBLEM_COLUMNS, [astuple(Problem(name, name, "unreadable", name))])
    return {
        "predictions": (folder / "p.csv").read_bytes().decode(),
        "problems": (folder / "problems.csv").read_bytes().decode(),
        "near_duplicates": (folder / "near.csv").read_bytes().decode(),
        "corrections": corrections_csv([Correction(name, "", "relabel", name, name, "suggested")]),
        "audit": issues_csv([Issue(name, name, "train", "outlier", -0.5, name, name, name, "")]),
        "manifest": manifest_csv([photo]),
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_no_table_holds_a_formula(name: str, tmp_path: Path) -> None:
    for table, text in tables(name, tmp_path).items():
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert not [cell for cell in cells if cell.startswith(STARTS) and cell != "-0.5"], table
        assert any(literal(cell) == name for cell in cells), table
        assert "nan" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_manifests_and_corrections_give_the_names_back(name: str, tmp_path: Path) -> None:
    photo = Photo(name, name, "train", name, "0" * 64, 4, 4)
    assert parse_manifest(manifest_csv([photo])) == [photo]
    row = Correction(name.strip(), "", "relabel", name.strip(), name.strip(), "suggested")
    (tmp_path / "c.csv").write_bytes(corrections_csv([row]).encode())
    assert list(read_corrections(tmp_path / "c.csv").rows.values()) == [row]


def test_a_data_set_of_such_names_is_prepared_corrected_and_read(make_tree: Any, tmp_path: Path) -> None:
    root = make_tree({"=glass": 6, "-paper": 6})
    for folder in ("=glass", "-paper"):
        (root / folder / "0.jpg").rename(root / folder / "+SUM(A1).jpg")
    (root / "=glass" / "@broken.jpg").write_bytes(b"none")
    corrections = tmp_path / "corrections.csv"
    row = Correction("=glass/+SUM(A1).jpg", "", "relabel", "-paper", "=a reason", "accepted")
    corrections.write_bytes(corrections_csv([row]).encode())
    asked = DataSettings(
        name="mine", source=root, corrections=corrections, embeddings=False, data_dir=tmp_path / "data"
    )
    prepared = make_dataset(asked)
    again = read_manifest(prepared.folder)
    assert again == prepared.manifest and again.labels == ("-paper", "=glass")
    assert {photo.path: photo.label for photo in again.photos}["=glass/+SUM(A1).jpg"] == "-paper"
    for file in prepared.folder.glob("*.csv"):
        cells = [cell for row in csv.reader(file.open(encoding="utf-8", newline="")) for cell in row]
        assert not any(cell.startswith(STARTS) for cell in cells), file.name
    assert csv_rows((prepared.folder / "problems.csv").read_text())[0]["path"] == "=glass/@broken.jpg"

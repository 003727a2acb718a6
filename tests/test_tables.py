"""Tables are CSV files up to a length and Parquet files beyond; both read alike."""

from pathlib import Path

import pytest

from image_classification_trash import tables
from image_classification_trash.errors import DatasetError
from image_classification_trash.tables import read_table, write_table

ROWS = [("a,b.jpg", 0.5, 1), ('say "x"\nmore', None, 2), ("=ü", 1.0, 3)]


def test_both_forms_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "short").mkdir()
    (tmp_path / "long").mkdir()
    assert write_table(tmp_path / "short", "found", ("path", "score", "n"), ROWS).suffix == ".csv"
    monkeypatch.setattr(tables, "CSV_ROWS", 2)
    monkeypatch.setattr(tables, "_BATCH", 2)
    assert write_table(tmp_path / "long", "found", ("path", "score", "n"), iter(ROWS)).suffix == ".parquet"
    short, long = (list(read_table(tmp_path / name, "found")) for name in ("short", "long"))
    assert short == long
    assert short[1] == {"path": 'say "x"\nmore', "score": "", "n": "2"}


def test_a_long_table_is_csv_where_there_is_no_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CSV_ROWS", 2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert write_table(tmp_path, "found", ("path", "score", "n"), iter(ROWS)).suffix == ".csv"
    assert [row["n"] for row in read_table(tmp_path, "found")] == ["1", "2", "3"]


def test_an_empty_table_has_its_header(tmp_path: Path) -> None:
    assert write_table(tmp_path, "found", ("path", "n"), []).read_text() == "path,n\n"
    assert list(read_table(tmp_path, "found")) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_missing_or_damaged_table_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DatasetError, match=r"found\.csv cannot be read"):
        list(read_table(tmp_path, "found"))
    (tmp_path / f"found.{suffix}").write_bytes(b"\xff\xfe no table")
    with pytest.raises(DatasetError, match=rf"found\.{suffix} cannot be read"):
        list(read_table(tmp_path, "found"))

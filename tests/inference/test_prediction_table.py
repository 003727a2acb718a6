"""Tables of predictions: written as answers come, resumed after a kill, never half a table under the final name."""

import csv
import json
from pathlib import Path

import pytest

from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.models import PredictSettings
from image_classification_trash.errors import BusyError, SettingsError
from image_classification_trash.inference.classifier import Prediction
from image_classification_trash.inference.prediction_table import WRITERS, PredictionFile

LABELS = ("glass", "label")
GOOD = Prediction(
    "a,\n.jpg", "glass", 0.75, "glass", {"glass": 0.75, "label": 0.25}, prediction_set=("glass", "label")
)
BAD = Prediction("ü.jpg", error="ü.jpg is empty (0 bytes).")


def write(path: Path, kind: str) -> Path:
    with PredictionFile(path, kind, "model", LABELS, resume=False) as table:
        table.add(GOOD)
        table.add(BAD)
    assert table.errors == 1
    return path


def die_after(path: Path, model: str, *predictions: Prediction) -> None:
    """A run that ends in the middle, after some answers."""

    def run() -> None:
        with PredictionFile(path, "csv", model, LABELS, resume=False) as table:
            for prediction in predictions:
                table.add(prediction)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_every_format_holds_the_same(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "new" / "table", kind)
    assert [p.name for p in path.parent.iterdir()] == ["table"]
    if kind == "csv":
        rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
        assert rows[0]["glass"] == "0.750000" and rows[1]["glass"] == ""
        assert rows[0]["prediction_set"] == "glass; label" and rows[1]["prediction_set"] == ""
    elif kind == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.read_table(path).to_pylist()
        assert rows[0]["probability"] == 0.75 and rows[1]["label"] is None
    assert list(rows[0]) == [
        "path",
        "label",
        "probability",
        "decision",
        "waste_score",
        "prediction_set",
        "error",
        "glass",
        "p(label)",
    ]
    if kind != "csv":
        assert rows[0]["prediction_set"] == ["glass", "label"] and rows[1]["prediction_set"] == []
    assert [row["path"] for row in rows] == [GOOD.path, BAD.path]
    assert rows[1]["error"] == BAD.error


def test_a_run_that_dies_leaves_its_answers_and_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    die_after(path, "model", BAD)
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv.partial"]
    with PredictionFile(path, "csv", "model", LABELS, resume=True) as again:
        assert again.answered == [BAD.path] and again.errors == 1
        again.add(GOOD)
    with path.open(encoding="utf-8", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [BAD.path, GOOD.path]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_cut_short_is_answered_again(tmp_path: Path, cut: int) -> None:
    partial = tmp_path / "table.csv.partial"
    die_after(tmp_path / "table.csv", "m", GOOD, BAD)
    partial.write_bytes(partial.read_bytes()[:-cut])
    with PredictionFile(tmp_path / "table.csv", "csv", "m", LABELS, resume=True) as again:
        assert again.answered == [GOOD.path]


def test_another_model_does_not_go_on(tmp_path: Path) -> None:
    die_after(tmp_path / "t.csv", "one")
    with pytest.raises(SettingsError, match="written with another model"):
        PredictionFile(tmp_path / "t.csv", "csv", "two", LABELS, resume=True)


def test_what_differs_is_listed(tmp_path: Path) -> None:
    def table(resume: bool, **made_with: object) -> PredictionFile:
        return PredictionFile(tmp_path / "t.csv", "csv", "m", LABELS, resume, made_with)

    with pytest.raises(KeyboardInterrupt), table(False, weights="abc", classes=["a", "b"], max_pixels=5):
        raise KeyboardInterrupt
    with pytest.raises(SettingsError, match="weights abc -> def; classes a, b -> a; max_pixels 5 -> none"):
        table(True, weights="def", classes=["a"], max_pixels=None)
    with table(True, weights="abc", classes=["a", "b"], max_pixels=5) as again:
        again.add(GOOD)


def test_a_run_that_an_earlier_version_began_is_resumed(tmp_path: Path) -> None:
    die_after(tmp_path / "t.csv", "m", GOOD)
    partial = tmp_path / "t.csv.partial"
    header, *rows = partial.read_text().splitlines()
    old = json.dumps({name: json.loads(header)[name] for name in ("model", "labels")})
    partial.write_text("\n".join([old, *rows, ""]))
    with pytest.raises(SettingsError, match="another model"):
        PredictionFile(tmp_path / "t.csv", "csv", "other", LABELS, True, {"weights": "abc"})
    with PredictionFile(tmp_path / "t.csv", "csv", "m", LABELS, True, {"weights": "abc"}) as again:
        assert again.answered == [GOOD.path]


def test_without_resume_a_run_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "t.csv.partial").write_text("what a killed run left\n")
    with PredictionFile(tmp_path / "t.csv", "csv", "m", LABELS, resume=False) as table:
        assert table.answered == []


@pytest.mark.parametrize("flags", [["--json", "--csv", "a"], ["--csv", "a", "--parquet", "b"], ["--resume"]])
def test_flags_that_contradict_one_another(flags: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"choose one of|needs --csv"):
        load_settings(PredictSettings, ["photo.jpg", *flags])


def test_a_second_run_to_the_same_table_is_refused(tmp_path: Path) -> None:
    with PredictionFile(tmp_path / "t.csv", "csv", "model", LABELS, resume=False) as table:
        table.add(GOOD)
        with pytest.raises(BusyError, match="Another process is writing"):
            PredictionFile(tmp_path / "t.csv", "csv", "model", LABELS, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv"]
    assert len(list(csv.DictReader((tmp_path / "t.csv").open(newline="")))) == 1


def test_a_table_is_written_through_a_link_and_into_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere" / "real.csv")
    write(tmp_path / "link.csv", "csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["real.csv"]
    write(Path("/dev/null"), "csv")
    assert Path("/dev/null").is_char_device() and not Path("/dev/null.partial").exists()


def test_a_folder_is_refused_before_anything_is_classified(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a folder"):
        PredictionFile(tmp_path, "csv", "model", LABELS, resume=False)


def test_a_photo_is_not_replaced_by_a_table(tmp_path: Path) -> None:
    photo = tmp_path / "a.JPG"  # the first of `--csv *.JPG`
    photo.write_bytes(b"photo")
    with pytest.raises(SettingsError, match=r"a\.JPG is named as a photo, and would be replaced"):
        PredictionFile(photo, "csv", "model", LABELS, resume=False)
    assert photo.read_bytes() == b"photo" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_names_that_are_not_utf8_are_written_and_resumed(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    odd = Prediction("\udce9t\udce9.jpg", error="\udce9t\udce9.jpg is empty (0 bytes).")
    path = tmp_path / "t"
    with PredictionFile(path, kind, "model", LABELS, resume=False) as table:
        table.add(odd)
    assert rb"\xe9t\xe9.jpg" in path.read_bytes().replace(b"\\\\", b"\\")


def test_a_spreadsheet_sees_text_where_a_name_looks_like_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with PredictionFile(path, "csv", "model", LABELS, resume=False) as table:
        table.add(Prediction('=HYPERLINK("http://x").jpg', error="-"))
    row = next(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert row["path"] == '\'=HYPERLINK("http://x").jpg' and row["error"] == "'-"

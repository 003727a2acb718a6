"""Measured figures are typed records, and their files keep the form they had."""

import json
from pathlib import Path
from typing import Any

import pytest

from image_classification_trash.errors import BundleError
from image_classification_trash.evaluation.export_report import read_export_report
from image_classification_trash.evaluation.result import parse_metrics
from image_classification_trash.inference.bundle import EXPORT, REPORT, Bundle
from image_classification_trash.inference.shipped import FOLDERS, SHIPPED

FILE = FOLDERS[SHIPPED] / "metrics.json"
PARITY: dict[str, Any] = {
    "photos": 48, "labelled": 42, "largest_difference": 1e-6, "mean_difference": 1e-7, "top1_agreement": 1.0,
    "accuracy": 0.9, "accuracy_of_model": 0.9, "macro_f1": 0.9, "macro_f1_of_model": 0.9, "ece": 0.1,
    "ece_of_model": 0.1, "moved_most": "Büchse", "latency_ms": 2.5,
}  # fmt: skip
FIRST = {"format": "onnx", "precision": "float32", "bytes": 9, "problem": None, "parity": {"file": PARITY}}
INT8 = {
    "format": "onnx", "precision": "int8", "bytes": 5, "calibration_photos": 200, "kept_in_float32": [], "problem": "moved",
    "parity": {"file": {**PARITY, "rejected": 1.0, "rejected_of_model": 0.9}},
}  # fmt: skip


def test_the_shipped_figures_survive_a_round_trip_to_the_byte() -> None:
    text = FILE.read_text(encoding="utf-8")
    metrics = parse_metrics(json.loads(text), str(FILE))
    again = {name: measured.as_json() for name, measured in metrics.items()}
    assert json.dumps(again, indent=2, ensure_ascii=False) + "\n" == text
    assert metrics["test"].not_waste is None or metrics["test"].not_waste.n > 0


def test_files_from_before_lack_what_was_measured_later() -> None:
    document = json.loads(FILE.read_text(encoding="utf-8"))["test"]
    for name in ("prediction_set", "accuracy_at_coverage", "unreadable", "not_waste"):
        document.pop(name, None)
    measured = parse_metrics({"test": document}, "x")["test"]
    assert measured.at_coverage is None and measured.prediction_set is None and measured.unreadable == 0


def test_figures_of_something_else_are_refused_by_name() -> None:
    with pytest.raises(
        BundleError, match=r"m\.json does not hold the figures of an evaluation: test\.accuracy"
    ):
        parse_metrics({"test": {"n": 3}}, "m.json")


def reported(folder: Path, document: object) -> Bundle:
    (folder / EXPORT).mkdir()
    (folder / EXPORT / REPORT).write_text(json.dumps(document), encoding="utf-8")
    return Bundle(folder, None)  # type: ignore[arg-type]  # its description is not read


def test_an_export_report_keeps_its_form(tmp_path: Path) -> None:
    conditions = {"machine": "m", "versions": {"python": "3.13"}, "photos": "p", "fingerprint": "f" * 64}
    bundle = reported(tmp_path, {"conditions": conditions, "files": {"a.onnx": FIRST, "b.onnx": INT8}})
    report = read_export_report(bundle)
    assert report is not None and report.files["a.onnx"].parity["file"].rejected is None
    later = {**FIRST, "parity": {"file": {**PARITY, "rejected": None, "rejected_of_model": None}}}
    expected = {"conditions": conditions, "files": {"a.onnx": later, "b.onnx": INT8}}
    assert json.dumps(report.as_json()) == json.dumps(expected)


def test_a_report_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"report\.json is not the report of an export: conditions"):
        read_export_report(reported(tmp_path, {"files": {}}))


def test_figures_of_earlier_versions_are_read_under_their_names_of_today() -> None:
    today = json.loads(FILE.read_text(encoding="utf-8"))
    for measured in today.values():
        measured.pop("by_source", None)  # versions with the earlier names had no figures by source
    text = json.dumps(today)
    for before, now in (
        ("answered", "accepted"), ("candidates", "prediction_set"), ("most_confident", "accuracy_at_coverage"),
        ("no_waste", "not_waste"), ("turned_away", "rejected"), ("answered_above_0.9", "accepted_above_0.9"),
    ):  # fmt: skip
        text = text.replace(f'"{now}"', f'"{before}"')
    assert '"answered"' in text and '"accepted"' not in text
    assert parse_metrics(json.loads(text), "x") == parse_metrics(today, "x")


def test_intervals_that_are_not_finite_are_read_as_absent() -> None:
    document = json.loads(FILE.read_text(encoding="utf-8"))["test"]
    document["roc_auc"] = {"value": 0.5, "low": float("nan"), "high": float("nan")}
    measured = parse_metrics({"test": document}, "x")["test"]
    assert measured.roc_auc is None and measured.accuracy is not None
    assert "NaN" not in json.dumps(measured.as_json())


def test_intervals_that_hold_text_are_refused() -> None:
    document = json.loads(FILE.read_text(encoding="utf-8"))["test"]
    document["accuracy"]["low"] = "x"
    with pytest.raises(BundleError, match=r"does not hold the figures of an evaluation: test\.accuracy"):
        parse_metrics({"test": document}, "x")

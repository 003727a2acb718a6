"""What ships names a commit that people can look up, and is the file that passed the gate and was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.evaluated import described
from helpers.scripts import load_script

from image_classification_trash.inference import shipped
from image_classification_trash.inference.bundle import WEIGHTS, write_bundle

SHIP = load_script("ship_model")
MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
REPORT = {
    "conditions": {"machine": "m", "versions": {}, "photos": "p", "fingerprint": "f"},
    "files": {"model_int8.tflite": {"format": "tflite", "precision": "int8", "bytes": 1, "problem": None, "parity": {}}},
}  # fmt: skip


@pytest.mark.parametrize("commit", ["770c68b7134f-dirty", "unknown"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_bundle_of_no_commit_is_refused(size: str, commit: str, tmp_path: Path) -> None:
    folder = write_bundle(
        tmp_path / "mine", replace(described("mine"), git_commit=commit), {WEIGHTS: b""}
    ).path
    with pytest.raises(SystemExit, match=f"names the commit {commit}, which nobody can look up"):
        SHIP.main(folder, size, None, None)


def test_a_bundle_without_its_file_or_its_figures_is_refused(tmp_path: Path) -> None:
    config = described("mine")
    folder = write_bundle(tmp_path / "mine", config, {WEIGHTS: b""}).path
    with pytest.raises(SystemExit, match=r"no model_int8\.tflite that passed the export's gate"):
        SHIP.main(folder, "large", None, None)
    exported = {"export/report.json": json.dumps(REPORT).encode(), "export/model_int8.tflite": b"x"}
    folder = write_bundle(tmp_path / "mine", config, {WEIGHTS: b"", **exported}).path
    with pytest.raises(SystemExit, match="was not measured"):
        SHIP.main(folder, "large", None, None)


def test_each_size_goes_where_its_name_is_looked_for() -> None:
    assert [place.folder for place in SHIP.PLACES.values()] == [*shipped.FOLDERS.values()]


def test_both_sizes_are_made_before_a_file_of_either_is_replaced() -> None:
    """A replaced file would make the other one's commit end in `-dirty`."""
    steps = [MAKEFILE.index(it) for it in (
        "git diff --quiet HEAD", "ship_field_model.py bundle --work", "ship_field_model.py bundle --size large",
        "$(MAKE) measure-release", "ship_model.py models/$(RELEASE)", "ship_model.py models/$(LARGE)",
    )]  # fmt: skip
    assert steps == sorted(steps)

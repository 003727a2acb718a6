"""`train FOLDER` does what `data`, `train` and `evaluate` do, and says how often the test split was read."""

import json
from pathlib import Path

import pytest
from helpers.commands import command
from helpers.photos import MakeTree

from image_classification_trash.models.own_photos import Record, read_record

RECIPE = """
data: {embeddings: false}
train: {architecture: sequential_cnn, head: false, epochs: 1, freeze_stages: 0, input_height: 32, input_width: 32}
evaluate: {resamples: 100}
"""


@pytest.fixture
def photos(make_tree: MakeTree, tmp_path: Path) -> Path:
    """A folder of photos beside a recipe that trains a tiny network."""
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return make_tree({"can": 10, "cup": 10})


def figures(folder: Path, name: str) -> object:
    return json.loads((folder / "models" / name / "metrics.json").read_text())["test"]["confusion"]


def test_one_line_is_three_commands(photos: Path, tmp_path: Path) -> None:
    recipe = ("--config", "tiny.yaml")
    one = command(tmp_path, "train", "photos", *recipe).stdout
    command(tmp_path, "data", "mine", "--source", "photos", *recipe)
    command(tmp_path, "train", "mine", *recipe)
    three = command(tmp_path, "evaluate", "models/mine", *recipe).stdout
    assert one.splitlines()[-1].startswith("Verdict: ") and one.splitlines()[-1] == three.splitlines()[-1]
    assert "\nUse it: trash-classifier predict PHOTO --model models/photos\n" in one
    assert "photos is prepared in data/processed/photos" in one and "Measure it on test photos" not in one
    weights = [(tmp_path / "models" / name / "model.safetensors").read_bytes() for name in ("photos", "mine")]
    assert weights[0] == weights[1] and figures(tmp_path, "photos") == figures(tmp_path, "mine")
    assert (tmp_path / "reports/photos.html").is_file()

    again = command(tmp_path, "train", "./photos", *recipe, "--seed", "1").stdout
    assert "2 models have been measured on these test photos" in again and "measured on these" not in one
    assert "is already prepared" in again
    assert read_record(tmp_path / "data/processed", "photos") == Record(str(photos), 2)

    by_name = command(tmp_path, "train", "data/processed/photos", *recipe).stdout
    assert "Verdict:" not in by_name and "Measure it on test photos" in by_name
    assert read_record(tmp_path / "data/processed", "photos") == Record(str(photos), 2)


def test_photos_without_a_test_split_are_trained_on_and_not_measured(photos: Path, tmp_path: Path) -> None:
    rows = [f"{file.relative_to(photos)},{file.parent.name}" for file in sorted(photos.rglob("*.jpg"))]
    lines = [f"{row},{'first' if number % 5 else 'second'}" for number, row in enumerate(rows)]
    (photos / "all.csv").write_text("\n".join(["filepath,label,group", *lines]) + "\n")
    done = command(tmp_path, "train", "photos/all.csv", "--config", "tiny.yaml")
    assert done.stdout.splitlines()[-1].startswith("Verdict: not measured; the data set has no test photos.")
    assert (tmp_path / "models/all/config.json").is_file()


def test_a_model_of_other_photos_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    command(tmp_path, "train", "photos", "--config", "tiny.yaml", "--output", "first")
    (tmp_path / "first").mkdir()
    refused = command(tmp_path, "train", "./first", "--config", "tiny.yaml", status=1)
    assert "was prepared from" in refused.stderr and "--output NAME" in refused.stderr

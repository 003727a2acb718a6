"""A model that knows photos without waste: what its bundle says, and what is decided where."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.bare_engine import CONFIG, Rows

from image_classification_trash.errors import BundleError
from image_classification_trash.inference.bundle import (
    BundleConfig,
    read_bundle,
    write_bundle,
    write_checksums,
)
from image_classification_trash.inference.classifier import TrashClassifier


def decided(config: BundleConfig, *row: float) -> tuple[str | None, str | None, float | None]:
    answer = TrashClassifier(config, Rows()).prediction("a.jpg", np.array(row, np.float32))
    return answer.decision, answer.label, answer.waste_score


@pytest.mark.parametrize(
    ("row", "decision", "label"),
    [
        ((0.8, 0.1, 0.1), "glass", "glass"),
        ((0.3, 0.55, 0.15), "unsure", "metal"),
        ((0.3, 0.2, 0.5), "not waste", "glass"),
        ((0.01, 0.04, 0.95), "not waste", "metal"),
        ((0.6, 0.0, 0.4), "glass", "glass"),
    ],
)
def test_the_label_is_always_a_class_and_the_decision_may_be_none(
    row: tuple[float, ...], decision: str, label: str
) -> None:
    assert decided(CONFIG, *row) == (decision, label, pytest.approx(1 - row[-1]))


def test_all_labels_are_ranked_and_their_probabilities_sum_to_one() -> None:
    answer = TrashClassifier(CONFIG, Rows()).prediction("a.jpg", np.array([0.1, 0.2, 0.7], np.float32))
    assert list(answer.probabilities) == ["not waste", "metal", "glass"]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert (answer.label, answer.probability) == ("metal", pytest.approx(0.2))


def test_without_the_label_nothing_is_said_of_waste() -> None:
    config = replace(CONFIG, negative_label=None)
    assert decided(config, 0.1, 0.2, 0.7) == ("not waste", "not waste", None)
    assert config.classes == config.labels and CONFIG.classes == ("glass", "metal")


def test_a_bundle_keeps_the_label_and_bundles_of_earlier_releases_are_read(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "new", CONFIG, {"model.safetensors": b"w"})
    assert read_bundle(bundle.path).config == CONFIG
    assert (bundle.path / "labels.txt").read_text().splitlines()[-1] == "not waste"
    old = json.loads((bundle.path / "config.json").read_text())
    del old["negative_label"], old["negative_threshold"], old["conformal_threshold"]
    (bundle.path / "config.json").write_text(json.dumps(old))
    write_checksums(bundle.path)
    assert read_bundle(bundle.path).config.negative_label is None


@pytest.mark.parametrize(
    "change",
    [
        {"negative_label": "glass"},
        {"negative_threshold": 1.5},
        {"conformal_threshold": -0.1},
        {"labels": ("glass", "not waste")},
    ],
)
def test_impossible_descriptions_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="impossible"):
        write_bundle(tmp_path / "b", replace(CONFIG, **change), {"model.safetensors": b"w"})  # type: ignore[arg-type]

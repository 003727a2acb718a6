"""Monitor: the stored reference, a gateway's statistics, and photos through the command."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from image_classification_trash.cli import run
from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.models import MonitorSettings
from image_classification_trash.drift.reference import (
    Reference,
    counts,
    probabilities_of,
    read_reference,
    write_reference,
)
from image_classification_trash.errors import BundleError, DatasetError, SettingsError
from image_classification_trash.inference.bundle import (
    WEIGHTS,
    Bundle,
    BundleConfig,
    read_bundle,
    write_bundle,
)
from image_classification_trash.inference.prediction_counts import EDGES, AnswerStatistics
from image_classification_trash.models.monitor_model import (
    Stream,
    compare,
    monitor,
    stream_of_statistics,
)
from image_classification_trash.networks.network import (
    EmbeddingBackbone,
    TrashNetwork,
    network_bytes,
    weights_fingerprint,
)

LABELS = ("glass", "metal", "paper")
CONFIG = BundleConfig(
    name="tiny", architecture="sequential_cnn", labels=LABELS, input_height=32, input_width=32, fit="stretch",
    temperature=1.0, threshold=0.5, data={"name": "mine", "fingerprint": "abc"}, training={}, git_commit="0",
    versions={}, created="2026-01-01T00:00:00+00:00",
)  # fmt: skip
MODEL = {"name": CONFIG.name, "created": CONFIG.created, "fingerprint": "abc"}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(
        tmp_path / "tiny", CONFIG, {WEIGHTS: network_bytes(TrashNetwork("sequential_cnn", 3))}
    )


def reference_of_noise(bundle: Bundle) -> Reference:

    rng = np.random.default_rng(0)
    histogram = np.bincount([5, 8, 9, 10, 11, 12], minlength=len(EDGES) - 1) * 20
    vectors = rng.normal(size=(120, 192)).astype(np.float32)
    return Reference(np.array([40, 40, 40]), histogram, vectors, weights_fingerprint(bundle), "abc")


def statistics(labels: tuple[int, int, int], bins: list[int]) -> AnswerStatistics:
    probability = np.bincount(bins, minlength=len(EDGES) - 1).tolist()
    counted = Counter(dict(zip(LABELS, labels, strict=True)))
    return AnswerStatistics(MODEL, counted, Counter(counted), probability)


def test_reference_rides_in_the_bundle(bundle: Bundle) -> None:
    reference = reference_of_noise(bundle)
    write_reference(bundle, reference)
    found = read_reference(read_bundle(bundle.path))
    assert (found.classes == reference.classes).all() and (found.confidence == reference.confidence).all()
    assert np.allclose(found.vectors, reference.vectors, atol=2e-3) and found.fingerprint == "abc"


def test_reference_of_other_weights_is_refused(bundle: Bundle) -> None:
    write_reference(bundle, replace(reference_of_noise(bundle), weights="other"))
    with pytest.raises(BundleError, match="another model"):
        read_reference(bundle)
    (bundle.path / "monitor_reference.npz").write_bytes(b"no zip")
    with pytest.raises(BundleError, match="cannot be read"):
        read_reference(bundle)


def test_statistics_of_a_gateway(bundle: Bundle, tmp_path: Path, capsys) -> None:
    write_reference(bundle, reference_of_noise(bundle))
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    statistics((30, 32, 28), [5, 8, 9, 10, 11, 12] * 15).write(same)
    statistics((5, 80, 5), [2, 3, 4] * 30).write(other)
    assert run(["monitor", str(same), "--model", str(bundle.path)]) == 0
    assert "looks like mine (n = 90" in capsys.readouterr().out
    assert run(["monitor", str(other), "--model", str(bundle.path), "--json"]) == 4
    answer = json.loads(capsys.readouterr().out)
    assert answer["drift"] and [c["verdict"] for c in answer["comparisons"]] == ["other", "other"]
    assert run(["monitor", str(same), str(other), "--model", str(bundle.path), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["photos"] == 180


def test_statistics_of_another_model_are_refused(tmp_path: Path) -> None:
    found = replace(statistics((1, 1, 1), [1, 2, 3]), model={**MODEL, "created": "earlier"})
    with pytest.raises(BundleError, match="earlier"):
        stream_of_statistics([found], [tmp_path / "a.json"], CONFIG)


def test_too_few_are_not_judged(bundle: Bundle) -> None:
    settings = load_settings(MonitorSettings, ["x.json"])
    stream = Stream(np.array([10, 10, 9]), np.bincount([3] * 29, minlength=len(EDGES) - 1), None)
    with pytest.raises(DatasetError, match="29 photos to compare are too few"):
        compare(bundle, reference_of_noise(bundle), stream, settings)


def test_photos_and_statistics_are_not_mixed(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="together"):
        monitor(load_settings(MonitorSettings, ["a.json", "photos", "--model", str(bundle.path)]))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="write-reference"):
        load_settings(MonitorSettings, [])
    with pytest.raises(SettingsError, match="permutations"):
        load_settings(MonitorSettings, ["x", "--alpha", "0.001"])


def test_probabilities_of_embeddings_are_the_networks_own() -> None:

    network = TrashNetwork("sequential_cnn", 3).eval()
    photos = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)

    through = probabilities_of(network, EmbeddingBackbone(network).embed(photos))
    with torch.inference_mode():
        direct = network(torch.from_numpy(photos)).numpy()
    assert np.allclose(through, direct, atol=1e-6)
    classes, confidence = counts(through)
    assert classes.sum() == confidence.sum() == 5


def test_photos_through_the_command(make_tree, tmp_path: Path, capsys, monkeypatch) -> None:
    """Prepared, trained without a head fit on pretrained weights, then monitored: its own photos and inverted ones."""
    monkeypatch.chdir(tmp_path)
    root = make_tree({"glass": 120, "metal": 120})
    assert run(["data", "mine", "--source", str(root), "--no-embeddings", "--val-fraction", "0.3"]) == 0
    line = "train mine --architecture sequential_cnn --epochs 1 --batch-size 64 --input-height 32 --input-width 32"
    assert run(line.split()) == 0
    assert run(["monitor", "--write-reference"]) == 0
    (tmp_path / "data" / "processed").rename(tmp_path / "elsewhere")
    (root / "glass" / "bad.jpg").write_bytes(b"no photo")
    (root / "plain").mkdir()

    for n in range(40):
        Image.new("RGB", (64, 48), (n, n // 2, 0)).save(root / "plain" / f"{n}.jpg")
    capsys.readouterr()
    assert run(["monitor", str(root / "glass"), str(root / "metal"), "--json"]) == 3
    same = json.loads(capsys.readouterr().out)
    assert same["photos"] == 240 and len(same["unreadable"]) == 1 and not same["drift"]
    assert run(["monitor", str(root / "plain"), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["comparisons"][2]["verdict"] == "other"

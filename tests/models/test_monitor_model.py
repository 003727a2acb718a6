"""Monitor: the stored reference, a gateway's statistics, and photos through the command."""

import asyncio
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
from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.data.manifest import read_manifest
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
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.prediction_counts import EDGES, AnswerStatistics, read_statistics
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
from image_classification_trash.serving.operations.prediction_log import StatisticsFile

LABELS = ("glass", "metal", "paper")
CONFIG = BundleConfig(
    name="tiny", architecture="sequential_cnn", labels=LABELS, input_height=32, input_width=32, resize_mode="stretch",
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


@pytest.mark.parametrize("rejects", [False, True])
def test_probabilities_of_embeddings_are_the_networks_own(rejects: bool) -> None:

    network = TrashNetwork("sequential_cnn", 3, detects_waste=rejects).eval()
    photos = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)

    through = probabilities_of(network, EmbeddingBackbone(network).embed(photos))
    with torch.inference_mode():
        direct = network(torch.from_numpy(photos)).numpy()
    assert np.allclose(through, direct, atol=1e-6)
    classes, confidence = counts(through)
    assert classes.sum() == confidence.sum() == 5


@pytest.fixture
def rejecting(make_tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle with a rejection head, as a training on a prepared data set writes it; half of the photos are no waste to it."""
    monkeypatch.chdir(tmp_path)
    root = make_tree({"glass": 120, "metal": 120})
    assert run(["data", "mine", "--source", str(root), "--no-embeddings", "--val-fraction", "0.3"]) == 0
    manifest = read_manifest(tmp_path / "data/processed/mine")
    paths = [manifest.path_of(photo) for photo in manifest.photos_of("val")]
    photos = np.stack([read_photo(path, (32, 32), "stretch") for path in paths])
    torch.manual_seed(0)
    network = TrashNetwork("sequential_cnn", 2, detects_waste=True)
    network.set_linear_head(np.zeros((2, network.width), np.float32), np.array([4, 0], np.float32))
    weight = np.random.default_rng(0).normal(size=network.width).astype(np.float32)
    network.set_rejection_head(weight, -float(np.median(EmbeddingBackbone(network).embed(photos) @ weight)))
    config = replace(
        CONFIG,
        labels=(*manifest.labels, "not waste"),
        negative_label="not waste",
        data={"name": "mine", "fingerprint": manifest.fingerprint},
    )
    return write_bundle(tmp_path / "models" / "mine", config, {WEIGHTS: network_bytes(network)})


def test_what_a_gateway_counts_of_a_model_with_a_rejection_head_fits_its_reference(
    rejecting: Bundle, tmp_path: Path, capsys
) -> None:
    assert run(["monitor", "--write-reference"]) == 0
    file, classifier = tmp_path / "answers.json", TrashClassifier.load(rejecting, "torch")
    log = StatisticsFile(load_settings(ServeSettings, ["--statistics", str(file)]), classifier)
    manifest = read_manifest(tmp_path / "data/processed/mine")
    paths = [manifest.path_of(photo) for photo in manifest.photos_of("val")]
    log.add(classifier.probabilities(np.stack([read_photo(path, (32, 32), "stretch") for path in paths])))

    async def started_and_stopped() -> None:
        async with log.kept():
            pass

    asyncio.run(started_and_stopped())
    reference, counted = read_reference(rejecting), read_statistics(file)
    assert reference.classes.tolist() == [counted.labels[label] for label in rejecting.config.labels]
    assert 0 < reference.classes[2] < reference.classes.sum()
    assert reference.confidence.tolist() == counted.probability
    capsys.readouterr()
    assert run(["monitor", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["photos"] == len(paths)
    assert run(["monitor", *map(str, paths), "--json"]) == 0
    assert [c["value"] for c in json.loads(capsys.readouterr().out)["comparisons"][:2]] == [0, 0]


def test_a_reference_without_the_rejection_head_is_refused(rejecting: Bundle) -> None:
    """As earlier versions wrote it."""
    write_reference(rejecting, replace(reference_of_noise(rejecting), classes=np.array([60, 60])))
    with pytest.raises(BundleError, match="counts 2 labels, but the model has 3: glass, metal, not waste"):
        read_reference(rejecting)


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

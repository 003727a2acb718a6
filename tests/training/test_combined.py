"""A model of a combined data set: weights, photos without waste, figures by source, and who made the photos."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.combined import make_photos, prepare

from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest
from image_classification_trash.evaluation.comparison.answers import read_answers
from image_classification_trash.evaluation.result import read_metrics
from image_classification_trash.features.synthesis import shifted_photos
from image_classification_trash.inference.bundle import CARD, NOTICE, read_bundle
from image_classification_trash.models.evaluate_model import evaluate
from image_classification_trash.models.train_model import train
from image_classification_trash.networks.network import load_network
from image_classification_trash.networks.rejection import PrototypeHead
from image_classification_trash.training import data as training_data
from image_classification_trash.training.batches import Shuffled
from image_classification_trash.training.data import TrainingData
from image_classification_trash.training.linear_head import class_weights, fit_head
from image_classification_trash.training.start import begin, rejection_tail

SIZE = {"input_height": 32, "input_width": 32, "architecture": "sequential_cnn", "pretrained": False}


def combined(folder: Path) -> Manifest:
    """Two sources of waste, one of them test only, and one of photos without, in all splits."""
    make_photos(folder / "street", {"a": 12, "b": 12}, 1000)
    make_photos(folder / "shop", {"a": 3, "b": 3}, 2000)
    make_photos(folder / "ground", {"flat": 12}, 3000)
    return prepare(
        folder,
        {
            "name": "street",
            "path": "street",
            "weight": {"b": 0.5},
            "licence": "CC BY 4.0",
            "attribution": "Jane",
        },
        {"name": "shop", "path": "shop", "role": "test only", "licence": "MIT"},
        {"name": "ground", "path": "ground", "role": "not-waste", "licence": "CC0 1.0"},
    ).manifest


def test_photos_are_drawn_as_often_as_they_weigh() -> None:
    weights = np.array([0.25, 1.0, 1.75, 1.0])
    drawn: Counter[int] = Counter()
    for seed in range(40):
        once = Counter(
            int(row) for wanted in Shuffled(4, 1, lambda s=seed: s, weights=weights) for row in wanted.rows
        )
        assert sum(once.values()) == 4
        assert all(np.floor(weights[i]) <= once[i] <= np.ceil(weights[i]) for i in range(4))
        drawn += once
    assert [drawn[i] / 40 for i in range(4)] == pytest.approx(weights, abs=0.2)


def test_equal_weights_draw_every_photo_once() -> None:
    batches = list(Shuffled(9, 3, lambda: 5, weights=np.ones(9)))
    assert sorted(int(row) for wanted in batches for row in wanted.rows) == list(range(9))


def test_weights_count_in_classes_and_in_the_head() -> None:
    y_true = np.array([0, 0, 0, 1])
    even = class_weights(y_true, 2, 1.0, np.array([1.0, 0.5, 0.5, 2.0]))
    assert even[0] == even[1]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2
    plain, ones = (fit_head(x, y, x, y, 2, 0.5, photo_weights=w) for w in (None, np.ones(60)))
    assert np.allclose(plain.weight, ones.weight) and np.allclose(plain.bias, ones.bias)
    heavy = fit_head(x, y, x, y, 2, 0.0, photo_weights=np.where(y == 1, 1.8, 0.2))
    assert heavy.logits(x).argmax(1).mean() > plain.logits(x).argmax(1).mean()


def test_photos_without_waste_are_negatives_and_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (training_data, shifted_photos):
        monkeypatch.setattr(module, "BACKGROUNDS", 4)
    manifest = combined(tmp_path)
    settings = TrainSettings.model_validate({**SIZE, "data_dir": tmp_path / "data", "outliers": 0.2})
    data = TrainingData(manifest, settings)
    natural = data.natural_not_waste("train")
    count = sum(photo.split == "train" for photo in manifest.not_waste)
    assert natural is not None and len(natural) == count > 0 and manifest.labels == ("a", "b")
    assert np.array_equal(data.rejection_photos()[1][-count:], natural)
    assert data.train.backgrounds is not None and len(data.train.backgrounds) == 4 + count
    weights = data.photo_weights
    assert weights is not None and weights.mean() == pytest.approx(1.0)
    assert set((weights / weights.max()).round(6)) == {0.5, 1.0}
    alone = TrainingData(Manifest("mine", manifest.root, (), ("a", "b"), manifest.metadata), settings)
    assert alone.natural_not_waste("train") is None


def test_figures_by_source_and_attribution_follow_the_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (training_data, shifted_photos):
        monkeypatch.setattr(module, "BACKGROUNDS", 4)
    manifest = combined(tmp_path)
    folders = {
        "data_dir": tmp_path / "data", "models_dir": tmp_path / "models", "reports_dir": tmp_path / "reports",
    }  # fmt: skip
    chosen = {**SIZE, **folders, "name": "field", "epochs": 1, "rejection_head": True, "accelerator": "cpu"}
    bundle = train(TrainSettings.model_validate(chosen))
    assert bundle is not None
    network = load_network(bundle)
    assert network.rejection_tail is not None and isinstance(network.rejection_head, PrototypeHead)
    further = chosen | {"init_from": [bundle.path], "rejection_head": True, "freeze_stages": 6}
    start = begin(TrainSettings.model_validate(further), manifest)
    assert start.tail is not None, "handed on: the stages before any fine-tuning"
    own = network.rejection_tail.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in start.tail.state_dict().items())
    for without in ({"rejection_head": False}, {"freeze_stages": 0}, {"epochs": 0, "init_from": []}):
        settings = TrainSettings.model_validate(further | without)
        assert rejection_tail(network, [bundle][: len(settings.init_from)], settings, manifest) is None
    sources = {source["name"]: source for source in bundle.config.data["sources"]}
    assert sources["street"]["licence"] == "CC BY 4.0" and sources["street"]["address"] == "street"
    assert sum(bundle.config.data["not_waste"].values()) == 12 and bundle.config.negative_label == "not waste"
    notice = (bundle.path / NOTICE).read_text(encoding="utf-8")
    assert "street\n  by: Jane\n  licence: CC BY 4.0" in notice and "ground" in notice
    assert "shop" not in notice  # no photo of it was trained on

    evaluation = evaluate(EvaluateSettings(bundle=bundle.path, resamples=100, **folders))  # type: ignore[arg-type]
    test = Counter(photo.source for photo in manifest.photos_of("test"))
    metrics = evaluation.metrics
    assert metrics.by_source is not None and {k: v.n for k, v in metrics.by_source.items()} == test
    right = evaluation.probabilities.argmax(1) == evaluation.y_true
    for name, figures in metrics.by_source.items():
        own = np.array([photo.source == name for photo in manifest.photos_of("test")])
        assert figures.accuracy is not None and figures.accuracy.value == pytest.approx(right[own].mean())
    without = sum(photo.split == "test" for photo in manifest.not_waste)
    assert metrics.not_waste is not None and metrics.not_waste.n == without > 0
    assert metrics.not_waste_by_source is not None and metrics.not_waste_by_source["ground"].n == without
    again = read_bundle(bundle.path)
    assert read_metrics(again)["test"] == metrics
    answers = read_answers(again, "test") or ()
    assert answers[: len(right)] == evaluation.answers and len(answers) == len(right) + without
    assert [answer.is_right for answer in evaluation.answers] == right.tolist()
    rejected = [answer for answer in answers if not answer.y_true]
    assert sorted(a.path for a in rejected) == sorted(p.path for p in manifest.not_waste if p.split == "test")
    assert [a.group for a in evaluation.answers] == [photo.group for photo in manifest.photos_of("test")]
    confidence = [answer.confidence for answer in evaluation.answers]
    assert confidence == pytest.approx(evaluation.probabilities.max(1).tolist())
    document = json.loads((bundle.path / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert "accepted_above_0.9" in document["not_waste_by_source"]["ground"]
    card = (bundle.path / CARD).read_text(encoding="utf-8")
    assert (
        "### By source, test" in card
        and f"| shop | {test['shop']} |" in card
        and "## Photos by source" in card
    )
    assert f"Keep {NOTICE} with it" in card and "| Jane | street |" in card

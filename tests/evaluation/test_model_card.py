"""The model card states what the bundle's description and its metrics say."""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax

from image_classification_trash.evaluation.export_report import (
    ExportConditions,
    ExportRecord,
    ExportReport,
    Parity,
)
from image_classification_trash.evaluation.metrics import accepted, describe, reliability
from image_classification_trash.evaluation.model_card import model_card
from image_classification_trash.evaluation.result import (
    Conditions,
    Interval,
    Metrics,
    NotWaste,
    PredictionSets,
)
from image_classification_trash.inference.bundle import TRASHNET_LABELS, TRASHNET_LICENSE, BundleConfig

DATA: dict[str, Any] = {
    "name": "mine", "fingerprint": "0123456789abcdef", "split": {"method": "grouped"},
    "counts": {"train": {"glass": 10, "paper": 12}, "val": {"glass": 2, "paper": 2}},
}  # fmt: skip
TRAINING: dict[str, Any] = {"settings": {}, "seconds": 3600.0, "machine": "2 cores, no accelerator"}
CONFIG = BundleConfig(
    "mine",
    "sequential_cnn",
    ("glass", "paper"),
    96,
    128,
    "crop",
    1.25,
    0.5,
    DATA,
    TRAINING,
    "abc123",
    {},
    "today",
)


def figures() -> Metrics:
    y_true = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    scores = describe(y_true, probabilities, ("glass", "paper"), resamples=100)
    interval = Interval(0.5, 0.25, 0.75)
    return Metrics(
        **vars(scores),
        conditions=Conditions("mine", "test", "f", None, 0, "bootstrap", "a machine"),
        reliability_before=reliability(y_true, probabilities),
        reliability=reliability(y_true, probabilities),
        risk_coverage_area=0.1,
        accepted=accepted(y_true, probabilities, 0.5),
        prediction_set=PredictionSets(0.97, 1.5, 0.5),
        not_waste=NotWaste(
            name="streets",
            n=7,
            score="waste score",
            auroc=interval,
            fpr_at_95=interval,
            rejected=interval,
            accepted_above=interval,
        ),
    )


def test_a_card_before_the_first_evaluation_and_export() -> None:
    card = model_card(CONFIG, {}, None)
    assert "96 x 128 pixels (`crop`)" in card and "26 photos, fingerprint 0123456789ab" in card
    assert "Nothing yet: `trash-classifier evaluate` measures it." in card
    assert "None yet: `trash-classifier export` makes them." in card
    assert "without `--rejection-head`" in card and "65 Wh" in card and "not waste" not in card
    assert "{" not in card


def test_a_card_has_what_was_measured_exported_and_shifted() -> None:
    shifted = {"validation_under_shift": {"clean": 0.9}, "rejection_head": {"auroc": 0.987, "kept": 0.99}}
    config = replace(
        CONFIG, labels=("glass", "paper", "not waste"), negative_label="not waste", conformal_threshold=0.91,
        training={**TRAINING, **shifted, "settings": {"copy_paste": 0.5, "prediction_set_coverage": 0.95}},
    )  # fmt: skip
    parity = Parity(4, 4, 0.001, 0.0001, 1.0, 0.75, 0.75, 0.7, 0.7, 0.1, 0.1, "a.jpg", 2.5)
    files = {"model.onnx": ExportRecord("onnx", "float32", 2_000_000, None, {"file": parity})}
    report = ExportReport(ExportConditions("a machine", {}, "4 photos", "f"), files)
    card = model_card(config, {"test": figures()}, report)
    assert "that tells 2 classes apart: glass, paper." in card
    assert "contains the right class in 95% (split conformal prediction). On test it does in 97.0%" in card
    assert "| streets | 7 | test | 0.500 (0.250 to 0.750) |" in card
    assert "### Per class, test (n = 4)" in card and "| glass | 2 |" in card
    assert "| clean | 90.0% |" in card and "AUROC of 0.987" in card
    assert "| model.onnx | 2.0 MB | 0.001 | 100.0% | 75.0% (trained model 75.0%) | 0.100 | 2.5 ms |" in card


def test_a_card_of_own_classes_says_nothing_of_trashnet() -> None:
    """The licence is the owner's, and nothing is said of waste, posterboard or one place and time."""
    named = replace(CONFIG, labels=("oak", "elm", "not waste"), negative_label="not waste")
    for config in (CONFIG, named):
        copy_pasted = replace(config, training={**TRAINING, "settings": {"copy_paste": 0.5}})
        for trained in (config, copy_pasted):
            card = model_card(trained, {"test": figures()}, None).replace("`not waste`", "")
            for word in ("TrashNet", "waste", "posterboard", "MIT", "Litter", "{"):
                assert word not in card
            assert "Licence of the weights: not stated; the owner of the training photos decides." in card
            assert ("were synthesised" in card) == (trained is copy_pasted)


def test_a_card_of_trashnet_says_what_its_photos_are() -> None:
    data = {**DATA, "name": "sample"}
    config = replace(CONFIG, labels=TRASHNET_LABELS, data=data, license=TRASHNET_LICENSE)
    card = model_card(config, {}, None)
    assert "6 classes of waste apart" in card and "MIT. Keep the notice of its training data." in card
    assert "on white posterboard. Litter" in card and "single pieces of waste" in card
    assert "waste" not in model_card(replace(config, labels=("a", "b")), {}, None)


def test_a_card_shows_names_literally_and_stays_small_with_many_classes() -> None:
    names = ("<b>", "a|b", "`$x$`", *(f"class {i}" for i in range(997)))
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 1000, 600)
    probabilities = softmax(rng.normal(size=(600, 1000)), axis=1)
    scores = describe(y_true, probabilities, names, resamples=100)
    metrics = replace(figures(), **vars(scores))
    card = model_card(replace(CONFIG, labels=names), {"test": metrics}, None)
    assert "1000 classes apart: \\<b\\>, a\\|b, \\`\\$x\\$\\`, class 0" in card
    assert "and 960 more, in labels.txt" in card
    assert "the 40 of 1000 with the lowest F1 (all: metrics.json)" in card
    assert len(card) < 10_000

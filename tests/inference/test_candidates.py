"""The classes that a photo may show: which they are, and how often the right one is among them."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.bare_engine import CONFIG, Rows

from image_classification_trash.evaluation.calibration import fit_conformal_threshold, prediction_sets
from image_classification_trash.evaluation.result import PredictionSets
from image_classification_trash.inference.classifier import Prediction, TrashClassifier, mass_before
from image_classification_trash.models.predict_model import label_or_prediction_set

CLASSES = replace(CONFIG, labels=("glass", "metal", "paper"), negative_label=None)


def prediction_set(mass: float | None, *row: float, negative: bool = False) -> tuple[str, ...]:
    config = replace(CONFIG if negative else CLASSES, conformal_threshold=mass)
    return (
        TrashClassifier(config, Rows()).prediction("a.jpg", np.array(row, np.float32), top_k=1).prediction_set
    )


@pytest.mark.parametrize(
    ("mass", "expected"),
    [
        (None, ("metal",)),
        (0.0, ("metal",)),
        (0.59, ("metal",)),
        (0.61, ("metal", "glass")),
        (0.95, ("metal", "glass", "paper")),
    ],
)
def test_classes_follow_until_those_named_hold_more(mass: float | None, expected: tuple[str, ...]) -> None:
    assert prediction_set(mass, 0.3, 0.6, 0.1) == expected


def test_a_sure_answer_has_one_and_no_waste_has_none() -> None:
    assert prediction_set(0.9, 1.0, 0.0, 0.0) == ("glass",)
    assert prediction_set(0.9, 0.1, 0.2, 0.7, negative=True) == ()


def test_candidates_do_not_depend_on_whether_there_is_waste() -> None:
    """Shares of glass and metal are 0.8 and 0.2, whatever is left for no waste."""
    assert prediction_set(0.75, 0.8, 0.2, 0.0, negative=True) == ("glass",)
    assert prediction_set(0.75, 0.48, 0.12, 0.4, negative=True) == ("glass",)


def test_equal_probabilities_are_named_in_the_order_of_the_labels() -> None:
    assert prediction_set(0.5, 0.4, 0.2, 0.4) == ("glass", "paper")
    assert mass_before(np.array([[0.4, 0.2, 0.4]])) == pytest.approx(np.array([[0.0, 0.8, 0.4]]))


def photos_of(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and probabilities of a model that is not calibrated: it is twice as sure as it ought to be."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 6))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y_true = np.array([rng.choice(6, p=row) for row in shares])
    sharp = shares**2 / (shares**2).sum(1, keepdims=True)
    return y_true, sharp


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.99])
def test_the_right_class_is_among_them_as_often_as_promised(coverage: float) -> None:
    """On average over fits to 300 photos: what split conformal prediction promises, whatever the model is."""
    new_truth, new = photos_of(20_000, 999)
    found = [
        prediction_sets(new_truth, new, fit_conformal_threshold(*photos_of(300, seed), coverage)).right_among
        for seed in range(40)
    ]
    assert coverage - 0.005 < float(np.mean(found)) < coverage + 0.02


def test_too_few_photos_promise_nothing_so_all_classes_are_named() -> None:
    y_true, shares = photos_of(50, 1)
    assert fit_conformal_threshold(y_true, shares, 0.99) == 1.0
    assert prediction_sets(y_true, shares, 1.0) == PredictionSets(right_among=1.0, mean_size=6.0, single=0.0)


@pytest.mark.parametrize(
    ("decision", "count", "shown"),
    [
        ("glass", 2, "glass"),
        ("unsure", 1, "glass"),
        ("unsure", 3, "glass or metal or paper"),
        ("unsure", 4, "glass or metal or paper or others"),
        ("not waste", 0, "glass"),
    ],
)
def test_the_table_for_people_names_three_at_most(decision: str, count: int, shown: str) -> None:
    possible = ("glass", "metal", "paper", "trash")[:count]
    assert (
        label_or_prediction_set(Prediction("a.jpg", "glass", 0.4, decision, prediction_set=possible)) == shown
    )

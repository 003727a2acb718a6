"""The verdict says in plain words what the figures say, and no more."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from image_classification_trash.evaluation.formatting import confusion_table
from image_classification_trash.evaluation.metrics import accepted, describe, reliability
from image_classification_trash.evaluation.model_card import model_card
from image_classification_trash.evaluation.result import Conditions, Metrics
from image_classification_trash.evaluation.verdict import confused_pairs, how_good, next_steps, verdict
from image_classification_trash.inference.bundle import BundleConfig

CLASSES = ("bottles", "cans", "letters")
DATA: dict[str, Any] = {
    "name": "photos", "fingerprint": "0123456789abcdef", "split": {"method": "grouped"},
    "counts": {"train": {"bottles": 60, "cans": 12, "letters": 55}, "val": {"bottles": 9, "cans": 2, "letters": 9}},
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "settings": {"target_precision": 0.98}, "validation": {"n": 20}, "seconds": 60.0, "machine": "2 cores, no accelerator",
}  # fmt: skip
CONFIG = BundleConfig(
    "photos", "sequential_cnn", CLASSES, 96, 128, "crop", 1.0, 0.9, DATA, TRAINING, "abc", {}, "today"
)


def figures(answers: list[tuple[int, int]], confidence: float = 0.95, part: str = "test") -> Metrics:
    """Metrics of photos, given as true and predicted class, all answered with one confidence."""
    y_true, y_pred = np.array(answers).T
    probabilities = np.full((len(y_true), 3), (1 - confidence) / 2)
    probabilities[np.arange(len(y_true)), y_pred] = confidence
    return Metrics(
        **vars(describe(y_true, probabilities, CLASSES, resamples=200)),
        conditions=Conditions("photos", part, "f", None, 0, "bootstrap", "a machine"),
        reliability_before=reliability(y_true, probabilities),
        reliability=reliability(y_true, probabilities),
        risk_coverage_area=0.1,
        accepted=accepted(y_true, probabilities, CONFIG.threshold),
    )


def test_it_counts_names_the_confused_pair_and_says_that_few_photos_are_not_sure() -> None:
    said = verdict(CONFIG, figures([(0, 0)] * 6 + [(1, 1)] * 3 + [(1, 0)] * 2 + [(2, 2)] * 5))
    assert said.startswith("Verdict: good; 14 of 16 test photos right, 87.5% (95% interval ")
    assert "16 photos are few" in said
    assert "Most often confused: cans taken for bottles (2)." in said
    assert "'unsure' for 0 of 16; 87.5% of the other answers are right." in said
    assert (
        "more photos of cans and bottles, the pair confused most (trained on 12 of cans, 60 of bottles)"
        in said
    )
    assert "check the labels of the 2 wrong photos" in said and "\n" not in said


def test_many_photos_without_an_error_make_it_sure() -> None:
    said = verdict(CONFIG, figures([(c, c) for c in range(3)] * 60))
    assert "very good; 180 of 180" in said and "sure for photos like these" in said
    assert "No two classes were confused." in said and "check the labels" not in said
    assert "more photos of cans, with few to learn from (trained on 12 of cans)" in said


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ([(0, 0)] * 8 + [(1, 0)] * 2, "not shown to be better than always answering bottles, which is right for 8"),
        ([(c, c) for c in range(3)] * 15 + [(0, 1), (1, 2), (2, 0)] * 5, "fair; 45 of 60"),
        ([(c, c) for c in range(3)] * 30 + [(0, 1), (1, 2), (2, 0)] * 20, "weak; 90 of 150"),
    ],
)  # fmt: skip
def test_a_grade_is_never_better_than_the_figure(answers: list[tuple[int, int]], text: str) -> None:
    assert next(how_good(figures(answers))).startswith(text)


def test_a_class_that_no_photo_shows_is_named() -> None:
    assert "Nothing is known about letters" in verdict(CONFIG, figures([(0, 0), (1, 1)] * 9))


def test_it_says_why_most_answers_are_unsure_and_what_helps() -> None:
    said = verdict(CONFIG, figures([(c, c) for c in range(3)] * 9, confidence=0.7))
    assert "'unsure' for 27 of 27." in said and "other answers" not in said
    assert "below a probability of 0.90" in said and "20 validation photos so that 98%" in said
    assert "--target-precision" in said
    said = verdict(replace(CONFIG, training={"settings": {}}), figures([(0, 0), (1, 1)] * 9, confidence=0.7))
    assert "That is often" not in said  # a bundle of an earlier version does not say how it chose


def test_photos_of_a_folder_are_called_by_its_name() -> None:
    assert "photos of street right" in verdict(CONFIG, figures([(0, 0), (1, 1)] * 9, part="street"))


def test_the_card_opens_with_the_verdict_on_test() -> None:
    test = figures([(0, 0), (1, 1), (2, 2)] * 9)
    card = model_card(CONFIG, {"test": test, "street": figures([(0, 1)] * 9, part="street")}, None)
    assert card.splitlines()[2] == verdict(CONFIG, test)
    assert "Verdict:" not in model_card(CONFIG, {}, None)


def test_the_confusion_table_has_a_row_for_each_true_class() -> None:
    metrics = figures([(0, 0)] * 3 + [(1, 0)] * 2)
    table = confusion_table(metrics)
    assert table is not None and list(table.lines())[2].split() == ["cans", "2", "0", "0"]
    assert confused_pairs(metrics) == [(2, "cans", "bottles")]
    many = {f"class {number}": metrics.per_class["cans"] for number in range(11)}
    assert confusion_table(replace(metrics, per_class=many)) is None


def test_the_first_advice_is_the_one_that_helps_most() -> None:
    first = next(next_steps(CONFIG, figures([(0, 0), (1, 1), (2, 2)] * 9 + [(2, 0)])))
    assert first.startswith("take more photos of letters and bottles")

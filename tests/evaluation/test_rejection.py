"""Figures on photos without waste: by the waste score where the model has one, else by the largest probability."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.errors import DatasetError
from image_classification_trash.evaluation.rejection import measure_rejection, photos_in
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.inference.classifier import Prediction

SETTINGS = EvaluateSettings(not_waste=Path("grounds"), resamples=100)


def bundle(negative: str | None) -> Bundle:
    return cast(Bundle, SimpleNamespace(config=SimpleNamespace(negative_label=negative)))


def answer(probability: float, score: float | None, decision: str = "glass") -> Prediction:
    return Prediction("a.jpg", "glass", probability, decision, {}, score)


def measured(negative: str | None, waste: list[Prediction], other: list[Prediction]) -> dict[str, Any]:
    return measure_rejection(bundle(negative), waste, other, SETTINGS)


def test_a_perfect_score_parts_them_though_the_probabilities_do_not() -> None:
    waste = [answer(0.6, 0.8 + n / 100) for n in range(10)]
    other = [answer(0.95, n / 100, "not waste") for n in range(10)]
    with_score, without = measured("not waste", waste, other), measured(None, waste, other)
    assert with_score.score == "waste score" and without.score == "largest probability"
    assert with_score.auroc.value == 1 and with_score.fpr_at_95.value == 0
    assert without.auroc.value == 0 and without.fpr_at_95.value == 1
    assert with_score.rejected.value == 1 and with_score.accepted_above.value == 0
    assert with_score.auroc.low < 0.8 and with_score.fpr_at_95.high > 0.2  # ten photos are not certainty


def test_what_is_answered_with_certainty_and_what_cannot_be_read_is_counted() -> None:
    waste = [answer(0.9, None)] * 4
    other = [answer(0.95, None), answer(0.5, None, "unsure"), Prediction("b.jpg", error="not a photo")]
    found = measured(None, waste, other)
    assert found.n == 2 and found.unreadable == 1
    assert found.rejected.value == 0.5 and found.accepted_above.value == 0.5
    assert found.auroc.low <= found.auroc.value <= found.auroc.high


def test_rejection_figures_agree_with_scikit_learn_and_lie_in_their_intervals() -> None:
    rng = np.random.default_rng(0)
    scores, others = rng.beta(5, 2, 60), rng.beta(2, 5, 40)
    found = measured(None, [answer(s, None) for s in scores], [answer(s, None) for s in others])
    y_true = np.r_[np.ones(60), np.zeros(40)]
    assert found.auroc.value == pytest.approx(roc_auc_score(y_true, np.r_[scores, others]))
    assert found.fpr_at_95.value == pytest.approx((others >= np.quantile(scores, 0.05)).mean())
    for figure in (found.auroc, found.fpr_at_95):
        assert 0 <= figure.low < figure.value < figure.high <= 1


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DatasetError, match="no photos"):
        photos_in(tmp_path)
    with pytest.raises(DatasetError, match="no folder"):
        photos_in(tmp_path / "missing")

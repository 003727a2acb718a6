"""Metrics against scikit-learn and against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics as sk

from image_classification_trash.evaluation import calibration, metrics
from image_classification_trash.evaluation.bootstrap import interval
from image_classification_trash.evaluation.result import Interval

LABELS = ["a", "b", "c"]


def scores(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[y_true]
    return y_true, softmax(logits, axis=1)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_agrees_with_scikit_learn(seed: int) -> None:
    y_true, probabilities = scores(seed)
    y_pred = probabilities.argmax(1)
    found = metrics.describe(y_true, probabilities, LABELS, resamples=100)
    assert found.accuracy.value == pytest.approx(sk.accuracy_score(y_true, y_pred))
    assert found.balanced_accuracy.value == pytest.approx(sk.balanced_accuracy_score(y_true, y_pred))
    assert found.macro_f1.value == pytest.approx(sk.f1_score(y_true, y_pred, average="macro"))
    assert found.roc_auc.value == pytest.approx(sk.roc_auc_score(y_true, probabilities, multi_class="ovr"))
    assert found.log_loss.value == pytest.approx(sk.log_loss(y_true, probabilities))
    assert (np.array(found.confusion) == sk.confusion_matrix(y_true, y_pred)).all()
    precision = sk.precision_score(y_true, y_pred, average=None, zero_division=np.nan)
    assert [found.per_class[c].precision.value for c in LABELS] == pytest.approx(precision.tolist())


def test_ties_in_roc_auc_count_half() -> None:
    y_true = np.array([0, 1, 0, 1])
    probabilities = np.full((4, 2), 0.5)
    assert metrics.describe(y_true, probabilities, ["a", "b"]).roc_auc.value == pytest.approx(0.5)


def test_intervals_cover_the_value_and_shrink_with_n() -> None:
    widths = []
    for n in (50, 2000):
        figure = metrics.describe(*scores(1, n), LABELS, resamples=500).accuracy
        assert figure.low <= figure.value <= figure.high
        widths.append(figure.high - figure.low)
    assert widths[1] < widths[0] / 3


def test_a_class_without_photos_has_no_figures() -> None:
    y_true, probabilities = scores(2)
    keep = y_true != 2
    found = metrics.describe(y_true[keep], probabilities[keep], LABELS, resamples=100)
    assert found.per_class["c"].recall is None and found.per_class["c"].n == 0
    assert found.macro_f1 is not None


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_recovered_and_can_be_undone(temperature: float) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20_000, 4)) * 2
    chances = softmax(logits, axis=1)
    y_true = (chances.cumsum(1) > rng.random((len(chances), 1))).argmax(1)
    assert calibration.fit_temperature(y_true, logits * temperature) == pytest.approx(temperature, rel=0.05)
    assert np.allclose(calibration.uncalibrated(softmax(logits / temperature, axis=1), temperature), chances)


def test_ece_of_honest_and_of_boastful_probabilities() -> None:
    y_true = np.array([0] * 70 + [1] * 30)
    honest, boastful = (np.tile([p, 1 - p], (100, 1)) for p in (0.7, 0.99))
    assert metrics.reliability(y_true, honest).ece == pytest.approx(0.0, abs=1e-9)
    assert metrics.reliability(y_true, boastful).ece == pytest.approx(0.29)


def test_threshold_reaches_the_precision_with_the_most_answers() -> None:
    y_true = np.zeros(10, dtype=int)
    top = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.56, 0.55])
    probabilities = np.stack([top, 1 - top], 1)
    probabilities[[4, 8]] = probabilities[[4, 8]][:, ::-1]
    threshold = calibration.choose_threshold(y_true, probabilities, 0.85)
    done = metrics.accepted(y_true, probabilities, threshold)
    assert threshold == pytest.approx(0.6) and done.accepted == 8
    assert done.precision is not None and done.precision >= 0.85
    assert calibration.choose_threshold(y_true + 1, np.tile([0.9, 0.1], (10, 1)), 0.9) == 1.0


def test_risk_coverage_ends_at_the_error_rate() -> None:
    y_true, probabilities = scores(5)
    curve = metrics.risk_coverage(y_true, probabilities)
    assert curve.coverage[-1] == 1.0
    assert curve.risk[-1] == pytest.approx((probabilities.argmax(1) != y_true).mean())


def test_roc_auc_of_one_class_is_not_defined() -> None:
    probabilities = softmax(np.random.default_rng(0).normal(size=(20, 3)), axis=1)
    found = metrics.describe(np.ones(20, int), probabilities, LABELS, resamples=100)
    assert found.roc_auc is None and found.per_class["b"].roc_auc is None
    assert found.accuracy is not None and found.macro_f1 is not None


def test_eight_of_eight_right_is_not_certainty() -> None:
    y_true = np.arange(8) % 2
    found = metrics.describe(y_true, np.eye(2)[y_true], ["a", "b"], resamples=200)
    assert found.accuracy.value == 1 and found.accuracy.low == pytest.approx(0.676, abs=1e-3)
    alike = [found.balanced_accuracy, found.macro_f1, found.roc_auc]
    for one in found.per_class.values():
        alike += [one.precision, one.recall, one.f1, one.roc_auc]
    assert all(figure.value == 1 and figure.low < 0.8 and figure.high == 1 for figure in alike)
    assert found.per_class["a"].recall.low == pytest.approx(0.510, abs=1e-3)  # 4 of 4
    surest = metrics.accuracy_at_coverage(y_true, np.eye(2)[y_true])
    assert surest.n == 6 and surest.low == pytest.approx(0.610, abs=1e-3)


def test_areas_of_all_classes_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    y_true, scores = (
        rng.integers(0, 30, 700),
        rng.integers(0, 5, (700, 30)) / 5,
    )  # many ties, more photos than one block
    weights = np.vstack([np.ones(700), rng.integers(0, 3, 700)]).astype(float)
    area = metrics.roc_auc(y_true, scores, weights)
    for row, weight in zip(area, weights, strict=True):
        expected = [sk.roc_auc_score(y_true == c, scores[:, c], sample_weight=weight) for c in range(30)]
        assert row.tolist() == pytest.approx(expected)


def test_none_right_is_not_certainty_either() -> None:
    y_true = np.arange(8) % 2
    found = metrics.describe(y_true, np.eye(2)[1 - y_true], ["a", "b"], resamples=200)
    assert found.accuracy.value == found.accuracy.low == 0 and found.accuracy.high > 0.3
    assert found.macro_f1.high > 0.2 and found.roc_auc.high > 0.2


def test_one_photo_has_shares_but_no_spread() -> None:
    found = metrics.describe(np.array([0]), np.array([[0.9, 0.1]]), ["a", "b"], resamples=100)
    assert found.accuracy.value == 1 and found.accuracy.low == pytest.approx(0.207, abs=1e-3)
    assert found.log_loss is None and found.brier is None and found.ece is None and found.roc_auc is None


def test_a_figure_that_no_resample_has_is_absent() -> None:
    assert interval(np.array([0.5, np.nan, np.nan])) is None
    assert interval(np.array([np.nan, 0.5, 0.5]), 3) is None
    partly = interval(np.array([0.5, np.nan, 0.4, 0.6]))
    assert partly is not None and 0.4 <= partly.low < partly.high <= 0.6


def test_wilson_s_interval_is_that_of_scipy() -> None:
    for right, n in ((0, 3), (8, 8), (7, 8), (50, 100)):
        ours = Interval.of_share(right / n, n)
        theirs = binomtest(right, n).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)

"""From scores to a calibration, with and without a rejection head."""

import numpy as np
import pytest
from scipy.special import softmax

from image_classification_trash.evaluation import calibration
from image_classification_trash.evaluation.calibration import calibrate


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    """Class numbers (300,) and scores (300, 4) that are right more often than not."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 4, 300)
    return y_true, rng.normal(size=(300, 4)) + 2 * np.eye(4)[y_true]


def test_a_calibration_is_made_of_its_parts(scores: tuple[np.ndarray, np.ndarray]) -> None:
    y_true, logits = scores
    found = calibrate(y_true, logits, None, 0.95, 1.0, 0.9)
    assert found.temperature == calibration.fit_temperature(y_true, logits)
    probabilities = softmax(logits / found.temperature, axis=1)
    assert found.threshold == calibration.choose_threshold(y_true, probabilities, 0.95)
    assert found.conformal_threshold == calibration.fit_conformal_threshold(y_true, probabilities, 0.9)
    assert found.validation.n == 300 and found.validation.accuracy == (logits.argmax(1) == y_true).mean()
    assert found.validation.precision is not None and found.validation.precision >= 0.95
    assert found.validation.prediction_set.right_among >= 0.9


def test_at_most_the_asked_share_is_unsure(scores: tuple[np.ndarray, np.ndarray]) -> None:
    assert calibrate(*scores, None, 0.999, 0.1, 0.9).validation.coverage >= 0.9
    assert calibrate(*scores, None, 0.999, 1.0, 0.9).validation.coverage < 0.9


def test_a_rejection_head_lowers_probabilities_and_leaves_candidates(
    scores: tuple[np.ndarray, np.ndarray],
) -> None:
    waste = np.where(np.arange(300) < 30, 0.2, 0.98).astype(np.float32)
    without, with_head = (calibrate(*scores, shown, 0.9, 1.0, 0.9) for shown in (None, waste))
    assert with_head.temperature == without.temperature
    assert with_head.conformal_threshold == without.conformal_threshold
    assert with_head.threshold < without.threshold
    assert with_head.validation.accepted <= 270

"""Shares of classes are estimated from a model's own answers, pulled to what it assumes, and never to nothing."""

import dataclasses

import numpy as np
import pytest

from image_classification_trash.drift.prior_shift import assumed_shares, estimate_shares
from image_classification_trash.inference.bundle import BundleConfig

CONFIG = BundleConfig(
    name="tiny", architecture="none", labels=("a", "b", "not waste"), input_height=32, input_width=32, resize_mode="stretch",
    temperature=1.0, threshold=0.5, data={"counts": {"train": {"a": 900, "b": 100}}}, training={"settings": {}}, git_commit="0",
    versions={}, created="now", negative_label="not waste",
)  # fmt: skip


def answers(counts: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Calibrated probabilities, for equal shares, of photos that show each class as often as `counts` says."""
    y_true = np.repeat(np.arange(len(counts)), counts)
    score = np.random.default_rng(seed).normal(0, 1, (len(y_true), len(counts)))
    score[np.arange(len(y_true)), y_true] += 2
    powers = np.exp(2 * score)  # of two normal distributions that are 2 apart
    return np.asarray(powers / powers.sum(1, keepdims=True))


def test_the_shares_are_found_the_closer_the_more_photos_there_are() -> None:
    equal = np.full(2, 0.5)
    few, many = (estimate_shares(answers((9 * n, n)), equal) for n in (12, 400))
    assert many[0] == pytest.approx(0.9, abs=0.03)
    assert 0.6 < few[0] < many[0] and few.sum() == pytest.approx(1)


def test_no_share_becomes_nothing() -> None:
    shares = estimate_shares(np.array([[1.0, 0.0, 0.0]] * 200), np.full(3, 1 / 3))
    assert shares.min() > 0.1 and shares[0] == pytest.approx((200 + 100 / 3) / 300)


@pytest.mark.parametrize(
    ("training", "share"),
    [
        ({"settings": {}}, 0.9),
        ({"settings": {"class_weighting": 0.5, "logit_adjustment": 0.5}}, 0.5),
        ({"settings": {"class_weighting": 0.5}}, 0.75),
        ({"settings": {"class_weighting": 1.0, "logit_adjustment": 0.5}}, 0.5),
        ({"settings": {}, "adaptation": {"shares": {"a": 0.2, "b": 0.8}}}, 0.2),
    ],
)
def test_assumed_shares_follow_from_the_training(training: dict[str, object], share: float) -> None:
    config = dataclasses.replace(CONFIG, training=training)
    assert assumed_shares(config) == pytest.approx([share, 1 - share])

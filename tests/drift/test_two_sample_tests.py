"""Two-sample comparisons: they notice shifts, keep their level, and say what they cannot see."""

import numpy as np
import pytest

from image_classification_trash.drift.two_sample_tests import (
    compare_counts,
    compare_embeddings,
    merged,
    stability_index,
)


def counts(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_index_is_the_textbook_one() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])
    expected = ((q - p) * np.log(q / p)).sum()
    million = 10**6
    found = stability_index((p * million).astype(np.int64), (q * million).astype(np.int64))
    assert found == pytest.approx(expected, rel=1e-3)
    assert stability_index(counts(5, 5), counts(10, 0)) < np.inf


def test_same_and_other_counts() -> None:
    same = compare_counts("c", counts(100, 100, 100), counts(33, 34, 33), 0.01, 499, 0)
    other = compare_counts("c", counts(100, 100, 100), counts(10, 10, 80), 0.01, 499, 0)
    assert same.p_value > 0.5 and other.p_value == 1 / 500 and other.value > 0.25 > same.value


def test_few_photos_say_little() -> None:
    few = compare_counts("c", counts(100, 100, 100), counts(5, 5, 10), 0.01, 499, 0)
    many = compare_counts("c", counts(1000, 1000, 1000), counts(250, 250, 500), 0.01, 499, 0)
    assert few.value > 0.1 and few.p_value > 0.01 and few.limit > 0.25 and few.power < 0.5
    assert many.p_value < 0.01 and many.limit < 0.05 and many.power > 0.99


def test_counts_keep_their_level() -> None:
    rng = np.random.default_rng(0)
    shares = (0.5, 0.3, 0.15, 0.05)
    alarms = sum(
        compare_counts("c", rng.multinomial(300, shares), rng.multinomial(40, shares), 0.1, 99, seed).p_value
        <= 0.1
        for seed in range(200)
    )
    assert 5 <= alarms <= 34  # 20 expected; four standard deviations either way


def test_embeddings_keep_their_level_and_notice_a_shift() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for seed in range(100):
        x, y = rng.normal(size=(60, 5)), rng.normal(size=(30, 5))
        alarms += compare_embeddings("e", x, y, 0.1, 99, seed).p_value <= 0.1
    assert 1 <= alarms <= 22  # 10 expected
    x, y = rng.normal(size=(60, 5)), rng.normal(1, 1, size=(30, 5))
    shifted = compare_embeddings("e", x, y, 0.01, 199, 0)
    assert shifted.p_value == 1 / 200 and shifted.value > shifted.limit and shifted.power is None


def test_discrepancy_is_the_unbiased_one() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(7, 3)), rng.normal(1, 1, size=(5, 3))
    pooled = np.vstack([x, y])
    squared = ((pooled[:, None] - pooled[None]) ** 2).sum(2)
    kernel = np.exp(-squared / np.median(squared[np.triu_indices(12, 1)]))
    xx, yy, xy = kernel[:7, :7], kernel[7:, 7:], kernel[:7, 7:]
    expected = (xx.sum() - 7) / 42 + (yy.sum() - 5) / 20 - 2 * xy.mean()
    assert compare_embeddings("e", x, y, 0.1, 99, 0).value == pytest.approx(expected, abs=1e-5)


def test_thin_intervals_are_merged() -> None:
    reference, stream = merged(counts(0, 1, 1, 50, 40, 7, 1), counts(9, 0, 0, 1, 1, 1, 1))
    assert reference.sum() == 100 and stream.sum() == 13 and len(reference) == len(stream)
    assert (reference >= 5).all() and stream[0] == 10
    assert [part.tolist() for part in merged(counts(0, 0, 9), counts(1, 2, 3))] == [[9], [6]]

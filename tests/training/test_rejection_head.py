"""The detector of photos without waste, on made-up embeddings."""

import numpy as np
import pytest

from image_classification_trash.training.rejection_head import fit_to_embeddings


def clusters(distance: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    waste = rng.normal(0, 1, (300, 8)).astype(np.float32)
    other = rng.normal(0, 1, (200, 8)).astype(np.float32)
    other[:, 0] += distance
    return waste, other


def test_it_parts_what_can_be_parted_and_keeps_the_share_that_was_asked_for() -> None:
    (waste, other), (val_waste, val_other) = clusters(5, 0), clusters(5, 1)
    rejection_head = fit_to_embeddings(waste, other, val_waste, val_other, rejected=0.02)
    assert rejection_head.auroc > 0.99
    assert rejection_head.kept == pytest.approx(0.98, abs=0.005)
    assert (rejection_head.logits(val_other) < 0).mean() > 0.95


def test_what_cannot_be_parted_is_said_so() -> None:
    (waste, other), (val_waste, val_other) = clusters(0, 0), clusters(0, 1)
    rejection_head = fit_to_embeddings(waste, other, val_waste, val_other, rejected=0.02)
    assert 0.35 < rejection_head.auroc < 0.65
    assert rejection_head.kept == pytest.approx(0.98, abs=0.005)


def test_a_number_that_is_nearly_always_the_same_does_not_decide() -> None:
    (waste, other), (val_waste, val_other) = clusters(5, 0), clusters(5, 1)
    for part, lifted in ((waste, 0), (other, 1e-3), (val_waste, 0), (val_other, 1e-3)):
        part[:, 7] *= 1e-4
        part[:, 7] += lifted  # ten deviations, and yet next to nothing
    rejection_head = fit_to_embeddings(waste, other, val_waste, val_other, rejected=0.02)
    assert abs(rejection_head.weight[7]) < abs(rejection_head.weight[0])
    assert rejection_head.auroc > 0.99
    val_waste[:, 7] += 0.1
    assert (rejection_head.logits(val_waste) > 0).mean() > 0.95

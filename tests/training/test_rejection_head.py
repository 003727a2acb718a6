"""The detector of photos without waste, on made-up embeddings."""

import numpy as np
import pytest

from image_classification_trash.training.rejection_head import (
    fit_prototypes,
    fit_to_embeddings,
    waste_prototypes,
)


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


def test_prototypes_reject_what_lies_where_no_negative_was_learned_from() -> None:
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)

    def around(rows: list[int], seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0, 0.1, (len(rows) * 60, 8)).astype(np.float32)
        return np.repeat(directions[rows], 60, 0) * 4 + noise

    waste, val_waste, other, unseen = (
        around([0, 1, 2], 1),
        around([0, 1, 2], 2),
        around([3], 3),
        around([4], 4),
    )
    fitted = fit_prototypes(waste, other, val_waste, unseen, rejected=0.02)
    assert fitted.auroc > 0.99 and fitted.kept == pytest.approx(0.98, abs=0.01)
    assert (fitted.logits(unseen) < 0).mean() > 0.95 and (fitted.logits(other) < 0).mean() > 0.95
    assert fitted.logits(7 * val_waste) == pytest.approx(fitted.logits(val_waste), abs=1e-3), (
        "length is no matter"
    )


def test_there_are_no_more_prototypes_than_photos() -> None:
    (waste, other), share = clusters(5, 0), 0.5
    waste = np.repeat(waste[:5], 4, axis=0)
    prototypes, weight = waste_prototypes(waste, other, 16, share)
    assert (
        prototypes.shape == (5, 8) and weight.shape == (8,) and prototypes.dtype == weight.dtype == np.float32
    )
    assert np.linalg.norm(prototypes, axis=1) == pytest.approx(1.0, abs=1e-5)

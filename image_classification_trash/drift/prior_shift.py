"""Estimate how frequent each class is at a place from unlabelled photos, so that a model's answers can follow.

Expectation maximisation on the model's own probabilities (Saerens, Latinne and Decaestecker, 2002). It assumes that each class
looks there as it did in training. Where that does not hold, errors become shares; so the shares that the model assumes count as
photos too.
"""

import numpy as np

from image_classification_trash.arrays import Floats
from image_classification_trash.inference.bundle import BundleConfig

MIN_PHOTOS = 100
"""Fewest photos that shares are estimated from."""
PRIOR_PHOTOS = 100
"""Number of photos that the assumed shares count as."""
STEPS, ENOUGH = 500, 1e-7


def estimate_shares(probabilities: Floats, assumed: Floats) -> Floats:
    """Return the shares of the classes (C,) among photos.

    Args:
        probabilities: calibrated, of each photo (N, C), each row summing to 1.
        assumed: shares (C,) that the model assumes, all above 0.
    """
    shares = assumed
    for _ in range(STEPS):
        answers = probabilities * (shares / assumed)
        answers /= answers.sum(axis=1, keepdims=True)
        before, shares = shares, (answers.sum(0) + PRIOR_PHOTOS * assumed) / (len(answers) + PRIOR_PHOTOS)
        if np.abs(shares - before).max() < ENOUGH:
            break
    return shares


def assumed_shares(config: BundleConfig) -> Floats:
    """Return the shares (C,) that a model assumes its photos to have.

    Those of its training photos, to the power that the weighting of the loss and the logit adjustment leave; or those of an
    earlier adaptation.
    """
    adapted = config.training.get("adaptation") or {}
    if adapted.get("shares"):
        return np.array([adapted["shares"][label] for label in config.classes])
    train, settings = config.data.get("counts", {}).get("train", {}), config.training.get("settings", {})
    taken = (settings.get("class_weighting") or 0.0) + (settings.get("logit_adjustment") or 0.0)
    counts = np.array([max(train.get(label, 1), 1) for label in config.classes], np.float64)
    powers = counts ** max(1 - taken, 0.0)
    return np.asarray(powers / powers.sum())

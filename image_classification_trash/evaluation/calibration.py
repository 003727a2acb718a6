"""From scores to probabilities that can be trusted: temperature, threshold, candidates."""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.metrics import log_losses, softmax
from image_classification_trash.evaluation.result import CandidateSets
from image_classification_trash.inference.classifier import mass_before


def fit_temperature(truth: Ints, logits: Floats) -> float:
    """The temperature that makes `softmax(logits / T)` most probable (Guo et al., 2017), between 0.05 and 20."""

    def loss(log_temperature: float) -> float:
        return float(log_losses(truth, softmax(logits / np.exp(log_temperature))).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def choose_threshold(truth: Ints, probabilities: Floats, target_precision: float) -> float:
    """The smallest top probability above which answers reach a precision; 1.0 where none do.

    Every candidate is a confidence that occurs, and precision is taken over all photos at or above it.
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    confidence = probabilities.max(1)[order]
    right = (probabilities.argmax(1) == truth)[order]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    last_of_ties = np.append(confidence[1:] < confidence[:-1], True)
    good = np.nonzero((precision >= target_precision) & last_of_ties)[0]
    return float(confidence[good[-1]]) if len(good) else 1.0


def cap_threshold(probabilities: Floats, threshold: float, share: float) -> float:
    """`threshold`, lowered until at most `share` of these photos are under it."""
    confidence = np.sort(probabilities.max(1))
    allowed = min(int(share * len(confidence)), len(confidence) - 1)
    return min(threshold, float(confidence[allowed]))


def fit_candidate_mass(truth: Ints, probabilities: Floats, coverage: float) -> float:
    """The mass up to which classes are candidates, so that `coverage` of photos have the right one among theirs.

    Split conformal prediction (Vovk et al., 2005) with what more probable classes hold as the score (adaptive sets,
    Romano et al., 2020, without their random last step, so that the most probable class is always one): it holds for
    photos like these ones, and for no others.
    """
    scores = np.sort(mass_before(probabilities)[np.arange(len(truth)), truth])
    rank = math.ceil((len(truth) + 1) * coverage)
    return float(scores[rank - 1]) if rank <= len(truth) else 1.0


def candidate_sets(truth: Ints, probabilities: Floats, mass: float) -> CandidateSets:
    """How often the right class is among the candidates, and how many there are."""
    kept = mass_before(probabilities) <= mass
    return CandidateSets(
        right_among=float(kept[np.arange(len(truth)), truth].mean()),
        mean_size=float(kept.sum(1).mean()),
        single=float((kept.sum(1) == 1).mean()),
    )


def uncalibrated(probabilities: Floats, temperature: float) -> Floats:
    """Undo a temperature: the probabilities at T = 1 from those at T, which are proportional to exp(z / T)."""
    return softmax(np.log(np.maximum(probabilities, 1e-30)) * temperature)

"""From scores to probabilities that can be trusted: temperature, threshold, candidates."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.metrics import accepted, log_losses, macro_f1, softmax
from image_classification_trash.evaluation.result import PredictionSets
from image_classification_trash.inference.classifier import mass_before


@dataclass(frozen=True)
class Validation:
    """How a calibrated network does on the photos that it was calibrated on; the names are those in config.json.

    Attributes:
        n: photos.
        accuracy: with an answer to each.
        macro_f1: with an answer to each.
        threshold: smallest top probability that is answered.
        answered: photos.
        coverage: their share.
        precision: share of the answers that are right; None where there are none.
        prediction_set: which classes stay possible.
    """

    n: int
    accuracy: float
    macro_f1: float
    threshold: float
    accepted: int
    coverage: float
    precision: float | None
    prediction_set: PredictionSets


@dataclass(frozen=True)
class Calibration:
    """What turns scores into answers.

    Attributes:
        temperature: that scores are divided by.
        threshold: smallest top probability that is answered.
        conformal_threshold: up to which classes are candidates.
        validation: what comes of it.
    """

    temperature: float
    threshold: float
    conformal_threshold: float
    validation: Validation


def calibrate(
    y_true: Ints,
    scores: Floats,
    waste: Floats | None,
    target_precision: float,
    max_rejected: float,
    prediction_set_coverage: float,
) -> Calibration:
    """Fit temperature, threshold and candidates.

    Args:
        y_true: class numbers (N,).
        scores: of the classes (N, C), float64, at temperature 1.
        waste: probability of each photo to show waste, (N,); None without a rejection head.
        target_precision: that answers reach, in `choose_threshold`.
        most_turned_away: largest share without an answer, in `cap_threshold`.
        prediction_set_coverage: share of photos whose right class is a candidate, in `fit_conformal_threshold`.
    """
    temperature = fit_temperature(y_true, scores)
    shares = softmax(scores / temperature)  # (N, C), given that there is waste
    mass = fit_conformal_threshold(y_true, shares, prediction_set_coverage)
    probabilities = shares if waste is None else shares * waste[:, None]
    threshold = choose_threshold(y_true, probabilities, target_precision)
    threshold = cap_threshold(probabilities, threshold, max_rejected)
    done = accepted(y_true, probabilities, threshold, waste)
    validation = Validation(
        n=len(y_true),
        accuracy=float((scores.argmax(1) == y_true).mean()),
        macro_f1=macro_f1(y_true, scores.argmax(1)),
        threshold=done.threshold,
        accepted=done.accepted,
        coverage=done.coverage,
        precision=done.precision,
        prediction_set=prediction_sets(y_true, shares, mass),
    )
    return Calibration(temperature, threshold, mass, validation)


def fit_temperature(y_true: Ints, logits: Floats) -> float:
    """The temperature that makes `softmax(logits / T)` most probable (Guo et al., 2017), between 0.05 and 20."""

    def loss(log_temperature: float) -> float:
        return float(log_losses(y_true, softmax(logits / np.exp(log_temperature))).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def choose_threshold(y_true: Ints, probabilities: Floats, target_precision: float) -> float:
    """The smallest top probability above which answers reach a precision; 1.0 where none do.

    Every candidate is a confidence that occurs, and precision is taken over all photos at or above it.
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    confidence = probabilities.max(1)[order]
    right = (probabilities.argmax(1) == y_true)[order]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    last_of_ties = np.append(confidence[1:] < confidence[:-1], True)
    good = np.nonzero((precision >= target_precision) & last_of_ties)[0]
    return float(confidence[good[-1]]) if len(good) else 1.0


def cap_threshold(probabilities: Floats, threshold: float, share: float) -> float:
    """`threshold`, lowered until at most `share` of these photos are under it."""
    confidence = np.sort(probabilities.max(1))
    allowed = min(int(share * len(confidence)), len(confidence) - 1)
    return min(threshold, float(confidence[allowed]))


def fit_conformal_threshold(y_true: Ints, probabilities: Floats, coverage: float) -> float:
    """The mass up to which classes are candidates, so that `coverage` of photos have the right one among theirs.

    Split conformal prediction (Vovk et al., 2005) with what more probable classes hold as the score (adaptive sets,
    Romano et al., 2020, without their random last step, so that the most probable class is always one): it holds for
    photos like these ones, and for no others.
    """
    scores = np.sort(mass_before(probabilities)[np.arange(len(y_true)), y_true])
    rank = math.ceil((len(y_true) + 1) * coverage)
    return float(scores[rank - 1]) if rank <= len(y_true) else 1.0


def prediction_sets(y_true: Ints, probabilities: Floats, mass: float) -> PredictionSets:
    """How often the right class is among the candidates, and how many there are."""
    kept = mass_before(probabilities) <= mass
    return PredictionSets(
        right_among=float(kept[np.arange(len(y_true)), y_true].mean()),
        mean_size=float(kept.sum(1).mean()),
        single=float((kept.sum(1) == 1).mean()),
    )


def uncalibrated(probabilities: Floats, temperature: float) -> Floats:
    """Undo a temperature: the probabilities at T = 1 from those at T, which are proportional to exp(z / T)."""
    return softmax(np.log(np.maximum(probabilities, 1e-30)) * temperature)

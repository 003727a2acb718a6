"""Calibrate scores into probabilities: temperature, threshold and prediction sets."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.metrics import accepted, log_losses, macro_f1
from image_classification_trash.evaluation.result import PredictionSets
from image_classification_trash.inference.classifier import mass_before


@dataclass(frozen=True)
class Validation:
    """Figures of a calibrated network on the photos it was calibrated on, named as in config.json.

    Attributes:
        n: number of photos.
        accuracy: over all photos, none rejected.
        macro_f1: over all photos, none rejected.
        threshold: smallest top probability that is accepted.
        accepted: number of accepted photos.
        coverage: share of accepted photos.
        precision: share of accepted photos with the right class; None if no photo is accepted.
        prediction_set: coverage and size of the prediction sets.
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
    """The parameters that turn scores into answers.

    Attributes:
        temperature: divisor of the scores.
        threshold: smallest top probability that is accepted.
        conformal_threshold: probability mass that a prediction set must reach.
        validation: figures on the photos these were fitted to.
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
    """Fit the temperature, the threshold and the conformal threshold.

    Args:
        y_true: class numbers (N,).
        scores: class scores (N, C), float64, at temperature 1.
        waste: probability that each photo shows waste, (N,); None without a rejection head.
        target_precision: precision of accepted photos to reach, as in `choose_threshold`.
        max_rejected: largest share of rejected photos, as in `cap_threshold`.
        prediction_set_coverage: share of photos whose prediction set contains the right class, as in
            `fit_conformal_threshold`.
    """
    temperature = fit_temperature(y_true, scores)
    shares = softmax(scores / temperature, axis=1)  # (N, C), given that there is waste
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
    """Return the temperature T in [0.05, 20] that minimises the log loss of `softmax(logits / T)` (Guo et al., 2017)."""

    def loss(log_temperature: float) -> float:
        return float(log_losses(y_true, softmax(logits / np.exp(log_temperature), axis=1)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def choose_threshold(y_true: Ints, probabilities: Floats, target_precision: float) -> float:
    """Return the smallest top probability from which on answers reach a precision; 1.0 if no threshold does.

    Only confidences that occur are tried; precision is measured over all photos at or above each.
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    confidence = probabilities.max(1)[order]
    right = (probabilities.argmax(1) == y_true)[order]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    last_of_ties = np.append(confidence[1:] < confidence[:-1], True)
    good = np.nonzero((precision >= target_precision) & last_of_ties)[0]
    return float(confidence[good[-1]]) if len(good) else 1.0


def cap_threshold(probabilities: Floats, threshold: float, share: float) -> float:
    """Return `threshold`, lowered if needed so that at most `share` of these photos are below it."""
    confidence = np.sort(probabilities.max(1))
    allowed = min(int(share * len(confidence)), len(confidence) - 1)
    return min(threshold, float(confidence[allowed]))


def fit_conformal_threshold(y_true: Ints, probabilities: Floats, coverage: float) -> float:
    """Return the probability mass at which prediction sets contain the right class for a share `coverage` of photos.

    Split conformal prediction (Vovk et al., 2005); the score is the mass of all more probable classes (adaptive
    prediction sets, Romano et al., 2020, without randomisation, so that a set always contains the most probable
    class). The guarantee covers only photos distributed like these.
    """
    scores = np.sort(mass_before(probabilities)[np.arange(len(y_true)), y_true])
    rank = math.ceil((len(y_true) + 1) * coverage)
    return float(scores[rank - 1]) if rank <= len(y_true) else 1.0


def prediction_sets(y_true: Ints, probabilities: Floats, mass: float) -> PredictionSets:
    """Measure how often prediction sets contain the right class, and how large they are."""
    kept = mass_before(probabilities) <= mass
    return PredictionSets(
        right_among=float(kept[np.arange(len(y_true)), y_true].mean()),
        mean_size=float(kept.sum(1).mean()),
        single=float((kept.sum(1) == 1).mean()),
    )


def uncalibrated(probabilities: Floats, temperature: float) -> Floats:
    """Undo temperature scaling: return the probabilities (N, C) at T = 1, given those at `temperature`."""
    return np.asarray(softmax(np.log(np.maximum(probabilities, 1e-30)) * temperature, axis=1))

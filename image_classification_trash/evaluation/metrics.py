"""Metrics of a classifier with 95% bootstrap intervals, on labels (N,) and probabilities (N, C).

Counts and single figures are scikit-learn's. Figures with intervals are computed here for all resamples at once, as matrix
products; scikit-learn takes one weighting of the photos per call.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, f1_score

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.bootstrap import bootstrap_weights, interval, mean_n
from image_classification_trash.evaluation.result import (
    Accepted,
    AccuracyAtCoverage,
    ClassScores,
    Reliability,
    RiskCoverage,
    Scores,
)

BINS = 15
_TINY = 1e-12


def describe(
    y_true: Ints, probabilities: Floats, labels: Sequence[str], resamples: int = 2000, seed: int = 0
) -> Scores:
    """Compute all scores of an evaluation.

    Args:
        y_true: class numbers (N,).
        probabilities: calibrated, (N, C), rows summing to 1.
        labels: the C class names.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        Scores with intervals; None for a score that is undefined on these photos, such as that of a class without photos.
    """
    n, y_pred = len(y_true), probabilities.argmax(1)
    weights = bootstrap_weights(n, resamples, np.random.default_rng(seed))
    numbers = range(len(labels))
    figures = [_class_figures(y_true == c, y_pred == c, probabilities[:, c], weights) for c in numbers]
    per_class = {label: figure.scores for label, figure in zip(labels, figures, strict=True)}
    present = [figure for figure in figures if figure.scores.n]
    squared_distances = ((probabilities - np.eye(probabilities.shape[1])[y_true]) ** 2).sum(1)
    no_share = interval if n > 1 else lambda _: None  # a single photo has no spread
    sizes = [figure.scores.n for figure in present]
    return Scores(
        n=n,
        accuracy=interval(weights @ (y_true == y_pred) / n, n),
        balanced_accuracy=interval(_mean_of_classes([f.recall for f in present]), mean_n(sizes)),
        macro_f1=interval(_mean_of_classes([f.f1 for f in present]), mean_n(sizes)),
        roc_auc=interval(
            _mean_of_classes([f.roc_auc for f in present]),
            mean_n(np.minimum(sizes, n - np.array(sizes)).clip(1)),
        ),
        log_loss=no_share(weights @ log_losses(y_true, probabilities) / n),
        brier=no_share(weights @ squared_distances / n),
        ece=no_share(_ece(y_true, probabilities, weights)),
        per_class=per_class,
        confusion=confusion_matrix(y_true, y_pred, labels=numbers).tolist(),
    )


def macro_f1(y_true: Ints, y_pred: Ints) -> float:
    """Return the mean F1 of the classes that occur in `y_true`."""
    return float(f1_score(y_true, y_pred, labels=np.unique(y_true), average="macro"))


def reliability(y_true: Ints, probabilities: Floats, bins: int = BINS) -> Reliability:
    """Compute mean confidence, accuracy and count in equal-width bins of the top probability, and the ECE over them.

    Expected calibration error (ECE) as in Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == y_true
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    inside = [place == b for b in range(bins)]
    return Reliability(
        confidence=[float(confidence[m].mean()) if m.any() else None for m in inside],
        accuracy=[float(right[m].mean()) if m.any() else None for m in inside],
        count=[int(m.sum()) for m in inside],
        ece=float(_ece(y_true, probabilities, np.ones((1, len(y_true))), bins)[0]),
    )


def risk_coverage(y_true: Ints, probabilities: Floats) -> RiskCoverage:
    """Compute the error among accepted photos as coverage grows, most confident first, and the area under the curve.

    El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", 2010.
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    wrong = (probabilities.argmax(1) != y_true)[order]
    accepted = np.arange(1, len(wrong) + 1)
    risk = np.cumsum(wrong) / accepted
    return RiskCoverage((accepted / len(wrong)).tolist(), risk.tolist(), float(risk.mean()))


def accepted(
    y_true: Ints, probabilities: Floats, threshold: float, waste: Floats | None = None, limit: float = 0.5
) -> Accepted:
    """Count the accepted photos, and measure their precision.

    Args:
        y_true: class numbers (N,).
        probabilities: of the classes, (N, C).
        threshold: smallest top probability that is accepted.
        waste: probability that each photo shows waste, (N,); None without a rejection head.
        limit: photos whose probability of showing no waste reaches this are rejected.
    """
    sure = probabilities.max(1) >= threshold
    sure = sure if waste is None else sure & (1 - waste < limit)
    right = probabilities.argmax(1) == y_true
    precision = float(right[sure].mean()) if sure.any() else None
    return Accepted(threshold, int(sure.sum()), float(sure.mean()), precision)


def accuracy_at_coverage(
    y_true: Ints, probabilities: Floats, coverage: float = 0.8, resamples: int = 2000, seed: int = 0
) -> AccuracyAtCoverage:
    """Measure accuracy on the share `coverage` of photos with the most confident answers, with its interval and n."""
    count = max(1, round(coverage * len(y_true)))
    kept = np.argsort(-probabilities.max(1), kind="stable")[:count]
    right = (probabilities.argmax(1) == y_true)[kept]
    weights = bootstrap_weights(count, resamples, np.random.default_rng(seed))
    figure = interval(weights @ right / count, count)
    assert figure is not None  # `count` is at least 1
    return AccuracyAtCoverage(coverage, count, figure.value, figure.low, figure.high)


@dataclass(frozen=True)
class _ClassFigures:
    """The scores of a class, and the figures of the sample and its resamples, (1 + R,), that means over classes take."""

    scores: ClassScores
    recall: Floats
    f1: Floats
    roc_auc: Floats


def _class_figures(
    is_class: npt.NDArray[np.bool_], is_predicted: npt.NDArray[np.bool_], score: Floats, weights: Floats
) -> _ClassFigures:
    hit, n = is_class & is_predicted, int(is_class.sum())
    recall, f1 = _ratio(weights, hit, is_class), _f1(weights, is_class, is_predicted)
    roc_auc = auc(score, is_class, weights)
    scores = ClassScores(
        n=n,
        precision=interval(_ratio(weights, hit, is_predicted), int(is_predicted.sum())),
        recall=interval(recall, n),
        f1=interval(f1, int((is_class | is_predicted).sum())),
        roc_auc=interval(roc_auc, min(n, len(is_class) - n)),
    )
    return _ClassFigures(scores, recall, f1, roc_auc)


def _ratio(weights: Floats, part: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_]) -> Floats:
    below = weights @ whole
    return np.asarray(np.where(below > 0, weights @ part / np.maximum(below, _TINY), np.nan))


def _f1(weights: Floats, is_class: npt.NDArray[np.bool_], is_predicted: npt.NDArray[np.bool_]) -> Floats:
    below = weights @ is_class + weights @ is_predicted
    return np.asarray(
        np.where(below > 0, 2 * (weights @ (is_class & is_predicted)) / np.maximum(below, _TINY), np.nan)
    )


def auc(score: Floats, is_class: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the probability that a photo of the class outscores one of another; ties count half (Hanley and McNeil, 1982).

    Args:
        score: of the photos, (N,).
        is_class: of the photos, (N,).
        weights: of the photos in R resamples, (R, N).

    Returns:
        The area under the ROC curve of each resample, (R,); NaN where it lacks either kind of photo.
    """
    order = np.argsort(score, kind="stable")
    _, tie = np.unique(score[order], return_inverse=True)
    positive = _sum_ties(weights[:, order] * is_class[order], tie)
    negative = _sum_ties(weights[:, order] * ~is_class[order], tie)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + negative / 2)).sum(1)
    pairs = positive.sum(1) * negative.sum(1)
    return np.asarray(np.where(pairs > 0, wins / np.maximum(pairs, _TINY), np.nan))


def _sum_ties(values: Floats, tie: Ints) -> Floats:
    starts = np.nonzero(np.append(True, tie[1:] != tie[:-1]))[0]
    return np.asarray(np.add.reduceat(values, starts, axis=1))


def _mean_of_classes(figures: Sequence[Floats]) -> Floats:
    """Return the mean over classes for which a resample has a figure, (1 + R,); NaN where none has one."""
    values = np.stack(figures)
    known = ~np.isnan(values)
    count = known.sum(0)
    mean = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, mean, np.nan))


def log_losses(y_true: Ints, probabilities: Floats) -> Floats:
    """Return the negative log likelihood (N,) of each true class."""
    return np.asarray(-np.log(np.maximum(probabilities[np.arange(len(y_true)), y_true], 1e-15)))


def _ece(y_true: Ints, probabilities: Floats, weights: Floats, bins: int = BINS) -> Floats:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == y_true
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.stack([weights @ ((place == b) * (right - confidence)) for b in range(bins)])
    return np.asarray(np.abs(gap).sum(0) / weights.sum(1))

"""Metrics of a classifier with 95% bootstrap intervals, on labels (N,) and probabilities (N, C).

Counts and single figures are scikit-learn's. Figures with intervals are computed here for all resamples at once, as matrix
products; scikit-learn takes one weighting of the photos per call.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics import confusion_matrix, f1_score

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.bootstrap import (
    BINS,
    bootstrap_weights,
    calibration_error,
    interval,
    mean_n,
    mean_of_classes,
    ratio,
)
from image_classification_trash.evaluation.result import (
    Accepted,
    AccuracyAtCoverage,
    ClassScores,
    Reliability,
    RiskCoverage,
    Scores,
)

_AT_ONCE = 256
"""Number of photos that are compared with all others at once."""


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
    n, classes, y_pred = len(y_true), len(labels), probabilities.argmax(1)
    weights = bootstrap_weights(n, resamples, np.random.default_rng(seed))
    support = weights @ _one_hot(y_true, classes)  # (1 + R, C), as all figures of classes
    predicted = weights @ _one_hot(y_pred, classes)
    hits = weights[:, y_true == y_pred] @ _one_hot(y_true[y_true == y_pred], classes)
    precision, recall = ratio(hits, predicted), ratio(hits, support)
    f1 = ratio(2 * hits, support + predicted)
    area = roc_auc(y_true, probabilities, weights)
    counts, answers, right = (row[0].astype(int).tolist() for row in (support, predicted, hits))
    per_class = {
        label: ClassScores(
            n=counts[c],
            precision=interval(precision[:, c], answers[c]),
            recall=interval(recall[:, c], counts[c]),
            f1=interval(f1[:, c], counts[c] + answers[c] - right[c]),
            roc_auc=interval(area[:, c], min(counts[c], n - counts[c])),
        )
        for c, label in enumerate(labels)
    }
    present = np.flatnonzero(counts)
    sizes = support[0, present]
    squared_distances = ((probabilities - np.eye(classes)[y_true]) ** 2).sum(1)
    no_share = interval if n > 1 else lambda _: None  # a single photo has no spread
    return Scores(
        n=n,
        accuracy=interval(weights @ (y_true == y_pred) / n, n),
        balanced_accuracy=interval(mean_of_classes(recall[:, present]), mean_n(sizes)),
        macro_f1=interval(mean_of_classes(f1[:, present]), mean_n(sizes)),
        roc_auc=interval(mean_of_classes(area[:, present]), mean_n(np.minimum(sizes, n - sizes).clip(1))),
        log_loss=no_share(weights @ log_losses(y_true, probabilities) / n),
        brier=no_share(weights @ squared_distances / n),
        ece=no_share(calibration_error(probabilities.max(1), y_true == y_pred, weights)),
        per_class=per_class,
        confusion=confusion_matrix(y_true, y_pred, labels=range(classes)).tolist(),
    )


def roc_auc(y_true: Ints, scores: Floats, weights: Floats) -> Floats:
    """Return the probability that a photo of a class outscores one of another; ties count half (Hanley and McNeil, 1982).

    Args:
        y_true: class numbers (N,).
        scores: of the photos for each class, (N, C).
        weights: of the photos in R resamples, (R, N).

    Returns:
        The area under the ROC curve of each class against the rest in each resample, (R, C); NaN where a resample lacks
        photos of the class or of the rest.
    """
    one_hot = _one_hot(y_true, scores.shape[1])
    wins = np.zeros((len(weights), scores.shape[1]))
    counts = weights.astype(np.float32)  # twice as fast, and exact for multiples of 0.5 below 2^23
    for start in range(0, len(y_true), _AT_ONCE):
        mine = slice(start, start + _AT_ONCE)
        theirs = scores[:, y_true[mine]]  # (N, K): of all photos for the classes of these
        own = np.take_along_axis(scores[mine], y_true[mine, None], axis=1)[:, 0]  # (K,)
        beaten = (theirs < own) + np.float32(0.5) * (theirs == own)
        beaten[y_true[:, None] == y_true[mine]] = 0
        wins += (weights[:, mine] * (counts @ beaten)) @ one_hot[mine]
    support = weights @ one_hot
    return ratio(wins, support * (weights.sum(1, keepdims=True) - support))


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
        ece=float(calibration_error(confidence, right, np.ones((1, len(y_true))), bins)[0]),
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


def _one_hot(y: Ints, classes: int) -> csr_array:
    """Return class numbers (N,) as a sparse matrix (N, C) with a 1 in each row."""
    return csr_array((np.ones(len(y)), y, np.arange(len(y) + 1)), shape=(len(y), classes))


def log_losses(y_true: Ints, probabilities: Floats) -> Floats:
    """Return the negative log likelihood (N,) of each true class."""
    return np.asarray(-np.log(np.maximum(probabilities[np.arange(len(y_true)), y_true], 1e-15)))

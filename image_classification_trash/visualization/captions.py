"""The captions of an evaluation's pictures: each says what its picture shows, in figures."""

from collections.abc import Mapping, Sequence

from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.result import Metrics
from image_classification_trash.evaluation.verdict import confused_pairs

WIDE = ("worst_errors", "reliability", "per_class", "training_curves")
"""The pictures that take the whole width of a page."""
ALT = {
    "confusion_matrix": "Confusion matrix, in photos and in percent of each true class: true classes in rows, predicted ones in columns.",
    "risk_coverage": "Error rate of the accepted photos against the share of photos that are accepted.",
    "reliability": "Accuracy against confidence in bins, before and after temperature scaling, and the number of photos in each.",
    "per_class": "Precision, recall and F1 of each class with 95% intervals.",
    "training_curves": "Losses and validation scores, epoch by epoch.",
    "worst_errors": "Photos that were answered wrongly, each beside the regions that its answer rests on.",
}
"""What each picture shows, for those who do not see it."""


def of_confusion(metrics: Metrics) -> str:
    """Say how many photos are right, and which classes are confused most."""
    right = sum(counts[label] for label, counts in enumerate(metrics.confusion))
    said = f"{right} of {metrics.n} photos are right: they lie on the diagonal."
    pairs = confused_pairs(metrics)
    if not pairs:
        return f"{said} No two classes were confused."
    count, true, answer = pairs[0]
    return f"{said} The most frequent confusion: {true} taken for {answer}, {count} of {metrics.per_class[true].n} photos."


def of_risk_coverage(metrics: Metrics, risk: Sequence[float]) -> str:
    """Say what `unsure` gains: the error rate at the threshold and without one."""
    accepted = metrics.accepted
    whole = f"without 'unsure', {risk[-1]:.1%} would be"
    if accepted.precision is None:
        return f"At its threshold the model accepts no photo; {whole} wrong."
    return (
        f"At its threshold the model accepts {accepted.coverage:.1%} of the photos, of which {1 - accepted.precision:.1%} are "
        f"wrong; {whole}. The rest is left to a person."
    )


def of_reliability(metrics: Metrics) -> str:
    """Say by how much probabilities are too high or too low."""
    bins = metrics.reliability
    n = max(1, sum(bins.count))
    gap = sum(
        c * (p - a)
        for c, p, a in zip(bins.count, bins.confidence, bins.accuracy, strict=True)
        if p is not None and a is not None
    )
    points = f"{100 * abs(gap) / n:.1f}"
    side = (
        f"{points} points too {'high' if gap > 0 else 'low'}"
        if float(points)
        else "neither too high nor too low"
    )
    return (
        f"After temperature scaling, probabilities are {side} on average: "
        f"ECE {bins.ece:.3f}, {metrics.reliability_before.ece:.3f} before."
    )


def of_classes(metrics: Metrics) -> str:
    """Say which class is recognised best and which worst."""
    known = [(s.f1.value, label) for label, s in metrics.per_class.items() if s.f1 is not None]
    if not known:
        return "No class has a figure."
    (_, worst), (_, best) = min(known), max(known)
    low, high = metrics.per_class[worst], metrics.per_class[best]
    return (
        f"Lowest F1: {worst}, {with_interval(low.f1)} on {low.n} photos. Highest: {best}, {with_interval(high.f1)} on "
        f"{high.n}. Lines are 95% intervals."
    )


def of_training(rows: Sequence[Mapping[str, float]]) -> str:
    """Say which epoch was the best; epoch 0 is the start."""
    best = max(rows, key=lambda row: row["val_macro_f1"])
    when = f"after epoch {best['epoch']:.0f} of {rows[-1]['epoch']:.0f}" if best["epoch"] else "at the start"
    return f"Validation macro F1 was highest {when}: {best['val_macro_f1']:.1%}."

"""The verdict of an evaluation in plain words: how good, how sure, which classes are confused, and what to do next."""

from collections.abc import Iterator, Mapping

from image_classification_trash.evaluation.result import Metrics
from image_classification_trash.inference.bundle import BundleConfig

GRADES = ((0.95, "very good"), (0.85, "good"), (0.7, "fair"), (0.0, "weak"))
"""Smallest accuracy of each grade."""
SURE, ROUGHLY_SURE = 0.06, 0.15
"""Largest widths of the accuracy's interval that count as a sure and as a rough figure."""
OFTEN_UNSURE = 0.7
"""Share of accepted photos below which `unsure` is frequent enough to say why."""
FEW_PHOTOS = 50
"""Number of training photos of a class below which more of them are the first advice (docs/tutorials/own-photos.md)."""
NAMED = 3
"""Largest number of classes, and of confused pairs, that a verdict names."""


def verdict(config: BundleConfig, metrics: Metrics) -> str:
    """Write the verdict of an evaluation as one paragraph, which starts with `Verdict:`.

    Args:
        config: the evaluated bundle's description, for its threshold and its number of training photos.
        metrics: what the evaluation measured.
    """
    said = [*how_good(metrics), *confusions(metrics), *how_often_unsure(config, metrics)]
    steps = list(next_steps(config, metrics))
    return f"Verdict: {' '.join(said)} Next: {'; '.join(steps)}."


def confused_pairs(metrics: Metrics) -> list[tuple[int, str, str]]:
    """Return the number of errors of each true and predicted class, most frequent first."""
    labels = list(metrics.per_class)
    pairs = [
        (count, labels[row], labels[column])
        for row, counts in enumerate(metrics.confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(pairs, key=lambda pair: -pair[0])


def how_good(metrics: Metrics) -> Iterator[str]:
    """Yield a grade with the accuracy and its interval, and how sure the figure is."""
    accuracy, n = metrics.accuracy, metrics.n
    if accuracy is None:
        return
    right = sum(counts[label] for label, counts in enumerate(metrics.confusion))
    grade = next(grade for least, grade in GRADES if accuracy.value >= least)
    photos = "test photos" if metrics.conditions.part == "test" else f"photos of {metrics.conditions.part}"
    most = max((scores.n, label) for label, scores in metrics.per_class.items())
    if accuracy.low <= most[0] / n:
        grade = f"not shown to be better than always answering {most[1]}, which is right for {most[0]}"
    bounds = f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"
    yield f"{grade}; {right} of {n} {photos} right, {accuracy.value:.1%} (95% interval {bounds})."
    width = accuracy.high - accuracy.low
    if width <= SURE:
        yield "The figure is sure for photos like these."
    elif width <= ROUGHLY_SURE:
        yield "The figure is a rough one: it could be several points lower or higher."
    else:
        yield f"The figure is uncertain: {n} photos are few, and the interval is {100 * width:.0f} points wide."


def confusions(metrics: Metrics) -> Iterator[str]:
    """Yield the pairs of classes that are confused most, and the classes that no photo shows."""
    pairs = confused_pairs(metrics)
    if pairs:
        named = ", ".join(f"{true} taken for {answer} ({count})" for count, true, answer in pairs[:NAMED])
        yield f"Most often confused: {named}."
    else:
        yield "No two classes were confused."
    if unseen := [label for label, scores in metrics.per_class.items() if not scores.n]:
        yield f"Nothing is known about {_listed(unseen)}: none of these photos shows it."


def how_often_unsure(config: BundleConfig, metrics: Metrics) -> Iterator[str]:
    """Yield how many photos get no class as the answer, and why if they are many."""
    withheld, n = metrics.n - metrics.accepted.accepted, metrics.n
    decision = "'unsure'" if config.negative_label is None else "'unsure' or a rejection"
    precision = metrics.accepted.precision
    right = "" if precision is None else f"; {precision:.1%} of the other answers are right"
    yield f"The answer is {decision} for {withheld} of {n}{right}."
    validation = config.training.get("validation")
    target = config.training["settings"].get("target_precision")
    if metrics.accepted.coverage < OFTEN_UNSURE and validation and target:
        yield (
            f"That is often: answers below a probability of {metrics.accepted.threshold:.2f} are withheld, a threshold that "
            f"training chose on {validation['n']} validation photos so that {target:.0%} of the accepted answers are right."
        )


def next_steps(config: BundleConfig, metrics: Metrics) -> Iterator[str]:
    """Yield what improves the model or the knowledge of it most, first things first."""
    train: Mapping[str, int] = config.data["counts"].get("train", {})
    pairs = confused_pairs(metrics)
    wanted = list(dict.fromkeys(label for _, *both in pairs[:1] for label in both))
    few = [label for label in sorted(train, key=lambda label: train[label]) if train[label] < FEW_PHOTOS]
    rest = [label for label in few if label not in wanted]
    if wanted:
        yield f"take more photos of {_listed(wanted)}, the pair confused most{_numbers(wanted, train)}"
    if rest:
        named = rest[:NAMED]
        yield f"take more photos of {_listed(named)}, with few to learn from{_numbers(named, train)}"
    if pairs:
        wrong = sum(pair[0] for pair in pairs)
        yield f"check the label{'s' * (wrong > 1)} of the {wrong} wrong photo{'s' * (wrong > 1)}, the worst of which the report shows"
    if metrics.accepted.coverage < OFTEN_UNSURE:
        yield "for fewer 'unsure', train with more photos or with a lower --target-precision, which allows more errors"
    yield "evaluate on photos of another place and day (--data FOLDER), which are usually harder"


def _numbers(labels: list[str], train: Mapping[str, int]) -> str:
    known = [f"{train[label]} of {label}" for label in labels if label in train]
    return f" (trained on {', '.join(known)})" if known else ""


def _listed(labels: list[str]) -> str:
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return " and ".join(labels) if len(labels) <= 2 else ", ".join(labels[:NAMED]) + more

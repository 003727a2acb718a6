"""Say in plain words what a comparison of two models shows, and what it does not."""

from collections.abc import Callable, Iterator, Mapping

from image_classification_trash.evaluation.comparison.paired import Paired, PairedFigure
from image_classification_trash.evaluation.result import Interval

SIGNIFICANT = 0.05
NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "coverage": "accepted",
    "accepted_precision": "right, of the accepted",
    "rejected": "photos without waste rejected",
}
"""What people read for a measure."""
BEYOND: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "macro_f1": ("{} has the higher macro F1", lambda gain: gain > 0),
    "ece": ("{} is better calibrated (lower ECE)", lambda gain: gain < 0),
    "coverage": ("{} accepts more photos", lambda gain: gain > 0),
    "accepted_precision": ("more of the answers that {} accepts are right", lambda gain: gain > 0),
    "rejected": ("{} rejects more of the photos without waste", lambda gain: gain > 0),
}
"""What a difference means, by measure, and whether a difference of the second from the first is in the second's favour."""


def conclude(names: tuple[str, str], paired: Paired) -> str:
    """Write the conclusion as one paragraph, which starts with `Conclusion:`."""
    said = [*who_is_right_more_often(names, paired), *beyond_accuracy(names, paired)]
    return f"Conclusion: {' '.join(said)} Other photos, or another training of either model, may decide otherwise."


def who_is_right_more_often(names: tuple[str, str], paired: Paired) -> Iterator[str]:
    """Yield how many photos more one of the two gets right, and whether chance explains that."""
    first, second, n = paired.only_first, paired.only_second, paired.n
    if not first + second:
        yield f"{names[0]} and {names[1]} are right on the same {paired.both_right} of {n} photos."
    elif first == second:
        yield f"{names[0]} and {names[1]} are right on equally many of {n} photos: each on {first} that the other gets wrong."
    else:
        more, fewer = names if first > second else names[::-1]
        alone = f"it alone is right on {max(first, second)}, {fewer} alone on {min(first, second)}"
        yield f"{more} is right on {abs(second - first)} more of {n} photos: {alone}."
    accuracy = paired.of("accuracy")
    if accuracy is None or accuracy.difference is None:
        yield "One photo says nothing about others."
        return
    better = names[0] if first > second else names[1]
    margin = in_favour(accuracy.difference, of_second=first <= second)
    bounds = (
        f"The 95% interval of its lead in accuracy, {100 * margin.low:+.1f} to {100 * margin.high:+.1f} points,"
        if first != second
        else f"The 95% interval of the difference in accuracy, {100 * margin.low:+.1f} to {100 * margin.high:+.1f} points,"
    )
    test = f"McNemar's exact test (p = {paired.p_value:.2g})"
    if not accuracy.shows_a_difference and paired.p_value >= SIGNIFICANT:
        yield f"{bounds} includes no difference: these photos do not show which of the two is more accurate."
    elif accuracy.shows_a_difference and paired.p_value < SIGNIFICANT:
        yield f"{bounds} excludes no difference, and so does {test}: {better} is more accurate on photos like these."
    elif accuracy.shows_a_difference:
        yield f"{bounds} excludes no difference, but {test} does not: a hint that {better} is more accurate, and no more."
    else:
        yield f"{bounds} includes no difference, but {test} does not: a hint that {better} is more accurate, and no more."


def beyond_accuracy(names: tuple[str, str], paired: Paired) -> Iterator[str]:
    """Yield the other measures whose difference is beyond chance."""
    clauses = []
    for figure in paired.figures:
        if figure.measure in BEYOND and figure.shows_a_difference and figure.difference is not None:
            words, favours_second = BEYOND[figure.measure]
            of_second = favours_second(figure.difference.value)
            d = in_favour(figure.difference, of_second=figure.difference.value > 0)
            by = (
                f"{d.value:.3f} ({d.low:.3f} to {d.high:.3f})"
                if figure.measure == "ece"
                else f"{100 * d.value:.1f} points ({100 * d.low:.1f} to {100 * d.high:.1f})"
            )
            clauses.append(f"{words.format(names[of_second])}, by {by}")
    if clauses:
        yield f"Beyond chance: {'; '.join(clauses)}."
    else:
        yield "No other figure differs beyond chance."


def in_favour(difference: Interval, of_second: bool) -> Interval:
    """Return a difference, which is the second's figure minus the first's, as a lead of one of the two."""
    return difference if of_second else Interval(-difference.value, -difference.high, -difference.low)


def difference_text(figure: PairedFigure) -> str:
    """Format a difference as `+1.2 points (-0.3 to +2.8)`; that of the ECE, which is no share, as `-0.012 (...)`."""
    if figure.difference is None:
        return "–"
    d = figure.difference
    if figure.measure == "ece":
        return f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})"
    return f"{100 * d.value:+.1f} points ({100 * d.low:+.1f} to {100 * d.high:+.1f})"


def value_text(figure: PairedFigure, value: float | None) -> str:
    """Format a figure of one model; a dash if it is undefined."""
    if value is None:
        return "–"
    return f"{value:.3f}" if figure.measure == "ece" else f"{value:.1%}"

"""Paired differences of two models on the same photos, with 95% intervals, and McNemar's exact test."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.bootstrap import (
    calibration_error,
    interval,
    mean_of_classes,
    ratio,
    weights_by_group,
)
from image_classification_trash.evaluation.comparison.answers import Answer
from image_classification_trash.evaluation.result import Interval

RESAMPLES, SEED = 2000, 0
PERCENT_OF_PHOTOS = ("accuracy", "coverage", "rejected")
"""The measures that are shares of all photos."""


@dataclass(frozen=True, slots=True)
class PairedFigure:
    """A measure of two models on the same photos.

    Attributes:
        measure: accuracy, macro_f1, ece, coverage, accepted_precision, or rejected: the share of photos without waste that
            are answered `unsure` or with the negative label.
        n: number of photos.
        first: of the first model; None if it is undefined.
        second: of the second model.
        difference: second minus first, with its interval.
    """

    measure: str
    n: int
    first: float | None
    second: float | None
    difference: Interval | None

    @property
    def shows_a_difference(self) -> bool:
        """Return whether the interval of the difference excludes 0."""
        return self.difference is not None and not self.difference.low <= 0 <= self.difference.high


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same photos.

    Attributes:
        n: number of labelled photos.
        groups: number of groups that are drawn in the bootstrap; n if photos are.
        both_right: number of photos on which both are right.
        only_first: number of photos on which only the first is right.
        only_second: number of photos on which only the second is right.
        both_wrong: number of photos on which both are wrong.
        p_value: of McNemar's exact test, two-sided, that both are right equally often.
        figures: each measure and its paired difference.
    """

    n: int
    groups: int
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    p_value: float
    figures: tuple[PairedFigure, ...]

    def of(self, measure: str) -> PairedFigure | None:
        """Return the figure of a measure; None if it was not measured."""
        return next((figure for figure in self.figures if figure.measure == measure), None)


@dataclass(frozen=True, slots=True)
class Columns:
    """Answers for labelled photos as arrays (N,): class numbers, confidence, whether it is right, and accepted."""

    y_pred: Ints
    confidence: Floats
    right: npt.NDArray[np.bool_]
    accepted: npt.NDArray[np.bool_]


def compare_answers(first: Sequence[Answer], second: Sequence[Answer]) -> Paired:
    """Compare the answers of two models for the same photos in the same order.

    Args:
        first: of one model, at least one of them for a labelled photo.
        second: of the other.
    """
    both = [[answer for answer in answers if answer.y_true] for answers in (first, second)]
    labels = sorted(
        {name for answers in both for answer in answers for name in (answer.y_true, answer.y_pred)}
    )
    number = {label: i for i, label in enumerate(labels)}
    y_true = np.array([number[answer.y_true] for answer in both[0]], dtype=np.int64)
    columns = [_columns(answers, number) for answers in both]
    groups = group_numbers(both[0])
    drawn: list[list[Mapping[str, Floats]]] = [[], []]
    for weights in weights_by_group(groups, RESAMPLES, SEED):
        for pieces, model in zip(drawn, columns, strict=True):
            pieces.append(weighted_figures(y_true, model, len(labels), weights))
    values = [{name: np.concatenate([piece[name] for piece in of]) for name in of[0]} for of in drawn]
    n, a, b = len(y_true), columns[0].right, columns[1].right
    figures = [paired_figure(name, n, values[0][name], values[1][name]) for name in values[0]]
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    return Paired(
        n, int(groups.max()) + 1, int((a & b).sum()), only_first, only_second, int((~a & ~b).sum()),
        mcnemar(only_first, only_second), (*figures, *rejection(first, second)),
    )  # fmt: skip


def weighted_figures(y_true: Ints, model: Columns, classes: int, weights: Floats) -> dict[str, Floats]:
    """Return each measure of a model in R resamples, (R,).

    Args:
        y_true: class numbers (N,).
        model: its answers.
        classes: number of classes C.
        weights: of the photos, (R, N).
    """
    total, accepted = weights.sum(1), weights @ model.accepted
    support = sums_by_class(weights, y_true, classes)
    predicted = sums_by_class(weights, model.y_pred, classes)
    hits = sums_by_class(weights[:, model.right], y_true[model.right], classes)
    f1 = ratio(2 * hits, support + predicted)[:, np.unique(y_true)]
    return {
        "accuracy": weights @ model.right / total,
        "macro_f1": mean_of_classes(f1),
        "ece": calibration_error(model.confidence, model.right, weights),
        "coverage": accepted / total,
        "accepted_precision": ratio(weights @ (model.accepted & model.right), accepted),
    }


def sums_by_class(weights: Floats, y: Ints, classes: int) -> Floats:
    """Return the sum of the weights (R, N) of the photos of each class, (R, C), given class numbers (N,)."""
    sums, order = np.zeros((len(weights), classes)), np.argsort(y, kind="stable")
    present, starts = np.unique(y[order], return_index=True)
    if len(present):
        sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def paired_figure(measure: str, n: int, first: Floats, second: Floats) -> PairedFigure:
    """Return a measure of two models and its paired difference.

    Args:
        measure: its name.
        n: number of photos.
        first: of the sample, then of the resamples, (1 + R,); NaN where it is undefined.
        second: of the other model, in the same resamples.
    """
    one, other = (None if math.isnan(figure[0]) else float(figure[0]) for figure in (first, second))
    difference = interval(second - first) if n > 1 else None
    if difference is not None and difference == Interval(0.0, 0.0, 0.0) and measure in PERCENT_OF_PHOTOS:
        most = Interval.of_share(0.0, n).high  # no photo differs, which does not mean that none would
        difference = Interval(0.0, -most, most)
    return PairedFigure(measure, n, one, other, difference)


def rejection(first: Sequence[Answer], second: Sequence[Answer]) -> list[PairedFigure]:
    """Return the share of photos without waste that are rejected; empty where the models were not given the same ones."""
    apart = [[answer for answer in answers if not answer.y_true] for answers in (first, second)]
    if not apart[0] or [answer.path for answer in apart[0]] != [answer.path for answer in apart[1]]:
        return []
    rejected = [np.array([not answer.is_accepted for answer in answers]) for answers in apart]
    pieces = weights_by_group(group_numbers(apart[0]), RESAMPLES, SEED)
    shares = [np.stack([weights @ who / weights.sum(1) for who in rejected]) for weights in pieces]  # (2, r)
    return [paired_figure("rejected", len(apart[0]), *np.concatenate(shares, axis=1))]


def group_numbers(answers: Sequence[Answer]) -> Ints:
    """Return the group of each photo as a number from 0, (N,), in order of appearance; a photo without one is its own."""
    numbers: dict[str | int, int] = {}
    keys: list[str | int] = [answer.group or place for place, answer in enumerate(answers)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (1947): are the photos that only one gets right split by chance?"""
    n, fewer = only_first + only_second, min(only_first, only_second)
    ways = term = 1
    for k in range(fewer):
        term = term * (n - k) // (k + 1)
        ways += term
    return min(1.0, 2 * ways / (1 << n))


def _columns(answers: Sequence[Answer], number: Mapping[str, int]) -> Columns:
    return Columns(
        np.array([number[answer.y_pred] for answer in answers], dtype=np.int64),
        np.array([answer.confidence for answer in answers]),
        np.array([answer.is_right for answer in answers]),
        np.array([answer.is_accepted for answer in answers]),
    )

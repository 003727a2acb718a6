"""Photos whose label is probably wrong: confident learning on predictions that never saw the photo.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels. Journal of Artificial
Intelligence Research 70 (2021). The counting is cleanlab's, whose versions before 2.9 were under the AGPL and are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from image_classification_trash.arrays import Embeddings, Floats, Ints
from image_classification_trash.data.manifest import Photo
from image_classification_trash.data.splits import grouped_folds
from image_classification_trash.training.linear_head import INVERSE_REGULARISATIONS, LinearHead, fit_head

FOLDS = 5
WEIGHTING = 0.5
"""As in training by default: between all photos and all classes weighing the same."""


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """A photo that the others contradict.

    Attributes:
        index: of the photo.
        given: probability of the label that it stands under, of a head that did not see it.
        suggested: the most probable class number.
        probability: of `suggested`.
    """

    index: int
    given: float
    suggested: int
    probability: float


def classes_in_too_few_folds(photos: Sequence[Photo], y_true: Ints, seed: int) -> list[int]:
    """Class numbers that would be missing from the training side of a fold."""
    fold = _folds(photos, seed)
    lacking = set()
    for held_out in range(FOLDS):
        train = _sides(fold, held_out)[0]
        lacking |= set(y_true.tolist()) - set(y_true[train].tolist())
    return sorted(lacking)


def out_of_fold(
    vectors: Embeddings, y_true: Ints, photos: Sequence[Photo], classes: int, seed: int
) -> Floats:
    """Probabilities (N, C) for each photo, of a linear head that saw neither it nor its near-duplicates.

    Args:
        vectors: embeddings (N, D).
        y_true: class numbers (N,).
        photos: with their groups, as in the manifest.
        classes: number of classes C.
        seed: of the folds.

    Raises:
        ValueError: a class is missing from a fold's training side; see `classes_in_too_few_folds`.
    """
    fold = _folds(photos, seed)
    probabilities = np.zeros((len(y_true), classes))
    inverse_regularisations: Sequence[float] = INVERSE_REGULARISATIONS
    for held_out in range(FOLDS):
        train, val, test = _sides(fold, held_out)
        head = fit_head(
            vectors[train],
            y_true[train],
            vectors[val],
            y_true[val],
            classes,
            WEIGHTING,
            inverse_regularisations,
        )
        probabilities[test] = softmax(head.logits(vectors[test]))
        inverse_regularisations = (
            head.inverse_regularisation,
        )  # chosen once: the folds are alike, and each fit takes seconds
    return probabilities


def head_on_all(
    vectors: Embeddings, y_true: Ints, photos: Sequence[Photo], classes: int, seed: int
) -> LinearHead:
    """A linear head for photos that are not among these; arguments as in `out_of_fold`."""
    fold = _folds(photos, seed)
    train, val = fold != 0, fold == 0
    return fit_head(vectors[train], y_true[train], vectors[val], y_true[val], classes, WEIGHTING)


def find_label_issues(y_true: Ints, probabilities: Floats) -> list[LabelIssue]:
    """Label faults by confident learning, the worst first.

    A photo counts as another class's where that class's probability exceeds the mean that its own photos get; such
    photos are pruned by noise rate, as many as the counts say are wrong, and ranked by the probability of their label.
    """
    from cleanlab.filter import find_label_issues  # noqa: PLC0415  takes seconds; only this function needs it

    ranked = find_label_issues(
        y_true, probabilities, filter_by="both", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return [
        LabelIssue(
            int(i),
            float(probabilities[i, y_true[i]]),
            int(probabilities[i].argmax()),
            float(probabilities[i].max()),
        )
        for i in ranked
    ]


def softmax(logits: Floats) -> Floats:
    """Scores (N, C) to probabilities (N, C)."""
    scaled = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(scaled / scaled.sum(1, keepdims=True))


def _folds(photos: Sequence[Photo], seed: int) -> Ints:
    """A fold for each photo; the split that the data set is used with does not matter here."""
    return np.array(
        grouped_folds([replace(photo, split="") for photo in photos], FOLDS, seed), dtype=np.int64
    )


def _sides(fold: Ints, held_out: int) -> tuple[Ints, Ints, Ints]:
    """Indices that a head is fitted on, that its strength is chosen on, and that it answers for."""
    test, val = fold == held_out, fold == (held_out + 1) % FOLDS
    return np.flatnonzero(~(test | val)), np.flatnonzero(val), np.flatnonzero(test)

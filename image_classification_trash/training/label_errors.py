"""Find photos whose label is probably wrong: confident learning on out-of-fold predictions.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels. Journal of Artificial
Intelligence Research 70 (2021). The counting is cleanlab's, whose versions before 2.9 were under the AGPL and are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from image_classification_trash.arrays import Embeddings, Floats, Ints
from image_classification_trash.data.manifest import Photo
from image_classification_trash.data.splits import grouped_folds
from image_classification_trash.training.linear_head import INVERSE_REGULARISATIONS, LinearHead, fit_head

FOLDS = 5
WEIGHTING = 0.5
"""Class weighting, as in training by default."""


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """A photo whose label is probably wrong.

    Attributes:
        index: row of the photo.
        given: out-of-fold probability of its label.
        suggested: number of the most probable class.
        probability: out-of-fold probability of `suggested`.
    """

    index: int
    given: float
    suggested: int
    probability: float


def classes_in_too_few_folds(photos: Sequence[Photo], y_true: Ints, seed: int) -> list[int]:
    """Return the class numbers that the training side of some fold would lack."""
    fold = _folds(photos, seed)
    lacking = set()
    for held_out in range(FOLDS):
        train = _sides(fold, held_out)[0]
        lacking |= set(y_true.tolist()) - set(y_true[train].tolist())
    return sorted(lacking)


def out_of_fold(
    vectors: Embeddings, y_true: Ints, photos: Sequence[Photo], classes: int, seed: int
) -> Floats:
    """Predict probabilities (N, C) for each photo by a linear head fitted without it and its near-duplicates.

    Args:
        vectors: embeddings (N, D).
        y_true: class numbers (N,).
        photos: rows of the manifest, with their groups.
        classes: number of classes C.
        seed: of the folds.

    Raises:
        ValueError: the training side of a fold lacks a class; see `classes_in_too_few_folds`.
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
        probabilities[test] = softmax(head.logits(vectors[test]), axis=1)
        inverse_regularisations = (
            head.inverse_regularisation,
        )  # chosen once: folds are similar, and each fit takes seconds
    return probabilities


def head_on_all(
    vectors: Embeddings, y_true: Ints, photos: Sequence[Photo], classes: int, seed: int
) -> LinearHead:
    """Fit a linear head for photos that are not among these; arguments as in `out_of_fold`."""
    fold = _folds(photos, seed)
    train, val = fold != 0, fold == 0
    return fit_head(vectors[train], y_true[train], vectors[val], y_true[val], classes, WEIGHTING)


def find_label_issues(y_true: Ints, probabilities: Floats) -> list[LabelIssue]:
    """Find label issues by confident learning, least probable label first.

    A photo counts towards another class if that class's probability exceeds its mean over the class's own photos. As many
    photos as these counts estimate to be mislabelled are pruned by noise rate, and ranked by the probability of their label.
    """
    from cleanlab.filter import find_label_issues  # noqa: PLC0415  the import takes seconds

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


def _folds(photos: Sequence[Photo], seed: int) -> Ints:
    """Assign each photo to a fold, regardless of its split in the manifest."""
    return np.array(
        grouped_folds([replace(photo, split="") for photo in photos], FOLDS, seed), dtype=np.int64
    )


def _sides(fold: Ints, held_out: int) -> tuple[Ints, Ints, Ints]:
    """Return the rows to fit a head on, to choose its regularisation on, and to predict."""
    test, val = fold == held_out, fold == (held_out + 1) % FOLDS
    return np.flatnonzero(~(test | val)), np.flatnonzero(val), np.flatnonzero(test)

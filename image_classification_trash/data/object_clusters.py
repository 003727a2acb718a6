"""Kinds of objects, such as bottles of one sort: found, so that a model can be measured on kinds it was never shown.

Photos parted at random, or by near-duplicates, show in the test what was there in training too, seen anew. Kinds are
clusters of each class's embeddings; a split that keeps them whole asks about objects unlike those of training.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from image_classification_trash.data.manifest import Photo
from image_classification_trash.data.near_duplicates import unit_length

KINDS = 12
"""In each class, or as many as it has photos: about what a person would tell apart in TrashNet's."""


def grouped_by_object(photos: Sequence[Photo], embeddings: npt.NDArray[np.float32], seed: int) -> list[Photo]:
    """The photos, each one's group its kind now; near-duplicates stay together, in the kind of the first of them.

    Args:
        photos: with groups of near-duplicates.
        embeddings: theirs, float32 (N, D), in the same order.
        seed: of the clustering (k-means, Lloyd, 1982).
    """
    # Each number in its own deviations, each row of length 1: k-means then goes by angles, to which all numbers add alike.
    unit = unit_length((embeddings - embeddings.mean(0)) / (embeddings.std(0) + 1e-6))
    labels = np.array([photo.label for photo in photos])
    kind_of: dict[str, str] = {}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        for row, kind in zip(rows, _clusters(unit[rows], seed), strict=True):
            kind_of.setdefault(photos[int(row)].group, f"{label} {kind}")
    return [replace(photo, group=kind_of[photo.group]) for photo in photos]


def _clusters(points: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.int32]:
    with warnings.catch_warnings():
        # Photos that embed alike make fewer clusters than asked for, which is as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(min(KINDS, len(points)), n_init=5, random_state=seed)
        return np.asarray(means.fit_predict(points))

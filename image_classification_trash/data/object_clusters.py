"""Cluster similar objects, such as bottles of one type, so that a model can be tested on objects unlike those in training.

A random split, or one grouped by near-duplicates, tests a model on new photos of objects that resemble those in train.
Object clusters are k-means clusters of each class's embeddings; a split that keeps clusters whole avoids this.
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

CLUSTERS_PER_CLASS = 12
"""Clusters per class, or as many as it has photos; about the number of object types a person sees in TrashNet's classes."""


def grouped_by_object(photos: Sequence[Photo], embeddings: npt.NDArray[np.float32], seed: int) -> list[Photo]:
    """Return the photos with their object clusters as groups; near-duplicates share the cluster of the first of them.

    Args:
        photos: N photos with groups of near-duplicates.
        embeddings: their embeddings, float32 (N, D), in the same order.
        seed: seed of the clustering (k-means, Lloyd, 1982).
    """
    # Standardise each dimension, then scale rows to length 1: k-means compares angles in which all dimensions weigh alike.
    unit = unit_length((embeddings - embeddings.mean(0)) / (embeddings.std(0) + 1e-6))
    labels = np.array([photo.label for photo in photos])
    cluster_of: dict[str, str] = {}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        means = KMeans(min(CLUSTERS_PER_CLASS, len(rows)), n_init=5, random_state=seed)
        with warnings.catch_warnings():
            # Identical embeddings give fewer clusters than requested, which is acceptable.
            warnings.simplefilter("ignore", ConvergenceWarning)
            clusters = means.fit_predict(unit[rows])
        for row, cluster in zip(rows, clusters, strict=True):
            cluster_of.setdefault(photos[int(row)].group, f"{label} {cluster}")
    return [replace(photo, group=cluster_of[photo.group]) for photo in photos]

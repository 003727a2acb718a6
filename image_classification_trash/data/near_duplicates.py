"""Find photos of the same object in the same take, group them, and count those that cross from train into val and test.

Two photos are near-duplicates if the cosine of their embeddings is at least `SIMILARITY`, or if their perceptual hashes
are close and that cosine is at least `SIMILARITY_WITH_HASH`: hashes alone confuse empty backgrounds. Without a
pretrained backbone there are no embeddings, and hashes must be closer (`HASH_DISTANCE_ALONE`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from image_classification_trash.csv_tables import csv_text
from image_classification_trash.data.manifest import Overlap, Photo

SIMILARITY = 0.80
"""Cosine of EfficientNet-Lite0 embeddings above which a person judged pairs of TrashNet photos to show one object."""
HASH_DISTANCE, SIMILARITY_WITH_HASH = 10, 0.65
HASH_DISTANCE_ALONE = 6
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Pair:
    """Two near-duplicates: indices of the photos, cosine of their embeddings (NaN without), number of differing hash bits."""

    first: int
    second: int
    similarity: float
    hash_distance: int


def find_pairs(hashes: Sequence[int], embeddings: npt.NDArray[np.float32] | None) -> list[Pair]:
    """Find all pairs of near-duplicates.

    Args:
        hashes: 64-bit perceptual hashes of N photos.
        embeddings: float32 (N, D) of any length; None compares hashes alone.
    """
    bits = np.asarray(hashes, dtype=np.uint64)
    unit = None if embeddings is None else unit_length(embeddings)
    pairs: list[Pair] = []
    for start in range(0, len(bits), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance = np.bitwise_count(bits[rows, None] ^ bits[None, :]).astype(np.int16)
        if unit is None:
            similarity = np.full(distance.shape, np.nan, np.float32)
            close = distance <= HASH_DISTANCE_ALONE
        else:
            similarity = unit[rows] @ unit.T
            agree = (distance <= HASH_DISTANCE) & (similarity >= SIMILARITY_WITH_HASH)
            close = (similarity >= SIMILARITY) | agree
        for i, j in zip(*np.nonzero(close), strict=True):
            if start + i < j:
                pair = Pair(start + int(i), int(j), round(float(similarity[i, j]), 3), int(distance[i, j]))
                pairs.append(pair)
    return pairs


def group_names(photos: Sequence[Photo], pairs: Sequence[Pair]) -> list[str]:
    """Return a group name for each photo; near-duplicates and photos of one group in the source share a name.

    Names are numbers in the order of the photos, so the same photos get the same names.
    """
    links = [(pair.first, pair.second) for pair in pairs]
    first_of: dict[str, int] = {}  # the first photo of each group that the source names
    links += [(first_of.setdefault(photo.group, i), i) for i, photo in enumerate(photos) if photo.group]
    rows, columns = (np.array([link[k] for link in links], dtype=int) for k in (0, 1))
    graph = coo_matrix((np.ones(len(links)), (rows, columns)), shape=(len(photos), len(photos)))
    _, component = connected_components(graph, directed=False)
    order = {int(c): n for n, c in enumerate(dict.fromkeys(component.tolist()))}
    return [f"{order[int(c)]:05d}" for c in component]


def overlap(photos: Sequence[Photo], pairs: Sequence[Pair]) -> dict[str, Overlap]:
    """Count the photos of val and of test that have a near-duplicate in train."""
    report = {}
    for split in ("val", "test"):
        leaking = set()
        for pair in pairs:
            for here, there in ((pair.first, pair.second), (pair.second, pair.first)):
                if photos[here].split == split and photos[there].split == "train":
                    leaking.add(here)
        total = sum(photo.split == split for photo in photos)
        share = round(len(leaking) / total, 4) if total else 0.0
        report[split] = Overlap(total, len(leaking), share)
    return report


def pairs_csv(photos: Sequence[Photo], pairs: Sequence[Pair]) -> str:
    """Return the near-duplicates as CSV text, with the label and split of both photos; similarity is empty without embeddings."""
    sides = [f"{column}_{n}" for n in (1, 2) for column in ("path", "label", "split")]
    rows = []
    for pair in pairs:
        cells = [(p.path, p.label, p.split) for p in (photos[pair.first], photos[pair.second])]
        similarity = None if np.isnan(pair.similarity) else pair.similarity
        rows.append([*cells[0], *cells[1], similarity, pair.hash_distance])
    return csv_text([*sides, "similarity", "hash_distance"], rows)


def unit_length(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale each row of embeddings (N, D) to length 1, so that dot products are cosines; rows of zeros stay zero."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(norms, 1e-12), dtype=np.float32)

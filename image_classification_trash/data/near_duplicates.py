"""Photos of the same object in the same take: found, grouped, and counted across the parts of a split.

Two photos are near-duplicates where their embeddings point the same way (cosine at least `SIMILARITY`), or where
their perceptual hashes agree and their embeddings do not object. Hashes alone mistake one empty background for another;
embeddings alone are missing where no pretrained backbone is installed, and then hashes must agree more closely.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from image_classification_trash.data.manifest import Overlap, Photo

SIMILARITY = 0.80
"""Cosine of EfficientNet-Lite0 embeddings above which TrashNet's pairs looked like one object to the eye."""
HASH_DISTANCE, SIMILARITY_WITH_HASH = 10, 0.65
HASH_DISTANCE_ALONE = 6
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Pair:
    """Two near-duplicates: indices into the photos, cosine of embeddings (nan without), bits that differ."""

    first: int
    second: int
    similarity: float
    hash_distance: int


def find_pairs(hashes: Sequence[int], embeddings: npt.NDArray[np.float32] | None) -> list[Pair]:
    """All near-duplicate pairs.

    Args:
        hashes: 64-bit perceptual hashes of N photos.
        embeddings: float32 (N, D), any scale, or None where there is no backbone.
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
    """A group name for each photo: near-duplicates, and photos whose source names one group, share it.

    Names are numbers in the order of the photos, so the same photos get the same names.
    """
    links = [(pair.first, pair.second) for pair in pairs] + _links_of_given_groups(photos)
    rows, columns = (np.array([link[k] for link in links], dtype=int) for k in (0, 1))
    graph = coo_matrix((np.ones(len(links)), (rows, columns)), shape=(len(photos), len(photos)))
    _, component = connected_components(graph, directed=False)
    order = {int(c): n for n, c in enumerate(dict.fromkeys(component.tolist()))}
    return [f"{order[int(c)]:05d}" for c in component]


def overlap(photos: Sequence[Photo], pairs: Sequence[Pair]) -> dict[str, Overlap]:
    """How many photos of val and test have a near-duplicate in train."""
    report = {}
    for part in ("val", "test"):
        leaking = set()
        for pair in pairs:
            for here, there in ((pair.first, pair.second), (pair.second, pair.first)):
                if photos[here].split == part and photos[there].split == "train":
                    leaking.add(here)
        total = sum(photo.split == part for photo in photos)
        share = round(len(leaking) / total, 4) if total else 0.0
        report[part] = Overlap(total, len(leaking), share)
    return report


def pairs_csv(photos: Sequence[Photo], pairs: Sequence[Pair]) -> str:
    """The near-duplicates as CSV text, with the part and label of both photos."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    sides = [f"{column}_{n}" for n in (1, 2) for column in ("path", "label", "split")]
    writer.writerow([*sides, "similarity", "hash_distance"])
    for pair in pairs:
        cells = [(p.path, p.label, p.split) for p in (photos[pair.first], photos[pair.second])]
        writer.writerow([*cells[0], *cells[1], pair.similarity, pair.hash_distance])
    return buffer.getvalue()


def unit_length(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Embeddings (N, D), each row at length 1, so that products are cosines; a row of zeros stays one."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(norms, 1e-12), dtype=np.float32)


def _links_of_given_groups(photos: Sequence[Photo]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    return [(first.setdefault(p.group, i), i) for i, p in enumerate(photos) if p.group]

"""Find photos of the same object in the same take, group them, and count those that cross from train into val and test.

Two photos are near-duplicates if the cosine of their embeddings is at least `SIMILARITY`, or if their perceptual hashes
are close and that cosine is at least `SIMILARITY_WITH_HASH`: hashes alone confuse empty backgrounds. Without a
pretrained backbone there are no embeddings, and hashes must be closer (`HASH_DISTANCE_ALONE`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from image_classification_trash.arrays import Ints
from image_classification_trash.data.manifest import Overlap, Photo
from image_classification_trash.nearest_neighbours import cosines, nearest_by_embedding, nearest_by_hash

SIMILARITY = 0.80
"""Cosine of EfficientNet-Lite0 embeddings above which a person judged pairs of TrashNet photos to show one object."""
HASH_DISTANCE, SIMILARITY_WITH_HASH = 10, 0.65
HASH_DISTANCE_ALONE = 6
EXACT_UP_TO = 20_000
"""Photos up to which all are compared with each other; beyond that, time grows nearly linearly, but a few pairs can be missed."""
MOST_LISTED = 32
"""Near-duplicates of one photo that are listed, the nearest ones: a static camera's 2,000 frames would make 2 million pairs."""
PAIR_COLUMNS = ("path_1", "label_1", "split_1", "path_2", "label_2", "split_2", "similarity", "hash_distance")
_CHUNK = 2048

Hashes = npt.NDArray[np.uint64]
Columns = tuple[Ints, Ints, npt.NDArray[np.float32], npt.NDArray[np.int16]]


@dataclass(frozen=True)
class Pairs:
    """P pairs of near-duplicates as columns, in the order of the photos.

    Attributes:
        first: indices of the photos that come first, int64 (P,).
        second: indices of the others, int64 (P,).
        similarity: cosines of their embeddings, float32 (P,); NaN without embeddings.
        hash_distance: numbers of hash bits that differ, int16 (P,).
    """

    first: Ints
    second: Ints
    similarity: npt.NDArray[np.float32]
    hash_distance: npt.NDArray[np.int16]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)

    def among(self, kept: Sequence[bool]) -> "Pairs":
        """Return the pairs of which both photos are kept, as pairs of the kept photos; `kept` is one flag per photo."""
        flags = np.asarray(kept, dtype=bool)
        number = np.cumsum(flags) - 1
        both = flags[self.first] & flags[self.second]
        first, second = number[self.first[both]], number[self.second[both]]
        return Pairs(first, second, self.similarity[both], self.hash_distance[both])


@dataclass(frozen=True)
class Near:
    """Near-duplicates among N photos.

    Attributes:
        pairs: those listed: all, but at most the `MOST_LISTED` nearest of each photo.
        component: a number (N,) that photos joined by a chain of near-duplicates share.
    """

    pairs: Pairs
    component: Ints


def find_near_duplicates(hashes: Sequence[int], embeddings: npt.NDArray[np.float32] | None) -> Near:
    """Find near-duplicates; up to `EXACT_UP_TO` photos all are compared with each other, beyond that each with its nearest.

    Args:
        hashes: 64-bit perceptual hashes of N photos.
        embeddings: float32 (N, D) of any length; None compares hashes alone.
    """
    bits = np.asarray(hashes, dtype=np.uint64)
    unit = None if embeddings is None else unit_length(embeddings)
    return _all_against_all(bits, unit) if len(bits) <= EXACT_UP_TO else _each_with_its_nearest(bits, unit)


def _all_against_all(bits: Hashes, unit: npt.NDArray[np.float32] | None) -> Near:
    """Compare every photo with every other; groups are exact even where a photo has more than `MOST_LISTED` near-duplicates."""
    component = np.arange(len(bits))
    found: list[Columns] = []
    for start in range(0, len(bits), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance = np.bitwise_count(bits[rows, None] ^ bits[None, :]).astype(np.int16)
        similarity = np.full(distance.shape, np.nan, np.float32) if unit is None else unit[rows] @ unit.T
        close = _is_close(similarity, distance)
        np.fill_diagonal(close[:, start:], False)
        for i in np.flatnonzero(close.any(1)):
            near = np.flatnonzero(close[i])
            if (component[near] != component[start + i]).any():
                together = np.unique([component[start + i], *component[near]])
                component[np.isin(component, together)] = together[0]
            if len(near) > MOST_LISTED:
                apart = -np.nan_to_num(similarity[i, near])
                near = near[
                    apart <= np.partition(apart, MOST_LISTED)[MOST_LISTED - 1]
                ]  # the sort below sees few
                nearest = np.lexsort((near, distance[i, near], -np.nan_to_num(similarity[i, near])))
                near = near[nearest[:MOST_LISTED]]
            found.append((np.full(len(near), start + i), near, similarity[i, near], distance[i, near]))
    return Near(_listed(found), component)


def _each_with_its_nearest(bits: Hashes, unit: npt.NDArray[np.float32] | None) -> Near:
    """Compare each photo with its nearest by embedding (or by hash, without embeddings) and with one of the same hash."""
    order = np.argsort(bits, kind="stable")
    same = np.flatnonzero(bits[order[1:]] == bits[order[:-1]])
    twins = order[same], order[same + 1]  # a chain through each set of equal hashes
    if unit is None:
        _, first = np.unique(bits, return_index=True)
        rows, columns = (first[ids] for ids in nearest_by_hash(bits[first], MOST_LISTED, HASH_DISTANCE_ALONE))
        similarity = np.full(len(rows) + len(same), np.nan, np.float32)
    else:
        rows, columns, similarity = nearest_by_embedding(unit, MOST_LISTED, SIMILARITY_WITH_HASH)
        similarity = np.concatenate([similarity, cosines(unit, *twins)])
    rows, columns = np.concatenate([rows, twins[0]]), np.concatenate([columns, twins[1]])
    distance = np.bitwise_count(bits[rows] ^ bits[columns]).astype(np.int16)
    close = _is_close(similarity, distance)
    pairs = _listed([(rows[close], columns[close], similarity[close], distance[close])])
    graph = coo_matrix((np.ones(len(pairs)), (pairs.first, pairs.second)), shape=(len(bits), len(bits)))
    return Near(pairs, connected_components(graph, directed=False)[1])


def _is_close(similarity: npt.NDArray[np.float32], distance: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Return which pairs are near-duplicates; their similarity is NaN where there are no embeddings."""
    agree = (distance <= HASH_DISTANCE) & (similarity >= SIMILARITY_WITH_HASH)
    alone = np.isnan(similarity) & (distance <= HASH_DISTANCE_ALONE)
    return (similarity >= SIMILARITY) | agree | alone


def _listed(found: Sequence[Columns]) -> Pairs:
    """Return each pair once, the photo that comes first first, in the order of the photos."""
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int16))
    rows, columns, similarity, distance = (np.concatenate(part) for part in zip(empty, *found, strict=True))
    first, second = np.minimum(rows, columns), np.maximum(rows, columns)
    # Of the two products of a pair, the one computed in the first photo's row comes first.
    order = np.lexsort((rows, second, first))
    first, second = first[order], second[order]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    kept = order[new]
    return Pairs(first[new], second[new], similarity[kept], distance[kept])


def group_names(photos: Sequence[Photo], component: Ints) -> list[str]:
    """Return a group name for each photo; near-duplicates and photos of one group in the source share a name.

    Names are numbers in the order of the photos, so the same photos get the same names.

    Args:
        photos: N photos.
        component: a number (N,) that near-duplicates share.
    """
    first_of: dict[
        object, int
    ] = {}  # the first photo of each component, and of each group that the source names
    links = [(first_of.setdefault(number, i), i) for i, number in enumerate(component.tolist())]
    links += [(first_of.setdefault(photo.group, i), i) for i, photo in enumerate(photos) if photo.group]
    rows, columns = (np.array([link[k] for link in links], dtype=int) for k in (0, 1))
    graph = coo_matrix((np.ones(len(links)), (rows, columns)), shape=(len(photos), len(photos)))
    _, joined = connected_components(graph, directed=False)
    order = {int(c): n for n, c in enumerate(dict.fromkeys(joined.tolist()))}
    return [f"{order[int(c)]:05d}" for c in joined]


def overlap(photos: Sequence[Photo], pairs: Pairs) -> dict[str, Overlap]:
    """Count the photos of val and of test that have a listed near-duplicate in train."""
    split = np.array([photo.split for photo in photos], dtype=object)
    here, there = np.concatenate([pairs.first, pairs.second]), np.concatenate([pairs.second, pairs.first])
    beside_train = np.zeros(len(photos), bool)
    beside_train[here[split[there] == "train"]] = True
    report = {}
    for name in ("val", "test"):
        total, leaking = int((split == name).sum()), int((beside_train & (split == name)).sum())
        report[name] = Overlap(total, leaking, round(leaking / total, 4) if total else 0.0)
    return report


def pair_rows(photos: Sequence[Photo], pairs: Pairs) -> Iterator[tuple[object, ...]]:
    """Yield a row of `PAIR_COLUMNS` for each pair: path, label and split of both photos; similarity is None without embeddings."""
    columns = (pairs.first, pairs.second, pairs.similarity, pairs.hash_distance)
    for first, second, similarity, distance in zip(*(column.tolist() for column in columns), strict=True):
        a, b = photos[first], photos[second]
        measured = None if np.isnan(similarity) else round(similarity, 3)
        yield a.path, a.label, a.split, b.path, b.label, b.split, measured, distance


def unit_length(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale each row of embeddings (N, D) to length 1, so that dot products are cosines; rows of zeros stay zero."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(norms, 1e-12), dtype=np.float32)

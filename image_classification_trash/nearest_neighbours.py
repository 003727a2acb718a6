"""Find the nearest neighbours among many photos with FAISS, without comparing all of them on their full embeddings.

Embeddings are reduced to their main directions. Up to `FLAT_UP_TO` photos these are compared as products of matrices, which
costs less than an index and misses nothing; beyond that they are searched in an inverted file (IVF; Jégou, Douze, Schmid:
Product Quantization for Nearest Neighbor Search, 2011). Every candidate is then measured on the full embeddings. Hashes are
searched through tables of their parts (Norouzi, Punjani, Fleet: Fast Search in Hamming Space with Multi-Index Hashing, 2012).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from image_classification_trash.arrays import Embeddings, Ints

DIRECTIONS = 128
"""Directions that embeddings are reduced to for the search."""
FLAT_UP_TO = 200_000
"""Photos from which on the inverted file takes less computing than comparing all in the main directions (some three minutes)."""
SAMPLE = 20_000
"""Photos that the directions and the cells of the inverted file are computed from."""
_CELLS, _PROBED = 1.0, 112
_SPARE = 2
"""Candidates measured for each neighbour wanted, since the reduced cosines order them only roughly."""
_SEARCHED, _MEASURED = 8192, 1024
_TABLES, _BITS, _FLIPS = 4, 16, 1
"""With one flipped bit in one of four parts of 16 bits, hashes that differ in up to 7 bits are found without exception."""


def nearest_by_embedding(
    unit: Embeddings, neighbours: int, at_least: float
) -> tuple[Ints, Ints, npt.NDArray[np.float32]]:
    """Find each photo's nearest neighbours by cosine.

    A pair can be missed: where more than `_SPARE` times `neighbours` photos are nearer in the main directions, and beyond
    `FLAT_UP_TO` photos where its cell of the inverted file is not searched. Those found have their exact cosine.

    Args:
        unit: embeddings of length 1, float32 (N, D).
        neighbours: the most neighbours of a photo.
        at_least: smallest cosine of a pair, -1 to 1.

    Returns:
        Rows (P,), their neighbours (P,) and the cosines, float32 (P,), in the order of the rows.
    """
    reduced = _reduced(unit)
    count, index = len(reduced), index_of(reduced)
    found: list[tuple[Ints, Ints, npt.NDArray[np.float32]]] = []
    for start in range(0, count, _SEARCHED):
        distance, ids = index.search(reduced[start : start + _SEARCHED], min(_SPARE * neighbours + 1, count))
        rows = np.repeat(np.arange(start, start + len(ids)), ids.shape[1])
        columns = ids.ravel().astype(np.int64)
        # A cosine is 1 - d²/2, and no distance is shorter than the reduced one.
        keep = (columns >= 0) & (columns != rows) & (1 - distance.ravel() / 2 >= at_least - 1e-4)
        rows, columns = rows[keep], columns[keep]
        similarity = cosines(unit, rows, columns)
        order = np.lexsort((columns, -similarity, rows))
        rows, columns, similarity = rows[order], columns[order], similarity[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)  # among the neighbours of its row
        keep = (similarity >= at_least) & (rank < neighbours)
        found.append((rows[keep], columns[keep], similarity[keep]))
    rows, columns, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows, columns, similarity


def nearest_by_hash(bits: npt.NDArray[np.uint64], neighbours: int, at_most: int) -> tuple[Ints, Ints]:
    """Find neighbours by 64-bit hashes that differ in at most `at_most` bits, 7 or fewer.

    Args:
        bits: hashes (N,), all different.
        neighbours: the most neighbours of a photo.
        at_most: largest number of bits that differ.

    Returns:
        Rows (P,) and their neighbours (P,).
    """
    import faiss  # noqa: PLC0415  only large data sets need it

    codes = np.ascontiguousarray(bits.astype("<u8")).view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryMultiHash(64, _TABLES, _BITS)
    index.nflip = _FLIPS
    index.add(codes)
    found = []
    for start in range(0, len(codes), _SEARCHED):
        distance, ids = index.search(codes[start : start + _SEARCHED], min(neighbours + 1, len(codes)))
        rows = np.repeat(np.arange(start, start + len(ids)), ids.shape[1])
        columns = ids.ravel().astype(np.int64)
        keep = (columns >= 0) & (columns != rows) & (distance.ravel() <= at_most)
        found.append((rows[keep], columns[keep]))
    rows, columns = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows, columns


def cosines(unit: Embeddings, rows: Ints, columns: Ints) -> npt.NDArray[np.float32]:
    """Return the cosines (P,) of pairs of rows of `unit`, float32 (N, D) of length 1; memory does not grow with P."""
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _MEASURED):
        part = slice(start, start + _MEASURED)
        found[part] = np.einsum("ij,ij->i", unit[rows[part]], unit[columns[part]])
    return found


def index_of(reduced: Embeddings) -> Any:
    """Return an index of reduced embeddings (N, D): flat, or an inverted file where they are many."""
    import faiss  # noqa: PLC0415  only large data sets need it

    count, width = reduced.shape
    index: Any
    if count <= FLAT_UP_TO:
        index = faiss.IndexFlatL2(width)
    else:
        cells = max(1, min(round(_CELLS * count**0.5), SAMPLE // 39))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells, faiss.METRIC_L2)
        index.train(reduced[_sample(count)])
        index.nprobe = min(_PROBED, cells)
    index.add(reduced)
    return index


def _reduced(unit: Embeddings) -> Embeddings:
    """Project embeddings (N, D) onto the main directions in which a sample varies; distances can only shrink."""
    sample = _sample(len(unit))
    total, products = np.zeros(unit.shape[1]), np.zeros((unit.shape[1], unit.shape[1]))
    for start in range(0, len(sample), _MEASURED):  # np.cov would hold two copies as float64
        part = unit[sample[start : start + _MEASURED]].astype(np.float64)
        total, products = total + part.sum(0), products + part.T @ part
    _, directions = np.linalg.eigh(products - np.outer(total, total) / len(sample))
    main = np.ascontiguousarray(directions[:, -DIRECTIONS:].astype(np.float32))
    reduced = np.empty((len(unit), main.shape[1]), np.float32)
    for start in range(0, len(unit), _SEARCHED):
        reduced[start : start + _SEARCHED] = unit[start : start + _SEARCHED] @ main
    return reduced


def _sample(count: int) -> Ints:
    chosen = np.random.default_rng(0).choice(count, min(SAMPLE, count), replace=False)
    return np.sort(chosen)

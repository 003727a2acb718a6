"""Measure the search for near-duplicates among many photos: which pairs it finds, computing and memory.

    python scripts/bench_neighbours.py data/interim/embeddings/*.npz --objects 10000 --views 4

Embeddings are made up with the mean and the covariance of those in the files, which `trash-classifier data` leaves behind; the
views of one object lie close together. What is found is compared with all pairs, computed one by one, at the threshold
for embeddings and at the lower one for photos whose hashes agree. The files' own embeddings are searched in the same way.
"""

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from image_classification_trash.arrays import Embeddings, Ints
from image_classification_trash.data import near_duplicates as near
from image_classification_trash.data.near_duplicates import MOST_LISTED, Near, unit_length
from image_classification_trash.show import Table

THRESHOLDS = near.SIMILARITY, near.SIMILARITY_WITH_HASH
HEADER = (
    "embeddings", "photos", "cosine", "pairs", "in one group", f"listed, of photos with at most {MOST_LISTED}", "listed",
    "CPU s",
)  # fmt: skip


def made_up(like: Embeddings, objects: int, views: int, noise: float, seed: int) -> Embeddings:
    """Return embeddings (objects x views, D) of length 1 with the mean and covariance of `like`, views side by side."""
    generator = np.random.default_rng(seed)
    variance, directions = np.linalg.eigh(np.cov(like, rowvar=False))
    spread = np.sqrt(np.clip(variance, 0, None)).astype(np.float32)

    def drawn(count: int) -> Embeddings:
        normal = generator.normal(size=(count, len(spread))).astype(np.float32)
        return np.asarray((normal * spread) @ directions.T.astype(np.float32), np.float32)

    return unit_length(like.mean(0) + np.repeat(drawn(objects), views, 0) + noise * drawn(objects * views))


def all_pairs(unit: Embeddings, at_least: float) -> tuple[Ints, Ints]:
    """Return the pairs (P,), (P,) whose cosine is at least that, by comparing all."""
    found = []
    for start in range(0, len(unit), 1024):
        rows, columns = np.nonzero(unit[start : start + 1024] @ unit.T >= at_least)
        later = rows + start < columns
        found.append(np.stack([rows[later] + start, columns[later]]))
    first, second = np.concatenate(found, axis=1)
    return first, second


def row_of(name: str, unit: Embeddings, at_least: float, seed: int) -> list[str]:
    """Search and compare with all pairs; return a row of the table."""
    hashes = np.random.default_rng(seed).integers(0, 2**63, len(unit), dtype=np.uint64).tolist()
    near.SIMILARITY, near.EXACT_UP_TO = at_least, 0
    start = time.process_time()
    found: Near = near.find_near_duplicates(hashes, unit)
    seconds = time.process_time() - start
    first, second = all_pairs(unit, at_least)
    listed = found.pairs.first * len(unit) + found.pairs.second
    is_listed = np.isin(first * len(unit) + second, listed)
    degree = np.bincount(np.concatenate([first, second]), minlength=len(unit))
    few = (degree[first] <= MOST_LISTED) & (degree[second] <= MOST_LISTED)
    together = found.component[first] == found.component[second]
    shares = [together.mean(), is_listed[few].mean(), is_listed.mean()]
    return [
        name,
        f"{len(unit):,}",
        f"{at_least}",
        f"{len(first):,}",
        *(f"{share:.3%}" for share in shares),
        f"{seconds:.1f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", help="embeddings that `trash-classifier data` stored")
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument(
        "--noise", type=float, default=0.6, help="of a view, as a share of that between objects"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    real = unit_length(np.concatenate([np.load(file)["vectors"] for file in given.files]))
    views = made_up(real, given.objects, given.views, given.noise, given.seed)
    rows = [
        row_of(name, unit, at_least, given.seed)
        for name, unit in (("the files'", real), ("made up", views))
        for at_least in THRESHOLDS
    ]
    print(*Table(HEADER, rows).lines(), sep="\n")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()

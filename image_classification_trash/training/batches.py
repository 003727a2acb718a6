"""Batches of decoded photos: shuffled for training, in order for evaluation."""

import math
import mmap
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.inference.images import Pixels

Batch = tuple[torch.Tensor, torch.Tensor]


Alteration = Callable[[Pixels, npt.NDArray[np.int64], np.random.Generator], Pixels]
"""Changes photos, uint8 (B, H, W, 3), given their rows (B,) in the split, before they are augmented."""


@dataclass(frozen=True)
class SplitPhotos:
    """Decoded photos, uint8 (N, H, W, 3), and their class numbers (N,).

    Attributes:
        alter: changes photos, differently in every epoch; None for no changes.
        backgrounds: photos without waste for outlier exposure, uint8 (G, H, W, 3); None for none.
        weights: weight of each photo in training, float (N,) with mean 1; None if all are equal.
    """

    pixels: Pixels
    y_true: Ints
    alter: Alteration | None = None
    backgrounds: Pixels | None = None
    weights: Floats | None = None


@dataclass(frozen=True)
class Wanted:
    """A batch to make: rows (B,) of the split, and the seeds of the generator that alters them."""

    rows: npt.NDArray[np.int64]
    seeds: tuple[int, int, int]


@dataclass(frozen=True)
class Shuffled(Sampler[Wanted]):
    """The batches of one process in one epoch; each photo is in at most one of them, unless photos have weights.

    Attributes:
        photos: number of photos in the split.
        batch_size: per process.
        seed: returns the seed of the epoch that starts.
        rank: number of this process.
        processes: number of processes.
        weights: each photo is drawn as often as its weight says, rounded up or down at random; None for once.
    """

    photos: int
    batch_size: int
    seed: Callable[[], int]
    rank: int = 0
    processes: int = 1
    weights: Floats | None = None

    def __len__(self) -> int:
        """Return the number of whole batches; 1 if the split is smaller than a batch."""
        return max(1, self.photos // self.processes // self.batch_size)

    def __iter__(self) -> Iterator[Wanted]:
        """Yield shuffled batches; rows within a batch are sorted, which reads a memory map fastest."""
        seed = self.seed()
        rng = np.random.default_rng(seed)
        order = rng.permutation(self.photos)
        if self.weights is not None:  # systematic sampling: a weight of 2.5 draws a photo two or three times
            ends = np.cumsum(self.weights[order])
            points = (np.arange(self.photos) + rng.random()) / self.photos * ends[-1]
            order = rng.permutation(
                order[np.searchsorted(ends, points, side="right").clip(max=self.photos - 1)]
            )
        order = order[self.rank :: self.processes]
        for step in range(len(self)):
            rows = np.sort(order[step * self.batch_size : (step + 1) * self.batch_size])
            yield Wanted(rows, (seed, step, self.rank))


@dataclass(frozen=True)
class AlteredPhotos(Dataset[Batch]):
    """Batches of a split: photos, uint8 (B, H, W, 3), and class numbers (B,)."""

    part: SplitPhotos

    def __getitem__(self, wanted: Wanted) -> Batch:
        """Read the photos and alter them."""
        photos = self.part.pixels[wanted.rows]
        _forget_pages(self.part.pixels)
        if self.part.alter is not None:
            photos = self.part.alter(photos, wanted.rows, np.random.default_rng(wanted.seeds))
        return torch.from_numpy(photos), torch.from_numpy(self.part.y_true[wanted.rows])


def batches(part: SplitPhotos, order: Shuffled, workers: int) -> DataLoader[Batch]:
    """Load batches in that order, ahead of time in worker processes, or on demand if `workers` is 0.

    Workers are forked if the system supports it, so that photos are not copied to them.
    """
    forks = workers and "fork" in multiprocessing.get_all_start_methods()
    return DataLoader(
        AlteredPhotos(part),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        multiprocessing_context="fork" if forks else None,
        generator=torch.Generator(),  # separate, so that dropout does not depend on the number of workers
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # OpenCV's threads do not survive a fork


def _forget_pages(pixels: Pixels) -> None:
    """Release the pages of a memory map from this process's memory; the system keeps them cached."""
    opened = getattr(pixels, "_mmap", None)
    if opened is not None and hasattr(mmap, "MADV_DONTNEED"):
        opened.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class OrderedBatches:
    """All photos once, in order."""

    part: SplitPhotos
    batch_size: int

    def __len__(self) -> int:
        """Return the number of batches; the last may be short."""
        return math.ceil(len(self.part.y_true) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield photos, uint8 (B, H, W, 3), and class numbers (B,)."""
        for start in range(0, len(self.part.y_true), self.batch_size):
            rows = slice(start, start + self.batch_size)
            photos = np.array(self.part.pixels[rows])
            _forget_pages(self.part.pixels)
            yield torch.from_numpy(photos), torch.from_numpy(self.part.y_true[rows])

"""Batches of decoded photos, shuffled for training or in order for measuring."""

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

from image_classification_trash.arrays import Ints
from image_classification_trash.inference.images import Pixels

Batch = tuple[torch.Tensor, torch.Tensor]


Alteration = Callable[[Pixels, npt.NDArray[np.int64], np.random.Generator], Pixels]
"""Changes photos uint8 (B, H, W, 3), which are rows (B,) of their part, before they are augmented."""


@dataclass(frozen=True)
class SplitPhotos:
    """Decoded photos, uint8 (N, H, W, 3), and their class numbers (N,).

    Attributes:
        alter: changes photos anew in every epoch; None: nothing does.
        backgrounds: uint8 (G, H, W, 3), photos of no waste to learn from beside them; None: there are none.
    """

    pixels: Pixels
    y_true: Ints
    alter: Alteration | None = None
    backgrounds: Pixels | None = None


@dataclass(frozen=True)
class Wanted:
    """A batch to be made: rows (B,) of the part, and the seeds of the generator that alters them."""

    rows: npt.NDArray[np.int64]
    seeds: tuple[int, int, int]


@dataclass(frozen=True)
class Shuffled(Sampler[Wanted]):
    """The batches of one process's epoch, each photo in at most one of them.

    Attributes:
        photos: in the part.
        batch_size: of this process.
        seed: of the epoch that begins, asked for at its beginning.
    """

    photos: int
    batch_size: int
    seed: Callable[[], int]
    rank: int = 0
    processes: int = 1

    def __len__(self) -> int:
        """Whole batches; an epoch smaller than a batch is one batch."""
        return max(1, self.photos // self.processes // self.batch_size)

    def __iter__(self) -> Iterator[Wanted]:
        """Rows are in the order of the file, which a memory map likes."""
        seed = self.seed()
        order = np.random.default_rng(seed).permutation(self.photos)[self.rank :: self.processes]
        for step in range(len(self)):
            rows = np.sort(order[step * self.batch_size : (step + 1) * self.batch_size])
            yield Wanted(rows, (seed, step, self.rank))


@dataclass(frozen=True)
class AlteredPhotos(Dataset[Batch]):
    """Batches of a part: uint8 photos (B, H, W, 3) and class numbers (B,)."""

    part: SplitPhotos

    def __getitem__(self, wanted: Wanted) -> Batch:
        """Read the photos and alter them."""
        photos = self.part.pixels[wanted.rows]
        _forget_pages(self.part.pixels)
        if self.part.alter is not None:
            photos = self.part.alter(photos, wanted.rows, np.random.default_rng(wanted.seeds))
        return torch.from_numpy(photos), torch.from_numpy(self.part.y_true[wanted.rows])


def batches(part: SplitPhotos, order: Shuffled, workers: int) -> DataLoader[Batch]:
    """Batches in that order, made by worker processes ahead of time; without workers when they are asked for.

    Workers are forked where the system can, so that the photos are not copied to them.
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
        generator=torch.Generator(),  # its own, so that dropout's draws do not depend on the number of workers
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # OpenCV's threads do not live on in a forked process


def _forget_pages(pixels: Pixels) -> None:
    """Have a memory map not count the pages that were read as this process's memory; the system keeps them cached."""
    opened = getattr(pixels, "_mmap", None)
    if opened is not None and hasattr(mmap, "MADV_DONTNEED"):
        opened.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class OrderedBatches:
    """All photos once, in order."""

    part: SplitPhotos
    batch_size: int

    def __len__(self) -> int:
        """Number of batches, the last one perhaps short."""
        return math.ceil(len(self.part.y_true) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """uint8 photos (B, H, W, 3) and class numbers (B,)."""
        for start in range(0, len(self.part.y_true), self.batch_size):
            rows = slice(start, start + self.batch_size)
            photos = np.array(self.part.pixels[rows])
            _forget_pages(self.part.pixels)
            yield torch.from_numpy(photos), torch.from_numpy(self.part.y_true[rows])

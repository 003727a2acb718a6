"""Batches of a training: the same from any number of workers, every photo at most once, none in two processes."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from image_classification_trash.networks.device import training_device
from image_classification_trash.training.batches import Shuffled, SplitPhotos, batches
from image_classification_trash.training.fine_tuning import worker_count
from image_classification_trash.training.weight_averaging import warm_average

PIXELS = np.random.default_rng(0).integers(0, 200, (11, 4, 6, 3), dtype=np.uint8)


def shifted(
    photos: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], rng: np.random.Generator
) -> np.ndarray:
    return photos + rng.integers(0, 50, photos.shape, dtype=np.uint8)


PART = SplitPhotos(PIXELS, np.arange(11), alter=shifted)


def epoch(seed: int, workers: int = 0, rank: int = 0, processes: int = 1) -> list[list[torch.Tensor]]:
    return list(batches(PART, Shuffled(11, 3, lambda: seed, rank, processes), workers))  # type: ignore[arg-type]


def test_workers_change_nothing() -> None:
    alone, together = epoch(5), epoch(5, workers=2)
    assert len(alone) == len(together) == 3
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_epoch_shows_a_photo_once_altered_anew_by_its_seed() -> None:
    first, other = epoch(1), epoch(2)
    rows = torch.cat([y_true for _, y_true in first])
    assert len(set(rows.tolist())) == len(rows) == 9
    assert not torch.equal(rows, torch.cat([y_true for _, y_true in other]))
    photos = torch.cat([photos for photos, _ in first]).numpy()
    change = photos.astype(int) - PIXELS[rows.numpy()]
    assert change.min() >= 0 and 0 < change.max() < 50


def test_processes_share_no_photo() -> None:
    rows = [{int(row) for _, y_true in epoch(7, rank=rank, processes=2) for row in y_true} for rank in (0, 1)]
    assert rows[0] and rows[1] and not rows[0] & rows[1]


def test_a_cpu_that_trains_spares_no_workers() -> None:
    assert worker_count(None, "cpu") == 0
    assert worker_count(3, "cpu") == 3


def test_what_is_no_cuda_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Mac's GPU trains through Lightning; what is made beside the training runs on its CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device("gpu").type == training_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device("gpu").type == training_device("auto").type == "cuda"
    assert training_device("cpu").type == "cpu"


@pytest.mark.parametrize(("count", "keep"), [(1, 2 / 11), (10_000, 0.9)])
def test_averaged_weights_remember_more_as_training_goes_on(count: int, keep: float) -> None:
    averaged, current = [torch.ones(3), torch.zeros(2)], [torch.zeros(3), torch.ones(2)]
    warm_average(0.9)(averaged, current, torch.tensor(count))
    assert torch.allclose(averaged[0], torch.full((3,), keep)) and torch.allclose(
        averaged[1], torch.full((2,), 1 - keep)
    )
    counters = [torch.tensor(3)]
    warm_average(0.9)(counters, [torch.tensor(8)], torch.tensor(count))
    assert counters[0] == 8

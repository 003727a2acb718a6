"""Corrupt photos as cameras, light and file formats do: at fixed strengths for evaluation, at random ones for training."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from image_classification_trash.inference.images import Pixels

Corruption = Callable[[Pixels], Pixels]


def blurred(photo: Pixels, radius: float) -> Pixels:
    """Apply Gaussian blur; `radius` is its standard deviation in pixels."""
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), radius), dtype=np.uint8)


def as_jpeg(photo: Pixels, quality: int) -> Pixels:
    """Compress a photo as JPEG at `quality` and decode it."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def noisy(photo: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise; `sigma` is its standard deviation in grey levels."""
    grain = rng.standard_normal(photo.shape, dtype=np.float32) * sigma
    return np.clip(photo + grain, 0, 255).astype(np.uint8)


def brightened(photo: Pixels, factor: float) -> Pixels:
    """Multiply all values by `factor`, clipped to 0 to 255."""
    return np.asarray(np.clip(photo * np.float32(factor), 0, 255).astype(np.uint8), dtype=np.uint8)


def coarse(photo: Pixels, factor: float) -> Pixels:
    """Scale a photo by `factor`, below 1, and back to its size."""
    height, width, _ = photo.shape
    small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def moved(photo: Pixels, length: int, angle: float) -> Pixels:
    """Apply motion blur along a line of `length` pixels; `angle` in radians."""
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    ends = np.rint([middle - reach, middle + reach]).astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 1.0)
    return np.asarray(cv2.filter2D(photo, -1, kernel / kernel.sum()), dtype=np.uint8)


def turned(photo: Pixels, quarters: int) -> Pixels:
    """Rotate a photo by quarter turns, then resize it to its original size."""
    return np.asarray(
        cv2.resize(np.ascontiguousarray(np.rot90(photo, quarters)), photo.shape[1::-1]), dtype=np.uint8
    )


FIXED: dict[str, Corruption] = {
    "blur, radius 2": lambda photo: blurred(photo, 2),
    "JPEG, quality 20": lambda photo: as_jpeg(photo, 20),
    # A seed from the photo's own pixels gives it the same noise in every run.
    "noise, sigma 15": lambda photo: noisy(photo, 15, np.random.default_rng(int(photo[::7, ::7].sum()))),
    "brightness × 0.4": lambda photo: brightened(photo, 0.4),
    "brightness × 1.4": lambda photo: brightened(photo, 1.4),
    "turned by 90°": lambda photo: turned(photo, 1),
}
"""Corruptions for evaluation, by name; applied to pixels at the network's input size, where their effect is largest."""


def corrupt(photos: npt.NDArray[np.uint8], share: float, rng: np.random.Generator) -> Pixels:
    """Apply one or two corruptions of random strength to a random share of photos uint8 (B, H, W, 3); return a copy."""
    corruptions: tuple[Corruption, ...] = (
        lambda p: blurred(p, rng.uniform(0.5, 3)),
        lambda p: as_jpeg(p, int(rng.integers(10, 70))),
        lambda p: noisy(p, rng.uniform(3, 25), rng),
        lambda p: brightened(p, rng.uniform(0.3, 1.7)),
        lambda p: coarse(p, rng.uniform(0.2, 0.7)),
        lambda p: moved(p, int(rng.integers(3, 12)), rng.uniform(0, np.pi)),
    )
    changed = photos.copy()
    for place in np.flatnonzero(rng.random(len(photos)) < share):
        for _ in range(int(rng.integers(1, 3))):
            changed[place] = corruptions[int(rng.integers(len(corruptions)))](changed[place])
    return changed

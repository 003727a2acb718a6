"""The data of a training; each cache is opened once, on first use."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from image_classification_trash.arrays import Embeddings, Floats, Ints
from image_classification_trash.data.manifest import Manifest, Split
from image_classification_trash.features.build_features import Backbone, PixelSettings, SplitCaches
from image_classification_trash.features.synthesis.backgrounds import TRAINING, draw_backgrounds
from image_classification_trash.features.synthesis.compositing import CopyPaste
from image_classification_trash.features.synthesis.corruptions import corrupt
from image_classification_trash.features.synthesis.cutouts import Masks, masks_of
from image_classification_trash.features.synthesis.shifted_photos import (
    ShiftedPhotos,
    not_waste,
    shifted_photos,
)
from image_classification_trash.inference.images import Pixels, ResizeMode, Size
from image_classification_trash.training.batches import SplitPhotos

CACHE_MARGIN = 1.2
"""Training photos are cached larger than the input by this factor, so that crops are not upscaled."""
BACKGROUNDS = 400
"""Number of backgrounds drawn per training; they are mirrored, cropped and recoloured at each use."""
BOARDS = 200
"""Number of photos whose object is removed, as examples of bare posterboard."""


class DataSettings(Protocol):
    """The settings of a training that its photos and their weights depend on, as in `TrainSettings`."""

    resize_mode: ResizeMode
    copy_paste: float
    corruption: float
    outliers: float
    class_weighting: float
    seed: int

    @property
    def input_size(self) -> Size:
        """Height and width in pixels."""
        ...

    @property
    def interim_dir(self) -> Path:
        """Folder of the caches."""
        ...


@dataclass(frozen=True)
class FieldAlteration:
    """An `Alteration` for fine-tuning: copy-paste onto other backgrounds, then corruptions."""

    copy_paste: CopyPaste | None
    corruption: float

    def __call__(self, photos: Pixels, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Pixels:
        """Return the altered photos, uint8 (B, H, W, 3)."""
        photos = self.copy_paste(photos, rows, rng) if self.copy_paste is not None else photos
        return corrupt(photos, self.corruption, rng)


class TrainingData:
    """The train and val splits of a data set, loaded lazily; the test split is never read.

    Decoded photos are memory maps; photos derived from them are held in memory.

    Attributes:
        manifest: the data set's table.
        labels: its classes, in the order of the class numbers.
        class_weighting: how classes weigh in a loss, as in `class_weights`.
    """

    def __init__(self, manifest: Manifest, settings: DataSettings) -> None:
        self.manifest, self.labels = manifest, manifest.labels
        self._interim = settings.interim_dir
        self._caches = SplitCaches(
            manifest, PixelSettings(settings.input_size, settings.resize_mode), settings.interim_dir
        )
        height, width = (round(side * CACHE_MARGIN / 16) * 16 for side in settings.input_size)
        larger = PixelSettings((height, width), settings.resize_mode)
        self._larger = SplitCaches(manifest, larger, settings.interim_dir)
        self._copy_paste, self._corruption, self._outliers = (
            settings.copy_paste,
            settings.corruption,
            settings.outliers,
        )
        self.class_weighting, self._seed = settings.class_weighting, settings.seed

    @cached_property
    def y_train(self) -> Ints:
        """Return the class numbers (N,) of the train split."""
        return self._caches.y_true("train")

    @cached_property
    def photo_weights(self) -> Floats | None:
        """Return the weights (N,) of the train split's photos, scaled to a mean of 1; None if all are equal."""
        weights = np.array([photo.weight for photo in self.manifest.photos_of("train")])
        return weights / weights.mean() if len(set(weights.tolist())) > 1 else None

    def natural_not_waste(self, split: Split, larger: bool = False) -> Pixels | None:
        """Open the photos of a split that show no waste at the input size, uint8 (Q, H, W, 3); None if there are none.

        Only a data sources file names such photos; `larger` opens them at the size of the photos for fine-tuning.
        """
        if not any(photo.split == split for photo in self.manifest.not_waste):
            return None
        caches = self._larger if larger else self._caches
        return replace(caches, manifest=replace(self.manifest, photos=self.manifest.not_waste)).pixels(split)

    @cached_property
    def train_pixels(self) -> Pixels:
        """Open the photos of the train split at the input size: a memory map, uint8 (N, H, W, 3)."""
        return self._caches.pixels("train")

    @cached_property
    def train_masks(self) -> Masks:
        """Find the object masks of the train split."""
        return masks_of(self.manifest.photos_of("train"), self.manifest.root, self._interim)

    @cached_property
    def train(self) -> SplitPhotos:
        """Open the train split for fine-tuning, larger than the input, altered as the settings say."""
        pixels = self._larger.pixels("train")
        if not (self._copy_paste or self._corruption or self._outliers):
            return SplitPhotos(pixels, self.y_train, weights=self.photo_weights)
        backgrounds = draw_backgrounds(TRAINING, BACKGROUNDS, self._larger.settings.size, self._seed)
        copy_paste = (
            CopyPaste(self.train_masks, backgrounds, self._copy_paste, pixels) if self._copy_paste else None
        )
        natural = self.natural_not_waste("train", larger=True) if self._outliers else None
        outliers = backgrounds if natural is None else np.concatenate([backgrounds, natural])
        alter = FieldAlteration(copy_paste, self._corruption)
        return SplitPhotos(pixels, self.y_train, alter, outliers, self.photo_weights)

    @cached_property
    def y_val(self) -> Ints:
        """Return the class numbers (M,) of the val split."""
        return self._caches.y_true("val")

    @cached_property
    def val(self) -> SplitPhotos:
        """Open the val split at the input size: a memory map, uint8 (M, H, W, 3)."""
        return SplitPhotos(self._caches.pixels("val"), self.y_val)

    @cached_property
    def shifted(self) -> ShiftedPhotos:
        """Synthesise shifted photos from the val split, in memory."""
        masks = masks_of(self.manifest.photos_of("val"), self.manifest.root, self._interim)
        return shifted_photos(self.val.pixels, self.val.y_true, masks)

    @property
    def selection(self) -> SplitPhotos:
        """Return the photos that select the best epoch: the val split, with copy-paste followed by its copy-pasted photos."""
        if not self._copy_paste:
            return self.val
        return SplitPhotos(self.shifted.clean_and_copy_pasted, self.shifted.y_true)

    def rejection_photos(self) -> tuple[Pixels, Pixels]:
        """Collect the training photos of the rejection head, with corruptions as the settings say.

        Returns:
            Objects on drawn backgrounds, uint8 (P, H, W, 3), and photos without waste, uint8 (Q, H, W, 3): drawn
            backgrounds and bare posterboard, then the data set's own photos without waste.
        """
        pixels, masks, seed = self.train_pixels, self.train_masks, self._seed
        rng = np.random.default_rng([seed, 3])
        backgrounds = draw_backgrounds(TRAINING, BACKGROUNDS, self._caches.settings.size, seed + 1)
        rows = np.flatnonzero(masks.trusted)
        copy_pasted = CopyPaste(masks, backgrounds, 1.0, pixels)(np.array(pixels[rows]), rows, rng)
        copy_pasted = corrupt(copy_pasted, self._corruption, rng)
        other = not_waste(TRAINING, pixels, masks, seed + 2, BACKGROUNDS, BOARDS)
        natural = self.natural_not_waste("train")
        other = other if natural is None else np.concatenate([other, natural])
        return copy_pasted, corrupt(other, self._corruption, rng)

    def embeddings(self, backbone: Backbone) -> tuple[Embeddings, Embeddings]:
        """Return embeddings of the train split (N, D) and of the val split (M, D)."""
        return self._caches.embeddings("train", backbone), self._caches.embeddings("val", backbone)

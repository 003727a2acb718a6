"""What a training reads: every cache is opened once, here, when it is first asked for."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from image_classification_trash.arrays import Embeddings, Ints
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest
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
from image_classification_trash.inference.images import Pixels, Size
from image_classification_trash.training.batches import SplitPhotos

CACHE_MARGIN = 1.2
"""Training photos are cached this much larger than the input, so that crops need not be blown up."""
BACKGROUNDS = 400
"""Drawn once a training: they are mirrored, cropped and coloured anew each time they are used."""
BOARDS = 200
"""Photos whose object is removed, to learn what posterboard alone looks like."""


@dataclass(frozen=True)
class FieldAlteration:
    """Other backgrounds first, then corruptions: an `Alteration` of fine-tuning."""

    copy_paste: CopyPaste | None
    corruption: float

    def __call__(self, photos: Pixels, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Pixels:
        """Photos uint8 (B, H, W, 3), changed."""
        photos = self.copy_paste(photos, rows, rng) if self.copy_paste is not None else photos
        return corrupt(photos, self.corruption, rng)


class TrainingData:
    """The train and the val split of a data set, as a training needs them; the test split is not read.

    Nothing is read before it is asked for. Decoded photos are memory maps; what is made from them is in memory.

    Attributes:
        manifest: the data set's table.
        labels: its classes, in the order of the class numbers.
    """

    def __init__(self, manifest: Manifest, settings: TrainSettings) -> None:
        self.manifest, self.labels = manifest, manifest.labels
        self._interim = settings.interim_dir
        self._caches = SplitCaches(
            manifest, PixelSettings(settings.input_size, settings.resize_mode), settings.interim_dir
        )
        larger = PixelSettings(_with_margin(settings.input_size), settings.resize_mode)
        self._larger = SplitCaches(manifest, larger, settings.interim_dir)
        self._copy_paste, self._corruption, self._outliers = (
            settings.copy_paste,
            settings.corruption,
            settings.outliers,
        )
        self._seed = settings.seed

    @cached_property
    def y_train(self) -> Ints:
        """Class numbers (N,) of the train split."""
        return self._caches.y_true("train")

    @cached_property
    def train_pixels(self) -> Pixels:
        """Photos of the train split at the input size, uint8 (N, H, W, 3), a memory map."""
        return self._caches.pixels("train")

    @cached_property
    def train_masks(self) -> Masks:
        """Where the objects of the train split are."""
        return masks_of(self.manifest.photos_of("train"), self.manifest.root, self._interim)

    @cached_property
    def train(self) -> SplitPhotos:
        """The train split for fine-tuning, larger than the input, with the backgrounds and corruptions that were asked for."""
        pixels = self._larger.pixels("train")
        if not (self._copy_paste or self._corruption or self._outliers):
            return SplitPhotos(pixels, self.y_train)
        backgrounds = draw_backgrounds(TRAINING, BACKGROUNDS, self._larger.settings.size, self._seed)
        copy_paste = (
            CopyPaste(self.train_masks, backgrounds, self._copy_paste, pixels) if self._copy_paste else None
        )
        return SplitPhotos(pixels, self.y_train, FieldAlteration(copy_paste, self._corruption), backgrounds)

    @cached_property
    def y_val(self) -> Ints:
        """Class numbers (M,) of the val split."""
        return self._caches.y_true("val")

    @cached_property
    def val(self) -> SplitPhotos:
        """The val split at the input size, a memory map."""
        return SplitPhotos(self._caches.pixels("val"), self.y_val)

    @cached_property
    def shifted(self) -> ShiftedPhotos:
        """What the val split might look like in the field, in memory."""
        masks = masks_of(self.manifest.photos_of("val"), self.manifest.root, self._interim)
        return shifted_photos(self.val.pixels, self.val.y_true, masks)

    @property
    def selection(self) -> SplitPhotos:
        """The photos that choose the best epoch: the val split, and with copy-paste its pasted photos behind it."""
        if not self._copy_paste:
            return self.val
        return SplitPhotos(self.shifted.clean_and_copy_pasted, self.shifted.y_true)

    def rejection_photos(self) -> tuple[Pixels, Pixels]:
        """What a rejection head learns from beside the train split, with corruptions as asked for.

        Returns:
            Objects on drawn backgrounds (P, H, W, 3), and photos without waste (Q, H, W, 3): drawn backgrounds and bare
            posterboard; uint8, in memory.
        """
        pixels, masks, seed = self.train_pixels, self.train_masks, self._seed
        rng = np.random.default_rng([seed, 3])
        backgrounds = draw_backgrounds(TRAINING, BACKGROUNDS, self._caches.settings.size, seed + 1)
        rows = np.flatnonzero(masks.trusted)
        copy_pasted = CopyPaste(masks, backgrounds, 1.0, pixels)(np.array(pixels[rows]), rows, rng)
        copy_pasted = corrupt(copy_pasted, self._corruption, rng)
        other = not_waste(TRAINING, pixels, masks, seed + 2, BACKGROUNDS, BOARDS)
        return copy_pasted, corrupt(other, self._corruption, rng)

    def embeddings(self, backbone: Backbone) -> tuple[Embeddings, Embeddings]:
        """Embeddings of the train split (N, D) and of the val split (M, D)."""
        return self._caches.embeddings("train", backbone), self._caches.embeddings("val", backbone)


def _with_margin(size: Size) -> Size:
    height, width = (round(side * CACHE_MARGIN / 16) * 16 for side in size)
    return height, width

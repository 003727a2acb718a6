"""Training for the field: photos on grounds they were not taken on, with a camera's faults, and grounds without waste."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from image_classification_trash.config import TrainSettings
from image_classification_trash.data.manifest import Manifest
from image_classification_trash.features.compositing import Paster
from image_classification_trash.features.corruptions import corrupt
from image_classification_trash.features.cutouts import masks_of
from image_classification_trash.features.grounds import TRAINING, draw_grounds
from image_classification_trash.inference.images import Pixels
from image_classification_trash.models.fine_tuning import Part

GROUNDS = 400
"""Drawn once a training: they are mirrored, cropped and coloured anew each time they are used."""


@dataclass(frozen=True)
class FieldAlteration:
    """Other grounds first, then faults: an `Alteration` of fine-tuning."""

    paster: Paster | None
    corruption: float

    def __call__(self, photos: Pixels, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Pixels:
        """Photos uint8 (B, H, W, 3), changed."""
        photos = self.paster(photos, rows, rng) if self.paster is not None else photos
        return corrupt(photos, self.corruption, rng)


def robust(part: Part, manifest: Manifest, settings: TrainSettings) -> Part:
    """The training part, with what the settings ask for to be right in the field."""
    if not (settings.paste or settings.corruption or settings.outliers):
        return part
    height, width = part.pixels.shape[1:3]
    grounds = draw_grounds(TRAINING, GROUNDS, (height, width), settings.seed)
    masks = masks_of(manifest.part("train"), manifest.root, settings.interim_dir) if settings.paste else None
    paster = Paster(masks, grounds, settings.paste) if masks is not None else None
    return replace(part, alter=FieldAlteration(paster, settings.corruption), grounds=grounds)

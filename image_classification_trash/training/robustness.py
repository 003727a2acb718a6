"""Training for the field: photos on grounds they were not taken on, with a camera's faults, and grounds without waste."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest, Split
from image_classification_trash.features.build_features import PixelSettings, pixel_cache
from image_classification_trash.features.synthesis.backgrounds import TRAINING, draw_grounds
from image_classification_trash.features.synthesis.compositing import Paster
from image_classification_trash.features.synthesis.corruptions import corrupt
from image_classification_trash.features.synthesis.cutouts import masks_of
from image_classification_trash.features.synthesis.shifted_photos import (
    ShiftedPhotos,
    accuracy_under_shift,
    no_waste,
    shifted_photos,
)
from image_classification_trash.inference.images import Pixels
from image_classification_trash.networks.device import training_device
from image_classification_trash.networks.network import EmbeddingBackbone, TrashNetwork
from image_classification_trash.training.batches import Part
from image_classification_trash.training.rejection_head import Detector, fit_detector

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
    paster = Paster(masks, grounds, settings.paste, part.pixels) if masks is not None else None
    return replace(part, alter=FieldAlteration(paster, settings.corruption), grounds=grounds)


def watched(part: Part, manifest: Manifest, settings: TrainSettings) -> Part:
    """The validation part, by which the best epoch is chosen: with pasting, its pasted photos behind those as they are."""
    if not settings.paste:
        return part
    photos = manifest.part("val")
    pixels = np.array(part.pixels)
    shifted = shifted_photos(pixels, part.truth, photos, manifest.root, settings.interim_dir)
    return Part(np.concatenate([pixels, shifted.pasted]), np.concatenate([part.truth, shifted.pasted_truth]))


BOARDS = 200
"""Photos whose object is removed, to learn what posterboard alone looks like."""
LOST = 0.01
"""Share of the validation photos that the detector may take for no waste."""


def learn_shift(network: TrashNetwork, settings: TrainSettings, manifest: Manifest) -> dict[str, Any]:
    """Fit the network's detector of waste, and measure on shifted validation photos; returns a record of both.

    On the accelerator that trained, where there is one: thousands of made-up photos are embedded. Leaves the network on the CPU.
    """
    network.to(training_device(settings.accelerator))
    pixels, truth = part_pixels(manifest, "val", settings)
    shifted = shifted_photos(pixels, truth, manifest.part("val"), manifest.root, settings.interim_dir)
    detector = _fit_detector(network, settings, manifest, pixels, shifted)
    backbone = EmbeddingBackbone(network)

    def scores(photos: Pixels) -> Floats:
        embedded = torch.from_numpy(backbone.embed(photos))
        with torch.inference_mode():
            return np.asarray(network.head(embedded.to(network.mean.device)).cpu().numpy(), dtype=np.float64)

    right = accuracy_under_shift(scores, pixels, truth, shifted)
    network.cpu().set_detector(detector.weight, detector.bias)
    return {
        "validation_under_shift": right,
        "detector": {"auroc": detector.auroc, "kept": detector.kept},
    }


def _fit_detector(
    network: TrashNetwork, settings: TrainSettings, manifest: Manifest, val: Pixels, shifted: ShiftedPhotos
) -> Detector:
    """Photos as they are and pasted against drawn grounds and bare posterboard; chosen on the held-out family."""
    backbone = EmbeddingBackbone(network)
    pixels, _ = part_pixels(manifest, "train", settings)
    masks = masks_of(manifest.part("train"), manifest.root, settings.interim_dir)
    rng = np.random.default_rng([settings.seed, 3])
    grounds = draw_grounds(TRAINING, GROUNDS, settings.input_size, settings.seed + 1)
    paster = Paster(masks, grounds, 1.0, pixels)
    rows = np.flatnonzero(masks.trusted)
    pasted = corrupt(paster(np.array(pixels[rows]), rows, rng), settings.corruption, rng)
    other = corrupt(
        no_waste(TRAINING, pixels, masks, settings.seed + 2, GROUNDS, BOARDS), settings.corruption, rng
    )
    waste = [backbone.embed(np.array(photos)) for photos in (pixels, pasted)]
    val_waste = backbone.embed(np.concatenate([val, shifted.pasted]))
    return fit_detector(
        np.concatenate(waste), backbone.embed(other), val_waste, backbone.embed(shifted.no_waste), LOST
    )


def part_pixels(manifest: Manifest, split: Split, settings: TrainSettings) -> tuple[Pixels, Ints]:
    """Decoded photos of a part at the input size, uint8 (N, H, W, 3), and their class numbers (N,)."""
    photos = manifest.part(split)
    pixels = pixel_cache(
        photos, manifest.root, PixelSettings(settings.input_size, settings.fit), settings.interim_dir, split
    )
    number = {label: i for i, label in enumerate(manifest.labels)}
    return np.array(pixels), np.array([number[photo.label] for photo in photos], dtype=np.int64)

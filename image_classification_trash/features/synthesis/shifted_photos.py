"""Validation photos as they might look in the field, and photos of no waste: made by rule, from the validation part alone.

The grounds here are of the held-out family, which training never draws, so that progress is seen without touching
photos from the field.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.data.manifest import Photo
from image_classification_trash.features.synthesis.backgrounds import HELD_OUT, Rule, draw_grounds
from image_classification_trash.features.synthesis.compositing import Paster
from image_classification_trash.features.synthesis.corruptions import FIXED
from image_classification_trash.features.synthesis.cutouts import Masks, masks_of, posterboard
from image_classification_trash.inference.images import Pixels

COPIES = 3
"""Each object that can be cut out is pasted this often."""
GROUNDS = 120
BOARDS = 60
Scores = Callable[[Pixels], Floats]
"""Photos uint8 (N, H, W, 3) to scores or probabilities (N, C)."""


@dataclass(frozen=True)
class ShiftedPhotos:
    """Photos made from a part of the data, uint8 (N, H, W, 3).

    Attributes:
        pasted: objects on held-out grounds, and their classes.
        no_waste: grounds without objects.
    """

    pasted: Pixels
    pasted_truth: Ints
    no_waste: Pixels


def shifted_photos(
    pixels: Pixels, truth: Ints, photos: Sequence[Photo], root: Path, interim: Path, seed: int = 0
) -> ShiftedPhotos:
    """Make them from decoded `photos` of one part."""
    masks = masks_of(photos, root, interim)
    rng = np.random.default_rng([seed, 1])
    rows = np.flatnonzero(masks.trusted)
    grounds = draw_grounds(HELD_OUT, GROUNDS, pixels.shape[1:3], seed)
    paster = Paster(masks, grounds, 1.0, pixels)
    cut = np.array(pixels[rows])
    pasted = [paster(cut, rows, rng) for _ in range(COPIES)]
    return ShiftedPhotos(
        np.concatenate(pasted),
        np.tile(truth[rows], COPIES),
        no_waste(HELD_OUT, pixels, masks, seed + 1, GROUNDS, BOARDS),
    )


def no_waste(
    rules: Sequence[Rule], pixels: Pixels, masks: Masks, seed: int, grounds: int, boards: int
) -> Pixels:
    """Photos without waste, uint8 (N, H, W, 3): drawn grounds, and the photos' own grounds with their objects removed."""
    rng = np.random.default_rng([seed, 2])
    rows = np.flatnonzero(masks.trusted)[:boards]
    drawn = draw_grounds(rules, grounds, pixels.shape[1:3], seed)
    return np.concatenate([drawn, *(posterboard(pixels[row], rng)[None] for row in rows)])


def accuracy_under_shift(
    scores: Scores, pixels: Pixels, truth: Ints, shifted: ShiftedPhotos
) -> dict[str, float]:
    """Accuracy on the photos as they are, pasted, and under each corruption of `corruptions.FIXED`."""
    right = {
        "clean": _accuracy(scores, pixels, truth),
        "pasted": _accuracy(scores, shifted.pasted, shifted.pasted_truth),
    }
    for name, corruption in FIXED.items():
        right[name] = _accuracy(scores, np.stack([corruption(photo) for photo in pixels]), truth)
    return right


def _accuracy(scores: Scores, pixels: Pixels, truth: Ints) -> float:
    return float((scores(pixels).argmax(1) == truth).mean()) if len(truth) else float("nan")

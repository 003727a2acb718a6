"""Validation photos as they might look in the field, and photos of no waste: made by rule, from the validation split alone.

The backgrounds here are of the held-out family, which training never draws, so that progress is seen without touching
photos from the field.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.features.synthesis.backgrounds import HELD_OUT, Rule, draw_backgrounds
from image_classification_trash.features.synthesis.compositing import CopyPaste
from image_classification_trash.features.synthesis.corruptions import FIXED
from image_classification_trash.features.synthesis.cutouts import Masks, posterboard
from image_classification_trash.inference.images import Pixels

COPIES = 3
"""Each object that can be cut out is pasted this often."""
BACKGROUNDS = 120
BOARDS = 60
Scores = Callable[[Pixels], Floats]
"""Photos uint8 (N, H, W, 3) to scores or probabilities (N, C)."""


@dataclass(frozen=True)
class ShiftedPhotos:
    """The photos of a split, uint8 (N, H, W, 3), and photos made from them.

    Attributes:
        clean_and_pasted: uint8 (N + P, H, W, 3): the photos as they are, then their objects on held-out backgrounds.
        y_true: class numbers (N + P,) of both.
        no_waste: backgrounds without objects, uint8 (M, H, W, 3).
        count: N, how many photos there were.
    """

    clean_and_copy_pasted: Pixels
    y_true: Ints
    not_waste: Pixels
    count: int

    @property
    def clean(self) -> Pixels:
        """The photos as they are, (N, H, W, 3)."""
        return self.clean_and_copy_pasted[: self.count]

    @property
    def copy_pasted(self) -> Pixels:
        """Objects on held-out backgrounds, (P, H, W, 3)."""
        return self.clean_and_copy_pasted[self.count :]


def shifted_photos(pixels: Pixels, y_true: Ints, masks: Masks, seed: int = 0) -> ShiftedPhotos:
    """Make them from the decoded photos of a split, uint8 (N, H, W, 3), and the masks of their objects."""
    rng = np.random.default_rng([seed, 1])
    rows = np.flatnonzero(masks.trusted)
    backgrounds = draw_backgrounds(HELD_OUT, BACKGROUNDS, pixels.shape[1:3], seed)
    copy_paste = CopyPaste(masks, backgrounds, 1.0, pixels)
    cut = np.array(pixels[rows])
    copy_pasted = [copy_paste(cut, rows, rng) for _ in range(COPIES)]
    return ShiftedPhotos(
        np.concatenate([pixels, *copy_pasted]),
        np.concatenate([y_true, np.tile(y_true[rows], COPIES)]),
        not_waste(HELD_OUT, pixels, masks, seed + 1, BACKGROUNDS, BOARDS),
        len(pixels),
    )


def not_waste(
    rules: Sequence[Rule], pixels: Pixels, masks: Masks, seed: int, backgrounds: int, boards: int
) -> Pixels:
    """Photos without waste, uint8 (N, H, W, 3): drawn backgrounds, and the photos' own backgrounds with their objects removed."""
    rng = np.random.default_rng([seed, 2])
    rows = np.flatnonzero(masks.trusted)[:boards]
    drawn = draw_backgrounds(rules, backgrounds, pixels.shape[1:3], seed)
    return np.concatenate([drawn, *(posterboard(pixels[row], rng)[None] for row in rows)])


def accuracy_under_shift(scores: Scores, shifted: ShiftedPhotos) -> dict[str, float]:
    """Accuracy on the photos as they are, pasted, and under each corruption of `corruptions.FIXED`."""
    y_true, y_copy_pasted = np.split(shifted.y_true, [shifted.count])
    right = {
        "clean": _accuracy(scores, shifted.clean, y_true),
        "copy_pasted": _accuracy(scores, shifted.copy_pasted, y_copy_pasted),
    }
    for name, corruption in FIXED.items():
        right[name] = _accuracy(scores, np.stack([corruption(photo) for photo in shifted.clean]), y_true)
    return right


def _accuracy(scores: Scores, pixels: Pixels, y_true: Ints) -> float:
    return float((scores(pixels).argmax(1) == y_true).mean()) if len(y_true) else float("nan")

"""Make shifted validation photos, which resemble photos from the field, and not-waste photos from the validation split.

The backgrounds belong to the held-out family, which training never draws, so that robustness can be measured without using
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
"""Number of copy-pasted photos per object that can be cut out whole."""
BACKGROUNDS = 120
BOARDS = 60
Scores = Callable[[Pixels], Floats]
"""Maps photos uint8 (N, H, W, 3) to scores or probabilities (N, C)."""


@dataclass(frozen=True)
class ShiftedPhotos:
    """The photos of a split and synthetic photos made from them.

    Attributes:
        clean_and_copy_pasted: uint8 (N + P, H, W, 3): the unchanged photos, then their objects on held-out backgrounds.
        y_true: int64 (N + P,), class numbers of both.
        not_waste: uint8 (M, H, W, 3), backgrounds without objects.
        count: N, the number of unchanged photos.
    """

    clean_and_copy_pasted: Pixels
    y_true: Ints
    not_waste: Pixels
    count: int

    @property
    def clean(self) -> Pixels:
        """Return the unchanged photos, uint8 (N, H, W, 3)."""
        return self.clean_and_copy_pasted[: self.count]

    @property
    def copy_pasted(self) -> Pixels:
        """Return the objects on held-out backgrounds, uint8 (P, H, W, 3)."""
        return self.clean_and_copy_pasted[self.count :]


def shifted_photos(pixels: Pixels, y_true: Ints, masks: Masks, seed: int = 0) -> ShiftedPhotos:
    """Make shifted photos from a split.

    Args:
        pixels: the split's photos, uint8 (N, H, W, 3).
        y_true: their class numbers, int64 (N,).
        masks: their masks.
        seed: seed of all random choices.
    """
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
    """Make not-waste photos: drawn backgrounds, and the photos' own backgrounds with the objects removed.

    Args:
        rules: the rules that backgrounds are drawn by.
        pixels: photos, uint8 (N, H, W, 3).
        masks: their masks; photos with trusted masks alone are used.
        seed: seed of all random choices.
        backgrounds: number of backgrounds to draw.
        boards: maximum number of photos whose objects are removed.

    Returns:
        uint8 (M, H, W, 3), M at most `backgrounds` + `boards`.
    """
    rng = np.random.default_rng([seed, 2])
    rows = np.flatnonzero(masks.trusted)[:boards]
    drawn = draw_backgrounds(rules, backgrounds, pixels.shape[1:3], seed)
    return np.concatenate([drawn, *(posterboard(pixels[row], rng)[None] for row in rows)])


def accuracy_under_shift(scores: Scores, shifted: ShiftedPhotos) -> dict[str, float]:
    """Measure accuracy, 0 to 1, on unchanged photos, on copy-pasted ones, and under each corruption of `corruptions.FIXED`."""
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

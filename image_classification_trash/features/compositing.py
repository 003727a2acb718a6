"""Cut-out objects pasted onto other grounds: waste as it lies in the field, made from photos on posterboard.

Each object is turned, scaled, lit and placed at random, with a soft edge and a shadow; some are partly hidden, some let
the ground shine through a little, as glass and film do (after Dwibedi et al., 2017, "Cut, Paste and Learn").
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from image_classification_trash.features.cutouts import Mask, Masks
from image_classification_trash.inference.images import Pixels

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Paster:
    """Gives photos other grounds.

    Attributes:
        masks: of the part's photos, in their order.
        grounds: uint8 (G, H, W, 3), as large as the photos.
        share: of the photos that are pasted.
        pixels: the part's photos, uint8 (N, H, W, 3).
        truth: their class numbers (N,). A photo whose object cannot be cut out is replaced by one of its class whose can.
    """

    masks: Masks
    grounds: Pixels
    share: float
    pixels: Pixels
    truth: npt.NDArray[np.int64]

    def __call__(self, photos: Pixels, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Pixels:
        """Photos uint8 (B, H, W, 3), which are rows (B,) of the part, some of them on other grounds now."""
        pasted = photos.copy()
        for place, row in enumerate(rows):
            if rng.random() < self.share and (source := self._cut_out(int(row), rng)) is not None:
                grounds = self.ground(rng), self.ground(rng)
                pasted[place] = paste(self.pixels[source], self.masks.masks[source], *grounds, rng)
        return pasted

    def _cut_out(self, row: int, rng: np.random.Generator) -> int | None:
        """The photo itself where its object can be cut out, else another one of its class; None where there is none."""
        if self.masks.trusted[row]:
            return row
        others = np.flatnonzero(self.masks.trusted & (self.truth == self.truth[row]))
        return int(rng.choice(others)) if len(others) else None

    def ground(self, rng: np.random.Generator) -> Pixels:
        """One of the grounds, uint8 (H, W, 3), mirrored at random."""
        ground = self.grounds[int(rng.integers(len(self.grounds)))]
        return np.ascontiguousarray(ground[:: int(rng.choice([1, -1])), :: int(rng.choice([1, -1]))])


def paste(photo: Pixels, mask: Mask, ground: Pixels, cover: Pixels, rng: np.random.Generator) -> Pixels:
    """The photo's object on `ground`, perhaps partly under `cover`; all uint8 (H, W, 3), the mask uint8 (h, w)."""
    height, width, _ = ground.shape
    whole = cv2.resize(mask, (photo.shape[1], photo.shape[0]), interpolation=cv2.INTER_LINEAR)
    matrix = _placement(whole, (height, width), rng)
    moved = cv2.warpAffine(photo, matrix, (width, height), flags=cv2.INTER_AREA).astype(np.float32)
    alpha = _soft(cv2.warpAffine(whole, matrix, (width, height)), rng)
    if rng.random() < 0.3:
        alpha *= rng.uniform(0.75, 0.95)
    below = _shadowed(ground.astype(np.float32), alpha, rng)
    picture = below + (_lit(moved, rng) - below) * alpha[..., None]
    if rng.random() < 0.3:
        hidden = _hidden(alpha, rng)
        picture += (cover.astype(np.float32) - picture) * hidden[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def _placement(mask: Mask, size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """An affine map (2, 3) that puts the object into the frame at a random size, turn and place."""
    height, width = size
    x, y, wide, tall = cv2.boundingRect((mask > 127).astype(np.uint8))
    scale = rng.uniform(0.35, 1.05) * min(height, width) / max(wide, tall)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([scale * stretch * rng.choice([1, -1]), scale / stretch])
    target = np.array([width, height]) * rng.uniform(0.32, 0.68, 2)
    shift = target - linear @ np.array([x + wide / 2, y + tall / 2])
    return np.column_stack([linear, shift]).astype(np.float32)


def _soft(mask: Mask, rng: np.random.Generator) -> Plane:
    """Alpha, float (H, W) from 0 to 1: drawn in by a pixel or two, so that no posterboard shines round the edge."""
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=int(rng.integers(1, 3)))
    return np.asarray(
        cv2.GaussianBlur(inner, (0, 0), rng.uniform(0.6, 1.6)).astype(np.float32) / 255, dtype=np.float32
    )


def _lit(picture: Plane, rng: np.random.Generator) -> Plane:
    """Other light: brightness, contrast around the middle, a tint."""
    tint = rng.normal(1, 0.06, 3).astype(np.float32)
    contrast = rng.uniform(0.75, 1.35)
    return np.asarray(((picture - 128) * contrast + 128) * rng.uniform(0.6, 1.2) * tint, dtype=np.float32)


def _shadowed(ground: Plane, alpha: Plane, rng: np.random.Generator) -> Plane:
    shift = np.array([[1, 0, rng.normal(0, 6)], [0, 1, rng.normal(0, 6)]], np.float32)
    moved = cv2.warpAffine(alpha, shift, (alpha.shape[1], alpha.shape[0]))
    shadow = cv2.GaussianBlur(moved, (0, 0), rng.uniform(1.5, 10)) * rng.uniform(0, 0.7)
    return np.asarray(ground * (1 - shadow[..., None]), dtype=np.float32)


def _hidden(alpha: Plane, rng: np.random.Generator) -> Plane:
    """A soft-edged blob over a part of the object, float (H, W)."""
    height, width = alpha.shape
    inside = np.argwhere(alpha > 0.3)
    if not len(inside):
        return np.zeros_like(alpha)
    y, x = inside[int(rng.integers(len(inside)))]
    reach = np.sqrt(len(inside)) * rng.uniform(0.1, 0.35)
    corners = np.rint(np.array([x, y]) + rng.normal(0, reach, (int(rng.integers(4, 9)), 2))).astype(np.int32)
    blob = np.zeros((height, width), np.float32)
    cv2.fillPoly(blob, [corners], 1.0)
    return np.asarray(cv2.GaussianBlur(blob, (0, 0), rng.uniform(0.6, 3)), dtype=np.float32)

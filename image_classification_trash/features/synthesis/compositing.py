"""Copy-paste cut-out objects onto other backgrounds, to turn photos on posterboard into photos as in the field.

Each object is rotated, scaled, lit and placed at random, with a soft edge and a shadow. Some objects are bent and dented,
some are partly hidden, and some are slightly transparent, as glass and film are (after Dwibedi et al., 2017, "Cut, Paste
and Learn"). If an object cannot be cut out whole, a piece of it is pasted instead: the region on which both segmentation
methods agree, else a patch from the photo's middle.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from image_classification_trash.features.synthesis.cutouts import MASK_SIZE, Mask, Masks
from image_classification_trash.inference.images import Pixels

Plane = npt.NDArray[np.float32]
SMALLEST, LARGEST = 0.27, 1.2
"""Limits of an object's longer side as a fraction of the picture's shorter side; the median is their geometric mean, 0.57."""


@dataclass(frozen=True)
class CopyPaste:
    """Copy-paste augmentation for the photos of a split.

    Attributes:
        masks: masks of the split's photos, in their order.
        backgrounds: uint8 (G, H, W, 3), of the photos' size.
        share: fraction of photos to change, 0 to 1.
        pixels: the split's photos, uint8 (N, H, W, 3).
    """

    masks: Masks
    backgrounds: Pixels
    share: float
    pixels: Pixels

    def __call__(self, photos: Pixels, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Pixels:
        """Move a random share of a batch's objects onto other backgrounds.

        Args:
            photos: uint8 (B, H, W, 3).
            rows: int64 (B,), the photos' indices in the split.
            rng: the source of randomness.

        Returns:
            A copy of `photos`, uint8 (B, H, W, 3), with some of them replaced.
        """
        copy_pasted = photos.copy()
        for place, row in enumerate(rows):
            if rng.random() < self.share:
                mask = self.masks.shape(int(row))
                mask = _patch(rng) if mask is None else mask
                cover = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
                copy_pasted[place] = copy_paste(self.pixels[row], mask, self.background(rng), cover, rng)
        return copy_pasted

    def background(self, rng: np.random.Generator) -> Pixels:
        """Return a crop of a background, or crops of two that meet, as at a kerb; uint8 (H, W, 3)."""
        background = self._piece(rng)
        if rng.random() < 0.3:
            background = _blended(self._piece(rng), background, _beyond_an_edge(background.shape[:2], rng))
        return background

    def _piece(self, rng: np.random.Generator) -> Pixels:
        """Return a crop of a background, uint8 (H, W, 3), randomly mirrored and lit."""
        background = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        height, width, _ = background.shape
        share = rng.uniform(0.5, 1.0)
        tall, wide = int(height * share), int(width * share)
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        piece = background[top : top + tall, left : left + wide]
        piece = piece[:: int(rng.choice([1, -1])), :: int(rng.choice([1, -1]))]
        return _lit(cv2.resize(np.ascontiguousarray(piece), (width, height)), rng)


def copy_paste(
    photo: Pixels, mask: Mask, background: Pixels, cover: Pixels, rng: np.random.Generator
) -> Pixels:
    """Paste a photo's object onto `background`, in some cases partly covered by `cover`.

    Args:
        photo: uint8 (H, W, 3).
        mask: the object's mask, uint8 (h, w) of 0 and 255, at any size.
        background: uint8 (H, W, 3).
        cover: uint8 (H, W, 3), the texture of what hides a part of the object.
        rng: the source of randomness.

    Returns:
        The picture, uint8 (H, W, 3).
    """
    height, width, _ = background.shape
    whole = np.asarray(cv2.resize(mask, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    if rng.random() < 0.5:
        photo, whole = _dented(photo, whole, rng)
    matrix = _placement(whole, (height, width), rng)
    moved = cv2.warpAffine(photo, matrix, (width, height), flags=cv2.INTER_LINEAR)
    # The mask shrinks by a pixel or two, so that no posterboard shows around the edge.
    inner = cv2.erode(
        cv2.warpAffine(whole, matrix, (width, height)),
        np.ones((3, 3), np.uint8),
        iterations=int(rng.integers(1, 3)),
    )
    alpha = np.asarray(
        cv2.GaussianBlur(inner, (0, 0), rng.uniform(0.6, 1.6)) * np.float32(1 / 255), dtype=np.float32
    )
    if rng.random() < 0.3:
        alpha *= rng.uniform(0.75, 0.95)
    below = _blended(np.zeros_like(background), background, _shadow(alpha, rng))
    picture = _blended(_lit(moved, rng), below, alpha)
    if rng.random() < 0.3:
        picture = _blended(cover, picture, _hidden(alpha, rng))
    return picture


def _blended(upper: Pixels, lower: Pixels, share: Plane) -> Pixels:
    """Blend two pictures: `upper` where share (H, W) is 1, `lower` where it is 0."""
    return np.asarray(cv2.blendLinear(upper, lower, share, 1 - share), dtype=np.uint8)


def _beyond_an_edge(size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Return float32 (H, W): 1 on one side of a rough line across the picture, 0 on the other."""
    y, x = np.mgrid[-1:1:24j, -1:1:32j]
    angle = rng.uniform(0, 2 * np.pi)
    distance = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.7, 0.7) + rng.normal(0, 0.05, x.shape)
    smooth = cv2.resize(distance.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)
    share = np.clip(smooth * rng.uniform(3, 40) + 0.5, 0, 1)
    return np.asarray(share, dtype=np.float32)


def _dented(photo: Pixels, mask: Mask, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """Deform a photo and its mask (H, W) by one smooth displacement without folds, as waste is rarely in its original shape."""
    height, width = mask.shape
    cells = int(rng.integers(3, 7))
    shift = rng.normal(0, rng.uniform(0.05, 0.2) / cells, (2, cells, cells)) * [[[width]], [[height]]]
    across, down = (
        cv2.resize(one.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC) for one in shift
    )
    x, y = across + np.arange(width, dtype=np.float32), down + np.arange(height, dtype=np.float32)[:, None]
    bent = (
        cv2.remap(one, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101) for one in (photo, mask)
    )
    moved_photo, moved_mask = (np.asarray(one, dtype=np.uint8) for one in bent)
    return moved_photo, moved_mask


def _patch(rng: np.random.Generator) -> Mask:
    """Return a mask of a random quadrilateral around the middle of a photo."""
    height, width = MASK_SIZE
    angles = np.pi * (np.array([0.25, 0.75, 1.25, 1.75]) + rng.uniform(-0.1, 0.1, 4))
    reach = rng.uniform(0.35, 0.6, 4)
    corners = np.stack([np.cos(angles) * width, np.sin(angles) * height]) * reach
    points = np.rint(corners.T + np.array([width / 2, height / 2])).astype(np.int32)
    return np.asarray(cv2.fillPoly(np.zeros(MASK_SIZE, np.uint8), [points], 255), dtype=np.uint8)


def _placement(mask: Mask, size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Return an affine matrix (2, 3) that gives the object a random size, rotation and place in the frame."""
    height, width = size
    x, y, wide, tall = cv2.boundingRect((mask > 127).astype(np.uint8))
    share = SMALLEST * (LARGEST / SMALLEST) ** rng.random()
    scale = share * min(height, width) / max(wide, tall)
    stretch = np.exp(rng.uniform(-0.3, 0.3))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([scale * stretch * rng.choice([1, -1]), scale / stretch])
    target = np.array([width, height]) * rng.uniform(0.32, 0.68, 2)
    shift = target - linear @ np.array([x + wide / 2, y + tall / 2])
    return np.column_stack([linear, shift]).astype(np.float32)


def _lit(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Change a picture's brightness, contrast around mid-grey, tint and saturation at random."""
    factors = rng.uniform(0.65, 1.35) * rng.normal(1, 0.06, 3)
    levels = (np.arange(256)[:, None] - 128) * rng.uniform(0.75, 1.35) + 128
    table = np.clip(levels * factors, 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    lit = cv2.LUT(picture, table)
    grey = cv2.cvtColor(cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    richness = rng.uniform(0.6, 1.6)
    return np.asarray(cv2.addWeighted(lit, richness, grey, 1 - richness, 0), dtype=np.uint8)


def _shadow(alpha: Plane, rng: np.random.Generator) -> Plane:
    """Return the object's shadow, float32 (H, W), computed at a quarter of the size because it is so soft."""
    height, width = alpha.shape
    small = cv2.resize(alpha, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    shift = np.array([[1, 0, rng.normal(0, 1.5)], [0, 1, rng.normal(0, 1.5)]], np.float32)
    moved = cv2.warpAffine(small, shift, small.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.4, 2.5)) * np.float32(rng.uniform(0, 0.7))
    return np.asarray(cv2.resize(soft, (width, height)), dtype=np.float32)


def _hidden(alpha: Plane, rng: np.random.Generator) -> Plane:
    """Return a blob with a soft edge over a part of the object, float32 (H, W)."""
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

"""Cut objects out of photos on a plain background: one mask per photo, on which two segmentation methods agree.

TrashNet's objects lie on white posterboard. One method fits a smooth background to the photo's border and selects the
pixels that differ from it in colour; the other is GrabCut (Rother et al., 2004), initialised independently with a frame
around the photo. If the methods disagree, or if the object fills or leaves the frame, the mask shows only a piece of the
object: the region that both methods select, which is enough to show its material.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from image_classification_trash.data.manifest import Photo
from image_classification_trash.features.content_cache import read_rows, readable, writable, write_rows
from image_classification_trash.inference.images import Pixels, read_photo
from image_classification_trash.parallel.mapper import THREADS

Mask = npt.NDArray[np.uint8]
MASK_SIZE = (120, 160)
"""Height and width of masks, in pixels; a higher resolution would not help, as enlarged edges are softened."""
MASKS_VERSION = 2
PART = 128
"""Value of a mask that shows only a piece of the object; 255 marks a whole object."""
_AGREEMENT = 0.7
_LEAST, _MOST = 0.03, 0.85
_LEAST_PIECE = 0.08
_BORDER = 6
_FRAME = 4


@dataclass(frozen=True)
class Masks:
    """Masks of the photos of a split.

    Attributes:
        masks: uint8 (N, 120, 160): 255 on a whole object, or `PART` on a piece of it, 0 elsewhere; all 0 if nothing is found.
        trusted: bool (N,): whether the mask shows the whole object.
    """

    masks: npt.NDArray[np.uint8]
    trusted: npt.NDArray[np.bool_]

    def shape(self, row: int) -> Mask | None:
        """Return the mask of a photo's object, or of a piece of it, as uint8 (120, 160) of 0 and 255; None without either."""
        mask = self.masks[row]
        return np.asarray((mask > 0) * np.uint8(255)) if mask.any() else None


def cut_out(photo: Pixels) -> Mask:
    """Return the mask, as in `Masks`, of a photo uint8 (120, 160, 3)."""
    by_colour, by_grabcut = _differs_from_background(photo), _grabcut(photo)
    both, either = by_colour & by_grabcut, by_colour | by_grabcut
    if not both.any():
        return np.zeros(MASK_SIZE, np.uint8)
    mask = _largest(both)
    agreed = both.sum() / either.sum() >= _AGREEMENT
    touched_sides = sum(bool(side.mean() > 0.1) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    if agreed and _LEAST <= mask.mean() <= _MOST and touched_sides <= 2:
        return mask.astype(np.uint8) * np.uint8(255)
    return _piece(mask)


def _piece(mask: npt.NDArray[np.bool_]) -> Mask:
    """Return the convex hull of a mask as `PART`, so that print and dents count as a piece of the object they are on."""
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    hull = cv2.fillConvexPoly(np.zeros(MASK_SIZE, np.uint8), cv2.convexHull(points), PART)
    return np.asarray(hull if (hull > 0).mean() >= _LEAST_PIECE else np.zeros_like(hull))


def posterboard(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Estimate the background of a photo uint8 (H, W, 3) from its border; return it without the object, with camera noise."""
    height, width, _ = photo.shape
    small = cv2.resize(photo, MASK_SIZE[::-1], interpolation=cv2.INTER_AREA)
    smooth = _smooth_background(cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32))
    background = cv2.cvtColor(np.clip(smooth, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    large = cv2.resize(background, (width, height)) + rng.normal(0, rng.uniform(1, 4), photo.shape)
    return np.asarray(np.clip(large, 0, 255).astype(np.uint8), dtype=np.uint8)


def masks_of(photos: Sequence[Photo], root: Path, folder: Path) -> Masks:
    """Return the masks of N photos in their order; compute each once, then read it from `folder`/masks.

    Raises:
        CacheError: the stored masks cannot be read.
    """
    name = f"masks/v{MASKS_VERSION}-{MASK_SIZE[0]}x{MASK_SIZE[1]}.npz"
    known: dict[str, Mask] = {}
    for place in readable(folder):
        known |= read_rows(place / name, "masks", "masks")
    missing = [photo for photo in photos if photo.sha256 not in known]
    if missing:
        made = THREADS.map(
            lambda photo: cut_out(read_photo(root / photo.path, MASK_SIZE, "stretch")), missing
        )
        for photo, mask in zip(missing, tqdm(made, "cut out", len(missing), unit="photo"), strict=True):
            known[photo.sha256] = mask
        write_rows(writable(folder) / name, "masks", known, compressed=True)
    masks = np.stack([known[photo.sha256] for photo in photos])
    return Masks(masks, np.asarray((masks == 255).any(axis=(1, 2))))


def _differs_from_background(photo: Pixels) -> npt.NDArray[np.bool_]:
    """Select pixels that differ from the fitted background in CIE Lab, or have many edges; lightness weighs little, because of shadows."""
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).astype(np.float32)  # (H, W, 3)
    difference = np.abs(cv2.GaussianBlur(lab, (0, 0), 1.0) - _smooth_background(lab))
    edges = cv2.morphologyEx(lab[..., 0], cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    distance = np.linalg.norm(difference * np.array([0.4, 1.5, 1.5], np.float32), axis=2) + cv2.GaussianBlur(
        edges, (0, 0), 2
    )
    scaled = np.clip(distance * 3, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return _filled(scaled > max(18.0, 0.7 * threshold))


def _smooth_background(lab: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Fit a quadratic surface to the border's pixels (H, W, 3) twice, the second time without outliers."""
    height, width, _ = lab.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)  # (H, W, 6)
    border = np.ones((height, width), bool)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    inputs, colours = terms[border], lab[border]
    near = np.linalg.norm(colours - np.median(colours, axis=0), axis=1)
    chosen = near <= np.quantile(near, 0.7)
    for _ in range(2):
        surface = np.linalg.lstsq(inputs[chosen], colours[chosen], rcond=None)[0]
        off = np.linalg.norm(colours - inputs @ surface, axis=1)
        chosen = off <= max(6.0, float(np.quantile(off, 0.6)))
    return np.asarray(terms @ surface, dtype=np.float32)


def _grabcut(photo: Pixels) -> npt.NDArray[np.bool_]:
    mask = np.full(photo.shape[:2], cv2.GC_BGD, np.uint8)
    mask[_FRAME:-_FRAME, _FRAME:-_FRAME] = cv2.GC_PR_FGD
    try:
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(photo[..., ::-1].copy(), mask, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # GrabCut cannot fit two mixtures to a photo of one colour
        return np.zeros(photo.shape[:2], bool)
    return _filled((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))


def _filled(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Remove specks and fill enclosed holes, as lids and see-through sides belong to the object."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(opened), contours, -1, 1, cv2.FILLED), dtype=bool)


def _largest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Keep the largest connected component and those at least a fifth as large."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = [i + 1 for i in range(count - 1) if areas[i] >= 0.2 * areas.max()]
    return np.isin(pieces, kept)

"""Objects on other grounds: what stays, what changes, and that a seed decides it all."""

import cv2
import numpy as np
import pytest

from image_classification_trash.features.synthesis.backgrounds import (
    HELD_OUT,
    TRAINING,
    draw_background,
    draw_backgrounds,
)
from image_classification_trash.features.synthesis.compositing import (
    LARGEST,
    SMALLEST,
    CopyPaste,
    _dented,
    copy_paste,
)
from image_classification_trash.features.synthesis.cutouts import MASK_SIZE, PART, Masks

SIZE = (96, 128)


def disc_mask() -> np.ndarray:
    return cv2.circle(np.zeros(MASK_SIZE, np.uint8), (80, 60), 30, 255, cv2.FILLED)


PHOTOS = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)


def three_photos(share: float) -> CopyPaste:
    """Three photos: an object that can be cut out, a piece of one, and one of which nothing can be."""
    masks = np.stack([disc_mask(), disc_mask() // 255 * PART, np.zeros(MASK_SIZE, np.uint8)])
    trusted = np.array([True, False, False])
    return CopyPaste(Masks(masks, trusted), draw_backgrounds(TRAINING, 4, SIZE, 0), share, PHOTOS)


@pytest.mark.parametrize("rule", [*TRAINING, *HELD_OUT], ids=lambda rule: rule.__name__.strip("_"))
def test_every_ground_is_a_picture_that_its_seed_decides(rule: object) -> None:
    first, again, other = (draw_background([rule], number, SIZE, 5) for number in (0, 0, 1))  # type: ignore[list-item]
    assert first.shape == (*SIZE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_families_share_no_rule() -> None:
    assert not set(TRAINING) & set(HELD_OUT)


@pytest.mark.parametrize("seed", range(8))
def test_the_object_lies_on_the_new_ground(seed: int) -> None:
    """A red object on blue: some of the picture is reddish, most of it the ground, nothing white from the old one."""
    photo = np.full((*SIZE, 3), 255, np.uint8)
    photo[cv2.resize(disc_mask(), SIZE[::-1]) > 127] = (220, 20, 20)
    background = np.full((*SIZE, 3), (10, 10, 160), np.uint8)
    picture = copy_paste(photo, disc_mask(), background, background, np.random.default_rng(seed)).astype(int)
    red = picture[..., 0] > picture[..., 2]
    assert 0.01 < red.mean() < 0.7
    assert (picture.min(axis=2) > 200).mean() < 0.002
    assert np.array_equal(picture[0, 0][:2] <= 20, [True, True])


@pytest.mark.parametrize("row", range(3))
def test_an_object_a_piece_and_a_patch_are_pasted(row: int) -> None:
    """White noise as the photo: where it lies the picture is rough, and beside it the smooth ground is."""
    smooth = np.full((1, *SIZE, 3), 128, np.uint8)
    one = CopyPaste(three_photos(1.0).masks, smooth, 1.0, PHOTOS)
    picture = one(PHOTOS[row : row + 1], np.array([row]), np.random.default_rng(1))[0]
    rough = np.abs(np.diff(picture.astype(int), axis=1)).max(axis=2) > 12
    assert 0.02 < rough.mean() < 0.9


def test_a_share_of_zero_pastes_nothing_and_a_seed_decides_the_rest() -> None:
    rows = np.array([0, 0, 0])
    assert np.array_equal(three_photos(0.0)(PHOTOS, rows, np.random.default_rng(0)), PHOTOS)
    once, again = (three_photos(0.5)(PHOTOS, rows, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(once, again)


def disc_photo() -> np.ndarray:
    """A red disc on white."""
    photo = np.full((*SIZE, 3), 255, np.uint8)
    photo[cv2.resize(disc_mask(), SIZE[::-1]) > 127] = (220, 20, 20)
    return photo


def test_small_objects_are_as_frequent_as_large_ones() -> None:
    """Half of the objects are shorter than the geometric mean of the smallest and the largest."""
    background = np.full((*SIZE, 3), (10, 10, 160), np.uint8)
    longest = []
    for seed in range(200):
        picture = copy_paste(
            disc_photo(), disc_mask(), background, background, np.random.default_rng(seed)
        ).astype(int)
        rows, columns = np.nonzero(picture[..., 0] > picture[..., 2])
        longest.append(max(np.ptp(rows), np.ptp(columns)) / SIZE[0] if len(rows) else 0.0)
    assert 0.35 < float(np.mean(np.array(longest) < np.sqrt(SMALLEST * LARGEST))) < 0.65
    assert np.quantile(longest, 0.9) > 0.8


@pytest.mark.parametrize("seed", range(20))
def test_a_dented_object_keeps_its_colours_its_outline_and_about_its_size(seed: int) -> None:
    mask = cv2.resize(disc_mask(), SIZE[::-1])
    photo, bent = _dented(disc_photo(), mask, np.random.default_rng(seed))
    inside = bent > 250
    assert not np.array_equal(bent, mask)
    assert 0.5 < inside.sum() / (mask > 250).sum() < 1.7
    assert (photo[inside][:, 1] < 128).mean() > 0.97  # red under the mask, as before
    assert cv2.connectedComponents((bent > 127).astype(np.uint8))[0] == 2  # in one piece


def test_some_grounds_meet_another_at_an_edge() -> None:
    plain = np.stack([np.full((*SIZE, 3), value, np.uint8) for value in (40, 200)])
    two = CopyPaste(three_photos(1.0).masks, plain, 1.0, PHOTOS)
    spreads = [np.ptp(two.background(np.random.default_rng(seed))[..., 1].astype(int)) for seed in range(60)]
    assert 0.03 < float(np.mean(np.array(spreads) > 30)) < 0.35

"""What cameras do to photos, at fixed and at random strengths."""

import numpy as np
import pytest

from image_classification_trash.features.synthesis.corruptions import (
    FIXED,
    brightened,
    corrupt,
    moved,
    noisy,
    turned,
)

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_corruption_changes_the_photo_the_same_way_each_time(name: str) -> None:
    once, again = FIXED[name](PHOTO), FIXED[name](PHOTO)
    assert once.shape == PHOTO.shape and once.dtype == np.uint8
    assert np.array_equal(once, again) and not np.array_equal(once, PHOTO)


def test_strengths_are_what_they_say() -> None:
    grey = np.full((64, 64, 3), 120, np.uint8)
    assert brightened(grey, 1.4).max() == 168 and brightened(grey, 4).max() == 255
    assert noisy(grey, 15, np.random.default_rng(0)).std() == pytest.approx(15, abs=1)
    assert np.array_equal(moved(grey, 7, 0.3), grey)
    assert turned(PHOTO, 4).shape == PHOTO.shape and np.array_equal(turned(PHOTO, 4), PHOTO)


def test_a_share_of_the_photos_is_changed_and_the_originals_are_left_alone() -> None:
    photos = np.stack([PHOTO] * 200)
    changed = corrupt(photos, 0.3, np.random.default_rng(0))
    share = np.mean([not np.array_equal(photo, PHOTO) for photo in changed])
    assert 0.2 < share < 0.4 and np.array_equal(photos[0], PHOTO)
    assert np.array_equal(corrupt(photos, 0.0, np.random.default_rng(0)), photos)

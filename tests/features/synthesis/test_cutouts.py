"""Objects are found where two methods agree, and nowhere else."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from image_classification_trash.data.manifest import Photo
from image_classification_trash.errors import CacheError
from image_classification_trash.features.synthesis import cutouts
from image_classification_trash.features.synthesis.cutouts import (
    MASK_SIZE,
    PART,
    cut_out,
    masks_of,
    posterboard,
)


def on_board(colour: tuple[int, int, int] = (30, 90, 40)) -> tuple[np.ndarray, np.ndarray]:
    """A disc on lit posterboard, and where it is."""
    rng = np.random.default_rng(0)
    board = np.linspace(190, 230, MASK_SIZE[1])[None, :, None] + rng.normal(0, 2, (*MASK_SIZE, 3))
    disc = np.zeros(MASK_SIZE, np.uint8)
    cv2.circle(disc, (80, 60), 30, 1, cv2.FILLED)
    inside = rng.normal(colour, 12, (*MASK_SIZE, 3))
    return np.clip(np.where(disc[..., None], inside, board), 0, 255).astype(np.uint8), disc.astype(bool)


def photo_file(folder: Path, pixels: np.ndarray, name: str) -> Photo:
    cv2.imwrite(str(folder / f"{name}.png"), pixels[..., ::-1])
    return Photo(f"{name}.png", "metal", "train", name, name * 8, *pixels.shape[1::-1])


def test_an_object_on_posterboard_is_cut_out() -> None:
    photo, disc = on_board()
    mask = cut_out(photo)
    assert set(np.unique(mask)) == {0, 255}
    found = mask > 0
    assert (found & disc).sum() / (found | disc).sum() > 0.9


def test_where_nothing_lies_there_is_no_mask() -> None:
    assert not cut_out(np.full((*MASK_SIZE, 3), 200, np.uint8)).any()


def test_noise_has_no_object() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (*MASK_SIZE, 3), dtype=np.uint8)
    assert not (cut_out(photo) == 255).any()


def test_where_the_methods_disagree_a_piece_of_the_object_is_cut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, disc = on_board()
    monkeypatch.setattr(cutouts, "_grabcut", lambda photo: disc & (np.arange(MASK_SIZE[1]) < 90))
    mask = cut_out(photo)
    assert set(np.unique(mask)) == {0, PART}
    assert disc[mask > 0].mean() > 0.95 and not mask[:, 95:].any()


def test_masks_are_cut_once_and_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [
        photo_file(tmp_path, on_board()[0], "a"),
        photo_file(tmp_path, np.full((*MASK_SIZE, 3), 9, np.uint8), "b"),
    ]
    first = masks_of(photos, tmp_path, tmp_path / "interim")
    assert first.trusted.tolist() == [True, False] and first.masks.shape == (2, *MASK_SIZE)
    found = first.shape(0)
    assert found is not None and found.max() == 255 and first.shape(1) is None
    monkeypatch.setattr(cutouts, "cut_out", lambda photo: pytest.fail("cut out twice"))
    again = masks_of(photos[::-1], tmp_path, tmp_path / "interim")
    assert np.array_equal(again.masks[::-1], first.masks)


def test_damaged_masks_are_refused_by_name(tmp_path: Path) -> None:
    photos = [photo_file(tmp_path, on_board()[0], "a")]
    masks_of(photos, tmp_path, tmp_path / "interim")
    (file,) = (tmp_path / "interim" / "masks").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CacheError, match=file.name):
        masks_of(photos, tmp_path, tmp_path / "interim")


def test_posterboard_is_the_ground_without_the_object() -> None:
    photo, disc = on_board()
    board = posterboard(photo, np.random.default_rng(0))
    assert board.dtype == np.uint8 and board.shape == photo.shape
    assert (
        np.abs(board[disc].mean() - photo[~disc].mean())
        < 15
        < np.abs(photo[disc].mean() - photo[~disc].mean())
    )

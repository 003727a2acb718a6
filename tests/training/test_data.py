"""What a training reads: lazily, each cache once, and photos as memory maps."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import MakeTree
from PIL import Image

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest, Photo
from image_classification_trash.features import build_features
from image_classification_trash.features.synthesis import shifted_photos
from image_classification_trash.files import sha256_of_file
from image_classification_trash.training import data as training_data
from image_classification_trash.training.data import TrainingData

Make = Callable[..., TrainingData]


@pytest.fixture
def make_data(make_tree: MakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Twelve photos of two classes, an object on a plain background each, every third of them in the val split."""
    for module in (training_data, shifted_photos):
        monkeypatch.setattr(module, "BACKGROUNDS", 4)  # drawing hundreds takes seconds
    root = make_tree({"glass": 6, "metal": 6})
    photos = []
    for number, file in enumerate(sorted(root.rglob("*.jpg"))):
        rng = np.random.default_rng(number)
        board = np.linspace(190, 230, 160)[None, :, None] + rng.normal(0, 2, (120, 160, 3))
        board[30:90, 50:110] = rng.normal((30, 90, 40), 12, (60, 60, 3))
        Image.fromarray(np.clip(board, 0, 255).astype(np.uint8)).save(file, quality=95)
        split = "val" if number % 3 == 0 else "train"
        name = file.relative_to(root).as_posix()
        photos.append(Photo(name, file.parent.name, split, str(number), sha256_of_file(file), 64, 48))
    manifest = Manifest("mine", root, tuple(photos), ("glass", "metal"), {})

    def make(**settings: object) -> TrainingData:
        size = {"input_height": 32, "input_width": 48, "data_dir": tmp_path}
        return TrainingData(manifest, TrainSettings.model_validate({**size, **settings}))

    return make


def test_every_cache_is_opened_once(make_data: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()

    def counting(what: str, function: Callable[..., object]) -> Callable[..., object]:
        def count(*args: object) -> object:
            opened[what] += 1
            return function(*args)

        return count

    for module, name in ((build_features, "pixel_cache"), (training_data, "masks_of")):
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    data = make_data(copy_paste=0.5)
    assert not opened
    for _ in range(2):
        assert len(data.train.y_true) == len(data.train_pixels) == len(data.train_masks.masks) == 8
        assert len(data.val.pixels) == 4 and len(data.selection.y_true) == len(data.shifted.y_true)
    assert opened == {"pixel_cache": 3, "masks_of": 2}  # train at two sizes, val; train, val


def test_photos_stay_on_disk(make_data: Make) -> None:
    data = make_data()
    for pixels in (data.train.pixels, data.train_pixels, data.val.pixels, data.selection.pixels):
        assert isinstance(pixels, np.memmap)
    assert data.train.pixels.shape[1:] == (32, 64, 3) and data.train.alter is data.train.backgrounds is None


def test_class_numbers_are_those_of_the_photos(make_data: Make) -> None:
    data = make_data()
    assert data.y_train.tolist() == data.train.y_true.tolist() == [0] * 4 + [1] * 4
    assert data.y_val.tolist() == data.val.y_true.tolist() == [0, 0, 1, 1]


def test_pasted_validation_photos_lie_behind_the_others_in_one_array(make_data: Make) -> None:
    plain, pasting = make_data(), make_data(copy_paste=0.5)
    assert plain.selection is plain.val and pasting.selection.pixels is pasting.shifted.clean_and_copy_pasted
    shifted = pasting.shifted
    assert (shifted.clean == plain.val.pixels).all() and shifted.count == 4
    assert np.shares_memory(shifted.copy_pasted, shifted.clean_and_copy_pasted)
    assert len(shifted.copy_pasted) == len(shifted.y_true) - 4 == 12
    assert shifted.y_true.tolist() == plain.y_val.tolist() * 4


@pytest.mark.parametrize(
    ("asked", "alters", "pastes"),
    [("copy_paste", True, True), ("corruption", True, False), ("outliers", True, False)],
)
def test_a_training_photo_is_altered_as_asked(
    make_data: Make, asked: str, alters: bool, pastes: bool
) -> None:
    part = make_data(**{asked: 1.0}).train
    assert (part.alter is not None) == alters and part.backgrounds is not None
    assert isinstance(part.alter, training_data.FieldAlteration)
    assert (part.alter.copy_paste is not None) == pastes
    assert part.backgrounds.shape[1:] == part.pixels.shape[1:]
    rows = np.arange(3)
    photos = np.array(part.pixels[:3])
    altered = part.alter(photos, rows, np.random.default_rng(0))
    assert altered.shape == photos.shape
    assert (altered == photos).all() == (asked == "outliers")

"""Photos of an owner: every file is a photo of a class or named as left out, and what cannot be learned from is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import encoded
from PIL import Image

from image_classification_trash.arrays import Embeddings
from image_classification_trash.errors import BundleError, DatasetError
from image_classification_trash.features import owner_photos as module
from image_classification_trash.features.owner_photos import class_photos, read_photos
from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.images import Pixels

CLASSES = ("glass", "metal", "paper")


class Averages:
    """A model whose embedding of a photo is its average colour."""

    path = Path("models/averages")
    config = BundleConfig(
        name="averages", architecture="none", labels=CLASSES, input_height=8, input_width=12, resize_mode="stretch",
        temperature=1.0, threshold=0.0, git_commit="abc", versions={}, created="then", data={}, training={},
    )  # fmt: skip

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.batches = factor, list[int]()

    def embed(self, photos: Pixels) -> Embeddings:
        """Return float32 (B, 3) for uint8 (B, H, W, 3)."""
        self.batches.append(len(photos))
        return np.asarray(photos.mean((1, 2)) * self.factor, np.float32)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Twenty plain photos: ten greys called glass, ten reds called metal."""
    for label, step in (("glass", (9, 9, 9)), ("metal", (20, 1, 1))):
        (tmp_path / label).mkdir()
        for number in range(1, 11):
            colour = (step[0] * number, step[1] * number, step[2] * number)
            (tmp_path / label / f"{number}.png").write_bytes(
                encoded(Image.new("RGB", (12, 8), colour), "PNG")
            )
    return tmp_path


def test_photos_are_embedded_in_batches_in_the_order_of_their_names(own: Path) -> None:
    files, unused = class_photos(own, CLASSES)
    model = Averages()
    photos = read_photos(model, files, unused)
    assert model.batches == [16, 4] and photos.embedded.shape == (20, 3)
    assert photos.y_true.tolist() == [0] * 10 + [1] * 10 and photos.waste.all()
    assert photos.embedded[0].tolist() == [9, 9, 9] and photos.embedded[-1].tolist() == [180, 9, 9]
    assert photos.pixels.shape == (16, 8, 12, 3) and not photos.unused and not photos.unreadable


def test_every_file_is_a_photo_or_named(own: Path) -> None:
    (own / "glass/notes.txt").write_text("taken on Monday")
    (own / "glass/broken.jpg").write_bytes(b"no photo")
    (own / "loose.jpg").write_bytes(b"")
    (own / "_unsorted").mkdir()
    shutil.copy(own / "metal/1.png", own / "metal/again.png")
    files, unused = class_photos(own, CLASSES)
    assert unused == (
        "_unsorted is no class's folder",
        "glass/notes.txt is no photo",
        "loose.jpg is no class's folder",
    )
    photos = read_photos(Averages(), files, unused)
    assert photos.unused[:3] == unused and photos.unused[3].endswith("again.png is a copy of 1.png")
    assert len(photos.unreadable) == 1 and "broken.jpg" in photos.unreadable[0]
    assert len(photos.embedded) == 20


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda own: (own / "bottles").mkdir(), r"does not know: bottles.*It knows: glass, metal"),
        (shutil.rmtree, "There is no folder"),
        (lambda own: [shutil.rmtree(own / label) for label in ("glass", "metal")], "photos of 0 classes"),
        (lambda own: shutil.rmtree(own / "glass"), "photos of 1 classes"),
        (lambda own: setattr(module, "MOST_PHOTOS", 19), "20 photos, and adapt takes 19"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_learned_from_are_refused(
    own: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], text: str
) -> None:
    monkeypatch.setattr(module, "MOST_PHOTOS", module.MOST_PHOTOS)  # restored
    change(own)
    with pytest.raises(DatasetError, match=text):
        class_photos(own, CLASSES)


def test_a_photo_under_two_labels_and_numbers_that_are_not_finite_are_refused(own: Path) -> None:
    with pytest.raises(BundleError, match=r"models/averages returns numbers that are not finite"):
        read_photos(Averages(np.inf), *class_photos(own, CLASSES))
    shutil.copy(own / "glass/1.png", own / "metal/x.png")
    with pytest.raises(DatasetError, match=r"same photo as .*another class"):
        read_photos(Averages(), *class_photos(own, CLASSES))

"""The model that comes with the package: whole, small, described, and used where no other was trained."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_classification_trash import TrashClassifier
from image_classification_trash.errors import BundleError
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference import shipped
from image_classification_trash.inference.model_store import chosen_model

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.mark.parametrize(("name", "largest"), [(shipped.SHIPPED, 8_000_000), (shipped.LARGE, 12_000_000)])
def test_every_file_is_there_and_matches_its_checksum(name: str, largest: int) -> None:
    folder = shipped.FOLDERS[name]
    listed = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {"model.tflite", "labels.txt", "README.md", "metrics.json", "NOTICE.txt"}
    assert set(listed) == (files | {"ATTRIBUTION.csv"} if name == shipped.SHIPPED else files)
    assert all(sha256_of_file(folder / file) == digest for file, digest in listed.items())
    assert (folder / "model.tflite").stat().st_size <= largest
    if name == shipped.LARGE:  # its photos are those of the small one, beside which the table lies
        assert "ATTRIBUTION.csv" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "architecture"),
    [(shipped.SHIPPED, "efficientnet_lite0"), (shipped.LARGE, "efficientnet_lite2")],
)
def test_it_answers_without_any_folder_of_models(name: str, architecture: str, tmp_path: Path) -> None:
    assert chosen_model(name, tmp_path) == shipped.FOLDERS[name] / "model.tflite"
    classifier = TrashClassifier.load(name)
    assert classifier.config.classes == CLASSES and classifier.config.negative_label == "not waste"
    assert classifier.config.architecture == architecture
    photos = sorted((SAMPLE / "test").glob("*/*.jpg"))
    answers = classifier.predict(photos)
    right = np.mean(
        [answer.label == photo.parent.name for answer, photo in zip(answers, photos, strict=True)]
    )
    assert right > 0.8  # 48 photos of TrashNet's test split
    assert all(sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-3) for answer in answers)


def test_where_none_is_named_the_small_one_answers(tmp_path: Path) -> None:
    assert chosen_model(None, tmp_path) == shipped.shipped_model()


def test_pictures_of_nothing_are_not_called_waste() -> None:
    rng = np.random.default_rng(0)
    grey = [Image.fromarray(np.full((300, 400, 3), level, np.uint8)) for level in (60, 130, 200)]
    noise = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    decisions = [answer.decision for answer in TrashClassifier.load().predict([*grey, noise])]
    assert set(decisions) <= {"not waste", "unsure"}


def test_a_model_that_was_trained_comes_first(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert chosen_model(None, tmp_path) == tmp_path / "mine"


@pytest.mark.parametrize("name", shipped.FOLDERS)
@pytest.mark.parametrize("damage", ["missing", "cut short", "changed"])
def test_a_damaged_installation_is_said_so(
    damage: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shipped.FOLDERS[name], copy)
    monkeypatch.setitem(shipped.FOLDERS, name, copy)
    if damage == "missing":
        (copy / "model.tflite").unlink()
    elif damage == "cut short":
        (copy / "model.tflite").write_bytes((copy / "model.tflite").read_bytes()[:1000])
    else:
        content = (copy / "model.tflite").read_bytes()
        (copy / "model.tflite").write_bytes(content[:-1] + b"!")  # which the digest inside does not cover
    with pytest.raises(BundleError, match="model") as caught:
        TrashClassifier.load(name)
    assert "Install the package again" in caught.value.hint

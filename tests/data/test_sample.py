"""The sample photos that come along: balanced, small, in the official split, and with their licence."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.make_dataset import locate_source
from image_classification_trash.data.trashnet import LABELS, official_split

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "sample"
CONTRADICTORY = {"glass115", "metal91", "glass176", "plastic152", "glass389", "plastic332"}


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    return sorted(SAMPLE.glob("*/*/*.jpg"))


def test_fifty_photos_of_each_class_in_the_parts_proportions(photos: list[Path]) -> None:
    counts = Counter((photo.parts[-3], photo.parts[-2]) for photo in photos)
    per_part = {"train": 35, "val": 7, "test": 8}
    assert counts == {(part, label): n for part, n in per_part.items() for label in LABELS}


def test_every_photo_is_in_its_official_part(photos: list[Path]) -> None:
    part_of = official_split()
    assert {photo.name: photo.parts[-3] for photo in photos} == {p.name: part_of[p.name] for p in photos}
    assert all(photo.stem.rstrip("0123456789") == photo.parts[-2] for photo in photos)
    assert not CONTRADICTORY & {photo.stem for photo in photos}


def test_photos_are_small_jpegs_without_metadata(photos: list[Path]) -> None:
    for photo in photos:
        with Image.open(photo) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (384, 288))
            assert not {"exif", "icc_profile", "comment", "xmp"} & set(image.info)


def test_all_of_it_is_at_most_four_megabytes_with_licence() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) <= 4_000_000
    notice = (SAMPLE / "LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in notice and "Gary Thung" in notice


def test_what_comes_with_the_photos_is_no_problem_but_anything_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SAMPLE, tmp_path / "data" / "sample")
    monkeypatch.chdir(tmp_path)
    assert locate_source(DataSettings(name="sample")).left_out == ()
    assert locate_source(DataSettings(name="mine", source=[Path("data/sample")])).left_out == ()
    for name in ("notes.txt", "train/README.md"):
        (tmp_path / "data" / "sample" / name).write_text("of the user")
    named = locate_source(DataSettings(name="sample")).left_out
    assert [row.path for row in named] == ["notes.txt", "train/README.md"]
    shutil.copytree(tmp_path / "data" / "sample", tmp_path / "other")
    named = locate_source(DataSettings(name="mine", source=[Path("other")])).left_out
    assert [row.path for row in named] == ["LICENSE", "README.md", "notes.txt", "train/README.md"]

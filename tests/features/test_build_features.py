"""Caches are filled once, keyed by content, and refused when damaged."""

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.photos import encoded, picture

from image_classification_trash.config.data import FeatureSettings
from image_classification_trash.data.manifest import Photo
from image_classification_trash.errors import CacheError, DatasetError, PhotoError
from image_classification_trash.features import build_features, content_cache
from image_classification_trash.features.build_features import PixelSettings, embeddings, pixel_cache
from image_classification_trash.files import sha256_of
from image_classification_trash.inference.images import Pixels, read_photo
from image_classification_trash.parallel.mapper import A, B

SETTINGS = PixelSettings((24, 32), "stretch")


class CountingBackbone:
    """Embeds a photo as its mean colour, and counts the photos it was shown."""

    key = "counting"
    seen = 0

    def embed(self, photos: Pixels) -> np.ndarray:
        self.seen += len(photos)
        return photos.mean((1, 2)).astype(np.float32)


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    made = []
    for number in range(40):
        data = encoded(picture(number), "PNG")
        (tmp_path / f"{number}.png").write_bytes(data)
        made.append(Photo(f"{number}.png", "a", "train", "", sha256_of(data), 64, 48))
    return made


def test_pixels_are_those_of_the_contract(photos: list[Photo], tmp_path: Path) -> None:
    pixels = pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train")
    assert pixels.shape == (40, 24, 32, 3) and isinstance(pixels, np.memmap)
    assert (pixels[7] == read_photo(tmp_path / "7.png", (24, 32))).all()
    for file in tmp_path.glob("*.png"):
        file.unlink()
    assert (pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train") == pixels).all()


def test_a_pixel_cache_is_the_file_that_numpy_writes(photos: list[Photo], tmp_path: Path) -> None:
    pixels = pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train")
    np.save(tmp_path / "saved.npy", np.asarray(pixels))
    (file,) = (tmp_path / "cache/pixels").glob("*.npy")
    assert file.read_bytes() == (tmp_path / "saved.npy").read_bytes()


@pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="the memory of each mapped file is Linux's to tell"
)
def test_a_pixel_cache_takes_no_memory_before_its_photos_are_used(
    photos: list[Photo], tmp_path: Path
) -> None:
    """Neither while it is written nor while it is verified: mapped pages count as memory of the process."""
    held: list[int] = []

    class Watching:
        def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
            for item in items:
                yield work(item)
                held.append(mapped_kilobytes(tmp_path / "cache"))

    settings = PixelSettings((480, 640), "stretch")
    pixels = pixel_cache(photos, tmp_path, settings, tmp_path / "cache", "train", Watching())
    held.append(mapped_kilobytes(tmp_path / "cache"))
    again = pixel_cache(photos, tmp_path, settings, tmp_path / "cache", "train")
    held.append(mapped_kilobytes(tmp_path / "cache"))
    assert len(held) == 42 and max(held) < 1000
    assert pixels.nbytes > 36e6 and again[-1].any()
    assert mapped_kilobytes(tmp_path / "cache") >= 480 * 640 * 3 // 1024, "the photo that was used"


def mapped_kilobytes(folder: Path) -> int:
    """Memory that this process holds of the files of a folder that it maps, in KiB."""
    found, is_below = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_below = f" {folder}/" in line
        elif is_below and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of caches that cannot be written, by root neither; it has the pixels of no photo."""
    folder, make = tmp_path / "read-only", tempfile.TemporaryFile

    def refuse(dir: Path) -> Any:
        if dir == folder:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))
        return make(dir=dir)

    monkeypatch.setattr(content_cache.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(content_cache, "_STANDS_IN", {})
    folder.mkdir()
    return folder


def test_without_a_place_for_caches_all_is_computed_and_said_once(
    photos: list[Photo], tmp_path: Path, read_only: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = CountingBackbone()
    for _ in range(2):
        pixels = pixel_cache(photos, tmp_path, SETTINGS, read_only, "train")
        vectors = embeddings(photos, tmp_path, backbone, SETTINGS, read_only)
    assert pixels.shape == (40, 24, 32, 3) and vectors.shape == (40, 3)
    assert backbone.seen == 40  # the second time is read from the folder that stands in
    assert list(read_only.iterdir()) == []
    assert len(caplog.messages) == 1 and "read-only cannot be written (Read-only file system)" in caplog.text
    assert Path(content_cache.writable(read_only)).is_dir()


def test_caches_in_a_folder_that_cannot_be_written_are_read(
    photos: list[Photo], tmp_path: Path, read_only: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("pixels", "embeddings"):
        (read_only / folder).mkdir()
    backbone = CountingBackbone()
    made = pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train")
    embeddings(photos, tmp_path, backbone, SETTINGS, tmp_path / "cache")
    for file in (tmp_path / "cache").glob("*/*"):
        shutil.copy(file, read_only / file.parent.name)
    assert (pixel_cache(photos, tmp_path, SETTINGS, read_only, "train") == made).all()
    embeddings(photos, tmp_path, backbone, SETTINGS, read_only)
    assert backbone.seen == 40 and caplog.messages == []


def test_features_alone_needs_a_place_for_caches(read_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FeatureSettings(name="mine", data_dir=read_only)
    monkeypatch.setattr(content_cache, "_STANDS_IN", {settings.interim_dir: tempfile.TemporaryDirectory()})
    with pytest.raises(CacheError, match="cannot be written") as caught:
        build_features.build_features(settings)
    assert "--data-dir" in caught.value.hint


def test_a_disk_that_is_full_is_no_read_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(dir: Path) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(dir))

    monkeypatch.setattr(content_cache.tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match="No space left"):
        content_cache.writable(tmp_path)


def test_other_settings_or_photos_make_another_cache(photos: list[Photo], tmp_path: Path) -> None:
    for settings in (SETTINGS, PixelSettings((24, 32), "crop"), PixelSettings((32, 32), "stretch")):
        pixel_cache(photos, tmp_path, settings, tmp_path / "cache", "train")
    pixel_cache(photos[::-1], tmp_path, SETTINGS, tmp_path / "cache", "train")
    assert len(list((tmp_path / "cache/pixels").glob("*.npy"))) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(
    photos: list[Photo], tmp_path: Path, small_disk: Path
) -> None:
    with pytest.raises(OSError, match="No space left"):
        pixel_cache(photos, tmp_path, PixelSettings((224, 288), "stretch"), small_disk, "train")
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_damaged_pixels_are_refused(photos: list[Photo], tmp_path: Path, damage) -> None:
    pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train")
    file = next((tmp_path / "cache/pixels").glob("*.npy"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CacheError) as caught:
        pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train")
    assert file.name in caught.value.found and "Delete" in caught.value.hint


def test_only_new_photos_are_embedded(photos: list[Photo], tmp_path: Path) -> None:
    backbone = CountingBackbone()
    first = embeddings(photos[:30], tmp_path, backbone, SETTINGS, tmp_path / "cache")
    again = embeddings(photos, tmp_path, backbone, SETTINGS, tmp_path / "cache")
    assert backbone.seen == 40 and (again[:30] == first).all() and again.shape == (40, 3)


def test_damaged_embeddings_are_refused(photos: list[Photo], tmp_path: Path) -> None:
    embeddings(photos, tmp_path, CountingBackbone(), SETTINGS, tmp_path / "cache")
    file = next((tmp_path / "cache/embeddings").glob("*.npz"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CacheError, match=file.name):
        embeddings(photos, tmp_path, CountingBackbone(), SETTINGS, tmp_path / "cache")


def test_embeddings_of_an_ended_run_are_kept(
    photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_features, "STORED_AT_ONCE", 8)
    backbone = CountingBackbone()
    (tmp_path / "20.png").rename(tmp_path / "away.png")
    with pytest.raises(PhotoError):
        embeddings(photos, tmp_path, backbone, SETTINGS, tmp_path / "cache")
    (tmp_path / "away.png").rename(tmp_path / "20.png")
    before, backbone.seen = backbone.seen, 0
    found = embeddings(photos, tmp_path, backbone, SETTINGS, tmp_path / "cache")
    assert before >= 16 and backbone.seen == 40 - 16
    np.testing.assert_array_equal(
        found[::-1], embeddings(photos[::-1], tmp_path, backbone, SETTINGS, tmp_path / "cache")
    )


def test_a_large_pixel_cache_is_verified_again_only_if_its_file_changed(
    photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_features, "VERIFIED_ALWAYS", 100)
    checked = []
    whole = build_features._crc32
    monkeypatch.setattr(build_features, "_crc32", lambda *given: checked.append(1) or whole(*given))
    for _ in range(3):
        pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train")
    assert len(checked) == 1
    file = next((tmp_path / "cache/pixels").glob("*.npy"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CacheError, match="was changed"):
        pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train")


def test_a_photo_that_was_changed_since_it_was_listed_is_refused(photos: list[Photo], tmp_path: Path) -> None:
    backbone = CountingBackbone()
    embeddings(photos[:20], tmp_path, backbone, SETTINGS, tmp_path / "cache")
    (tmp_path / "30.png").write_bytes((tmp_path / "31.png").read_bytes())
    found = r"30\.png was changed after its data set was prepared"
    with pytest.raises(DatasetError, match=found):
        pixel_cache(photos, tmp_path, SETTINGS, tmp_path / "cache", "train")
    with pytest.raises(DatasetError, match=found):
        embeddings(photos, tmp_path, backbone, SETTINGS, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "pixels").glob("*.npy"))

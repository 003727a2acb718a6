"""Fixtures that many tests share: small photos made from seeded noise, and what the sample becomes."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
MakeTree = Callable[..., Path]


def picture(seed: int, size: tuple[int, int] = (48, 64)) -> Image.Image:
    """A photo-like picture (height, width): soft coloured blobs, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Make a folder of class folders; every photo differs."""

    def make(classes: Mapping[str, int], name: str = "photos", size: tuple[int, int] = (48, 64)) -> Path:
        root = tmp_path / name
        seed = 0
        for label, count in classes.items():
            (root / label).mkdir(parents=True)
            for number in range(count):
                (root / label / f"{number}.jpg").write_bytes(encoded(picture(seed, size)))
                seed += 1
        return root

    return make


@pytest.fixture
def make_photo() -> Callable[..., Image.Image]:
    return picture


@pytest.fixture
def trashnet_zip() -> Path:
    """The shared TrashNet zip; the test is skipped where the folder beside the repository is missing."""
    archive = SHARED / "trashnet" / "dataset-resized.zip"
    if not archive.is_file():
        pytest.skip(f"{archive} is not on this machine")
    return archive


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `models/sample`: a head on small photos of the sample, quickly made, with all its exports."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "data").mkdir()
    (folder / "data" / "sample").symlink_to(ROOT / "data" / "sample")
    small = ["--input-height", "96", "--input-width", "128"]
    for line in (
        ["data", "sample"],
        ["train", "sample", "--epochs", "0", "--detector", *small],
        ["export", "--quantize", "fp16"],
    ):
        whole = [sys.executable, "-m", "image_classification_trash.cli", *line]
        done = subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TRASH_* variable of the developer's shell must not change what a test sees."""
    for name in list(os.environ):
        if name.upper().startswith("TRASH_"):
            monkeypatch.delenv(name)

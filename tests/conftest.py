"""Fixtures that many tests share: folders of small photos, and what the sample becomes."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from helpers.photos import ROOT, SHARED, MakeTree, encoded, picture
from PIL import Image


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
        whole = [sys.executable, "-m", "image_classification_trash", *line]
        done = subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TRASH_* variable of the developer's shell must not change what a test sees."""
    for name in list(os.environ):
        if name.upper().startswith("TRASH_"):
            monkeypatch.delenv(name)

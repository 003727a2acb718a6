"""Fixtures that many tests share: folders of small photos, and what the sample becomes."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock
from helpers.commands import command
from helpers.photos import ROOT, SHARED, MakeOnce, MakeTree, encoded, picture
from PIL import Image

from image_classification_trash import show

hypothesis.settings.register_profile(  # how long an example takes says how busy the machine is, and nothing else
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def usual_volume() -> Iterator[None]:
    """Undo what a command's -q or -v set."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
    show._quiet.set(False)
    os.environ.pop("TQDM_DISABLE", None)


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
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Makes a folder once for all worker processes of pytest-xdist; those that come later wait for it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder = shared / name
        with FileLock(shared / f"{name}.lock"):
            if not (whole := shared / f"{name}.whole").exists():
                shutil.rmtree(folder, ignore_errors=True)  # what another worker began and could not end
                folder.mkdir()
                fill(folder)  # in its place: the class folders of a data set are links into it
                whole.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def prepared(make_once: MakeOnce) -> Path:
    """A folder with the sample and what `data sample` makes of it. Copy it to train in it, to any depth."""

    def fill(folder: Path) -> None:
        shutil.copytree(ROOT / "data/sample", folder / "data/sample")
        command(folder, "data", "sample")

    return make_once("prepared", fill)


@pytest.fixture(scope="session")
def exported(make_once: MakeOnce, prepared: Path) -> Path:
    """A folder with `models/sample`: a head on small photos of the sample, quickly made, with its exports."""

    def fill(folder: Path) -> None:
        shutil.copytree(prepared, folder, symlinks=True, dirs_exist_ok=True)
        small = ["--input-height", "96", "--input-width", "128"]
        command(folder, "train", "sample", "--epochs", "0", "--rejection-head", *small)
        command(folder, "export", "--quantize", "fp16", "int8")

    return make_once("exported", fill)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TRASH_* variable of the developer's shell must not change what a test sees."""
    for name in list(os.environ):
        if name.upper().startswith("TRASH_"):
            monkeypatch.delenv(name)

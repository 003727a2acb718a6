"""A network trained on the sample and exported, once for all tests that ask real servers about real photos."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `models/sample`: a head on small photos, quickly made, with all its exports."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "data").mkdir()
    (folder / "data" / "sample").symlink_to(ROOT / "data" / "sample")
    small = ["--input-height", "96", "--input-width", "128"]
    for line in (
        ["data", "sample"],
        ["train", "sample", "--epochs", "0", *small],
        ["export", "--quantize", "fp16"],
    ):
        whole = [sys.executable, "-m", "image_classification_trash.cli", *line]
        done = subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder

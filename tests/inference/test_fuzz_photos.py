"""The fuzzer of the decode path, for a few seconds; `scripts/fuzz_photos.py --seconds 1200` is the long run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_photos.py"


def fuzz(tmp_path: Path, *arguments: str) -> None:
    line = [sys.executable, str(SCRIPT), "--keep", str(tmp_path / "kept"), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) ([a-z]+)", done.stdout)}
    assert counts["pixels"] > 20 and counts["refused"] > 20 and counts["failures"] == 0
    assert not (tmp_path / "kept").exists()


def test_damaged_photos_are_read_or_refused(tmp_path: Path) -> None:
    fuzz(tmp_path, "--seconds", "5", "--bombs", "0")


@pytest.mark.slow
def test_bombs_among_them_too(tmp_path: Path) -> None:
    fuzz(tmp_path, "--seconds", "30", "--seed", "1")

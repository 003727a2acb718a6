"""A process that is killed at any write leaves what was there or what is new, whole; the next run makes it good.

A child kills itself with SIGKILL at its n-th step (a rename, an exchange of names, an fsync), for every n until it gets through.
"""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.photos import MakeTree

from image_classification_trash.data.manifest import read_manifest
from image_classification_trash.errors import BundleError, DatasetError
from image_classification_trash.inference.bundle import read_bundle

MOST = 60
"""Steps after which a command counts as endless."""
HOOK = """
import sys
from helpers.killing import Killer
killer = Killer()
killer.left = int(sys.argv[1])
killer.before = sys.argv[2] == "before"
"""
DATA = HOOK + "from image_classification_trash.cli import run\nsys.exit(run(sys.argv[3:]))"
BUNDLE = (
    HOOK
    + """
from pathlib import Path
from helpers.bare_engine import CONFIG
from image_classification_trash.inference.bundle import add_to_bundle, write_bundle
bundle = write_bundle(Path(sys.argv[3]), CONFIG, {"model.safetensors": b"new"})
add_to_bundle(bundle, {"metrics.json": "{}", "README.md": "# new"})
"""
)


def kills(code: str, *arguments: str, when: str) -> Iterator[int]:
    """Kill the code at its first step, its second and so on; ends with the run that gets through."""
    for step in range(1, MOST):
        line = [sys.executable, "-c", code, str(step), when, *arguments]
        path = {"PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run(line, env={**path, "HOME": "/"}, capture_output=True, check=False)
        yield step
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr.decode()[-2000:]
            return
    pytest.fail("it never got through")


def digest(folder: Path) -> dict[str, str]:
    """Every file below a folder and its SHA-256, links followed."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_data_that_is_killed_anywhere_gives_the_same_bytes_in_the_end(
    tmp_path: Path, make_tree: MakeTree, when: str
) -> None:
    source = make_tree({"glass": 6, "paper": 6})
    plain = ["data", "mine", "--source", str(source), "--no-embeddings", "--data-dir"]
    (expected,) = kills(
        DATA.replace("left = int", "left = 10**9 + int"), *plain, str(tmp_path / "whole"), when=when
    )
    folder = tmp_path / "killed/processed/mine"
    steps = 0
    for _ in kills(DATA, *plain, str(tmp_path / "killed"), "--force", when=when):
        steps += 1
        if folder.exists():
            assert len(read_manifest(folder).photos) == 12
        else:
            with pytest.raises(DatasetError, match="There is no prepared data set"):
                read_manifest(folder)
    assert expected and steps > 1
    assert digest(folder) == digest(tmp_path / "whole/processed/mine")
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_bundle_is_the_old_one_or_the_new_one_wherever_its_writer_is_killed(
    tmp_path: Path, when: str
) -> None:
    path = tmp_path / "models" / "tiny"
    seen = set()
    for _ in kills(BUNDLE, str(path), when=when):
        if path.exists():
            seen.add((read_bundle(path).path / "model.safetensors").read_bytes())
        else:
            with pytest.raises(BundleError, match="is not a trained model"):
                read_bundle(path)
    assert seen == {b"new"}
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny"]
    assert (path / "README.md").read_text() == "# new"

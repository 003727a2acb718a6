"""The README's commands, run in their order, on small stand-ins for what they name.

TrashNet is the sample under its name, `~` is a folder made for this, and trainings take no epochs at a small input: the
environment says so, which goes before recipes. What cannot be run here is in `ELSEWHERE`, with who runs it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "make quickstart": ".ci/run",
    "make test": ".ci/run",
    "make docs-site": ".ci/run",
    "source .venv/bin/activate": "the environment is this test's own",
    "trash-classifier data trashnet": "needs the hub; tests/data/test_trashnet.py fetches from a server of its own",
    "python3 -m venv .venv": "make install",
    ".venv/bin/pip install -r requirements.txt": "make install",
    ".venv/bin/pip install --no-deps -e .": "make install",
    "make quickstart TORCH_INDEX=https://download.pytorch.org/whl/cpu": ".github/workflows/ci.yml",
    "trash-classifier serve models/trashnet": "tests/integration/test_gateway.py",
    "curl -F photos=@photo.jpg http://127.0.0.1:8080/predict": "tests/integration/test_gateway.py",
    "trash-classifier train trashnet --config configs/resnet18.yaml --output resnet18 --seed 1": "needs its weights",
}
QUICK = {
    "TRASH_TRAIN_EPOCHS": "0", "TRASH_TRAIN_INPUT_HEIGHT": "96", "TRASH_TRAIN_INPUT_WIDTH": "128", "TRASH_TRAIN_HEAD": "true",
    "TRASH_TRAIN_ARCHITECTURE": "efficientnet_lite0", "TRASH_EXPORT_FORMAT": '["tflite"]', "TRASH_EVALUATE_RESAMPLES": "100",
    "WANDB_MODE": "offline",
}  # fmt: skip
STATUS = {"https://example.org/bottle.jpg": 3, "monitor": 4}
"""Words of commands that end otherwise than with 0: an address that cannot be reached, photos unlike the training data."""


def typed() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def prepare(folder: Path) -> dict[str, str]:
    """The folder that commands run in, with what they name; returns the environment."""
    (folder / "data").mkdir()
    (folder / "data" / "sample").symlink_to(ROOT / "data" / "sample")
    (folder / "configs").symlink_to(ROOT / "configs")
    photos = sorted((ROOT / "data/sample/val").glob("*/*.jpg"))
    shutil.copy(photos[0], folder / "photo.jpg")
    for name in ("photos", "photos-of-today"):
        for label in ("glass", "metal", "paper"):
            (folder / name / label).mkdir(parents=True)
            for number, photo in enumerate(sorted((ROOT / "data/sample/train" / label).glob("*.jpg"))[:14]):
                shutil.copy(photo, folder / name / label / f"{number}.jpg")
    for name in ("Pictures", "Pictures/2026"):
        (folder / name).mkdir()
        shutil.copy(photos[1], folder / name / "a.jpg")
        shutil.copy(photos[2], folder / name / "b.heic")  # Pillow goes by what is inside
    shutil.make_archive(str(folder / "dataset-resized"), "zip", ROOT / "data/sample")
    scripts = folder / "bin"
    scripts.mkdir()
    program = scripts / "trash-classifier"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m image_classification_trash.cli "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(scripts), os.environ["PATH"]])
    return {**os.environ, **QUICK, "HOME": str(folder), "PATH": path}


def test_the_readmes_commands(tmp_path: Path) -> None:
    environment = prepare(tmp_path)

    def run(line: str, status: int = 0) -> None:
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == status, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"

    run("trash-classifier data sample")
    for line in typed():
        if line in ELSEWHERE:
            continue
        # The user says what the source is once; here it must be said again.
        corrected = line.endswith("--corrections reports/corrections-trashnet.csv")
        asked = f"{line} --source dataset-resized.zip" if corrected else line
        run(asked, next((code for word, code in STATUS.items() if word in shlex.split(line)), 0))
        if "--output" not in line and line.startswith("trash-classifier train trashnet"):
            shutil.rmtree(tmp_path / "models/sample", ignore_errors=True)


def test_nothing_is_excused_that_is_not_typed() -> None:
    assert set(ELSEWHERE) <= set(typed())

"""A command that is killed at any write, and then repeated, leaves what an undisturbed run leaves.

A server process imports everything once and forks a child for each run; the child kills itself with SIGKILL at its n-th
rename, exchange of names or fsync. What is compared is named in each test: times and durations differ from run to run.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.commands import command
from helpers.photos import MakeOnce, encoded, picture

from image_classification_trash.errors import BundleError
from image_classification_trash.inference.bundle import read_bundle

pytestmark = pytest.mark.slow
MOST = 200
"""Steps after which a command counts as endless."""
SERVER = """
import json, os, sys
from helpers.killing import Killer
from image_classification_trash.cli import run
from image_classification_trash.models import export_model, predict_model, train_model, tune_model
from image_classification_trash.visualization import visualize

killer = Killer()
for request in sys.stdin:
    folder, line, steps, when = json.loads(request)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        log = os.open("log.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        sys.stdin = open(os.devnull)
        killer.left, killer.before = steps, when == "before"
        status = run(line)
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    print(os.waitpid(child, 0)[1], flush=True)
"""
SMALL = ["--architecture", "sequential_cnn", "--no-pretrained", "--epochs", "1", "--batch-size", "8",
         "--input-height", "32", "--input-width", "32", "--workers", "0", "--accelerator", "cpu"]  # fmt: skip
TRAIN = ["train", "mine", *SMALL]
Run = Callable[[Path, Sequence[str], int, str], int]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a command line in a folder, to be killed at a step; returns how it ended, as `os.wait` does."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    line = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask(folder: Path, words: Sequence[str], steps: int, when: str) -> int:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps([str(folder), list(words), steps, when]) + "\n")
            return int(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def project(make_once: MakeOnce) -> Path:
    """A folder with a prepared data set and a tiny model."""

    def fill(folder: Path) -> None:
        for number, label in enumerate(("glass", "paper")):
            (folder / "photos" / label).mkdir(parents=True)
            for i in range(8):
                photo = encoded(picture(10 * number + i))
                (folder / "photos" / label / f"{i}.jpg").write_bytes(photo)
        command(folder, "data", "mine", "--source", "photos", "--no-embeddings")
        command(folder, *TRAIN)

    return make_once("killed-project", fill)


def kill_everywhere(
    run: Run, folder: Path, line: Sequence[str], when: str, whole: Callable[[], object]
) -> int:
    """Kill a command at its first step, its second and so on until it gets through; return the number of kills."""
    for step in range(1, MOST):
        end = run(folder, line, step, when)
        if end == signal.SIGKILL:
            whole()
            continue
        assert end == 0, (folder / "log.txt").read_text(errors="replace")[-2000:]
        return step - 1
    pytest.fail("it never got through")


def undisturbed(run: Run, folder: Path, line: Sequence[str]) -> None:
    assert run(folder, line, 0, "before") == 0, (folder / "log.txt").read_text(errors="replace")[-2000:]


def model_is_whole(bundle: Path) -> Callable[[], object]:
    """The model is as before or as it will be: absent, or complete."""

    def check() -> None:
        if bundle.exists():
            read_bundle(bundle)
        else:
            with pytest.raises(BundleError, match="is not a trained model"):
                read_bundle(bundle)

    return check


def leftovers(folder: Path) -> list[str]:
    return [
        path.name for path in folder.rglob("*") if path.name.endswith((".tmp", ".old", ".lock", ".partial"))
    ]


@pytest.fixture
def pair(project: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of the project: one in which a command gets through, and one in which it is killed."""
    for name in ("whole", "killed"):
        shutil.copytree(project, tmp_path / name, symlinks=True)
    return tmp_path / "whole", tmp_path / "killed"


WHEN = pytest.mark.parametrize("when", ["before", "after"])


@WHEN
def test_train(run: Run, pair: tuple[Path, Path], when: str) -> None:
    """Weights, labels and history are the same bytes; config.json has the time and the duration."""
    for folder in pair:
        shutil.rmtree(folder / "models")
        shutil.rmtree(folder / "reports")
        shutil.rmtree(folder / "data" / "interim", ignore_errors=True)
    whole, killed = pair
    undisturbed(run, whole, TRAIN)
    assert kill_everywhere(run, killed, TRAIN, when, model_is_whole(killed / "models" / "mine")) > 5
    for name in ("model.safetensors", "labels.txt", "history.csv"):
        assert (whole / "models/mine" / name).read_bytes() == (killed / "models/mine" / name).read_bytes()
    assert leftovers(killed) == []


@WHEN
def test_evaluate(run: Run, pair: tuple[Path, Path], when: str) -> None:
    """Every figure is the same; the machine and the time beside them are not compared."""
    whole, killed = pair
    line = ["evaluate", "mine"]
    undisturbed(run, whole, line)
    assert kill_everywhere(run, killed, line, when, model_is_whole(killed / "models" / "mine")) > 2

    def figures(folder: Path) -> Any:
        measured = json.loads((folder / "models/mine/metrics.json").read_text())["test"]
        return {
            name: measured[name] for name in ("accuracy", "macro_f1", "n", "confusion") if name in measured
        }

    assert figures(whole) == figures(killed) and "accuracy" in figures(whole)
    reports = [{path.relative_to(folder) for path in (folder / "reports").rglob("*")} for folder in pair]
    assert reports[0] == reports[1]
    assert leftovers(killed) == []


@WHEN
def test_export(run: Run, pair: tuple[Path, Path], when: str) -> None:
    """The exported file is the same bytes; export.json has the duration of the checks."""
    pytest.importorskip("onnx")
    whole, killed = pair
    line = ["export", "mine", "--format", "onnx", "--allow-drift"]
    undisturbed(run, whole, line)
    assert kill_everywhere(run, killed, line, when, model_is_whole(killed / "models" / "mine")) > 1
    names = sorted(path.name for path in (whole / "models/mine/export").iterdir())
    assert names == sorted(path.name for path in (killed / "models/mine/export").iterdir())
    assert (whole / "models/mine/export/model.onnx").read_bytes() == (
        killed / "models/mine/export/model.onnx"
    ).read_bytes()
    assert leftovers(killed) == []


@WHEN
@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["again", "resumed"])
def test_predict(run: Run, pair: tuple[Path, Path], when: str, resume: list[str]) -> None:
    """The table is the same bytes, and exists only when it is complete."""
    whole, killed = pair
    line = ["predict", "photos", "--model", "models/mine", "--csv", "out/answers.csv", *resume]
    undisturbed(run, whole, line)
    expected = (whole / "out/answers.csv").read_bytes()

    def absent_or_complete() -> None:
        table = killed / "out" / "answers.csv"
        assert not table.exists() or table.read_bytes() == expected

    assert kill_everywhere(run, killed, line, when, absent_or_complete) > 1
    assert (killed / "out/answers.csv").read_bytes() == expected
    assert leftovers(killed) == []


@pytest.mark.parametrize("when", ["before"])
def test_tune(run: Run, pair: tuple[Path, Path], when: str) -> None:
    """The recipe has the same settings; its comment counts the trials that were killed."""
    pytest.importorskip("optuna")
    whole, killed = pair
    line = ["tune", "mine", *SMALL, "--trials", "1"]
    undisturbed(run, whole, line)
    assert kill_everywhere(run, killed, line, when, lambda: None) > 2
    recipes = [yaml.safe_load((folder / "reports/tuning/mine.yaml").read_text()) for folder in pair]
    assert recipes[0] == recipes[1]
    assert leftovers(killed) == []

"""A second process that writes the same data set or model is refused; one that was killed holds nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.commands import command
from helpers.gateways import CONFIG, write_bundle
from helpers.photos import MakeTree

from image_classification_trash.files import only_writer

HOLDER = """
import sys, time
from pathlib import Path
from image_classification_trash.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(3600)
"""


def with_data(folder: Path, make_tree: MakeTree) -> None:
    command(folder, "data", "mine", "--source", str(make_tree({"a": 4, "b": 4})), "--no-embeddings")


def with_model(folder: Path, make_tree: MakeTree) -> None:
    write_bundle(folder / "models" / "mine", CONFIG)


@pytest.mark.parametrize(
    ("prepare", "line", "place"),
    [
        (
            with_data,
            ["data", "mine", "--force", "--source", "photos", "--no-embeddings"],
            "data/processed/mine",
        ),
        (with_data, ["train", "mine"], "models/mine"),
        (with_data, ["train", "mine", "--models-dir", "other"], "reports/training/mine"),
        (with_model, ["evaluate", "mine"], "models/mine"),
        (with_model, ["export", "mine", "--format", "onnx"], "models/mine"),
    ],
    ids=["data", "train", "train to the same logs", "evaluate", "export"],
)
def test_a_second_writer_is_refused(
    tmp_path: Path,
    make_tree: MakeTree,
    prepare: Callable[[Path, MakeTree], None],
    line: list[str],
    place: str,
) -> None:
    prepare(tmp_path, make_tree)
    before = {path for path in tmp_path.rglob("*") if "lock" not in path.name}
    with only_writer(tmp_path / place):
        done = command(tmp_path, *line, status=1)
    assert "Another process is writing" in done.stderr and str(Path(place).name) in done.stderr
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert not {path for path in after - before if path.name.endswith((".lock", ".tmp"))}


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    line = [sys.executable, "-c", HOLDER, str(tmp_path / "model")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process, ExitStack() as stopped:
        stopped.callback(process.kill)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with only_writer(tmp_path / "model"):
            pass
    assert list(tmp_path.iterdir()) == []

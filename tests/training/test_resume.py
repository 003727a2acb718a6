"""A run is resumed with the data and settings that it was made with, or with more epochs; anything else is refused."""

import csv
import logging
from pathlib import Path

import pytest
import torch
from helpers.commands import command
from helpers.photos import MakeTree

from image_classification_trash.errors import TrainingError
from image_classification_trash.training.checkpoints import check_resumable, read_checkpoint

PLAN = ["--architecture", "sequential_cnn", "--freeze-stages", "0", "--input-height", "32", "--input-width", "32",
        "--batch-size", "8", "--warmup-epochs", "0", "--patience", "9", "--output", "run"]  # fmt: skip


def plan(**changed: str) -> list[str]:
    """The flags of PLAN with some values changed."""
    values = dict(zip(PLAN[::2], PLAN[1::2], strict=True))
    values |= {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return [word for pair in values.items() for word in pair]


@pytest.fixture
def folder(tmp_path: Path, make_tree: MakeTree) -> Path:
    """A working folder with two data sets and a run of two epochs on the first."""
    source = make_tree({"glass": 10, "paper": 10})
    command(tmp_path, "data", "mine", "--source", str(source), "--no-embeddings")
    command(tmp_path, "data", "other", "--source", str(source), "--no-embeddings", "--seed", "1")
    command(tmp_path, "train", "mine", *PLAN, "--epochs", "2")
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "reports").rglob("*") if path.is_file()}


def test_other_data_or_settings_are_refused_with_what_differs(folder: Path) -> None:
    before = files(folder)
    done = command(folder, "train", "other", *PLAN, "--epochs", "2", "--resume", status=1)
    fingerprint = read_checkpoint(folder / "reports/training/run/checkpoints/last.ckpt")["made_with"]["data"]
    assert f"data {fingerprint} -> " in done.stderr and "without --resume" in done.stderr
    other = plan(learning_rate="0.5", seed="3", batch_size="4", input_width="64", rotation="1", patience="8")
    done = command(folder, "train", "mine", *other, "--epochs", "3", "--resume", status=1)
    for change in ("learning_rate 0.001 -> 0.5", "seed 0 -> 3", "batch_size 8 -> 4", "input_width 32 -> 64",
                   "rotation 20.0 -> 1.0", "patience 9 -> 8"):  # fmt: skip
        assert change in done.stderr
    assert "data " not in done.stderr.split("settings:")[1].split("Give")[0] and "epochs" not in done.stderr
    done = command(folder, "train", "mine", *PLAN, "--epochs", "1", "--resume", status=1)
    assert "epochs 2, already trained -> 1" in done.stderr
    assert files(folder) == before


def test_more_epochs_follow_the_schedule_of_their_number(folder: Path) -> None:
    done = command(folder, "train", "mine", *PLAN, "--epochs", "5", "--resume")
    assert "5 epochs instead of 2" in done.stderr and "from epoch 2 on" in done.stderr
    command(folder, "train", "mine", *plan(output="whole"), "--epochs", "5")
    rates = [
        [
            row["learning_rate"]
            for row in csv.DictReader((folder / f"reports/training/{run}/history.csv").open())
        ]
        for run in ("run", "whole")
    ]
    assert len(rates[0]) == 5 and rates[0][2:] == rates[1][2:] and rates[0][:2] != rates[1][:2]


def test_what_is_done_after_the_last_epoch_may_change(folder: Path) -> None:
    done = command(
        folder,
        "train",
        "mine",
        *PLAN,
        "--epochs",
        "2",
        "--target-precision",
        "0.5",
        "--workers",
        "1",
        "--resume",
    )
    assert "instead of" not in done.stderr


def test_a_checkpoint_of_an_earlier_version_is_resumed(folder: Path) -> None:
    last = folder / "reports/training/run/checkpoints/last.ckpt"
    checkpoint = read_checkpoint(last)
    del checkpoint["made_with"]
    torch.save(checkpoint, last)
    command(folder, "train", "mine", *PLAN, "--epochs", "3", "--seed", "4", "--resume")
    assert len((folder / "models/run/history.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_a_setting_that_the_checkpoint_does_not_know_is_not_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoints").mkdir()
    made_with = {"architecture": "resnet18", "epochs": 5, "classes": ["glass", "paper"]}
    checkpoint = {"architecture": "resnet18", "history": [{}, {}], "made_with": made_with}
    torch.save(checkpoint, tmp_path / "checkpoints/last.ckpt")
    with caplog.at_level(logging.WARNING):
        check_resumable(tmp_path, {**made_with, "new": 1})
    assert not caplog.records
    with pytest.raises(TrainingError, match="classes glass, paper -> glass"):
        check_resumable(tmp_path, {**made_with, "classes": ["glass"]})
    with pytest.raises(TrainingError, match="checkpoint of resnet18, not of"):
        check_resumable(tmp_path, {**made_with, "architecture": "sequential_cnn"})

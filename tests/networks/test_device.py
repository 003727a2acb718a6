"""Devices that are not there are refused before any photo is decoded."""

import os
from pathlib import Path

import pytest
import torch
from helpers.commands import command
from helpers.photos import MakeTree

from image_classification_trash.errors import TrainingError
from image_classification_trash.networks.device import checked_device


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int, cores: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices", "said"),
    [
        (0, "gpu", 1, "needs a GPU, but torch finds no GPU and 4 CPU cores"),
        (0, "auto", 5, "needs 5 CPU cores, but torch finds no GPU and 4 CPU cores"),
        (8, "cpu", 5, "needs 5 CPU cores, but torch finds 8 GPUs"),
        (1, "auto", 2, "needs 2 GPUs, but torch finds 1 GPU and"),
        (2, "gpu", 3, "needs 3 GPUs, but torch finds 2 GPUs"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    gpus: int, accelerator: str, devices: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpus, cores=4)
    with pytest.raises(TrainingError, match=said) as caught:
        checked_device(accelerator, devices)
    assert "Give --" in caught.value.hint


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices"),
    [(0, "auto", 4), (0, "cpu", 1), (2, "gpu", 2), (2, "auto", 1), (1, "cpu", 4)],
)
def test_devices_that_are_there_are_taken(
    gpus: int, accelerator: str, devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpus, cores=4)
    expected = "cuda" if gpus and accelerator != "cpu" else "cpu"
    assert checked_device(accelerator, devices).type == expected


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("flags", [["--accelerator", "gpu"], ["--devices", "100000"]])
def test_no_photo_is_decoded_for_a_device_that_is_not_there(
    flags: list[str], tmp_path: Path, make_tree: MakeTree
) -> None:
    source = make_tree({"glass": 10, "paper": 10})
    command(tmp_path, "data", "mine", "--source", str(source), "--no-embeddings")
    before = sorted(tmp_path.rglob("*"))
    done = command(tmp_path, "train", "mine", *flags, status=1)
    assert flags[0] in done.stderr and "torch finds no GPU" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before

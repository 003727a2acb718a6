"""Checkpoints of a training: the best epoch's and, after every epoch, the last one's, from which a killed run goes on."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.errors import BundleError
from image_classification_trash.networks.network import build_network
from image_classification_trash.tracking.wandb_tracker import NoTracker
from image_classification_trash.training import fine_tuning
from image_classification_trash.training.batches import SplitPhotos
from image_classification_trash.training.checkpoints import (
    history_csv,
    read_checkpoint,
    read_history,
    seconds_trained,
)
from image_classification_trash.training.fine_tuning import fine_tune

PIXELS = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
PART = SplitPhotos(PIXELS, np.arange(8) % 2)
DATA = SimpleNamespace(train=PART, selection=PART)
SETTINGS = TrainSettings(
    architecture="sequential_cnn", input_height=32, input_width=32, epochs=3, batch_size=4, ema_decay=0.0,
    patience=9, accelerator="cpu",
)  # fmt: skip


def test_the_last_epoch_is_kept_where_the_first_was_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((0.9, 0.5, 0.4))
    monkeypatch.setattr(fine_tuning, "macro_f1", lambda y_true, y_pred: next(scores))
    network = build_network("sequential_cnn", 2, pretrained=False, weights=None, dropout=0.0)
    done = fine_tune(network, DATA, SETTINGS, tmp_path, NoTracker())
    assert done is not None and len(done.history) == 3
    best, last = (read_checkpoint(tmp_path / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt"))
    assert (len(best["history"]), len(last["history"])) == (1, 3)
    kept = best["state_dict"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, kept[f"network.{name}"]), name
    assert any(not torch.equal(kept[name], value) for name, value in last["state_dict"].items())


def test_a_run_is_resumed_in_a_project_that_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((0.9, 0.5, 0.4, 0.6))
    monkeypatch.setattr(fine_tuning, "macro_f1", lambda y_true, y_pred: next(scores))

    def run(folder: Path, **changed: object) -> dict[str, torch.Tensor]:
        network = build_network("sequential_cnn", 2, pretrained=False, weights=None, dropout=0.0)
        fine_tune(network, DATA, SETTINGS.model_copy(update=changed), folder / "reports", NoTracker())
        return {name: value.clone() for name, value in network.state_dict().items()}

    first = run(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    again = run(tmp_path / "there", resume=True, epochs=4)  # no epoch is better than the first
    assert all(torch.equal(first[name], value) for name, value in again.items())
    best = read_checkpoint(tmp_path / "there/reports/checkpoints/best.ckpt")
    assert len(best["history"]) == 1 and not (tmp_path / "here").exists()
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    again = run(tmp_path / "elsewhere", resume=True, epochs=4)  # nothing is left to train
    assert all(torch.equal(first[name], value) for name, value in again.items())


def test_the_time_of_the_run_that_is_resumed_is_counted(tmp_path: Path) -> None:
    def run(**changed: object) -> float:
        network = build_network("sequential_cnn", 2, pretrained=False, weights=None, dropout=0.0)
        began = time.perf_counter()
        fine_tune(network, DATA, SETTINGS.model_copy(update=changed), tmp_path, NoTracker())
        return time.perf_counter() - began

    assert seconds_trained(tmp_path) == 0
    own = run()
    first = seconds_trained(tmp_path)
    assert 0 < first <= own
    own = run(resume=True, epochs=5)
    assert first < seconds_trained(tmp_path) <= first + own


def test_the_history_is_read_back_and_what_is_none_is_refused(tmp_path: Path) -> None:
    rows = [{"epoch": 0.0, "val_macro_f1": 0.5}, {"epoch": 1.0, "train_loss": 0.25, "val_macro_f1": 0.75}]
    file = tmp_path / "history.csv"
    file.write_text(history_csv(rows), encoding="utf-8")
    assert read_history(file) == rows
    for content in (
        b"",
        b"\xff\xfe\x00",
        b"epoch,val_macro_f1\n",
        b"a,b\n1,x\n",
        b"epoch\n1\n",
        b"epoch,val_macro_f1\n1,2,3\n",
    ):
        file.write_bytes(content)
        with pytest.raises(BundleError, match=r"history\.csv is not a table of epochs"):
            read_history(file)

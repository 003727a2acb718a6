"""The weights that fine-tuning starts from are a candidate: a model never ends worse than its start on validation photos."""

import csv
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.commands import command
from helpers.photos import MakeTree

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.evaluation.model_card import model_card
from image_classification_trash.inference.bundle import read_bundle
from image_classification_trash.models.train_model import Trained
from image_classification_trash.networks.network import TrashNetwork, build_network
from image_classification_trash.tracking.wandb_tracker import NoTracker
from image_classification_trash.training import fine_tuning
from image_classification_trash.training.batches import SplitPhotos
from image_classification_trash.training.checkpoints import LAST, read_checkpoint
from image_classification_trash.training.fine_tuning import FineTuned, fine_tune

PIXELS = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
PART = SplitPhotos(PIXELS, np.arange(8) % 2)
DATA = SimpleNamespace(train=PART, selection=PART)
SETTINGS = TrainSettings(
    architecture="sequential_cnn", input_height=32, input_width=32, epochs=3, batch_size=4, patience=9,
    accelerator="cpu", freeze_stages=0,
)  # fmt: skip


def tuned(
    folder: Path,
    scores: list[float],
    monkeypatch: pytest.MonkeyPatch,
    tracker: NoTracker | None = None,
    **changed: object,
) -> tuple[TrashNetwork, dict[str, torch.Tensor], FineTuned]:
    """Fine-tune with made-up macro F1 scores, the start's first; also return the initial weights."""
    given = iter(scores)
    monkeypatch.setattr(fine_tuning, "macro_f1", lambda y_true, y_pred: next(given))
    torch.manual_seed(0)
    network = build_network("sequential_cnn", 2, pretrained=False)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    settings = SETTINGS.model_copy(update=changed)
    done = fine_tune(network, DATA, settings, folder, tracker or NoTracker(), start="fitted head")
    assert done is not None and next(given, None) is None
    return network, initial, done


def same(network: TrashNetwork, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("ema_decay", [0.0, 0.99])
@pytest.mark.parametrize("best", [0.8, 0.7])
def test_the_start_is_kept_where_no_epoch_is_better(
    best: float, ema_decay: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, initial, done = tuned(tmp_path, [0.8, 0.5, best, 0.6], monkeypatch, ema_decay=ema_decay)
    assert same(network, initial)
    assert done.comparison == fine_tuning.StartComparison("fitted head", 0.8, best, 0)
    assert "fitted head is kept" in str(done.comparison) and "--learning-rate" in str(done.comparison)


def test_an_epoch_that_is_better_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _, done = tuned(tmp_path, [0.8, 0.5, 0.84, 0.6], monkeypatch)
    state = read_checkpoint(tmp_path / "checkpoints/best.ckpt")["state_dict"]
    assert same(network, {name.removeprefix("network."): value for name, value in state.items()})
    assert str(done.comparison) == "Validation macro F1: fitted head 80.0%, fine-tuned 84.0% (epoch 2 kept)."


@pytest.mark.parametrize(("average", "kept"), [(0.9, 1), (0.7, 0)])
def test_the_average_with_the_start_has_to_be_better_too(
    average: float, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, initial, done = tuned(tmp_path, [0.8, 0.85, average], monkeypatch, epochs=1, wise_ft=0.5)
    assert done.comparison is not None
    assert (done.comparison.fine_tuned_macro_f1, done.comparison.kept_epoch) == (average, kept)
    assert same(network, initial) == (not kept)


def test_the_history_begins_with_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows(NoTracker):
        def __init__(self) -> None:
            self.rows: list[tuple[float, float]] = []

        def log_epoch(self, row: object) -> None:
            self.rows.append((row["epoch"], row["val_macro_f1"]))  # type: ignore[index]

    tracker = Rows()
    *_, done = tuned(tmp_path, [0.8, 0.5, 0.4, 0.6], monkeypatch, tracker)
    wanted = [(0, 0.8), (1, 0.5), (2, 0.4), (3, 0.6)]
    assert tracker.rows == wanted
    assert [(row["epoch"], row["val_macro_f1"]) for row in done.history] == wanted
    rows = list(csv.DictReader((tmp_path / "history.csv").open(encoding="utf-8")))
    assert [(int(row["epoch"]), float(row["val_macro_f1"])) for row in rows] == wanted
    assert rows[0]["train_loss"] == "" and float(rows[0]["val_loss"]) > 0 and float(rows[1]["train_loss"]) > 0


def test_a_run_of_an_earlier_version_is_resumed_with_epochs_from_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(tmp_path, [0.8, 0.5, 0.4], monkeypatch, epochs=2)
    last = tmp_path / "checkpoints" / LAST
    checkpoint = read_checkpoint(last)
    checkpoint["history"] = [{**row, "epoch": row["epoch"] - 1} for row in checkpoint["history"]]
    torch.save(checkpoint, last)
    *_, done = tuned(tmp_path, [0.8, 0.9], monkeypatch, epochs=3, resume=True)
    assert [row["epoch"] for row in done.history] == [0, 1, 2, 3]
    assert done.comparison is not None and done.comparison.kept_epoch == 3


def test_untrained_weights_are_no_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.1, 0.1])
    monkeypatch.setattr(fine_tuning, "macro_f1", lambda y_true, y_pred: next(scores))
    done = fine_tune(
        build_network("sequential_cnn", 2, pretrained=False), DATA, SETTINGS, tmp_path, NoTracker()
    )
    assert done is not None and done.comparison is None
    assert [row["epoch"] for row in done.history] == [1, 2, 3]


def weights_of(bundle: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(bundle / "model.safetensors")


def test_the_command_keeps_the_head_says_so_and_keeps_it_when_resumed(
    tmp_path: Path, make_tree: MakeTree
) -> None:
    source = make_tree({"glass": 20, "paper": 20})
    command(tmp_path, "data", "mine", "--source", str(source), "--no-embeddings")
    backbone = build_network("sequential_cnn", 2, pretrained=False).backbone.state_dict()
    safetensors.torch.save_file(
        {name: value.contiguous() for name, value in backbone.items()}, tmp_path / "w.safetensors"
    )
    plan = ["train", "mine", "--architecture", "sequential_cnn", "--weights", "w.safetensors", "--freeze-stages", "0",
            "--input-height", "32", "--input-width", "32", "--batch-size", "8", "--warmup-epochs", "0",
            "--learning-rate", "30"]  # fmt: skip
    command(tmp_path, *plan, "--epochs", "0", "--output", "head")
    done = command(tmp_path, *plan, "--epochs", "2", "--output", "tuned")
    assert "the fitted head is kept, since no epoch improved on it" in done.stdout
    resumed = command(tmp_path, *plan, "--epochs", "3", "--output", "tuned", "--resume")
    assert "the fitted head is kept" in resumed.stdout
    head, kept = (weights_of(tmp_path / "models" / name) for name in ("head", "tuned"))
    assert head.keys() == kept.keys() and all(torch.equal(head[name], kept[name]) for name in head)
    bundle = read_bundle(tmp_path / "models/tuned")
    training = bundle.config.training
    assert training["comparison"]["kept_epoch"] == 0 and training["epochs_run"] == 3 and "head" in training
    assert (
        training["validation"]
        == json.loads((tmp_path / "models/head/config.json").read_text())["training"]["validation"]
    )
    shown = Trained(bundle).as_json()
    assert (
        shown is not None
        and shown["comparison"]["start_macro_f1"] > shown["comparison"]["fine_tuned_macro_f1"]
    )
    assert "fitted head is kept" in model_card(bundle.config, {}, None)


def test_a_model_that_training_starts_from_is_a_candidate(tmp_path: Path, make_tree: MakeTree) -> None:
    source = make_tree({"glass": 20, "paper": 20})
    command(tmp_path, "data", "mine", "--source", str(source), "--no-embeddings")
    plan = ["train", "mine", "--architecture", "sequential_cnn", "--freeze-stages", "0", "--input-height", "32",
            "--input-width", "32", "--batch-size", "8", "--warmup-epochs", "0"]  # fmt: skip
    command(tmp_path, *plan, "--epochs", "4", "--output", "first")
    worse = ["--init-from", "models/first", "--epochs", "1", "--learning-rate", "30", "--output", "second"]
    done = command(tmp_path, *plan, *worse)
    assert "the initial model is kept" in done.stdout
    first, second = (weights_of(tmp_path / "models" / name) for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_says_what_it_does_in_plain_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tuned(tmp_path, [0.8, 0.9, 0.6, 0.5], monkeypatch, epochs=9, patience=2)
    said = capfd.readouterr()
    lines = said.err.splitlines()
    assert lines[0].split("  ") == [
        "epoch",
        "loss",
        "val loss",
        "val accuracy",
        "val macro F1",
        "seconds",
        "time left",
    ]
    assert [row.split()[0] for row in lines[1:4]] == ["1/9", "2/9", "3/9"] and "90.0%" in lines[1]
    assert lines[4] == "stopped early: no better macro F1 on validation for 2 epochs"
    assert lines[5] == "best epoch: 1, macro F1 90.0% on validation" and len(lines) == 6
    assert said.out == ""


def test_without_time_for_an_epoch_the_start_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    network = build_network("sequential_cnn", 2, pretrained=False)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    soon = time.perf_counter() + 5
    done = fine_tune(network, DATA, SETTINGS, tmp_path, NoTracker(), start="fitted head", until=soon)
    assert done == FineTuned([], None) and same(network, initial)
    assert "0 of 3 epochs, so the model is the head alone" in capfd.readouterr().err
    untrained = fine_tune(network, DATA, SETTINGS, tmp_path, NoTracker(), until=soon)
    assert untrained is not None and len(untrained.history) == 1  # what does not classify yet gets one epoch


def test_as_many_epochs_as_fit_are_trained_and_the_limit_ends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fine_tuning, "AFTERWARDS", 0.0)
    network = build_network("sequential_cnn", 2, pretrained=False)
    later = time.perf_counter() + 3600
    assert fine_tuning.epochs_that_fit(network, DATA, SETTINGS, later) == 3
    monkeypatch.setattr(fine_tuning, "epochs_that_fit", lambda *given: 3)  # measured too fast
    done = fine_tune(network, DATA, SETTINGS, tmp_path, NoTracker(), until=time.perf_counter())
    assert done is not None and len(done.history) == 1
    assert "stopped by the time limit after epoch 1" in capfd.readouterr().err

"""A training whose numbers are no longer finite stops, writes no model, and leaves the one before in place."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.commands import command
from helpers.photos import MakeTree

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.errors import BundleError, DivergedError, TrainingError
from image_classification_trash.evaluation.calibration import Calibration, PredictionSets, Validation
from image_classification_trash.inference.bundle import (
    WEIGHTS,
    Bundle,
    BundleConfig,
    read_bundle,
    write_bundle,
)
from image_classification_trash.networks.network import (
    TrashNetwork,
    build_network,
    load_network,
    network_bytes,
)
from image_classification_trash.tracking.wandb_tracker import NoTracker
from image_classification_trash.training import record as training_records
from image_classification_trash.training.batches import SplitPhotos
from image_classification_trash.training.fine_tuning import FineTuned, fine_tune
from image_classification_trash.training.record import Ancestors, Run, training_record, write_trained

PART = SplitPhotos(
    np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8), np.arange(8) % 2
)
DATA = SimpleNamespace(train=PART, selection=PART)
SETTINGS = TrainSettings(
    architecture="sequential_cnn", input_height=32, input_width=32, epochs=3, batch_size=4, ema_decay=0.0,
    accelerator="cpu", freeze_stages=0,
)  # fmt: skip


@pytest.mark.parametrize("ema_decay", [0.0, 0.99])
def test_a_diverged_training_stops_in_the_epoch_it_diverges_in(tmp_path: Path, ema_decay: float) -> None:
    network = build_network("sequential_cnn", 2, pretrained=False)
    with torch.no_grad():
        network.head[-1].weight[0, 0] = float("nan")
    settings = SETTINGS.model_copy(update={"ema_decay": ema_decay})
    with pytest.raises(DivergedError, match="diverged in epoch 1: the training loss is nan") as caught:
        fine_tune(network, DATA, settings, tmp_path, NoTracker())
    assert "--learning-rate" in caught.value.hint and "--warmup-epochs" in caught.value.hint
    assert not list(tmp_path.rglob("*.ckpt")) and not (tmp_path / "history.csv").exists()


def test_an_infinite_validation_loss_alone_stops_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network("sequential_cnn", 2, pretrained=False)
    scores = network.logits
    monkeypatch.setattr(network, "logits", lambda x: scores(x) * (1.0 if network.training else float("inf")))
    with pytest.raises(DivergedError, match=r"validation loss (nan|inf)"):
        fine_tune(network, DATA, SETTINGS, tmp_path, NoTracker())


def test_the_command_ends_with_1_and_leaves_the_earlier_model(
    tmp_path: Path, make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = make_tree({"glass": 10, "paper": 10})
    command(tmp_path, "data", "mine", "--source", str(source), "--no-embeddings")
    plan = ["train", "mine", "--architecture", "sequential_cnn", "--freeze-stages", "0", "--warmup-epochs", "0",
            "--input-height", "32", "--input-width", "32"]  # fmt: skip
    command(tmp_path, *plan, "--epochs", "1")
    before = {file.name: file.read_bytes() for file in (tmp_path / "models/mine").iterdir()}
    done = command(tmp_path, *plan, "--epochs", "4", "--learning-rate", "1e30", status=1)
    assert "diverged in epoch" in done.stderr and "Lower --learning-rate" in done.stderr
    assert {file.name: file.read_bytes() for file in (tmp_path / "models/mine").iterdir()} == before


def written(
    tmp_path: Path, network: TrashNetwork, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> Bundle:
    validation = calibration.validation
    record = training_record(
        Run(tmp_path, {}, {}, 0.0), Ancestors({}, ()), validation, None, FineTuned([], None), None
    )
    monkeypatch.setattr(training_records.DataRecord, "of", lambda manifest: training_records.DataRecord(
        "mine", "f", {}, {}, {}, None))  # fmt: skip
    manifest = SimpleNamespace(name="mine", labels=("glass", "paper"))
    return write_trained(tmp_path / "mine", SETTINGS, manifest, network, calibration, record, [])  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", ["weights", "temperature", "threshold", "conformal_threshold"])
def test_a_bundle_that_is_not_finite_is_not_written(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = Validation(8, 1.0, 1.0, 0.5, 8, 1.0, 1.0, PredictionSets(1.0, 1.0, 1.0))
    network, calibration = (
        build_network("sequential_cnn", 2, pretrained=False),
        Calibration(1.0, 0.5, 0.9, validation),
    )
    before = written(tmp_path, network, calibration, monkeypatch).weights.read_bytes()
    if broken == "weights":
        with torch.no_grad():
            network.backbone[0][0].weight[0, 0, 0, 0] = float("inf")
    else:
        calibration = replace(calibration, **{broken: float("nan")})
    with pytest.raises(DivergedError, match="not written"):
        written(tmp_path, network, calibration, monkeypatch)
    assert read_bundle(tmp_path / "mine").weights.read_bytes() == before


def test_weights_that_are_not_finite_are_not_loaded(tmp_path: Path) -> None:
    network = build_network("sequential_cnn", 2, pretrained=False)
    with torch.no_grad():
        network.backbone[0][0].weight[0, 0, 0, 0] = float("nan")
    file = tmp_path / "backbone.safetensors"
    safetensors.torch.save_file(
        {name: value.contiguous() for name, value in network.backbone.state_dict().items()}, file
    )
    with pytest.raises(TrainingError, match="contains NaN or infinity"):
        build_network("sequential_cnn", 2, weights=file)
    config = BundleConfig(
        "mine",
        "sequential_cnn",
        ("glass", "paper"),
        32,
        32,
        "stretch",
        1.0,
        0.5,
        {"name": "mine"},
        {},
        "",
        {},
        "",
    )
    with pytest.raises(BundleError, match="contains NaN or infinity"):
        load_network(write_bundle(tmp_path / "bundle", config, {WEIGHTS: network_bytes(network)}))

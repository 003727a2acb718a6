"""Learning from teachers: their probabilities are the target, their weights stay theirs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.errors import TrainingError
from image_classification_trash.inference.bundle import WEIGHTS, Bundle, BundleConfig, write_bundle
from image_classification_trash.networks.network import TrashNetwork, build_network, network_bytes
from image_classification_trash.tracking.wandb_tracker import NoTracker
from image_classification_trash.training.batches import SplitPhotos
from image_classification_trash.training.checkpoints import read_checkpoint
from image_classification_trash.training.fine_tuning import fine_tune, teacher_probabilities
from image_classification_trash.training.record import Ancestors
from image_classification_trash.training.start import as_teacher

PART = SplitPhotos(
    np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8), np.arange(8) % 2
)
DATA = SimpleNamespace(train=PART, selection=PART)
SETTINGS = TrainSettings(
    architecture="sequential_cnn", input_height=32, input_width=32, epochs=15, batch_size=4, ema_decay=0.0,
    patience=99, learning_rate=0.003, mixup=0.0, freeze_stages=0, accelerator="cpu",
)  # fmt: skip


def sure_of(number: int, temperature: float = 1.0) -> TrashNetwork:
    """A teacher that gives class `number` of two a score of 4 more, whatever it sees."""
    network = build_network("sequential_cnn", 2).eval()
    bias = np.zeros(2, dtype=np.float32)
    bias[number] = 4.0
    network.set_linear_head(np.zeros((2, network.width), dtype=np.float32), bias)
    network.temperature.fill_(temperature)
    return network


def test_the_mean_of_calibrated_probabilities_is_distilled() -> None:
    photos = torch.rand(3, 3, 32, 32) * 255
    sharp, soft = float(torch.tensor(4.0).sigmoid()), float(torch.tensor(2.0).sigmoid())
    expected = torch.tensor([(1 - sharp + 1 - soft) / 2, (sharp + soft) / 2])
    assert torch.allclose(
        teacher_probabilities([sure_of(1), sure_of(1, temperature=2.0)], photos), expected, atol=1e-6
    )


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_a_network_learns_as_much_of_its_teacher_as_is_asked(share: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, teacher = build_network("sequential_cnn", 2), sure_of(1)
    before = network_bytes(teacher)
    settings = SETTINGS.model_copy(update={"distillation_weight": share})
    fine_tune(network, DATA, settings, tmp_path, NoTracker(), [teacher])
    kept = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    network.load_state_dict({name.removeprefix("network."): value for name, value in kept.items()})
    with torch.inference_mode():
        second = float(network.eval()(torch.from_numpy(PART.pixels))[:, 1].mean())
    assert second > 0.9 if share else second < 0.8  # half of the photos are of the second class
    assert network_bytes(teacher) == before


def test_a_teacher_without_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="--epochs 1 or more"):
        TrainSettings(teacher=[Path("models/field")], epochs=0)


def test_a_training_that_two_bundles_go_back_to_counts_once(tmp_path: Path) -> None:
    def made(name: str, seconds: float, *earlier: Bundle) -> Bundle:
        before = Ancestors.of(earlier).seconds
        record = {
            "seconds": seconds + sum(before.values()),
            "ancestors": before,
            "machine": f"that of {name}",
        }
        config = BundleConfig(
            name=name, architecture="sequential_cnn", labels=("a", "b"), input_height=32, input_width=32, resize_mode="stretch",
            temperature=1.0, threshold=0.5, data={}, training=record, git_commit="x", versions={}, created="now",
        )  # fmt: skip
        weights = network_bytes(build_network("sequential_cnn", 2))  # random ones, others each time
        return write_bundle(tmp_path / name, config, {WEIGHTS: weights})

    first = made("first", 100)
    second, third = made("second", 20, first), made("third", 3, first)
    ancestors = Ancestors.of([second, third, first])
    assert sorted(ancestors.seconds.values()) == [3, 20, 100]
    assert ancestors.machines == ("that of second", "that of third", "that of first")


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    config = BundleConfig(
        name="mine", architecture="sequential_cnn", labels=("a", "b"), input_height=32, input_width=32, resize_mode="stretch",
        temperature=1.0, threshold=0.5, data={}, training={}, git_commit="x", versions={}, created="now",
    )  # fmt: skip
    bundle = write_bundle(tmp_path / "mine", config, {WEIGHTS: network_bytes(sure_of(0))})
    assert as_teacher(bundle, ["a", "b"]).architecture == "sequential_cnn"
    with pytest.raises(TrainingError, match="is a model for a, b"):
        as_teacher(bundle, ["a", "c"])

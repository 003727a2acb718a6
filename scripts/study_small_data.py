"""Compare rates, epochs and frozen stages on small data sets, with the fitted head alone: references/small_data.json and .md.

    trash-classifier data trashnet
    trash-classifier data fieldphotos --source field.csv
    python scripts/study_small_data.py --data-dir data --runs reports/small_data
    python scripts/study_small_data.py --data-dir data --runs reports/small_data --test "freeze 8, rate 0.0003, 20 epochs"

Each set has three classes with 60 photos each, split as a user's would be: 42 to train on and 9 that select the epoch. Settings
are compared on 30 further photos of each class, which no training sees; no group is on two sides. Every run writes a file
and is not repeated, so that a killed study continues, and several processes share it (`--seeds 0`, `--seeds 1`). `--test`
reads the test photos, for the present defaults and the settings that were chosen, and is meant to be given once.
"""

import argparse
import contextlib
import json
import logging
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest, Photo, read_manifest
from image_classification_trash.evaluation.metrics import macro_f1
from image_classification_trash.networks.network import TrashNetwork
from image_classification_trash.provenance import machine
from image_classification_trash.tracking.wandb_tracker import NoTracker
from image_classification_trash.training.checkpoints import read_checkpoint
from image_classification_trash.training.data import TrainingData
from image_classification_trash.training.fine_tuning import fine_tune
from image_classification_trash.training.linear_head import fit_linear_head
from image_classification_trash.training.scores import validation_scores
from image_classification_trash.training.start import begin

OF_A_GROUP = 3
"""Photos that one group may give to a set: some groups have dozens of views of one object."""


@dataclass(frozen=True)
class Cut:
    """A small data set: three classes of a prepared one, with a number of photos per class in each split."""

    name: str
    source: str
    classes: tuple[str, ...]
    train: int = 42
    val: int = 9
    held_out: int = 30


@dataclass(frozen=True)
class Choice:
    """Settings that are compared."""

    freeze_stages: int
    learning_rate: float
    epochs: int

    def __str__(self) -> str:
        return f"freeze {self.freeze_stages}, rate {self.learning_rate:g}, {self.epochs} epochs"


CUTS = (
    Cut("trashnet-a", "trashnet", ("cardboard", "glass", "metal")),
    Cut("field-a", "fieldphotos", ("metal", "plastic", "trash")),
    Cut("trashnet-b", "trashnet", ("paper", "plastic", "trash")),
    Cut("field-b", "fieldphotos", ("cardboard", "glass", "plastic")),
)
PRESENT = Choice(5, 1e-3, 20)
CHOICES = (
    PRESENT,
    Choice(5, 1e-4, 10),
    Choice(8, 3e-4, 10),
    Choice(5, 3e-4, 10),
    Choice(8, 1e-4, 10),
    Choice(8, 1e-3, 10),
)


def cut_photos(manifest: Manifest, cut: Cut, seed: int) -> dict[str, list[Photo]]:
    """Draw the photos of each split: train, val, held_out and test; the photos of a group stay together."""
    rng = np.random.default_rng(seed)
    splits: dict[str, list[Photo]] = {"train": [], "val": [], "held_out": [], "test": []}
    wanted = {"train": cut.train, "val": cut.val, "held_out": cut.held_out, "test": cut.held_out}
    for label in cut.classes:
        groups: dict[str, list[Photo]] = {}
        for photo in manifest.photos:
            if photo.label == label:
                groups.setdefault(photo.group, []).append(photo)
        names = [name for name in sorted(groups) if len({p.label for p in groups[name]}) == 1]
        order = iter([groups[names[i]][:OF_A_GROUP] for i in rng.permutation(len(names))])
        for split, number in wanted.items():
            chosen: list[Photo] = []
            while len(chosen) < number and (group := next(order, None)) is not None:
                chosen += group
            splits[split] += chosen[:number]
    return splits


def as_manifest(manifest: Manifest, cut: Cut, photos: dict[str, list[Photo]], **splits: str) -> Manifest:
    """Return a manifest whose splits have the named photos: `val="held_out"`."""
    rows = [replace(photo, split=split) for split, name in splits.items() for photo in photos[name]]
    rows.sort(key=lambda photo: photo.path)
    return replace(manifest, name=cut.name, photos=tuple(rows), labels=cut.classes)


def measured(network: TrashNetwork, data: TrainingData) -> float:
    scores, _ = validation_scores(network, data.val)
    return macro_f1(data.y_val, scores.argmax(1))


@dataclass(frozen=True)
class Study:
    """The folders and settings of the study."""

    options: argparse.Namespace

    def settings(self, choice: Choice, cut: Cut, seed: int) -> TrainSettings:
        height, width = self.options.size
        return TrainSettings(
            name=cut.source, data_dir=self.options.data_dir, architecture=self.options.architecture,
            input_height=height, input_width=width, seed=seed, freeze_stages=choice.freeze_stages, accelerator="cpu",
            learning_rate=choice.learning_rate, epochs=choice.epochs, pretrained=self.options.pretrained,
        )  # fmt: skip

    def run(self, cut: Cut, seed: int, choice: Choice) -> None:
        """Train one cut with one choice, and write its figures; nothing if they are there, or another process is at it."""
        folder = self.folder(cut, seed, choice)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Timeout), FileLock(folder / "lock").acquire(timeout=0):
            if not (folder / "figures.json").exists():
                self._train(cut, seed, choice, folder)

    def folder(self, cut: Cut, seed: int, choice: Choice) -> Path:
        name = f"freeze-{choice.freeze_stages}-rate-{choice.learning_rate:g}-epochs-{choice.epochs}"
        return Path(self.options.runs) / f"{cut.name}-{seed}" / name

    def _train(self, cut: Cut, seed: int, choice: Choice, folder: Path) -> None:
        began = time.perf_counter()
        settings = self.settings(choice, cut, seed)
        manifest = read_manifest(settings.processed_dir / cut.source)
        photos = cut_photos(manifest, cut, seed)
        data = TrainingData(as_manifest(manifest, cut, photos, train="train", val="val"), settings)
        further = TrainingData(as_manifest(manifest, cut, photos, val="held_out"), settings)
        network = begin(settings, data.manifest).network
        if settings.pretrained:
            fit_linear_head(network, data, settings.class_weighting)
        torch.save(network.state_dict(), folder / "head.pt")
        head, head_further = measured(network, data), measured(network, further)
        fine_tune(network, data, settings, folder, NoTracker())
        checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")["history"]
        rows = [row["val_macro_f1"] for row in checkpoint]
        state = read_checkpoint(folder / "checkpoints" / "best.ckpt")["state_dict"]
        network.load_state_dict(
            {name.removeprefix("network."): v for name, v in state.items() if name.startswith("network.")}
        )
        torch.save(network.state_dict(), folder / "tuned.pt")
        tuned, tuned_further = max(rows), measured(network, further)
        figures = {
            "set": cut.name, "seed": seed, "choice": str(choice), "head_val": head, "head": head_further,
            "tuned_val": tuned, "tuned": tuned_further, "kept": tuned_further if tuned > head else head_further,
            "best_epoch": 1 + rows.index(tuned), "epochs": len(rows), "curve": [round(row, 4) for row in rows],
            "n": {split: len(chosen) for split, chosen in photos.items()}, "size": list(settings.input_size),
            "seconds": round(time.perf_counter() - began, 1), "machine": machine(),
        }  # fmt: skip
        (folder / "figures.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
        shutil.rmtree(folder / "checkpoints")
        logging.info("DONE %s %d %s: head %.3f %.3f, tuned %.3f %.3f, kept %.3f in %.0f s", cut.name, seed, choice,
                     head, head_further, tuned, tuned_further, figures["kept"], figures["seconds"])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("reports/small_data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=int, nargs=2, default=(112, 144), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--architecture", default="efficientnet_lite0")
    options = parser.parse_args()
    options.pretrained = options.architecture != "sequential_cnn"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    for choice in CHOICES:
        for cut in CUTS:
            for seed in options.seeds:
                Study(options).run(cut, seed, choice)


if __name__ == "__main__":
    main()

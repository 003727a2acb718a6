"""Compare rates, epochs and frozen stages on small data sets, with the fitted head alone: references/small_data.json and .md.

    trash-classifier data trashnet
    trash-classifier data fieldphotos --source FOLDER
    python scripts/study_small_data.py
    python scripts/study_small_data.py --test "freeze 11, rate 0.001, 20 epochs"

Each set has three classes with at most 60 photos each in training and validation, split as a user's would be: 42 to train on
and 9 that select the epoch. Settings are compared on 30 further photos of each class, which no training reads; photos of a
class in a group are never on two sides. Every run writes a file and is not repeated, so that a killed study continues, and several
processes share it. `--test` measures the chosen settings and the head alone on test photos, and is meant to be given once.
"""

import argparse
import contextlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest, Photo, read_manifest
from image_classification_trash.evaluation.metrics import macro_f1
from image_classification_trash.networks.network import TrashNetwork, build_network
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
FIGURES, TEST = "figures.json", "test.json"


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


@dataclass(frozen=True)
class Plan:
    """What is trained."""

    cuts: tuple[Cut, ...]
    choices: tuple[Choice, ...]
    seeds: tuple[int, ...]
    architecture: str
    pretrained: bool
    size: tuple[int, int]


STUDY = Plan(
    (
        Cut("trashnet-a", "trashnet", ("cardboard", "glass", "metal")),
        Cut("field-a", "fieldphotos", ("metal", "plastic", "trash")),
        Cut("trashnet-b", "trashnet", ("paper", "plastic", "trash")),
        Cut("field-b", "fieldphotos", ("cardboard", "glass", "plastic")),
    ),
    (
        Choice(5, 1e-3, 20),  # the defaults for many photos
        Choice(5, 1e-4, 10),
        Choice(8, 3e-4, 10),
        Choice(11, 1e-3, 20),
        Choice(8, 1e-3, 20),
    ),
    (0, 1),
    "efficientnet_lite0",
    True,
    (112, 144),
)
TINY = Plan(
    (Cut("tiny-a", "tiny", ("glass", "metal", "paper"), 4, 2, 2),),
    (Choice(0, 1e-3, 2), Choice(2, 1e-4, 1)),
    (0,),
    "sequential_cnn",
    False,
    (32, 32),
)
"""Seconds instead of an hour: shows that the script works, on a data set `tiny` of those classes."""


def cut_photos(manifest: Manifest, cut: Cut, seed: int) -> dict[str, list[Photo]]:
    """Draw the photos of each split: train, val, held_out and test; the photos of a class in a group stay together."""
    rng = np.random.default_rng(seed)
    wanted = {"train": cut.train, "val": cut.val, "held_out": cut.held_out, "test": cut.held_out}
    splits: dict[str, list[Photo]] = {split: [] for split in wanted}
    for label in cut.classes:
        groups: dict[str, list[Photo]] = {}
        for photo in manifest.photos:
            if photo.label == label:
                groups.setdefault(photo.group, []).append(photo)
        names = sorted(groups)
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
    """A plan, the folder of the data sets and that of the runs."""

    plan: Plan
    data_dir: Path
    runs: Path

    def settings(self, choice: Choice, cut: Cut, seed: int) -> TrainSettings:
        height, width = self.plan.size
        return TrainSettings(
            name=cut.source, data_dir=self.data_dir, architecture=self.plan.architecture, pretrained=self.plan.pretrained,
            input_height=height, input_width=width, seed=seed, freeze_stages=choice.freeze_stages, accelerator="cpu",
            learning_rate=choice.learning_rate, epochs=choice.epochs,
        )  # fmt: skip

    def folder(self, cut: Cut, seed: int, choice: Choice) -> Path:
        name = f"freeze-{choice.freeze_stages}-rate-{choice.learning_rate:g}-epochs-{choice.epochs}"
        return self.runs / f"{cut.name}-{seed}" / name

    def train(self) -> None:
        """Train what is not trained yet, choice by choice; skip what another process is at."""
        for choice in self.plan.choices:
            for cut in self.plan.cuts:
                for seed in self.plan.seeds:
                    folder = self.folder(cut, seed, choice)
                    folder.mkdir(parents=True, exist_ok=True)
                    with contextlib.suppress(Timeout), FileLock(folder / "lock").acquire(timeout=0):
                        if not (folder / FIGURES).exists():
                            self.train_one(cut, seed, choice, folder)

    def train_one(self, cut: Cut, seed: int, choice: Choice, folder: Path) -> None:
        """Train one set with one choice; write the weights of the head and of the best epoch, and their figures."""
        began = time.perf_counter()
        settings = self.settings(choice, cut, seed)
        manifest = read_manifest(settings.processed_dir / cut.source)
        photos = cut_photos(manifest, cut, seed)
        data = TrainingData(as_manifest(manifest, cut, photos, train="train", val="val"), settings)
        further = TrainingData(as_manifest(manifest, cut, photos, val="held_out"), settings)
        network = begin(settings, data.manifest).network
        fit_linear_head(network, data)
        torch.save(network.state_dict(), folder / "head.pt")
        head_val, head = measured(network, data), measured(network, further)
        fine_tune(network, data, settings, folder, NoTracker())
        curve = [
            row["val_macro_f1"] for row in read_checkpoint(folder / "checkpoints" / "last.ckpt")["history"]
        ]
        torch.save(network.state_dict(), folder / "tuned.pt")
        tuned = measured(network, further)
        figures = {
            "set": cut.name, "seed": seed, "choice": str(choice), "head_val": head_val, "head": head,
            "tuned_val": max(curve), "tuned": tuned, "kept": tuned if max(curve) > head_val else head,
            "best_epoch": 1 + curve.index(max(curve)), "epochs": len(curve), "curve": [round(v, 4) for v in curve],
            "n": {split: len(chosen) for split, chosen in photos.items()}, "size": list(settings.input_size),
            "seconds": round(time.perf_counter() - began, 1), "machine": machine(),
        }  # fmt: skip
        (folder / FIGURES).write_text(json.dumps(figures) + "\n", encoding="utf-8")
        shutil.rmtree(folder / "checkpoints")
        logging.info("%s, seed %d, %s: head %.3f, fine-tuned %.3f", cut.name, seed, choice, head, tuned)

    def test(self, choice: Choice) -> None:
        """Measure the head and what a training with this choice keeps on the test photos of every set."""
        for cut in self.plan.cuts:
            for seed in self.plan.seeds:
                folder = self.folder(cut, seed, choice)
                if (folder / TEST).exists():
                    continue
                settings, figures = self.settings(choice, cut, seed), read(folder / FIGURES)
                manifest = read_manifest(settings.processed_dir / cut.source)
                photos = cut_photos(manifest, cut, seed)
                data = TrainingData(as_manifest(manifest, cut, photos, val="test"), settings)
                kept = "tuned" if figures["tuned_val"] > figures["head_val"] else "head"
                network = build_network(settings.architecture, len(cut.classes), pretrained=False)
                scores = {}
                for name in ("head", "tuned"):
                    network.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
                    scores[name] = measured(network, data)
                row = {
                    "set": cut.name, "seed": seed, "choice": str(choice), "n": len(photos["test"]), **scores,
                    "kept": scores[kept],
                }  # fmt: skip
                (folder / TEST).write_text(json.dumps(row) + "\n", encoding="utf-8")

    def shared(self) -> dict[str, int]:
        """Return for held_out and test the largest number of photos of a set whose group, in another class, is in train or val."""
        most = {"held_out": 0, "test": 0}
        for cut in self.plan.cuts:
            manifest = read_manifest(self.data_dir / "processed" / cut.source)
            for seed in self.plan.seeds:
                photos = cut_photos(manifest, cut, seed)
                seen = {photo.group for split in ("train", "val") for photo in photos[split]}
                for split, before in most.items():
                    most[split] = max(before, sum(photo.group in seen for photo in photos[split]))
        return most

    def found(self, name: str) -> list[dict[str, Any]]:
        """Return what the runs wrote, choice by choice."""
        folders = [
            self.folder(cut, seed, choice)
            for choice in self.plan.choices
            for cut in self.plan.cuts
            for seed in self.plan.seeds
        ]
        return [read(folder / name) for folder in folders if (folder / name).exists()]


def read(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def report(
    rows: Sequence[dict[str, Any]], tested: Sequence[dict[str, Any]], shared: dict[str, int], plan: Plan
) -> str:
    """Write the page: a row per choice, and the differences from the head, set by set."""
    sets = list(dict.fromkeys(f"{row['set']}, seed {row['seed']}" for row in rows))
    lines = [
        "# Small data: rate, epochs and frozen stages", "",
        "Written by `scripts/study_small_data.py` from `small_data.json`, which has every run.", "",
        f"{len(sets)} sets of three classes, at most {sum(rows[0]['n'][s] for s in ('train', 'val')) // 3} photos a class: "
        f"{rows[0]['n']['train']} photos to train on, {rows[0]['n']['val']} that select the epoch, {rows[0]['n']['held_out']} further "
        "ones that the figures are measured on. Photos of a class in a group are never divided; a group can show several classes, "
        f"so at most {shared['held_out']} of a set's further photos and {shared['test']} of its test photos share one with training. "
        f"{plan.architecture}, input {plan.size[0]} x {plan.size[1]}, one thread, {rows[0]['machine']}. "
        "The input is smaller than the default, for lack of computing time.", "",
        "Macro F1 in percent, mean over the sets. `head`: fitted head alone; `fine-tuned`: best epoch on validation; `kept`: the "
        "better of the two on validation, which a training keeps; `worst`: the largest loss of fine-tuning against the head in a set. "
        "After ± is the standard error over the sets: differences of this size are within chance.", "",
        "| choice | sets | head | fine-tuned | less head | worst | kept | less head |", "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for choice in dict.fromkeys(row["choice"] for row in rows):
        mine = [row for row in rows if row["choice"] == choice]
        lines.append(f"| {choice} | {len(mine)} | {cells(mine)} |")
    lines += ["", "| set | head | " + " | ".join(dict.fromkeys(row["choice"] for row in rows)) + " |"]
    lines.append("|---" * (2 + len({row["choice"] for row in rows})) + "|")
    for name in sets:
        mine = [row for row in rows if f"{row['set']}, seed {row['seed']}" == name]
        figures = " | ".join(f"{100 * row['tuned']:.1f}" for row in mine)
        lines.append(f"| {name} | {100 * mine[0]['head']:.1f} | {figures} |")
    if tested:
        lines += [
            "", f"## Test, read once, {tested[0]['choice']}", "",
            "| sets | head | fine-tuned | less head | worst | kept | less head |", "|---|---|---|---|---|---|---|",
            f"| {len(tested)} | {cells(tested)} |",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def cells(rows: Sequence[dict[str, Any]]) -> str:
    """Means of the head, of the best epoch and of the kept weights, their gain with its error, and the largest loss of a set."""
    head, tuned, kept = (np.array([100 * row[name] for row in rows]) for name in ("head", "tuned", "kept"))

    def gain(values: Any) -> str:
        more = values - head
        error = more.std(ddof=1) / len(more) ** 0.5 if len(more) > 1 else 0.0
        return f"{more.mean():+.1f} ± {error:.1f}"

    worst = min(0.0, (tuned - head).min())
    return f"{head.mean():.1f} | {tuned.mean():.1f} | {gain(tuned)} | {worst:.1f} | {kept.mean():.1f} | {gain(kept)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("reports/small_data"))
    parser.add_argument("--out", type=Path, default=Path("references"))
    parser.add_argument("--test", metavar="CHOICE", help="Measure this choice and the head on test photos")
    parser.add_argument("--tiny", action="store_true", help="Seconds, on a data set `tiny`")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    plan = TINY if options.tiny else STUDY
    study = Study(plan, options.data_dir, options.runs)
    choices = {str(choice): choice for choice in plan.choices}
    if options.test:
        study.test(choices[options.test])
    else:
        study.train()
    rows, tested = study.found(FIGURES), study.found(TEST)
    if not rows:
        parser.exit(1, "Nothing is trained yet.\n")
    options.out.mkdir(parents=True, exist_ok=True)
    shared = study.shared()
    document = {"runs": rows, "test": tested, "shared_groups": shared}
    (options.out / "small_data.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (options.out / "small_data.md").write_text(report(rows, tested, shared, plan), encoding="utf-8")


if __name__ == "__main__":
    main()

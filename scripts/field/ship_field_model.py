"""Make the bundle of a shipped model of the networks that were trained for the field: data, both ends, rejection head, calibration.

    python scripts/field/ship_field_model.py sources --trashnet dataset-resized.zip --field fieldphotos --work work
    trash-classifier data field --sources work/sources.yaml --no-embeddings
    python scripts/field/ship_field_model.py bundle --size small --work work --weights weights --output models/trashnet-fieldphotos
    trash-classifier export models/trashnet-fieldphotos --format tflite --quantize fp16
    make measure-release FIELD=fieldwaste

`sources` writes a data sources file with the splits that the networks were trained on: TrashNet's own, and of the field
photos a tenth of the groups for validation. `bundle` joins the `network.safetensors` of a size with ImageNet's last stages and
the head of `fit_field_rejection.py`, both in `work/small` or `work/large`, and calibrates on validation photos. The bundle names
the commit that it is made from, so nothing may be changed since.
"""

import argparse
import csv
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from re import fullmatch
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import read_manifest
from image_classification_trash.evaluation.calibration import calibrate
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference import bundle as bundle_files
from image_classification_trash.inference.bundle import NOTICE, WEIGHTS
from image_classification_trash.networks.network import TrashNetwork, build_network
from image_classification_trash.networks.rejection import run_pieces
from image_classification_trash.provenance import git_commit
from image_classification_trash.training.data import TrainingData
from image_classification_trash.training.fine_tuning import FineTuned
from image_classification_trash.training.record import (
    Ancestors,
    Run,
    conditions_of,
    resolved,
    training_record,
    write_trained,
)
from image_classification_trash.training.robustness import RejectionHeadRecord, ShiftRecord
from image_classification_trash.training.scores import validation_scores

TEMPLATE = Path("configs/sources/fieldphotos.yaml")
SHARED = 5
"""Stages that were frozen, and that both ends share."""
FROZEN = 0.01
"""Share of the largest activation by which the shared stages may differ: they went through half precision."""


@dataclass(frozen=True)
class Kind:
    """A size of the shipped model.

    Attributes:
        seconds: duration of the trainings that the network descends from; `shipped` is the model shipped before.
        recipe: where the settings that say nearest what `train_field.py` did differ from `RECIPE`.
    """

    seconds: Mapping[str, float]
    recipe: Mapping[str, Any]


TEACHERS = {"shipped": 1948.0, "final-0": 73.0, "teacher-0": 166.0, "teacher-1": 170.0}
KINDS = {
    "small": Kind(
        {**TEACHERS, "student-0": 86.0, "student-1": 69.0, "last-0": 1044.0, "last-1": 922.0},
        {
            "architecture": "efficientnet_lite0",
            "epochs": 15,
            "seed": 10,
            "backbone_rate": 0.5,
            "wise_ft": 0.4,
        },
    ),
    "large": Kind(
        TEACHERS,
        {"architecture": "efficientnet_lite2", "epochs": 23, "seed": 0, "backbone_rate": 1.0, "wise_ft": 1.0},
    ),
}
LICENCE = "MIT, the project's own"
MACHINES = (
    "linux x86_64, NVIDIA H100 80GB HBM3",
    "linux x86_64, NVIDIA H200",
    "linux x86_64, 2 threads, no accelerator",
)
RECIPE = {
    "input_height": 224, "input_width": 288, "batch_size": 96, "freeze_stages": SHARED, "rotation": 180.0, "brightness": 0.5,
    "contrast": 0.4, "mixup": 0.0, "copy_paste": 0.35, "corruption": 0.4, "outliers": 0.08, "rejection_head": True,
    "max_rejected": 0.03,
}  # fmt: skip
"""Settings of all sizes that say nearest what `train_field.py` did."""


def write_sources(options: argparse.Namespace) -> None:
    """Write the table of field photos with their splits, and the data sources file that reads it."""
    table = options.work / "fieldphotos.csv"
    with (options.field / "sources.csv").open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    for row in rows:
        tenth = int(hashlib.sha256(row["group"].encode()).hexdigest(), 16) % 10 == 0  # as Table.in_slice
        row["split"] = "val" if tenth and row["mapped_class"] != "_notwaste" else "train"
    with table.open("w", encoding="utf-8", newline="") as written:
        writer = csv.DictWriter(written, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    document = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    for source in document["sources"]:
        if source["name"] == "trashnet":
            source["path"] = str(options.trashnet.resolve())
            continue
        source |= {"path": str(table.resolve()), "photos": str(options.field.resolve())}
        source["columns"] = {**source["columns"], "split": "split"}
        if source["role"] == "train":
            source["role"] = "train and validation"
    (options.work / "sources.yaml").write_text(
        yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def joined(folder: Path, architecture: str, classes: int) -> TrashNetwork:
    """Build the network: fine-tuned for the classes, ImageNet's last stages and the prototypes for the rejection head."""
    network = build_network(architecture, classes).eval()
    network.rejection_tail = network.copy_tail(SHARED)
    x = torch.randint(0, 256, (2, 3, 224, 288), generator=torch.Generator().manual_seed(0)) / 128 - 1
    state = safetensors.torch.load_file(folder / "network.safetensors")
    with torch.inference_mode():
        before = run_pieces(network.pieces()[:SHARED], x)
        missing, foreign = network.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
        apart = float((before - run_pieces(network.pieces()[:SHARED], x)).abs().max() / before.abs().max())
    alien = [
        name for name in missing if name.startswith(("backbone.", "head.")) and "num_batches" not in name
    ]
    if foreign or alien or apart > FROZEN:
        raise SystemExit(
            f"{folder}: the network does not fit: {alien[:2]} {foreign[:2]}, shared stages {apart:.2g} apart"
        )
    with np.load(folder / "rejection_head.npz") as head:
        network.set_prototype_head(head["prototypes"], head["weight"], float(head["bias"]))
    return network


def write_bundle(options: argparse.Namespace) -> None:
    """Calibrate on the validation split and write the bundle."""
    began, kind, folder = time.perf_counter(), KINDS[options.size], options.work / options.size
    if not fullmatch("[0-9a-f]{12,40}", commit := git_commit()):
        raise SystemExit(
            f"The bundle would name the commit {commit}, which nobody can look up: commit first."
        )
    place = {"name": "field", "output": options.output.name, "models_dir": options.output.parent}
    settings = TrainSettings.model_validate({**RECIPE, **kind.recipe, **place})
    manifest = read_manifest(settings.processed_dir / settings.name)
    network, data = (
        joined(folder, settings.architecture, len(manifest.labels)),
        TrainingData(manifest, settings),
    )
    scores, waste = validation_scores(network, data.val)
    assert waste is not None
    chosen_by = settings.target_precision, settings.max_rejected, settings.prediction_set_coverage
    calibration = calibrate(data.y_val, scores, waste, *chosen_by)
    network.temperature.fill_(calibration.temperature)
    right = scores.argmax(1) == data.y_val
    source = np.array([photo.source == "trashnet" for photo in manifest.photos_of("val")])
    with np.load(folder / "rejection_head.npz") as head:
        record = RejectionHeadRecord(float(head["auroc"]), float((waste >= 0.5).mean()))
    shift = ShiftRecord(
        {"TrashNet": float(right[source].mean()), "field, groups left out": float(right[~source].mean())},
        record,
    )
    used = resolved(settings)
    run = Run(options.work, used, conditions_of(used, manifest), began)
    seconds = {
        sha256_of_file(options.weights / f"{name}.safetensors"): value for name, value in kind.seconds.items()
    }
    done = training_record(
        run, Ancestors(seconds, MACHINES), calibration.validation, None, FineTuned([], None), shift
    )
    bundle = write_trained(options.output, settings, manifest, network, calibration, done, [])
    files = {file.name: file.read_bytes() for file in bundle.path.iterdir() if file.name in (WEIGHTS, NOTICE)}
    bundle_files.write_bundle(bundle.path, replace(bundle.config, license=LICENCE), files)
    print(bundle.path, calibration, shift)


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", choices=["sources", "bundle"])
    parser.add_argument("--work", type=Path, required=True, help="folder of what the other scripts wrote")
    parser.add_argument("--trashnet", type=Path, help="dataset-resized.zip")
    parser.add_argument("--field", type=Path, help="the folder with sources.csv")
    parser.add_argument("--size", choices=list(KINDS), default="small", help="of the model to make")
    parser.add_argument("--weights", type=Path, help="folder of networks")
    parser.add_argument("--output", type=Path, help="bundle to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"sources": write_sources, "bundle": write_bundle}[options.step](options)


if __name__ == "__main__":
    main()

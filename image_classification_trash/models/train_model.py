"""Train a classifier and write its bundle: a head on cached embeddings, then the whole network.

    python -m image_classification_trash.models.train_model sample --epochs 4
    trash-classifier train trashnet --config configs/efficientnet_lite0.yaml

Every choice (head strength, best epoch, temperature, threshold) is made on the validation part; the test part is not
read here. Logs, the resolved settings and checkpoints go to `reports/training/NAME/`.
"""

import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from image_classification_trash.arrays import Ints
from image_classification_trash.config.base import TrackSettings
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest, Split, read_manifest, truth_of
from image_classification_trash.errors import TrainingError
from image_classification_trash.evaluation.calibration import (
    candidate_sets,
    cap_threshold,
    choose_threshold,
    fit_candidate_mass,
    fit_temperature,
)
from image_classification_trash.evaluation.metrics import answered, macro_f1, softmax
from image_classification_trash.features.build_features import PixelSettings, embeddings, pixel_cache
from image_classification_trash.files import sha256_of_file, write_text
from image_classification_trash.inference.bundle import (
    NEGATIVE_LABEL,
    WEIGHTS,
    Bundle,
    BundleConfig,
    read_bundle,
    write_bundle,
)
from image_classification_trash.inference.images import Size
from image_classification_trash.networks.backbones import has_pretrained_weights
from image_classification_trash.networks.device import keep_freed_memory
from image_classification_trash.networks.network import (
    PIECE,
    EmbeddingBackbone,
    TrashNetwork,
    build_network,
    load_network,
    network_bytes,
    to_planes,
)
from image_classification_trash.provenance import git_commit, library_versions, machine
from image_classification_trash.tracking.wandb_tracker import Tracker, tracking
from image_classification_trash.training.batches import OrderedBatches, Part
from image_classification_trash.training.checkpoints import HISTORY, history_csv, seconds_trained
from image_classification_trash.training.fine_tuning import fine_tune
from image_classification_trash.training.linear_head import LinearHead, fit_head
from image_classification_trash.training.robustness import learn_shift, robust, watched
from image_classification_trash.training.weight_averaging import go_on_from

CACHE_MARGIN = 1.2
"""Training photos are cached this much larger than the input, so that crops need not be blown up."""


def train(settings: TrainSettings) -> Bundle | None:
    """Train as the settings say and write the bundle.

    Returns:
        The bundle; None in all processes but the first of a training on several devices.

    Raises:
        DatasetError: the data set is not prepared.
        TrainingError: unknown architecture, foreign weights, nothing to train, or nothing to resume.
        MissingExtraError: the tracker's library is not installed.
    """
    with tracking(settings, settings.reports_dir, "train") as tracker:
        return train_with(settings, tracker)


def train_with(settings: TrainSettings, tracker: Tracker) -> Bundle | None:
    """Train as `train` does, with a tracker of the caller's; what its `log_epoch` raises ends the training."""
    keep_freed_memory()
    started = time.perf_counter()
    manifest = read_manifest(settings.processed_dir / settings.name)
    folder = settings.reports_dir / "training" / settings.bundle_name
    torch.manual_seed(settings.seed)
    network = build_network(
        settings.architecture, len(manifest.labels), settings.pretrained, settings.weights, settings.dropout
    )
    earlier = {path: read_bundle(path) for path in (*settings.start, *settings.teacher)}
    if settings.start:
        go_on_from(network, [earlier[path] for path in settings.start], manifest.labels)
    teachers = [as_teacher(earlier[path], manifest.labels) for path in settings.teacher]
    ancestors = seconds_of_ancestors(earlier.values())
    _check_plan(settings, manifest)
    before = seconds_trained(folder) if settings.resume else 0.0
    _write_conditions(folder, settings, manifest)
    tracker.log_config(resolved(settings))
    tracker.log_dataset(manifest)
    head = _fit_head(network, settings, manifest) if _wants_head(settings) else None
    history: list[dict[str, float]] | None = []
    if settings.epochs:
        train_part = robust(
            _part(manifest, "train", _cache_size(settings.input_size), settings), manifest, settings
        )
        val_part = watched(_part(manifest, "val", settings.input_size, settings), manifest, settings)
        history = fine_tune(
            network, settings, train_part, val_part, len(manifest.labels), folder, tracker, teachers
        )
        if history is None:
            return None
    correct_frequencies(
        network, truth_of(manifest.part("train"), manifest.labels), settings.frequency_correction
    )
    shift = learn_shift(network, settings, manifest) if settings.detector else {}
    truth, embedded = _validation_embeddings(network, settings, manifest)
    config = _describe(settings, manifest, network, truth, embedded)
    seconds = before + time.perf_counter() - started + sum(ancestors.values())
    config.training.update(_record(head, history, seconds) | {"ancestors": ancestors} | shift)
    config.training["machine"] = _machines(earlier.values())
    files = {WEIGHTS: network_bytes(network)}
    if history:
        files[HISTORY] = history_csv(history).encode()
    bundle = write_bundle(settings.models_dir / settings.bundle_name, config, files)
    tracker.log_bundle(bundle)
    return bundle


def as_teacher(bundle: Bundle, labels: Sequence[str]) -> TrashNetwork:
    """The network of a bundle to learn from, of any architecture.

    Raises:
        TrainingError: it tells other classes apart.
    """
    if bundle.config.classes != tuple(labels):
        found = f"{bundle.path} tells {', '.join(bundle.config.classes)} apart."
        raise TrainingError(found, f"Learn from bundles for {', '.join(labels)}, or without --teacher.")
    return load_network(bundle)


def correct_frequencies(network: TrashNetwork, truth: Ints, share: float) -> None:
    """Take `share` of the classes' log frequencies among training photos off their scores (logit adjustment, Menon et al., 2021).

    How frequent a class is where photos will be taken is not known from how frequent it is among those of training. A
    loss weighted by frequency to the power of minus w has taken off w of it already; 1 - w more makes all classes alike.
    """
    network.shift_scores(-share * np.log(np.bincount(truth) / len(truth)))


def _wants_head(settings: TrainSettings) -> bool:
    begins_trained = settings.weights is not None or (
        settings.pretrained and has_pretrained_weights(settings.architecture)
    )
    # A resumed run has its head from the checkpoint, unless its weights are to be blended with those of the start.
    return (
        not settings.start
        and settings.head
        and begins_trained
        and (not settings.resume or settings.blend < 1)
    )


def _check_plan(settings: TrainSettings, manifest: Manifest) -> None:
    for part in ("train", "val"):
        missing = [label for label, count in manifest.counts()[part].items() if not count]
        if part == "train" and missing:
            found = f"No training photo of: {', '.join(missing)}."
            raise TrainingError(found, "Prepare the data with another --split, or add photos.")
        if part == "val" and len(missing) == len(manifest.labels):
            raise TrainingError(
                "The validation part is empty.", "Prepare the data with a larger --val-fraction."
            )
    if settings.detector and NEGATIVE_LABEL in manifest.labels:
        found = f"The data set has a class {NEGATIVE_LABEL!r} of its own."
        raise TrainingError(found, "Train without the detector, or rename the class.")
    if not settings.epochs and not settings.start and not _wants_head(settings):
        hint = "Give --epochs 1 or more, or begin from pretrained weights with a head."
        raise TrainingError("There is nothing to train: no epochs, and no head on pretrained weights.", hint)


def _fit_head(network: TrashNetwork, settings: TrainSettings, manifest: Manifest) -> LinearHead:
    backbone = EmbeddingBackbone(network)
    pixels = PixelSettings(settings.input_size, settings.fit)
    parts = [manifest.part(split) for split in ("train", "val")]
    vectors = [embeddings(part, manifest.root, backbone, pixels, settings.interim_dir) for part in parts]
    truths = [truth_of(part, manifest.labels) for part in parts]
    head = fit_head(
        vectors[0], truths[0], vectors[1], truths[1], len(manifest.labels), settings.class_weighting
    )
    network.set_linear_head(head.weight, head.bias)
    return head


def _part(manifest: Manifest, split: Split, size: Size, settings: TrainSettings) -> Part:
    photos = manifest.part(split)
    pixels = pixel_cache(
        photos, manifest.root, PixelSettings(size, settings.fit), settings.interim_dir, split
    )
    return Part(pixels, truth_of(photos, manifest.labels))


def _cache_size(size: Size) -> Size:
    height, width = (round(side * CACHE_MARGIN / 16) * 16 for side in size)
    return height, width


def _validation_embeddings(
    network: TrashNetwork, settings: TrainSettings, manifest: Manifest
) -> tuple[Ints, torch.Tensor]:
    """Class numbers (N,) and embeddings (N, D) of the validation part, from pixels at the input size."""
    part = _part(manifest, "val", settings.input_size, settings)
    network = network.eval().cpu()
    with torch.inference_mode():
        vectors = [network.embed(to_planes(photos)) for photos, _ in OrderedBatches(part, PIECE)]
    return part.truth, torch.cat(vectors)


def _describe(
    settings: TrainSettings, manifest: Manifest, network: TrashNetwork, truth: Ints, embedded: torch.Tensor
) -> BundleConfig:
    """Calibrate on validation and write down what the model is and where it comes from."""
    with torch.inference_mode():
        scores = network.head(embedded).numpy().astype(np.float64)  # (N, C)
        waste = (
            None if network.detector is None else torch.sigmoid(network.detector(embedded)).numpy()
        )  # (N, 1)
    temperature = fit_temperature(truth, scores)
    network.temperature.fill_(temperature)
    shares = softmax(scores / temperature)
    mass = fit_candidate_mass(truth, shares, settings.candidate_coverage)
    probabilities = shares * (1 if waste is None else waste)
    threshold = choose_threshold(truth, probabilities, settings.target_precision)
    threshold = cap_threshold(probabilities, threshold, settings.most_turned_away)
    validation = {
        "n": len(truth),
        "accuracy": float((scores.argmax(1) == truth).mean()),
        "macro_f1": macro_f1(truth, scores.argmax(1)),
        **answered(truth, probabilities, threshold, None if waste is None else waste[:, 0]),
        "candidates": candidate_sets(truth, shares, mass),
    }
    return BundleConfig(
        name=settings.bundle_name,
        architecture=settings.architecture,
        labels=(*manifest.labels, *([] if waste is None else [NEGATIVE_LABEL])),
        input_height=settings.input_height,
        input_width=settings.input_width,
        fit=settings.fit,
        temperature=temperature,
        threshold=threshold,
        data=_data_record(manifest),
        training={"settings": resolved(settings), "validation": validation},
        git_commit=git_commit(),
        versions=library_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        negative_label=None if waste is None else NEGATIVE_LABEL,
        candidate_mass=mass,
    )


def _data_record(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "split": manifest.about["split"],
        "counts": manifest.counts(),
        "overlap": manifest.about["near_duplicates"]["overlap"],
        "corrections": manifest.about.get("corrections"),
    }


def _record(
    head: LinearHead | None, history: list[dict[str, float]] | None, seconds: float
) -> dict[str, Any]:
    record: dict[str, Any] = {"seconds": round(seconds, 1)}
    if head is not None:
        record["head"] = {"strength": head.strength, "val_accuracy": head.val_accuracy}
    if history:
        best = max(history, key=lambda row: row["val_macro_f1"])
        record["epochs_run"], record["best_epoch"] = len(history), int(best["epoch"])
    return record


def seconds_of_ancestors(bundles: Iterable[Bundle]) -> dict[str, float]:
    """Seconds of each training that one goes on or learned from, by the checksum of its weights: a shared one counts once.

    Args:
        bundles: that it began or learns from; those that they go back to are in their records.
    """
    found: dict[str, float] = {}
    for bundle in bundles:
        earlier: dict[str, float] = bundle.config.training.get("ancestors", {})
        own = bundle.config.training["seconds"] - sum(earlier.values())
        found |= {**earlier, sha256_of_file(bundle.weights): round(own, 1)}
    return found


def _machines(bundles: Iterable[Bundle]) -> str:
    """The machines of the bundles it began or learned from, and this one."""
    earlier = [bundle.config.training["machine"] for bundle in bundles]
    return "; ".join(dict.fromkeys([*earlier, machine()]))


def _write_conditions(folder: Path, settings: TrainSettings, manifest: Manifest) -> None:
    """The resolved settings and the conditions of the run, beside its logs."""
    conditions = {
        "data_fingerprint": manifest.fingerprint,
        "git_commit": git_commit(),
        "machine": machine(),
        "versions": library_versions(),
    }
    write_text(folder / "config.yaml", yaml.safe_dump({"train": resolved(settings)}, sort_keys=False))
    write_text(folder / "conditions.json", json.dumps(conditions, indent=2) + "\n")


def resolved(settings: TrainSettings) -> dict[str, Any]:
    """All settings of a training as they were used, without its folders and its tracker."""
    hidden = {
        "config",
        "resume",
        *TrackSettings.model_fields,
        *(name for name in type(settings).model_fields if name.endswith("_dir")),
    }
    return settings.model_dump(mode="json", exclude=hidden)


if __name__ == "__main__":
    from image_classification_trash.cli import main

    main(["train"])

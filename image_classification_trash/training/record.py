"""Records of a training: beside its logs when it starts, and in its bundle when it ends."""

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from image_classification_trash.config.base import InputSettings, TrackSettings
from image_classification_trash.config.training import CalibrationSettings, TrainSettings
from image_classification_trash.data.manifest import Manifest
from image_classification_trash.errors import DivergedError
from image_classification_trash.evaluation.attribution import notice_text
from image_classification_trash.evaluation.calibration import Calibration, Validation
from image_classification_trash.evaluation.result import StartComparison
from image_classification_trash.files import sha256_of_file, write_text
from image_classification_trash.inference.bundle import (
    NEGATIVE_LABEL,
    NOTICE,
    TRASHNET_LICENSE,
    UNSTATED,
    WEIGHTS,
    Bundle,
    BundleConfig,
    is_trashnet,
    write_bundle,
)
from image_classification_trash.networks.network import TrashNetwork, network_bytes, not_finite
from image_classification_trash.provenance import git_commit, library_versions, machine
from image_classification_trash.tracking.wandb_tracker import Tracker
from image_classification_trash.training.checkpoints import (
    HISTORY,
    check_resumable,
    history_csv,
    seconds_trained,
)
from image_classification_trash.training.fine_tuning import FineTuned
from image_classification_trash.training.linear_head import LinearHead
from image_classification_trash.training.robustness import RejectionHeadRecord, ShiftRecord


@dataclass(frozen=True)
class Ancestors:
    """The trainings that one starts from or distils.

    Attributes:
        seconds: duration of each, by the checksum of its weights, so that a shared one counts once.
        machines: machines that they ran on.
    """

    seconds: Mapping[str, float]
    machines: tuple[str, ...]

    @classmethod
    def of(cls, bundles: Sequence[Bundle]) -> "Ancestors":
        """Collect the ancestors of bundles: the bundles themselves, and those in their records."""
        found: dict[str, float] = {}
        for bundle in bundles:
            earlier: dict[str, float] = bundle.config.training.get("ancestors", {})
            own = bundle.config.training["seconds"] - sum(earlier.values())
            found |= {**earlier, sha256_of_file(bundle.weights): round(own, 1)}
        return cls(found, tuple(bundle.config.training["machine"] for bundle in bundles))


@dataclass(frozen=True)
class Conditions:
    """The data, code, machine and libraries of a run, named as in conditions.json."""

    data_fingerprint: str
    git_commit: str
    machine: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A training in progress.

    Attributes:
        folder: logs and checkpoints.
        settings: as resolved.
        conditions: data and settings that its weights depend on, as `conditions_of` returns them.
        began: start on `time.perf_counter`, set back by the duration of the run that it resumes.
    """

    folder: Path
    settings: Mapping[str, Any]
    conditions: Mapping[str, Any]
    began: float

    def seconds(self) -> float:
        """Return the duration so far, including the run that it resumes."""
        return time.perf_counter() - self.began


@dataclass(frozen=True)
class HeadRecord:
    """How the linear head was chosen, named as in `LinearHead`."""

    inverse_regularisation: float
    val_accuracy: float


@dataclass(frozen=True)
class TrainingRecord:
    """The training section of a bundle's config.json; entries that are None are omitted."""

    settings: Mapping[str, Any]
    validation: Validation
    seconds: float
    head: HeadRecord | None
    epochs_run: int | None
    best_epoch: int | None
    comparison: StartComparison | None
    ancestors: Mapping[str, float]
    validation_under_shift: Mapping[str, float] | None
    rejection_head: RejectionHeadRecord | None
    machine: str

    def as_json(self) -> dict[str, Any]:
        """Return the section as plain data for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class DataRecord:
    """The data section of a bundle's config.json; the last two entries are omitted without a data sources file."""

    name: str
    fingerprint: str
    split: Mapping[str, Any]
    counts: Mapping[str, Mapping[str, int]]
    overlap: Mapping[str, Any]
    corrections: Mapping[str, Any] | None
    sources: Sequence[Mapping[str, Any]] | None = None
    not_waste: Mapping[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the section as plain data for JSON."""
        document = asdict(self)
        return {k: v for k, v in document.items() if v is not None or k not in ("sources", "not_waste")}

    @classmethod
    def of(cls, manifest: Manifest) -> "DataRecord":
        """Return the section for a data set."""
        made, counts = asdict(manifest.metadata), manifest.counts()
        overlap = made["near_duplicates"]["overlap"]
        sources = made["sources"] if manifest.metadata.sources is not None else None
        not_waste = Counter(photo.split for photo in manifest.not_waste)
        return cls(
            manifest.name,
            manifest.fingerprint,
            made["split"],
            counts,
            overlap,
            made["corrections"],
            sources,
            dict(not_waste) or None,
        )


def open_run(settings: TrainSettings, manifest: Manifest, tracker: Tracker, began: float) -> Run:
    """Write the resolved settings and the conditions beside the logs, and log them to the tracker.

    Args:
        settings: of the training.
        manifest: of its data.
        tracker: logs the settings and the data.
        began: start, on `time.perf_counter`.

    Raises:
        TrainingError: there is no checkpoint to resume, it is damaged, or it has other data or settings.
    """
    folder, used = settings.reports_dir / "training" / settings.bundle_name, resolved(settings)
    made_with = conditions_of(used, manifest)
    if settings.resume:  # before anything of the earlier run is overwritten
        check_resumable(folder, made_with)
        began -= seconds_trained(folder)
    run = Run(folder, used, made_with, began)
    conditions = Conditions(manifest.fingerprint, git_commit(), machine(), library_versions())
    write_text(folder / "config.yaml", yaml.safe_dump({"train": run.settings}, sort_keys=False))
    write_text(folder / "conditions.json", json.dumps(asdict(conditions), indent=2) + "\n")
    tracker.log_config(run.settings)
    tracker.log_dataset(manifest)
    return run


def resolved(settings: TrainSettings) -> dict[str, Any]:
    """Return all settings of a training as used, without folders and tracker."""
    hidden = {
        "config",
        "resume",
        *TrackSettings.model_fields,
        *(name for name in type(settings).model_fields if name.endswith("_dir")),
    }
    return settings.model_dump(mode="json", exclude=hidden)


def conditions_of(used: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Return the data and `resolved` settings that the weights of a run depend on up to its last epoch, as plain data.

    Files and bundles are identified by the checksums of their weights, so that they may be moved but not replaced. Names,
    folders and settings of the steps after the last epoch are excluded: a resumed run may change them.
    """
    free = {
        "name",
        "output",
        "accelerator",
        "workers",
        "wise_ft",
        "rejection_head",
        *CalibrationSettings.model_fields,
    }
    chosen = {name: value for name, value in used.items() if name not in free}
    files = {
        "weights": used["weights"] and sha256_of_file(Path(used["weights"]))[:12],
        "init_from": [sha256_of_file(Path(path) / WEIGHTS)[:12] for path in used["init_from"]],
        "teacher": [sha256_of_file(Path(path) / WEIGHTS)[:12] for path in used["teacher"]],
    }
    return {"data": manifest.fingerprint[:12], "classes": list(manifest.labels), **chosen, **files}


def training_record(
    run: Run,
    ancestors: Ancestors,
    validation: Validation,
    head: LinearHead | None,
    tuned: FineTuned,
    shift: ShiftRecord | None,
) -> TrainingRecord:
    """Make the record of a finished training.

    Args:
        run: what was recorded at its start.
        ancestors: trainings that it started from or distilled.
        validation: figures on the val split.
        head: linear head that was fitted first; None if none was.
        tuned: history of fine-tuning, which may be empty, and its comparison with the start.
        shift: figures on shifted photos; None without a rejection head.
    """
    epochs = [row for row in tuned.history if row["epoch"]]
    best = max(epochs, key=lambda row: row["val_macro_f1"], default=None)
    return TrainingRecord(
        settings=run.settings,
        validation=validation,
        seconds=round(run.seconds() + sum(ancestors.seconds.values()), 1),
        head=None if head is None else HeadRecord(head.inverse_regularisation, head.val_accuracy),
        epochs_run=len(epochs) or None,
        best_epoch=None if best is None else int(best["epoch"]),
        comparison=tuned.comparison,
        ancestors=ancestors.seconds,
        validation_under_shift=None if shift is None else shift.validation_under_shift,
        rejection_head=None if shift is None else shift.rejection_head,
        machine="; ".join(dict.fromkeys([*ancestors.machines, machine()])),
    )


def write_trained(
    folder: Path,
    size: InputSettings,
    manifest: Manifest,
    network: TrashNetwork,
    calibration: Calibration,
    training: TrainingRecord,
    history: Sequence[Mapping[str, float]],
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> Bundle:
    """Write the bundle `folder`, named like it: weights, description with provenance, history if any, and `more` files.

    Raises:
        DivergedError: a weight, the temperature or a threshold is not finite; an earlier bundle of that name is kept.
    """
    numbers = ("temperature", "threshold", "conformal_threshold")
    bad = [
        *not_finite(network.state_dict()),
        *(name for name in numbers if not math.isfinite(getattr(calibration, name))),
    ]
    if bad:
        found = f"The trained model is not written: {len(bad)} of its weights and thresholds are not finite, such as {bad[0]}."
        raise DivergedError(found, "Lower --learning-rate, raise --warmup-epochs, or check the photos.")
    labels = (*manifest.labels, *([NEGATIVE_LABEL] if network.rejection_head is not None else []))
    data = DataRecord.of(manifest).as_json()
    config = BundleConfig(
        name=folder.name,
        architecture=network.architecture,
        labels=labels,
        input_height=size.input_height,
        input_width=size.input_width,
        resize_mode=size.resize_mode,
        temperature=calibration.temperature,
        threshold=calibration.threshold,
        data=data,
        training=training.as_json(),
        git_commit=git_commit(),
        versions=library_versions(),
        license=TRASHNET_LICENSE if is_trashnet(manifest.name, manifest.labels) else UNSTATED,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        negative_label=None if network.rejection_head is None else NEGATIVE_LABEL,
        conformal_threshold=calibration.conformal_threshold,
    )
    files = {WEIGHTS: network_bytes(network), **more}
    if history:
        files[HISTORY] = history_csv(history).encode()
    if data.get("sources"):
        files[NOTICE] = notice_text(folder.name, data["sources"]).encode()
    return write_bundle(folder, config, files)

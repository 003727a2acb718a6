"""Train a classifier and write its bundle: a linear head on cached embeddings, then the whole network.

    python -m image_classification_trash.models.train_model sample --epochs 4
    trash-classifier train trashnet --config efficientnet_lite0

Every choice (head strength, best epoch, temperature, threshold) is made on the validation split; the test split is not
read here. Logs, the resolved settings and checkpoints go to `reports/training/NAME/`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import read_manifest
from image_classification_trash.evaluation.result import StartComparison
from image_classification_trash.features.class_means import FILE as CLASS_MEANS
from image_classification_trash.features.class_means import measure_class_means
from image_classification_trash.files import check_replaceable, only_writer
from image_classification_trash.inference.bundle import CONFIG, Bundle
from image_classification_trash.networks.device import is_first_process, keep_freed_memory
from image_classification_trash.networks.network import EmbeddingBackbone
from image_classification_trash.show import Result, Shown, say
from image_classification_trash.tracking.wandb_tracker import Tracker, tracking
from image_classification_trash.training.data import TrainingData
from image_classification_trash.training.fine_tuning import fine_tune
from image_classification_trash.training.linear_head import fit_linear_head
from image_classification_trash.training.record import open_run, training_record, write_trained
from image_classification_trash.training.robustness import ShiftRecord, fit_rejection_head
from image_classification_trash.training.scores import adjust_logits, calibrate_network
from image_classification_trash.training.start import begin, with_defaults_for


@dataclass(frozen=True)
class Trained(Result):
    """The bundle of a training; None in every process but the first of a training on several devices."""

    bundle: Bundle | None
    measured: bool = False
    """Whether its evaluation follows, so that it need not be advised."""

    def for_people(self) -> Iterator[Shown]:
        """Yield the comparison with the start, the validation accuracy and the next command."""
        if self.bundle is not None:
            validation = self.bundle.config.training["validation"]
            if compared := self.bundle.config.training.get("comparison"):
                yield str(StartComparison(**compared))
            yield f"{self.bundle.path}: validation accuracy {validation['accuracy']:.1%}, n = {validation['n']}"
            if not self.measured:
                yield f"Measure it on test photos: trash-classifier evaluate {self.bundle.path}"

    def as_json(self) -> dict[str, Any] | None:
        """Return the path of the bundle, its validation metrics, and the comparison with the start if there is one."""
        if self.bundle is None:
            return None
        training = self.bundle.config.training
        kept: dict[str, Any] = {
            name: training[name] for name in ("validation", "comparison") if name in training
        }
        return {"bundle": str(self.bundle.path), **kept}


def train(settings: TrainSettings, until: float | None = None) -> Bundle | None:
    """Train as the settings say and write the bundle.

    Args:
        settings: of the training.
        until: when to be done, evaluation included, on `time.perf_counter`; None for no limit.

    Returns:
        The bundle; None in every process but the first of a training on several devices.

    Raises:
        DatasetError: the data set is not prepared.
        TrainingError: unknown architecture, weights of another network, nothing to train, or nothing to resume.
        DivergedError: a loss or a weight is not finite; no bundle is written.
        MissingExtraError: the tracker's library is not installed.
        BusyError: another training of the same name, or an evaluation or export of its model, is running.
        OutputError: something that is no model has its name.
    """
    places = (
        settings.models_dir / settings.bundle_name,
        settings.reports_dir / "training" / settings.bundle_name,
    )
    with ExitStack() as held:
        if is_first_process():  # the others belong to its training
            check_replaceable(places[0], CONFIG)
            for place in places:
                held.enter_context(only_writer(place))
        tracker = held.enter_context(tracking(settings, settings.reports_dir, "train"))
        return train_with(settings, tracker, until, keeps_means=until is None)


def train_with(
    settings: TrainSettings, tracker: Tracker, until: float | None = None, keeps_means: bool = False
) -> Bundle | None:
    """Train as `train` does, with the caller's tracker; an exception from its `log_epoch` ends the training.

    With `keeps_means` the bundle has the class means that `adapt` holds on to, where photos are embedded anyway or a head was
    fitted to embeddings.
    """
    keep_freed_memory()
    began = time.perf_counter()
    manifest = read_manifest(settings.processed_dir / settings.name)
    settings = with_defaults_for(settings, manifest)
    data, start = TrainingData(manifest, settings), begin(settings, manifest)
    run, network = open_run(settings, data.manifest, tracker, began), start.network
    if is_first_process():
        photos = {split: sum(counts.values()) for split, counts in manifest.counts().items()}
        say(
            f"training {settings.bundle_name} on {start.device.type}: {photos['train']} photos to train on, {photos['val']} to "
            f"validate, {len(manifest.labels)} classes; logs in {run.folder}"
        )
    head = fit_linear_head(network, data) if start.fits_head else None
    tuned = fine_tune(
        network, data, settings, run.folder, tracker, start.teachers, run.conditions, start.answers, until
    )
    if tuned is None:  # another process writes the bundle
        return None
    adjust_logits(network, data.y_train, settings.logit_adjustment, data.photo_weights)
    network.rejection_tail = start.tail
    network.to(start.device)  # the rejection head embeds thousands of photos; calibration ends on the CPU
    shift: ShiftRecord | None = None
    more: dict[str, bytes] = {}
    if settings.rejection_head or (keeps_means and head is not None):  # they are decoded at this size already
        embedded = EmbeddingBackbone(network).embed_mapped(data.train_pixels)
        shift = fit_rejection_head(network, data, embedded) if settings.rejection_head else None
        means = measure_class_means(embedded[:, : network.width], data.y_train, data.labels)
        more = {CLASS_MEANS: content} if keeps_means and (content := means.to_bytes()) else {}
    calibration = calibrate_network(network, data.val, settings)
    record = training_record(run, start.ancestors, calibration.validation, head, tuned, shift)
    folder = settings.models_dir / settings.bundle_name
    bundle = write_trained(folder, settings, data.manifest, network, calibration, record, tuned.history, more)
    tracker.log_bundle(bundle)
    return bundle


if __name__ == "__main__":
    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.show import carry_out

    sys.exit(
        carry_out(
            "train",
            lambda: load_settings(TrainSettings, sys.argv[1:]),
            lambda settings: Trained(train(settings)),
        )
    )

"""Prepare photos, train on them and evaluate the model: what `data`, `train` and `evaluate` do, in one step.

trash-classifier train ~/photos
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from image_classification_trash.config.base import StageSettings, TrackSettings
from image_classification_trash.config.data import DataSettings
from image_classification_trash.config.loader import combined, read_environment
from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.config.training import TrainCommandSettings
from image_classification_trash.data.make_dataset import Prepared
from image_classification_trash.distributed.prepare_data import prepare_data
from image_classification_trash.files import only_writer
from image_classification_trash.models.own_photos import (
    OwnPhotos,
    Record,
    read_record,
    record_file,
    training_settings,
    write_record,
)
from image_classification_trash.models.train_model import Trained, train
from image_classification_trash.networks.device import is_first_process
from image_classification_trash.networks.memory import with_batch_that_fits
from image_classification_trash.show import GOOD, Result, Shown
from image_classification_trash.visualization.evaluation_report import EvaluationReport, evaluate_with_report

SettingsT = TypeVar("SettingsT", bound=StageSettings)


@dataclass(frozen=True)
class TrainedOnPhotos(Result):
    """A model of a user's own photos.

    Attributes:
        prepared: the data set that was made of the photos.
        trained: the model; without a bundle in every process but the first of a training on several devices.
        report: its evaluation on the test split; None without a bundle or without test photos.
        test_reads: number of models that were measured on this test split, this one included.
    """

    prepared: Prepared
    trained: Trained
    report: EvaluationReport | None
    test_reads: int

    def for_people(self) -> Iterator[Shown]:
        """Yield what was prepared, what was trained, the metrics and, last, the verdict."""
        if self.trained.bundle is None:
            return
        yield from self.prepared.for_people()
        yield from self.trained.for_people()
        if self.report is None:
            yield "Verdict: not measured; the data set has no test photos. Next: evaluate on other photos (--data FOLDER)."
            return
        *figures, verdict = self.report.for_people()
        yield from figures
        yield f"Use it: trash-classifier predict PHOTO --model {self.trained.bundle.path}"
        if self.test_reads > 1:
            yield (
                f"{self.test_reads} models have been measured on these test photos. The more often you choose by them, the more "
                "they flatter; trust photos that no choice has seen (--data FOLDER)."
            )
        yield verdict

    def as_json(self) -> dict[str, Any] | None:
        """Return what the three commands return, and the number of models measured on the test split."""
        if self.trained.bundle is None:
            return None
        measured = self.report.as_json() if self.report else None
        made = {"data": self.prepared.as_json(), "train": self.trained.as_json(), "evaluate": measured}
        return {**made, "test_reads": self.test_reads}

    @property
    def exit_status(self) -> int:
        """Return the exit status of the evaluation."""
        return self.report.exit_status if self.report else GOOD


def train_on_photos(
    settings: TrainCommandSettings,
    photos: OwnPhotos,
    until: float | None = None,
    from_environment: bool = True,
) -> TrainedOnPhotos:
    """Prepare the photos as a data set, train on it, and evaluate the model on its test split.

    The sections `data:` and `evaluate:` of the recipe apply, as for the commands.

    Args:
        settings: of the training, with the folders of all steps.
        photos: where the photos are, and the name of their data set.
        until: when to be done, on `time.perf_counter`; None for no limit.
        from_environment: whether TRASH_DATA_* and TRASH_EVALUATE_* apply too.

    Raises:
        TrashClassifierError: as `make_dataset`, `train` and `evaluate` do; BusyError if the photos are trained on already.
    """
    processed = settings.processed_dir
    with ExitStack() as held:
        if is_first_process():  # the other processes belong to the first one's training
            held.enter_context(only_writer(record_file(processed, photos.name)))
        record = read_record(processed, photos.name) or Record(str(photos.path))
        write_record(processed, photos.name, record)
        given = {"name": photos.name, "source": [photos.path], "data_dir": settings.data_dir}
        data = section(DataSettings, settings.config, given, from_environment)
        prepared = prepare_data(data)
        training = with_batch_that_fits(training_settings(settings, photos.name, "balanced"))
        trained = Trained(train(training, until), measured=True)
        if trained.bundle is None or not prepared.manifest.photos_of("test"):
            return TrainedOnPhotos(prepared, trained, None, record.test_reads)
        record = replace(record, test_reads=record.test_reads + 1)
        write_record(processed, photos.name, record)
        shared = {*TrackSettings.model_fields, "data_dir", "models_dir", "reports_dir"}
        given = {**settings.model_dump(include=shared), "bundle": trained.bundle.path, "data": None}
        report = evaluate_with_report(section(EvaluateSettings, settings.config, given, from_environment))
    return TrainedOnPhotos(prepared, trained, report, record.test_reads)


def section(
    cls: type[SettingsT], recipe: Path | None, given: Mapping[str, Any], from_environment: bool
) -> SettingsT:
    """Return the settings of a step: given ones over those in the environment, if it is read, and those in the recipe.

    Raises:
        SettingsError: a name is unknown or a value is invalid; says where.
    """
    environment = read_environment(cls) if from_environment else {}
    return combined(cls, {**given, "config": recipe}, environment)

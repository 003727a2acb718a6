"""Settings of `train` and `tune`."""

from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator
from pydantic_settings import (
    CliPositionalArg,
    SettingsConfigDict,
)

from image_classification_trash.config.base import (
    JSON_FLAG,
    BackboneSettings,
    DataFolder,
    DataName,
    InputSettings,
    ModelsFolder,
    Part,
    ReportsFolder,
    SearchedName,
    StageSettings,
    TrackSettings,
)


class NetworkSettings(BackboneSettings):
    """The network that is trained, and what it begins from."""

    start: list[Path] = Field(
        [],
        description="bundles to go on from: the average of their weights, instead of pretrained weights; several: --start A --start B",
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="before the head")


class OptimiserSettings(Part):
    """How the head and the whole network are fitted."""

    head: bool = Field(True, description="fit the head on cached embeddings first; needs pretrained weights")
    epochs: int = Field(20, ge=0, description="passes of fine-tuning; 0: the head alone")
    batch_size: int = Field(32, ge=1, description="photos a step, on each device")
    learning_rate: float = Field(1e-3, gt=0, description="of the head at its height")
    backbone_rate: float = Field(
        1.0, gt=0, description="learning rate of the backbone, as a share of the head's"
    )
    weight_decay: float = Field(0.05, ge=0, description="of AdamW, on matrices and filters only")
    warmup_epochs: float = Field(1.0, ge=0, description="epochs of linear warm-up before the cosine")
    freeze_stages: int = Field(5, ge=0, description="first stages of the backbone that keep their weights")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="probability shared among the other classes")
    class_weighting: float = Field(
        0.5, ge=0, le=1, description="0: all photos weigh the same; 1: all classes weigh the same"
    )
    ema_decay: float = Field(0.995, ge=0, lt=1, description="of the averaged weights; 0: no averaging")
    patience: int = Field(10, ge=1, description="epochs without a better validation macro-F1 before stopping")


class AugmentationSettings(Part):
    """How training photos are varied."""

    min_scale: float = Field(0.6, gt=0, le=1, description="smallest share of a photo's area shown by a crop")
    rotation: float = Field(20.0, ge=0, le=180, description="largest turn, in degrees")
    brightness: float = Field(0.25, ge=0, lt=1, description="largest relative change")
    contrast: float = Field(0.25, ge=0, lt=1, description="largest relative change")
    saturation: float = Field(0.3, ge=0, lt=1, description="largest relative change")
    hue: float = Field(
        0.02, ge=0, le=0.5, description="largest turn of the colour circle; mild, as colour tells material"
    )
    erasing: float = Field(0.25, ge=0, le=1, description="share of photos with a rectangle blotted out")
    mixup: float = Field(0.2, ge=0, description="alpha of the mixing of photo pairs; 0: none")


class RobustnessSettings(Part):
    """What is learned for photos from the field."""

    paste: float = Field(
        0.0, ge=0, le=1, description="share of photos whose object is cut out and put on other grounds"
    )
    corruption: float = Field(
        0.0, ge=0, le=1, description="share of photos blurred, noisy, dark, coarse, ..."
    )
    outliers: float = Field(
        0.0, ge=0, le=1, description="grounds without waste added to each batch, as a share of it"
    )
    blend: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the fine-tuned weights; the rest are those of the start (WiSE-FT)",
    )
    detector: bool = Field(
        False,
        description="learn to tell photos without waste from drawn grounds; they are answered `not waste`",
    )


class DistillationSettings(Part):
    """What is learned from finished bundles beside the labels."""

    teacher: list[Path] = Field(
        [],
        description="bundles whose mean probabilities are learned beside the labels (distillation); several: --teacher A --teacher B",
    )
    teacher_share: float = Field(0.5, ge=0, le=1, description="of the target that is the teachers'")


class CalibrationSettings(Part):
    """How scores become probabilities, candidates and `unsure`."""

    frequency_correction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the classes' log frequencies in training that is taken off their scores; with "
        "class_weighting 0.5 a 0.5 takes all classes to be as likely",
    )
    target_precision: float = Field(
        0.98, gt=0, lt=1, description="precision that answered photos reach on validation; sets the threshold"
    )
    most_turned_away: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of validation photos answered `unsure` at most; lowers the threshold",
    )
    candidate_coverage: float = Field(
        0.99, gt=0, lt=1, description="share of photos whose right class is to be among the candidates"
    )


class HardwareSettings(Part):
    """What is trained on."""

    devices: int = Field(1, ge=1, description="processes or accelerators to train on together (DDP)")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="what to train on")
    workers: int | None = Field(
        None, ge=0, description="processes that alter photos; default: up to 8 beside a GPU, none on a CPU"
    )


class TrainSettings(
    ReportsFolder,
    ModelsFolder,
    DataFolder,
    TrackSettings,
    HardwareSettings,
    CalibrationSettings,
    DistillationSettings,
    RobustnessSettings,
    AugmentationSettings,
    OptimiserSettings,
    NetworkSettings,
    InputSettings,
    StageSettings,
):
    """Train a classifier: a head on cached embeddings, then the whole network; writes a bundle."""

    stage: ClassVar[str] = "train"
    model_config = SettingsConfigDict(env_prefix="TRASH_TRAIN_")

    name: CliPositionalArg[DataName] = "sample"
    output: str | None = Field(
        None, pattern=r"^[\w][\w .-]*$", description="name of the bundle in models/; default: the data set's"
    )
    seed: int = Field(0, ge=0, description="of shuffling, augmentation and dropout")
    resume: bool = Field(False, description="go on where a killed run stopped")

    @property
    def bundle_name(self) -> str:
        """The bundle's name: `output`, or the data set's."""
        return self.output or self.name

    @model_validator(mode="after")
    def _teachers_have_time(self) -> Self:
        if self.teacher and not self.epochs:
            raise ValueError(
                "a teacher is learned from while fine-tuning; give --epochs 1 or more, or no --teacher"
            )
        return self


class TuneSettings(TrainSettings):
    """Search for good settings of a training, judged on the validation part; writes a recipe for train."""

    stage: ClassVar[str] = "tune"
    begins_with: ClassVar[type[StageSettings] | None] = TrainSettings
    model_config = SettingsConfigDict(env_prefix="TRASH_TUNE_", cli_shortcuts=JSON_FLAG)

    output: str | None = Field(
        None,
        pattern=r"^[\w][\w .-]*$",
        description="name of the search in reports/tuning/; default: the data set's",
    )
    trials: int = Field(
        20, ge=1, description="trainings of the whole search, earlier interrupted runs included"
    )
    timeout: float | None = Field(
        None, gt=0, description="seconds after which no further trial begins; default: none"
    )
    search: list[SearchedName] = Field(
        list(get_args(SearchedName)), min_length=1, description="what is searched; all else stays as given"
    )
    epochs: int = Field(20, ge=1, description="passes of fine-tuning in a trial that is not stopped early")
    json_output: bool = Field(False, description="print what was found as JSON")

    @model_validator(mode="after")
    def _trains_plainly(self) -> Self:
        if self.resume:
            raise ValueError("a search goes on by itself; leave out --resume")
        if self.devices > 1:
            raise ValueError("a search trains on one device; leave out --devices")
        if self.tracker != "none":
            raise ValueError("a search is followed in its own study; leave out --tracker")
        return self

"""Settings of `train` and `tune`."""

from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from image_classification_trash.config.base import (
    MAX_SEED,
    BackboneSettings,
    DataSet,
    InputSettings,
    JsonOutput,
    ModelsFolder,
    Part,
    Positional,
    ReportsFolder,
    SearchedName,
    StageSettings,
    TrackSettings,
)
from image_classification_trash.config.recipes import RECIPES


class NetworkSettings(BackboneSettings):
    """The network to train and its initial weights."""

    init_from: list[Path] = Field(
        [],
        description="Trained model to start from instead of pretrained weights; of several, the average of "
        "their weights: --init-from A --init-from B",
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout before the head")


class OptimiserSettings(Part):
    """How the head is fitted and the network fine-tuned."""

    heading: ClassVar[str] = "Optimiser and schedule"

    head: bool = Field(
        True, description="Fit the head on cached embeddings first, which needs pretrained weights"
    )
    epochs: int = Field(20, ge=0, description="Number of epochs of fine-tuning; 0: the head alone")
    batch_size: int = Field(32, ge=1, description="Number of photos in a batch, on each device")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate of the head at its peak")
    backbone_rate: float = Field(
        1.0, gt=0, description="Learning rate of the backbone, as a multiple of the head's"
    )
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of AdamW, on matrices and filters only")
    warmup_epochs: float = Field(
        1.0, ge=0, description="Number of epochs of linear warm-up before the cosine schedule"
    )
    freeze_stages: int = Field(
        5,
        ge=0,
        description="Number of stages of the backbone, from the input, whose weights are frozen; unless given, all "
        "11 of EfficientNet-Lite with fewer than 200 training photos",
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="Label smoothing: probability shared among the other classes"
    )
    class_weighting: float = Field(
        0.5, ge=0, le=1, description="Class weighting; 0: all photos weigh the same, 1: all classes do"
    )
    ema_decay: float = Field(
        0.995, ge=0, lt=1, description="Decay of the moving average of the weights (EMA); 0: no average"
    )
    patience: int = Field(
        10, ge=1, description="Number of epochs without a better validation macro-F1 before training stops"
    )


class AugmentationSettings(Part):
    """How training photos are augmented."""

    heading: ClassVar[str] = "Augmentation"

    min_scale: float = Field(
        0.6, gt=0, le=1, description="Smallest share of a photo's area that a crop shows"
    )
    rotation: float = Field(20.0, ge=0, le=180, description="Largest rotation, in degrees")
    brightness: float = Field(0.25, ge=0, lt=1, description="Largest relative change of brightness")
    contrast: float = Field(0.25, ge=0, lt=1, description="Largest relative change of contrast")
    saturation: float = Field(0.3, ge=0, lt=1, description="Largest relative change of saturation")
    hue: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="Largest change of hue, in turns; small, as colour distinguishes materials",
    )
    erasing: float = Field(0.25, ge=0, le=1, description="Share of photos with a rectangle erased")
    mixup: float = Field(0.2, ge=0, description="Alpha of mixup, which blends pairs of photos; 0: no mixup")


class RobustnessSettings(Part):
    """Training for photos from the field."""

    heading: ClassVar[str] = "Photos from the field"

    copy_paste: float = Field(
        0.0, ge=0, le=1, description="Share of photos whose object is copy-pasted onto another background"
    )
    corruption: float = Field(
        0.0, ge=0, le=1, description="Share of photos with camera corruptions: blur, noise, darkness, ..."
    )
    outliers: float = Field(
        0.0, ge=0, le=1, description="Backgrounds without waste added to each batch, as a share of it"
    )
    wise_ft: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the fine-tuned weights in the result; the rest are the initial weights (WiSE-FT)",
    )
    rejection_head: bool = Field(
        False,
        description="Train a rejection head on drawn backgrounds and the data set's photos without waste, which are then "
        "answered `not waste`",
    )


class DistillationSettings(Part):
    """Distillation from trained models."""

    heading: ClassVar[str] = "Distillation"

    teacher: list[Path] = Field(
        [],
        description="Trained model to distil from; of several, the mean of their probabilities: "
        "--teacher A --teacher B",
    )
    distillation_weight: float = Field(
        0.5, ge=0, le=1, description="Weight of the teachers in the target; the labels have the rest"
    )


class CalibrationSettings(Part):
    """How scores become probabilities, prediction sets and `unsure`."""

    heading: ClassVar[str] = "Calibration"

    logit_adjustment: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the classes' log frequencies in training that is subtracted from their scores "
        "(logit adjustment); 0.5 with class_weighting 0.5 treats all classes as equally likely",
    )
    target_precision: float = Field(
        0.98, gt=0, lt=1, description="Precision of accepted photos on validation, which sets the threshold"
    )
    max_rejected: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Largest share of validation photos answered `unsure`, which lowers the threshold",
    )
    prediction_set_coverage: float = Field(
        0.99, gt=0, lt=1, description="Share of photos whose prediction set is to contain the right class"
    )


class HardwareSettings(Part):
    """The hardware to train on."""

    heading: ClassVar[str] = "Hardware"

    devices: int = Field(1, ge=1, description="Number of processes or GPUs to train on together (DDP)")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="Processor to train on")
    workers: int | None = Field(
        None,
        ge=0,
        description="Number of processes that augment photos; default: up to 8 with a GPU, 0 on a CPU",
    )


class TrainSettings(
    ReportsFolder,
    ModelsFolder,
    DataSet,
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
    """Train a classifier: a head on cached embeddings, then the whole network; writes a model."""

    stage: ClassVar[str] = "train"
    usual: ClassVar[tuple[str, ...]] = (
        "name", "output", "architecture", "init_from", "input_height", "input_width", "epochs", "batch_size",
        "learning_rate", "target_precision", "accelerator", "seed", "resume", "tracker",
    )  # fmt: skip

    config: Path | None = Field(
        None,
        description=f"Recipe: a YAML file with a section of settings for this command, or a name: {', '.join(RECIPES)}",
    )
    output: str | None = Field(
        None,
        pattern=r"^[\w][\w .-]*$",
        description="Name of the model in models/; default: the data set's",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Random seed of shuffling, augmentation and dropout")
    resume: bool = Field(False, description="Continue a run that was killed")

    @property
    def bundle_name(self) -> str:
        """Return the name of the bundle: `output`, or the data set's."""
        return self.output or self.name

    @model_validator(mode="after")
    def _teachers_have_time(self) -> Self:
        if self.teacher and not self.epochs:
            raise ValueError(
                "teachers are distilled while fine-tuning; give --epochs 1 or more, or leave out --teacher"
            )
        return self


PresetName = Literal["quick", "balanced", "best"]
PRESETS = Path(__file__).parent / "presets"
"""Recipes by name."""


class TrainCommandSettings(TrainSettings):
    """Train a classifier: a head on embeddings, then the network; a folder of photos is prepared and the model evaluated."""

    usual: ClassVar[tuple[str, ...]] = (
        "name", "preset", "time_limit", "output", "architecture", "init_from", "input_height", "input_width",
        "epochs", "batch_size", "target_precision", "accelerator", "seed", "resume",
    )  # fmt: skip

    name: Positional[str] = Field(
        "sample",
        min_length=1,
        description="Data set: sample, trashnet or a prepared one; or a folder, zip or CSV of photos, which is "
        "prepared first and evaluated last",
    )

    preset: PresetName | None = Field(
        None,
        description="Settings chosen by name, which a recipe or a flag overrides: quick is the head alone, best takes "
        "larger photos and more epochs; default for photos: balanced",
    )
    time_limit: str | None = Field(
        None,
        pattern=r"^[0-9]{1,6}(\.[0-9]+)?[smh]$",
        description="Time that the whole run may take, such as 90s, 10m or 1h; fine-tuning gets the epochs that fit",
    )

    @property
    def seconds(self) -> float | None:
        """Return the time limit in seconds."""
        if self.time_limit is None:
            return None
        return float(self.time_limit[:-1]) * {"s": 1, "m": 60, "h": 3600}[self.time_limit[-1]]

    @model_validator(mode="after")
    def _time_is_measured_on_one_device(self) -> Self:
        if self.time_limit and (self.devices > 1 or self.resume):
            raise ValueError(
                "the time of an epoch is measured on one device, at the start; leave out --time-limit, or --devices and --resume"
            )
        return self


class TuneSettings(JsonOutput, TrainSettings):
    """Search for good settings of a training, judged on the validation split; writes a recipe for train."""

    stage: ClassVar[str] = "tune"
    begins_with: ClassVar[type[StageSettings] | None] = TrainSettings
    usual: ClassVar[tuple[str, ...]] = (
        "name", "output", "trials", "timeout", "search", "epochs", "architecture", "input_height", "input_width",
        "batch_size", "accelerator", "seed", "json_output",
    )  # fmt: skip

    output: str | None = Field(
        None,
        pattern=r"^[\w][\w .-]*$",
        description="Name of the search in reports/tuning/; default: the data set's",
    )
    trials: int = Field(
        20, ge=1, description="Number of trainings in the whole search, including those of interrupted runs"
    )
    timeout: float | None = Field(
        None, gt=0, description="Seconds after which no further trial starts; default: no limit"
    )
    storage: str | None = Field(
        None,
        description="Database that searches on several machines share, as a SQLAlchemy URL; default: a file in reports/tuning/",
    )
    search: list[SearchedName] = Field(
        list(get_args(SearchedName)),
        min_length=1,
        description="Settings to search; all others keep their given values",
    )
    epochs: int = Field(
        20, ge=1, description="Number of epochs of fine-tuning in a trial, unless it is stopped early"
    )

    @model_validator(mode="after")
    def _trains_plainly(self) -> Self:
        if self.resume:
            raise ValueError("a search resumes by itself; leave out --resume")
        if self.devices > 1:
            raise ValueError("a search trains on one device; leave out --devices")
        if self.tracker != "none":
            raise ValueError("a search is recorded in its own study; leave out --tracker")
        return self

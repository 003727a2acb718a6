"""Groups of settings that several commands share, and the base of all settings."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

T = TypeVar("T")
POSITIONAL = object()
Positional = Annotated[T, POSITIONAL]
"""A setting that is a positional argument on the command line."""
REPEATED = object()
Repeated = Annotated[T, REPEATED]
"""A list that is given one item per flag; commas belong to the items, as in the names of files."""


MAX_SEED = 2**32 - 1
"""Above it, numpy and scikit-learn refuse a seed."""
DataName = Annotated[
    str, Field(pattern=r"^[\w][\w .-]*$", description="Data set: sample, trashnet, or a name of your own")
]


ResizeModeName = Literal["stretch", "crop", "pad"]


ActionName = Literal["list", "show", "compare", "register", "promote", "rollback"]


FormatName = Literal["onnx", "saved_model", "tflite", "openvino"]


PrecisionName = Literal["float32", "fp16", "dynamic", "int8"]


SearchedName = Literal[
    "learning_rate", "backbone_rate", "weight_decay", "mixup", "label_smoothing", "freeze_stages", "dropout"
]


class Part(BaseModel):
    """Settings of one subject. Creating one reads nothing from outside: only the loader reads the environment."""

    model_config = ConfigDict(extra="forbid", validate_default=True, defer_build=True, allow_inf_nan=False)
    heading: ClassVar[str]
    """Heading of the settings in `--help-all`."""


class StageSettings(Part):
    """Base of the settings of a command: one flat class that inherits the fields of its parts."""

    stage: ClassVar[str]
    begins_with: ClassVar[type["StageSettings"] | None] = None
    """The command whose section of a recipe is read first, and overridden by this one's own."""
    usual: ClassVar[tuple[str, ...]]
    """The settings that `--help` shows besides `config`; `--help-all` shows all."""
    heading: ClassVar[str] = "Further settings"

    config: Path | None = Field(
        None, description="Recipe: a YAML file with a section of settings for this command"
    )


class DataFolder(Part):
    """The folder of data sets."""

    heading: ClassVar[str] = "Folders"

    data_dir: Path = Field(
        Path("data"), description="Folder of data: raw/ (unpacked), interim/ (caches), processed/ (prepared)"
    )

    @property
    def raw_dir(self) -> Path:
        """Return the folder of unpacked archives."""
        return self.data_dir / "raw"

    @property
    def interim_dir(self) -> Path:
        """Return the folder of caches, which can be deleted at any time."""
        return self.data_dir / "interim"

    @property
    def processed_dir(self) -> Path:
        """Return the folder of prepared data sets."""
        return self.data_dir / "processed"


class ModelsFolder(Part):
    """The folder of trained models."""

    heading: ClassVar[str] = "Folders"

    models_dir: Path = Field(Path("models"), description="Folder of trained models and their versions")


class ReportsFolder(Part):
    """The folder of reports."""

    heading: ClassVar[str] = "Folders"

    reports_dir: Path = Field(Path("reports"), description="Folder of reports, figures, logs and checkpoints")


class DataSet(DataFolder):
    """A data set, by name."""

    heading: ClassVar[str] = "Data"

    name: Positional[DataName] = "sample"


class TrainedModel(ModelsFolder):
    """A trained model, by folder or name."""

    heading: ClassVar[str] = "Model"

    bundle: Positional[Path | None] = Field(
        None,
        description="Trained model: its folder, name, version or alias, or a file to evaluate or time; without one, the newest in "
        "models/",
    )


class JsonOutput(Part):
    """The format of the result."""

    heading: ClassVar[str] = "Output"

    json_output: bool = Field(False, description="Print the result as JSON")


class RaySettings(Part):
    """What Ray is told."""

    heading: ClassVar[str] = "Engine"

    address: str | None = Field(
        None, description="Address of the Ray cluster; without one, Ray is started on this machine and ended"
    )
    actors: int | None = Field(
        None,
        ge=1,
        description="Number of Ray's processes at a time, each of which takes one CPU; without one, 2",
    )


class EngineSettings(RaySettings):
    """Where work on many photos is done."""

    engine: Literal["embedded", "ray"] = Field(
        "embedded", description="Where the work is done: embedded (on this machine) or ray (by its processes)"
    )

    @model_validator(mode="after")
    def _of_ray(self) -> Self:
        if self.engine == "embedded" and (self.address is not None or self.actors is not None):
            raise ValueError("--address and --actors need --engine ray")
        return self


class InputSettings(Part):
    """The input of the network, stored in the bundle."""

    heading: ClassVar[str] = "Input of the network"

    input_height: int = Field(224, ge=32, le=1024, description="Height that photos are resized to, in pixels")
    input_width: int = Field(288, ge=32, le=1024, description="Width that photos are resized to, in pixels")
    resize_mode: ResizeModeName = Field(
        "stretch",
        description="How photos of another shape are resized: stretched, cropped or padded",
    )

    @property
    def input_size(self) -> tuple[int, int]:
        """Return the height and width in pixels."""
        return self.input_height, self.input_width


class BackboneSettings(Part):
    """The network and its initial weights."""

    heading: ClassVar[str] = "Network"

    architecture: str = Field(
        "efficientnet_lite0",
        description="Network: resnet18, efficientnet_lite0, efficientnet_lite2, sequential_cnn or any timm name",
    )
    weights: Path | None = Field(
        None, description="Local file of pretrained weights for the backbone (.safetensors or .pth)"
    )
    pretrained: bool = Field(True, description="Start from pretrained weights instead of random ones")


class TrackSettings(Part):
    """The experiment tracker that a run is logged to."""

    heading: ClassVar[str] = "Experiment tracking"

    tracker: Literal["none", "wandb"] = Field(
        "none", description="Service that the run is logged to; wandb: Weights & Biases"
    )
    log_photos: bool = Field(False, description="Upload the photos to the tracker too, not just their list")
    tracker_project: str = Field(
        "image-classification-trash", min_length=1, description="Project in Weights & Biases"
    )
    tracker_entity: str | None = Field(
        None, description="Team or user in Weights & Biases; without one, the API key's own"
    )

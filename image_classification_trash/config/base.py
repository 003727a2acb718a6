"""What settings of several commands share."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field
from pydantic_settings import SettingsConfigDict

DataName = Annotated[
    str, Field(pattern=r"^[\w][\w .-]*$", description="data set: sample, trashnet, or a name of your own")
]


JSON_FLAG = {"json-output": "json"}


FitName = Literal["stretch", "crop", "pad"]


ActionName = Literal["list", "show", "compare", "register", "promote", "rollback"]


FormatName = Literal["onnx", "saved_model", "tflite"]


PrecisionName = Literal["float32", "fp16", "dynamic", "int8"]


SearchedName = Literal[
    "learning_rate", "backbone_rate", "weight_decay", "mixup", "label_smoothing", "freeze_stages", "dropout"
]


class Part(BaseModel):
    """Some settings of one subject. Making one reads nothing from outside; only the loader reads the environment."""

    model_config = SettingsConfigDict(
        extra="forbid",
        validate_default=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )


class StageSettings(Part):
    """What all stages share: each is one class, made of parts whose fields lie side by side in it."""

    stage: ClassVar[str]
    begins_with: ClassVar[type["StageSettings"] | None] = None
    """The stage whose section of a recipe is read first, below this one's own."""

    config: Path | None = Field(None, description="YAML recipe; its section named after the command is read")


class DataFolder(Part):
    """Where data sets lie."""

    data_dir: Path = Field(
        Path("data"),
        description="folder of data sets: raw/ (unpacked archives), interim/ (caches), processed/ (prepared ones)",
    )

    @property
    def raw_dir(self) -> Path:
        """Where archives are unpacked."""
        return self.data_dir / "raw"

    @property
    def interim_dir(self) -> Path:
        """Where caches are kept; can be deleted at any time."""
        return self.data_dir / "interim"

    @property
    def processed_dir(self) -> Path:
        """Where prepared data sets are kept, a folder each."""
        return self.data_dir / "processed"


class ModelsFolder(Part):
    """Where bundles lie."""

    models_dir: Path = Field(Path("models"), description="folder of bundles and their versions")


class ReportsFolder(Part):
    """Where reports lie."""

    reports_dir: Path = Field(Path("reports"), description="folder of reports, figures, logs and checkpoints")


class InputSettings(Part):
    """How photos enter the network; kept in the bundle."""

    input_height: int = Field(224, ge=32, le=1024, description="pixels; photos are brought to this height")
    input_width: int = Field(288, ge=32, le=1024, description="pixels; photos are brought to this width")
    fit: FitName = Field("stretch", description="how a frame of another shape meets the input size")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.input_height, self.input_width


class BackboneSettings(Part):
    """Which network photos are embedded with, and the weights that it begins with."""

    architecture: str = Field(
        "efficientnet_lite0",
        description="resnet18, efficientnet_lite0, efficientnet_lite2, sequential_cnn or any timm name",
    )
    weights: Path | None = Field(
        None, description="local weights file of the backbone (.safetensors or .pth)"
    )
    pretrained: bool = Field(True, description="begin from pretrained weights; --no-pretrained: random ones")


class ProjectSettings(Part):
    """Where the tracker keeps what it is told."""

    tracker_project: str = Field(
        "image-classification-trash", min_length=1, description="the tracker's project"
    )
    tracker_entity: str | None = Field(None, description="the tracker's team or user; default: the key's own")


class TrackSettings(ProjectSettings):
    """Where a run is followed from outside."""

    tracker: Literal["none", "wandb"] = Field("none", description="where the run is followed; wandb: W&B")
    log_photos: bool = Field(False, description="give the tracker the photos too, not their list alone")

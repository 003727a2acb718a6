"""Settings of the commands that take a trained model."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import (
    CliPositionalArg,
    SettingsConfigDict,
)

from image_classification_trash.config.base import (
    JSON_FLAG,
    ActionName,
    DataFolder,
    FormatName,
    ModelsFolder,
    PrecisionName,
    ProjectSettings,
    ReportsFolder,
    StageSettings,
    TrackSettings,
)


class EvaluateSettings(TrackSettings, ReportsFolder, ModelsFolder, DataFolder, StageSettings):
    """Evaluate a bundle on the test part of its data set, or on any labelled folder; writes figures and a report."""

    stage: ClassVar[str] = "evaluate"
    model_config = SettingsConfigDict(env_prefix="TRASH_EVALUATE_", cli_shortcuts=JSON_FLAG)

    bundle: CliPositionalArg[Path | None] = Field(
        None, description="folder, name, version or alias of a bundle; default: the newest in models/"
    )
    data: Path | None = Field(
        None, description="labelled folder, zip or CSV to evaluate on instead of the test part"
    )
    negatives: Path | None = Field(
        None, description="folder of photos that show no waste; is it told from waste?"
    )
    resamples: int = Field(2000, ge=100, description="bootstrap resamples for the intervals")
    seed: int = Field(0, ge=0, description="of the bootstrap")
    batch_size: int = Field(32, ge=1, description="photos run at once")
    json_output: bool = Field(False, description="print the metrics as JSON")


class ModelsSettings(ProjectSettings, ModelsFolder, StageSettings):
    """List, compare and promote bundles: versions that no training touches, and aliases such as `production`."""

    stage: ClassVar[str] = "models"
    model_config = SettingsConfigDict(env_prefix="TRASH_MODELS_", cli_shortcuts=JSON_FLAG)
    takes: ClassVar[Mapping[str, int]] = {
        "list": 0, "show": 1, "compare": 2, "register": 1, "promote": 1, "rollback": 0,
    }  # fmt: skip
    """How many models each action names."""

    action: CliPositionalArg[ActionName] = Field("list", description="what to do")
    models: CliPositionalArg[list[str]] = Field(
        [], description="folders, bundles' names, NAME@NUMBER, NAME@latest or aliases"
    )
    alias: str = Field(
        "production", pattern=r"^[a-z][\w-]*$", description="which alias promote and rollback move"
    )
    note: str = Field("", max_length=1000, description="why; kept with what was registered or moved")
    registry: Literal["local", "wandb"] = Field(
        "local", description="wandb: list and promote in the registry of W&B too; needs a key"
    )
    wandb_registry: str = Field("model", min_length=1, description="which registry of W&B")
    json_output: bool = Field(False, description="print JSON")

    @model_validator(mode="after")
    def _models_named(self) -> Self:
        count = self.takes[self.action]
        if len(self.models) != count:
            raise ValueError(f"{self.action} takes {count} models, not {len(self.models)}")
        if self.alias == "latest":
            raise ValueError("latest is always the newest version; choose another alias")
        return self


class ExportSettings(ModelsFolder, DataFolder, StageSettings):
    """Export a bundle to ONNX, TFLite and SavedModel, each file verified against the trained model."""

    stage: ClassVar[str] = "export"
    model_config = SettingsConfigDict(env_prefix="TRASH_EXPORT_", cli_shortcuts=JSON_FLAG)

    bundle: CliPositionalArg[Path | None] = Field(
        None, description="folder, name, version or alias of a bundle; default: the newest in models/"
    )
    format: list[FormatName] = Field(
        ["onnx", "saved_model", "tflite"], min_length=1, description="what to make"
    )
    quantize: list[PrecisionName] = Field(
        ["fp16", "int8"], description="smaller files beside float32, where the format has them"
    )
    allow_drift: bool = Field(False, description="keep files that are too far from the trained model")
    json_output: bool = Field(False, description="print the report as JSON")


class BenchmarkSettings(ReportsFolder, ModelsFolder, StageSettings):
    """Time a bundle in all its files and engines, side by side."""

    stage: ClassVar[str] = "benchmark"
    model_config = SettingsConfigDict(env_prefix="TRASH_BENCHMARK_", cli_shortcuts=JSON_FLAG)

    bundle: CliPositionalArg[Path | None] = Field(
        None, description="folder, name, version or alias of a bundle; default: the newest in models/"
    )
    photos: Path = Field(Path("data/sample"), description="folder with photos to time with")
    count: int = Field(64, ge=1, description="photos of a round")
    rounds: int = Field(5, ge=1, description="how often each engine has its turn; medians are shown")
    json_output: bool = Field(False, description="print the figures as JSON")


class PredictSettings(ModelsFolder, StageSettings):
    """Classify photos: files, folders, globs, URLs, or `-` for a list on standard input."""

    stage: ClassVar[str] = "predict"
    model_config = SettingsConfigDict(env_prefix="TRASH_PREDICT_", cli_shortcuts=JSON_FLAG)

    photos: CliPositionalArg[list[str]] = Field(
        description="files, folders, globs, URLs, or - for a list on stdin"
    )
    model: Path | None = Field(
        None,
        description="folder, name, version or alias of a bundle, or an exported file; default: production, or the newest in models/, or the shipped one",
    )
    json_output: bool = Field(False, description="print one JSON document")
    csv: Path | None = Field(None, description="write the table to this CSV file")
    jsonl: Path | None = Field(None, description="write the table to this file of JSON lines")
    parquet: Path | None = Field(None, description="write the table to this Parquet file; needs pyarrow")
    resume: bool = Field(False, description="go on where a killed run that wrote a table stopped")
    batch_size: int = Field(8, ge=1, description="photos run at once")
    runtime: str = Field(
        "auto", description="engine: litert, onnxruntime, torch, or auto: the first that can"
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="of one run of the model; default 1, with as many runs at once as there are cores",
    )

    @property
    def tables(self) -> dict[str, Path]:
        """The table asked for, by its format; nothing, or one."""
        asked = {"csv": self.csv, "jsonl": self.jsonl, "parquet": self.parquet}
        return {kind: path for kind, path in asked.items() if path is not None}

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if len(self.tables) + self.json_output > 1:
            raise ValueError("choose one of --json, --csv, --jsonl and --parquet")
        if self.resume and not self.tables:
            raise ValueError("--resume needs --csv, --jsonl or --parquet")
        return self


class MonitorSettings(ModelsFolder, DataFolder, StageSettings):
    """Compare photos, or a gateway's statistics, with what a bundle learned from; exit status 4 where they differ."""

    stage: ClassVar[str] = "monitor"
    model_config = SettingsConfigDict(env_prefix="TRASH_MONITOR_", cli_shortcuts=JSON_FLAG)

    sources: CliPositionalArg[list[str]] = Field(
        [], description="files, folders or globs of photos, or JSON files that serve --statistics wrote"
    )
    model: Path | None = Field(
        None, description="folder, name, version or alias of a bundle; default: the newest in models/"
    )
    write_reference: bool = Field(
        False, description="write the reference into the bundle, for machines without the data set"
    )
    alpha: float = Field(
        0.01, gt=0, lt=0.5, description="how often a stream like the training data is called different"
    )
    permutations: int = Field(999, ge=99, description="random reassignments that the p-values rest on")
    min_photos: int = Field(30, ge=10, description="fewer photos than this are not judged")
    max_photos: int = Field(
        1000, ge=50, description="photos compared by embedding; drawn at random from more"
    )
    seed: int = Field(0, ge=0, description="of the reassignments and of the draw")
    json_output: bool = Field(False, description="print the comparison as JSON")

    @model_validator(mode="after")
    def _p_values_fine_enough(self) -> Self:
        if (self.permutations + 1) * self.alpha < 3:
            raise ValueError("with so few permutations no p-value can fall below alpha / 3")
        return self

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.sources and not self.write_reference:
            raise ValueError("name photos or statistics to compare, or --write-reference")
        return self

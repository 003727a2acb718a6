"""Settings of the commands that use a trained model."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from image_classification_trash.config.base import (
    MAX_SEED,
    ActionName,
    DataFolder,
    FormatName,
    JsonOutput,
    ModelsFolder,
    Part,
    Positional,
    PrecisionName,
    RaySettings,
    ReportsFolder,
    StageSettings,
    TrackSettings,
    TrainedModel,
)


class EvaluateSettings(ReportsFolder, DataFolder, TrackSettings, JsonOutput, TrainedModel, StageSettings):
    """Evaluate a model on the test split of its data set, or on any labelled folder; writes figures and a report."""

    stage: ClassVar[str] = "evaluate"
    usual: ClassVar[tuple[str, ...]] = (
        "bundle", "data", "not_waste", "json_output", "tracker", "data_dir", "models_dir", "reports_dir",
    )  # fmt: skip

    data: Path | None = Field(
        None, description="Labelled folder, zip or CSV to evaluate on instead of the test split"
    )
    not_waste: Path | None = Field(
        None, description="Folder of photos without waste, to measure how well the model rejects them"
    )
    resamples: int = Field(2000, ge=100, description="Number of bootstrap resamples for the intervals")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Random seed of the bootstrap")
    batch_size: int = Field(32, ge=1, description="Number of photos in a batch")


class ModelsSettings(ReportsFolder, DataFolder, JsonOutput, ModelsFolder, StageSettings):
    """List, compare and promote models: versions that no training touches, and aliases such as `production`."""

    stage: ClassVar[str] = "models"
    usual: ClassVar[tuple[str, ...]] = (
        "action", "models", "data", "alias", "min_accepted", "note", "json_output", "data_dir", "models_dir", "reports_dir",
    )  # fmt: skip
    takes: ClassVar[Mapping[str, int]] = {
        "list": 0, "show": 1, "compare": 2, "register": 1, "promote": 1, "rollback": 0,
    }  # fmt: skip
    """Number of models that each action takes."""

    action: Positional[ActionName] = Field(
        "list", description="What to do: list, show, compare, register, promote or rollback"
    )
    models: Positional[list[str]] = Field(
        [], description="Models to do it with: folders, names, NAME@NUMBER, NAME@latest or aliases"
    )
    data: Path | None = Field(
        None,
        description="Labelled folder, zip or CSV to compare on, which both were evaluated on; without one, all photos that "
        "both were, the test split first",
    )
    alias: str = Field(
        "production", pattern=r"^[a-z][\w-]*$", description="Alias that promote and rollback move"
    )
    min_accepted: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Smallest share of the validation photos, and of the test photos, that a promoted model accepts "
        "instead of answering `unsure`",
    )
    note: str = Field("", max_length=1000, description="Reason, kept with what was registered or moved")

    @model_validator(mode="after")
    def _models_named(self) -> Self:
        count = self.takes[self.action]
        if len(self.models) != count:
            raise ValueError(f"{self.action} takes {count} models, not {len(self.models)}")
        if self.data is not None and self.action != "compare":
            raise ValueError(f"data is for compare, not for {self.action}")
        if self.alias == "latest":
            raise ValueError("latest is always the newest version; choose another alias")
        return self


class ExportSettings(DataFolder, JsonOutput, TrainedModel, StageSettings):
    """Export a model to ONNX, TFLite, SavedModel or OpenVINO, each file verified against the trained model."""

    stage: ClassVar[str] = "export"
    usual: ClassVar[tuple[str, ...]] = (
        "bundle", "format", "quantize", "allow_drift", "json_output", "data_dir", "models_dir",
    )  # fmt: skip

    format: list[FormatName] = Field(
        ["onnx", "saved_model", "tflite"], min_length=1, description="Formats to write"
    )
    quantize: list[PrecisionName] = Field(
        ["fp16", "int8"], description="Smaller precisions to write beside float32, where the format has them"
    )
    allow_drift: bool = Field(
        False, description="Keep files whose answers differ too much from the trained model's"
    )


class AdaptSettings(ModelsFolder, JsonOutput, StageSettings):
    """Adapt a model to a camera and its place from a few photos, in seconds and without torch."""

    stage: ClassVar[str] = "adapt"
    usual: ClassVar[tuple[str, ...]] = (
        "model", "photos", "unlabelled", "output", "json_output", "models_dir",
    )  # fmt: skip

    model: Positional[Path | None] = Field(
        None,
        description="Model: a folder, name, version or alias, or a .tflite file; without one, production, or "
        "the newest in models/, or the one that comes with the package",
    )
    photos: Path | None = Field(
        None, description="Folder with a folder of photos for each class, named as the model's labels"
    )
    unlabelled: Path | None = Field(
        None,
        description="Folder of unlabelled photos as they come at the place, to estimate the classes' shares there",
    )
    output: str | None = Field(
        None, pattern=r"^[\w][\w .-]*$", description="Name of the new model in models/, which must not exist"
    )

    @model_validator(mode="after")
    def _photos_and_output(self) -> Self:
        if (self.photos is None and self.unlabelled is None) or self.output is None:
            raise ValueError(
                "name the folder of photos with --photos or --unlabelled, and the new model with --output"
            )
        return self


class BenchmarkSettings(ReportsFolder, JsonOutput, TrainedModel, StageSettings):
    """Time a model in all its files and engines, side by side."""

    stage: ClassVar[str] = "benchmark"
    usual: ClassVar[tuple[str, ...]] = (
        "bundle", "photos", "count", "rounds", "json_output", "models_dir", "reports_dir",
    )  # fmt: skip

    photos: Path = Field(Path("data/sample"), description="Folder of photos to time with")
    count: int = Field(64, ge=1, description="Number of photos in a round")
    rounds: int = Field(5, ge=1, description="Number of rounds of each engine; the medians are shown")


class ShardedSettings(Part):
    """Shards of photos."""

    heading: ClassVar[str] = "Shards"

    shards: str | None = Field(
        None,
        description="Folder or bucket of shards to answer instead of photos; --parquet then names a folder or bucket",
    )
    engine: Literal["embedded", "ray", "indexed"] = Field(
        "embedded",
        description="Where shards are answered: embedded (on this machine), ray (by its actors), or indexed (here, but "
        "only every JOB_COMPLETIONS-th shard, from JOB_COMPLETION_INDEX on)",
    )


class PredictSettings(ModelsFolder, JsonOutput, ShardedSettings, RaySettings, StageSettings):
    """Classify photos: files, folders, globs, URLs, or `-` for a list on standard input."""

    stage: ClassVar[str] = "predict"
    usual: ClassVar[tuple[str, ...]] = (
        "photos", "model", "json_output", "csv", "jsonl", "parquet", "resume", "batch_size",
        "runtime", "threads", "models_dir", "shards", "engine",
    )  # fmt: skip

    photos: Positional[list[str]] = Field(
        [], description="Files, folders, globs, URLs, or - for a list on standard input"
    )
    model: Path | None = Field(
        None,
        description="Model: a folder, name, version or alias, or an exported file; without one, production, or "
        "the newest in models/, or the one that comes with the package",
    )
    csv: Path | None = Field(None, description="CSV file to write the answers to")
    jsonl: Path | None = Field(None, description="JSON lines file to write the answers to")
    parquet: str | None = Field(None, description="Parquet file to write the answers to; needs pyarrow")
    resume: bool = Field(False, description="Continue a run that was killed while it wrote a file")
    batch_size: int = Field(8, ge=1, description="Number of photos in a batch")
    max_pixels: int | None = Field(
        None,
        ge=1,
        description="Largest number of pixels (width times height) of a photo; above the default of 80 million, its limits "
        "of memory and time grow in proportion",
    )
    runtime: str = Field(
        "auto", description="Engine: litert, onnxruntime, torch, or auto: the first of them that can"
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="Number of threads of one run of the model; without one, 1, with as many runs at once as there are cores",
    )

    @property
    def tables(self) -> dict[str, Path]:
        """Return the table to write by its format; empty or one entry."""
        parquet = None if self.parquet is None else Path(self.parquet)
        asked = {"csv": self.csv, "jsonl": self.jsonl, "parquet": parquet}
        return {kind: path for kind, path in asked.items() if path is not None}

    @model_validator(mode="after")
    def _photos_or_shards(self) -> Self:
        if self.shards is None:
            if not self.photos:
                raise ValueError("name photos to classify, or shards of them with --shards")
            if self.engine != "embedded":
                raise ValueError("--engine, --address and --actors need --shards")
        elif self.photos or self.csv or self.jsonl or not self.parquet:
            raise ValueError("--shards takes no photos, and needs --parquet with the folder of the answers")
        elif self.engine != "ray" and (self.address is not None or self.actors is not None):
            raise ValueError("--address and --actors need --engine ray")
        return self

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        tables = self.tables if self.shards is None else {}
        if len(tables) + self.json_output > 1:
            raise ValueError("choose one of --json, --csv, --jsonl and --parquet")
        for kind, path in tables.items():
            named = path.suffix.lower().removeprefix(".")
            if named != kind and named in ("csv", "jsonl", "parquet"):
                raise ValueError(
                    f"{path.name} is named as a {named} file; use --{named}, or another name for --{kind}"
                )
        if self.resume and not self.tables:
            raise ValueError("--resume needs --csv, --jsonl or --parquet")
        return self


class MonitorSettings(DataFolder, ModelsFolder, JsonOutput, StageSettings):
    """Compare photos, or a gateway's statistics, with what a model learned from; exit status 4 where they differ."""

    stage: ClassVar[str] = "monitor"
    usual: ClassVar[tuple[str, ...]] = (
        "sources", "model", "write_reference", "alpha", "permutations", "min_photos", "max_photos",
        "seed", "json_output", "data_dir", "models_dir",
    )  # fmt: skip

    sources: Positional[list[str]] = Field(
        [], description="Files, folders or globs of photos, or JSON files that serve --statistics wrote"
    )
    model: Path | None = Field(
        None,
        description="Trained model: its folder, name, version or alias; without one, the newest in models/",
    )
    write_reference: bool = Field(
        False, description="Write the reference into the model, for machines without the data set"
    )
    alpha: float = Field(
        0.01, gt=0, lt=0.5, description="Probability that photos like the training data are called different"
    )
    permutations: int = Field(999, ge=99, description="Number of permutations for the p-values")
    min_photos: int = Field(30, ge=10, description="Smallest number of photos to compare")
    max_photos: int = Field(
        1000, ge=50, description="Largest number of photos compared by embedding; drawn at random from more"
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Random seed of the permutations and of the draw")

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

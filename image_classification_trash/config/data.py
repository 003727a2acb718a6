"""Settings of `data`, `explore`, `audit` and `features`."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from image_classification_trash.config.base import (
    MAX_SEED,
    BackboneSettings,
    DataSet,
    EngineSettings,
    InputSettings,
    JsonOutput,
    Positional,
    Repeated,
    ReportsFolder,
    StageSettings,
)


class DataSettings(EngineSettings, DataSet, StageSettings):
    """Prepare a data set: fetch, check every photo, find near-duplicates, split, write the manifest."""

    stage: ClassVar[str] = "data"
    usual: ClassVar[tuple[str, ...]] = (
        "name", "source", "sources", "split", "leave_out", "seed", "val_fraction", "test_fraction", "corrections",
        "embeddings", "force", "data_dir", "engine",
    )  # fmt: skip

    source: Repeated[list[Path]] = Field(
        [],
        description="Photos: a zip, a folder of class folders, or a CSV with filepath,label[,split,group]; "
        "several with the same classes are merged; sample and trashnet need none",
    )
    sources: Path | None = Field(
        None,
        description="Data sources file: YAML that combines several sources, each with its labels, licence, role and weight",
    )
    layout: Literal["auto", "classes", "splits", "class-splits", "sites"] = Field(
        "auto", description="How the folders of --source are read; auto: the one layout that fits"
    )
    columns: list[str] = Field(
        [],
        description="Meaning of a CSV's columns that have other names, such as filepath=image,label=category",
    )
    photos_dir: Path | None = Field(
        None, description="Folder that the paths in a CSV start from; default: the CSV's own"
    )
    zip_encoding: str | None = Field(
        None, description="Encoding of the file names in a zip that does not state it, such as gbk"
    )
    split: Literal["auto", "official", "stratified", "grouped", "object-clusters", "source"] = Field(
        "auto",
        description="How the photos are split; auto: official where the photos come with a split, else grouped; "
        "object-clusters: val and test show clusters of objects that train does not; "
        "source: the sources of --leave-out become test",
    )
    leave_out: Repeated[list[str]] = Field(
        [], description="Source of --sources whose photos all become test, with --split source"
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Random seed of the split")
    val_fraction: float = Field(0.15, gt=0, lt=0.5, description="Share of the photos for validation")
    test_fraction: float = Field(0.15, gt=0, lt=0.5, description="Share of the photos for the test")
    corrections: Path | None = Field(
        None, description="CSV of photos to leave out or relabel; `audit` writes one for you to review"
    )
    embeddings: bool = Field(True, description="Find near-duplicates by embeddings too, not just by hashes")
    force: bool = Field(False, description="Prepare the data set again even if nothing has changed")

    @field_validator("source", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """Accept one path, as recipes and callers write it, for a list of one."""
        return [] if value is None else value if isinstance(value, list | tuple) else [value]


class ExploreSettings(ReportsFolder, DataSet, StageSettings):
    """Draw a prepared data set: class balance, contact sheets, embedding map, near-duplicates, augmentation."""

    stage: ClassVar[str] = "explore"
    usual: ClassVar[tuple[str, ...]] = ("name", "data_dir", "reports_dir")


class AuditSettings(JsonOutput, ReportsFolder, DataSet, StageSettings):
    """Look for errors in a prepared data set: contradictions, duplicates, doubtful labels, poor and odd photos."""

    stage: ClassVar[str] = "audit"
    usual: ClassVar[tuple[str, ...]] = ("name", "seed", "show", "json_output", "data_dir", "reports_dir")

    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Random seed of the cross-validation that finds doubtful labels"
    )
    show: int = Field(48, ge=1, description="Number of photos per issue on the page; the CSV lists all")


class FeatureSettings(EngineSettings, DataSet, BackboneSettings, InputSettings, StageSettings):
    """Decode all photos once into pixel caches, and compute their embeddings."""

    stage: ClassVar[str] = "features"
    usual: ClassVar[tuple[str, ...]] = (
        "name", "architecture", "weights", "pretrained", "input_height", "input_width", "resize_mode",
        "data_dir", "engine",
    )  # fmt: skip


class ShardsSettings(JsonOutput, StageSettings):
    """List the photos of a folder, a list or a bucket as shards, which predict --shards answers."""

    stage: ClassVar[str] = "shards"
    usual: ClassVar[tuple[str, ...]] = ("source", "output", "shard_photos", "json_output")

    source: Positional[str] = Field(
        description="Photos: a folder, a file with one path or address a line, or a bucket such as s3://bucket/folder"
    )
    output: str = Field(
        description="Folder or bucket that the shards are written to; it must not exist or be empty"
    )
    shard_photos: int = Field(10_000, ge=1, le=1_000_000, description="Number of photos in a shard")

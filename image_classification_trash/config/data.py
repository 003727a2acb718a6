"""Settings of `data`, `explore`, `audit` and `features`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
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
    ReportsFolder,
    StageSettings,
)


class DataSettings(DataFolder, StageSettings):
    """Prepare a data set: fetch, check every photo, find near-duplicates, split, write the manifest."""

    stage: ClassVar[str] = "data"
    model_config = SettingsConfigDict(env_prefix="TRASH_DATA_")

    name: CliPositionalArg[DataName] = "sample"
    source: Path | None = Field(
        None,
        description="zip, folder of class folders, or CSV filepath,label[,split,group]; default: by name",
    )
    split: Literal["auto", "official", "stratified", "grouped", "kinds"] = Field(
        "auto",
        description="how to part the photos; auto: the split that comes with them, else grouped; kinds: val and test "
        "show kinds of objects that train does not",
    )
    seed: int = Field(0, ge=0, description="of the split")
    val_fraction: float = Field(0.15, gt=0, lt=0.5, description="share of the photos for validation")
    test_fraction: float = Field(0.15, gt=0, lt=0.5, description="share of the photos for the test")
    corrections: Path | None = Field(
        None, description="CSV of photos to leave out or to relabel; `audit` writes one to decide on"
    )
    embeddings: bool = Field(True, description="find near-duplicates by embeddings too, not by hashes alone")
    force: bool = Field(False, description="prepare again even if nothing has changed")


class ExploreSettings(ReportsFolder, DataFolder, StageSettings):
    """Look at a prepared data set: class balance, contact sheets, embedding map, near-duplicates, augmentation."""

    stage: ClassVar[str] = "explore"
    model_config = SettingsConfigDict(env_prefix="TRASH_EXPLORE_")

    name: CliPositionalArg[DataName] = "sample"


class AuditSettings(ReportsFolder, DataFolder, StageSettings):
    """Look for faults in a prepared data set: contradictions, duplicates, suspect labels, poor and odd photos."""

    stage: ClassVar[str] = "audit"
    model_config = SettingsConfigDict(env_prefix="TRASH_AUDIT_", cli_shortcuts=JSON_FLAG)

    name: CliPositionalArg[DataName] = "sample"
    seed: int = Field(0, ge=0, description="of the folds that suspect labels are found with")
    show: int = Field(48, ge=1, description="photos of each kind on the page; the CSV has all of them")
    json_output: bool = Field(False, description="print the findings as JSON")


class FeatureSettings(DataFolder, BackboneSettings, InputSettings, StageSettings):
    """Decode all photos once into pixel caches, and compute their embeddings."""

    stage: ClassVar[str] = "features"
    model_config = SettingsConfigDict(env_prefix="TRASH_FEATURES_")

    name: CliPositionalArg[DataName] = "sample"

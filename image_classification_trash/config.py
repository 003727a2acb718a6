"""Every setting, one model per stage. Defaults < YAML recipe < environment < flags.

    trash-classifier train trashnet --config configs/efficientnet_lite0.yaml --epochs 3
    TRASH_TRAIN_EPOCHS=3 trash-classifier train trashnet

A recipe has one section per stage (`data:`, `train:`, ...), each with the names below.
"""

import difflib
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from image_classification_trash.errors import SettingsError

SettingsT = TypeVar("SettingsT", bound="StageSettings")
DataName = Annotated[
    str, Field(pattern=r"^[\w][\w .-]*$", description="data set: sample, trashnet, or a name of your own")
]
_JSON = {"json-output": "json"}
FitName = Literal["stretch", "crop", "pad"]
ActionName = Literal["list", "show", "compare", "register", "promote", "rollback"]
FormatName = Literal["onnx", "saved_model", "tflite"]
PrecisionName = Literal["float32", "fp16", "dynamic", "int8"]
SearchedName = Literal[
    "learning_rate", "backbone_rate", "weight_decay", "mixup", "label_smoothing", "freeze_stages", "dropout"
]


class StageSettings(BaseSettings):
    """What all stages share."""

    stage: ClassVar[str]
    begins_with: ClassVar[type["StageSettings"] | None] = None
    """The stage whose section of a recipe is read first, below this one's own."""
    model_config = SettingsConfigDict(
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    config: Path | None = Field(None, description="YAML recipe; its section named after the command is read")


class InputSettings(StageSettings):
    """How photos enter the network; kept in the bundle."""

    input_height: int = Field(224, ge=32, le=1024, description="pixels; photos are brought to this height")
    input_width: int = Field(288, ge=32, le=1024, description="pixels; photos are brought to this width")
    fit: FitName = Field("stretch", description="how a frame of another shape meets the input size")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.input_height, self.input_width


class ProjectSettings(StageSettings):
    """Where the tracker keeps what it is told."""

    tracker_project: str = Field(
        "image-classification-trash", min_length=1, description="the tracker's project"
    )
    tracker_entity: str | None = Field(None, description="the tracker's team or user; default: the key's own")


class TrackSettings(ProjectSettings):
    """Where a run is followed from outside."""

    tracker: Literal["none", "wandb"] = Field("none", description="where the run is followed; wandb: W&B")
    log_photos: bool = Field(False, description="give the tracker the photos too, not their list alone")


class DataSettings(StageSettings):
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
    raw_dir: Path = Field(Path("data/raw"), description="where archives are unpacked")
    interim_dir: Path = Field(Path("data/interim"), description="where caches are kept")
    processed_dir: Path = Field(Path("data/processed"), description="where prepared data sets are kept")


class ExploreSettings(StageSettings):
    """Look at a prepared data set: class balance, contact sheets, embedding map, near-duplicates, augmentation."""

    stage: ClassVar[str] = "explore"
    model_config = SettingsConfigDict(env_prefix="TRASH_EXPLORE_")

    name: CliPositionalArg[DataName] = "sample"
    interim_dir: Path = Field(Path("data/interim"), description="where caches are kept")
    processed_dir: Path = Field(Path("data/processed"), description="where prepared data sets are kept")
    reports_dir: Path = Field(Path("reports"), description="where the report and its figures go")


class AuditSettings(StageSettings):
    """Look for faults in a prepared data set: contradictions, duplicates, suspect labels, poor and odd photos."""

    stage: ClassVar[str] = "audit"
    model_config = SettingsConfigDict(env_prefix="TRASH_AUDIT_", cli_shortcuts=_JSON)

    name: CliPositionalArg[DataName] = "sample"
    seed: int = Field(0, ge=0, description="of the folds that suspect labels are found with")
    show: int = Field(48, ge=1, description="photos of each kind on the page; the CSV has all of them")
    json_output: bool = Field(False, description="print the findings as JSON")
    interim_dir: Path = Field(Path("data/interim"), description="where caches are kept")
    processed_dir: Path = Field(Path("data/processed"), description="where prepared data sets are kept")
    reports_dir: Path = Field(Path("reports"), description="where the page, the table and the corrections go")


class FeatureSettings(InputSettings):
    """Decode all photos once into pixel caches, and compute their embeddings."""

    stage: ClassVar[str] = "features"
    model_config = SettingsConfigDict(env_prefix="TRASH_FEATURES_")

    name: CliPositionalArg[DataName] = "sample"
    architecture: str = Field("efficientnet_lite0", description="whose embeddings; any timm name works")
    weights: Path | None = Field(
        None, description="local weights file of the backbone (.safetensors or .pth)"
    )
    pretrained: bool = Field(True, description="begin from pretrained weights; --no-pretrained: random ones")
    interim_dir: Path = Field(Path("data/interim"), description="where caches are kept")
    processed_dir: Path = Field(Path("data/processed"), description="where prepared data sets are kept")


class TrainSettings(InputSettings, TrackSettings):
    """Train a classifier: a head on cached embeddings, then the whole network; writes a bundle."""

    stage: ClassVar[str] = "train"
    model_config = SettingsConfigDict(env_prefix="TRASH_TRAIN_")

    name: CliPositionalArg[DataName] = "sample"
    output: str | None = Field(
        None, pattern=r"^[\w][\w .-]*$", description="name of the bundle in models/; default: the data set's"
    )
    architecture: str = Field(
        "efficientnet_lite0",
        description="resnet18, efficientnet_lite0, efficientnet_lite2, sequential_cnn or any timm name",
    )
    weights: Path | None = Field(
        None, description="local weights file of the backbone (.safetensors or .pth)"
    )
    pretrained: bool = Field(True, description="begin from pretrained weights; --no-pretrained: random ones")
    seed: int = Field(0, ge=0, description="of shuffling, augmentation and dropout")

    start: list[Path] = Field(
        [],
        description="bundles to go on from: the average of their weights, instead of pretrained weights; several: --start A --start B",
    )
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
    dropout: float = Field(0.2, ge=0, lt=1, description="before the head")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="probability shared among the other classes")
    class_weighting: float = Field(
        0.5, ge=0, le=1, description="0: all photos weigh the same; 1: all classes weigh the same"
    )
    ema_decay: float = Field(0.995, ge=0, lt=1, description="of the averaged weights; 0: no averaging")
    patience: int = Field(10, ge=1, description="epochs without a better validation macro-F1 before stopping")

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

    teacher: list[Path] = Field(
        [],
        description="bundles whose mean probabilities are learned beside the labels (distillation); several: --teacher A --teacher B",
    )
    teacher_share: float = Field(0.5, ge=0, le=1, description="of the target that is the teachers'")

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
    detector: bool = Field(
        False,
        description="learn to tell photos without waste from drawn grounds; they are answered `not waste`",
    )
    devices: int = Field(1, ge=1, description="processes or accelerators to train on together (DDP)")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="what to train on")
    workers: int | None = Field(
        None, ge=0, description="processes that alter photos; default: up to 8 beside a GPU, none on a CPU"
    )
    resume: bool = Field(False, description="go on where a killed run stopped")
    interim_dir: Path = Field(Path("data/interim"), description="where caches are kept")
    processed_dir: Path = Field(Path("data/processed"), description="where prepared data sets are kept")
    models_dir: Path = Field(Path("models"), description="where the bundle goes")
    reports_dir: Path = Field(Path("reports"), description="where logs and checkpoints go")

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
    model_config = SettingsConfigDict(env_prefix="TRASH_TUNE_", cli_shortcuts=_JSON)

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


class EvaluateSettings(TrackSettings):
    """Evaluate a bundle on the test part of its data set, or on any labelled folder; writes figures and a report."""

    stage: ClassVar[str] = "evaluate"
    model_config = SettingsConfigDict(env_prefix="TRASH_EVALUATE_", cli_shortcuts=_JSON)

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
    interim_dir: Path = Field(Path("data/interim"), description="where caches are kept")
    processed_dir: Path = Field(Path("data/processed"), description="where prepared data sets are kept")
    models_dir: Path = Field(Path("models"), description="where bundles are looked for")
    reports_dir: Path = Field(Path("reports"), description="where the report and its figures go")


class ModelsSettings(ProjectSettings):
    """List, compare and promote bundles: versions that no training touches, and aliases such as `production`."""

    stage: ClassVar[str] = "models"
    model_config = SettingsConfigDict(env_prefix="TRASH_MODELS_", cli_shortcuts=_JSON)
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
    models_dir: Path = Field(Path("models"), description="where bundles and their versions are kept")

    @model_validator(mode="after")
    def _models_named(self) -> Self:
        count = self.takes[self.action]
        if len(self.models) != count:
            raise ValueError(f"{self.action} takes {count} models, not {len(self.models)}")
        if self.alias == "latest":
            raise ValueError("latest is always the newest version; choose another alias")
        return self


class ExportSettings(StageSettings):
    """Export a bundle to ONNX, TFLite and SavedModel, each file verified against the trained model."""

    stage: ClassVar[str] = "export"
    model_config = SettingsConfigDict(env_prefix="TRASH_EXPORT_", cli_shortcuts=_JSON)

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
    interim_dir: Path = Field(Path("data/interim"), description="where caches are kept")
    processed_dir: Path = Field(Path("data/processed"), description="where prepared data sets are kept")
    models_dir: Path = Field(Path("models"), description="where bundles are looked for")


class BenchmarkSettings(StageSettings):
    """Time a bundle in all its files and engines, side by side."""

    stage: ClassVar[str] = "benchmark"
    model_config = SettingsConfigDict(env_prefix="TRASH_BENCHMARK_", cli_shortcuts=_JSON)

    bundle: CliPositionalArg[Path | None] = Field(
        None, description="folder, name, version or alias of a bundle; default: the newest in models/"
    )
    photos: Path = Field(Path("data/sample"), description="folder with photos to time with")
    count: int = Field(64, ge=1, description="photos of a round")
    rounds: int = Field(5, ge=1, description="how often each engine has its turn; medians are shown")
    json_output: bool = Field(False, description="print the figures as JSON")
    models_dir: Path = Field(Path("models"), description="where bundles are looked for")
    reports_dir: Path = Field(Path("reports"), description="where the plot goes")


class PredictSettings(StageSettings):
    """Classify photos: files, folders, globs, URLs, or `-` for a list on standard input."""

    stage: ClassVar[str] = "predict"
    model_config = SettingsConfigDict(env_prefix="TRASH_PREDICT_", cli_shortcuts=_JSON)

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
    models_dir: Path = Field(Path("models"), description="where bundles are looked for")

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


class MonitorSettings(StageSettings):
    """Compare photos, or a gateway's statistics, with what a bundle learned from; exit status 4 where they differ."""

    stage: ClassVar[str] = "monitor"
    model_config = SettingsConfigDict(env_prefix="TRASH_MONITOR_", cli_shortcuts=_JSON)

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
    interim_dir: Path = Field(Path("data/interim"), description="where caches are kept")
    processed_dir: Path = Field(Path("data/processed"), description="where prepared data sets are kept")
    models_dir: Path = Field(Path("models"), description="where bundles are looked for")

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


class ServeSettings(StageSettings):
    """Answer requests: a REST gateway with a web page, for one bundle or one exported file."""

    stage: ClassVar[str] = "serve"
    model_config = SettingsConfigDict(env_prefix="TRASH_SERVE_")

    model: CliPositionalArg[Path | None] = Field(
        None,
        description="folder, name, version or alias of a bundle, or an exported file; default: production, or the newest in models/, or the shipped one",
    )
    runtime: str = Field(
        "auto",
        description="engine: litert, onnxruntime, tf-serving (a model server), or auto: the first that can",
    )
    backend_url: str | None = Field(
        None, pattern=r"^https?://[^/?#\s]+/?$", description="model server's REST interface; for tf-serving"
    )
    backend_model: str = Field(
        "trash", pattern=r"^[\w.-]+$", description="the model's name on the model server"
    )
    backend_seconds: float = Field(5, gt=0, description="for the model server to answer; beyond it 504")
    backend_retries: int = Field(
        2, ge=0, le=10, description="further tries when the model server is away or busy; then 502"
    )
    backend_connections: int = Field(16, ge=1, le=256, description="photos at the model server at once")
    threads: int = Field(1, ge=1, description="of one run of the model; as many runs at once as cores allow")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0: every network of this machine")
    port: int = Field(8080, ge=0, le=65535, description="to listen on; 0: one that is free")
    workers: int = Field(1, ge=1, le=64, description="processes that answer; the cores are shared among them")
    queue_size: int = Field(
        32, ge=0, description="photos that may wait for the model, in each worker; beyond it 503"
    )
    max_requests: int = Field(
        128, ge=1, description="requests held at once by a worker, uploads included; beyond it 503"
    )
    max_photos: int = Field(16, ge=1, description="photos of one request")
    max_mb: float = Field(32, gt=0, description="MiB of a request's body, and of a photo behind an address")
    upload_seconds: float = Field(60, gt=0, description="for a request's body to arrive; beyond it 408")
    fetch_seconds: float = Field(10, gt=0, description="for a photo behind an address, redirects included")
    model_seconds: float = Field(10, gt=0, description="for decoding and the model; beyond it 504")
    stop_seconds: int = Field(
        30, ge=1, description="for requests in flight to finish when the gateway is stopped"
    )
    allowed_hosts: list[str] = Field(
        [], description="hosts that photos are fetched from, *.example.org for those below; none: all public"
    )
    allowed_ports: list[int] = Field([80, 443], description="ports that photos are fetched from")
    statistics: Path | None = Field(
        None, description="JSON file for counts of the answers, which `monitor` reads; anew at each start"
    )
    statistics_seconds: float = Field(60, gt=0, description="between two writings of --statistics")
    models_dir: Path = Field(Path("models"), description="where bundles are looked for")

    @property
    def max_bytes(self) -> int:
        """`max_mb` in bytes."""
        return int(self.max_mb * 2**20)

    @model_validator(mode="after")
    def _model_server_named(self) -> Self:
        if (self.runtime == "tf-serving") != (self.backend_url is not None):
            raise ValueError("--runtime tf-serving and --backend-url belong together")
        return self

    @model_validator(mode="after")
    def _room_for_one_request(self) -> Self:
        if self.max_photos > self.queue_size + 1:
            raise ValueError("max_photos may be at most queue_size + 1, or a full request would never fit")
        return self


STAGES: tuple[type[StageSettings], ...] = (
    DataSettings, AuditSettings, ExploreSettings, FeatureSettings, TrainSettings, TuneSettings, EvaluateSettings, ModelsSettings,
    ExportSettings, BenchmarkSettings, PredictSettings, MonitorSettings, ServeSettings,
)  # fmt: skip


def load_settings(cls: type[SettingsT], arguments: Sequence[str]) -> SettingsT:
    """Settings of one stage from a command line's arguments, the environment and the recipe they name.

    Raises:
        SettingsError: an unknown name (the nearest is suggested) or an impossible value; says where.
        SystemExit: after `--help`.
    """
    _check_environment(cls)
    origins: dict[str, Mapping[str, Any]] = {}
    try:
        flags = CliSettingsSource[Any](
            cls,
            cli_parse_args=_join_lists(cls, arguments),
            cli_exit_on_error=False,
            cli_prog_name=f"trash-classifier {cls.stage}",
        )()
        environment = EnvSettingsSource(cls)()
        file = flags.get("config") or environment.get("config")
        recipe = read_recipe(Path(file), cls) if file else {}
        origins = {"command line": flags, "environment": environment, str(file): recipe}
        return cls(**{**recipe, **environment, **flags})
    except PydanticSettingsError as error:
        raise _unknown_flag(cls, str(error)) from error
    except ValidationError as error:
        raise _impossible_value(cls, error, origins) from error


def read_recipe(path: Path, cls: type[StageSettings]) -> dict[str, Any]:
    """One stage's section of a YAML recipe, over that of the stage it begins with.

    Raises:
        SettingsError: the file is missing or not YAML, or it holds an unknown section or name.
    """
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}.", "Give --config a YAML file."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {error}.", "Mend the line it names.") from error
    if not isinstance(recipe, dict):
        raise SettingsError(f"{path} holds no sections.", f"Begin it with `{cls.stage}:`.")
    _check_names(f"{path}: section", recipe, [stage.stage for stage in STAGES])
    section = recipe.get(cls.stage) or {}
    if not isinstance(section, dict):
        raise SettingsError(
            f"{path}: {cls.stage} holds no settings.", "Write them below it, as `name: value`."
        )
    _check_names(f"{path}: {cls.stage}:", section, cls.model_fields)
    return {**read_recipe(path, cls.begins_with), **section} if cls.begins_with else section


def _join_lists(cls: type[StageSettings], arguments: Sequence[str]) -> list[str]:
    """`--format onnx tflite` as `--format=onnx,tflite`: the words behind a flag that takes several of a few names."""
    choices = {
        f"--{name.replace('_', '-')}": get_args(get_args(field.annotation)[0])
        for name, field in cls.model_fields.items()
        if get_origin(field.annotation) is list and get_origin(get_args(field.annotation)[0]) is Literal
    }
    joined: list[str] = []
    rest = deque(arguments)
    while rest:
        word = rest.popleft()
        names: list[str] = []
        while word in choices and rest and (rest[0] in choices[word] or (not names and rest[0][:2] != "--")):
            names.append(rest.popleft())
        joined.append(f"{word}={','.join(names)}" if names else word)
    return joined


def _check_names(where: str, names: Iterable[Any], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise SettingsError(f"{where} {name!r} is not known.", _suggestion(str(name), known))


def _check_environment(cls: type[StageSettings]) -> None:
    prefix = str(cls.model_config.get("env_prefix", ""))
    names = [name[len(prefix) :].lower() for name in os.environ if name.upper().startswith(prefix)]
    _check_names(f"Environment variable {prefix}*: setting", names, cls.model_fields)


def _unknown_flag(cls: type[StageSettings], message: str) -> SettingsError:
    found = message.removeprefix("error parsing CLI: ")
    unknown = found.rpartition("unrecognized arguments: ")[2].split("=")[0].split()
    known = [f"--{name.replace('_', '-')}" for name in cls.model_fields]
    hint = _suggestion(unknown[0], known) if "unrecognized" in found else ""
    return SettingsError(f"{found}.", hint or f"See: trash-classifier {cls.stage} --help")


def _impossible_value(
    cls: type[StageSettings], error: ValidationError, origins: Mapping[str, Mapping[str, Any]]
) -> SettingsError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    # The strongest origin comes first, and its value is the one that was checked.
    origin = next(
        (where for where, values in origins.items() if first["loc"][:1] and first["loc"][0] in values), ""
    )
    if first["type"] == "missing":
        return SettingsError(f"{name} is missing.", f"See: trash-classifier {cls.stage} --help")
    if not name:  # settings that contradict one another
        return SettingsError(f"{cls.stage}: {first['msg'].removeprefix('Value error, ')}.", "")
    where = f"{origin}: {cls.stage}" if origin else cls.stage
    found = f"{where}: {name} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."
    return SettingsError(found, f"See: trash-classifier {cls.stage} --help")


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."

"""A trained model on disk: a directory that describes itself, checked whenever it is read.

models/quickstart/
    config.json         architecture, labels, input size, resize mode, temperature, threshold, provenance
    labels.txt          one label a line, in the order of the probabilities
    model.safetensors   weights
    metrics.json        what was measured, with its conditions
    README.md           the model card
    class_means.npz     mean embedding and number of training photos of each class, which `adapt` holds on to
    NOTICE.txt          authors and licences of the training photos, if a data sources file named them
    SHA256SUMS          checksums of all files (`sha256sum -c SHA256SUMS` works too)
    export/             model.onnx, model.tflite, ... once exported

Checksums are verified when a file is read: those beside config.json with the bundle, an exported file when it is
opened. An exported file contains its description, so that it can be used without its bundle.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from image_classification_trash.errors import BundleError
from image_classification_trash.files import (
    MAX_JSON_BYTES,
    atomic_directory,
    check_replaceable,
    parse_json,
    read_limited,
    recover_directory,
    sha256_of,
    sha256_of_file,
    write_bytes,
    write_text,
)
from image_classification_trash.inference.images import RESIZE_MODES, ResizeMode, Size

FORMAT_VERSION = 1
CONFIG, LABELS, WEIGHTS, METRICS, CARD, CHECKSUMS = (
    "config.json", "labels.txt", "model.safetensors", "metrics.json", "README.md", "SHA256SUMS",
)  # fmt: skip
EXPORT, REPORT, NOTICE = "export", "report.json", "NOTICE.txt"
FILE_SUFFIXES = (".tflite", ".onnx")
"""Suffixes of exported files that stand for a model by themselves."""
NEGATIVE_LABEL = "not waste"
TRASHNET_LABELS = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
TRASHNET_LICENSE, UNSTATED = "MIT", "not stated; the owner of the training photos decides"
_NAMES_BEFORE = {
    "answered": "accepted",
    "candidate_mass": "conformal_threshold",
    "candidates": "prediction_set",
    "answered_above_0.9": "accepted_above_0.9",
    "detector": "rejection_head",
    "fit": "resize_mode",
    "most_confident": "accuracy_at_coverage",
    "no_waste": "not_waste",
    "pasted": "copy_pasted",
    "strength": "inverse_regularisation",
    "turned_away": "rejected",
    "turned_away_of_model": "rejected_of_model",
    # settings
    "blend": "wise_ft",
    "candidate_coverage": "prediction_set_coverage",
    "frequency_correction": "logit_adjustment",
    "most_turned_away": "max_rejected",
    "paste": "copy_paste",
    "start": "init_from",
    "teacher_share": "distillation_weight",
}
"""Names in files of earlier versions, and their present names."""
_BY_LABEL = {
    "counts",
    "per_class",
    "overlap",
    "versions",
    "ancestors",
    "sources",
    "by_source",
    "not_waste_by_source",
}
_ADDED_LATER = {"negative_label", "negative_threshold", "conformal_threshold"}
"""Fields that bundles of earlier releases lack."""
_NUMBER = (int, float)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "name": str, "architecture": str, "git_commit": str, "created": str, "license": str,
    "input_height": int, "input_width": int, "temperature": _NUMBER, "threshold": _NUMBER, "negative_threshold": _NUMBER,
    "conformal_threshold": (*_NUMBER, type(None)), "negative_label": (str, type(None)), "labels": tuple,
    "data": dict, "data.name": str, "data.fingerprint": str, "data.split": dict, "data.counts": dict,
    "training": dict, "training.settings": dict, "training.seconds": _NUMBER, "training.machine": str,
    "training.ancestors": dict, "versions": dict,
}  # fmt: skip
"""Types of what a description holds; what a dot names is a member of `data` or `training`, which need not be there."""
_EXPORT_AGAIN = "Export it again with: trash-classifier export"
_TRAIN_AGAIN = "Train it again with: trash-classifier train"


class Members(dict[str, Any]):
    """A JSON object of a description; what it lacks is an error of the model, wherever it is asked for."""

    origin = "The model's description"

    def __missing__(self, name: str) -> Any:
        """Raise a BundleError that names the file and what it lacks."""
        raise BundleError(f"{self.origin} has no {name!r}.", _TRAIN_AGAIN)

    @classmethod
    def of(cls, value: Any, origin: str) -> Any:
        """Return plain data in which every object is one of these, and names `origin`."""
        if not isinstance(value, dict):
            return value
        members = cls((name, cls.of(inner, origin)) for name, inner in value.items())
        members.origin = origin
        return members


@dataclass(frozen=True)
class BundleConfig:
    """What a program must know to use the model, and its provenance.

    `labels` names the model's outputs in their order. `temperature` divides the logits inside the model graph.
    `threshold` is the smallest top probability that is accepted; below it the decision is `unsure`. A model with a
    rejection head has `negative_label` as its last label, which is the decision where its probability reaches
    `negative_threshold`. A prediction set takes the most probable classes until they hold more than
    `conformal_threshold`; None if that was not fitted.
    """

    name: str
    architecture: str
    labels: tuple[str, ...]
    input_height: int
    input_width: int
    resize_mode: ResizeMode
    temperature: float
    threshold: float
    data: dict[str, Any]
    training: dict[str, Any]
    git_commit: str
    versions: dict[str, str]
    created: str
    license: str = UNSTATED
    format_version: int = FORMAT_VERSION
    negative_label: str | None = None
    negative_threshold: float = 0.5
    conformal_threshold: float | None = None

    @property
    def title(self) -> str:
        """Name and architecture, which tables begin with."""
        return f"{self.name}, {self.architecture}"

    @property
    def input_size(self) -> Size:
        """Height and width of the model's input, in pixels."""
        return self.input_height, self.input_width

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels except the negative one."""
        return self.labels if self.negative_label is None else self.labels[:-1]

    @property
    def is_of_trashnet(self) -> bool:
        """Whether it was trained on TrashNet's photos of waste, as the sample is, and not on a data set of someone's own."""
        return is_trashnet(self.data.get("name", ""), self.classes)


def is_trashnet(name: str, classes: Sequence[str]) -> bool:
    """Return whether a data set of this name with these classes is TrashNet, or the sample of it."""
    return name in ("trashnet", "sample") and tuple(classes) == TRASHNET_LABELS


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read, and whose files match their checksums; or one exported file, which has nothing beside it."""

    path: Path
    config: BundleConfig

    @property
    def is_file(self) -> bool:
        """Return whether it is one exported file: without weights to train or export, and never written to."""
        return self.path.is_file()

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.path / WEIGHTS

    def metrics(self) -> dict[str, Any]:
        """Read what was measured so far; empty before the first evaluation."""
        file = self.path / METRICS
        return _figures(file)

    def export_report(self) -> dict[str, Any]:
        """Read the results of the export gate, by file; empty before the first export."""
        file = self.path / EXPORT / REPORT
        return _figures(file)

    def exported(self, name: str) -> Path:
        """The path of an exported file or folder, such as `model.tflite`, whose checksums were compared.

        Raises:
            BundleError: there is none, or it was changed.
        """
        path = self._export(name)
        _check_sums(self.path, f"{EXPORT}/{name}")
        return path

    def read_exported(self, name: str) -> tuple[Path, bytes]:
        """Read an exported file once: the bytes returned are those whose checksum was compared.

        Raises:
            BundleError: there is none, or it was changed.
        """
        path = self._export(name)
        content = path.read_bytes()
        expected = _listed_sums(self.path).get(f"{EXPORT}/{name}")
        if expected is None:
            raise BundleError(f"{path} is not in the bundle's {CHECKSUMS}.", _EXPORT_AGAIN)
        if sha256_of(content) != expected:
            raise _changed(path)
        return path, content

    def _export(self, name: str) -> Path:
        path = self.path / EXPORT / name
        if not path.exists():
            found = f"{self.path} has no {EXPORT}/{name}."
            raise BundleError(found, f"Make it with: trash-classifier export {self.path}")
        return path


def read_bundle(path: Path | str) -> Bundle:
    """Read and check a bundle.

    Raises:
        BundleError: not a bundle, a file is missing or was changed, or its files contradict one another.
    """
    path = Path(path)
    if path.is_file() and path.suffix in FILE_SUFFIXES:
        found = f"{path} is one exported file, without the weights of a bundle."
        raise BundleError(
            found, "Give a bundle's folder. Files do for predict, serve, evaluate, benchmark and adapt."
        )
    recover_directory(path)
    if not (path / CONFIG).is_file():
        found = f"{path} is not a trained model: it has no {CONFIG}."
        raise BundleError(found, f"Give the folder of a bundle, or make one. {_TRAIN_AGAIN}")
    listed = _check_sums(path)
    for required in (CONFIG, LABELS, WEIGHTS):
        if required not in listed:
            raise BundleError(f"{path}: {required} is not in the bundle's {CHECKSUMS}.", _TRAIN_AGAIN)
    text = _text(path / CONFIG)
    config = _parse_config(text, str(path / CONFIG))
    if _text(path / LABELS) != _labels_text(config.labels):
        raise BundleError(f"{path}: {LABELS} and {CONFIG} name different labels.", _TRAIN_AGAIN)
    return Bundle(path, config)


def newest_bundle(models_dir: Path) -> Path:
    """Return the folder of the bundle trained last.

    Raises:
        BundleError: there is none.
    """
    configs = list(models_dir.glob(f"*/{CONFIG}"))
    if not configs:
        hint = "Train one: trash-classifier data sample, then trash-classifier train sample"
        raise BundleError(f"There is no trained model in {models_dir}.", hint)
    return max(configs, key=lambda path: path.stat().st_mtime).parent


def write_bundle(path: Path, config: BundleConfig, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle atomically; one that exists at `path` is replaced once the new one is complete.

    Raises:
        OutputError: something else stands there.
    """
    check_replaceable(path, CONFIG)
    with atomic_directory(path) as folder:
        (folder / CONFIG).write_text(_to_json(asdict(config)), encoding="utf-8")
        (folder / LABELS).write_bytes(_labels_text(config.labels).encode())
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        write_checksums(folder)
    return read_bundle(path)


def add_to_bundle(bundle: Bundle, files: Mapping[str, str | bytes]) -> None:
    """Add or replace small files (metrics, model card) of a bundle, and its checksums, atomically."""
    add_files(bundle, {}, files)


def add_files(bundle: Bundle, folders: Mapping[str, Path], files: Mapping[str, str | bytes]) -> None:
    """Add the contents of `folders` below the names given, and small files, atomically.

    Existing files of the same name are replaced, others stay; a folder inside one of `folders` replaces that of its name.
    """
    with atomic_directory(bundle.path) as whole:
        shutil.copytree(bundle.path, whole, dirs_exist_ok=True, copy_function=_link_or_copy)
        for name, folder in folders.items():
            for entry in folder.iterdir():
                if (whole / name / entry.name).is_dir():
                    shutil.rmtree(whole / name / entry.name)
            shutil.copytree(folder, whole / name, dirs_exist_ok=True, copy_function=_copy_beside)
        for name, content in files.items():
            write_bytes(whole / name, content.encode() if isinstance(content, str) else content)
        write_checksums(whole)


def _link_or_copy(source: str, target: str) -> None:
    """Hard-link a file where the file system can, else copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _copy_beside(source: str, target: str) -> None:
    """Copy to a new file, because `target` may be a hard link to a file of the bundle in use."""
    Path(target).unlink(missing_ok=True)
    shutil.copy2(source, target)


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS over every other file below `folder`."""
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and file.name != CHECKSUMS and not file.name.startswith(".")
    )
    lines = [f"{sha256_of_file(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    write_text(folder / CHECKSUMS, "".join(lines))


def _check_sums(path: Path, below: str = "") -> set[str]:
    """Check the files beside config.json, or what is at `below`; return the names that were checked."""
    checked = set()
    for name, expected in _listed_sums(path).items():
        is_wanted = f"{name}/".startswith(f"{below}/") if below else not name.startswith(f"{EXPORT}/")
        if not is_wanted:
            continue
        if not (path / name).is_file():
            raise BundleError(f"{path / name} is missing from the bundle.", "Copy the whole folder again.")
        if sha256_of_file(path / name) != expected:
            raise _changed(path / name)
        checked.add(name)
    if below and not checked:
        raise BundleError(f"{path / below} is not in the bundle's {CHECKSUMS}.", _EXPORT_AGAIN)
    return checked


def _listed_sums(path: Path) -> dict[str, str]:
    """Read the checksums that a bundle lists, by file."""
    listing = path / CHECKSUMS
    if not listing.is_file():
        raise BundleError(f"{path} has no {CHECKSUMS}, so its files cannot be trusted.", _TRAIN_AGAIN)
    lines = _text(listing).splitlines()
    sums = {name: expected for expected, _, name in (line.partition("  ") for line in lines)}
    if "" in sums:
        raise BundleError(f"{listing} is not a list of checksums.", "Copy the whole folder again.")
    return sums


def _text(file: Path) -> str:
    """Read a small text file of a bundle; raise a BundleError if it is too long or cannot be read."""
    try:
        return read_limited(file, MAX_JSON_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        raise BundleError(
            f"{file} cannot be read: {error.strerror}.", "Copy the whole folder again."
        ) from error


def _figures(file: Path) -> dict[str, Any]:
    """Read a JSON file of a bundle; empty if it does not exist. Raise a BundleError if it is damaged."""
    if not file.exists():
        return {}
    try:
        figures = parse_json(_text(file))
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: {error}.", "Copy the whole folder again.") from error
    if not isinstance(figures, dict):
        raise BundleError(f"{file} holds no figures.", "Copy the whole folder again.")
    return figures


def _changed(file: Path) -> BundleError:
    hint = "Copy the whole folder again, or make it again if it was edited."
    return BundleError(f"{file} does not match its checksum: it was changed or cut short.", hint)


def describe(config: BundleConfig, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the JSON inside an exported file: the description, headline metrics, and further facts."""
    headline = {
        part: {name: measured[name]["value"] for name in ("accuracy", "macro_f1") if measured[name]}
        | {"n": measured["n"]}
        for part, measured in metrics.items()
    }
    return _to_json({**asdict(config), "metrics": headline, **facts})


def parse_description(text: str, origin: str) -> BundleConfig:
    """Read what `describe` returned.

    Raises:
        BundleError: the text is damaged, or of another version; names `origin`.
    """
    return _parse_config(text, origin)


def renamed(record: Any) -> Any:
    """Rename the keys of a record that an earlier version wrote; keys that are labels stay."""
    if not isinstance(record, dict):
        return record
    return {
        _NAMES_BEFORE.get(name, name): value if name in _BY_LABEL else renamed(value)
        for name, value in record.items()
    }


def _parse_config(text: str, file: str) -> BundleConfig:
    try:
        values = parse_json(text)
        values = Members.of(renamed(values), file) if isinstance(values, dict) else values
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            found = f"{file} has bundle format {version}; this version of the program reads {FORMAT_VERSION}."
            raise BundleError(found, "Use the version of the program that wrote it, or train again.")
        required = {field.name for field in fields(BundleConfig)} - _ADDED_LATER
        _check_types(file, values)
        known = {k: values[k] for k in required} | {k: values[k] for k in _ADDED_LATER & set(values)}
        config = BundleConfig(**{**known, "labels": tuple(values["labels"])})
        if config.license == TRASHNET_LICENSE and not config.is_of_trashnet:
            config = replace(
                config, license=UNSTATED
            )  # earlier versions wrote TrashNet's licence into every bundle
        _check_values(file, config)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"{file} is not a bundle's description: {error!r}.", _TRAIN_AGAIN) from error
    return config


def _check_types(file: str, values: Mapping[str, Any]) -> None:
    labels = values["labels"]
    flat = {**values, "labels": tuple(labels) if isinstance(labels, list) else labels}
    for part in ("data", "training"):
        inner = values[part] if isinstance(values[part], dict) else {}
        flat |= {f"{part}.{name}": value for name, value in inner.items()}
    stated = {name: kind for name, kind in _TYPES.items() if name in flat}
    wrong = [n for n, kind in stated.items() if not isinstance(flat[n], kind) or isinstance(flat[n], bool)]
    wrong += [] if "labels" in wrong or all(isinstance(label, str) for label in labels) else ["labels"]
    if wrong:
        raise BundleError(f"{file}: impossible {', '.join(wrong)}.", _TRAIN_AGAIN)


def _check_values(file: str, config: BundleConfig) -> None:
    sane = {
        "labels": len(config.classes) >= 2 and len(set(config.labels)) == len(config.labels),
        "input size": config.input_height > 0 and config.input_width > 0,
        "resize mode": config.resize_mode in RESIZE_MODES,
        "temperature": 0 < config.temperature < math.inf,
        "threshold": 0 <= config.threshold <= 1,
        "negative label": config.negative_label is None or (config.negative_label,) == config.labels[-1:],
        "negative threshold": 0 <= config.negative_threshold <= 1,
        "conformal threshold": config.conformal_threshold is None or 0 <= config.conformal_threshold <= 1,
    }
    wrong = [name for name, good in sane.items() if not good]
    if wrong:
        raise BundleError(f"{file}: impossible {', '.join(wrong)}.", _TRAIN_AGAIN)


def _labels_text(labels: tuple[str, ...]) -> str:
    return "".join(f"{label}\n" for label in labels)


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n"

"""List versions and bundles."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from image_classification_trash.errors import BundleError
from image_classification_trash.evaluation.export_report import ExportRecord, exported_files
from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.result import TEST, Metrics, read_metrics
from image_classification_trash.inference.bundle import CONFIG, Bundle, read_bundle
from image_classification_trash.inference.model_store import (
    Registry,
    Version,
    check_version,
    content_of,
    find_model,
    read_registry,
)
from image_classification_trash.show import Result, Shown, Table

HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")


@dataclass(frozen=True)
class Entry:
    """A line of the list: a version, or a bundle that is not registered; `bundle` is None if it is damaged."""

    reference: str
    bundle: Bundle | None
    aliases: tuple[str, ...] = ()
    measured: Mapping[str, Metrics] = field(default_factory=dict)
    exported: Mapping[str, ExportRecord] = field(default_factory=dict)
    problem: str = ""

    def as_row(self) -> list[str]:
        """Return its cells: model, aliases, data, validation, test, exported files."""
        if self.bundle is None:
            return [self.reference, ", ".join(self.aliases), "damaged:", self.problem, "", ""]
        config, files = self.bundle.config, self.exported
        good = sum(record.problem is None for record in files.values())
        measured, accuracy = self.measured.get(TEST), config.training.get("validation", {}).get("accuracy")
        return [
            self.reference,
            ", ".join(self.aliases),
            f"{config.data['name']} {config.data['fingerprint'][:12]}",
            f"{accuracy:.1%}" if accuracy is not None and math.isfinite(accuracy) else "–",
            with_interval(measured.accuracy) if measured else "not measured",
            f"{good} of {len(files)} good" if files else "none",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        document: dict[str, Any] = {"model": self.reference, "aliases": list(self.aliases)}
        if self.bundle is None:
            return document | {"problem": self.problem}
        config, headline = self.bundle.config, ("n", *HEADLINE)
        measured = {photos: metrics.as_json() for photos, metrics in self.measured.items()}
        return document | {
            "folder": str(self.bundle.path),
            "architecture": config.architecture,
            "created": config.created,
            "data": config.data["name"],
            "fingerprint": config.data["fingerprint"],
            "validation": config.training.get("validation"),
            "measured": {photos: {name: m[name] for name in headline} for photos, m in measured.items()},
            "exported": {name: record.problem is None for name, record in self.exported.items()},
        }


@dataclass(frozen=True)
class ModelList(Result):
    """Versions and bundles."""

    entries: tuple[Entry, ...]

    def for_people(self) -> Iterator[Shown]:
        """Yield a table with one row per model, or a line that there is none."""
        if not self.entries:
            yield "no models yet: the one that comes with the package answers; train your own: trash-classifier train FOLDER"
            return
        header = ["model", "aliases", "data", "validation", "test accuracy (95% interval)", "exports"]
        yield Table(header, [entry.as_row() for entry in self.entries])

    def as_json(self) -> dict[str, Any]:
        """Return the entries as plain data for JSON."""
        return {"models": [entry.as_json() for entry in self.entries]}


def entries(models_dir: Path) -> list[Entry]:
    """List all versions, then the unregistered bundles; a damaged one carries what is wrong with it."""
    registry = read_registry(models_dir)
    known = {version.content for version in registry.versions}
    listed = [_entry_of_version(registry, version) for version in registry.versions]
    for config in sorted(models_dir.glob(f"*/{CONFIG}")):
        folder = config.parent
        entry = _entry(str(folder), partial(read_bundle, folder))
        if entry.bundle is None or content_of(entry.bundle) not in known:
            listed.append(entry)
    return listed


def _entry_of_version(registry: Registry, version: Version) -> Entry:
    aliases = registry.aliases_of(version)
    if registry.of_name(version.name)[-1] == version:
        aliases = ["latest", *aliases]
    return _entry(str(version), lambda: check_version(registry, version), aliases)


def _entry(reference: str, read: Callable[[], Bundle], aliases: Sequence[str] = ()) -> Entry:
    try:
        bundle = read()
        entry = Entry(reference, bundle, tuple(aliases), read_metrics(bundle), exported_files(bundle))
        entry.as_json()  # what its description lacks is found here, so that it does not end the list
        return entry
    except BundleError as error:
        return Entry(reference, None, tuple(aliases), problem=error.found)


def bundle_of(reference: str, models_dir: Path) -> Bundle:
    """Read the bundle that a path, a name, a version or an alias refers to.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
    """
    return read_bundle(find_model(reference, models_dir))


def show(reference: str, models_dir: Path) -> Entry:
    """Return the entry of one bundle, with its aliases if it is a version."""
    bundle = bundle_of(reference, models_dir)
    registry = read_registry(models_dir)
    version = version_of(registry, bundle)
    if version is None:
        return _entry(str(bundle.path), lambda: bundle)
    return replace(_entry_of_version(registry, version), bundle=bundle)


def version_of(registry: Registry, bundle: Bundle) -> Version | None:
    """Return the version with the bundle's content; None if it is not registered."""
    content = content_of(bundle)
    return next((v for v in registry.of_name(bundle.config.name) if v.content == content), None)


def same_photos(one: Metrics, other: Metrics) -> bool:
    """Return whether both were measured on the same photos."""
    return one.conditions.fingerprint == other.conditions.fingerprint

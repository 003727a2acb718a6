"""Names for bundles: permanent versions, and aliases such as `production` that point to one of them.

models/
    trashnet/               a working bundle; the next training replaces it
    .versions/trashnet/1/   version trashnet@1: a copy that training never changes
    registry.json           the versions, their contents, and the history of each alias

A version is identified by the result of training: configuration, labels and weights. Evaluations and exports add to it.

Own code instead of a registry server such as MLflow's: a folder can be copied and mounted, and prediction imports nothing more.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image_classification_trash.errors import BundleError
from image_classification_trash.files import read_json, sha256_of
from image_classification_trash.inference.bundle import (
    CHECKSUMS,
    CONFIG,
    FILE_SUFFIXES,
    LABELS,
    WEIGHTS,
    Bundle,
    newest_bundle,
    read_bundle,
)
from image_classification_trash.inference.shipped import FOLDERS, shipped_model

REGISTRY, VERSIONS = "registry.json", ".versions"
FORMAT_VERSION = 1
PRODUCTION, LATEST = "production", "latest"
_LIST = "See what there is: trash-classifier models list"


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle that was registered.

    Attributes:
        name: the bundle's name.
        number: 1 for its first version.
        content: SHA-256 of the result of training; see `content_of`.
        registered: time of registration, ISO 8601.
        note: comment given at registration.
    """

    name: str
    number: int
    content: str
    registered: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class Move:
    """A move of an alias: the action (`promote` or `rollback`), the version as NAME@NUMBER, and the time, ISO 8601."""

    alias: str
    action: str
    version: str
    when: str
    note: str = ""


@dataclass(frozen=True)
class Registry:
    """The content of `registry.json`.

    Attributes:
        models_dir: folder that contains it.
        versions: in order of registration.
        aliases: the versions that each alias pointed to, without those rolled back; the last one is current.
        moves: all moves of aliases, oldest first.
    """

    models_dir: Path
    versions: tuple[Version, ...] = ()
    aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    moves: tuple[Move, ...] = ()

    def path_of(self, version: Version) -> Path:
        """Return the folder of a version."""
        return self.models_dir / VERSIONS / version.name / str(version.number)

    def of_name(self, name: str) -> list[Version]:
        """Return all versions of a bundle, oldest first."""
        return [version for version in self.versions if version.name == name]

    def with_alias(self, alias: str, back: int = 1) -> Version | None:
        """Return the version that an alias points to, or, with `back=2`, the one before; None if there is none."""
        pointed = dict(self.aliases).get(alias, ())
        return self._numbered(pointed[-back]) if len(pointed) >= back else None

    def aliases_of(self, version: Version) -> list[str]:
        """Return the aliases that point to a version now."""
        return [alias for alias, pointed in self.aliases if pointed and pointed[-1] == str(version)]

    def find(self, reference: str) -> Version | None:
        """Find NAME@NUMBER, NAME@latest, NAME@ALIAS or ALIAS; None if there is no such version."""
        name, at, which = reference.rpartition("@")
        if not at:
            return self.with_alias(reference)
        if which == LATEST:
            return self.of_name(name)[-1] if self.of_name(name) else None
        pointed = self.with_alias(which)
        if pointed is not None and pointed.name == name:
            return pointed
        return self._numbered(reference)

    def _numbered(self, reference: str) -> Version | None:
        return next((version for version in self.versions if str(version) == reference), None)


def read_registry(models_dir: Path) -> Registry:
    """Read the registry of `models_dir`; empty if there is none.

    Raises:
        BundleError: the file is damaged, or another version of the program wrote it.
    """
    file = models_dir / REGISTRY
    if not file.is_file():
        return Registry(models_dir)
    try:
        values = read_json(file)
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {values['format_version']}, not {FORMAT_VERSION}")
        versions = tuple(Version(**version) for version in values["versions"])
        moves = tuple(Move(**move) for move in values["moves"])
        aliases = tuple((alias, tuple(pointed)) for alias, pointed in values["aliases"].items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        hint = "Put back a copy of it, or move it away and register the bundles again."
        raise BundleError(f"{file} is not a registry: {error!r}.", hint) from error
    return Registry(models_dir, versions, aliases, moves)


def content_of(bundle: Bundle) -> str:
    """Return the SHA-256, in hexadecimal, of configuration, labels and weights of a bundle that was read."""
    made = (CONFIG, LABELS, WEIGHTS)
    lines = (bundle.path / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    return sha256_of("\n".join(sorted(line for line in lines if line.partition("  ")[2] in made)).encode())


def find_model(reference: Path | str, models_dir: Path) -> Path:
    """Return the folder or file of a path, of a bundle's name in `models_dir`, of a version or of an alias.

    `shipped` and `shipped-large` mean the models that come with the package, unless a file, folder or bundle has that name.

    Raises:
        BundleError: there is none, a version no longer contains what was registered, or a shipped model is not here.
    """
    path = Path(reference)
    if path.exists() or os.sep in str(reference) or path.suffix in FILE_SUFFIXES:
        return path
    if (models_dir / path / CONFIG).is_file():
        return models_dir / path
    if str(reference) in FOLDERS:
        return shipped_model(str(reference))
    registry = read_registry(models_dir)
    version = registry.find(str(reference))
    if version is None:
        found = f"There is no model {str(reference)!r}: no file or folder, and no bundle, version or alias in {models_dir}."
        raise BundleError(found, _LIST)
    return check_version(registry, version).path


def check_version(registry: Registry, version: Version) -> Bundle:
    """Read a version, and check that it is still what was registered.

    Raises:
        BundleError: it is damaged, or something else is there.
    """
    bundle = read_bundle(registry.path_of(version))
    if content_of(bundle) != version.content:
        found = f"{bundle.path} is no longer what was registered as {version}."
        raise BundleError(found, "Put back a copy of it, or register the bundle again as a new version.")
    return bundle


def chosen_bundle(reference: Path | str | None, models_dir: Path) -> Path:
    """Return the bundle that a user names, or the one trained last.

    Raises:
        BundleError: there is none.
    """
    return newest_bundle(models_dir) if reference is None else find_model(reference, models_dir)


def chosen_model(reference: Path | str | None, models_dir: Path) -> Path:
    """Return the model that a user names; else `production`, else the bundle trained last, else the shipped model.

    Raises:
        BundleError: there is none.
    """
    if reference is not None:
        return find_model(reference, models_dir)
    if read_registry(models_dir).with_alias(PRODUCTION) is not None:
        return find_model(PRODUCTION, models_dir)
    if any(models_dir.glob(f"*/{CONFIG}")):
        return newest_bundle(models_dir)
    return shipped_model()


def registry_json(registry: Registry) -> dict[str, Any]:
    """Return the content of `registry.json`."""
    return {
        "format_version": FORMAT_VERSION,
        "versions": [{name: getattr(v, name) for name in Version.__slots__} for v in registry.versions],
        "aliases": {alias: list(pointed) for alias, pointed in registry.aliases},
        "moves": [{name: getattr(m, name) for name in Move.__slots__} for m in registry.moves],
    }

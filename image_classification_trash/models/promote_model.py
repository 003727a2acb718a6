"""Register bundles as versions, compare them, and promote one to `production` once it passes the gates.

    trash-classifier models
    trash-classifier models promote trashnet
    trash-classifier models rollback

The gates: every exported file agreed with the trained model and is unchanged; the test part was measured; and, where
another model is replaced, accuracy on the same photos is not below that one's interval.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from image_classification_trash.config.models import ModelsSettings
from image_classification_trash.errors import BundleError, PromotionError
from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.files import atomic_directory, write_text
from image_classification_trash.inference.bundle import CONFIG, Bundle, read_bundle
from image_classification_trash.inference.model_store import (
    REGISTRY,
    Move,
    Registry,
    Version,
    check_version,
    content_of,
    find_model,
    read_registry,
    registry_json,
)
from image_classification_trash.models.wandb_registry import WandbRegistry

TEST = "test"
COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")
PLAIN = ("log_loss", "ece")
"""Those of them that are no shares."""
LOCK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition of promotion, whether it holds, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Entry:
    """A line of the list: a version, or a bundle in the models folder that is none (yet)."""

    reference: str
    bundle: Bundle | None
    aliases: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Promotion:
    """An alias that was moved, from which version, and what the gates found."""

    version: Version
    replaced: Version | None
    gates: tuple[Gate, ...]


def entries(models_dir: Path) -> list[Entry]:
    """All versions, then the bundles that no version holds; a damaged one says what is wrong with it."""
    registry = read_registry(models_dir)
    known = {version.content for version in registry.versions}
    listed = [_entry_of_version(registry, version) for version in registry.versions]
    for config in sorted(models_dir.glob(f"*/{CONFIG}")):
        entry = _entry_of_folder(config.parent)
        if entry.bundle is None or content_of(entry.bundle) not in known:
            listed.append(entry)
    return listed


def _entry_of_version(registry: Registry, version: Version) -> Entry:
    aliases = registry.aliases_of(version)
    if registry.of_name(version.name)[-1] == version:
        aliases = ["latest", *aliases]
    try:
        return Entry(str(version), check_version(registry, version), tuple(aliases))
    except BundleError as error:
        return Entry(str(version), None, tuple(aliases), error.found)


def _entry_of_folder(folder: Path) -> Entry:
    try:
        return Entry(str(folder), read_bundle(folder))
    except BundleError as error:
        return Entry(str(folder), None, (), error.found)


def names_of(listed: Sequence[Entry]) -> list[str]:
    """The names of the bundles listed, each once."""
    return sorted({entry.bundle.config.name for entry in listed if entry.bundle is not None})


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """A line of the list, for programs."""
    about: dict[str, Any] = {"model": entry.reference, "aliases": list(entry.aliases)}
    if entry.bundle is None:
        return about | {"problem": entry.problem}
    config = entry.bundle.config
    return about | {
        "folder": str(entry.bundle.path),
        "architecture": config.architecture,
        "created": config.created,
        "data": config.data["name"],
        "fingerprint": config.data["fingerprint"],
        "validation": config.training["validation"],
        "measured": {
            part: {"n": measured["n"], **{name: measured[name] for name in COMPARED if name in measured}}
            for part, measured in entry.bundle.metrics().items()
        },
        "exported": {
            name: record["problem"] is None
            for name, record in entry.bundle.export_report().get("files", {}).items()
        },
    }


def entry_as_row(entry: Entry) -> list[str]:
    """A line of the list, for people: model, aliases, data, validation, test, exported files."""
    if entry.bundle is None:
        return [entry.reference, ", ".join(entry.aliases), "damaged:", entry.problem, "", ""]
    config, files = entry.bundle.config, entry.bundle.export_report().get("files", {})
    good = sum(record["problem"] is None for record in files.values())
    measured = entry.bundle.metrics().get(TEST)
    return [
        entry.reference,
        ", ".join(entry.aliases),
        f"{config.data['name']} {config.data['fingerprint'][:12]}",
        f"{config.training['validation']['accuracy']:.1%}",
        with_interval(measured["accuracy"]) if measured else "not measured",
        f"{good} of {len(files)} good" if files else "none",
    ]


def bundle_of(reference: str, models_dir: Path) -> Bundle:
    """The bundle that a user means by a path, a name, a version or an alias.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    return read_bundle(find_model(reference, models_dir))


def show(reference: str, models_dir: Path) -> Entry:
    """One bundle, as in the list, with its aliases where it is a version."""
    bundle = bundle_of(reference, models_dir)
    registry = read_registry(models_dir)
    version = _version_of(registry, bundle)
    if version is None:
        return Entry(str(bundle.path), bundle)
    return replace(_entry_of_version(registry, version), bundle=bundle)


def compare(first: Bundle, second: Bundle) -> list[dict[str, Any]]:
    """Figures of both, on every set of photos that either was measured on.

    Returns:
        One row a set and a measure: `photos`, `n`, `measure`, `first` and `second` (with their intervals, or None),
        and `same_photos`: whether both saw the same ones, so that the figures can be compared.
    """
    a, b = first.metrics(), second.metrics()
    rows = []
    for part in {**a, **b}:
        same = part in a and part in b and _fingerprint(a[part]) == _fingerprint(b[part])
        for name in COMPARED:
            values = [measured.get(part, {}).get(name) for measured in (a, b)]
            n = (a.get(part) or b[part])["n"]
            rows.append(
                {"photos": part, "n": n, "measure": name, "first": values[0], "second": values[1]}
                | {"same_photos": same}
            )
    return rows


def comparison_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """`compare` for people."""
    return [
        [
            f"{row['photos']} (n {row['n']})",
            row["measure"].replace("_", " "),
            with_interval(row["first"], row["measure"] not in PLAIN),
            with_interval(row["second"], row["measure"] not in PLAIN),
            "" if row["same_photos"] else "not the same photos",
        ]
        for row in rows
    ]


def register(bundle: Bundle, models_dir: Path, note: str = "") -> Version:
    """Keep a bundle as a version; one whose content is a version already brings that one's figures and exports up to date."""
    with _alone(models_dir):
        return _register(bundle, models_dir, note)


def gates(bundle: Bundle, replaced: Bundle | None) -> tuple[Gate, ...]:
    """What must hold before `bundle` is promoted in the place of `replaced`."""
    measured = bundle.metrics().get(TEST)
    found = f"accuracy {with_interval(measured['accuracy'])}, n {measured['n']}" if measured else (
        f"not measured; do it with: trash-classifier evaluate {bundle.path}"
    )  # fmt: skip
    return (
        _parity_gate(bundle),
        Gate("test part", measured is not None, found),
        _accuracy_gate(bundle, replaced),
    )


def promote(settings: ModelsSettings) -> Promotion:
    """Register the bundle that the settings name, and point the alias at it.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
        PromotionError: a gate does not hold, or the alias points at it already; nothing was changed.
        MissingExtraError: W&B's registry is asked for, and its library is not installed.
    """
    models_dir = settings.models_dir
    bundle = bundle_of(settings.models[0], models_dir)
    with _alone(models_dir):
        registry = read_registry(models_dir)
        replaced = registry.with_alias(settings.alias)
        if replaced is not None and replaced.content == content_of(bundle):
            raise PromotionError(f"{settings.alias} is {replaced} already.", "")
        before = check_version(registry, replaced) if replaced is not None else None
        found = gates(bundle, before)
        if not all(gate.passed for gate in found):
            raise _refusal(bundle, found)
        if settings.registry == "wandb":
            WandbRegistry(settings).promote(bundle)
        version = _register(bundle, models_dir, settings.note)
        _point(read_registry(models_dir), settings, version, "promote")
    return Promotion(version, replaced, found)


def rollback(settings: ModelsSettings) -> Promotion:
    """Point the alias at the version that it pointed at before.

    Raises:
        PromotionError: there is none.
        BundleError: that version is damaged.
    """
    with _alone(settings.models_dir):
        registry = read_registry(settings.models_dir)
        present, before = registry.with_alias(settings.alias), registry.with_alias(settings.alias, back=2)
        if present is None or before is None:
            found = f"There is no version that {settings.alias} pointed at before."
            raise PromotionError(found, "See what there is: trash-classifier models list")
        bundle = check_version(registry, before)
        if settings.registry == "wandb":
            WandbRegistry(settings).promote(bundle)
        _point(registry, settings, before, "rollback")
    return Promotion(before, present, ())


@contextmanager
def _alone(models_dir: Path) -> Iterator[None]:
    """Two registrations at once would give the same number to two bundles."""
    models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(models_dir / f".{REGISTRY}.lock", timeout=LOCK_SECONDS):
        yield


def _register(bundle: Bundle, models_dir: Path, note: str) -> Version:
    registry = read_registry(models_dir)
    version = _version_of(registry, bundle)
    if version is None:
        number = 1 + max((v.number for v in registry.of_name(bundle.config.name)), default=0)
        version = Version(bundle.config.name, number, content_of(bundle), _now(), note)
        registry = replace(registry, versions=(*registry.versions, version))
    folder = registry.path_of(version)
    if folder.resolve() != bundle.path.resolve():
        with atomic_directory(folder) as copy:
            shutil.copytree(bundle.path, copy, dirs_exist_ok=True)
    check_version(registry, version)
    _write(registry)
    return version


def _version_of(registry: Registry, bundle: Bundle) -> Version | None:
    content = content_of(bundle)
    return next((v for v in registry.of_name(bundle.config.name) if v.content == content), None)


def _point(registry: Registry, settings: ModelsSettings, version: Version, action: str) -> None:
    aliases = dict(registry.aliases)
    pointed = aliases.get(settings.alias, ())
    aliases[settings.alias] = pointed[:-1] if action == "rollback" else (*pointed, str(version))
    move = Move(settings.alias, action, str(version), _now(), settings.note)
    _write(replace(registry, aliases=tuple(aliases.items()), moves=(*registry.moves, move)))


def _write(registry: Registry) -> None:
    text = json.dumps(registry_json(registry), indent=2, ensure_ascii=False) + "\n"
    write_text(registry.models_dir / REGISTRY, text)


def _refusal(bundle: Bundle, found: Sequence[Gate]) -> PromotionError:
    failed = "; ".join(f"{gate.name}: {gate.found}" for gate in found if not gate.passed)
    return PromotionError(
        f"{bundle.path} is not promoted. {failed}.", "Mend it and promote again; nothing was changed."
    )


def _parity_gate(bundle: Bundle) -> Gate:
    files = bundle.export_report().get("files", {})
    if not files:
        found = f"nothing is exported; do it with: trash-classifier export {bundle.path}"
        return Gate("export parity", False, found)
    bad = [f"{name}: {record['problem']}" for name, record in files.items() if record["problem"]]
    for name in files:
        try:
            bundle.exported(name)
        except BundleError as error:
            bad.append(error.found.rstrip("."))
    good = f"{', '.join(files)}: as the trained model"
    return Gate("export parity", not bad, "; ".join(bad) or good)


def _accuracy_gate(bundle: Bundle, replaced: Bundle | None) -> Gate:
    name = "accuracy"
    if replaced is None:
        return Gate(name, True, "replaces no other model")
    shared = _shared_photos(bundle, replaced)
    if shared is None:
        found = (
            f"never measured on the same photos as {replaced.path}; measure both: "
            "trash-classifier evaluate MODEL --data FOLDER"
        )
        return Gate(name, False, found)
    new, old = bundle.metrics()[shared]["accuracy"], replaced.metrics()[shared]["accuracy"]
    found = f"{with_interval(new)} on {shared}; the one it replaces {with_interval(old)}"
    return Gate(name, new["value"] >= old["low"], found)


def _shared_photos(bundle: Bundle, replaced: Bundle) -> str | None:
    """The test part where both were measured on the same one, else any other photos that both were measured on."""
    new, old = bundle.metrics(), replaced.metrics()
    same = [part for part in new if part in old and _fingerprint(new[part]) == _fingerprint(old[part])]
    return TEST if TEST in same else next(iter(same), None)


def _fingerprint(measured: Mapping[str, Any]) -> str:
    return str(measured["conditions"]["fingerprint"])


def gate_rows(found: Sequence[Gate]) -> list[list[str]]:
    """Gates, for people."""
    return [[gate.name, "holds" if gate.passed else "does not hold", gate.found] for gate in found]


def promotion_as_json(alias: str, promotion: Promotion) -> dict[str, Any]:
    """A moved alias, for programs."""
    return {
        "alias": alias,
        "version": str(promotion.version),
        "replaced": str(promotion.replaced) if promotion.replaced else None,
        "gates": [asdict(gate) for gate in promotion.gates],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

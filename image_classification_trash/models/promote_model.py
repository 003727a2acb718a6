"""Register bundles as versions, compare them, and promote one to `production` once it passes the gates.

    trash-classifier models
    trash-classifier models promote trashnet
    trash-classifier models rollback

The gates: every exported file agrees with the trained model and is unchanged; on validation, the model is better than the most
frequent class and than chance; it accepts enough photos; it was evaluated on the test split; and, if it replaces another model, its
accuracy on the same photos is not below the interval of that model.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from image_classification_trash.config.models import ModelsSettings
from image_classification_trash.errors import BundleError, PromotionError
from image_classification_trash.evaluation.export_report import exported_files
from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.model_list import (
    ModelList,
    bundle_of,
    entries,
    same_photos,
    show,
    version_of,
)
from image_classification_trash.evaluation.result import TEST, Interval, Metrics, read_metrics
from image_classification_trash.files import atomic_directory, write_text
from image_classification_trash.inference.bundle import Bundle, BundleConfig
from image_classification_trash.inference.model_store import (
    REGISTRY,
    Move,
    Registry,
    Version,
    check_version,
    content_of,
    read_registry,
    registry_json,
)
from image_classification_trash.show import Result, Shown, Table

LOCK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition of promotion, whether it holds, and the evidence."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Registered(Result):
    """A bundle and its version."""

    bundle: Bundle
    version: Version

    def for_people(self) -> Iterator[Shown]:
        """Yield the bundle's path and its version."""
        yield f"{self.bundle.path} is {self.version}"

    def as_json(self) -> dict[str, str]:
        """Return the version."""
        return {"version": str(self.version)}

    def json_text(self) -> Iterator[str]:
        """Yield the version as JSON on one line."""
        yield json.dumps(self.as_json()) + "\n"


@dataclass(frozen=True)
class Promotion(Result):
    """An alias that was moved to a version, the version that it pointed at before, and the gates."""

    alias: str
    version: Version
    replaced: Version | None
    gates: tuple[Gate, ...]

    def for_people(self) -> Iterator[Shown]:
        """Yield the alias's new and previous version, and the gates."""
        before = f", and was {self.replaced} before" if self.replaced else ""
        yield f"{self.alias} is {self.version}{before}"
        if self.gates:
            rows = [[g.name, "holds" if g.passed else "does not hold", g.found] for g in self.gates]
            yield Table(["gate", "", "found"], rows)

    def as_json(self) -> dict[str, Any]:
        """Return the alias, both versions and the gates."""
        return {
            "alias": self.alias,
            "version": str(self.version),
            "replaced": str(self.replaced) if self.replaced else None,
            "gates": [asdict(gate) for gate in self.gates],
        }


def manage_models(settings: ModelsSettings) -> Result:
    """Carry out the action that the settings name, but for comparing, which writes a page too (`comparison_page`).

    Raises:
        ValueError: the action is to compare.
        TrashClassifierError: as the functions below do.
    """
    models_dir = settings.models_dir
    match settings.action:
        case "list":
            return ModelList(tuple(entries(models_dir)))
        case "show":
            return ModelList((show(settings.models[0], models_dir),))
        case "register":
            bundle = bundle_of(settings.models[0], models_dir)
            return Registered(bundle, register(bundle, models_dir, settings.note))
        case "promote":
            return promote(settings)
        case "rollback":
            return rollback(settings)
    raise ValueError(f"not an action on the store of models: {settings.action}")


def register(bundle: Bundle, models_dir: Path, note: str = "") -> Version:
    """Register a bundle as a version; if its content is one already, update the metrics and exports of that version."""
    with _alone(models_dir):
        return _register(bundle, models_dir, note)


def gates(bundle: Bundle, replaced: Bundle | None, min_accepted: float = 0.5) -> tuple[Gate, ...]:
    """Check the conditions for promoting `bundle` in place of `replaced`."""
    measured = read_metrics(bundle).get(TEST)
    found = f"accuracy {with_interval(measured.accuracy)}, n {measured.n}" if measured else (
        f"not measured; do it with: trash-classifier evaluate {bundle.path}"
    )  # fmt: skip
    return (
        _parity_gate(bundle),
        better_than_guessing(bundle.config),
        accepts_enough(bundle.config, measured, min_accepted),
        Gate("test split", measured is not None and measured.accuracy is not None, found),
        _accuracy_gate(bundle, replaced),
    )


def promote(settings: ModelsSettings) -> Promotion:
    """Register the bundle that the settings name and point the alias at it.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
        PromotionError: a gate does not hold, or the alias points at it already; nothing was changed.
    """
    models_dir = settings.models_dir
    bundle = bundle_of(settings.models[0], models_dir)
    with _alone(models_dir):
        registry = read_registry(models_dir)
        replaced = registry.with_alias(settings.alias)
        if replaced is not None and replaced.content == content_of(bundle):
            raise PromotionError(f"{settings.alias} is {replaced} already.", "")
        before = check_version(registry, replaced) if replaced is not None else None
        found = gates(bundle, before, settings.min_accepted)
        if not all(gate.passed for gate in found):
            failed = "; ".join(f"{gate.name}: {gate.found}" for gate in found if not gate.passed)
            hint = "Fix it and promote again; nothing was changed."
            raise PromotionError(f"{bundle.path} is not promoted. {failed}.", hint)
        version = _register(bundle, models_dir, settings.note)
        _point(read_registry(models_dir), settings, version, "promote")
    return Promotion(settings.alias, version, replaced, found)


def rollback(settings: ModelsSettings) -> Promotion:
    """Point the alias at the version that it pointed at before.

    Raises:
        PromotionError: there is no such version.
        BundleError: that version is damaged.
    """
    with _alone(settings.models_dir):
        registry = read_registry(settings.models_dir)
        present, before = registry.with_alias(settings.alias), registry.with_alias(settings.alias, back=2)
        if present is None or before is None:
            found = f"There is no version that {settings.alias} pointed at before."
            raise PromotionError(found, "See what there is: trash-classifier models list")
        check_version(registry, before)
        _point(registry, settings, before, "rollback")
    return Promotion(settings.alias, before, present, ())


@contextmanager
def _alone(models_dir: Path) -> Iterator[None]:
    """Hold the registry: two registrations at once would give two bundles the same number."""
    models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(models_dir / f".{REGISTRY}.lock", timeout=LOCK_SECONDS):
        yield


def _register(bundle: Bundle, models_dir: Path, note: str) -> Version:
    registry = read_registry(models_dir)
    version = version_of(registry, bundle)
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


def _point(registry: Registry, settings: ModelsSettings, version: Version, action: str) -> None:
    aliases = dict(registry.aliases)
    pointed = aliases.get(settings.alias, ())
    aliases[settings.alias] = pointed[:-1] if action == "rollback" else (*pointed, str(version))
    move = Move(settings.alias, action, str(version), _now(), settings.note)
    _write(replace(registry, aliases=tuple(aliases.items()), moves=(*registry.moves, move)))


def _write(registry: Registry) -> None:
    text = json.dumps(registry_json(registry), indent=2, ensure_ascii=False) + "\n"
    write_text(registry.models_dir / REGISTRY, text)


def _parity_gate(bundle: Bundle) -> Gate:
    files = exported_files(bundle)
    if not files:
        found = f"nothing is exported; do it with: trash-classifier export {bundle.path}"
        return Gate("export parity", False, found)
    bad = [f"{name}: {record.problem}" for name, record in files.items() if record.problem]
    for name in files:
        try:
            bundle.exported(name)
        except BundleError as error:
            bad.append(error.found.rstrip("."))
    good = f"{', '.join(files)}: as the trained model"
    return Gate("export parity", not bad, "; ".join(bad) or good)


def better_than_guessing(config: BundleConfig) -> Gate:
    """Check that the lower end of the validation accuracy's 95% interval is above the most frequent class and above chance."""
    validation, photos = config.training.get("validation") or {}, config.data.get("counts", {}).get("val", {})
    n, accuracy = sum(photos.values()), _share(validation.get("accuracy"))
    if accuracy is None or not n:
        why = (
            "it was adapted, so figures of validation no longer hold; serve it by its path"
            if "adaptation" in config.training
            else "its config.json has no figures of validation; train it again"
        )
        return Gate("validation", False, why)
    figure, most, chance = Interval.of_share(accuracy, n), max(photos.values()) / n, 1 / len(config.classes)
    found = f"accuracy {with_interval(figure)} on {n} photos; the most frequent class alone reaches {most:.1%}, chance {chance:.1%}"
    good = figure.low > max(most, chance)
    advice = (
        "; the interval must lie above both: train longer, or with more photos for training and validation"
    )
    return Gate("validation", good, found if good else found + advice)


def accepts_enough(config: BundleConfig, measured: Metrics | None, min_accepted: float) -> Gate:
    """Check that a share of at least `min_accepted` of the validation photos, and of the test photos, is accepted."""
    shares = {"validation": _share((config.training.get("validation") or {}).get("coverage"))}
    if measured is not None:
        shares[TEST] = _share(measured.accepted.coverage)
    found = " and ".join(
        f"an unknown share of {photos}" if share is None else f"{share:.1%} of {photos}"
        for photos, share in shares.items()
    )
    good = all(share is not None and share >= min_accepted for share in shares.values())
    advice = (
        f"; at least {min_accepted:.1%} is required: train with a lower --target-precision or --max-rejected, "
        "or lower --min-accepted"
    )
    return Gate("accepted photos", good, found if good else found + advice)


def _share(value: Any) -> float | None:
    """Return a share that a bundle's description states; None if it is missing, not finite or no share."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _accuracy_gate(bundle: Bundle, replaced: Bundle | None) -> Gate:
    if replaced is None:
        return Gate("accuracy", True, "replaces no other model")
    measured, before = read_metrics(bundle), read_metrics(replaced)
    same = [name for name in measured if name in before and same_photos(measured[name], before[name])]
    if not same:
        found = (
            f"never measured on the same photos as {replaced.path}; measure both: "
            "trash-classifier evaluate MODEL --data FOLDER"
        )
        return Gate("accuracy", False, found)
    shared = TEST if TEST in same else same[0]
    new, old = measured[shared].accuracy, before[shared].accuracy
    found = f"{with_interval(new)} on {shared}; the one it replaces {with_interval(old)}"
    return Gate("accuracy", new is not None and old is not None and new.value >= old.low, found)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

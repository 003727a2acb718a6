"""Follow trainings and evaluations in Weights & Biases, online or offline.

    trash-classifier train sample --tracker wandb
    trash-classifier evaluate models/sample --tracker wandb

Without the flag nothing is tracked, and `wandb` is not imported.
"""

import json
import netrc
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from image_classification_trash.config.base import TrackSettings
from image_classification_trash.data.manifest import MANIFEST, Manifest, manifest_csv
from image_classification_trash.errors import MissingExtraError
from image_classification_trash.evaluation.result import AccuracyAtCoverage, Evaluation, Interval
from image_classification_trash.files import sha256_of_file, write_text
from image_classification_trash.inference.bundle import CHECKSUMS, CONFIG, LABELS, WEIGHTS, Bundle

TRAINED_FILES = (CONFIG, LABELS, WEIGHTS, "history.csv")
"""What training alone writes: later evaluations leave it, and so the artifact's digest, as it is."""
SAMPLES = 32
PROBE_SECONDS = 3


class Tracker(Protocol):
    """What is told about a run while it lasts."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """The resolved settings."""

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """An epoch's metrics and learning rates."""

    def log_dataset(self, manifest: Manifest) -> None:
        """The data set that the run reads."""

    def log_bundle(self, bundle: Bundle) -> None:
        """The bundle that the run made."""

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """What was measured, and of which bundle."""

    def close(self, failed: bool = False) -> None:
        """Write everything out."""


class NoTracker:
    """Tracks nothing."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Nothing."""

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Nothing."""

    def log_dataset(self, manifest: Manifest) -> None:
        """Nothing."""

    def log_bundle(self, bundle: Bundle) -> None:
        """Nothing."""

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Nothing."""

    def close(self, failed: bool = False) -> None:
        """Nothing."""


class WandbTracker:
    """A run of Weights & Biases below `reports/wandb`; offline where there is no key or no network.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self, settings: TrackSettings, reports_dir: Path, job: str) -> None:
        self._settings, self._folder = settings, reports_dir.resolve() / "wandb"
        self._folder.mkdir(parents=True, exist_ok=True)
        _keep_below(self._folder)
        self._wandb = import_wandb("--tracker wandb")
        self._run = self._wandb.init(
            project=settings.tracker_project,
            entity=settings.tracker_entity,
            job_type=job,
            dir=str(reports_dir.resolve()),
            mode=_mode(),
            settings=self._wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,  # a remote's address may hold a password; the commit is in the bundle
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )

    def log_config(self, config: Mapping[str, Any]) -> None:
        """The resolved settings, as the run's config."""
        self._run.config.update(dict(config))

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """An epoch's metrics and learning rates, as a row of the run's history."""
        self._run.log(dict(row))

    def log_dataset(self, manifest: Manifest) -> None:
        """The manifest and fingerprint as a `dataset` artifact that this run uses; photos only where asked."""
        about = {"fingerprint": manifest.fingerprint, "counts": manifest.counts()}
        artifact = self._wandb.Artifact(artifact_name(manifest.name), "dataset", metadata=about)
        with artifact.new_file(MANIFEST, encoding="utf-8") as file:
            file.write(manifest_csv(manifest.photos))
        for photo in manifest.photos if self._settings.log_photos else ():
            artifact.add_file(str(manifest.path_of(photo)), f"photos/{photo.path}")
        self._use(artifact, ["latest", manifest.fingerprint[:12]])

    def log_bundle(self, bundle: Bundle) -> None:
        """The bundle as a `model` artifact, `latest`, and `best` where no validation here was better."""
        aliases = ["latest", content_alias(bundle), *(["best"] if self._is_best(bundle) else [])]
        self._run.log_artifact(self._model(bundle), aliases=aliases)

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Figures, confusion matrix and sample predictions, linked to the bundle's artifact."""
        part, labels = evaluation.photos.name, list(evaluation.bundle.config.classes)
        metrics = evaluation.metrics
        self._run.config.update({"bundle": evaluation.bundle.config.name, **asdict(metrics.conditions)})
        self._use(self._model(evaluation.bundle), [content_alias(evaluation.bundle)])
        matrix = self._wandb.plot.confusion_matrix(
            y_true=evaluation.y_true.tolist(),
            preds=evaluation.probabilities.argmax(1).tolist(),
            class_names=labels,
        )
        figures = {
            f"{part}/{name}": value.value
            for name, value in vars(metrics).items()
            if isinstance(value, Interval | AccuracyAtCoverage)
        }
        extras = {f"{part}/confusion_matrix": matrix, f"{part}/predictions": self._samples(evaluation)}
        self._run.log({**figures, **extras})

    def close(self, failed: bool = False) -> None:
        """Finish the run; say how an offline one is sent later."""
        folder, offline = Path(self._run.dir).parent, self._run.offline
        self._run.finish(exit_code=int(failed))
        if offline:
            variable = f"WANDB_DATA_DIR={self._folder}"
            sys.stderr.write(f"tracked offline; send it later with: {variable} wandb sync {folder}\n")

    def _use(self, artifact: Any, aliases: list[str]) -> None:
        """Link what this run reads. W&B links nothing offline, so there it is logged, known by its content's alias."""
        self._run.config.update({f"uses_{artifact.type}": f"{artifact.name}:{aliases[-1]}"})
        if self._run.offline:
            self._run.log_artifact(artifact, aliases=aliases)
        else:
            self._run.use_artifact(artifact, aliases=aliases)

    def _model(self, bundle: Bundle) -> Any:
        config = bundle.config
        about = {
            "validation": config.training["validation"],
            "data": config.data["name"],
            "fingerprint": config.data["fingerprint"],
            "git_commit": config.git_commit,
        }
        artifact = self._wandb.Artifact(artifact_name(config.name), "model", metadata=about)
        kept = [name for name in TRAINED_FILES if (bundle.path / name).is_file()]
        for name in kept:
            artifact.add_file(str(bundle.path / name), name)
        lines = (bundle.path / CHECKSUMS).read_text(encoding="utf-8").splitlines(keepends=True)
        with artifact.new_file(CHECKSUMS, encoding="utf-8") as file:
            file.writelines(line for line in lines if line.rstrip("\n").partition("  ")[2] in kept)
        return artifact

    def _is_best(self, bundle: Bundle) -> bool:
        """Whether no tracked training of this project on the same data set had a higher validation macro-F1."""
        record = self._folder / "best.json"
        best = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        key = f"{self._settings.tracker_project} {bundle.config.data['fingerprint']}"
        score = bundle.config.training["validation"]["macro_f1"]
        if score < best.get(key, 0.0):
            return False
        write_text(record, json.dumps({**best, key: score}, indent=2) + "\n")
        return True

    def _samples(self, evaluation: Evaluation) -> Any:
        """A table of photos, evenly spaced over the part; with their pixels only where asked."""
        labels = evaluation.bundle.config.classes
        photos = ["image"] if self._settings.log_photos else []
        table = self._wandb.Table(columns=["photo", "y_true", "y_pred", *labels, *photos])
        for i in range(0, len(evaluation.y_true), max(1, len(evaluation.y_true) // SAMPLES)):
            path, row = evaluation.paths[i], evaluation.probabilities[i]
            image = [self._wandb.Image(str(path))] if photos else []
            y_true = labels[int(evaluation.y_true[i])]
            table.add_data(path.name, y_true, labels[int(row.argmax())], *map(float, row), *image)
        return table


@contextmanager
def tracking(settings: TrackSettings, reports_dir: Path, job: str) -> Iterator[Tracker]:
    """The tracker that the settings name, closed at the end; in the first of several processes alone.

    Raises:
        MissingExtraError: its library is not installed.
    """
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    tracker: Tracker = NoTracker()
    if settings.tracker == "wandb" and first:
        tracker = WandbTracker(settings, reports_dir, job)
    try:
        yield tracker
    except BaseException:
        tracker.close(failed=True)
        raise
    tracker.close()


def import_wandb(asked_by: str) -> Any:
    """The library, imported where it is asked for and nowhere else.

    Raises:
        MissingExtraError: it is not installed; names the flag that asked for it.
    """
    try:
        import wandb  # noqa: PLC0415 - only where it is asked for
    except ImportError as error:
        hint = 'Install it with: pip install "image-classification-trash[track]"'
        raise MissingExtraError(f"{asked_by} needs the library wandb, not installed here.", hint) from error
    return wandb


def _keep_below(folder: Path) -> None:
    """Have wandb keep all its files here: staged artifacts must live until an offline run is sent."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    for name in ("DATA", "ARTIFACT", "CACHE"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder)


def _mode() -> str:
    """What WANDB_MODE says; else online where there is a key and the server answers, or offline."""
    chosen, address = os.environ.get("WANDB_MODE"), server_address()
    return chosen or ("online" if has_key(address) and _answers(address) else "offline")


def server_address() -> str:
    """Where W&B is."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def has_key(address: str) -> bool:
    """Whether this machine has a key for the server."""
    try:
        known = netrc.netrc().authenticators(urlsplit(address).hostname or "")
    except (OSError, netrc.NetrcParseError):
        known = None
    return bool(os.environ.get("WANDB_API_KEY") or known)


def _answers(address: str) -> bool:
    import requests  # noqa: PLC0415 - wandb brings it, and it heeds proxies

    try:
        requests.head(address, timeout=PROBE_SECONDS)
    except requests.RequestException:
        return False
    return True


def content_alias(bundle: Bundle) -> str:
    """The alias of a bundle's artifact: the same for the same weights, so that using a bundle never moves `latest`."""
    return f"weights-{sha256_of_file(bundle.weights)[:12]}"


def artifact_name(name: str) -> str:
    """A bundle's name as W&B takes letters, digits, dashes, dots and underscores."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)

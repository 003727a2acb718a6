"""Track trainings and evaluations in Weights & Biases, online or offline.

    trash-classifier train sample --tracker wandb
    trash-classifier evaluate models/sample --tracker wandb

Without the flag, nothing is tracked and `wandb` is not imported.
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
from typing import Any
from urllib.parse import urlsplit

from image_classification_trash.config.base import TrackSettings
from image_classification_trash.data.manifest import MANIFEST, Manifest, manifest_csv
from image_classification_trash.errors import MissingExtraError, install_hint
from image_classification_trash.evaluation.result import AccuracyAtCoverage, Evaluation, Interval
from image_classification_trash.files import sha256_of_file, write_text
from image_classification_trash.inference.bundle import CHECKSUMS, CONFIG, LABELS, NOTICE, WEIGHTS, Bundle
from image_classification_trash.networks.device import is_first_process

TRAINED_FILES = (CONFIG, LABELS, WEIGHTS, "history.csv", NOTICE)
"""Files that only training writes: evaluations do not change them, nor the digest of the artifact."""
SAMPLES = 32
PROBE_SECONDS = 3


class Tracker:
    """Logs a run while it is in progress; a tracker overrides the methods for what it logs, the others do nothing."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log the resolved settings."""

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Log the metrics and learning rates of an epoch."""

    def log_dataset(self, manifest: Manifest) -> None:
        """Log the data set that the run reads."""

    def log_bundle(self, bundle: Bundle) -> None:
        """Log the bundle that the run wrote."""

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Log the figures of an evaluation, and the bundle evaluated."""

    def close(self, failed: bool = False) -> None:
        """Finish the run."""


class NoTracker(Tracker):
    """Tracks nothing."""


class WandbTracker(Tracker):
    """A run of Weights & Biases in `reports/wandb`; offline without an API key or a network.

    Epochs are not logged by Lightning's WandbLogger: evaluations use this class too and may not import Lightning, and its
    rows number epochs from 0 and by training step.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self, settings: TrackSettings, reports_dir: Path, job: str) -> None:
        self._settings, self._folder = settings, reports_dir.resolve() / "wandb"
        self._folder.mkdir(parents=True, exist_ok=True)
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        for name in (
            "DATA",
            "ARTIFACT",
            "CACHE",
        ):  # staged artifacts must be kept until an offline run is synced
            os.environ[f"WANDB_{name}_DIR"] = str(self._folder)
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
                disable_git=True,  # a remote's URL may contain a password; the commit is in the bundle
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log the resolved settings as the run's config."""
        self._run.config.update(dict(config))

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Log the metrics and learning rates of an epoch as a row of the run's history."""
        self._run.log(dict(row))

    def log_dataset(self, manifest: Manifest) -> None:
        """Log the manifest and fingerprint as a `dataset` artifact that this run uses; photos only with --log-photos."""
        metadata = {"fingerprint": manifest.fingerprint, "counts": manifest.counts()}
        artifact = self._wandb.Artifact(artifact_name(manifest.name), "dataset", metadata=metadata)
        with artifact.new_file(MANIFEST, encoding="utf-8") as file:
            file.write(manifest_csv(manifest.rows))
        for photo in manifest.rows if self._settings.log_photos else ():
            artifact.add_file(str(manifest.path_of(photo)), f"photos/{photo.path}")
        self._use(artifact, ["latest", manifest.fingerprint[:12]])

    def log_bundle(self, bundle: Bundle) -> None:
        """Log the bundle as a `model` artifact: `latest`, and `best` if no tracked validation was better."""
        aliases = ["latest", content_alias(bundle), *(["best"] if self._is_best(bundle) else [])]
        self._run.log_artifact(self._model(bundle), aliases=aliases)

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Log figures, confusion matrix and sample predictions, linked to the bundle's artifact."""
        part, labels = evaluation.photos.name, list(evaluation.bundle.config.classes)
        metrics = evaluation.metrics
        self._run.config.update({"bundle": evaluation.bundle.config.name, **asdict(metrics.conditions)})
        if not evaluation.bundle.is_file:
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
        """Finish the run; for an offline run, print how to sync it."""
        folder, offline = Path(self._run.dir).parent, self._run.offline
        self._run.finish(exit_code=int(failed))
        if offline:
            variable = f"WANDB_DATA_DIR={self._folder}"
            sys.stderr.write(f"tracked offline; sync it later with: {variable} wandb sync {folder}\n")

    def _use(self, artifact: Any, aliases: list[str]) -> None:
        """Link an artifact that this run reads; offline, where W&B cannot link, log it under the alias of its content."""
        self._run.config.update({f"uses_{artifact.type}": f"{artifact.name}:{aliases[-1]}"})
        if self._run.offline:
            self._run.log_artifact(artifact, aliases=aliases)
        else:
            self._run.use_artifact(artifact, aliases=aliases)

    def _model(self, bundle: Bundle) -> Any:
        config = bundle.config
        metadata = {
            "validation": config.training["validation"],
            "data": config.data["name"],
            "fingerprint": config.data["fingerprint"],
            "git_commit": config.git_commit,
        }
        artifact = self._wandb.Artifact(artifact_name(config.name), "model", metadata=metadata)
        kept = [name for name in TRAINED_FILES if (bundle.path / name).is_file()]
        for name in kept:
            artifact.add_file(str(bundle.path / name), name)
        lines = (bundle.path / CHECKSUMS).read_text(encoding="utf-8").splitlines(keepends=True)
        with artifact.new_file(CHECKSUMS, encoding="utf-8") as file:
            file.writelines(line for line in lines if line.rstrip("\n").partition("  ")[2] in kept)
        return artifact

    def _is_best(self, bundle: Bundle) -> bool:
        """Return whether no tracked training of this project on the same data set had a higher validation macro-F1."""
        record = self._folder / "best.json"
        best = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        key = f"{self._settings.tracker_project} {bundle.config.data['fingerprint']}"
        score = bundle.config.training["validation"]["macro_f1"]
        if score < best.get(key, 0.0):
            return False
        write_text(record, json.dumps({**best, key: score}, indent=2) + "\n")
        return True

    def _samples(self, evaluation: Evaluation) -> Any:
        """Make a table of photos, evenly spaced over the split; with their pixels only with --log-photos."""
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
    """Open the tracker of the settings, and close it at the end; only the first of several processes tracks.

    Raises:
        MissingExtraError: its library is not installed.
    """
    tracker: Tracker = NoTracker()
    if settings.tracker == "wandb" and is_first_process():
        tracker = WandbTracker(settings, reports_dir, job)
    try:
        yield tracker
    except BaseException:
        tracker.close(failed=True)
        raise
    tracker.close()


def import_wandb(asked_by: str) -> Any:
    """Import wandb.

    Raises:
        MissingExtraError: it is not installed; names the flag that needs it.
    """
    try:
        import wandb  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        found = f"{asked_by} needs the library wandb, not installed here."
        raise MissingExtraError(found, install_hint("track")) from error
    return wandb


def _mode() -> str:
    """Return WANDB_MODE if set; otherwise online if there is a key and the server answers, else offline."""
    chosen, address = os.environ.get("WANDB_MODE"), server_address()
    if chosen or not has_key(address):
        return chosen or "offline"
    import requests  # noqa: PLC0415 - a dependency of wandb, which respects proxies

    try:
        requests.head(address, timeout=PROBE_SECONDS)
    except requests.RequestException:
        return "offline"
    return "online"


def server_address() -> str:
    """Return the address of the W&B server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def has_key(address: str) -> bool:
    """Return whether this machine has an API key for the server."""
    try:
        known = netrc.netrc().authenticators(urlsplit(address).hostname or "")
    except (OSError, netrc.NetrcParseError):
        known = None
    return bool(os.environ.get("WANDB_API_KEY") or known)


def content_alias(bundle: Bundle) -> str:
    """Return the alias of a bundle's artifact: the same for the same weights, so that using a bundle never moves `latest`."""
    return f"weights-{sha256_of_file(bundle.weights)[:12]}"


def artifact_name(name: str) -> str:
    """Replace the characters in a bundle's name that W&B does not accept by dashes."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)

"""Search for the best settings of a training with Optuna.

    trash-classifier tune trashnet --config efficientnet_lite0 --trials 30

Trials are judged by their validation macro-F1 alone; the test split is not read. The study is `reports/tuning/NAME.sqlite3`:
a killed search resumes from it. The best trial becomes the recipe `reports/tuning/NAME.yaml`. With `--storage URL` several
processes, on one machine or many, work on one study; a trial whose process died fails by its missing heartbeat.
"""

import os
import platform
import shutil
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from image_classification_trash.config.training import TrainSettings, TuneSettings
from image_classification_trash.continuation import differences, listed
from image_classification_trash.data.manifest import Manifest, read_manifest
from image_classification_trash.errors import DivergedError, SettingsError, TrainingError, first_line
from image_classification_trash.files import only_writer, write_text
from image_classification_trash.models.train_model import train_with
from image_classification_trash.show import Result, Shown, Table, say
from image_classification_trash.tracking.wandb_tracker import NoTracker, Tracker
from image_classification_trash.training.fine_tuning import MONITOR
from image_classification_trash.training.record import conditions_of, resolved

Train = Callable[[TrainSettings, Tracker], object]
SPACE: dict[str, FloatDistribution | IntDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 3e-3, log=True),
    "backbone_rate": FloatDistribution(0.05, 1.0, log=True),
    "weight_decay": FloatDistribution(1e-3, 0.2, log=True),
    "mixup": FloatDistribution(0.0, 0.4),
    "label_smoothing": FloatDistribution(0.0, 0.2),
    "freeze_stages": IntDistribution(0, 6),
    "dropout": FloatDistribution(0.0, 0.4),
}
"""The settings that can be searched, with their ranges."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
FREE = {"config", "name", "output", "accelerator", "devices"}
"""Settings that a resumed search may change, in addition to those of the search's length."""
HEARTBEAT = 20
"""Seconds between the signs of life of a trial in a shared study; after twice as long it has failed."""
WARM_UP_SHARE = 4
"""No trial is pruned in the first quarter of its epochs, while the learning rate still rises."""
HEADER = """\
# Best of {finished} trials, {pruned} of them stopped early: trial {number}, validation macro-F1 {score:.4f} in epoch {epoch}.
# Data {name}, fingerprint {fingerprint}; seed {seed}. Chosen on the validation split, so that figure is flattering.
"""


@dataclass(frozen=True)
class Tuned(Result):
    """The outcome of a search: its files, its best trial, and the number of trials by outcome."""

    study: str
    recipe: Path
    number: int
    score: float
    epoch: int
    values: dict[str, float]
    counts: dict[str, int]
    fingerprint: str

    def for_people(self) -> Iterator[Shown]:
        """Yield the best trial's settings and the command that trains with them."""
        ends = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        rows = [
            ("trials", ends),
            ("best trial", str(self.number)),
            ("validation macro-F1", f"{self.score:.4f} in epoch {self.epoch}"),
            *((name, f"{value:.4g}") for name, value in self.values.items()),
        ]
        yield Table(["setting", "value"], rows)
        yield f"recipe: {self.recipe}"
        yield f"Train with it: trash-classifier train --config {self.recipe}"

    def as_json(self) -> dict[str, Any]:
        """Return the best trial, the number of trials by outcome, and the files."""
        best = {"trial": self.number, MONITOR: self.score, "epoch": self.epoch, "settings": self.values}
        files = {"study": self.study, "recipe": str(self.recipe)}
        return {"best": best, "trials": self.counts, "data_fingerprint": self.fingerprint, **files}


class TrialTracker(NoTracker):
    """Reports each epoch to a trial and stops a training that falls behind.

    Optuna's Lightning callback is not used: it reports in single precision and keeps no scores to end the trial with.

    Raises:
        optuna.TrialPruned: from `log_epoch`, if the trial should stop; Lightning passes it on.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.scores: list[float] = []

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Report the validation macro-F1 of an epoch; the start, epoch 0, is the same in all trials."""
        if not row["epoch"]:
            return
        self.scores.append(row[MONITOR])
        self._trial.report(row[MONITOR], int(row["epoch"]) - 1)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def tune(settings: TuneSettings, train: Train = train_with) -> Tuned:
    """Search until `trials` have finished, including those of interrupted searches, or `timeout` has passed.

    Args:
        settings: of the search, and of everything that is not searched.
        train: trains once and reports each epoch to the tracker.

    Raises:
        DatasetError: the data set is not prepared.
        TrainingError: the study is damaged, or belongs to other data or settings; or a training cannot start.
        BusyError: another search uses the study's file; it would take the running trial of that one for a leftover.
        SettingsError: `storage` is not a database's URL, or its driver is not installed.
    """
    manifest = read_manifest(settings.processed_dir / settings.name)
    folder = settings.reports_dir / "tuning"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{settings.bundle_name}.sqlite3"
    place = str(file) if settings.storage is None else shown_url(settings.storage)
    with nullcontext() if settings.storage else only_writer(file), _said_clearly(place):
        study = _open_study(file, place, settings)
        _check_plan(study, settings, manifest, place)
        if settings.storage is None:
            for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                study.tell(trial.number, state=TrialState.FAIL)  # a killed search left it behind
        _search(study, settings, train)
        tuned = _outcome(study, settings, place, manifest.fingerprint)
    write_text(tuned.recipe, _recipe(tuned, settings))
    return tuned


def shown_url(url: str) -> str:
    """Return a database's URL with its password hidden.

    Raises:
        SettingsError: it is no such URL.
    """
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError as error:
        hint = "Write it as SQLAlchemy does: postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, or sqlite:////folder/study.db"
        raise SettingsError("--storage is not the URL of a database.", hint) from error


@contextmanager
def _said_clearly(place: str) -> Iterator[None]:
    """Turn errors of the database into one that says what to do."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
        reason = first_line(error.__cause__ or error)
        hint = "Move it away and start a new search, or give another --output or --storage."
        raise TrainingError(f"{place} cannot be used as a study: {reason}.", hint) from error


def _open_study(file: Path, place: str, settings: TuneSettings) -> optuna.Study:
    if file.exists() and settings.storage is None:
        with closing(sqlite3.connect(file)) as database:
            (verdict,) = database.execute("PRAGMA quick_check").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # for those who write code with Optuna
    pruner = MedianPruner(n_warmup_steps=settings.epochs // WARM_UP_SHARE)
    for last in (
        False,
        False,
        True,
    ):  # of several that make the tables at once, all but one fail the first time
        try:
            storage = RDBStorage(
                settings.storage or f"sqlite:///{file.resolve()}",
                heartbeat_interval=HEARTBEAT if settings.storage else None,
            )
            return optuna.create_study(
                storage=storage, study_name=settings.bundle_name, direction="maximize", load_if_exists=True,
                pruner=pruner,
            )  # fmt: skip
        except ModuleNotFoundError as error:
            hint = f"Install it: pip install {error.name}"
            raise SettingsError(
                f"--storage {place} needs a driver that is not installed: {error.name}.", hint
            ) from error
        except RuntimeError as error:  # tables of another version of Optuna
            hint = "Use the version of Optuna that made it, or give another --output."
            raise TrainingError(f"{place} is a study of another version of Optuna: {error}", hint) from error
        except (SQLAlchemyError, StorageInternalError):
            if last or settings.storage is None:
                raise
            time.sleep(1)
    raise AssertionError("the last try returns or raises")


def _check_plan(study: optuna.Study, settings: TuneSettings, manifest: Manifest, place: str) -> None:
    """Store what all trials of a study have in common, or compare it with what is stored.

    Raises:
        TrainingError: the study belongs to other data or settings; names each difference.
    """
    # Files and models are identified by checksums, so that they may be moved but not replaced.
    files = {"weights", "init_from", "teacher"}
    free = {*TuneSettings.model_fields} - {*TrainSettings.model_fields} | FREE | files | {*settings.search}
    chosen = {f"search of {name}": str(SPACE[name]) for name in sorted(settings.search)}
    used = resolved(settings)
    fixed = {name: value for name, value in used.items() if name not in free}
    conditions = conditions_of(used, manifest)
    checksums = {f"checksum of {name}": conditions[name] for name in sorted(files)}
    data = {"data_fingerprint": manifest.fingerprint, "classes": list(manifest.labels)}
    plan = {**data, **fixed, **checksums, **chosen}
    before = study.user_attrs.get("plan")
    if before is None:
        study.set_user_attr("plan", plan)
        return
    searched = dict.fromkeys(name for name in {**plan, **before} if name.startswith("search of "))
    changes = differences(searched | before, searched | plan)
    if changes:
        hint = "Give another --output, or the data and settings of the study."
        raise TrainingError(f"{place} is a search with other data or settings: {listed(changes)}.", hint)


def _search(study: optuna.Study, settings: TuneSettings, train: Train) -> None:
    deadline = time.monotonic() + settings.timeout if settings.timeout else float("inf")
    space: dict[str, BaseDistribution] = {name: SPACE[name] for name in settings.search}
    # The first trial takes the settings as given, so that the best trial is never worse than them on validation.
    given: dict[str, float] = {name: getattr(settings, name) for name in settings.search}
    inside = all(SPACE[name].low <= value <= SPACE[name].high for name, value in given.items())
    while time.monotonic() < deadline:
        if settings.storage:
            fail_stale_trials(study)
        for ended in study.get_trials(deepcopy=False, states=[TrialState.FAIL]):
            shutil.rmtree(_scratch(settings, ended.number), ignore_errors=True)
        done = len(study.get_trials(deepcopy=False, states=FINISHED))
        if len(study.get_trials(deepcopy=False, states=[*FINISHED, TrialState.RUNNING])) >= settings.trials:
            return
        # Seeded per trial: a sampler seeded once would repeat its first trials when a search resumes.
        here = (
            [os.getpid(), *platform.node().encode()] if settings.storage else []
        )  # no two processes draw alike
        seed = np.random.SeedSequence([settings.seed, done, *here]).generate_state(1)[0]
        study.sampler = TPESampler(seed=int(seed), constant_liar=settings.storage is not None)
        if inside and not done and not study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            study.enqueue_trial(given)
        trial = study.ask(space)
        with _heartbeat(study, trial):
            _run_trial(study, trial, settings, train)


@contextmanager
def _heartbeat(study: optuna.Study, trial: Trial) -> Iterator[None]:
    """Show the other processes of a shared study that this one lives; without heartbeats they fail its trial."""
    storage = (
        study._storage
    )  # Optuna sends heartbeats only from `optimize`, which has no place for `ask` and `tell`
    if not isinstance(storage, BaseHeartbeat) or not storage.get_heartbeat_interval():
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        with suppress(SQLAlchemyError, StorageInternalError):  # the next beat may get through
            storage.record_heartbeat(trial._trial_id)

    def keep_beating() -> None:
        while not ended.wait(HEARTBEAT):
            beat()

    beat()  # before the trial begins: one without any beat would be taken for running for ever
    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _scratch(settings: TuneSettings, number: int) -> Path:
    """Return the folder of a trial's bundle and logs, which are not needed afterwards."""
    return settings.reports_dir / "tuning" / f".{settings.bundle_name}.{number}.trial"


def _run_trial(study: optuna.Study, trial: Trial, settings: TuneSettings, train: Train) -> None:
    tracker = TrialTracker(trial)
    folder = _scratch(settings, trial.number)
    try:
        train(_settings_of_trial(settings, trial.params, folder), tracker)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        end = f"stopped after {len(tracker.scores)} epochs"
    except DivergedError:  # counted as stopped early, so that the search continues with other settings
        study.tell(trial, state=TrialState.PRUNED)
        end = f"diverged after {len(tracker.scores)} epochs"
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        study.tell(trial, max(tracker.scores))
        end = "finished"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    best = max(tracker.scores, default=0.0)
    say(f"trial {trial.number}: {end}, validation macro-F1 {best:.4f}")


def _settings_of_trial(settings: TuneSettings, values: Mapping[str, Any], folder: Path) -> TrainSettings:
    """Return the settings of one trial, validated; their output goes below `folder`."""
    shared = settings.model_dump(include=set(TrainSettings.model_fields))
    places = {"models_dir": folder / "models", "reports_dir": folder / "reports"}
    return TrainSettings.model_validate({**shared, **values, **places})


def _outcome(study: optuna.Study, settings: TuneSettings, place: str, fingerprint: str) -> Tuned:
    trials = study.get_trials(deepcopy=False)
    counts = {
        name: sum(trial.state == state for trial in trials)
        for name, state in (
            ("finished", TrialState.COMPLETE),
            ("stopped early", TrialState.PRUNED),
            ("failed", TrialState.FAIL),
        )
    }
    if not counts["finished"]:
        raise TrainingError(f"No trial of {place} has finished.", "Continue the search with more --trials.")
    best = study.best_trial
    epoch = 1 + max(best.intermediate_values, key=lambda step: best.intermediate_values[step])
    values: dict[str, float] = {name: best.params[name] for name in settings.search}
    score = float(best.value or 0.0)
    recipe = settings.reports_dir / "tuning" / f"{settings.bundle_name}.yaml"
    return Tuned(place, recipe, best.number, score, epoch, values, counts, fingerprint)


def _recipe(tuned: Tuned, settings: TuneSettings) -> str:
    """Return the best trial as a recipe for `train`; other settings keep their values."""
    chosen = _settings_of_trial(settings, tuned.values, Path())
    hidden = {"config", "devices", "accelerator"}
    section = {k: v for k, v in resolved(chosen).items() if k not in hidden and v is not None}
    header = HEADER.format(
        finished=tuned.counts["finished"] + tuned.counts["stopped early"],
        pruned=tuned.counts["stopped early"],
        number=tuned.number,
        score=tuned.score,
        epoch=tuned.epoch,
        name=settings.name,
        fingerprint=tuned.fingerprint,
        seed=settings.seed,
    )
    return header + yaml.safe_dump({"train": section}, sort_keys=False, allow_unicode=True)

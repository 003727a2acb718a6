"""The search for settings: what it tries, what it keeps, how it goes on, and what it refuses."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

pytest.importorskip("optuna")

from helpers.commands import command
from helpers.photos import MakeTree

from image_classification_trash.config.data import DataSettings
from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.training import TrainSettings, TuneSettings
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.errors import BusyError, DivergedError, SettingsError, TrainingError
from image_classification_trash.models import tune_model as tuning
from image_classification_trash.models.tune_model import SPACE, tune
from image_classification_trash.tracking.wandb_tracker import Tracker

MakeSettings = Callable[..., TuneSettings]


@pytest.fixture
def settings(tmp_path: Path, make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Settings of a search on a small prepared data set; the working folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    prepare(make_tree({"glass": 20, "paper": 20}))
    return lambda **given: TuneSettings(**{"name": "mine", "epochs": 4, "trials": 3, **given})


def prepare(source: Path, **given: Any) -> None:
    make_dataset(DataSettings(name="mine", source=source, embeddings=False, **given), None)


class Runs:
    """A training that never happens: its macro-F1 rises to a height that the settings decide."""

    def __init__(self, height: Callable[[TrainSettings], float] | None = None) -> None:
        self.height = height or (lambda settings: 1 - settings.dropout)
        self.seen: list[TrainSettings] = []

    def __call__(self, settings: TrainSettings, tracker: Tracker) -> None:
        self.seen.append(settings)
        settings.models_dir.mkdir(parents=True)
        for epoch in range(settings.epochs):
            score = self.height(settings) * (epoch + 1) / settings.epochs
            tracker.log_epoch({"epoch": epoch + 1.0, "val_macro_f1": score})

    def searched(self) -> list[dict[str, float]]:
        return [{name: getattr(settings, name) for name in SPACE} for settings in self.seen]


def test_the_best_trial_becomes_a_recipe_that_train_accepts(settings: MakeSettings) -> None:
    runs = Runs()
    tuned = tune(settings(trials=8, input_height=64, mixup=0.1), runs)
    best = min(run.dropout for run in runs.seen)
    assert tuned.score == pytest.approx(1 - best) and tuned.epoch == 4
    trained = load_settings(TrainSettings, ["--config", str(tuned.recipe)])
    assert (trained.name, trained.input_height, trained.epochs, trained.dropout) == ("mine", 64, 4, best)
    assert trained.models_dir == Path("models") and trained.bundle_name == "mine"
    document = json.loads(json.dumps(tuned.as_json()))
    assert document["best"]["settings"] == {name: getattr(trained, name) for name in SPACE}


def test_trials_differ_stay_inside_and_begin_with_what_was_given(settings: MakeSettings) -> None:
    runs = Runs()
    tune(settings(trials=8, learning_rate=2e-3), runs)
    tried = runs.searched()
    assert tried[0]["learning_rate"] == 2e-3 and tried[0]["freeze_stages"] == 5
    assert len({tuple(values.values()) for values in tried}) == 8
    assert all(SPACE[name].low <= values[name] <= SPACE[name].high for values in tried for name in SPACE)


def test_only_what_is_asked_for_is_searched(settings: MakeSettings) -> None:
    runs = Runs()
    tuned = tune(settings(search=["dropout"], learning_rate=0.5, freeze_stages=0), runs)
    assert {(run.learning_rate, run.freeze_stages) for run in runs.seen} == {(0.5, 0)}
    assert list(tuned.values) == ["dropout"] and len({run.dropout for run in runs.seen}) == 3


def test_an_interrupted_search_tries_what_an_uninterrupted_one_does(settings: MakeSettings) -> None:
    whole, first, second = Runs(), Runs(), Runs()
    tune(settings(trials=14, output="whole"), whole)
    tune(settings(trials=6, output="parts"), first)
    tuned = tune(settings(trials=14, output="parts"), second)
    assert len(first.seen) == 6 and len(second.seen) == 8
    assert first.searched() + second.searched() == whole.searched()
    assert tuned.counts["finished"] + tuned.counts["stopped early"] == 14
    again = Runs()
    assert tune(settings(trials=14, output="parts"), again) == tuned and not again.seen


def test_trials_that_fall_behind_are_stopped_early(settings: MakeSettings) -> None:
    epochs: list[int] = []

    def worse_each_time(run: TrainSettings, tracker: Tracker) -> None:
        epochs.append(0)
        for epoch in range(run.epochs):
            epochs[-1] += 1
            tracker.log_epoch({"epoch": epoch + 1.0, "val_macro_f1": 1 / len(epochs)})

    tuned = tune(settings(trials=7, epochs=8), worse_each_time)
    assert epochs == [8, 8, 8, 8, 8, 3, 3] and tuned.number == 0
    assert tuned.counts == {"finished": 5, "stopped early": 2, "failed": 0}


def test_the_start_of_a_training_is_no_epoch_of_its_trial(settings: MakeSettings) -> None:
    def improves(run: TrainSettings, tracker: Tracker) -> None:
        for epoch, score in enumerate((0.9, 0.5, 0.6, 0.4, 0.3)):
            tracker.log_epoch({"epoch": float(epoch), "val_macro_f1": score})

    tuned = tune(settings(trials=1), improves)
    assert (tuned.score, tuned.epoch) == (0.6, 2)


def test_a_broken_trial_is_not_counted_and_leaves_no_files(settings: MakeSettings) -> None:
    def broken(run: TrainSettings, tracker: Tracker) -> None:
        Runs()(run, tracker)
        raise TrainingError("The disk is on fire.", "")

    with pytest.raises(TrainingError, match="on fire"):
        tune(settings(), broken)
    runs = Runs()
    tuned = tune(settings(), runs)
    assert tuned.counts == {"finished": 3, "stopped early": 0, "failed": 1} and len(runs.seen) == 3
    assert runs.seen[0].learning_rate == 1e-3  # what was given is tried again
    assert {path.name for path in Path("reports/tuning").iterdir()} - {".mine.sqlite3.lock"} == {
        "mine.sqlite3",
        "mine.yaml",
    }
    assert not Path("models").exists()


KILLED = """
import os, sys
from image_classification_trash.config.training import TuneSettings
from image_classification_trash.models.tune_model import tune

def train(settings, tracker):
    settings.models_dir.mkdir(parents=True)
    tracker.log_epoch({"epoch": 1.0, "val_macro_f1": 0.5})
    if settings.learning_rate != 1e-3:
        os._exit(9)

tune(TuneSettings(name="mine", epochs=4, trials=3), train)
"""


def test_a_killed_search_goes_on(settings: MakeSettings) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED], check=False).returncode == 9
    assert Path("reports/tuning/.mine.1.trial").is_dir()
    runs = Runs()
    tuned = tune(settings(), runs)
    assert tuned.counts == {"finished": 3, "stopped early": 0, "failed": 1} and len(runs.seen) == 2
    assert not list(Path("reports/tuning").glob(".mine*trial"))


SHARING = """
import pathlib, sys, time
from image_classification_trash.config.training import TuneSettings
from image_classification_trash.models import tune_model

name, storage = sys.argv[1:]
tune_model.HEARTBEAT = 1

def train(settings, tracker):
    pathlib.Path(f"began-{name}").touch()
    tracker.log_epoch({"epoch": 1.0, "val_macro_f1": 0.5})
    time.sleep(600 if name == "killed" else 0.3)

tune_model.tune(TuneSettings(name="mine", epochs=4, trials=8, storage=storage), train)
"""


def test_processes_share_a_study_and_a_killed_ones_trial_fails(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    workers = {
        name: subprocess.Popen([sys.executable, "-c", SHARING, name, storage], stderr=subprocess.PIPE)
        for name in ("killed", "one", "two")
    }
    while not Path("began-killed").exists():
        assert workers["killed"].poll() is None, workers["killed"].communicate()[1].decode()
        time.sleep(0.1)
    workers["killed"].kill()
    workers["killed"].wait()
    for name in ("one", "two"):
        errors = workers[name].communicate()[1].decode()
        assert workers[name].returncode == 0, errors
    monkeypatch.setattr(tuning, "HEARTBEAT", 1)
    time.sleep(3)  # two beats are missed
    tuned = tune(settings(trials=9, storage=storage), Runs())
    assert tuned.counts["finished"] + tuned.counts["stopped early"] == 9 and tuned.counts["failed"] == 1
    study = tuning.optuna.load_study(study_name="mine", storage=storage)
    assert not study.get_trials(states=[tuning.TrialState.RUNNING])


@pytest.mark.parametrize(
    ("storage", "found"),
    [("no url", "is not the URL"), ("postgresql+nodriver://u:secret@h/d", "not installed|cannot be used")],
)
def test_a_storage_that_cannot_be_used_is_refused_and_no_password_is_shown(
    settings: MakeSettings, storage: str, found: str
) -> None:
    with pytest.raises((SettingsError, TrainingError)) as caught:
        tune(settings(storage=storage), Runs())
    assert re.search(found, caught.value.found) and "secret" not in str(caught.value)


def test_time_over_begins_no_further_trial(settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(tuning.time, "monotonic", lambda: float(next(clock)))
    runs = Runs()
    tune(settings(trials=50, timeout=35), runs)
    assert len(runs.seen) == 3


def test_other_settings_are_refused_by_name(settings: MakeSettings) -> None:
    tune(settings(), Runs())
    with pytest.raises(TrainingError, match=r"input_height 224 -> 64\."):
        tune(settings(input_height=64), Runs())
    with pytest.raises(TrainingError, match=r"search of mixup .* -> none"):
        tune(settings(search=["dropout"], mixup=0.2), Runs())


def test_another_data_set_is_refused(settings: MakeSettings, make_tree: MakeTree) -> None:
    tune(settings(), Runs())
    prepare(make_tree({"glass": 21, "paper": 22}, "others"))
    runs = Runs()
    with pytest.raises(TrainingError, match=r"data_fingerprint \w+ -> \w+") as caught:
        tune(settings(), runs)
    assert "--output" in caught.value.hint and not runs.seen


@pytest.mark.parametrize("damage", ["text", "holes", "half", "folder"])
def test_a_damaged_study_is_named(settings: MakeSettings, damage: str) -> None:
    file = Path(tune(settings(), Runs()).study)
    content = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        holes = content[:4096] + b"\xff" * (len(content) - 4096)
        file.write_bytes(
            {"text": b"no database at all" * 99, "holes": holes, "half": content[: len(content) // 2]}[damage]
        )
    runs = Runs()
    with pytest.raises(TrainingError, match=r"mine\.sqlite3 cannot be used as a study") as caught:
        tune(settings(), runs)
    assert "Move it away" in caught.value.hint and not runs.seen


def test_a_study_in_use_is_refused(settings: MakeSettings) -> None:
    def within(run: TrainSettings, tracker: Tracker) -> None:
        with pytest.raises(BusyError, match="Another process is writing"):
            tune(settings(), Runs())
        Runs()(run, tracker)

    assert tune(settings(trials=1), within).counts["finished"] == 1
    with FileLock("reports/tuning/.mine.sqlite3.lock", timeout=0):
        pass  # free again


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--resume"], "resumes by itself"),
        (["--devices", "2"], "one device"),
        (["--tracker", "wandb"], "leave out --tracker"),
        (["--epochs", "0"], "epochs"),
        (["--search", "hue"], "search"),
    ],
)
def test_settings_that_make_no_search_are_refused(flags: list[str], found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        load_settings(TuneSettings, ["mine", *flags])


def test_a_recipe_for_train_is_where_a_search_begins(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump({"train": {"epochs": 7, "hue": 0.1}, "tune": {"epochs": 5, "trials": 9}})
    )
    read = load_settings(TuneSettings, ["mine", "--config", str(recipe), "--search", "mixup", "dropout"])
    assert (read.epochs, read.hue, read.trials, read.search) == (5, 0.1, 9, ["mixup", "dropout"])


@pytest.mark.slow
def test_a_real_search_goes_on_and_its_recipe_trains(tmp_path: Path, make_tree: MakeTree) -> None:
    command(
        tmp_path, "data", "mine", "--source", str(make_tree({"glass": 20, "paper": 20})), "--no-embeddings"
    )
    plain = ["--architecture", "sequential_cnn", "--no-pretrained", "--epochs", "1", "--batch-size", "8"]
    line = ["tune", "mine", *plain, "--input-height", "64", "--input-width", "64"]
    first = json.loads(command(tmp_path, *line, "--trials", "2", "--json").stdout)
    assert first["trials"] == {"finished": 2, "stopped early": 0, "failed": 0}
    assert 0 <= first["best"]["val_macro_f1"] <= 1
    table = command(tmp_path, *line, "--trials", "3").stdout
    assert "3 finished" in table and "train --config reports/tuning/mine.yaml" in table
    command(tmp_path, "train", "--config", "reports/tuning/mine.yaml")
    config = json.loads((tmp_path / "models/mine/config.json").read_text())
    searched = yaml.safe_load((tmp_path / "reports/tuning/mine.yaml").read_text())["train"]
    assert {name: config["training"]["settings"][name] for name in SPACE} == {
        name: searched[name] for name in SPACE
    }


def test_a_real_training_can_be_stopped_early(settings: MakeSettings) -> None:
    class StopError(Exception):
        pass

    class Stopping(tuning.NoTracker):
        epochs = 0

        def log_epoch(self, row: Any) -> None:
            self.epochs += 1
            raise StopError

    tracker = Stopping()
    small = {"architecture": "sequential_cnn", "pretrained": False, "input_height": 64, "input_width": 64}
    with pytest.raises(StopError):
        tuning.train_with(TrainSettings(name="mine", epochs=3, batch_size=8, **small), tracker)
    assert tracker.epochs == 1 and not Path("models/mine").exists()


def test_a_trial_that_diverges_does_not_end_the_search(settings: MakeSettings) -> None:
    seen: list[float] = []

    def diverge_at_first(run: TrainSettings, tracker: Tracker) -> None:
        seen.append(run.learning_rate)
        if len(seen) == 1:
            raise DivergedError("The training diverged in epoch 1.")
        tracker.log_epoch({"epoch": 1.0, "val_macro_f1": 0.5})

    tuned = tune(settings(trials=3), diverge_at_first)
    assert len(set(seen)) == 3 and tuned.counts == {"finished": 2, "stopped early": 1, "failed": 0}

"""The command line before any work: help and refusals come at once, as little is imported for them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from image_classification_trash.cli import COMMANDS
from image_classification_trash.config.base import StageSettings
from image_classification_trash.config.verbs import VERBS, settings_of

HEAVY = {
    "torch",
    "torchvision",
    "lightning",
    "matplotlib",
    "sklearn",
    "scipy",
    "tensorflow",
    "timm",
    "optuna",
}
LISTED = """
import sys
from image_classification_trash.cli import run
try:
    print("status", run(sys.argv[1:]))
except SystemExit as stopped:
    print("status", stopped.code)
print("modules", *sys.modules)
"""


def run_and_list(folder: Path, *arguments: str) -> tuple[int, str, set[str]]:
    """Exit status, what was said on both streams, and the modules that were imported."""
    line = [sys.executable, "-c", LISTED, *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True)
    said, _, modules = done.stdout.rpartition("modules ")
    status = re.search(r"status (\d+)\n$", said)
    assert status is not None
    return int(status[1]), said + done.stderr, set(modules.split())


def test_the_table_of_verbs_is_what_their_settings_say() -> None:
    assert VERBS.keys() == COMMANDS.keys()
    for name, verb in VERBS.items():
        settings = settings_of(name)
        assert (settings.stage, settings.__doc__) == (name, verb.help)
    known = {base for name in VERBS for base in settings_of(name).__mro__}
    assert set(StageSettings.__subclasses__()) <= known


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["--version"], 0), (["dance"], 2)])
def test_what_concerns_all_verbs_imports_no_settings(
    arguments: list[str], status: int, tmp_path: Path
) -> None:
    found, said, modules = run_and_list(tmp_path, *arguments)
    assert found == status and "trash-classifier" in said
    assert not modules & {"pydantic", "yaml", "image_classification_trash.config.base", *HEAVY}


@pytest.mark.parametrize(
    ("typed", "meant"), [("trian", "'train'"), ("evalute", "'evaluate'"), ("xyz", "Commands: ")]
)
def test_a_command_that_is_misspelt_is_answered_with_the_nearest(
    typed: str, meant: str, tmp_path: Path
) -> None:
    status, said, _ = run_and_list(tmp_path, typed)
    assert status == 2 and f"error: There is no command '{typed}'.\n  " in said and meant in said


def test_no_command_at_all_is_answered_with_the_help(tmp_path: Path) -> None:
    status, said, _ = run_and_list(tmp_path)
    assert status == 2 and "trash-classifier predict photo.jpg" in said
    status, help_, _ = run_and_list(tmp_path, "--help")
    assert status == 0 and said.removeprefix("status 2\n").strip() == help_.removesuffix("status 0\n").strip()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_fits_into_a_terminal(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, said, _ = run_and_list(tmp_path, "--help")
    assert max(map(len, said.splitlines())) <= max(columns, 80)
    assert all(f"\n  {name} " in said for name in VERBS)


def test_a_wrong_flag_without_a_command_is_a_wrong_setting(tmp_path: Path) -> None:
    status, said, _ = run_and_list(tmp_path, "--versoin")
    assert status == 2 and "error: unrecognized arguments: --versoin.\n  See: trash-classifier --help" in said


def test_the_version_names_the_model_and_the_engines(tmp_path: Path) -> None:
    _, said, modules = run_and_list(tmp_path, "--version")
    assert re.search(r"^trash-classifier \d", said)
    assert re.search(r"^shipped model: [\w-]+, SHA-256 [0-9a-f]{12}$", said, re.MULTILINE)
    assert re.search(r"^LiteRT: \d", said, re.MULTILINE) and re.search(r"^PyTorch: ", said, re.MULTILINE)
    assert not modules & {"numpy", "PIL"}


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_volume_is_set_before_or_after_the_command(place: str, tmp_path: Path) -> None:
    words = ["-q", "models", "list"] if place == "before" else ["models", "list", "-q"]
    line = [sys.executable, "-m", "image_classification_trash"]
    loud = subprocess.run(
        [*line, "explore", "nope"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in loud.stderr
    said = subprocess.run(
        [*line, "-v", "explore", "nope"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" in said.stderr and said.stderr.endswith(loud.stderr)
    quiet = subprocess.run([*line, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert quiet.returncode == 0 and not quiet.stderr


def test_a_verb_imports_its_own_settings_alone(tmp_path: Path) -> None:
    status, said, modules = run_and_list(tmp_path, "serve", "--help")
    assert status == 0 and "--port" in said
    loaded = {
        name.rpartition(".")[2] for name in modules if name.startswith("image_classification_trash.config.")
    }
    assert loaded == {"verbs", "photos_alone", "loader", "recipes", "command_line", "base", "serving"}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["explore", "nope"], "no prepared data set in data/processed/nope"),
        (["audit", "nope"], "no prepared data set in data/processed/nope"),
        (["features", "nope"], "no prepared data set in data/processed/nope"),
        (["train", "nope"], "no prepared data set in data/processed/nope"),
        (["tune", "nope"], "no prepared data set in data/processed/nope"),
        (["evaluate", "nope"], "no model 'nope'"),
        (["evaluate", "models/nope"], "models/nope is not a trained model"),
        (["evaluate"], "no trained model in models"),
        (["export", "nope"], "no model 'nope'"),
        (["benchmark", "nope"], "no model 'nope'"),
        (["monitor", "photo.jpg", "--model", "nope"], "no model 'nope'"),
        (["train", "--epochs", "many"], "train: epochs = 'many'"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_heavy_is_imported(
    arguments: list[str], found: str, tmp_path: Path
) -> None:
    status, said, modules = run_and_list(tmp_path, *arguments)
    assert status in (1, 2) and found in said
    assert not modules & HEAVY

"""Weights & Biases as a user meets it without a network: what is kept, what is said, and what never is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import process

pytest.importorskip("wandb")

PLAIN = ["--architecture", "sequential_cnn", "--no-head", "--freeze-stages", "0", "--epochs", "1"]
SMALL = ["--input-height", "64", "--input-width", "96"]
KEY = "0123456789abcdef0123456789abcdef01234567"
PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
WITHOUT_MODE = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}


@pytest.fixture(scope="module")
def tracked(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a tracked training and evaluation, the network unreachable, and all that was printed."""
    folder = tmp_path_factory.mktemp("tracked")
    shutil.copytree(prepared, folder, symlinks=True, dirs_exist_ok=True)
    environment = {**WITHOUT_MODE, **PROXIES, "WANDB_API_KEY": KEY}
    runs = [
        process(folder, *line, "--tracker", "wandb", environment=environment)
        for line in (
            ["train", "sample", *PLAIN, *SMALL],
            ["evaluate", "models/sample", "--resamples", "100"],
        )
    ]
    return folder, "".join(run.stdout + run.stderr for run in runs)


def records(folder: Path) -> list[list[dict[str, Any]]]:
    """What each offline run holds, oldest run first."""
    found = []
    for file in sorted(folder.glob("reports/wandb/offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime):
        line = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        found.append([json.loads(row) for row in done.stdout.splitlines()])
    return found


def test_metrics_and_artifacts_are_in_the_offline_runs(tracked: tuple[Path, str]) -> None:
    train, evaluate = (json.dumps(run) for run in records(tracked[0]))
    for name in ("val_macro_f1", "learning_rate_backbone", "uses_dataset", '"latest"', '"best"', "weights-"):
        assert name in train
    for name in ("test/accuracy", "uses_model", "weights-", "test/predictions"):
        assert name in evaluate
    assert '"best"' not in evaluate


def test_staged_artifacts_stay_and_syncing_is_explained(tracked: tuple[Path, str]) -> None:
    folder, printed = tracked
    staged = [file for file in (folder / "reports/wandb/artifacts/staging").rglob("*") if file.is_file()]
    weights = (folder / "models/sample/model.safetensors").read_bytes()
    assert any(file.read_bytes() == weights for file in staged)
    assert printed.count("wandb sync") == 2


def test_no_key_is_written_or_printed(tracked: tuple[Path, str]) -> None:
    folder, printed = tracked
    assert KEY not in printed
    files = [
        file for place in ("reports", "models") for file in (folder / place).rglob("*") if file.is_file()
    ]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_wandb_is_not_imported_when_nothing_is_tracked() -> None:
    code = "import sys; from image_classification_trash.models import train_model; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "wandb" not in done.stdout.split()


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from image_classification_trash.config.training import TrainSettings
    from image_classification_trash.errors import MissingExtraError
    from image_classification_trash.models.train_model import train

    monkeypatch.setitem(sys.modules, "wandb", None)
    for name in ("WANDB_ERROR_REPORTING", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, "")
    with pytest.raises(MissingExtraError, match=r"\[track\]"):
        train(TrainSettings(tracker="wandb", reports_dir=tmp_path))

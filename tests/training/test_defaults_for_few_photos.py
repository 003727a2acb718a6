"""Defaults that suit few training photos: only where nothing was set, said in a line, and recorded as used."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.commands import command
from helpers.photos import ROOT, MakeTree

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.training.start import FEW_PHOTOS, FEW_PHOTOS_DEFAULTS, with_defaults_for


def manifest(train: int) -> SimpleNamespace:
    return SimpleNamespace(counts=lambda: {"train": {"glass": train - 5, "paper": 5}, "val": {}, "test": {}})


def test_few_photos_have_their_own_defaults_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    settings = with_defaults_for(TrainSettings(), manifest(FEW_PHOTOS - 1))
    assert {name: getattr(settings, name) for name in FEW_PHOTOS_DEFAULTS} == FEW_PHOTOS_DEFAULTS
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{FEW_PHOTOS - 1} training photos, fewer than {FEW_PHOTOS}: " in said
    differ = {name for name, value in FEW_PHOTOS_DEFAULTS.items() if value != getattr(TrainSettings(), name)}
    assert differ and all((name in said) == (name in differ) for name in FEW_PHOTOS_DEFAULTS)


def test_what_was_set_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    given = {name: getattr(TrainSettings(), name) for name in FEW_PHOTOS_DEFAULTS}
    settings = TrainSettings(**given)  # the very defaults for many photos, but asked for
    assert with_defaults_for(settings, manifest(50)) == settings
    assert not capsys.readouterr().err
    one = with_defaults_for(TrainSettings(epochs=3), manifest(50))
    assert one.epochs == 3 and one.freeze_stages == FEW_PHOTOS_DEFAULTS["freeze_stages"]


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(architecture="sequential_cnn"),
        TrainSettings(head=False),
        TrainSettings(pretrained=False),
        TrainSettings(init_from=[Path("models/a")]),
        TrainSettings(epochs=0),
    ],
    ids=["another network", "no head", "random weights", "a trained model", "the head alone"],
)
def test_other_trainings_keep_the_defaults(
    settings: TrainSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_defaults_for(settings, manifest(50)) == settings and not capsys.readouterr().err


def test_many_photos_keep_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert with_defaults_for(TrainSettings(), manifest(FEW_PHOTOS)) == TrainSettings()
    assert not capsys.readouterr().err


def test_the_command_records_what_it_used(tmp_path: Path, make_tree: MakeTree) -> None:
    command(
        tmp_path, "data", "mine", "--source", str(make_tree({"glass": 10, "paper": 10})), "--no-embeddings"
    )
    done = command(tmp_path, "train", "mine", "--epochs", "1", "--input-height", "32", "--input-width", "32")
    assert f"training photos, fewer than {FEW_PHOTOS}: freeze_stages 11 instead of 5" in done.stderr
    used = json.loads((tmp_path / "models/mine/config.json").read_text())["training"]["settings"]
    wanted = {**FEW_PHOTOS_DEFAULTS, "epochs": 1}
    assert {name: used[name] for name in wanted} == wanted


def test_the_study_of_small_data_runs_goes_on_and_reads_test_photos_last(
    tmp_path: Path, make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_tree({"glass": 12, "metal": 12, "paper": 12})
    command(tmp_path, "data", "tiny", "--source", str(source), "--no-embeddings")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import study_small_data

    def study(*arguments: str) -> tuple[dict[str, list[dict[str, object]]], str]:
        monkeypatch.setattr(sys, "argv", ["study_small_data.py", "--tiny", "--out", "out", *arguments])
        study_small_data.main()
        return json.loads(Path("out/small_data.json").read_text()), Path("out/small_data.md").read_text()

    document, page = study()
    assert [row["choice"] for row in document["runs"]] == [
        "freeze 0, rate 0.001, 2 epochs",
        "freeze 2, rate 0.0001, 1 epochs",
    ]
    assert document["runs"][0]["n"] == {"train": 12, "val": 6, "held_out": 6, "test": 6}
    assert not document["test"] and "Test" not in page
    again, _ = study()
    assert again == document  # seconds too: nothing was trained again
    tested, page = study("--test", "freeze 2, rate 0.0001, 1 epochs")
    assert [row["choice"] for row in tested["test"]] == ["freeze 2, rate 0.0001, 1 epochs"]
    assert "## Test, read once" in page
    photos = study_small_data.cut_photos(
        study_small_data.read_manifest(Path("data/processed/tiny")), study_small_data.TINY.cuts[0], 0
    )
    groups = [{photo.group for photo in chosen} for chosen in photos.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))

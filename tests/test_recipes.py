"""Recipes by name: one spelling finds one file, and the wheel has all of them."""

import tomllib
from pathlib import Path

import pytest

from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.recipes import FOLDER, RECIPES, recipe_file
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.errors import SettingsError

ROOT = Path(__file__).parents[1]


def test_all_recipes_have_names() -> None:
    assert sorted(RECIPES) == sorted({path.stem for path in (ROOT / "configs").glob("*.yaml")} - {"sweep"})
    assert FOLDER == ROOT / "configs"


def test_the_wheel_has_all_recipes() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {
        f"configs/{name}.yaml": f"image_classification_trash/config/recipes/{name}.yaml" for name in RECIPES
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_name_is_as_good_as_the_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder is no recipe
    by_path = load_settings(TrainSettings, ["--config", str(ROOT / f"configs/{name}.yaml")])
    assert load_settings(TrainSettings, ["--config", name]) == by_path != TrainSettings()


def test_a_flag_overrides_the_recipe_and_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRASH_TRAIN_CONFIG", "field")
    assert load_settings(TrainSettings, ["--epochs", "3"]).epochs == 3
    assert load_settings(TrainSettings, []).epochs == 53
    assert load_settings(TrainSettings, ["--config", "quickstart"]).epochs == 4


def test_a_file_of_that_spelling_is_refused_and_its_other_spelling_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("field").write_text("train: {epochs: 7}")
    with pytest.raises(SettingsError, match="both a recipe and a file") as refused:
        load_settings(TrainSettings, ["--config", "field"])
    assert f"--config {FOLDER / 'field.yaml'}" in refused.value.hint and "./field" in refused.value.hint
    mine = load_settings(TrainSettings, ["--config", "./field"])
    assert mine.epochs == 7
    assert mine.config is not None and recipe_file(mine.config) == mine.config  # read again by another step
    assert load_settings(TrainSettings, ["--config", str(FOLDER / "field.yaml")]).epochs == 53


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("feild", "feild is neither a YAML file nor the name of a recipe.*Did you mean --config field"),
        ("configs/resnet18.yaml", "Did you mean --config resnet18"),
        ("nowhere.yaml", "Recipes by name: efficientnet_lite0, field"),
    ],
)
def test_what_is_neither_is_answered_with_the_nearest(
    given: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=text):
        load_settings(TrainSettings, ["--config", given])

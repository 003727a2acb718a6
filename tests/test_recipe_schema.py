"""The JSON schema of recipes accepts the recipes of this repository and refuses what the commands refuse."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from image_classification_trash.config.recipes import recipe_schema

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted({*CONFIGS.glob("*.yaml")} - {CONFIGS / "sweep.yaml"})  # that one is W&B's


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(recipe_schema())
    return Draft202012Validator(recipe_schema())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_recipes_are_valid(recipe: Path, validator: Draft202012Validator) -> None:
    validator.validate(yaml.safe_load(recipe.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("recipe", "is_valid"),
    [
        ({"train": {"epochs": 3, "resize_mode": "crop"}, "data": None}, True),
        ({"train": {"epoch": 3}}, False),
        ({"train": {"resize_mode": "squash"}}, False),
        ({"train": {"input_height": 8}}, False),
        ({"trian": {"epochs": 3}}, False),
    ],
)
def test_mistakes_are_seen(recipe: dict[str, Any], is_valid: bool, validator: Draft202012Validator) -> None:
    assert validator.is_valid(recipe) is is_valid


def test_every_setting_explains_itself() -> None:
    train = recipe_schema()["properties"]["train"]["anyOf"][1]["properties"]
    assert train["learning_rate"]["description"] and train["learning_rate"]["default"]

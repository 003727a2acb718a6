"""Recipes by name: those of `configs/`, which the wheel has as package data; and the JSON schema of all recipes.

trash-classifier train trashnet --config field
trash-classifier --schema > recipe.schema.json    an editor that reads it completes and checks a recipe
"""

import difflib
from pathlib import Path
from typing import Any

from image_classification_trash.config.verbs import VERBS, settings_of
from image_classification_trash.errors import SettingsError

RECIPES = ("efficientnet_lite0", "field", "quickstart", "resnet18", "sequential_cnn")
"""Names of the recipes; each is a file of `FOLDER`."""
INSTALLED = Path(__file__).parent / "recipes"
FOLDER = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[2] / "configs"
"""Folder of the recipes: package data of an install, or `configs/` of a checkout."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_file(given: str | Path) -> Path:
    """Return the file of a recipe, given its name or its path.

    `./NAME` is a file whatever its spelling; the result is absolute then, so that it is not taken for a name later.

    Raises:
        SettingsError: nothing has that name or path (suggests the nearest name), or a recipe and a file both do.
    """
    text, path = str(given), Path(given)
    named = FOLDER / f"{text}.yaml" if text in RECIPES else None
    if named is not None and path.is_file():
        hint = f"Recipe: --config {named}\n  File: --config ./{text}"
        raise SettingsError(f"{text} is both a recipe and a file.", hint)
    if named is not None:
        return named
    if not path.exists():
        near = difflib.get_close_matches(path.stem, RECIPES, n=1)
        hint = f"Did you mean --config {near[0]}?" if near else f"Recipes by name: {', '.join(RECIPES)}."
        raise SettingsError(f"{text} is neither a YAML file nor the name of a recipe.", hint)
    return path.absolute() if str(path) in RECIPES else path


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe: a section per command, with the settings that `--help-all` shows.

    A section may leave everything out, since the environment and flags can give it. A command that begins with another's
    section, as `tune` does with `train`, states only what differs, and its own schema has all of it.
    """
    sections: dict[str, Any] = {}
    for name, verb in VERBS.items():
        section = settings_of(name).model_json_schema()
        section.pop("required", None)
        sections[name] = {
            "description": verb.help,
            "anyOf": [{"type": "null"}, {**section, "title": f"Settings of {name}"}],
        }
    return {
        "$schema": DIALECT,
        "title": "Recipe of trash-classifier",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }

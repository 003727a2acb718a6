"""Recipes by name: those of `configs/`, which the wheel has as package data.

trash-classifier train trashnet --config field
"""

import difflib
from pathlib import Path

from image_classification_trash.errors import SettingsError

RECIPES = ("efficientnet_lite0", "field", "quickstart", "resnet18", "sequential_cnn")
"""Names of the recipes; each is a file of `FOLDER`."""
INSTALLED = Path(__file__).parent / "recipes"
FOLDER = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[2] / "configs"
"""Folder of the recipes: package data of an install, or `configs/` of a checkout."""


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

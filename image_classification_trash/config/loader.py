"""Load the settings of a command. Precedence: defaults < YAML recipe < environment < flags.

    trash-classifier train trashnet --config efficientnet_lite0 --epochs 3
    TRASH_TRAIN_EPOCHS=3 trash-classifier train trashnet

A recipe has one section per command (`data:`, `train:`, ...), with the names that `--help-all` shows.
"""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import Repr
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from image_classification_trash.config.base import StageSettings
from image_classification_trash.config.command_line import parse_arguments, split_list, splits
from image_classification_trash.config.recipes import recipe_file
from image_classification_trash.config.verbs import VERBS
from image_classification_trash.errors import SettingsError
from image_classification_trash.files import read_yaml, repeated

SettingsT = TypeVar("SettingsT", bound=StageSettings)
MAX_RECIPE_BYTES = 2**17
"""Bytes of a recipe; one with every setting of every command takes a tenth of them."""
SHORT = Repr()
"""Shows a value in a message; aliases in YAML can make a small file one of billions of values."""
SHORT.maxlevel, SHORT.maxlist, SHORT.maxdict, SHORT.maxstring, SHORT.maxother = 2, 12, 12, 500, 500


def load_settings(cls: type[SettingsT], arguments: Sequence[str]) -> SettingsT:
    """Load the settings of one command from its arguments, the environment and the recipe they name.

    Raises:
        SettingsError: a name is unknown (suggests the nearest) or a value is invalid; says where.
        SystemExit: after `--help` and `--help-all`.
    """
    environment = read_environment(cls)
    return combined(cls, parse_arguments(cls, arguments), environment)


def combined(
    cls: type[SettingsT],
    given: Mapping[str, Any],
    environment: Mapping[str, Any] = MappingProxyType({}),
    origin: str = "command line",
) -> SettingsT:
    """Return the settings of one command: `given` over `environment` over the recipe that they name.

    Args:
        cls: the settings to make.
        given: settings by name.
        environment: settings by name, as `read_environment` returns them.
        origin: where those in `given` come from, for messages.

    Raises:
        SettingsError: a name is unknown (suggests the nearest) or a value is invalid; says where.
    """
    _check_names(f"{origin}: {cls.stage}:", given, cls.model_fields)
    named = given.get("config") or environment.get("config")
    file = recipe_file(named) if named else None
    recipe = read_recipe(file, cls) if file else {}
    try:
        return cls(**{**recipe, **environment, **given, "config": file})
    except ValidationError as error:
        origins = {origin: given, "environment": environment, str(file): recipe}
        raise _impossible_value(cls, error, origins) from error


def read_environment(cls: type[StageSettings]) -> dict[str, Any]:
    """Read the settings of one command from the variables TRASH_COMMAND_*: text, or lists of text.

    Raises:
        SettingsError: a variable names no setting (suggests the nearest), two name one, or a list is not valid.
    """
    prefix = f"TRASH_{cls.stage.upper()}_"
    names = [name for name in os.environ if name.upper().startswith(prefix)]
    if twice := repeated([name.upper() for name in names]):
        hint = "Unset the one in other letters: upper and lower case are the same."
        raise SettingsError(f"The environment sets {twice} twice.", hint)
    found = {name[len(prefix) :].lower(): os.environ[name] for name in names}
    _check_names(f"Environment variable {prefix}*: setting", found, cls.model_fields)
    return {
        name: split_list(f"{prefix}{name.upper()}", text) if splits(cls.model_fields[name], text) else text
        for name, text in found.items()
    }


def read_recipe(path: Path, cls: type[StageSettings]) -> dict[str, Any]:
    """Read the section of one command in a YAML recipe, merged over that of the command it is based on.

    Raises:
        SettingsError: the file is missing or not YAML, gives a key twice, or contains an unknown section or name.
    """
    recipe = read_yaml(path, MAX_RECIPE_BYTES, "--config", SettingsError) or {}
    if not isinstance(recipe, dict):
        raise SettingsError(f"{path} holds no sections.", f"Start it with `{cls.stage}:`.")
    _check_names(f"{path}: section", recipe, VERBS)
    section = recipe.get(cls.stage) or {}
    if not isinstance(section, dict):
        raise SettingsError(
            f"{path}: {cls.stage} holds no settings.", "Write them below it, as `name: value`."
        )
    _check_names(f"{path}: {cls.stage}:", section, cls.model_fields)
    return {**read_recipe(path, cls.begins_with), **section} if cls.begins_with else section


def _check_names(where: str, names: Iterable[Any], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise SettingsError(f"{where} {SHORT.repr(name)} is not known.", hint)


def _impossible_value(
    cls: type[StageSettings], error: ValidationError, origins: Mapping[str, Mapping[str, Any]]
) -> SettingsError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    # The origin with the highest precedence comes first; its value is the one that was checked.
    origin = next(
        (where for where, values in origins.items() if first["loc"][:1] and first["loc"][0] in values), ""
    )
    if first["type"] == "missing":
        return SettingsError(f"{name} is missing.", f"See: trash-classifier {cls.stage} --help")
    if not name:  # settings that contradict each other
        return SettingsError(f"{cls.stage}: {first['msg'].removeprefix('Value error, ')}.", "")
    where = f"{origin}: {cls.stage}" if origin else cls.stage
    found = f"{where}: {name} = {SHORT.repr(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}."
    return SettingsError(found, f"See: trash-classifier {cls.stage} --help")

"""Every setting, one model per stage. Defaults < YAML recipe < environment < flags.

    trash-classifier train trashnet --config configs/efficientnet_lite0.yaml --epochs 3
    TRASH_TRAIN_EPOCHS=3 trash-classifier train trashnet

A recipe has one section per stage (`data:`, `train:`, ...), each with the names below.
"""

import difflib
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_settings import (
    CliSettingsSource,
    EnvSettingsSource,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from image_classification_trash.config.base import (
    StageSettings,
)
from image_classification_trash.config.data import (
    AuditSettings,
    DataSettings,
    ExploreSettings,
    FeatureSettings,
)
from image_classification_trash.config.models import (
    BenchmarkSettings,
    EvaluateSettings,
    ExportSettings,
    ModelsSettings,
    MonitorSettings,
    PredictSettings,
)
from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.config.training import TrainSettings, TuneSettings
from image_classification_trash.errors import SettingsError

SettingsT = TypeVar("SettingsT", bound="StageSettings")


STAGES: tuple[type[StageSettings], ...] = (
    DataSettings, AuditSettings, ExploreSettings, FeatureSettings, TrainSettings, TuneSettings, EvaluateSettings, ModelsSettings,
    ExportSettings, BenchmarkSettings, PredictSettings, MonitorSettings, ServeSettings,
)  # fmt: skip


def load_settings(cls: type[SettingsT], arguments: Sequence[str]) -> SettingsT:
    """Settings of one stage from a command line's arguments, the environment and the recipe they name.

    Raises:
        SettingsError: an unknown name (the nearest is suggested) or an impossible value; says where.
        SystemExit: after `--help`.
    """
    _check_environment(cls)
    origins: dict[str, Mapping[str, Any]] = {}
    try:
        flags = CliSettingsSource[Any](
            cls,  # type: ignore[arg-type]  # a plain model serves it as well
            cli_parse_args=_join_lists(cls, arguments),
            cli_exit_on_error=False,
            cli_prog_name=f"trash-classifier {cls.stage}",
        )()
        environment = EnvSettingsSource(cls)()  # type: ignore[arg-type]
        file = flags.get("config") or environment.get("config")
        recipe = read_recipe(Path(file), cls) if file else {}
        origins = {"command line": flags, "environment": environment, str(file): recipe}
        return cls(**{**recipe, **environment, **flags})
    except PydanticSettingsError as error:
        raise _unknown_flag(cls, str(error)) from error
    except ValidationError as error:
        raise _impossible_value(cls, error, origins) from error


def read_recipe(path: Path, cls: type[StageSettings]) -> dict[str, Any]:
    """One stage's section of a YAML recipe, over that of the stage it begins with.

    Raises:
        SettingsError: the file is missing or not YAML, or it holds an unknown section or name.
    """
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}.", "Give --config a YAML file."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {error}.", "Mend the line it names.") from error
    if not isinstance(recipe, dict):
        raise SettingsError(f"{path} holds no sections.", f"Begin it with `{cls.stage}:`.")
    _check_names(f"{path}: section", recipe, [stage.stage for stage in STAGES])
    section = recipe.get(cls.stage) or {}
    if not isinstance(section, dict):
        raise SettingsError(
            f"{path}: {cls.stage} holds no settings.", "Write them below it, as `name: value`."
        )
    _check_names(f"{path}: {cls.stage}:", section, cls.model_fields)
    return {**read_recipe(path, cls.begins_with), **section} if cls.begins_with else section


def _join_lists(cls: type[StageSettings], arguments: Sequence[str]) -> list[str]:
    """`--format onnx tflite` as `--format=onnx,tflite`: the words behind a flag that takes several of a few names."""
    choices = {
        f"--{name.replace('_', '-')}": get_args(get_args(field.annotation)[0])
        for name, field in cls.model_fields.items()
        if get_origin(field.annotation) is list and get_origin(get_args(field.annotation)[0]) is Literal
    }
    joined: list[str] = []
    rest = deque(arguments)
    while rest:
        word = rest.popleft()
        names: list[str] = []
        while word in choices and rest and (rest[0] in choices[word] or (not names and rest[0][:2] != "--")):
            names.append(rest.popleft())
        joined.append(f"{word}={','.join(names)}" if names else word)
    return joined


def _check_names(where: str, names: Iterable[Any], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise SettingsError(f"{where} {name!r} is not known.", _suggestion(str(name), known))


def _check_environment(cls: type[StageSettings]) -> None:
    prefix = str(cls.model_config.get("env_prefix", ""))
    names = [name[len(prefix) :].lower() for name in os.environ if name.upper().startswith(prefix)]
    _check_names(f"Environment variable {prefix}*: setting", names, cls.model_fields)


def _unknown_flag(cls: type[StageSettings], message: str) -> SettingsError:
    found = message.removeprefix("error parsing CLI: ")
    unknown = found.rpartition("unrecognized arguments: ")[2].split("=")[0].split()
    known = [f"--{name.replace('_', '-')}" for name in cls.model_fields]
    hint = _suggestion(unknown[0], known) if "unrecognized" in found else ""
    return SettingsError(f"{found}.", hint or f"See: trash-classifier {cls.stage} --help")


def _impossible_value(
    cls: type[StageSettings], error: ValidationError, origins: Mapping[str, Mapping[str, Any]]
) -> SettingsError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    # The strongest origin comes first, and its value is the one that was checked.
    origin = next(
        (where for where, values in origins.items() if first["loc"][:1] and first["loc"][0] in values), ""
    )
    if first["type"] == "missing":
        return SettingsError(f"{name} is missing.", f"See: trash-classifier {cls.stage} --help")
    if not name:  # settings that contradict one another
        return SettingsError(f"{cls.stage}: {first['msg'].removeprefix('Value error, ')}.", "")
    where = f"{origin}: {cls.stage}" if origin else cls.stage
    found = f"{where}: {name} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."
    return SettingsError(found, f"See: trash-classifier {cls.stage} --help")


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."

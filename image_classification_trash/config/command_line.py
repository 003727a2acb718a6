"""Parse the arguments of a command with argparse; flags are generated from the fields of its settings.

trash-classifier train --help        the usual settings
trash-classifier train --help-all    all settings, grouped by subject
"""

import argparse
import difflib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from image_classification_trash.config.base import POSITIONAL, REPEATED, Part, StageSettings
from image_classification_trash.config.verbs import Parser
from image_classification_trash.errors import SettingsError
from image_classification_trash.files import parse_json
from image_classification_trash.show import set_volume

USUAL, HELP_ALL = "Usual settings", "--help-all"
SHORTCUTS = {"json_output": "--json"}
"""Flags with another name than their setting."""


def parse_arguments(cls: type[StageSettings], arguments: Sequence[str]) -> dict[str, Any]:
    """Parse a command line into the settings it gives: text, lists of text, or booleans.

    Raises:
        SettingsError: a flag is unknown (suggests the nearest), has no value, or is given twice without being a list.
        SystemExit: after `--help` and `--help-all`.
    """
    words = _join_lists(cls, arguments)
    parser = build_parser(cls, HELP_ALL in words)
    # Intermixed parsing allows positional arguments between flags, but does not support `--`.
    parse = parser.parse_known_args if "--" in words else parser.parse_known_intermixed_args
    given, unknown = parse(words)
    if unknown:
        near = difflib.get_close_matches(unknown[0].split("=")[0], map(_flag, cls.model_fields), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"See: {parser.prog} {HELP_ALL}"
        raise SettingsError(f"unrecognized arguments: {' '.join(unknown)}.", hint)
    values = vars(given)
    for name, texts in values.items():
        field = cls.model_fields[name]
        if is_list(field) and POSITIONAL not in field.metadata and REPEATED not in field.metadata:
            values[name] = [item for text in texts for item in split_list(_flag(name), text)]
    return values


def is_list(field: FieldInfo) -> bool:
    """Return whether a setting takes several values."""
    return get_origin(field.annotation) is list


def splits(field: FieldInfo, text: str) -> bool:
    """Return whether text from the environment is a list to split; commas in a `Repeated` setting belong to its one item."""
    return is_list(field) and (REPEATED not in field.metadata or text.startswith("["))


def split_list(where: str, text: str) -> list[Any]:
    """Split `a,b` or the JSON `["a", "b"]` into its items.

    Raises:
        SettingsError: it starts as JSON but is not valid; names `where` it was given.
    """
    if not text.startswith("["):
        return text.split(",")
    try:
        return list(parse_json(text))
    except ValueError as error:
        hint = 'Write the items with commas between them, or as JSON: ["a", "b"].'
        raise SettingsError(f"{where} = {text[:200]!r} is not a JSON list: {error}.", hint) from error


class OnceAction(argparse.Action):
    """Store a value; refuse a second one, which would replace the first silently."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        flag: str | None = None,
    ) -> None:
        """Store the value of `flag`; raise a SettingsError if there is one already."""
        if hasattr(namespace, self.dest):
            parser.error(f"{flag} is given twice: {getattr(namespace, self.dest)} and {values}")
        setattr(namespace, self.dest, values)


class OnceSwitch(argparse.BooleanOptionalAction):
    """A flag and its opposite, of which one can be given, once."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        flag: str | None = None,
    ) -> None:
        """Store whether `flag` is the positive one; raise a SettingsError if one was given already."""
        if hasattr(namespace, self.dest):
            parser.error(f"{' or '.join(self.option_strings)} is given twice")
        super().__call__(parser, namespace, values, flag)


class VolumeAction(argparse.Action):
    """Say less or more from now on, as `const` tells."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        flag: str | None = None,
    ) -> None:
        """Set the volume; the namespace, which holds settings, stays as it is."""
        set_volume(quiet=self.const)


def build_parser(cls: type[StageSettings], everything: bool) -> argparse.ArgumentParser:
    """Build the parser of all settings; its help shows the usual ones, or all if `everything`."""
    groups = _groups(cls)
    command = f"trash-classifier {cls.stage}"
    places = []
    for name, field in cls.model_fields.items():
        if POSITIONAL in field.metadata:
            place = name.upper() + " ..." * is_list(field)
            places.append(place if field.is_required() else f"[{place}]")
    rest = len(cls.model_fields) - len(groups[USUAL])
    parser = Parser(
        prog=command,
        usage=f"{command} {' '.join(places)} [--setting VALUE ...]",
        description=cls.__doc__,
        epilog=f"{rest} more settings: {command} {HELP_ALL}" if rest and not everything else None,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=32),
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
    )
    for heading, names in groups.items():
        group = parser.add_argument_group(heading)
        for name in names:
            _add_setting(group.add_argument, name, cls.model_fields[name], everything or heading == USUAL)
    note = f"Each setting can be in a recipe and in the environment: TRASH_{cls.stage.upper()}_*"
    group = parser.add_argument_group("Help", note)
    group.add_argument("-h", "--help", action="help", help="Show the usual settings")
    group.add_argument(HELP_ALL, action="help", help="Show all settings")
    quiet, verbose = ("-q", "--quiet"), ("-v", "--verbose")
    group.add_argument(*quiet, action=VolumeAction, nargs=0, const=True, help="Show results and errors alone")
    group.add_argument(
        *verbose, action=VolumeAction, nargs=0, const=False, help="Show logs, and where an error arose"
    )
    return parser


def _groups(cls: type[StageSettings]) -> dict[str, list[str]]:
    """Group the names of all settings by heading: the usual ones first, then part by part."""
    groups = {USUAL: [*cls.usual, "config"]}
    placed = set(groups[USUAL])
    for part in reversed(cls.__mro__):
        names = [name for name in getattr(part, "model_fields", ()) if name not in placed]
        if names and issubclass(part, Part):
            heading = StageSettings.heading if issubclass(part, StageSettings) else part.heading
            groups.setdefault(heading, []).extend(names)
            placed.update(names)
    return groups


def _add_setting(add: Callable[..., object], name: str, field: FieldInfo, shown: bool) -> None:
    """Add a setting to a group of the parser, as a flag or as a positional argument."""
    many = is_list(field)
    text = f"{field.description}{_default(field)}".replace("%", "%%") if shown else argparse.SUPPRESS
    if POSITIONAL in field.metadata:
        add(name, nargs="*" if many else "?", metavar=name.upper(), help=text)
    elif field.annotation is bool:
        add(_flag(name), dest=name, action=OnceSwitch, help=text)
    else:
        metavar = _metavar(field.annotation)
        add(_flag(name), dest=name, action="append" if many else OnceAction, metavar=metavar, help=text)


def _flag(name: str) -> str:
    return SHORTCUTS.get(name, f"--{name.replace('_', '-')}")


def _metavar(annotation: Any) -> str:
    """Return what a flag takes: INT, PATH, TEXT, ..., or the names to choose from."""
    if get_origin(annotation) in (list, Union, UnionType):
        annotation = get_args(annotation)[0]
    names = get_args(annotation)
    kind = "text" if annotation is str else str(annotation.__name__)
    return f"{{{','.join(names)}}}" if names else kind.upper()


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required() or value is None or value is False or value in ("", []):
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else str(value)
    return f" (default: {text})"


def _join_lists(cls: type[StageSettings], arguments: Sequence[str]) -> list[str]:
    """Join `--format onnx tflite` into `--format=onnx,tflite`, for flags that take several names out of a few."""
    choices = {
        _flag(name): get_args(get_args(field.annotation)[0])
        for name, field in cls.model_fields.items()
        if is_list(field) and get_origin(get_args(field.annotation)[0]) is Literal
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

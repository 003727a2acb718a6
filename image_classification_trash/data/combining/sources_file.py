"""Read a data sources file: YAML that names several sources of photos, for `data NAME --sources FILE`.

sources:
  - name: street
    path: photos/street             # folder, zip or CSV, relative to this file; or url, hub, known
    labels: {cans: metal, leaves: not waste, unclear: leave out}
    licence: CC BY 4.0
    attribution: Jane Doe, 2025
    role: train and validation
    weight: 0.5
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import Repr
from typing import Any

from image_classification_trash.data.combining.known_sets import KNOWN_SETS, LEAVE_OUT, KnownSet
from image_classification_trash.data.layouts import LAYOUTS, Layout, is_writable
from image_classification_trash.data.sources import COLUMNS
from image_classification_trash.data.trashnet import LABELS
from image_classification_trash.errors import DatasetError
from image_classification_trash.files import read_yaml
from image_classification_trash.inference.bundle import NEGATIVE_LABEL

MAX_SOURCES_BYTES = 2**20
"""Bytes of a data sources file; a source takes some hundred."""
ANY, TRAIN, TRAIN_VAL, NOT_WASTE, TEST = "any", "train", "train and validation", "not-waste", "test only"
ROLES = (ANY, TRAIN, TRAIN_VAL, NOT_WASTE, TEST)
"""What the photos of a source may be used for; `any` allows every split, `not-waste` too."""
PLACES = ("path", "url", "hub")
_TEXTS = (
    "name", *PLACES, "known", "sha256", "revision", "file", "layout", "photos", "zip_encoding", "label", "licence",
    "attribution", "address", "role",
)  # fmt: skip
_KEYS = (*_TEXTS, "columns", "only", "labels", "weight")
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 2, 12, 12, 200, 200


@dataclass(frozen=True)
class SourceSpec:
    """One source of a data sources file.

    Attributes:
        name: of the source, unique in the file.
        role: one of `ROLES`.
        known: the public set that it is a copy of; None for another.
        path: folder, zip or CSV; None where `url` or `hub` says where it is.
        url: address of a zip or CSV.
        hub: data set of the Hugging Face hub, OWNER/NAME.
        revision: of the hub's data set.
        file: in the hub's data set; empty for all of it.
        sha256: checksum of the zip or CSV; empty if it is not stated.
        layout: how folders are read.
        columns: a CSV's own name for each of its columns; besides those of `--columns`, `licence`.
        photos: folder that a CSV's paths are relative to; None for the CSV's own.
        zip_encoding: encoding of file names in the zip; None if the zip states it.
        only: beginnings of the paths to use; empty for all.
        label: the label of every photo, whatever its folder; empty to read labels.
        labels: the source's labels, and the class of each, `not waste`, or `leave out`.
        licence: of the photos.
        attribution: authors and title.
        address: where the photos come from, as an attribution names it.
        weight: weight of its photos in training; by class where it differs.
    """

    name: str
    role: str = ANY
    known: str = ""
    path: Path | None = None
    url: str = ""
    hub: str = ""
    revision: str = ""
    file: str = ""
    sha256: str = ""
    layout: Layout = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    photos: Path | None = None
    zip_encoding: str | None = None
    only: tuple[str, ...] = ()
    label: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    licence: str = "not stated"
    attribution: str = ""
    address: str = ""
    weight: float | Mapping[str, float] = 1.0

    def weight_of(self, label: str) -> float:
        """Return the weight of a photo of this class."""
        return self.weight.get(label, 1.0) if isinstance(self.weight, Mapping) else self.weight


@dataclass(frozen=True)
class SourcesFile:
    """A data sources file: its path, the classes of the combined data set, and its sources."""

    path: Path
    classes: tuple[str, ...]
    sources: tuple[SourceSpec, ...]


def read_sources_file(path: Path) -> SourcesFile:
    """Read and check a data sources file; nothing that it names is opened.

    Raises:
        DatasetError: it cannot be read, is not YAML, has an unknown key (suggests the nearest), names a source twice, or
            a source has an impossible or contradictory value; says in which source.
    """
    document = read_yaml(path, MAX_SOURCES_BYTES, "--sources", DatasetError)
    if not isinstance(document, dict):
        raise DatasetError(f"{path} names no sources.", "Start it with `sources:`, and list them below it.")
    check_known(f"{path}: key", document, ("classes", "sources"))
    classes, listed = document.get("classes", list(LABELS)), document.get("sources")
    if not _is_texts(classes) or len(set(classes)) < 2 or {NEGATIVE_LABEL, LEAVE_OUT} & set(classes):
        found = f"{path}: classes = {_SHORT.repr(classes)} is not a list of at least two names."
        raise DatasetError(found, f"List the classes without {NEGATIVE_LABEL!r}: it is no class.")
    if not isinstance(listed, list) or not listed:
        raise DatasetError(
            f"{path} names no sources.", "List them below `sources:`, each with a name and a place."
        )
    sources = tuple(
        parse_source(path, number, entry, classes) for number, entry in enumerate(listed, start=1)
    )
    names = [source.name.lower() for source in sources]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise DatasetError(f"{path}: two sources have the name {twice[0]!r}.", "Give each its own.")
    if all(source.role == TEST for source in sources):
        raise DatasetError(f"{path}: all sources are test only.", "Give at least one another role.")
    return SourcesFile(path, tuple(classes), sources)


def check_known(where: str, names: Iterable[Any], known: Iterable[str]) -> None:
    """Raise a DatasetError for the first name that is not known; suggest the nearest."""
    known = list(known)
    for name in names:
        if not isinstance(name, str) or name not in known:
            near = difflib.get_close_matches(str(name).lower(), known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise DatasetError(f"{where} {_SHORT.repr(name)} is not known.", hint)


def parse_source(path: Path, number: int, entry: Any, classes: list[str]) -> SourceSpec:
    """Read one source; what it does not say is taken from the known set that it names."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise DatasetError(f"{path}: source {number} has no name.", "Write it as `- name: NAME`.")
    where = f"{path}: source {_SHORT.repr(entry['name'])}:"
    if not re.fullmatch(r"\w[\w .-]{0,99}", entry["name"].strip()):
        raise DatasetError(f"{where} its name begins paths.", "Use letters, digits, spaces, dots, - and _.")
    check_known(f"{where} key", entry, _KEYS)
    for key in _TEXTS:
        if key in entry and (
            not isinstance(entry[key], str) or not entry[key].strip() or not is_writable(entry[key])
        ):
            hint = "Write text on one line, in quotes if it looks like a number or is yes or no."
            raise DatasetError(f"{where} {key} = {_SHORT.repr(entry[key])} is not text.", hint)
    values = {key: entry[key].strip() for key in _TEXTS if key in entry}
    check_known(f"{where} known set", [values["known"]] if "known" in values else [], KNOWN_SETS)
    known = KNOWN_SETS.get(values.get("known", ""))
    values = with_known(values, known) | {"role": parse_role(where, values.get("role", ANY))}
    if values.get("layout", "auto") not in LAYOUTS:
        check_known(f"{where} layout", [values["layout"]], LAYOUTS)
    hub = f"https://huggingface.co/datasets/{values['hub']}" if "hub" in values else ""
    values.setdefault(
        "address", (known.page if known else "") or values.get("url") or hub or values.get("path", "")
    )
    for key in ("path", "photos"):
        if key in values:
            values[key] = path.parent / Path(values[key]).expanduser()
    values["labels"] = parse_labels(where, entry.get("labels", dict(known.labels) if known else {}), classes)
    values["weight"] = parse_weight(where, entry.get("weight", 1.0), classes)
    values["columns"] = parse_columns(where, entry.get("columns", {}))
    only = entry.get("only", [])
    only = [only] if isinstance(only, str) else only
    if not _is_texts(only):
        raise DatasetError(
            f"{where} only = {_SHORT.repr(only)} is no list of paths.", "Write `only: [folder/]`."
        )
    source = SourceSpec(**values, only=tuple(only))
    check_place(where, source, known)
    check_consistent(where, source, entry, classes)
    return source


def with_known(values: dict[str, Any], known: KnownSet | None) -> dict[str, Any]:
    """Return the values of a source, with those of the known set where it has none of its own."""
    if known is None:
        return values
    offered = {"licence": known.licence, "attribution": known.attribution, "layout": known.layout}
    if known.url and not any(place in values for place in PLACES):
        offered["url"] = known.url
        if known.sha256:
            offered["sha256"] = known.sha256
    return offered | values


def parse_role(where: str, text: str) -> str:
    """Return the role that a text names, with hyphens or without; raise a DatasetError if it names none."""
    plain = text.lower().replace("-", " ").replace("_", " ")
    role = next((role for role in ROLES if role.replace("-", " ") == plain), None)
    if role is None:
        check_known(f"{where} role", [text], ROLES)
    return str(role)


def parse_labels(where: str, labels: Any, classes: list[str]) -> dict[str, str]:
    """Return a source's map from its labels to classes; raise a DatasetError for a target that is no class."""
    if not isinstance(labels, dict) or not _is_texts(list(labels)):
        hint = "Write `labels: {their label: class}`, with labels such as yes or 1 in quotes."
        raise DatasetError(f"{where} labels = {_SHORT.repr(labels)} map no labels.", hint)
    targets = (*classes, NEGATIVE_LABEL, LEAVE_OUT)
    mapped = {}
    for theirs, ours in labels.items():
        plain = ours.replace("-", " ").replace("_", " ") if isinstance(ours, str) else ours
        mapped[theirs] = plain if plain in (NEGATIVE_LABEL, LEAVE_OUT) else ours
        check_known(f"{where} label {_SHORT.repr(theirs)}: class", [mapped[theirs]], targets)
    return mapped


def parse_weight(where: str, weight: Any, classes: list[str]) -> float | dict[str, float]:
    """Return a weight, or weights by class; raise a DatasetError for one that is not a number above 0."""
    by_class = weight if isinstance(weight, dict) else {"": weight}
    if isinstance(weight, dict):
        check_known(f"{where} weight: class", weight, classes)
    for value in by_class.values():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 < value <= 1e6:
            raise DatasetError(
                f"{where} weight = {_SHORT.repr(value)}.", "Give a number above 0, such as 0.5."
            )
    numbers = {label: float(value) for label, value in by_class.items()}
    return numbers if isinstance(weight, dict) else numbers[""]


def parse_columns(where: str, columns: Any) -> dict[str, str]:
    """Return a CSV's own names for its columns; raise a DatasetError for an unknown column."""
    if not isinstance(columns, dict) or not _is_texts(list(columns.values())):
        hint = "Write `columns: {filepath: THEIRS, label: THEIRS}`."
        raise DatasetError(f"{where} columns = {_SHORT.repr(columns)} map no columns.", hint)
    check_known(f"{where} column", columns, (*COLUMNS, "licence"))
    return columns


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) and item and is_writable(item) for item in value
    )


def check_place(where: str, source: SourceSpec, known: KnownSet | None) -> None:
    """Raise a DatasetError unless the source says in exactly one way where it is, with what that way needs."""
    places = [name for name in PLACES if getattr(source, name)]
    if len(places) != 1:
        hint = f"Give one of {', '.join(PLACES)}; or known: {', '.join(name for name, s in KNOWN_SETS.items() if s.url)}."
        if known is not None and not places:
            hint = f"{known.obtain} ({known.page}); then give their folder as `path`."
        raise DatasetError(f"{where} says {' and '.join(places) or 'nothing of'} where its photos are.", hint)
    if source.url and not source.url.startswith(("https://", "http://")):
        raise DatasetError(
            f"{where} url {source.url!r} does not begin with https://.", "Give files as `path`."
        )
    if source.url and not source.sha256:
        hint = "Download the file once, look at it, and write its checksum as sha256; `sha256sum FILE` prints it."
        raise DatasetError(f"{where} a URL needs the SHA-256 of its file.", hint)
    if source.sha256 and (len(source.sha256) != 64 or set(source.sha256.lower()) - set("0123456789abcdef")):
        raise DatasetError(f"{where} sha256 {source.sha256!r} is not 64 hexadecimal digits.", "Correct it.")
    if source.hub and (not source.revision or source.hub.count("/") != 1):
        hint = "Write `hub: OWNER/NAME` and `revision:`, best the 40 digits of a commit, which never changes."
        raise DatasetError(f"{where} a data set of the hub needs its owner, name and revision.", hint)
    if not source.hub and (source.revision or source.file):
        raise DatasetError(f"{where} revision and file belong to `hub`.", "Leave them out.")


def check_consistent(where: str, source: SourceSpec, entry: Mapping[str, Any], classes: list[str]) -> None:
    """Raise a DatasetError for a role that contradicts another value of the source."""
    to_classes = sorted({source.label, *source.labels.values()} & set(classes))
    if source.role == NOT_WASTE and to_classes:
        found = f"{where} its role is not-waste, but it has photos of {', '.join(to_classes)}."
        raise DatasetError(found, f"Give it another role; map labels to {NEGATIVE_LABEL!r} one by one.")
    if source.role == TEST and "weight" in entry:
        raise DatasetError(
            f"{where} it is test only and has a weight, which training uses.", "Leave one out."
        )
    if source.label:
        check_known(f"{where} label", [source.label], (*classes, NEGATIVE_LABEL))
        if entry.get("labels") or "layout" in entry or "columns" in entry:
            raise DatasetError(
                f"{where} label is that of all its photos.", "Leave out labels, layout and columns."
            )

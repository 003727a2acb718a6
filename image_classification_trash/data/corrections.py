"""Manual corrections of single photos: exclude one, or change its label. `data --corrections` applies them from a CSV file.

    path,sha256,action,label,reason,status
    plastic/plastic332.jpg,3f0c...,relabel,glass,it shows a glass bottle,accepted
    paper/paper12.jpg,,exclude,,a hand before the lens,
    glass/glass7.jpg,9b1c...,relabel,metal,the model says metal,suggested

Each row identifies a photo by its path relative to the data set's root, by its SHA-256, or by both, which must then
match. `audit` writes such a file with every row `suggested`; a suggested row has no effect until a person sets it to
`accepted`.
"""

import csv
import difflib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from image_classification_trash.data.layouts import Source, SourceFile
from image_classification_trash.data.manifest import CorrectionsMade
from image_classification_trash.errors import DatasetError
from image_classification_trash.files import read_limited, sha256_of, sha256_of_file
from image_classification_trash.tables import csv_text, literal

Action = Literal["exclude", "relabel"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MAX_TABLE_BYTES = 2**28
"""Bytes of a corrections file: about two million rows."""
ACCEPTED, SUGGESTED = "accepted", "suggested"
_REQUIRED = {"action"}


@dataclass(frozen=True, slots=True)
class Correction:
    """One row of a corrections file.

    Attributes:
        path: path relative to the data set's root, with forward slashes; may be empty if `sha256` is set.
        sha256: SHA-256 of the file's bytes; may be empty if `path` is set.
        action: exclude or relabel.
        label: the correct class for relabel; empty for exclude.
        reason: free text for readers.
        status: accepted (or empty) to apply the row; suggested to ignore it for now.
    """

    path: str
    sha256: str
    action: str
    label: str
    reason: str
    status: str = ACCEPTED


COLUMNS = [field.name for field in fields(Correction)]


@dataclass(frozen=True)
class Corrections:
    """The contents of a corrections file.

    Attributes:
        name: path of the file, for messages and for dataset.json.
        rows: rows by line number.
        digest: SHA-256 of the file.
    """

    name: str
    rows: Mapping[int, Correction]
    digest: str

    @property
    def accepted(self) -> dict[int, Correction]:
        """Return the accepted rows by line number."""
        return {line: row for line, row in self.rows.items() if row.status == ACCEPTED}


@dataclass(frozen=True)
class Corrected:
    """A source with its corrections applied.

    Attributes:
        source: the source without excluded photos and with corrected labels.
        excluded: the excluded photos, each with its reason.
        made: the summary that dataset.json keeps.
        table: the applied rows as CSV text.
    """

    source: Source
    excluded: tuple[tuple[SourceFile, str], ...]
    made: CorrectionsMade
    table: str


def corrections_csv(rows: Iterable[Correction]) -> str:
    """Return rows as CSV text with a header."""
    return csv_text(COLUMNS, map(astuple, rows))


def read_corrections(path: Path) -> Corrections:
    """Read and check a corrections file.

    Raises:
        DatasetError: the file is missing, is not a CSV file with the columns of `Correction`, or has an invalid row.
    """
    try:
        data = read_limited(path, MAX_TABLE_BYTES)
        table = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        columns = set(table.fieldnames or ())
        twice = len(columns) < len(table.fieldnames or ())
        if twice or not _REQUIRED <= columns <= set(COLUMNS) or not columns & {"path", "sha256"}:
            found = f"{path} has the columns {', '.join(table.fieldnames or ['(none)'])}."
            raise DatasetError(found, f"The first line must be: {','.join(COLUMNS)}")
        numbered = [(table.line_num, row) for row in table]
    except OSError as error:
        hint = "Run `trash-classifier audit` to write one that you can edit."
        raise DatasetError(f"{path} cannot be read: {error.strerror}.", hint) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a UTF-8 CSV file: {error}.", "Save it as CSV, UTF-8.") from error
    rows = {line: _row(f"{path}, line {line}", row) for line, row in numbered}
    return Corrections(str(path), rows, sha256_of(data))


def apply_corrections(source: Source, corrections: Corrections) -> Corrected:
    """Exclude and relabel the photos that the accepted rows identify.

    Raises:
        DatasetError: a row names an unknown photo or label, a photo's SHA-256 differs from its row's, or two rows
            conflict.
    """
    decided = _decisions(source, corrections)
    excluded = tuple(
        (file, decided[file.path].reason)
        for file in source.files
        if file.path in decided and decided[file.path].action == "exclude"
    )
    files = tuple(
        replace(file, label=decided[file.path].label) if file.path in decided else file
        for file in source.files
        if file.path not in decided or decided[file.path].action == "relabel"
    )
    applied = corrections.accepted.values()
    made = CorrectionsMade(
        file=Path(corrections.name).name,
        sha256=corrections.digest,
        photos=dict(sorted(Counter(row.action for row in decided.values()).items())),
        suggested_and_not_applied=len(corrections.rows) - len(applied),
    )
    return Corrected(replace(source, files=files), excluded, made, corrections_csv(applied))


def _row(where: str, cells: Mapping[str, str | None]) -> Correction:
    if None in cells or None in cells.values():
        raise DatasetError(f"{where} does not have as many fields as the first line.", "Correct the line.")
    row = Correction(**{name: literal((cells.get(name) or "").strip()) for name in COLUMNS})
    row = replace(row, action=row.action.lower(), sha256=row.sha256.lower(), status=row.status or ACCEPTED)
    contradictions = {
        "identifies no photo: path and sha256 are empty": not row.path and not row.sha256,
        f"has the action {row.action!r}; use one of: {', '.join(ACTIONS)}": row.action not in ACTIONS,
        "has the action relabel but no label": row.action == "relabel" and not row.label,
        f"has the action exclude but also the label {row.label!r}": row.action == "exclude"
        and bool(row.label),
        f"has the status {row.status!r}, which is neither {ACCEPTED} nor {SUGGESTED}": row.status
        not in (ACCEPTED, SUGGESTED),
    }
    for contradiction, is_so in contradictions.items():
        if is_so:
            raise DatasetError(f"{where} {contradiction}.", "Correct the line, or remove it.")
    return row


def _decisions(source: Source, corrections: Corrections) -> dict[str, Correction]:
    """Return the accepted row of each photo, by path."""
    by_path = {file.path: file for file in source.files}
    by_digest: dict[str, list[str]] = defaultdict(list)
    if any(not row.path for row in corrections.accepted.values()):  # reads every photo, so only if needed
        for file in source.files:
            by_digest[_digest(source.root / file.path)].append(file.path)
    labels = {file.label for file in source.files}
    lines: dict[str, int] = {}
    for line, row in corrections.accepted.items():
        where = f"{corrections.name}, line {line}"
        if row.action == "relabel" and row.label not in labels:
            raise DatasetError(f"{where}: there is no class {row.label!r}.", _nearest(row.label, labels))
        for path in _photos_of(where, row, source, by_path, by_digest):
            first = lines.setdefault(path, line)
            other = corrections.rows[first]
            if (other.action, other.label) != (row.action, row.label):
                found = f"{corrections.name}: lines {first} and {line} conflict about {path}."
                raise DatasetError(found, "Keep one of them.")
    return {path: corrections.rows[line] for path, line in lines.items()}


def _photos_of(
    where: str,
    row: Correction,
    source: Source,
    by_path: Mapping[str, SourceFile],
    by_digest: Mapping[str, Sequence[str]],
) -> Sequence[str]:
    if not row.path:
        if row.sha256 not in by_digest:
            found = f"{where}: no photo in {source.root} has the SHA-256 {row.sha256}."
            hint = "The file may have been saved again: give its path instead, or remove the line."
            raise DatasetError(found, hint)
        return by_digest[row.sha256]
    if row.path not in by_path:
        found = f"{where}: there is no photo {row.path} in {source.root}."
        raise DatasetError(found, _nearest(row.path, by_path))
    if row.sha256 and row.sha256 != _digest(source.root / row.path):
        found = f"{where}: {row.path} has changed since it was reviewed: its SHA-256 differs."
        raise DatasetError(found, "Review the photo again; then update the line's sha256, or clear it.")
    return [row.path]


def _digest(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError:
        return ""  # the inspection of all photos reports unreadable files


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else "Remove the line, or correct it."

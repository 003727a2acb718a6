"""What a person decided about single photos: left out, or under another label. A CSV that `data` applies on request.

    path,sha256,action,label,reason,status
    plastic/plastic332.jpg,3f0c...,relabel,glass,it shows a glass bottle,accepted
    paper/paper12.jpg,,exclude,,a hand before the lens,
    glass/glass7.jpg,9b1c...,relabel,metal,the model says metal,suggested

A photo is named by its path below the data set's root, by its SHA-256, or by both, which must then agree. `audit`
writes such a file with every row `suggested`; these change nothing until a person makes them `accepted`.
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
from image_classification_trash.files import sha256_of, sha256_of_file

Action = Literal["exclude", "relabel"]
ACTIONS: tuple[Action, ...] = get_args(Action)
ACCEPTED, SUGGESTED = "accepted", "suggested"
_REQUIRED = {"action"}


@dataclass(frozen=True, slots=True)
class Correction:
    """One row.

    Attributes:
        path: below the data set's root, with forward slashes; may be empty where `sha256` is not.
        sha256: of the file's bytes; may be empty where `path` is not.
        action: exclude or relabel.
        label: the right class of a photo to relabel; empty for one to exclude.
        reason: why, for people.
        status: accepted (or empty), or suggested: not decided yet, and not applied.
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
    """A file of corrections.

    Attributes:
        name: of the file, for messages and the record.
        rows: by line number.
        digest: SHA-256 of the file.
    """

    name: str
    rows: Mapping[int, Correction]
    digest: str

    @property
    def accepted(self) -> dict[int, Correction]:
        """The rows that a person decided on, by line number."""
        return {line: row for line, row in self.rows.items() if row.status == ACCEPTED}


@dataclass(frozen=True)
class Corrected:
    """A source after its corrections.

    Attributes:
        source: without the excluded photos, others under their new labels.
        excluded: the photos left out, and why.
        made: for the record of how the data set was made.
        table: the rows that were applied, as CSV.
    """

    source: Source
    excluded: tuple[tuple[SourceFile, str], ...]
    made: CorrectionsMade
    table: str


def corrections_csv(rows: Iterable[Correction]) -> str:
    """Rows as CSV text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in rows)
    return buffer.getvalue()


def read_corrections(path: Path) -> Corrections:
    """Read and check a file of corrections.

    Raises:
        DatasetError: missing, not a CSV with these columns, or a row that says nothing that can be done.
    """
    try:
        data = path.read_bytes()
        table = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        columns = set(table.fieldnames or ())
        if not _REQUIRED <= columns <= set(COLUMNS) or not columns & {"path", "sha256"}:
            found = f"{path} has the columns {', '.join(table.fieldnames or ['(none)'])}."
            raise DatasetError(found, f"Its first line must be: {','.join(COLUMNS)}")
        numbered = [(table.line_num, row) for row in table]
    except OSError as error:
        hint = "`trash-classifier audit` writes one that you can edit."
        raise DatasetError(f"{path} cannot be read: {error.strerror}.", hint) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a CSV in UTF-8: {error}.", "Save it as CSV, UTF-8.") from error
    rows = {line: _row(f"{path}, line {line}", row) for line, row in numbered}
    return Corrections(str(path), rows, sha256_of(data))


def apply_corrections(source: Source, corrections: Corrections) -> Corrected:
    """Leave out and relabel what the accepted rows name.

    Raises:
        DatasetError: a photo or a label that the source has not, a photo that is not the one that was judged, or rows
            that contradict one another.
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
        raise DatasetError(f"{where} has not as many fields as the first line.", "Mend the line.")
    row = Correction(**{name: (cells.get(name) or "").strip() for name in COLUMNS})
    row = replace(row, action=row.action.lower(), sha256=row.sha256.lower(), status=row.status or ACCEPTED)
    contradictions = {
        "names no photo: path and sha256 are empty": not row.path and not row.sha256,
        f"has the action {row.action!r}, which is none of: {', '.join(ACTIONS)}": row.action not in ACTIONS,
        "is to relabel and names no label": row.action == "relabel" and not row.label,
        f"is to exclude and names the label {row.label!r} too": row.action == "exclude" and bool(row.label),
        f"has the status {row.status!r}, which is neither {ACCEPTED} nor {SUGGESTED}": row.status
        not in (ACCEPTED, SUGGESTED),
    }
    for contradiction, is_so in contradictions.items():
        if is_so:
            raise DatasetError(f"{where} {contradiction}.", "Mend the line, or take it out.")
    return row


def _decisions(source: Source, corrections: Corrections) -> dict[str, Correction]:
    """The row that each photo's path falls under."""
    by_path = {file.path: file for file in source.files}
    by_digest = _paths_by_digest(source, corrections.accepted.values())
    labels = {file.label for file in source.files}
    lines: dict[str, int] = {}
    for line, row in corrections.accepted.items():
        where = f"{corrections.name}, line {line}"
        if row.action == "relabel" and row.label not in labels:
            raise DatasetError(f"{where}: there is no class {row.label!r}.", _nearest(row.label, labels))
        for path in _photos_of(where, row, source, by_path, by_digest):
            other = lines.setdefault(path, line)
            if _contradict(corrections.rows[other], row):
                found = f"{corrections.name}: lines {other} and {line} say different things about {path}."
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
            raise DatasetError(
                found, "It may have been saved anew; name its path instead, or take the line out."
            )
        return by_digest[row.sha256]
    if row.path not in by_path:
        found = f"{where}: there is no photo {row.path} in {source.root}."
        raise DatasetError(found, _nearest(row.path, by_path))
    if row.sha256 and row.sha256 != _digest(source.root / row.path):
        found = f"{where}: {row.path} is not the photo that was judged, its SHA-256 is another."
        raise DatasetError(
            found, "Look at the photo again; then bring the line's sha256 up to date, or empty it."
        )
    return [row.path]


def _paths_by_digest(source: Source, rows: Iterable[Correction]) -> dict[str, list[str]]:
    """Every file's digest, if some row names a photo by its digest alone; nothing otherwise, as it takes time."""
    found: dict[str, list[str]] = defaultdict(list)
    if any(not row.path for row in rows):
        for file in source.files:
            found[_digest(source.root / file.path)].append(file.path)
    return dict(found)


def _digest(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError:
        return ""  # such a file is reported by the checks that every photo goes through


def _contradict(one: Correction, other: Correction) -> bool:
    return (one.action, one.label) != (other.action, other.label)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else "Take the line out, or mend it."

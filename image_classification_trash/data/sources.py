"""Read a source of photos, a tree of folders (see `layouts`) or a CSV file, into a list of labelled files.

The CSV's columns are `filepath`, `label` and, optionally, `split` and `group`; a mapping renames other columns, such as
those of Kaggle's `train.csv`. Paths are relative to the CSV's folder, or to a folder given for them.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from image_classification_trash.data.layouts import (
    Layout,
    Source,
    SourceFile,
    checked_label,
    is_writable,
    read_tree,
    split_of,
)
from image_classification_trash.data.manifest import SPLITS
from image_classification_trash.errors import DatasetError
from image_classification_trash.files import read_limited, repeated
from image_classification_trash.inference.images import PHOTO_SUFFIXES

MAX_TABLE_BYTES = 2**28
"""Bytes of a CSV file: about two million photos."""
COLUMNS = ("filepath", "label", "split", "group")
_REQUIRED = {"filepath", "label"}
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_source(
    path: Path, layout: Layout = "auto", columns: Mapping[str, str] | None = None, photos: Path | None = None
) -> Source:
    """List the labelled files of a tree of folders or of a CSV file.

    Args:
        path: a folder or a CSV file.
        layout: how to interpret the folders of a tree.
        columns: the CSV's own name for each of `COLUMNS` that it names differently, and for `licence` if it has one.
        photos: the folder that the CSV's paths are relative to; None for the CSV's folder.

    Raises:
        DatasetError: the path does not exist, has no labelled photos, or fits more than one layout.
    """
    if path.is_dir():
        source = read_tree(path, layout)
    elif path.suffix.lower() == ".csv" and path.is_file():
        source = read_csv(path, columns or {}, photos)
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        hint = "Download it, then pass the file or the folder to --source."
        slashes = ":///" if str(path).startswith("file:") else "://"  # a Path keeps one slash
        url = re.sub(":/(?!/)", slashes, str(path), count=1)
        raise DatasetError(f"{url} is a URL, but photos are read from files.", hint)
    else:
        what = "is neither a folder nor a .zip or .csv file" if path.exists() else "does not exist"
        hint = "Pass --source a folder of class folders, a zip of one, or a CSV file."
        raise DatasetError(f"{path} {what}.", hint)
    if not source.files:
        suffixes = ", ".join(sorted(f"*{suffix}" for suffix in PHOTO_SUFFIXES))
        found = f"No photos were found in {path}: no folder in it contains files named {suffixes}."
        if source.left_out:
            first = source.left_out[0]
            found += f" {len(source.left_out)} files and folders were left out, such as {first.path}: {first.detail}."
        hint = "Put each class's photos in a folder named after the class."
        if path.is_file():
            found = f"No photos were found in {path}: it has no line after the header."
            hint = "Write a line for each photo, with its path and its class."
        raise DatasetError(found, hint)
    return source


def read_csv(path: Path, columns: Mapping[str, str] | None = None, photos: Path | None = None) -> Source:
    """List the files named in a CSV file.

    Raises:
        DatasetError: the file is not UTF-8, has other columns, or has an invalid line, which the message names.
    """
    own = dict(columns or {})
    root = photos or path.parent
    try:
        text = read_limited(path, MAX_TABLE_BYTES).decode("utf-8-sig")
        header = text.partition("\n")[0]  # spreadsheets in some languages do not write commas
        delimiter = max(_DELIMITERS, key=lambda mark: (header.count(mark), mark == ","))
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        _check_columns(path, list(rows.fieldnames or ()), own)
        files = tuple(_csv_row(path, root, row, rows.line_num, own) for row in rows)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.", "Give a CSV file.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a UTF-8 CSV file: {error}.", "Save it as CSV, UTF-8.") from error
    return Source(root, files, (), tuple(_csv_notes(path, delimiter, own, root)))


def column_names(pairs: Sequence[str]) -> dict[str, str]:
    """Parse pairs such as `filepath=image` and `label=category` into a mapping.

    Raises:
        DatasetError: a pair has no `=`, or names an unknown column, or one that another pair names.
    """
    names = dict(pair.partition("=")[::2] for pair in pairs)
    wrong = [name for name, theirs in names.items() if name not in COLUMNS or not theirs]
    if wrong:
        hint = f"Write NAME=THEIRS, where NAME is one of {', '.join(COLUMNS)}."
        raise DatasetError(f"--columns {wrong[0]!r} does not map a column.", hint)
    if twice := repeated([pair.partition("=")[0] for pair in pairs]):
        raise DatasetError(f"--columns maps {twice!r} twice: {', '.join(pairs)}.", "Keep one of them.")
    return names


def _check_columns(path: Path, found: list[str], own: Mapping[str, str]) -> None:
    wanted = {own.get(name, name) for name in _REQUIRED} | set(own.values())
    stray = set(found) - set(COLUMNS) if not own else set()
    if twice := repeated(found):
        raise DatasetError(f"{path} has two columns {twice!r}.", "Rename one of them.")
    if wanted <= set(found) and not stray:
        return
    hint = (
        "The first line must be: filepath,label[,split,group]; or map its columns: "
        "--columns filepath=NAME,label=NAME"
    )
    raise DatasetError(f"{path} has the columns {', '.join(found) or '(none)'}.", hint)


def _csv_row(
    path: Path,
    root: Path,
    row: Mapping[str | None, str | list[str] | None],
    line: int,
    own: Mapping[str, str],
) -> SourceFile:
    where = f"{path}, line {line}"
    if None in row:
        surplus = row[None]
        hint = 'Quote fields that contain a comma: "bottle, clear"'
        raise DatasetError(f"{where}: more fields than columns (surplus: {surplus!r}).", hint)
    fields = {name: str(row.get(own.get(name, name)) or "").strip() for name in COLUMNS}
    if not fields["filepath"] or not fields["label"]:
        raise DatasetError(f"{where}: filepath or label is empty.", "Fill in both.")
    if not is_writable(fields["filepath"]):
        raise DatasetError(
            f"{where}: filepath {fields['filepath']!r} has a control character.", "Correct it."
        )
    split = split_of(fields["split"]) or ""
    if fields["split"] and not split:
        hint = f"Use one of: {', '.join(SPLITS)}."
        raise DatasetError(f"{where}: split {fields['split'].lower()!r}.", hint)
    label = checked_label(where, unicodedata.normalize("NFC", fields["label"]))
    filepath = fields["filepath"]
    if "\\" in filepath and not (root / filepath).exists():  # written on Windows
        filepath = filepath.replace("\\", "/")
    licence = str(row.get(own["licence"]) or "").strip() if "licence" in own else ""
    if not is_writable(licence):
        raise DatasetError(f"{where}: licence {licence!r} has a control character.", "Correct it.")
    return SourceFile(filepath, label, split, fields["group"], licence=licence)


def _csv_notes(path: Path, delimiter: str, own: Mapping[str, str], root: Path) -> Iterator[str]:
    if delimiter != ",":
        yield f"{path} is read with {_DELIMITERS[delimiter]} as delimiters"
    if own:
        yield f"{path} is read with " + ", ".join(f"{theirs} as {name}" for name, theirs in own.items())
    if root != path.parent:
        yield f"the paths in {path} are relative to {root}"

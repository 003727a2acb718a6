"""Where photos come from: folders (see `layouts`) or a CSV; each becomes a list of files with labels.

The CSV's columns are `filepath,label` and, where wanted, `split` and `group`; a table whose columns have other names, such
as Kaggle's `train.csv`, is read with a mapping. Paths start at the CSV's own folder, or at a folder that is named.
"""

import csv
import io
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
from image_classification_trash.inference.images import PHOTO_SUFFIXES

COLUMNS = ("filepath", "label", "split", "group")
_REQUIRED = {"filepath", "label"}
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_source(
    path: Path, layout: Layout = "auto", columns: Mapping[str, str] | None = None, photos: Path | None = None
) -> Source:
    """List the labelled files of a tree of folders or of a CSV.

    Args:
        path: a folder or a CSV file.
        layout: how the folders of a tree are to be read.
        columns: the CSV's own name of each of `COLUMNS` that is called otherwise there.
        photos: the folder that the CSV's paths start from; None: the CSV's own.

    Raises:
        DatasetError: nothing there, nothing that looks like labelled photos, or more than one way to read it.
    """
    if path.is_dir():
        source = read_tree(path, layout)
    elif path.suffix.lower() == ".csv" and path.is_file():
        source = read_csv(path, columns or {}, photos)
    elif "://" in str(path) or str(path).startswith(("http:/", "https:/")):
        hint = "Download it, then give --source the file or the folder."
        address = (
            str(path).replace(":/", "://", 1) if "://" not in str(path) else path
        )  # a Path has one slash
        raise DatasetError(f"{address} is an address, and photos are read from files.", hint)
    else:
        what = "is neither a folder nor a .zip or .csv file" if path.exists() else "does not exist"
        raise DatasetError(
            f"{path} {what}.", "Give --source a folder of class folders, a zip of one, or a CSV."
        )
    if not source.files:
        found = f"No photos were found in {path}: no folder in it holds files named {_suffix_list()}."
        if path.is_file():
            found = f"No photos were found in {path}: it has a header and no further line."
        raise DatasetError(found, "Put each class's photos in a folder named after the class.")
    return source


def read_csv(path: Path, columns: Mapping[str, str] | None = None, photos: Path | None = None) -> Source:
    """List the files named in a CSV.

    Raises:
        DatasetError: not UTF-8, other columns, or a line that cannot be right; names the line.
    """
    own = dict(columns or {})
    root = photos or path.parent
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = _delimiter(text)
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        _check_columns(path, list(rows.fieldnames or ()), own)
        files = tuple(_csv_row(path, root, row, rows.line_num, own) for row in rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a CSV in UTF-8: {error}.", "Save it as CSV, UTF-8.") from error
    return Source(root, files, (), tuple(_csv_notes(path, delimiter, own, root)))


def column_names(pairs: Sequence[str]) -> dict[str, str]:
    """The mapping that `filepath=image`, `label=category` stand for.

    Raises:
        DatasetError: a pair has no `=`, or names a column that there is not.
    """
    names = dict(pair.partition("=")[::2] for pair in pairs)
    wrong = [name for name, theirs in names.items() if name not in COLUMNS or not theirs]
    if wrong:
        hint = f"Write NAME=THEIRS, where NAME is one of {', '.join(COLUMNS)}."
        raise DatasetError(f"--columns {wrong[0]!r} does not say which column is which.", hint)
    return names


def _delimiter(text: str) -> str:
    """The comma, or what a spreadsheet of another language put in its place in the header."""
    header = text.partition("\n")[0]
    return max(_DELIMITERS, key=lambda mark: (header.count(mark), mark == ","))


def _check_columns(path: Path, found: list[str], own: Mapping[str, str]) -> None:
    wanted = {own.get(name, name) for name in _REQUIRED} | set(own.values())
    stray = set(found) - set(COLUMNS) if not own else set()
    twice = {name for name in found if found.count(name) > 1}
    if wanted <= set(found) and not stray and not twice:
        return
    hint = (
        "Its first line must be: filepath,label[,split,group]; or say what its columns mean: "
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
        hint = 'Put a field that holds a comma into quotation marks: "bottle, clear"'
        raise DatasetError(f"{where}: more fields than columns ({surplus!r} is left over).", hint)
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
    return SourceFile(_with_slashes(root, fields["filepath"]), label, split, fields["group"])


def _with_slashes(root: Path, filepath: str) -> str:
    """A path that was written on Windows, where no file has it as its name here."""
    slashed = filepath.replace("\\", "/")
    return slashed if slashed != filepath and not (root / filepath).exists() else filepath


def _csv_notes(path: Path, delimiter: str, own: Mapping[str, str], root: Path) -> Iterator[str]:
    if delimiter != ",":
        yield f"{path} is read with {_DELIMITERS[delimiter]} between its fields"
    if own:
        yield f"{path} is read with " + ", ".join(f"{theirs} as {name}" for name, theirs in own.items())
    if root != path.parent:
        yield f"the paths in {path} start at {root}"


def _suffix_list() -> str:
    return ", ".join(sorted(f"*{suffix}" for suffix in PHOTO_SUFFIXES))

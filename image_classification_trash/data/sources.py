"""Where photos come from: a zip, a tree of folders, or a CSV. Each becomes a list of files with labels.

- tree: `LABEL/photo.jpg`, or `train/LABEL/photo.jpg` with `val` and `test` beside it;
- zip: such a tree, packed; folders around it (`dataset-resized/`) do not matter;
- CSV: columns `filepath,label` and, if wanted, `split` and `group`; paths start at the CSV's own folder.

Folders whose names begin with `_` or `.` are left out.
"""

import csv
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from image_classification_trash.data.manifest import SPLITS
from image_classification_trash.errors import DatasetError
from image_classification_trash.inference.images import PHOTO_SUFFIXES

_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_CSV_COLUMNS = {"filepath", "label", "split", "group"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that should be a photo. `split` and `group` are empty where the source names none."""

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Source:
    """Files below one root."""

    root: Path
    files: tuple[SourceFile, ...]
    others: tuple[str, ...] = ()
    """Files in class folders whose names are not those of photos."""


def read_source(path: Path) -> Source:
    """List the labelled files of a tree of folders or of a CSV.

    Raises:
        DatasetError: nothing there, or nothing that looks like labelled photos.
    """
    if path.is_dir():
        source = read_tree(path)
    elif path.suffix.lower() == ".csv" and path.is_file():
        source = read_csv(path)
    else:
        what = "is neither a folder nor a .zip or .csv file" if path.exists() else "does not exist"
        raise DatasetError(
            f"{path} {what}.", "Give --source a folder of class folders, a zip of one, or a CSV."
        )
    if not source.files:
        found = f"No photos were found in {path}: no folder in it holds files named {_suffix_list()}."
        raise DatasetError(found, "Put each class's photos in a folder named after the class.")
    return source


def read_tree(path: Path) -> Source:
    """List `LABEL/photo` or `SPLIT/LABEL/photo` below `path`, going down through single wrapping folders."""
    root = _unwrap(path)
    top = _folders(root)
    with_splits = bool(top) and all(folder.name.lower() in _SPLIT_NAMES for folder in top)
    files: list[SourceFile] = []
    others: list[str] = []
    for folder in top:
        split = _SPLIT_NAMES[folder.name.lower()] if with_splits else ""
        for class_folder in _folders(folder) if with_splits else [folder]:
            label = _checked_label(str(path), unicodedata.normalize("NFC", class_folder.name))
            for file in _files_below(class_folder):
                name = file.relative_to(root).as_posix()
                if file.suffix.lower() in PHOTO_SUFFIXES and _is_writable(name):
                    files.append(SourceFile(name, label, split))
                else:
                    others.append(name if _is_writable(name) else ascii(name))
    return Source(root, tuple(files), tuple(others))


def read_csv(path: Path) -> Source:
    """List the files named in a CSV `filepath,label[,split,group]`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = set(rows.fieldnames or ())
            if not {"filepath", "label"} <= columns <= _CSV_COLUMNS:
                found = f"{path} has the columns {', '.join(rows.fieldnames or ['(none)'])}."
                raise DatasetError(found, "Its first line must be: filepath,label[,split,group]")
            files = tuple(_csv_row(path, number, row) for number, row in enumerate(rows, start=2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a CSV in UTF-8: {error}.", "Save it as CSV, UTF-8.") from error
    return Source(path.parent, files)


def _csv_row(path: Path, number: int, row: dict[str, str]) -> SourceFile:
    filepath, label = (row.get("filepath") or "").strip(), (row.get("label") or "").strip()
    split = (row.get("split") or "").strip().lower()
    if not filepath or not label:
        raise DatasetError(f"{path}, line {number}: filepath or label is empty.", "Fill in both.")
    if split and split not in _SPLIT_NAMES:
        raise DatasetError(f"{path}, line {number}: split {split!r}.", f"Use one of: {', '.join(SPLITS)}.")
    label = _checked_label(f"{path}, line {number}", unicodedata.normalize("NFC", label))
    group = (row.get("group") or "").strip()
    return SourceFile(filepath, label, _SPLIT_NAMES.get(split, ""), group)


def _is_writable(name: str) -> bool:
    """Whether tables and labels.txt can hold a name: no line ends or control characters, encodable as UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") for character in name)


def _checked_label(where: str, label: str) -> str:
    if not _is_writable(label):
        found = f"{where}: label {label!r} has a control character or is not in UTF-8."
        raise DatasetError(found, "Give the class another name.")
    return label


def _unwrap(path: Path) -> Path:
    """Go down while a folder holds one folder alone, and that one holds folders itself."""
    while len(inner := _folders(path)) == 1 and not _photos_in(path) and _folders(inner[0]):
        path = inner[0]
    return path


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] not in "._")


def _photos_in(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.suffix.lower() in PHOTO_SUFFIXES]


def _files_below(path: Path) -> Iterable[Path]:
    """Files and broken links, so that the audit can report these, outside of folders that are left out."""
    found = (file for file in path.rglob("*") if file.is_file() or (file.is_symlink() and not file.exists()))
    return sorted(file for file in found if not _is_left_out(file.relative_to(path)))


def _is_left_out(file: Path) -> bool:
    return file.name.startswith(".") or any(folder[0] in "._" for folder in file.parts[:-1])


def _suffix_list() -> str:
    return ", ".join(sorted(f"*{suffix}" for suffix in PHOTO_SUFFIXES))

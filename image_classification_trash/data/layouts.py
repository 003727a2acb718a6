"""Map folders of photos to labelled files, and report every file or folder that is not used.

| layout | looks like | label | split |
|---|---|---|---|
| classes | `LABEL/photo.jpg` | first folder | none |
| splits | `train/LABEL/photo.jpg`, `test/LABEL/photo.jpg` | second folder | first folder |
| class-splits | `LABEL/train/photo.jpg`, `LABEL/test/photo.jpg` | first folder | second folder |
| sites | `SITE/LABEL/photo.jpg`, or `SITE/train/LABEL/photo.jpg` | innermost of these folders | the folder between, if any |

`auto` chooses the only layout that fits and raises an error if several do. Folders that wrap the whole tree are ignored.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from image_classification_trash.data.manifest import Origin
from image_classification_trash.errors import DatasetError
from image_classification_trash.inference.images import PHOTO_SUFFIXES

Layout = Literal["auto", "classes", "splits", "class-splits", "sites"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SPLIT_OF = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_BESIDE_A_SPLIT = {
    "set",
    "sets",
    "data",
    "dataset",
    "split",
    "images",
    "image",
    "imgs",
    "img",
    "photos",
    "seg",
}
_SHOWN = 12
"""Number of folders or classes that a message lists."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file expected to be a photo.

    `split` and `group` are empty if the source does not state them; the rest is as in the manifest.
    """

    path: str
    label: str
    split: str = ""
    group: str = ""
    source: str = ""
    licence: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or a whole folder that is not used.

    Attributes:
        path: path relative to the source's root; a folder's ends with a slash.
        kind: not_a_photo, hidden, folder, linked_folder, empty_folder or no_label; in a data sources file also
            left_out_by_map, not_selected or no_split.
        detail: the reason, as a phrase for readers.
    """

    path: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Source:
    """Labelled files below one root folder.

    Attributes:
        root: the folder that all paths are relative to.
        files: the files expected to be photos, with their labels.
        left_out: all other files and folders below the root.
        notes: how the source was interpreted, one phrase each.
        origins: the sources of a data sources file; empty for any other source.
    """

    root: Path
    files: tuple[SourceFile, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True)
class _Folder:
    """A folder with its visible subfolders and the number of photos directly in it."""

    path: Path
    folders: tuple["_Folder", ...]
    loose: int

    @property
    def photos(self) -> int:
        return self.loose + sum(folder.photos for folder in self.folders)

    @property
    def filled(self) -> list["_Folder"]:
        """Return the subfolders that contain photos at any depth."""
        return [folder for folder in self.folders if folder.photos]

    @property
    def split(self) -> str | None:
        return split_of(self.path.name)


def split_of(name: str) -> str | None:
    """Return the split that a folder name such as `Train `, `training_set`, `test-images` or `val2017` denotes, else None."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _BESIDE_A_SPLIT]
    return SPLIT_OF.get(words[0]) if len(words) == 1 else None


def read_tree(path: Path, layout: Layout = "auto") -> Source:
    """List the labelled photos below a folder.

    Raises:
        DatasetError: no layout fits, several do, or a label is invalid; the message sketches the folders.
    """
    top = _unwrap(_scan(path))
    found = _recognise(top) if layout == "auto" else layout
    read = {"classes": _classes, "splits": _splits, "class-splits": _class_splits, "sites": _sites}[found]
    files: list[SourceFile] = []
    left_out: list[LeftOut] = []
    used: set[Path] = set()
    for folder, label, split in read(top):
        used.add(folder)
        inside = list_folder(top.path, folder, checked_label(str(path), label), split)
        files += inside[0]
        left_out += inside[1]
    above = {top.path, *top.path.parents, *(folder for inner in used for folder in inner.parents)}
    left_out += _outside(top.path, path, used, above - used)
    notes = tuple(_notes(found, top, files))
    return Source(top.path, tuple(files), tuple(sorted(left_out, key=lambda row: row.path)), notes)


def _scan(path: Path) -> _Folder:
    entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    folders = [entry for entry in entries if entry.is_dir() and entry.name[0] not in "._"]
    loose = sum(_is_photo(entry.name) and not entry.is_dir() for entry in entries)
    inner = []
    for folder in folders:
        if not folder.is_symlink():
            inner.append(_scan(Path(folder.path)))
            continue
        # A link may lead anywhere, even to a parent, so only the photos directly in a linked folder count.
        with os.scandir(folder.path) as linked:
            photos = sum(_is_photo(file.name) and file.is_file() for file in linked)
        inner.append(_Folder(Path(folder.path), (), photos))
    return _Folder(path, tuple(inner), loose)


def _unwrap(folder: _Folder) -> _Folder:
    """Descend while a folder contains only one folder, which itself contains folders."""
    while len(folder.folders) == 1 and not folder.loose and folder.folders[0].folders:
        folder = folder.folders[0]
    return folder


def _recognise(top: _Folder) -> Layout:
    """Return the only layout that fits.

    Raises:
        DatasetError: no layout fits, or several do.
    """
    filled = top.filled
    if any(folder.split and folder.filled for folder in filled):
        return "splits"
    if filled and all(folder.split for folder in filled):
        table = next(top.path.glob("*.csv"), None)
        hint = "Put each class's photos in a folder named after the class."
        if table is not None:
            hint = f"If {table.name} names the classes, pass it: --source {table}"
        raise DatasetError(f"{top.path} contains splits without class folders:{_sketch(top)}", hint)
    with_splits = [folder for folder in filled if folder.filled and all(f.split for f in folder.filled)]
    if with_splits and len(with_splits) == len(filled) and not any(folder.loose for folder in filled):
        deeper = [inner.filled for folder in filled for inner in folder.filled]
        return "sites" if all(len(folders) > 1 for folders in deeper) else "class-splits"
    if with_splits:
        raise _ambiguous(top, ("class-splits", "classes"))
    return _classes_or_sites(top)


def _classes_or_sites(top: _Folder) -> Layout:
    filled = top.filled
    names = [{_label(inner) for inner in folder.filled} for folder in filled]
    count = Counter(name for inner in names for name in inner)
    shared = {name for name, times in count.items() if times > 1}
    if len(filled) < 2 or not shared or any(folder.loose for folder in filled):
        return "classes"
    if shared == set(count) and all(len(inner) > 1 for inner in names):
        return "sites"
    raise _ambiguous(top, ("sites", "classes"))


def _classes(top: _Folder) -> Iterator[tuple[Path, str, str]]:
    for folder in top.filled:
        yield folder.path, _label(folder), ""


def _splits(top: _Folder) -> Iterator[tuple[Path, str, str]]:
    for folder in top.filled:
        if folder.split is None:
            continue
        inner = folder
        while len(inner.filled) == 1 and inner.filled[0].split == folder.split:  # seg_train/seg_train/LABEL
            inner = inner.filled[0]
        for class_folder in inner.filled:
            yield class_folder.path, _label(class_folder), folder.split


def _class_splits(top: _Folder) -> Iterator[tuple[Path, str, str]]:
    for folder in top.filled:
        for inner in folder.filled:
            if inner.split is not None:
                yield inner.path, _label(folder), inner.split


def _sites(top: _Folder) -> Iterator[tuple[Path, str, str]]:
    for site in top.filled:
        if all(folder.split for folder in site.filled):
            yield from _splits(site)
        else:
            yield from _classes(site)


def list_folder(root: Path, folder: Path, label: str, split: str) -> tuple[list[SourceFile], list[LeftOut]]:
    """Return the photos below a class folder, and all other files and folders below it; paths start from `root`."""
    files: list[SourceFile] = []
    left_out: list[LeftOut] = []
    for where, inner, names in os.walk(folder):
        inner.sort()
        here = Path(where)
        for name in [name for name in inner if name[0] in "._" or (here / name).is_symlink()]:
            inner.remove(name)
            left_out.append(_skipped(root, here / name))
        for name in sorted(names):
            row = _name(root, here / name)
            if _is_photo(name) and name[0] != "." and is_writable(row):
                files.append(SourceFile(row, label, split))
            else:
                left_out.append(_not_a_photo(row, name))
    return files, left_out


def _outside(root: Path, folder: Path, used: set[Path], above: set[Path]) -> Iterator[LeftOut]:
    """Yield what lies outside the class folders: loose files, and each whole folder once.

    Args:
        root: the folder that reported paths are relative to.
        folder: the folder to search.
        used: the class folders.
        above: folders with a class folder at any depth; the search descends into them.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if path in used:
            continue
        if not entry.is_dir():
            row = _name(root, path)
            is_photo = _is_photo(entry.name) and entry.name[0] != "."
            reason = "it lies in no class's folder"
            yield LeftOut(_safe(row), "no_label", reason) if is_photo else _not_a_photo(row, entry.name)
        elif path in above:
            yield from _outside(root, path, used, above)
        else:
            yield _skipped(root, path)


def _skipped(root: Path, folder: Path) -> LeftOut:
    """Return one row for a whole folder, with the number of photos in it."""
    count = sum(_is_photo(name) for _, _, names in os.walk(folder) for name in names)
    photos = f"{count} photo{'' if count == 1 else 's'} in it"
    name = _safe(_name(root, folder)) + "/"
    if folder.name[0] in "._":
        return LeftOut(name, "folder", f"its name begins with {folder.name[0]}; {photos}")
    if folder.is_symlink():
        return LeftOut(name, "linked_folder", "it is a link, which may lead anywhere; copy its photos here")
    if not count:
        return LeftOut(name, "empty_folder", "it holds no photos")
    reason = "its photos lie in no class's folder" if split_of(folder.name) else "it is no class's folder"
    return LeftOut(name, "no_label", f"{reason}; {photos}")


def _not_a_photo(row: str, name: str) -> LeftOut:
    if name[0] == ".":
        return LeftOut(_safe(row), "hidden", "its name begins with a dot")
    if _is_photo(name):
        return LeftOut(_safe(row), "not_a_photo", "its name has a control character or is not in UTF-8")
    return LeftOut(_safe(row), "not_a_photo", "its name is not that of a photo")


def _notes(layout: Layout, top: _Folder, files: Sequence[SourceFile]) -> Iterator[str]:
    """Yield how the folders were interpreted, and which folders inside class folders are not classes."""
    labels = sorted({file.label for file in files})
    named = f"{', '.join(labels[:_SHOWN])}{', ...' if len(labels) > _SHOWN else ''}"
    meaning = {
        "classes": f"the folders of {top.path} are classes",
        "splits": f"the folders of {top.path} are splits, their subfolders classes",
        "class-splits": f"the folders of {top.path} are classes, their subfolders splits",
        "sites": f"the folders of {top.path} are sites with the same classes, whose photos are merged",
        "auto": "",
    }[layout]
    yield f"{meaning}: {named}"
    nested = [f"{folder.path.name}/{inner.path.name}" for folder in top.filled for inner in folder.filled]
    if layout == "classes" and nested:
        shown = ", ".join(nested[:3]) + (", ..." if len(nested) > 3 else "")
        yield f"{len(nested)} folders inside class folders are not classes of their own: {shown}"


def _ambiguous(top: _Folder, layouts: Sequence[Layout]) -> DatasetError:
    found = f"The folders of {top.path} fit more than one layout:{_sketch(top)}"
    return DatasetError(found, f"Choose one: --layout {' or --layout '.join(layouts)}.")


def _sketch(top: _Folder) -> str:
    """Return the folders two levels deep, one line each."""
    lines = []
    for folder in top.folders:
        lines.append(f"  {folder.path.name}/ ({folder.photos} photos)")
        lines += [f"    {inner.path.name}/ ({inner.photos} photos)" for inner in folder.folders]
    more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n" + "\n".join([*lines[:_SHOWN], *more])


def _label(folder: _Folder) -> str:
    return unicodedata.normalize("NFC", folder.path.name).strip()


def checked_label(where: str, label: str) -> str:
    """Return the label if the manifest and labels.txt can store it.

    Raises:
        DatasetError: the label has a control character or is not valid UTF-8.
    """
    if not is_writable(label):
        found = f"{where}: label {label!r} has a control character or is not valid UTF-8."
        raise DatasetError(found, "Rename the class.")
    return label


def is_writable(name: str) -> bool:
    """Return whether a CSV cell can store a name: no line breaks or control characters, valid UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") for character in name)


def _safe(name: str) -> str:
    return name if is_writable(name) else ascii(name)


def _is_photo(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES  # noqa: PTH122  runs per file: a Path is slow


def _name(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()  # beside a wrapping folder: ../notes.txt

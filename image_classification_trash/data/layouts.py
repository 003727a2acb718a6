"""Folders of photos, as people have them, to labelled files. What is read, and what is left out, is always said.

| layout | looks like | label | split |
|---|---|---|---|
| classes | `LABEL/photo.jpg` | first folder | none |
| splits | `train/LABEL/photo.jpg`, `test/LABEL/photo.jpg` | second folder | first folder |
| class-splits | `LABEL/train/photo.jpg`, `LABEL/test/photo.jpg` | first folder | second folder |
| sites | `SITE/LABEL/photo.jpg`, or `SITE/train/LABEL/photo.jpg` | last of these folders | the folder between |

`auto` takes the one layout that fits and refuses where more than one does. Folders around all of this do not matter.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

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
"""Folders that an error names."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that should be a photo. `split` and `group` are empty where the source names none."""

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or a whole folder (its path ends with a slash) that is not used.

    Attributes:
        path: relative to the source's root.
        kind: not_a_photo, hidden, folder, linked_folder, empty_folder or no_label.
        detail: why, in a sentence.
    """

    path: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Source:
    """Files below one root.

    Attributes:
        root: the folder that all paths start from.
        files: what should be photos, with their labels.
        left_out: everything else that lies there.
        notes: how the source was understood, a sentence each.
    """

    root: Path
    files: tuple[SourceFile, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Folder:
    """What lies in a folder: photos at any depth, the visible folders in it, and the photos directly in it."""

    path: Path
    folders: tuple["_Folder", ...]
    loose: int

    @property
    def photos(self) -> int:
        return self.loose + sum(folder.photos for folder in self.folders)

    @property
    def filled(self) -> list["_Folder"]:
        """The folders in it that hold photos at any depth."""
        return [folder for folder in self.folders if folder.photos]

    @property
    def split(self) -> str | None:
        return split_of(self.path.name)


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for: `Train `, `training_set`, `test-images`, `val2017`; None for any other."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _BESIDE_A_SPLIT]
    return SPLIT_OF.get(words[0]) if len(words) == 1 else None


def read_tree(path: Path, layout: Layout = "auto") -> Source:
    """List the labelled photos below a folder.

    Raises:
        DatasetError: the folders can be read in more than one way, or not in the way asked for; shows what is there.
    """
    top = _unwrap(_scan(path))
    found = _recognise(top) if layout == "auto" else layout
    read = {"classes": _classes, "splits": _splits, "class-splits": _class_splits, "sites": _sites}[found]
    files: list[SourceFile] = []
    left_out: list[LeftOut] = []
    used: set[Path] = set()
    for folder, label, split in read(top):
        used.add(folder)
        inside = _listed(top.path, folder, checked_label(str(path), label), split)
        files += inside[0]
        left_out += inside[1]
    above = {top.path, *top.path.parents, *(folder for inner in used for folder in inner.parents)}
    left_out += _outside(top.path, path, used, above - used)
    notes = (_describe(found, top, files), *_nested(top, found))
    return Source(top.path, tuple(files), tuple(sorted(left_out, key=lambda row: row.path)), notes)


def _scan(path: Path) -> _Folder:
    entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    folders = [entry for entry in entries if entry.is_dir() and entry.name[0] not in "._"]
    loose = sum(_is_photo(entry.name) and not entry.is_dir() for entry in entries)
    # A linked folder may lead anywhere, back up too: only one that stands where a class may stand is entered.
    inner = tuple(_scan(Path(entry.path)) if not entry.is_symlink() else _linked(entry) for entry in folders)
    return _Folder(path, inner, loose)


def _linked(entry: os.DirEntry[str]) -> _Folder:
    """A linked folder, with the photos directly in it."""
    with os.scandir(entry.path) as inside:
        loose = sum(_is_photo(file.name) and file.is_file() for file in inside)
    return _Folder(Path(entry.path), (), loose)


def _unwrap(folder: _Folder) -> _Folder:
    """Go down while a folder holds one folder alone, and that one holds folders itself."""
    while len(folder.folders) == 1 and not folder.loose and folder.folders[0].folders:
        folder = folder.folders[0]
    return folder


def _recognise(top: _Folder) -> Layout:
    """The one layout that fits.

    Raises:
        DatasetError: none or several do.
    """
    filled = top.filled
    if any(folder.split and folder.filled for folder in filled):
        return "splits"
    if filled and all(folder.split for folder in filled):
        table = next(top.path.glob("*.csv"), None)
        hint = "Put each class's photos in a folder named after the class."
        if table is not None:
            hint = f"If {table.name} names the classes, give it: --source {table}"
        raise DatasetError(f"{top.path} holds splits without class folders:{_sketch(top)}", hint)
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


def _listed(root: Path, folder: Path, label: str, split: str) -> tuple[list[SourceFile], list[LeftOut]]:
    """The photos below a class's folder, and everything else that lies there."""
    files: list[SourceFile] = []
    left_out: list[LeftOut] = []
    for where, inner, names in os.walk(folder):
        inner.sort()
        here = Path(where)
        for name in [name for name in inner if _is_skipped(here / name)]:
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
    """What lies in no class's folder: loose files, and whole folders named once.

    Args:
        root: that names start from.
        folder: where to look.
        used: the classes' folders.
        above: folders that hold a class's folder at any depth; they are entered.
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


def _is_skipped(folder: Path) -> bool:
    return folder.name[0] in "._" or folder.is_symlink()


def _skipped(root: Path, folder: Path) -> LeftOut:
    """A folder as one row, with the number of photos in it."""
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


def _describe(layout: Layout, top: _Folder, files: Sequence[SourceFile]) -> str:
    labels = sorted({file.label for file in files})
    named = f"{', '.join(labels[:_SHOWN])}{', ...' if len(labels) > _SHOWN else ''}"
    meaning = {
        "classes": f"the folders of {top.path} are classes",
        "splits": f"the folders of {top.path} are splits, those in them classes",
        "class-splits": f"the folders of {top.path} are classes, those in them splits",
        "sites": f"the folders of {top.path} are places with the same classes, whose photos are merged",
        "auto": "",
    }[layout]
    return f"{meaning}: {named}"


def _nested(top: _Folder, layout: Layout) -> Iterator[str]:
    if layout != "classes":
        return
    nested = [f"{folder.path.name}/{inner.path.name}" for folder in top.filled for inner in folder.filled]
    if nested:
        shown = ", ".join(nested[:3]) + (", ..." if len(nested) > 3 else "")
        yield f"{len(nested)} folders inside class folders are not classes of their own: {shown}"


def _ambiguous(top: _Folder, layouts: Sequence[Layout]) -> DatasetError:
    found = f"The folders of {top.path} can be read in more than one way:{_sketch(top)}"
    return DatasetError(found, f"Say which: --layout {' or --layout '.join(layouts)}.")


def _sketch(top: _Folder) -> str:
    """The folders below, two levels deep, a line each."""
    lines = []
    for folder in top.folders:
        lines.append(f"  {folder.path.name}/ ({folder.photos} photos)")
        lines += [f"    {inner.path.name}/ ({inner.photos} photos)" for inner in folder.folders]
    more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n" + "\n".join([*lines[:_SHOWN], *more])


def _label(folder: _Folder) -> str:
    return unicodedata.normalize("NFC", folder.path.name).strip()


def checked_label(where: str, label: str) -> str:
    """Return the label if tables and labels.txt can hold it.

    Raises:
        DatasetError: it has a control character or is not in UTF-8.
    """
    if not is_writable(label):
        found = f"{where}: label {label!r} has a control character or is not in UTF-8."
        raise DatasetError(found, "Give the class another name.")
    return label


def is_writable(name: str) -> bool:
    """Whether tables can hold a name: no line ends or control characters, encodable as UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") for character in name)


def _safe(name: str) -> str:
    return name if is_writable(name) else ascii(name)


def _is_photo(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES  # noqa: PTH122  once a file, without a Path


def _name(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()  # beside a wrapping folder: ../notes.txt

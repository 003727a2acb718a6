"""Merge several sources into one: `data NAME --source A --source B`.

Paths become relative to the folder that all sources lie in, so that no two photos share a path. Identical and nearly
identical photos are then found across sources exactly as within one.
"""

import ast
import os
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from image_classification_trash.data.layouts import LeftOut, Source, SourceFile, is_writable
from image_classification_trash.errors import DatasetError

_SHOWN = 12
"""Number of classes of each source that a message lists."""


def merge_sources(paths: Sequence[Path], sources: Sequence[Source]) -> Source:
    """Merge sources that have the same classes, or of which one has the classes of all others.

    Args:
        paths: each source as the user named it, for messages; two or more.
        sources: what was read from each.

    Returns:
        One source; groups of the same name in two sources stay apart.

    Raises:
        DatasetError: a source is named twice or lies in another, the sources have different classes, or they share no folder.
    """
    check_apart(paths, sources)
    check_classes_agree(paths, sources)
    joined = join_sources(paths, sources, [str(number) for number in range(1, len(sources) + 1)])
    notes = (*joined.notes, f"{len(sources)} sources are merged; paths are relative to {joined.root}")
    return replace(joined, notes=notes)


def join_sources(paths: Sequence[Path], sources: Sequence[Source], names: Sequence[str]) -> Source:
    """Return one source below the folder that all sources lie in.

    Args:
        paths: each source as the user named it, for messages.
        sources: what was read from each.
        names: put before each source's groups, so that groups of the same name stay apart.

    Raises:
        DatasetError: the sources share no folder.
    """
    roots = [source.root.resolve() for source in sources]
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError as error:  # two drives of Windows
        hint = "Copy them to one drive."
        raise DatasetError(f"{paths[0]} and {paths[1]} lie on different drives.", hint) from error
    files: list[SourceFile] = []
    left_out: list[LeftOut] = []
    notes: list[str] = []
    for name, own, source in zip(names, roots, sources, strict=True):
        prefix = own.relative_to(root).as_posix()
        if not is_writable(prefix):
            found = f"The folder {prefix!r} has a control character in its name or is not valid UTF-8."
            raise DatasetError(found, "Rename it.")
        files += [
            replace(
                file,
                path=file.path if prefix == "." else posixpath.join(prefix, file.path),
                group=file.group and f"{name} {file.group}",
            )
            for file in source.files
        ]
        left_out += [below(prefix, row) for row in source.left_out]
        notes += source.notes
    rows = sorted(dict.fromkeys(left_out), key=lambda row: row.path)
    return Source(root, tuple(files), tuple(rows), tuple(notes))


def below(prefix: str, row: LeftOut) -> LeftOut:
    """Return the row of a source that lies in the folder `prefix` of the common root."""
    end = "/" if row.path.endswith("/") else ""
    name, quoted = row.path.removesuffix("/"), False
    with suppress(ValueError, SyntaxError):  # a name that a table cannot hold is written as Python quotes it
        unquoted = ast.literal_eval(name) if name[:1] in ("'", '"') else None
        if isinstance(unquoted, str) and not is_writable(unquoted):
            name, quoted = unquoted, True
    path = posixpath.normpath(f"{prefix}/{name}")
    return replace(row, path=(ascii(path) if quoted else path) + end)


def check_apart(paths: Sequence[Path], sources: Sequence[Source]) -> None:
    """Raise a DatasetError if two sources are the same, or one folder lies in another."""
    places = [path.resolve() for path in paths]
    # Two zip files with the same contents are unpacked into one folder.
    contents = [place if place.is_file() and place.suffix.lower() == ".csv" else source.root.resolve()
                for place, source in zip(places, sources, strict=True)]  # fmt: skip
    for i, k in combinations(range(len(paths)), 2):
        if contents[i] == contents[k]:
            found = f"--source {paths[i]} and --source {paths[k]} are the same photos."
            raise DatasetError(found, "Name each source once.")
        for outer, inner in ((i, k), (k, i)):
            if places[outer] in places[inner].parents and places[inner].is_dir():
                hint = f"Pass {paths[outer]} alone, or sources of which none contains another."
                raise DatasetError(f"--source {paths[inner]} lies in --source {paths[outer]}.", hint)


def check_classes_agree(paths: Sequence[Path], sources: Sequence[Source]) -> None:
    """Raise a DatasetError, which lists the classes of each source, unless one source has all classes."""
    classes = [{file.label for file in source.files} for source in sources]
    if set().union(*classes) in classes:
        return
    lines = []
    for path, own in zip(paths, classes, strict=True):
        names = sorted(own)
        more = f", ... ({len(names)} classes)" if len(names) > _SHOWN else ""
        lines.append(f"  {path}: {', '.join(names[:_SHOWN])}{more}")
    found = "The sources have different classes, and none has all of them:\n" + "\n".join(lines)
    hint = (
        "Rename the classes that are the same, or choose how the folders are read with --layout. "
        "If the classes belong together, put the class folders into one folder."
    )
    raise DatasetError(found, hint)

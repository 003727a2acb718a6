"""Combine the sources of a data sources file into one list of labelled files."""

import difflib
import json
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from image_classification_trash.data.archive import unpacked
from image_classification_trash.data.combining.fetching import place_of
from image_classification_trash.data.combining.known_sets import KNOWN_SETS, LEAVE_OUT
from image_classification_trash.data.combining.sources_file import NOT_WASTE, SourcesFile, SourceSpec
from image_classification_trash.data.layouts import LeftOut, Source, SourceFile, list_folder
from image_classification_trash.data.manifest import Origin
from image_classification_trash.data.merging import below, join_sources
from image_classification_trash.data.sources import read_source
from image_classification_trash.data.trashnet import official_split
from image_classification_trash.errors import ArchiveError, DatasetError
from image_classification_trash.files import atomic_directory, sha256_of
from image_classification_trash.inference.bundle import NEGATIVE_LABEL

SHOWN = 12
"""Number of labels that a message lists."""


def combine(file: SourcesFile, raw_dir: Path) -> Source:
    """Read all sources, map their labels, and join them; each photo's path begins with the name of its source.

    Args:
        file: the data sources file.
        raw_dir: folder of fetched files (`downloads/`), unpacked archives (`sources/`) and links to the sources (`links/`).

    Raises:
        DatasetError: a source is missing, empty, has a label that is not mapped, or shares a photo with another.
        ArchiveError: a file has another SHA-256 than stated, or a zip cannot be unpacked.
        DownloadError: a source cannot be fetched.
    """
    places = [place_of(spec, raw_dir / "downloads") for spec in file.sources]
    places = [
        unpacked(place, raw_dir / "sources", spec.zip_encoding)
        for place, spec in zip(places, file.sources, strict=True)
    ]
    read = [read_place(spec, place) for spec, place in zip(file.sources, places, strict=True)]
    chosen = [selected(spec, source) for spec, source in zip(file.sources, read, strict=True)]
    mapped = [
        with_classes(spec, source, file.classes) for spec, source in zip(file.sources, chosen, strict=True)
    ]
    used = Counter(path for source in chosen for path in whole_paths(source))
    if shared := next((path for path, times in used.items() if times > 1), None):
        names = [
            spec.name
            for spec, source in zip(file.sources, chosen, strict=True)
            if shared in whole_paths(source)
        ]
        found = f"{shared} is in more than one source, or twice in one: {', '.join(names)}."
        raise DatasetError(found, "Name each photo once; `only:` chooses folders of a source.")
    origins = tuple(origin_of(spec, source) for spec, source in zip(file.sources, mapped, strict=True))
    resolved = [place.resolve() for place in places]
    first = [resolved.index(place) for place in resolved]
    mapped = [accounted(*pair, used, first[i] == i) for i, pair in enumerate(zip(read, mapped, strict=True))]
    mapped = below_links(raw_dir / "links", [spec.name for spec in file.sources], mapped)
    joined = join_sources(places, mapped, [str(number + 1) for number in first])
    notes = (*joined.notes, f"{len(mapped)} sources are combined; paths are relative to {joined.root}")
    return replace(joined, notes=notes, origins=origins)


def read_place(spec: SourceSpec, place: Path) -> Source:
    """Read a source as its layout says; all photos below a folder if they share one label or are not-waste photos."""
    flat = spec.label or (spec.role == NOT_WASTE and spec.layout == "auto")
    try:
        if flat and place.is_dir():
            files, left_out = list_folder(place, place, spec.label or NEGATIVE_LABEL, "")
            return Source(place, tuple(files), tuple(left_out))
        return read_source(place, spec.layout, spec.columns, spec.photos)
    except ArchiveError:
        raise
    except DatasetError as error:
        hint = (error.hint or "").replace("--layout", "layout:").replace("--source", "path:")
        raise DatasetError(f"Source {spec.name!r}: {error.found}", hint) from error


def selected(spec: SourceSpec, source: Source) -> Source:
    """Return the files below the folders that `only` names.

    Raises:
        DatasetError: one of them has no photo, or the source has none.
    """
    wanted = [posixpath.normpath(name) for name in spec.only]
    for name in wanted:
        if not any(is_below(file.path, name) for file in source.files):
            near = difflib.get_close_matches(name, {file.path.split("/")[0] for file in source.files}, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Name folders as the source's paths begin."
            raise DatasetError(f"Source {spec.name!r}: only: {name!r} has no photo.", hint)
    if not source.files:
        raise DatasetError(
            f"Source {spec.name!r} is empty: {source.root} holds no photos.", "Correct its place."
        )
    return replace(
        source, files=tuple(f for f in source.files if not wanted or any(is_below(f.path, n) for n in wanted))
    )


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder or file, or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def whole_paths(source: Source) -> list[str]:
    """Return the absolute paths of a source's photos."""
    root = source.root.resolve()
    return [os.path.normpath(root / file.path) for file in source.files]


def accounted(read: Source, mapped: Source, used: Collection[str], is_first: bool) -> Source:
    """Return a source with what it leaves out, so that every file below its place is named once.

    Args:
        read: all that was read.
        mapped: what is left of it, and what its map left out.
        used: absolute paths of the photos that any source selects.
        is_first: whether no earlier source has the same place, which then names what no source uses.
    """
    root, reason = mapped.root.resolve(), "no source's `only` names its folder"
    by_map = [row for row in mapped.left_out if row.kind in ("left_out_by_map", "no_split")]
    if not is_first:
        return replace(mapped, left_out=tuple(by_map))
    others = [row for row in read.left_out if os.path.normpath(root / row.path) not in used]
    stray = [file.path for file, path in zip(read.files, whole_paths(read), strict=True) if path not in used]
    rest = [LeftOut(path, "not_selected", reason) for path in stray]
    return replace(mapped, left_out=(*by_map, *others, *rest))


def below_links(folder: Path, names: Sequence[str], sources: Sequence[Source]) -> list[Source]:
    """Return the sources with paths that begin with their names, below a folder of links to their roots.

    So the manifest is the same wherever the sources lie. The folder is named after what it links to and is never changed.
    Where the file system has no links, the sources are returned as they are.
    """
    roots = [str(source.root.resolve()) for source in sources]
    root = folder / sha256_of(json.dumps([list(names), roots]).encode())[:16]
    try:
        if not root.is_dir():
            with atomic_directory(root) as made:
                for name, target in zip(names, roots, strict=True):
                    (made / name).symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError):
        return list(sources)
    return [
        replace(
            source,
            root=root,
            files=tuple(replace(file, path=f"{name}/{file.path}") for file in source.files),
            left_out=tuple(
                # what lies beside an enclosing folder keeps its `..`, which leads there through the link
                replace(row, path=f"{name}/{row.path}") if row.path.startswith("../") else below(name, row)
                for row in source.left_out
            ),
        )
        for name, source in zip(names, sources, strict=True)
    ]


def with_classes(spec: SourceSpec, source: Source, classes: Sequence[str]) -> Source:
    """Return a source with the labels of the combined data set, weights and licences.

    Raises:
        DatasetError: a label is neither mapped nor a class, or the map leaves out every photo.
    """
    split_of = official_split() if spec.known == "trashnet" else None
    files: list[SourceFile] = []
    left_out = list(source.left_out)
    unknown: dict[str, int] = defaultdict(int)
    for file in source.files:
        own = spec.label or file.label
        label = spec.labels.get(own, NEGATIVE_LABEL if spec.role == NOT_WASTE else own)
        split = file.split if split_of is None else split_of.get(posixpath.basename(file.path), "")
        if label == LEAVE_OUT:
            detail = f"the map of source {spec.name} leaves out the label {own}"
            left_out.append(LeftOut(file.path, "left_out_by_map", detail))
        elif label not in (*classes, NEGATIVE_LABEL):
            unknown[own] += 1
        elif split_of is not None and not split:
            detail = "its name is not in the authors' lists of TrashNet's photos"
            left_out.append(LeftOut(file.path, "no_split", detail))
        else:
            weight, licence = spec.weight_of(label), file.licence or spec.licence
            stated = {"source": spec.name, "licence": licence, "weight": weight}
            files.append(replace(file, label=label, split=split, **stated))  # type: ignore[arg-type]
    if unknown:
        raise unmapped(spec, unknown, classes)
    if not files:
        raise DatasetError(
            f"Source {spec.name!r}: its map leaves out every photo.", "Correct labels, or leave it out."
        )
    notes = [f"{spec.name}: {note}" for note in source.notes]
    unused = sorted(set(spec.labels) - {file.label for file in source.files}) if not spec.known else []
    if unused:
        notes.append(f"{spec.name}: its map has labels that no photo has: {', '.join(unused[:SHOWN])}")
    return replace(source, files=tuple(files), left_out=tuple(left_out), notes=tuple(notes))


def unmapped(spec: SourceSpec, labels: dict[str, int], classes: Sequence[str]) -> DatasetError:
    """Return the error for labels that are neither mapped nor classes, with the number of photos of each."""
    named = ", ".join(f"{label} ({count})" for label, count in list(labels.items())[:SHOWN])
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    near = difflib.get_close_matches(next(iter(labels)).lower(), classes, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    found = f"Source {spec.name!r} has labels that are neither classes nor in its map: {named}{more}."
    return DatasetError(
        found, f"Map each below labels: to a class, {NEGATIVE_LABEL!r} or {LEAVE_OUT!r}.{meant}"
    )


def origin_of(spec: SourceSpec, source: Source) -> Origin:
    """Return what the manifest says of a source before its photos are split."""
    licences = "; ".join(sorted({file.licence for file in source.files}))
    left_out = Counter(
        row.detail.rpartition(" the label ")[2] for row in source.left_out if row.kind == "left_out_by_map"
    )
    attribution = spec.attribution or (KNOWN_SETS[spec.known].attribution if spec.known else "")
    return Origin(
        spec.name, spec.role, licences, attribution, spec.address, dict(sorted(left_out.items())), {}
    )

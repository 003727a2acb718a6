"""Prepare a data set from raw photos: fetch, verify, split, write the manifest.

    python -m image_classification_trash.data.make_dataset sample
    trash-classifier data trashnet
    trash-classifier data mine --source ~/photos
    trash-classifier data field --sources configs/sources/fieldphotos.yaml

The result is `data/processed/NAME/`: the manifest, the files left out (problems.csv), the near-duplicates
(near_duplicates.csv), and folders train/val/test of links to the photos for browsing.
"""

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data import splits
from image_classification_trash.data.archive import unpacked
from image_classification_trash.data.combining.combine import combine
from image_classification_trash.data.combining.roles import (
    Roles,
    alone,
    check_left_out,
    contradictions,
    split_sources,
)
from image_classification_trash.data.combining.sources_file import read_sources_file
from image_classification_trash.data.corrections import Corrected, apply_corrections, read_corrections
from image_classification_trash.data.inspection import (
    PROBLEM_COLUMNS,
    Audit,
    Inspected,
    Problem,
    audit_source,
)
from image_classification_trash.data.layouts import Source
from image_classification_trash.data.manifest import (
    BUILT_IN,
    DATASET,
    MANIFEST,
    SPLITS,
    Manifest,
    Metadata,
    NearDuplicates,
    Origin,
    Photo,
    SplitMade,
    by_waste,
    read_manifest,
    with_splits,
    write_manifest,
)
from image_classification_trash.data.merging import merge_sources
from image_classification_trash.data.near_duplicates import (
    MOST_LISTED,
    PAIR_COLUMNS,
    Pairs,
    find_near_duplicates,
    group_names,
    overlap,
    pair_rows,
)
from image_classification_trash.data.sources import column_names, read_source
from image_classification_trash.data.trashnet import LABELS, download_trashnet, official_split
from image_classification_trash.errors import DatasetError
from image_classification_trash.files import (
    atomic_directory,
    check_replaceable,
    only_writer,
    read_json,
    sha256_of,
)
from image_classification_trash.inference.bundle import NEGATIVE_LABEL
from image_classification_trash.parallel.mapper import THREADS, Mapper
from image_classification_trash.show import Result, Shown, Table
from image_classification_trash.tables import table_file, write_table

PROBLEMS, NEAR_DUPLICATES, CORRECTIONS = "problems", "near_duplicates", "corrections.csv"
"""Names of the tables (see tables.py) and of the file in a data set's folder."""
MOST_LINKS = 20_000
"""Photos up to which the folder holds links to them, for browsing."""
LONGEST_NAME = 240
"""Bytes of a label or a photo's name in the name of a folder or link; file systems allow 255."""
WARNED_OF = 10
"""Number of left-out files of each kind that the log names."""
CLASHING = "%d pairs of two sources look alike and have different labels, such as %s"
SAMPLE = Path("data/sample")
SAMPLE_PAPERS = {"LICENSE", "README.md"}
"""Files that come with the sample photos; a surprise to nobody, they are no problem of the data."""
RECIPE_VERSION = 1
"""Increment when the same settings and photos would give another manifest."""

Embed = Callable[[Sequence[Photo], Path], npt.NDArray[np.float32]]
"""Maps N photos and their root folder to embeddings, float32 (N, D)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared(Result):
    """A prepared data set.

    Attributes:
        manifest: the data set's manifest.
        folder: the data set's folder.
        done_before: whether it was already prepared from the same photos and settings.
        notes: how the source was interpreted, one phrase each.
    """

    manifest: Manifest
    folder: Path
    done_before: bool
    notes: tuple[str, ...] = ()

    def for_people(self) -> Iterator[Shown]:
        """Yield photos per class and split, corrections, files left out, and test photos with near-duplicates in train."""
        manifest, counts = self.manifest, self.manifest.counts()
        state = "is already prepared in" if self.done_before else "is prepared in"
        yield f"{manifest.name} {state} {self.folder} (split {manifest.metadata.split.method})"
        yield from self.notes
        rows = [[label, *(str(split[label]) for split in counts.values())] for label in manifest.labels]
        if manifest.not_waste:
            tally = Counter(photo.split for photo in manifest.not_waste)
            rows.append([NEGATIVE_LABEL, *(str(tally[split]) for split in counts)])
        yield Table(["class", *counts], rows)
        if sources := manifest.metadata.sources:
            columns = ["source", "role", "licence", *counts, "left out by its map"]
            figures = [[*map(str, s.photos.values()), str(sum(s.left_out_by_map.values()))] for s in sources]
            yield Table(
                columns, [[s.name, s.role, s.licence, *row] for s, row in zip(sources, figures, strict=True)]
            )
        if manifest.metadata.corrections:
            yield f"corrections: {manifest.metadata.corrections}"
        if manifest.metadata.problems:
            kinds = ", ".join(f"{count} {kind}" for kind, count in manifest.metadata.problems.items())
            yield f"left out: {kinds}; see {table_file(self.folder, PROBLEMS)}"
        test = manifest.metadata.near_duplicates.overlap["test"]
        share = f"{test.with_near_duplicate_in_train} of {test.photos} ({test.share:.1%})"
        yield f"test photos with a near-duplicate in train: {share}"

    def as_json(self) -> dict[str, Any]:
        """Return the folder, the photos per split and class, and the contents of dataset.json."""
        manifest = self.manifest
        about = {
            "name": manifest.name,
            "folder": str(self.folder),
            "done_before": self.done_before,
            "notes": self.notes,
        }
        made = {"fingerprint": manifest.fingerprint, "counts": manifest.counts()}
        return {**about, **made, **manifest.metadata.as_json()}


def make_dataset(
    settings: DataSettings, embed: Embed | None = None, mapper: Mapper | None = None
) -> Prepared:
    """Prepare a data set, unless it is already prepared from the same photos and settings.

    Args:
        settings: what to prepare, and how.
        embed: computes embeddings for near-duplicates and object clusters; None compares perceptual hashes alone.
        mapper: decodes and hashes the photos; None: threads of this process.

    Raises:
        DatasetError: the source is missing, has too few usable photos for a classifier, or object clusters are
            requested without embeddings.
        BusyError: another process is preparing the data set.
        OutputError: something that is no data set has its name.
    """
    if settings.split == "object-clusters" and embed is None:
        hint = "Use --split object-clusters without --no-embeddings, or choose --split grouped."
        raise DatasetError("Object clusters need embeddings, which --no-embeddings disables.", hint)
    folder = settings.processed_dir / settings.name
    source, corrected = locate_source(settings), None
    if settings.corrections:
        corrected = apply_corrections(source, read_corrections(settings.corrections.expanduser()))
    notes = (*source.notes, *splits.alike(file.label for file in source.files))
    key = _input_key(settings, source, embed is not None, corrected)
    if not settings.force and _recorded_key(folder) == key:
        return Prepared(read_manifest(folder), folder, True, notes)
    check_replaceable(folder, MANIFEST, DATASET)
    with only_writer(folder):
        audit = audit_source(corrected.source if corrected else source, mapper or THREADS)
        audit = _audit(settings, audit, corrected)
        manifest = write_dataset(settings, source, audit, corrected, embed, key)
    return Prepared(manifest, folder, False, notes)


def write_dataset(
    settings: DataSettings,
    source: Source,
    audit: Audit,
    corrected: Corrected | None,
    embed: Embed | None,
    key: str,
) -> Manifest:
    """Split the inspected photos of a source and write the data set; return what was written.

    Args:
        settings: as of `make_dataset`.
        source: the photos, before corrections.
        audit: what was found in them, after corrections.
        corrected: the source after corrections; None without a corrections file.
        embed: as of `make_dataset`.
        key: hash of the photos and settings.
    """
    _warn_of(audit.problems)
    photos = [item.photo for item in audit.good]
    splits.check_classes(by_waste(photos, bool(source.origins))[0])
    embeddings = embed(photos, source.root) if embed else None
    near = find_near_duplicates([item.phash for item in audit.good], embeddings)
    photos = [replace(p, group=g) for p, g in zip(photos, group_names(photos, near.component), strict=True)]
    problems, pairs = audit.problems, near.pairs
    if source.origins:
        method, photos, crossing = split_combined(settings, source.origins, photos, embeddings)
        problems = tuple(sorted([*problems, *crossing], key=astuple))
        pairs = pairs.among([bool(photo.split) for photo in photos])
        photos = [photo for photo in photos if photo.split]
        _warn_of(crossing)
        if clashing := contradictions(photos, pairs):
            logger.warning(CLASHING, len(clashing), clashing[0])
    else:
        method, photos = split_photos(settings, photos, embeddings)
    for warning in splits.torn_groups(photos, {item.photo.path: item.photo.group for item in audit.good}):
        logger.warning("%s: %s", method, warning)
    metadata = Metadata(
        split=SplitMade(method, settings.seed, settings.val_fraction, settings.test_fraction),
        problems=dict(sorted(Counter(problem.kind for problem in problems).items())),
        near_duplicates=_near_duplicates(photos, pairs, embeddings is not None),
        key=key,
        corrections=corrected.made if corrected else None,
        sources=counted(source.origins, photos) if source.origins else None,
    )
    shown, not_waste = by_waste(photos, bool(source.origins))
    manifest = Manifest(settings.name, source.root, shown, _labels(shown), metadata, not_waste)
    return _write(settings.processed_dir / settings.name, manifest, problems, pairs, corrected)


def _warn_of(problems: Sequence[Problem]) -> None:
    """Log the first files of each kind of problem, and how many more there are."""
    for kind, rows in groupby(sorted(problems, key=lambda row: row.kind), key=lambda row: row.kind):
        alike = list(rows)
        for problem in alike[:WARNED_OF]:
            logger.warning("left out %s: %s", problem.path, problem.detail)
        if len(alike) > WARNED_OF:
            logger.warning("left out %d more (%s)", len(alike) - WARNED_OF, kind)


def locate_source(settings: DataSettings) -> Source:
    """List the photos that the settings name; download TrashNet and unpack zip files if necessary.

    Raises:
        DatasetError: a source is missing, cannot be read as labelled photos, or cannot be merged with the others.
    """
    check_combination(settings)
    if settings.sources is not None:
        file = read_sources_file(settings.sources.expanduser())
        check_left_out({spec.name: spec.role for spec in file.sources}, settings.leave_out)
        return combine(file, settings.raw_dir)
    # The shell does not expand --source=~/photos, nor paths in recipes.
    paths = [path.expanduser() for path in settings.source] or [known_source(settings.name)]
    columns = column_names(settings.columns)
    sources = [
        read_source(
            unpacked(path, settings.raw_dir / settings.name, settings.zip_encoding),
            settings.layout,
            columns,
            settings.photos_dir,
        )
        for path in paths
    ]
    sources = [
        replace(source, left_out=tuple(row for row in source.left_out if row.path not in SAMPLE_PAPERS))
        if source.root.resolve() == SAMPLE.resolve()
        else source
        for source in sources
    ]
    return sources[0] if len(sources) == 1 else merge_sources(paths, sources)


def check_combination(settings: DataSettings) -> None:
    """Raise a DatasetError for settings that contradict a data sources file, or that need one."""
    if settings.sources is None:
        if settings.leave_out or settings.split == "source":
            found = "--leave-out and --split source need several named sources."
            raise DatasetError(found, "Name them in a data sources file: --sources FILE")
        return
    single = ("source", "layout", "columns", "photos_dir", "zip_encoding")
    if given := [name for name in single if getattr(settings, name) not in ([], None, "auto")]:
        found = f"--sources and --{given[0].replace('_', '-')} exclude each other."
        raise DatasetError(found, "Write it into the data sources file, at its source.")
    if settings.name in BUILT_IN:
        found = f"{settings.name!r} is the name of a data set of its own."
        raise DatasetError(
            found, "Name the combined one differently: trash-classifier data field --sources FILE"
        )
    if settings.leave_out and settings.split != "source":
        raise DatasetError("--leave-out belongs to --split source.", "Add --split source.")
    if settings.split == "source" and not settings.leave_out:
        raise DatasetError(
            "--split source has no source to leave out.", "Name one or more: --leave-out SOURCE"
        )


def known_source(name: str) -> Path:
    """Return the photos of a data set that needs no source of the user's.

    Raises:
        DatasetError: there is no such data set here.
        DownloadError: TrashNet cannot be downloaded.
    """
    if name == "sample":
        if not SAMPLE.is_dir():
            hint = "Run this in a clone of the repository, or pass your own photos with --source."
            raise DatasetError(f"The sample photos are not in {SAMPLE.resolve()}.", hint)
        return SAMPLE
    if name == "trashnet":
        return download_trashnet()
    hint = f"Pass its photos: trash-classifier data {name} --source FOLDER"
    raise DatasetError(f"{name!r} is not a data set that can be downloaded.", hint)


def split_photos(
    settings: DataSettings, photos: Sequence[Photo], embeddings: npt.NDArray[np.float32] | None
) -> tuple[str, list[Photo]]:
    """Split the photos as the settings say.

    Args:
        settings: the split method, the seed, and the fractions of val and test.
        photos: N photos with their groups.
        embeddings: float32 (N, D), for object clusters; None without a backbone.

    Returns:
        The method's name, and the photos with their splits.
    """
    method = settings.split
    if method == "auto":
        without = sum(not photo.split for photo in photos)
        method = "grouped" if without else "official"
        if 0 < without < len(photos):
            logger.warning(
                "%d of %d photos have no split, so all photos are split again", without, len(photos)
            )
    if method == "official" and (missing := [s for s in SPLITS if not any(p.split == s for p in photos)]):
        text = "the source names no photos of %s, so some of train are taken, at random"
        logger.warning(text, " and ".join(missing))
    fractions = splits.Fractions(settings.val_fraction, settings.test_fraction)
    groups: Sequence[Photo] = photos
    if method == "object-clusters" and embeddings is not None:
        from image_classification_trash.data.object_clusters import grouped_by_object  # noqa: PLC0415  loads scikit-learn

        groups = grouped_by_object(photos, embeddings, settings.seed)
    split = {
        "official": splits.official,
        "stratified": splits.stratified,
        "grouped": splits.grouped,
        "object-clusters": splits.grouped,
    }[method]
    photos = with_splits(photos, split(groups, fractions, settings.seed))
    for warning in splits.missing_classes(photos, _labels(photos)):
        logger.warning("%s: %s", method, warning)
    return method, photos


def split_combined(
    settings: DataSettings,
    origins: Sequence[Origin],
    photos: Sequence[Photo],
    embeddings: npt.NDArray[np.float32] | None,
) -> tuple[str, list[Photo], list[Problem]]:
    """Split the photos of a data sources file.

    Returns:
        The method's name, the photos with their splits (empty for those left out), and the latter as problems.

    Raises:
        DatasetError: no photo of a class is left to train on.
    """
    fractions = splits.Fractions(settings.val_fraction, settings.test_fraction)
    role = {origin.name: origin.role for origin in origins}
    roles = Roles(role, settings.leave_out, settings.split, fractions, settings.seed)
    units = list(photos)
    if settings.split == "object-clusters" and embeddings is not None:
        from image_classification_trash.data.object_clusters import grouped_by_object  # noqa: PLC0415  loads scikit-learn

        units = list(grouped_by_object(photos, embeddings, settings.seed))
    elif settings.split == "stratified":
        units = alone(photos)
    chosen = split_sources(roles, photos, units)
    made = [replace(photo, split=split) for photo, split in zip(photos, chosen, strict=True)]
    detail = "a photo of another source that shows the same object is in a later split (of train, val, test)"
    crossing = [Problem(p.path, p.label, "near_duplicate_in_split", detail) for p in made if not p.split]
    shown = by_waste([photo for photo in made if photo.split], True)[0]
    if not any(photo.split == "train" for photo in shown):
        raise DatasetError(
            "No photo of a class is left for training.", "Give a source another role, or leave out fewer."
        )
    for warning in splits.missing_classes(shown, _labels(shown)):
        logger.warning("%s: %s", settings.split, warning)
    left_out = f"source, without {', '.join(settings.leave_out)}"
    names = {"auto": "by source, grouped", "source": left_out}
    return names.get(settings.split, settings.split), made, crossing


def counted(origins: Sequence[Origin], photos: Sequence[Photo]) -> tuple[Origin, ...]:
    """Return the sources with the number of their photos in each split."""
    tally = Counter((photo.source, photo.split) for photo in photos)
    return tuple(
        replace(origin, photos={split: tally[origin.name, split] for split in SPLITS}) for origin in origins
    )


def _audit(settings: DataSettings, audit: Audit, corrected: Corrected | None) -> Audit:
    """List manual exclusions as problems too, and set TrashNet's official splits by file name."""
    excluded = corrected.excluded if corrected else ()
    problems = [Problem(file.path, file.label, "excluded", reason or "by hand") for file, reason in excluded]
    good: Sequence[Inspected] = audit.good
    if settings.name in BUILT_IN and settings.split in ("auto", "official"):
        split_of, good = official_split(), []
        for item in audit.good:
            photo = item.photo
            split = split_of.get(Path(photo.path).name)
            if split is None:
                detail = "its name is not in the authors' lists of TrashNet's photos"
                problems.append(Problem(photo.path, photo.label, "no_split", detail))
            else:
                good.append(replace(item, photo=replace(photo, split=split)))
    return Audit(tuple(good), tuple(sorted([*audit.problems, *problems], key=astuple)))


def _labels(photos: Sequence[Photo]) -> tuple[str, ...]:
    """Return class names in the order of the model's outputs: alphabetical, which is also TrashNet's order."""
    labels = tuple(sorted({photo.label for photo in photos}))
    return LABELS if set(labels) == set(LABELS) else labels


def _near_duplicates(photos: Sequence[Photo], pairs: Pairs, with_embeddings: bool) -> NearDuplicates:
    found_by = "perceptual hash and embeddings" if with_embeddings else "perceptual hash alone"
    if len(pairs) and np.bincount(np.concatenate([pairs.first, pairs.second])).max() >= MOST_LISTED:
        found_by += f"; of a photo, its {MOST_LISTED} nearest are listed"
    groups = len({photo.group for photo in photos})
    return NearDuplicates(found_by, len(pairs), groups, overlap(photos, pairs))


def _write(
    folder: Path,
    manifest: Manifest,
    problems: Sequence[Problem],
    pairs: Pairs,
    corrected: Corrected | None,
) -> Manifest:
    with atomic_directory(folder) as temporary:
        write_manifest(temporary, manifest, final=folder)
        write_table(temporary, PROBLEMS, PROBLEM_COLUMNS, map(astuple, problems))
        write_table(temporary, NEAR_DUPLICATES, PAIR_COLUMNS, pair_rows(manifest.rows, pairs))
        if corrected:
            (temporary / CORRECTIONS).write_text(corrected.table, encoding="utf-8")
        _write_view(temporary, manifest)
    return read_manifest(folder)


def _write_view(folder: Path, manifest: Manifest) -> None:
    """Write folders train/val/test of links to the photos, or of copies if the file system has no links; none for many photos."""
    if len(manifest.rows) > MOST_LINKS:
        return
    for photo in manifest.rows:
        source = manifest.path_of(photo).resolve()
        # A label from a CSV may contain slashes or dots that would lead out of the data set's folder.
        label = photo.label.replace("/", "_").replace("\\", "_")
        label = "_" if label in (".", "..") else os.fsdecode(os.fsencode(label)[:LONGEST_NAME])
        name = os.fsdecode(os.fsencode(Path(photo.path).name)[-LONGEST_NAME:])
        link = folder / photo.split / label / f"{photo.sha256[:8]}-{name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(source)
        except OSError:
            shutil.copyfile(source, link)


def _input_key(
    settings: DataSettings, source: Source, with_embeddings: bool, corrected: Corrected | None
) -> str:
    """Return a hash that changes if a photo is added, removed or modified, or if a relevant setting changes."""
    stats = []
    for file in source.files:
        try:
            stat = (source.root / file.path).stat()
            stats.append((file.path, file.label, file.split, file.group, stat.st_size, stat.st_mtime_ns))
        except OSError:
            stats.append((file.path, file.label, file.split, file.group, -1, -1))
    chosen = settings.model_dump(mode="json", include={"split", "seed", "val_fraction", "test_fraction"})
    description = [
        RECIPE_VERSION,
        str(source.root.resolve()),
        with_embeddings,
        chosen,
        stats,
        [(row.path, row.kind) for row in source.left_out],
    ]
    if corrected:
        description.append(asdict(corrected.made))
    if source.origins:
        stated = [(file.source, file.licence, file.weight) for file in source.files]
        description += [list(map(asdict, source.origins)), stated, sorted(settings.leave_out)]
    return sha256_of(json.dumps(description, sort_keys=True).encode())


def _recorded_key(folder: Path) -> str | None:
    if not (folder / MANIFEST).is_file():
        return None
    try:
        key: str | None = read_json(folder / DATASET).get("key")
    except (OSError, ValueError, AttributeError):
        return None
    return key


if __name__ == "__main__":
    import sys
    from pkgutil import resolve_name

    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.show import carry_out

    def prepare(settings: DataSettings) -> Prepared:
        """Prepare as the command does; the layers keep this module from importing it, so it is looked up by name."""
        prepared: Prepared = resolve_name("image_classification_trash.distributed.prepare_data:prepare_data")(
            settings
        )
        return prepared

    sys.exit(carry_out("data", lambda: load_settings(DataSettings, sys.argv[1:]), prepare))

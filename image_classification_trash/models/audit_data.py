"""Find the issues of a prepared data set that a person should review before trusting it.

    trash-classifier audit trashnet

The data set is not changed. The issues go to a table, a page and a file of suggested corrections. A person accepts some of
them, and `trash-classifier data NAME --corrections FILE` applies those.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from image_classification_trash.arrays import Embeddings, Floats
from image_classification_trash.config.data import AuditSettings
from image_classification_trash.data.corrections import SUGGESTED, Correction, corrections_csv
from image_classification_trash.data.make_dataset import NEAR_DUPLICATES, PROBLEMS, Embed
from image_classification_trash.data.manifest import Manifest, Photo, class_numbers, read_manifest
from image_classification_trash.data.near_duplicates import EXACT_UP_TO, unit_length
from image_classification_trash.features.build_features import near_duplicate_embedder
from image_classification_trash.features.image_quality import KINDS as QUALITY_ISSUES
from image_classification_trash.features.image_quality import find_quality_issues
from image_classification_trash.files import sha256_of_file, write_text
from image_classification_trash.nearest_neighbours import nearest_by_embedding
from image_classification_trash.show import Result, Shown, Table
from image_classification_trash.tables import csv_text, read_table
from image_classification_trash.training.label_errors import (
    classes_in_too_few_folds,
    find_label_issues,
    head_on_all,
    out_of_fold,
)

KINDS = {
    "two_labels": "the same file under several labels; kept out of the data set",
    "near_duplicate_labels": "photos that look like one object, under different labels",
    "label_issue": "the other photos suggest another label (confident learning)",
    "duplicate": "the same file again; kept out of the data set",
    "near_duplicate": "the same object or take, several times",
    **QUALITY_ISSUES,
    "outlier": "unlike all other photos",
}
"""Kinds of issues and their meanings, in the order of the report; other problems that `data` found follow."""
TO_EXCLUDE = (*QUALITY_ISSUES, "outlier")
"""Kinds for which exclusion is suggested. `data` itself excludes problems and keeps near-duplicates in one split."""
NEIGHBOURS = 10
FENCE = 1.5
"""A distance is an outlier above the third quartile plus so many interquartile ranges (Tukey, Exploratory Data Analysis, 1977)."""
DISTANCES_MEBIBYTES = 64
"""MiB by which scikit-learn divides the distances between photos; sorting takes half as much again. Its own limit is 1,024."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of one photo.

    Attributes:
        path: relative to the data set's root.
        label: the given label.
        split: train, val or test; empty if the photo was kept out.
        kind: one of `KINDS`, or a kind of problem that `data` found.
        score: 0 (worst) to 1; None if the kind has no degrees.
        suggested_label: a label that fits better, or empty.
        other: the path of a photo that it conflicts with, or empty.
        detail: a description.
        sha256: digest of the file; empty if it cannot be read.
    """

    path: str
    label: str
    split: str
    kind: str
    score: float | None
    suggested_label: str
    other: str
    detail: str
    sha256: str


@dataclass(frozen=True)
class DataAudit(Result):
    """The issues of a data set and the files that list them.

    Attributes:
        manifest: the data set.
        issues: by kind, the worst first.
        notes: checks that could not be made, and why.
        out_of_fold_accuracy: accuracy of the predictions that label issues are based on; None without them.
        table: CSV file of all issues.
        corrections: CSV file of suggestions for `data --corrections`.
    """

    manifest: Manifest
    issues: tuple[Issue, ...]
    notes: tuple[str, ...]
    out_of_fold_accuracy: float | None
    table: Path
    corrections: Path

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of issues of each kind, zeros included."""
        counts = Counter(issue.kind for issue in self.issues)
        return {kind: counts[kind] for kind in [*KINDS, *sorted(counts.keys() - KINDS.keys())]}

    def for_people(self) -> Iterator[Shown]:
        """Yield a row per kind (count, meaning, worst photo), then the notes."""
        worst = {issue.kind: issue for issue in reversed(self.issues)}
        rows = []
        for kind, count in self.counts.items():
            first = worst.get(kind)
            shown = "" if first is None else f"{first.path}{f' ({first.other})' if first.other else ''}"
            rows.append([kind, str(count), KINDS.get(kind, "kept out of the data set"), shown])
        yield Table(["kind", "photos", "meaning", "first"], rows)
        yield from (f"note: {note}" for note in self.notes)

    def as_json(self) -> dict[str, Any]:
        """Return the issues, their counts and conditions."""
        return {
            "data": self.manifest.name,
            "fingerprint": self.manifest.fingerprint,
            "photos": len(self.manifest.photos),
            "out_of_fold_accuracy": self.out_of_fold_accuracy,
            "counts": self.counts,
            "notes": list(self.notes),
            "table": str(self.table),
            "corrections": str(self.corrections),
            "findings": [asdict(issue) for issue in self.issues],
        }


def audit_data(settings: AuditSettings) -> DataAudit:
    """Audit a data set, and write the table of issues and the suggested corrections.

    Raises:
        DatasetError: the data set is not prepared, or its photos are missing.
        MissingExtraError: the backbone's weights or cleanlab are not installed.
    """
    folder = settings.processed_dir / settings.name
    manifest = read_manifest(folder)
    embed = near_duplicate_embedder(settings.interim_dir)
    vectors = embed(manifest.photos, manifest.root)
    y_true = class_numbers(manifest.photos, manifest.labels)
    kept_out = []
    for row in read_table(folder, PROBLEMS):
        path, label, kind, detail = row["path"], row["label"], row["kind"], row["detail"]
        other = detail.rpartition(": ")[2] if kind == "two_labels" else ""
        kept_out.append(Issue(path, label, "", kind, None, "", other, detail, _digest(manifest.root / path)))
    lacking = classes_in_too_few_folds(manifest.photos, y_true, settings.seed)
    probabilities, notes = None, []
    if lacking:
        named = ", ".join(manifest.labels[i] for i in lacking)
        notes.append(f"labels were not checked: too few different objects of {named} for cross-validation")
    else:
        probabilities = out_of_fold(vectors, y_true, manifest.photos, len(manifest.labels), settings.seed)
        kept_out = _with_better_labels(kept_out, manifest, vectors, embed, settings.seed)
    issues = [
        *kept_out,
        *near_duplicate_issues(manifest, folder),
        *_label_issues(manifest, probabilities),
        *_unusual_photos(manifest, vectors),
    ]
    issues = sorted(issues, key=_order)
    table, corrections = (
        settings.reports_dir / f"{stem}-{manifest.name}.csv" for stem in ("audit", "corrections")
    )
    write_text(table, issues_csv(issues))
    write_text(corrections, corrections_csv(suggestions(issues)))
    return DataAudit(
        manifest, tuple(issues), tuple(notes), _accuracy(manifest, probabilities), table, corrections
    )


def suggestions(issues: Sequence[Issue]) -> list[Correction]:
    """Return one suggested correction per photo, taken from its first issue that can be corrected."""
    rows: dict[str, Correction] = {}
    for issue in issues:
        if issue.path in rows or (issue.kind not in TO_EXCLUDE and not issue.suggested_label):
            continue
        action = "relabel" if issue.suggested_label else "exclude"
        rows[issue.path] = Correction(
            issue.path, issue.sha256, action, issue.suggested_label, issue.detail, SUGGESTED
        )
    return list(rows.values())


def issues_csv(issues: Sequence[Issue]) -> str:
    """Return the issues as CSV text with a header."""
    return csv_text([field.name for field in fields(Issue)], map(astuple, issues))


def _with_better_labels(
    kept_out: Sequence[Issue], manifest: Manifest, vectors: Embeddings, embed: Embed, seed: int
) -> list[Issue]:
    """Suggest labels for files that occur under several labels.

    Where a linear head that was fitted without them finds one of the labels most probable, the other copies get it.
    """
    torn = [issue for issue in kept_out if issue.kind == "two_labels" and issue.sha256]
    if not torn:
        return list(kept_out)
    photos = [Photo(f.path, f.label, "", "", f.sha256, 0, 0) for f in torn]
    y_true = class_numbers(manifest.photos, manifest.labels)
    head = head_on_all(vectors, y_true, manifest.photos, len(manifest.labels), seed)
    guesses = softmax(head.logits(embed(photos, manifest.root)), axis=1)
    better = {}
    for issue, row in zip(torn, guesses, strict=True):
        rivals = {other.label for other in torn if other.sha256 == issue.sha256}
        label, probability = manifest.labels[row.argmax()], row.max()
        if label in rivals - {issue.label}:
            detail = f"{issue.detail}; rather {label} ({probability:.0%})"
            better[issue.path] = replace(issue, suggested_label=label, detail=detail)
    return [better.get(issue.path, issue) for issue in kept_out]


def near_duplicate_issues(manifest: Manifest, folder: Path) -> Iterator[Issue]:
    """Yield the nearest near-duplicate of each photo; one with another label is an issue of its own kind."""
    photos = {photo.path: photo for photo in manifest.rows}
    near: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in read_table(folder, NEAR_DUPLICATES):
        for here, there in ((1, 2), (2, 1)):
            near[row[f"path_{here}"]].append((-_number(row["similarity"]), row[f"path_{there}"]))
    for path, pairs in near.items():
        photo = photos[path]
        clashing = [pair for pair in pairs if photos[pair[1]].label != photo.label]
        kind = "near_duplicate_labels" if clashing else "near_duplicate"
        similarity, other = min(clashing or pairs)
        crossing = f", across {photo.split} and {photos[other].split}" * (photo.split != photos[other].split)
        more = f"; {len(pairs)} photos are that near" * (len(pairs) > 1)
        detail = f"like {other} ({photos[other].label}){crossing}{more}"
        score = round(1 + similarity, 3) if similarity else None
        yield _issue(photo, kind, score, "", other, detail)


def _label_issues(manifest: Manifest, probabilities: Floats | None) -> Iterator[Issue]:
    if probabilities is None:
        return
    for label_issue in find_label_issues(class_numbers(manifest.photos, manifest.labels), probabilities):
        photo, better = manifest.photos[label_issue.index], manifest.labels[label_issue.suggested]
        detail = (
            f"rather {better} ({label_issue.probability:.0%}) than {photo.label} ({label_issue.given:.0%})"
        )
        yield _issue(photo, "label_issue", round(label_issue.given, 4), better, "", detail)


def _unusual_photos(manifest: Manifest, vectors: Embeddings) -> Iterator[Issue]:
    """Yield photos of poor quality, and outliers.

    An outlier's mean cosine distance to its nearest neighbours is beyond Tukey's inner fence. Distance to neighbours as a
    score: Ramaswamy, Rastogi, Shim (2000); on embeddings: Sun et al. (2022).
    """
    for found in find_quality_issues([manifest.path_of(photo) for photo in manifest.photos]):
        photo = manifest.photos[found.index]
        yield _issue(photo, found.kind, found.score, "", "", QUALITY_ISSUES[found.kind])
    distances = neighbour_distances(vectors)
    low, high = np.percentile(distances, [25, 75])
    limit = high + FENCE * (high - low)
    for i in np.flatnonzero(distances > limit):
        detail = f"mean cosine distance to its {NEIGHBOURS} nearest {distances[i]:.2f}, median of all {np.median(distances):.2f}"
        score = round(float(limit / distances[i]), 4)
        yield _issue(manifest.photos[i], "outlier", score, "", "", detail)


def neighbour_distances(vectors: Embeddings) -> Floats:
    """Return the mean cosine distances (N,) of embeddings (N, D) to their `NEIGHBOURS` nearest neighbours."""
    count = min(NEIGHBOURS, len(vectors) - 1)
    if len(vectors) > EXACT_UP_TO:
        rows, _, similarity = nearest_by_embedding(unit_length(vectors), count, -1.0)
        found = np.bincount(rows, minlength=len(vectors))
        total = np.bincount(rows, 1.0 - similarity, minlength=len(vectors))
        return total / np.maximum(found, 1)
    fitted = NearestNeighbors(n_neighbors=count, metric="cosine").fit(vectors)
    with config_context(working_memory=DISTANCES_MEBIBYTES):
        distances, _ = fitted.kneighbors()  # without each photo's distance to itself
    return np.asarray(distances.mean(1), dtype=np.float64)


def _issue(photo: Photo, kind: str, score: float | None, suggested: str, other: str, detail: str) -> Issue:
    return Issue(photo.path, photo.label, photo.split, kind, score, suggested, other, detail, photo.sha256)


def _order(issue: Issue) -> tuple[int, str, float, str]:
    position = list(KINDS).index(issue.kind) if issue.kind in KINDS else len(KINDS)
    return position, issue.kind, 0.0 if issue.score is None else issue.score, issue.path


def _accuracy(manifest: Manifest, probabilities: Floats | None) -> float | None:
    if probabilities is None:
        return None
    y_true = class_numbers(manifest.photos, manifest.labels)
    return round(float((probabilities.argmax(1) == y_true).mean()), 4)


def _number(text: str) -> float:
    """Return a similarity from the table; 0 if there were no embeddings to measure it."""
    return 0.0 if text in ("", "nan") else float(text)


def _digest(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError:
        return ""

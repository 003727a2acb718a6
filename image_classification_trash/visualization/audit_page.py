"""Write the issues that `audit` found as one self-contained HTML file with thumbnails."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from image_classification_trash.config.data import AuditSettings
from image_classification_trash.errors import PhotoError
from image_classification_trash.files import write_text
from image_classification_trash.inference.images import read_photo
from image_classification_trash.models.audit_data import KINDS, DataAudit, Issue, audit_data
from image_classification_trash.show import Result, Shown
from image_classification_trash.visualization.report import thumbnail

_TWO_PICTURES = ("near_duplicate", "near_duplicate_labels")
"""Kinds of issues that are shown with the other photo, because it differs."""


@dataclass(frozen=True)
class Card:
    """One issue on the page; `pictures` are data URIs, empty if the file cannot be read."""

    path: str
    label: str
    better: str
    detail: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A section of the page: one kind of issue."""

    name: str
    meaning: str
    count: int
    cards: tuple[Card, ...]
    pairs: bool


@dataclass(frozen=True)
class AuditReport(Result):
    """An audit and the path of its page."""

    audit: DataAudit
    page: Path

    def for_people(self) -> Iterator[Shown]:
        """Yield the issues, the paths of the page and the table, and the next step."""
        yield from self.audit.for_people()
        yield f"page: {self.page}"
        yield f"table: {self.audit.table}"
        name = self.audit.manifest.name
        yield f"decide in {self.audit.corrections}, then: trash-classifier data {name} --corrections FILE"

    def as_json(self) -> dict[str, Any]:
        """Return the audit and the path of the page."""
        return self.audit.as_json() | {"page": str(self.page)}


def audit_with_page(settings: AuditSettings) -> AuditReport:
    """Audit a data set and write the page; raises as `audit_data` does."""
    audit = audit_data(settings)
    return AuditReport(audit, write_audit_page(audit, settings))


def write_audit_page(audit: DataAudit, settings: AuditSettings) -> Path:
    """Write the page and return its path. Labels and paths are arbitrary text, so everything is escaped."""
    root, kinds = audit.manifest.root, []
    for name, count in audit.counts.items():
        pairs = name in _TWO_PICTURES
        cards = []
        for issue in _without_mirrored([i for i in audit.issues if i.kind == name])[: settings.show]:
            shown = [issue.path, issue.other] if pairs else [issue.path]
            pictures = tuple(uri for path in shown if (uri := _thumbnail(root / path)))
            cards.append(Card(issue.path, issue.label, issue.suggested_label, issue.detail, pictures))
        kinds.append(Kind(name, KINDS.get(name, "kept out of the data set"), count, tuple(cards), pairs))
    environment = Environment(
        loader=PackageLoader("image_classification_trash.visualization", "."), autoescape=True
    )
    page = environment.get_template("audit.html.j2").render(
        title=f"Audit of {audit.manifest.name}",
        name=audit.manifest.name,
        lead=_lead(audit),
        notes=audit.notes,
        kinds=kinds,
        table=audit.table,
        corrections=audit.corrections,
    )
    path = settings.reports_dir / f"audit-{audit.manifest.name}.html"
    write_text(path, page)
    return path


def _lead(audit: DataAudit) -> str:
    photos = f"{len(audit.manifest.photos)} photos, fingerprint {audit.manifest.fingerprint[:12]}."
    if audit.out_of_fold_accuracy is None:
        return photos
    return (
        f"{photos} Labels were checked with a linear head on frozen embeddings, fitted without the photo and its "
        f"near-duplicates. Its accuracy is {audit.out_of_fold_accuracy:.1%}: many label issues are errors of the head."
    )


def _without_mirrored(issues: Sequence[Issue]) -> list[Issue]:
    """Return the issues without the second of two that name each other."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for issue in issues:
        if (issue.other, issue.path) not in seen or issue.kind not in _TWO_PICTURES:
            kept.append(issue)
        seen.add((issue.path, issue.other))
    return kept


def _thumbnail(path: Path) -> str:
    """Return a photo as a data URI of a small JPEG; empty if it cannot be read."""
    try:
        return thumbnail(read_photo(path))
    except PhotoError:
        return ""

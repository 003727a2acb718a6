"""What `audit` found, as one self-contained HTML file with thumbnails."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from PIL import Image

from image_classification_trash.config.data import AuditSettings
from image_classification_trash.errors import PhotoError
from image_classification_trash.files import write_text
from image_classification_trash.inference.images import read_photo
from image_classification_trash.models.audit_data import KINDS, DataAudit, Issue, audit_data
from image_classification_trash.show import Result, Shown

THUMBNAIL = (240, 180)
"""Largest width and height of a thumbnail, in pixels."""
_TWO_PICTURES = ("near_duplicate", "near_duplicate_labels")
"""Kinds where the other photo looks different, so that it is worth seeing too."""


@dataclass(frozen=True)
class Card:
    """One finding on the page; `pictures` are data URIs, none where the file cannot be read."""

    path: str
    label: str
    better: str
    detail: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A section of the page."""

    name: str
    meaning: str
    count: int
    cards: tuple[Card, ...]
    pairs: bool


@dataclass(frozen=True)
class AuditReport(Result):
    """What was found, and the page that shows it."""

    audit: DataAudit
    page: Path

    def for_people(self) -> Iterator[Shown]:
        """Yield what was found, where it is written, and what to do with it."""
        yield from self.audit.for_people()
        yield f"page: {self.page}\ntable: {self.audit.table}"
        name = self.audit.manifest.name
        yield f"decide in {self.audit.corrections}, then: trash-classifier data {name} --corrections FILE"

    def as_json(self) -> dict[str, Any]:
        """Return what was found, and the page."""
        return self.audit.as_json() | {"page": str(self.page)}


def audit_with_page(settings: AuditSettings) -> AuditReport:
    """Look for faults in a data set and draw them; raises as `audit_data` does."""
    audit = audit_data(settings)
    return AuditReport(audit, write_audit_page(audit, settings))


def write_audit_page(audit: DataAudit, settings: AuditSettings) -> Path:
    """Write the page; returns its path. Labels and paths come from outside, so everything is escaped."""
    environment = Environment(
        loader=PackageLoader("image_classification_trash.visualization", "."), autoescape=True
    )
    page = environment.get_template("audit.html.j2").render(
        title=f"Audit of {audit.manifest.name}",
        name=audit.manifest.name,
        lead=_lead(audit),
        notes=audit.notes,
        kinds=[_kind(audit, name, count, settings.show) for name, count in audit.counts.items()],
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
        f"{photos} Labels were checked with a head on frozen embeddings that saw neither the photo nor its "
        f"near-duplicates and is right on {audit.out_of_fold_accuracy:.1%} of them: many of its label issues are its own errors."
    )


def _kind(audit: DataAudit, name: str, count: int, show: int) -> Kind:
    issues = _without_mirrored([issue for issue in audit.issues if issue.kind == name])[:show]
    cards = tuple(_card(audit.manifest.root, issue) for issue in issues)
    return Kind(name, KINDS.get(name, "kept out of the data set"), count, cards, name in _TWO_PICTURES)


def _without_mirrored(issues: Sequence[Issue]) -> list[Issue]:
    """Of two findings that name each other, the first."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for issue in issues:
        if (issue.other, issue.path) not in seen or issue.kind not in _TWO_PICTURES:
            kept.append(issue)
        seen.add((issue.path, issue.other))
    return kept


def _card(root: Path, issue: Issue) -> Card:
    shown = [issue.path, *([issue.other] if issue.kind in _TWO_PICTURES else [])]
    pictures = tuple(uri for path in shown if (uri := _thumbnail(root / path)))
    return Card(issue.path, issue.label, issue.suggested_label, issue.detail, pictures)


def _thumbnail(path: Path) -> str:
    """A photo as a small JPEG inside an address; empty where it cannot be read."""
    try:
        image = Image.fromarray(read_photo(path))
    except PhotoError:
        return ""
    image.thumbnail(THUMBNAIL)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

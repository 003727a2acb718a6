"""Write a report as one self-contained HTML file: embedded pictures, no scripts, no external assets."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader

from image_classification_trash.files import write_text


@dataclass(frozen=True)
class Picture:
    """A PNG and its caption."""

    png: bytes
    caption: str

    @property
    def uri(self) -> str:
        """Return the picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """A heading with optional text, table (header first) and pictures."""

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()


def write_report(
    path: Path,
    title: str,
    summary: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    opening: str = "",
) -> None:
    """Write the report, with a paragraph that opens it. Labels and paths in it are arbitrary text, so everything is escaped."""
    environment = Environment(
        loader=PackageLoader("image_classification_trash.visualization", "."), autoescape=True
    )
    template = environment.get_template("report.html.j2")
    page = template.render(title=title, opening=opening, summary=summary, sections=sections)
    write_text(path, page)

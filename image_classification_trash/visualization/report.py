"""A report as one self-contained HTML file: pictures inside, no script, no asset from elsewhere."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader

from image_classification_trash.files import write_text


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    png: bytes
    caption: str

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """A heading with text, a table (header first) and pictures, each optional."""

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()


def write_report(
    path: Path, title: str, summary: Sequence[tuple[str, str]], sections: Sequence[Section]
) -> None:
    """Write the report. Labels and paths in it come from outside, so everything is escaped."""
    environment = Environment(
        loader=PackageLoader("image_classification_trash.visualization", "."), autoescape=True
    )
    page = environment.get_template("report.html.j2").render(title=title, summary=summary, sections=sections)
    write_text(path, page)

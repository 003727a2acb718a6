"""Write a report as one self-contained HTML file: embedded pictures, no external assets, and no script but a gallery's filters.

A page opens with its conclusion and the pictures that show it; tables follow, and a gallery of photos, if it has one, ends it.
"""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from image_classification_trash.files import write_bytes, write_text
from image_classification_trash.inference.images import Pixels
from image_classification_trash.visualization import plots

MOST_ROWS = 500
"""Largest number of rows of a table on a page."""
MOST_CARDS = 200
"""Largest number of photos in a gallery: with two thumbnails each, a page of at most 20 MB."""
THUMBNAIL = (240, 180)
"""Maximum width and height of a thumbnail, in pixels."""
_FIGURES = re.compile(r"[-+−–]?[\d.,]*%?( points)?( \(.*\d.*\))?( of \d+)?")
"""What a cell of a column of figures looks like: `12`, `94.7% (92.3 to 96.7)`, `–`."""


class Link(NamedTuple):
    """Text that leads to another page or place, relative to this page."""

    text: str
    href: str


Cell = str | Link


@dataclass(frozen=True)
class Picture:
    """A PNG, its caption, and, for those who do not see it, what it shows; the caption does if `alt` is empty.

    `is_wide` marks a picture that takes the whole width of the page.
    """

    png: bytes
    caption: str
    alt: str = ""
    is_wide: bool = False

    @property
    def uri(self) -> str:
        """Return the picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """A heading with optional text, table (header first) and pictures."""

    title: str
    text: str = ""
    table: Sequence[Sequence[Cell]] = ()
    pictures: Sequence[Picture] = ()

    @property
    def figures(self) -> list[bool]:
        """Return, for each column of the table, whether it holds figures, which are aligned at the right."""
        columns = zip(*self.table[1:], strict=True) if len(self.table) > 1 else ()
        return [all(isinstance(c, str) and _FIGURES.fullmatch(c) for c in column) for column in columns]


@dataclass(frozen=True)
class Card:
    """A photo of a gallery.

    Attributes:
        title: what is said of it first.
        lines: further lines.
        pictures: of each, a data URI and what it shows; none if the photo cannot be read.
        values: by the name of a filter, the card's value.
    """

    title: str
    lines: Sequence[str]
    pictures: Sequence[tuple[str, str]]
    values: Mapping[str, str]


@dataclass(frozen=True)
class Gallery:
    """Photos that can be filtered; `text` says how many there are and which of them are shown."""

    title: str
    text: str
    cards: Sequence[Card]

    @property
    def filters(self) -> dict[str, dict[str, int]]:
        """Return, by the name of each filter, its values with the number of cards, most frequent first."""
        counts: dict[str, dict[str, int]] = {}
        for card in self.cards:
            for name, value in card.values.items():
                of = counts.setdefault(name, {})
                of[value] = of.get(value, 0) + 1
        return {
            name: dict(sorted(of.items(), key=lambda one: (-one[1], one[0]))) for name, of in counts.items()
        }


def write_report(
    path: Path,
    title: str,
    summary: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    opening: str = "",
    pictures: Sequence[Picture] = (),
    gallery: Gallery | None = None,
    links: Sequence[Link] = (),
) -> None:
    """Write the report. Labels and paths in it are arbitrary text, so everything is escaped.

    Args:
        path: of the file.
        title: its heading.
        summary: rows of the first table.
        sections: what follows the table.
        opening: the paragraph that opens the page, such as a verdict.
        pictures: those that follow the paragraph.
        gallery: photos at the end of the page.
        links: to other pages, before those to the sections.
    """
    environment = Environment(
        loader=PackageLoader("image_classification_trash.visualization", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    page = environment.get_template("report.html.j2").render(
        title=title,
        opening=paragraphs(opening),
        pictures=pictures,
        summary=Section("Summary", table=[("measure", "value"), *summary]) if summary else None,
        sections=sections,
        gallery=gallery,
        links=links,
    )
    write_text(path, page)


def unbroken(text: str) -> Markup:
    """Return escaped text in which no line breaks within a flag and its value, such as `--data FOLDER`."""
    return Markup(re.sub(r"--[a-z-]+(?: [A-Z]+\b)?", r"<code>\g<0></code>", str(escape(text))))  # noqa: S704


def paragraphs(opening: str) -> list[tuple[str, str]]:
    """Return the paragraphs of an opening, each with the word that it starts with, empty if it starts with none of them."""
    first, *rest = re.split(r"(?:^| )(Verdict|Conclusion|Next): ", opening)
    named = list(zip(rest[::2], rest[1::2], strict=True))
    return [("", first), *named] if first else named


def save_figures(figures: Mapping[str, tuple[Figure, str]], folder: Path) -> list[Picture]:
    """Write figures, given with their captions by name; names that make the same file name are numbered."""
    pictures, taken = [], set[str]()
    for number, (name, (figure, caption)) in enumerate(figures.items()):
        png = plots.to_png(figure)
        stem = plots.shortened(name.replace("/", "_"), 50)  # a file system allows 255 bytes
        stem = f"{stem}-{number}" if stem.casefold() in taken else stem
        taken.add(stem.casefold())
        write_bytes(folder / f"{stem}.png", png)
        pictures.append(Picture(png, caption))
    return pictures


def left_out(
    count: int, table: Sequence[Sequence[str]], where: str = ""
) -> tuple[str, Sequence[Sequence[str]]]:
    """Return the text and the table (header first) of files that were left out, at most `MOST_ROWS` of them."""
    more = f" The first {MOST_ROWS} are listed here{where}." if count > MOST_ROWS else ""
    return f"{count} files were left out.{more}", table[: MOST_ROWS + 1] if count else ()


def file_name(parts: Iterable[str]) -> str:
    """Return a name for a file, made of arbitrary texts: letters, digits, `.`, `@`, `_` and `-`, at most 40 of each text."""
    return "-".join(re.sub(r"[^\w.@-]+", "-", part).strip("-.")[-40:] for part in parts)


def thumbnail(photo: Pixels) -> str:
    """Return a photo, uint8 (H, W, 3), as a data URI of a small JPEG."""
    image = Image.fromarray(photo)
    image.thumbnail(THUMBNAIL)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

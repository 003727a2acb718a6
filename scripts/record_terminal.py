"""Record quickstart's commands and `train FOLDER` in a terminal of 80 and of 120 columns, for the documents.

    python scripts/record_terminal.py                             # both sessions in both widths: minutes
    python scripts/record_terminal.py --session one-line --columns 80

Writes docs/images/SESSION-WIDTH.cast (asciinema's format, version 2; `asciinema play` shows it) and the last screen of each
as a picture, SESSION-WIDTH-light.svg and -dark.svg. Times are those of this machine. The photos are the sample's.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ROWS = 40
SESSIONS = {
    "quickstart": (
        "trash-classifier data sample",
        "trash-classifier train sample --config quickstart",
        "trash-classifier evaluate models/sample",
        "trash-classifier predict photo.jpg --model models/sample",
    ),
    "one-line": (
        "trash-classifier train recycling",
        "trash-classifier predict photo.jpg --model models/recycling",
    ),
}
CLASSES = {"bottles": "glass", "cans": "metal", "newspapers": "paper"}
"""Folders in `recycling`, made of the sample's classes."""
PAUSE = 0.1
"""Seconds within which output is one event: a bar is redrawn more often than anybody sees."""
COLOURS = {
    "light": ("#ffffff", "#1f2328", "#0a7227", "#116688"),
    "dark": ("#161b22", "#e6edf3", "#56d364", "#79c0ff"),
}
"""Background, text, prompt and command."""
CHARACTER, LINE, MARGIN = 8.4, 18, 14
"""Width of a character, height of a line and margin of a picture, in pixels; the font has 14."""


class Event(NamedTuple):
    """What was written, and when, in seconds since the start."""

    seconds: float
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--session", nargs="+", default=list(SESSIONS), choices=list(SESSIONS))
    parser.add_argument("--columns", type=int, nargs="+", default=[80, 120])
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images")
    parser.add_argument("--draw", action="store_true", help="draw the pictures of recordings that are there")
    given = parser.parse_args()
    for session in given.session:
        for columns in given.columns:
            cast = given.output / f"{session}-{columns}.cast"
            if not given.draw:
                cast.write_text(as_cast(columns, list(record(session, columns))), encoding="utf-8")
            texts = [json.loads(line)[2] for line in cast.read_text(encoding="utf-8").splitlines()[1:]]
            lines = screen("".join(texts), columns)
            for theme in COLOURS:
                picture = cast.with_name(f"{cast.stem}-{theme}.svg")
                picture.write_text(svg(lines, columns, theme), encoding="utf-8")
                print(picture)


def record(session: str, columns: int) -> Iterator[Event]:
    """Run a session's commands one after another in a new folder; yield what a terminal shows."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        began = time.monotonic()
        for command in SESSIONS[session]:
            yield Event(time.monotonic() - began, f"$ {command}\r\n")
            for text in run(command, Path(folder), columns):
                yield Event(time.monotonic() - began, text)


def prepare(folder: Path) -> None:
    shutil.copytree(ROOT / "data/sample", folder / "data/sample")
    shutil.copy(min((ROOT / "data/sample/test/glass").glob("*.jpg")), folder / "photo.jpg")
    for name, label in CLASSES.items():
        (folder / "recycling" / name).mkdir(parents=True)
        for photo in (ROOT / "data/sample").glob(f"*/{label}/*.jpg"):
            shutil.copy(photo, folder / "recycling" / name)


def run(command: str, folder: Path, columns: int) -> Iterator[str]:
    """Run a command in a pseudo-terminal; yield its output in pieces."""
    words = [sys.executable, "-m", "image_classification_trash", *command.split()[1:]]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        os.environ.pop("COLUMNS", None)
        os.execv(words[0], words)  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    piece, since = b"", time.monotonic()
    while True:
        try:
            data = os.read(terminal, 2**16)
        except OSError:  # the command has ended
            break
        piece += data
        if time.monotonic() - since > PAUSE and piece[-1] < 0x80:
            yield piece.decode("utf-8", errors="replace")
            piece, since = b"", time.monotonic()
    if piece:
        yield piece.decode("utf-8", errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.exit(f"{command} ended with {status}: {piece.decode(errors='replace')[-1000:]}")


def as_cast(columns: int, events: list[Event]) -> str:
    header = {
        "version": 2,
        "width": columns,
        "height": ROWS,
        "title": "image_classification_trash: from photos to a model",
    }
    rows = [[round(event.seconds, 2), "o", event.text] for event in events]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [header, *rows])


def screen(text: str, columns: int) -> list[str]:
    """Return the lines that a terminal shows once a text is printed: progress bars are redrawn in place, long lines wrap."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
        elif part.startswith("\x1b["):
            count = int(re.sub(r"\D", "", part) or "1")
            if part[-1] == "A":
                row = max(0, row - count)
            elif part[-1] == "K":
                lines[row] = lines[row][:column]
        else:
            if column == columns:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines]


def svg(lines: list[str], columns: int, theme: str) -> str:
    """Draw lines as a picture: text, so that it can be searched, in a font of the reader's."""
    background, text, prompt, command = COLOURS[theme]
    width, height = round(columns * CHARACTER + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    rows = []
    for number, line in enumerate(lines):
        if not line:
            continue
        shown = escape(line)
        if line.startswith("$ "):
            shown = f'<tspan fill="{prompt}">$</tspan><tspan fill="{command}">{escape(line[1:])}</tspan>'
        shown = re.sub(r"(?<= ) ", "\N{NO-BREAK SPACE}", shown)  # browsers show several spaces as one
        wide = round(len(line) * CHARACTER, 1)
        rows.append(
            f'<text x="{MARGIN}" y="{MARGIN + LINE * number + 13}" textLength="{wide}">{shown}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14" '
        f'fill="{text}">\n<rect width="{width}" height="{height}" rx="8" fill="{background}"/>\n'
        + "\n".join(rows)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()

"""The terminal recording is drawn as a terminal shows it, and those in the documents are whole and small."""

import json
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from helpers.scripts import load_script

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"


@pytest.fixture(scope="module")
def recorder() -> ModuleType:
    return load_script("record_terminal")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\r\ntwo\r\n", ["one", "two", ""]),
        ("bar 10%\rbar 100%\r\n", ["bar 100%", ""]),
        ("longer\rab\x1b[K\r\n", ["ab", ""]),
        ("first\r\nsecond\x1b[A\rFIRST", ["FIRST", "second"]),
        ("\x1b[1mbold\x1b[0m", ["bold"]),
        ("0123456789abc", ["0123456789", "abc"]),
        ("0123456789\r\nnext", ["0123456789", "next"]),
    ],
)
def test_a_screen_is_what_a_terminal_shows(recorder: ModuleType, text: str, lines: list[str]) -> None:
    assert recorder.screen(text, 10) == lines


RECORDINGS = sorted(IMAGES.glob("*-*.cast"))


def test_there_are_recordings_and_they_are_small() -> None:
    assert RECORDINGS
    files = [file for cast in RECORDINGS for file in IMAGES.glob(f"{cast.stem}*")]
    assert len(files) == 3 * len(RECORDINGS) and sum(file.stat().st_size for file in files) < 200_000


@pytest.mark.parametrize("cast", RECORDINGS, ids=lambda path: path.stem)
def test_the_documents_have_all_of_it(recorder: ModuleType, cast: Path) -> None:
    session, _, columns = cast.stem.rpartition("-")
    header, *rows = map(json.loads, cast.read_text("utf-8").splitlines())
    assert (header["version"], header["width"]) == (2, int(columns))
    times = [seconds for seconds, _, _ in rows]
    assert times == sorted(times)
    text = "".join(text for _, _, text in rows)
    typed = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    assert typed == list(recorder.SESSIONS[session])
    lines = recorder.screen(text, int(columns))
    assert sum(line.startswith("Verdict:") for line in lines) == 1
    for theme in recorder.COLOURS:
        picture = (IMAGES / f"{cast.stem}-{theme}.svg").read_text(encoding="utf-8")
        assert picture == recorder.svg(lines, int(columns), theme)
        ElementTree.fromstring(picture)

"""Results are shown one way: lines, aligned tables and notes for people, one JSON document for programs."""

import fcntl
import json
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from image_classification_trash.errors import DatasetError, SettingsError
from image_classification_trash.show import (
    FAILED,
    SOME_UNREADABLE,
    STOPPED,
    WRONG_USE,
    Note,
    Result,
    Shown,
    Table,
    carry_out,
    folded,
    say,
    set_volume,
    show,
)


@dataclass
class Streamed(Result):
    """Two photos, one of them unreadable, known only once they were read."""

    unreadable: int = 0

    def for_people(self) -> Iterator[Shown]:
        yield "first"
        yield Table(["class", "n"], [["glass", "1"], ["é", "23"]])
        self.unreadable = 1
        yield Note("one is unreadable")

    def as_json(self) -> dict[str, Any]:
        return {"label": "é"}

    @property
    def exit_status(self) -> int:
        return SOME_UNREADABLE if self.unreadable else 0


def test_people_get_aligned_columns_and_notes_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Streamed()) == SOME_UNREADABLE
    out, err = capsys.readouterr()
    assert out == "first\nclass  n\nglass  1\né      23\n" and err == "one is unreadable\n"


def test_programs_get_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Streamed(), json_output=True) == 0
    text = capsys.readouterr().out
    assert json.loads(text) == {"label": "é"} and text == '{\n  "label": "é"\n}\n'


def test_the_settings_say_how_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert carry_out("x", lambda: SimpleNamespace(json_output=True), lambda _: Streamed()) == 0
    assert capsys.readouterr().out.startswith("{")


def failing(error: BaseException) -> Callable[[object], Result]:
    def verb(_: object) -> Result:
        raise error

    return verb


@pytest.mark.parametrize(
    ("command", "error", "status", "said"),
    [
        ("data", DatasetError("It is empty.", "Fill it."), FAILED, "error: It is empty.\n  Fill it.\n"),
        ("data", DatasetError("It is empty."), FAILED, "error: It is empty.\n"),
        ("data", SettingsError("--nope is not known.", ""), WRONG_USE, "error: --nope is not known.\n"),
        ("serve", ModuleNotFoundError(name="fastapi"), FAILED, "[serve]"),
        ("tune", ModuleNotFoundError(name="optuna"), FAILED, "[train,tune]"),
        ("export", ModuleNotFoundError(name="torch"), FAILED, "[train,export]"),
        ("train", ModuleNotFoundError(name="torch"), FAILED, "train needs the library torch"),
        ("train", OSError(28, "No space left on device"), FAILED, "No half-written output"),
        ("train", PermissionError(13, "Permission denied", "data/x"), FAILED, "--data-dir"),
        ("train", KeyboardInterrupt(), STOPPED, "stopped\n"),
    ],
)
def test_an_error_is_said_and_has_its_status(
    command: str, error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carry_out(command, lambda: None, failing(error)) == status
    out, err = capsys.readouterr()
    assert not out and said in err


def test_wrong_settings_are_said_before_the_verb_begins(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> None:
        raise SettingsError("epochs = 'x'.", "See: --help")

    assert carry_out("train", load, failing(AssertionError("began"))) == WRONG_USE
    assert "epochs" in capsys.readouterr().err


NAMES = ("♻ été.jpg", "😀.jpg", "\udce9.jpg", "\x1b[31mred\nline.jpg")
SCRIPT = f"""
import sys
from types import SimpleNamespace
from image_classification_trash.show import Result, Table, carry_out

class Named(Result):
    def for_people(self):
        yield Table(["photo"], [[name] for name in {NAMES!r}])

    def as_json(self):
        return list({NAMES!r})

sys.exit(carry_out("predict", lambda: SimpleNamespace(json_output=sys.argv[1] == "json"), lambda settings: Named()))
"""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8:strict", "utf-8"])
def test_any_name_is_printed_on_any_terminal_and_json_stays_json(encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    line = [sys.executable, "-c", SCRIPT]
    done = subprocess.run([*line, "json"], env=environment, capture_output=True, check=True)
    read = json.loads(done.stdout.decode(encoding.partition(":")[0]))
    assert [name.encode("utf-16", "surrogatepass") for name in read] == [
        name.encode("utf-16", "surrogatepass") for name in NAMES
    ]
    done = subprocess.run([*line, "text"], env=environment, capture_output=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(NAMES)
    assert b"\x1b" not in done.stdout and rb"\x1b[31mred\x0aline.jpg" in lines[-1]


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    writer = f"{sys.executable} -c 'import sys; exec(sys.stdin.read())' text"
    many = SCRIPT.replace(f"for name in {NAMES!r}]", "for name in map(str, range(100000))]", 1)
    line = f"{writer} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], input=many, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("photo\n", "", 141)


def test_quiet_leaves_results_and_errors_and_verbose_says_where_an_error_arose(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    before = root.level
    try:
        set_volume(quiet=True)
        show(Streamed())
        say("training mine")
        assert capsys.readouterr().err == ""
        carry_out("data", lambda: None, failing(DatasetError("It is empty.")))
        assert capsys.readouterr().err == "error: It is empty.\n"
        set_volume(quiet=False)
        show(Streamed())
        assert capsys.readouterr().err == "one is unreadable\n"
    finally:
        root.setLevel(before)
        os.environ.pop("TQDM_DISABLE", None)


def test_a_terminal_breaks_long_sentences_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Verdict: good; 22 of 24 test photos right. Next: evaluate on photos of another place (--data FOLDER)."
    assert folded(text) == [text]  # a pipe gets one line
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    assert folded(text) == [
        "Verdict: good; 22 of 24 test photos",
        "right. Next: evaluate on photos of",
        "another place (--data FOLDER).",
    ]
    assert folded("short  columns stay") == ["short  columns stay"]
    path = "models/" + 50 * "x"
    assert folded(f"in {path}") == ["in", path]  # what is copied stays whole


def test_cells_are_broken_between_words_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        ["photos", "24", "of the test split", "train/glass1.jpg"],
        ["prediction set", "contains the right class for 100.0%", "no", ""],
    ]
    table = Table(["measure", "value", "meaning", "first"], rows)
    wide = list(table.lines())
    assert wide == [
        "measure         value                                meaning            first",
        "photos          24                                   of the test split  train/glass1.jpg",
        "prediction set  contains the right class for 100.0%  no",
    ]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert list(table.lines()) == wide
    monkeypatch.setenv("COLUMNS", "76")
    assert list(table.lines()) == [
        "measure         value                    meaning            first",
        "photos          24                       of the test split  train/glass1.jpg",
        "prediction set  contains the right       no",
        "                class for 100.0%",
    ]
    monkeypatch.setenv("COLUMNS", "30")  # too narrow: words stay whole, and columns aligned
    lines = list(table.lines())
    assert lines[0] == "measure     value     meaning  first" and lines[-1] == "            100.0%"


def on_a_terminal(code: str, columns: int) -> list[str]:
    """The lines that a script writes to a terminal of that width."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    said = b""
    try:
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # how Linux ends a terminal that nobody writes to any more
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return said.decode().split("\r\n")[:-1]


TALKING = """
import logging, os, sys, time
os.environ.pop("COLUMNS", None)
while os.get_terminal_size().columns < 10:
    time.sleep(0.01)
from image_classification_trash.errors import DatasetError
from image_classification_trash.show import carry_out, say

def verb(settings):
    say("training mine on cpu: 126 photos to train on, 27 to validate, 3 classes; logs in reports/logs/mine")
    say("batches of 32 photos, the default")
    logging.warning("left out holiday.jpg: it is no picture of a kind that can be read, but a text of 12 bytes")
    raise DatasetError("There are 2 classes and the model has 6, so that they cannot be compared with each other.", "Next.")

carry_out("train", lambda: None, verb)
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_notes_warnings_and_errors_break_between_words_in_a_terminal(columns: int) -> None:
    lines = on_a_terminal(TALKING, columns)
    assert max(map(len, lines)) <= columns
    text = " ".join(line.strip() for line in lines)
    assert "27 to validate, 3 classes; logs in reports/logs/mine batches of 32 photos" in text
    assert "WARNING: left out holiday.jpg: it is no picture of a kind that can be read, but" in text
    assert "error: There are 2 classes and the model has 6, so that they cannot be" in text
    piped = subprocess.run(
        [sys.executable, "-c", TALKING.replace("while os.get_terminal_size().columns < 10:", "if 0:")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(piped.stderr.splitlines()) == 5

"""Show results: lines and tables for people, JSON for programs, and an exit status.

Every verb returns a `Result`. The command and the scripts (`python -m ...`) pass their verb to `carry_out`, which prints
the result, or the error that ended the run. Results go to standard output; notes, logs and progress bars to standard error.
"""

import codecs
import errno
import gc
import json
import logging
import os
import sys
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, ClassVar, TextIO, TypeVar, cast

from image_classification_trash.errors import SettingsError, TrashClassifierError, install_hint

GOOD, FAILED, WRONG_USE, SOME_UNREADABLE, DRIFTED, STOPPED, NOT_READ = 0, 1, 2, 3, 4, 130, 141
"""Exit status: 0 success; 1 an error that the user can fix; 2 a wrong flag or setting; 3 finished, but some photos could not
be read; 4 the monitored stream drifted; 130 stopped by Ctrl-C; 141 the reader of the output closed it."""
_EXTRAS = {"serve": "serve", "tune": "train,tune", "export": "train,export"}
"""The extras that install what a command imports; all other commands need `train`."""
SettingsT = TypeVar("SettingsT")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """A table with a header and aligned columns."""

    header: Sequence[str]
    rows: Iterable[Sequence[str]]

    def lines(self) -> Iterator[str]:
        """Yield lines of text, the header first; in a terminal that is too narrow, cells of the widest columns are broken."""
        table = [list(self.header), *map(list, self.rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.header))]
        excess = sum(widths) + 2 * (len(widths) - 1) - (terminal_width(sys.stdout) or sys.maxsize)
        if excess <= 0:
            yield from (line(row, widths) for row in table)
            return
        import textwrap  # noqa: PLC0415  for wide tables in a terminal alone

        words = [
            max((len(w) for row in table for w in row[i].split()), default=0) for i in range(len(widths))
        ]
        while excess > 0 and (wide := [i for i, width in enumerate(widths) if width > words[i]]):
            widths[max(wide, key=widths.__getitem__)] -= 1
            excess -= 1
        for row in table:
            cells = [
                textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False)
                for cell, width in zip(row, widths, strict=True)
            ]
            yield from (line(parts, widths) for parts in zip_longest(*cells, fillvalue=""))


@dataclass(frozen=True)
class Note:
    """A line that is not part of the result itself; it goes to standard error."""

    text: str


Shown = str | Table | Note


class Result(ABC):
    """What a verb returns."""

    ascii_json: ClassVar[bool] = False
    """Whether its JSON escapes non-ASCII characters."""

    @abstractmethod
    def for_people(self) -> Iterable[Shown]:
        """Yield lines, tables and notes; each is printed immediately."""

    @abstractmethod
    def as_json(self) -> Any:
        """Return the result for programs, ready for `json.dumps`."""

    def json_text(self) -> Iterator[str]:
        """Yield the JSON document in pieces; a result that is produced piece by piece overrides this."""
        yield json.dumps(self.as_json(), indent=2, ensure_ascii=self.ascii_json) + "\n"

    @property
    def exit_status(self) -> int:
        """Return the command's exit status; read after everything is printed."""
        return GOOD


_quiet = ContextVar("quiet", default=False)


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Join cells into a line, each padded to its width; cells without a width are not padded."""
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "  ".join([*padded, *cells[len(widths) :]]).rstrip()


def show(result: Result, json_output: bool = False) -> int:
    """Print a result piece by piece; return its exit status."""
    if json_output:
        for piece in result.json_text():
            print(piece, end="")
        return result.exit_status
    for shown in result.for_people():
        if isinstance(shown, Note):
            say(shown.text)
        else:
            lines = shown.lines() if isinstance(shown, Table) else folded(shown)
            print(*map(printable, lines), sep="\n", flush=True)
    return result.exit_status


def set_volume(quiet: bool) -> None:
    """Say less: results and errors alone, no notes, warnings and progress bars; or more: logs, and the origin of an error."""
    logging.getLogger().setLevel(logging.ERROR if quiet else logging.INFO)
    _quiet.set(quiet)
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported


def say(text: str) -> None:
    """Print a line about what is being done, which is no result, to standard error; nothing where the user asks for quiet."""
    if not _quiet.get():
        print(*map(printable, folded(text, sys.stderr)), sep="\n", file=sys.stderr, flush=True)


def terminal_width(stream: TextIO) -> int | None:
    """Return the number of columns of the terminal that a stream goes to; None for a file or pipe."""
    if not stream.isatty():
        return None
    import shutil  # noqa: PLC0415  for terminals alone

    return shutil.get_terminal_size().columns


def folded(text: str, stream: TextIO | None = None, indent: str = "") -> list[str]:
    """Break a long text between words where a terminal would break it within one; a file or pipe gets it in one line.

    Args:
        text: a line.
        stream: where it goes; default: standard output.
        indent: what the lines after the first begin with.
    """
    columns = terminal_width(stream or sys.stdout)
    if columns is None or len(text) <= columns or "\n" in text:
        return [text]
    import textwrap  # noqa: PLC0415  for long texts in a terminal alone

    return textwrap.wrap(
        text, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


class FoldedLines(logging.Formatter):
    """A log's lines, each broken between words in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        lines = super().format(record).split("\n")
        return "\n".join(part for text in lines for part in folded(text, sys.stderr, "  "))


def printable(text: str) -> str:
    """Escape control characters, with which a file's name could take over a terminal or break a line."""
    return "".join(c if unicodedata.category(c) != "Cc" else f"\\x{ord(c):02x}" for c in text)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Encode what a stream cannot hold as JSON does, \u267b: JSON stays JSON, and text can be read."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", errors="surrogatepass")
    pairs = (units[i : i + 2].hex() for i in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs), error.end


class Output:
    """Standard output, which ends the command where it cannot be written: silently if its reader closed it, else with a line.

    It raises SystemExit, because argparse ignores an OSError while it prints help. What is still buffered is discarded.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; raise SystemExit if that fails."""
        with self._ending_the_command():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what is buffered; raise SystemExit if that fails."""
        with self._ending_the_command():
            self._stream.flush()

    @contextmanager
    def _ending_the_command(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError):  # `| head` has read enough
                raise SystemExit(NOT_READ) from None
            _show_error(f"standard output cannot be written: {error.strerror}.", "")
            raise SystemExit(FAILED) from None


def watch_output() -> None:
    """Have standard output end the command where it cannot be written; a standard stream that is closed is an empty one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  for good
    if not isinstance(sys.stdout, Output):
        sys.stdout = cast(TextIO, Output(sys.stdout))


def _accept_any_text() -> None:
    """Have the standard streams read and write text of any kind, whatever the terminal's encoding."""
    codecs.register_error("escaped", _escaped)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "escaped"), (sys.stderr, "escaped")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def carry_out(command: str, load: Callable[[], SettingsT], verb: Callable[[SettingsT], Result]) -> int:
    """Load settings, call the verb and print its result, or the error that ends the run; return the exit status.

    Args:
        command: the verb's name, for messages.
        load: returns the settings; if they have a field `json_output`, it chooses between JSON and text.
        verb: takes the settings and returns the result.
    """
    watch_output()
    _accept_any_text()
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(FoldedLines("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[log])
    try:
        settings = load()
        if not gc.isenabled():  # `main` disabled it; what was made until now stays until the end
            gc.freeze()
            gc.enable()
        status = show(verb(settings), getattr(settings, "json_output", False))
        sys.stdout.flush()
        return status
    except TrashClassifierError as error:
        logger.info("The error's origin:", exc_info=True)
        _show_error(error.found, error.hint)
        return WRONG_USE if isinstance(error, SettingsError) else FAILED
    except ModuleNotFoundError as error:
        hint = install_hint(_EXTRAS.get(command, "train"))
        _show_error(f"{command} needs the library {error.name}, which is not installed.", hint)
        return FAILED
    except OSError as error:
        hint = "No half-written output is left behind; fix the cause and run the command again."
        if error.errno in (errno.EACCES, errno.EROFS):
            hint = "Make it writable, or write elsewhere: --data-dir, --models-dir and --reports-dir name other folders."
        _show_error(f"{error}.", hint)
        return FAILED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED


def _show_error(found: str, hint: str) -> None:
    for text in (f"error: {found}", f"  {hint}" if hint else ""):
        for part in filter(None, text.split("\n")):
            print(*map(printable, folded(part, sys.stderr, "  ")), sep="\n", file=sys.stderr)

r"""CSV text that a spreadsheet shows and does not run, and that is read back as it was.

A spreadsheet takes a cell such as `=HYPERLINK(...)` for a formula. All tables of this project are written through `neutral`, which
puts an apostrophe before such a cell, and before one that has apostrophes there already, so that `literal` inverts it exactly.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def neutral(cell: Any) -> Any:
    """Return text with an apostrophe before what a spreadsheet would take for a formula; numbers and None are unchanged."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def literal(cell: str) -> str:
    """Return the text that `neutral` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]], formulas: bool = False) -> str:
    """Return a table as CSV text.

    Args:
        header: names of the columns.
        rows: cells, text or numbers; None is empty.
        formulas: leave text as it is, for a fingerprint; such text is not written to a file.
    """
    return "".join(csv_line(row, formulas) for row in (header, *rows))


class _Echo:
    """A file that returns what is written into it."""

    def write(self, text: str) -> str:
        return text


def csv_line(cells: Iterable[Any], formulas: bool = False) -> str:
    """Return a row as a line of CSV that ends with a newline; arguments as in `csv_text`."""
    row = csv.writer(_Echo(), lineterminator="\r\n").writerow(cells if formulas else map(neutral, cells))
    return f"{row[:-2]}\n"  # a writer quotes a carriage return inside a cell only if its lines end with one


def csv_rows(text: str) -> list[dict[str, str]]:
    """Read what `csv_text` wrote: a dictionary from column to text per row."""
    return list(csv_records(io.StringIO(text, newline="")))


def csv_records(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield what `csv_rows` returns, from a file that was opened with newline=""."""
    for row in csv.DictReader(lines):
        yield {literal(name): literal(cell or "") for name, cell in row.items() if name}

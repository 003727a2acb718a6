"""Tables of any length: CSV up to `CSV_ROWS` rows, Parquet beyond where pyarrow is installed, and one reader for both.

A spreadsheet takes a cell such as `=HYPERLINK(...)` for a formula. All CSV of this project is written through `neutral`, which puts an
apostrophe before such a cell, and before one that has apostrophes there already, so that `literal` inverts it exactly.
"""

import csv
import importlib.util
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from image_classification_trash.errors import DatasetError, MissingExtraError, install_hint

CSV_ROWS = 100_000
"""Rows up to which a table is always a CSV file, which any program opens."""
_BATCH = 50_000
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


def write_table(folder: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write rows as NAME.csv, or as NAME.parquet where there are more than `CSV_ROWS` and pyarrow is there; return the file.

    Args:
        folder: where the file is written; it must not hold a table of that name.
        name: the file's name without a suffix.
        columns: names of the columns.
        rows: their cells: texts and numbers.
    """
    coming = iter(rows)
    first = list(islice(coming, CSV_ROWS + 1))
    if len(first) > CSV_ROWS and importlib.util.find_spec("pyarrow"):
        return write_rows(folder / f"{name}.parquet", columns, chain(first, coming))
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as sink:
        sink.writelines(map(csv_line, chain((columns,), first, coming)))
    return path


def table_file(folder: Path, name: str) -> Path:
    """Return the table's file in a folder, whichever form it has; the CSV file's path if there is none."""
    parquet = folder / f"{name}.parquet"
    return parquet if parquet.exists() else folder / f"{name}.csv"


def read_table(folder: Path, name: str) -> Iterator[dict[str, str]]:
    """Yield a table's rows, each cell as text, whichever form the table has.

    Raises:
        DatasetError: there is no such table, or it cannot be read.
        MissingExtraError: it is a Parquet file and pyarrow is not installed.
    """
    path = table_file(folder, name)
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as source:
                yield from csv_records(source)
            return
        for batch in _parquet().ParquetFile(path).iter_batches(_BATCH):
            for row in batch.to_pylist():
                yield {column: "" if cell is None else str(cell) for column, cell in row.items()}
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"The table {path} cannot be read: {error}.", "Prepare the data set again."
        ) from error


def write_rows(path: Path, columns: Sequence[str], rows: Iterator[Sequence[object]]) -> Path:
    """Write rows as a Parquet file, `_BATCH` of them at a time; return the file."""
    parquet = _parquet()
    import pyarrow  # noqa: PLC0415  optional

    writer = None
    while batch := list(islice(rows, _BATCH)):
        cells = dict(zip(columns, map(list, zip(*batch, strict=True)), strict=True))
        table = pyarrow.table(cells, schema=writer.schema if writer else None)
        writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()
    return path


def _parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415  optional
    except ImportError as error:
        found = "The table is a Parquet file, and pyarrow is not installed."
        raise MissingExtraError(found, install_hint("parquet")) from error
    return parquet

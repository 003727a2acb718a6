"""Predictions written to a file one by one, so that a killed run loses nothing and can be resumed.

Answers are appended to `NAME.partial`, one line of JSON each, whatever the table's format; at the end that file is
converted to the table, which exists only from then on. A second run that writes the same table is refused.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self, TextIO

from image_classification_trash.continuation import differences, listed
from image_classification_trash.errors import MissingExtraError, SettingsError
from image_classification_trash.files import (
    as_text,
    atomic_path,
    check_writable,
    is_stream,
    only_writer,
    target_of,
)
from image_classification_trash.inference.classifier import Prediction
from image_classification_trash.inference.images import PHOTO_SUFFIXES
from image_classification_trash.tables import csv_line

COLUMNS = ("path", "label", "probability", "decision", "waste_score", "prediction_set", "error")
_ROWS_A_GROUP = 10_000
Row = dict[str, Any]
"""A row of the table: text, a number, a list of labels, or None, by column."""


def row_of(prediction: Prediction, labels: Sequence[str]) -> Row:
    """Return a row: path, label, probability, decision, waste score, prediction set, error and one column per label."""
    error = None if prediction.error is None else as_text(prediction.error)
    answer = prediction.as_json() | {"path": as_text(prediction.path), "error": error}
    probabilities = {column_of(label): prediction.probabilities.get(label) for label in labels}
    return {column: answer[column] for column in COLUMNS} | probabilities


def column_of(label: str) -> str:
    """Return the column of a class; `p(NAME)` if another column has that name."""
    return f"p({label})" if label in COLUMNS else label


def rounded(row: Row) -> Row:
    """Return a row as tables hold it: numbers with six digits."""
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


class PredictionFile:
    """A table of predictions while it is written.

    Args:
        path: of the table.
        kind: csv, jsonl or parquet.
        model: identifies the model and settings; kept for runs that an earlier version began.
        labels: of the model.
        made_with: what the answers depend on, by name, as plain data; a run is not resumed with anything else.
        resume: continue a killed run.

    Raises:
        SettingsError: the run to resume used another model or other settings, which are listed; or `path` is a folder.
        BusyError: another process writes this table.
        MissingExtraError: `kind` is parquet, and pyarrow is not installed.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        model: str,
        labels: Sequence[str],
        resume: bool,
        made_with: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        if kind == "parquet":
            arrow_and_parquet()  # fail now, not after an hour of predictions
        self.path, self.kind, self.labels = path, kind, labels
        self._held = ExitStack()
        self.partial = self._reserve(path)
        self._header: Row = {"model": model, "labels": list(labels), "made_with": dict(made_with)}
        self.answered: list[str] = []
        self.errors = 0
        try:
            if resume and self.partial.exists():
                self._read_partial()
            self._file: TextIO = self.partial.open("a" if self.answered else "w", encoding="utf-8")
            if not self.answered:
                self._write(self._header)
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:
            self._file.close()
            if kind is None:
                with atomic_path(self.path) as temporary:
                    WRITERS[self.kind](temporary, self._rows(), self.labels)
                self.partial.unlink()

    def add(self, prediction: Prediction) -> None:
        """Append one answer, which is in the file when this returns."""
        self.errors += prediction.error is not None
        self._write(row_of(prediction, self.labels))

    def _reserve(self, path: Path) -> Path:
        """Lock the table against other writers; return the path of the partial file."""
        if is_stream(path):  # a pipe has no neighbours, and is not resumed
            return Path(self._held.enter_context(tempfile.TemporaryDirectory())) / "partial"
        path = target_of(path)
        if path.is_dir():
            raise SettingsError(f"{path} is a folder.", "Name a file for the table.")
        if path.suffix.lower() in PHOTO_SUFFIXES:  # such as `--csv *.jpg`
            raise SettingsError(
                f"{path} is named as a photo, and would be replaced by a table.", "Name a .csv file."
            )
        check_writable(path)
        self._held.enter_context(only_writer(path))
        return path.with_name(f"{path.name}.partial")

    def _write(self, row: Row) -> None:
        self._file.write(json.dumps(rounded(row), ensure_ascii=False) + "\n")
        self._file.flush()

    def _read_partial(self) -> None:
        """Read what is answered already, and cut off a line that was incomplete when the run was killed."""
        whole = 0
        with self.partial.open("rb") as file:
            for number, line in enumerate(file):
                row = _parse(line)
                if row is None:
                    break
                if number == 0:
                    check_header(self.partial, row, self._header)
                whole += len(line)
                if number:
                    self.answered.append(row["path"])
                    self.errors += row["error"] is not None
        with self.partial.open("r+b") as file:
            file.truncate(whole)

    def _rows(self) -> Iterator[Row]:
        with self.partial.open(encoding="utf-8") as file:
            next(file)
            yield from map(json.loads, file)


def check_header(partial: Path, before: Row, now: Row) -> None:
    """Raise a SettingsError, which lists what differs, if a partial file was not made as this run makes it."""
    changes = differences(before.get("made_with", {}), now["made_with"])
    if before.get("made_with"):
        found = f"{partial} was made with other data or settings: {listed(changes)}."
    else:  # by an earlier version
        changes = differences(before, {"model": now["model"], "labels": now["labels"]})
        found = f"{partial} was written with another model, engine or --max-pixels."
    if changes:
        raise SettingsError(found, f"Omit --resume to start again, or delete {partial}.")


def _write_csv(path: Path, rows: Iterator[Row], labels: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        columns = [*COLUMNS, *map(column_of, labels)]
        file.write(csv_line(columns))
        file.writelines(csv_line(_cell(row.get(name)) for name in columns) for row in rows)


def _cell(value: Any) -> Any:
    """Return a value for CSV: numbers with six digits, lists as text."""
    if isinstance(value, float):
        return f"{value:.6f}"
    return "; ".join(value) if isinstance(value, list) else value


def _write_jsonl(path: Path, rows: Iterator[Row], labels: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_parquet(
    sink: Path | BinaryIO,
    rows: Iterator[Row],
    labels: Sequence[str],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write rows as Parquet into a file, with `metadata` in its schema."""
    arrow, parquet = arrow_and_parquet()
    numbers = {"probability", "waste_score", *map(column_of, labels)}
    names = [*COLUMNS, *map(column_of, labels)]
    kinds = dict.fromkeys(numbers, arrow.float32()) | {"prediction_set": arrow.list_(arrow.string())}
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in names], dict(metadata) or None)
    with parquet.ParquetWriter(sink, schema) as writer:
        group: list[Row] = []
        for row in rows:
            group.append(row)
            if len(group) == _ROWS_A_GROUP:
                writer.write_table(arrow.Table.from_pylist(group, schema))
                group.clear()
        writer.write_table(arrow.Table.from_pylist(group, schema))


WRITERS: dict[str, Callable[[Path, Iterator[Row], Sequence[str]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": write_parquet,
}


def arrow_and_parquet() -> tuple[Any, Any]:
    """Import pyarrow and its Parquet module; raise a MissingExtraError where it is not installed."""
    try:
        import pyarrow  # noqa: PLC0415  large, and for this one format
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        hint = "Install it with: pip install pyarrow, or write the table with --csv or --jsonl."
        raise MissingExtraError("Parquet needs the library pyarrow, not installed here.", hint) from error
    return pyarrow, pyarrow.parquet


def _parse(line: bytes) -> Row | None:
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) else None

"""What the export's gate saw of each file: typed records, kept in a bundle's export/report.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from image_classification_trash.errors import BundleError
from image_classification_trash.inference.bundle import EXPORT, REPORT, Bundle, renamed


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an exported file is from the trained model.

    `largest_difference` of a probability is over all N photos; `turned_away` is the share of drawn backgrounds that are
    answered with `not waste`, None where there are none; everything else is over the M photos of the validation split.
    `latency_ms` is the median of single photos on one thread.
    """

    photos: int
    labelled: int
    largest_difference: float
    mean_difference: float
    top1_agreement: float
    accuracy: float
    accuracy_of_model: float
    macro_f1: float
    macro_f1_of_model: float
    ece: float
    ece_of_model: float
    moved_most: str
    latency_ms: float
    rejected: float | None = None
    rejected_of_model: float | None = None


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """One exported file.

    Attributes:
        format: onnx, saved_model or tflite.
        precision: of its weights.
        bytes: its size.
        problem: what it falls short of, in words; None if it is good.
        parity: how far it is from the trained model, by the way into it: `file`, or a signature's name.
        calibration_photos: of a file of integers: photos that its ranges come from.
        kept_in_float32: of a file of integers: layers that stayed in float32.
    """

    format: str
    precision: str
    bytes: int
    problem: str | None
    parity: Mapping[str, Parity]
    calibration_photos: int | None = None
    kept_in_float32: Sequence[str] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as report.json keeps it."""
        document = asdict(self)
        last = {name: document.pop(name) for name in ("problem", "parity")}
        return {**{name: value for name, value in document.items() if value is not None}, **last}


@dataclass(frozen=True, slots=True)
class ExportConditions:
    """The machine and the libraries' versions, what the files were run on, and the data set's fingerprint."""

    machine: str
    versions: Mapping[str, str]
    photos: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The conditions of the last export, and every file by its name."""

    conditions: ExportConditions
    files: Mapping[str, ExportRecord]

    def as_json(self) -> dict[str, Any]:
        """Return it as report.json keeps it."""
        files = {name: record.as_json() for name, record in self.files.items()}
        return {"conditions": asdict(self.conditions), "files": files}


_REPORT_FILE = TypeAdapter(ExportReport)


def read_export_report(bundle: Bundle) -> ExportReport | None:
    """What the gate saw of a bundle's exported files; None before the first export.

    Raises:
        BundleError: another program wrote the report.
    """
    report = bundle.export_report()
    if not report:
        return None
    try:
        return _REPORT_FILE.validate_python(renamed(report))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        found = f"{bundle.path / EXPORT / REPORT} is not the report of an export: {place}."
        hint = "Use the version of the program that wrote it, or delete it and export again."
        raise BundleError(found, hint) from error


def exported_files(bundle: Bundle) -> Mapping[str, ExportRecord]:
    """The records of a bundle's exported files, by name; raises as `read_export_report` does."""
    report = read_export_report(bundle)
    return report.files if report else {}

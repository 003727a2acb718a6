"""Records of the parity check of exported files, stored in a bundle's export/report.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from image_classification_trash.errors import BundleError
from image_classification_trash.inference.bundle import EXPORT, REPORT, Bundle, renamed


@dataclass(frozen=True, slots=True)
class Parity:
    """The difference between an exported file and the trained model.

    `largest_difference` is the largest difference of a probability over all N photos. `rejected` is the share of drawn
    backgrounds that are answered `not waste`; None without a rejection head. All other figures are measured on the M
    photos of the validation split. `latency_ms` is the median for single photos on one thread, in milliseconds.
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
        format: onnx, saved_model, tflite or openvino.
        precision: of its weights.
        bytes: file size.
        problem: the check that it fails, in words; None if it passes.
        parity: difference from the trained model by entry point: `file`, or the name of a signature.
        calibration_photos: for int8 files, the number of photos that set the quantisation ranges.
        kept_in_float32: for int8 files, the layers that stay in float32.
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
    """The machine, the library versions, the photos that the files were run on, and the data set's fingerprint."""

    machine: str
    versions: Mapping[str, str]
    photos: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The conditions of the last export, and the exported files by name."""

    conditions: ExportConditions
    files: Mapping[str, ExportRecord]

    def as_json(self) -> dict[str, Any]:
        """Return it as report.json keeps it."""
        files = {name: record.as_json() for name, record in self.files.items()}
        return {"conditions": asdict(self.conditions), "files": files}


_REPORT_FILE = TypeAdapter(ExportReport)


def read_export_report(bundle: Bundle) -> ExportReport | None:
    """Read a bundle's export report; None before the first export.

    Raises:
        BundleError: the report has another format.
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
    """Return the records of a bundle's exported files by name; raises as `read_export_report` does."""
    report = read_export_report(bundle)
    return report.files if report else {}

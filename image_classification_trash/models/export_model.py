"""Export a trained bundle to ONNX, TFLite, SavedModel and OpenVINO, and compare each file with the trained model before keeping it.

    trash-classifier export models/trashnet --format tflite --quantize int8

Every file takes raw uint8 photos (N, H, W, 3), returns calibrated probabilities in the order of labels.txt, and
contains its own description. Calibration photos of integer files come from the training split, the photos of the gate from
the validation split; test photos are not used.
"""

import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from image_classification_trash.config.base import FormatName, PrecisionName
from image_classification_trash.config.models import ExportSettings
from image_classification_trash.data.manifest import Manifest, read_manifest
from image_classification_trash.errors import (
    DatasetError,
    ExportError,
    MissingExtraError,
    SettingsError,
    install_hint,
)
from image_classification_trash.evaluation.export_report import (
    ExportConditions,
    ExportRecord,
    ExportReport,
    Parity,
    exported_files,
)
from image_classification_trash.evaluation.model_card import model_card
from image_classification_trash.evaluation.result import read_metrics
from image_classification_trash.export.parity import (
    GatePhotos,
    compare,
    latency,
    odd_pictures,
    run_all,
    shortfall,
)
from image_classification_trash.features.build_features import PixelSettings, SplitCaches
from image_classification_trash.features.class_means import FILE as CLASS_MEANS
from image_classification_trash.features.synthesis.backgrounds import (
    HELD_OUT,
    TRAINING,
    Rule,
    draw_backgrounds,
)
from image_classification_trash.files import only_writer
from image_classification_trash.inference.bundle import (
    CARD,
    EXPORT,
    LABELS,
    REPORT,
    Bundle,
    add_files,
    describe,
    read_bundle,
)
from image_classification_trash.inference.images import Pixels, read_photo
from image_classification_trash.inference.model_store import chosen_bundle
from image_classification_trash.inference.runtimes import DESCRIPTION, Probabilities, Runtime, open_file
from image_classification_trash.networks.network import TrashNetwork, load_network
from image_classification_trash.provenance import machine, versions_of
from image_classification_trash.show import Result, Shown, Table

if TYPE_CHECKING:
    from image_classification_trash.export.torch_to_tensorflow import LoweredNetwork

LIBRARIES = ("torch", "tensorflow-cpu", "onnx", "onnxruntime", "ai-edge-litert")
CALIBRATION_PHOTOS = 200
BACKGROUNDS = 20
"""Number of drawn backgrounds without waste, for a model with a rejection head: to calibrate on, and of another family at the gate."""
SAVED_MODEL = "saved_model/1"
BYTES = "serving_bytes"
KEPT_LAYERS = (0, 3, 6, 12, 18)
"""Numbers of first layers to keep in float32, in the order of trial: rounding does the most harm there."""


@dataclass(frozen=True)
class Target:
    """One file to export."""

    format: FormatName
    precision: PrecisionName
    name: str


TARGETS = (
    Target("onnx", "float32", "model.onnx"),
    Target("onnx", "int8", "model_int8.onnx"),
    Target("saved_model", "float32", SAVED_MODEL),
    Target("tflite", "float32", "model.tflite"),
    Target("tflite", "fp16", "model_fp16.tflite"),
    Target("tflite", "dynamic", "model_dynamic.tflite"),
    Target("tflite", "int8", "model_int8.tflite"),
    Target("openvino", "float32", "openvino"),
)


NEEDED: Mapping[FormatName, Sequence[str]] = {
    "onnx": ("onnx", "onnxruntime"),
    "saved_model": ("tensorflow",),
    "tflite": ("tensorflow",),
    "openvino": ("onnx", "onnxscript", "openvino"),
}
"""Modules that each format needs besides those of training."""


@dataclass(frozen=True)
class Exported(Result):
    """The files of an export.

    Attributes:
        folder: the bundle's export folder.
        records: the gate's measurements by file name, as in report.json.
    """

    ascii_json = True
    folder: Path
    records: Mapping[str, ExportRecord]

    def for_people(self) -> Iterator[Shown]:
        """Yield a row per file and signature, and the folder."""
        header = ["file", "size", "largest difference", "same top class", "accuracy", "one photo", "gate"]
        rows = [
            [
                name if way == "file" else f"{name} {way}",
                f"{record.bytes / 1e6:.1f} MB",
                f"{parity.largest_difference:.1g}",
                f"{parity.top1_agreement:.1%}",
                f"{parity.accuracy:.1%} (was {parity.accuracy_of_model:.1%})",
                f"{parity.latency_ms:.1f} ms",
                "good" if record.problem is None else f"kept despite: {record.problem}",
            ]
            for name, record in self.records.items()
            for way, parity in record.parity.items()
        ]
        yield Table(header, rows)
        yield f"in {self.folder}, with report.json"

    def as_json(self) -> dict[str, Any]:
        """Return the gate's measurements of each file."""
        return {name: record.as_json() for name, record in self.records.items()}


def export(settings: ExportSettings) -> Exported:
    """Export the files that the settings name, verify each, and add them to the bundle.

    Raises:
        SettingsError: a chosen precision exists in none of the chosen formats.
        BundleError: not a bundle, or damaged.
        DatasetError: the data set that the bundle was trained on is not prepared here.
        ExportError: the network cannot be translated, or a file deviates too much from it; the bundle is unchanged.
        MissingExtraError: the export extra is not installed.
        BusyError: a training, evaluation or export of the same model is running.
    """
    targets = chosen_targets(settings)
    _check_installed(targets)
    path = chosen_bundle(settings.bundle, settings.models_dir)
    with only_writer(path), tempfile.TemporaryDirectory(prefix="trash-export-") as folder:
        workshop = Workshop(read_bundle(path), settings)
        records, made = {}, Path(folder) / EXPORT
        for target in (bar := tqdm(targets, desc="export", unit="file")):
            bar.set_postfix_str(target.name)
            records[target.name] = _make(workshop, target, made, settings.allow_drift)
        gate, data = workshop.gate, workshop.bundle.config.data
        odd = f"{len(gate.pixels) - len(gate.y_true) - gate.backgrounds} odd pictures"
        drawn = f" and {gate.backgrounds} drawn backgrounds" if gate.backgrounds else ""
        conditions = ExportConditions(
            machine=machine(),
            versions=versions_of([*LIBRARIES, *(t.format for t in targets if t.format == "openvino")]),
            photos=f"validation split of {data['name']}, {odd}{drawn}",
            fingerprint=data["fingerprint"],
        )
        report = ExportReport(conditions, {**workshop.exported, **records})
        (made / REPORT).write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
        card = model_card(workshop.bundle.config, workshop.measured, report)
        add_files(workshop.bundle, {EXPORT: made}, {CARD: card})
    return Exported(workshop.bundle.path / EXPORT, records)


def chosen_targets(settings: ExportSettings) -> list[Target]:
    """List the files to export: float32 of every chosen format, and the chosen smaller precisions that it has.

    Raises:
        SettingsError: a chosen precision exists in none of the chosen formats.
    """
    targets = [
        target
        for target in TARGETS
        if target.format in settings.format and target.precision in ("float32", *settings.quantize)
    ]
    idle = set(settings.quantize) - {target.precision for target in targets}
    if idle and "quantize" in settings.model_fields_set:
        found = f"{', '.join(sorted(idle))} cannot be made in the formats {', '.join(settings.format)}."
        raise SettingsError(found, "fp16 and dynamic exist in TFLite; int8 exists in TFLite and ONNX.")
    return targets


def _check_installed(targets: Sequence[Target]) -> None:
    formats = {target.format for target in targets}
    needed = {library for format in formats for library in NEEDED[format]}
    missing = sorted(name for name in needed if importlib.util.find_spec(name) is None)
    if missing:
        found = f"Exporting needs {', '.join(missing)}, not installed here."
        extras = "train,export,openvino" if "openvino" in formats else "train,export"
        raise MissingExtraError(found, install_hint(extras))


@dataclass(frozen=True)
class Made:
    """How a file was written; for an integer file, the number of calibration photos and the layers kept in float32."""

    calibration_photos: int | None = None
    kept_in_float32: Sequence[str] | None = None


class Workshop:
    """The inputs that all files of one export share, and the ways to write each format.

    Raises:
        DatasetError: the data set that the bundle was trained on is not prepared here, or was prepared differently.
    """

    def __init__(self, bundle: Bundle, settings: ExportSettings) -> None:
        self.bundle = bundle
        self.measured, self.exported = read_metrics(bundle), exported_files(bundle)
        self.network: TrashNetwork = load_network(bundle)
        config = bundle.config
        folder = settings.processed_dir / config.data["name"]
        manifest = read_manifest(folder)
        if manifest.fingerprint != config.data["fingerprint"]:
            hint = (
                f"Export where it was trained, or train again: trash-classifier train {config.data['name']}"
            )
            raise DatasetError(f"{folder} is not what {bundle.path} was trained on.", hint)
        self.gate = _gate_photos(bundle, manifest, settings.interim_dir)
        self.calibration = _calibration_photos(bundle, manifest)
        with torch.inference_mode():
            self.reference = run_all(
                lambda photos: np.asarray(self.network(torch.from_numpy(photos)).numpy()),
                self.gate.pixels,
                "trained model",
            )
        mean, std = (buffer.flatten().tolist() for buffer in (self.network.mean, self.network.std))
        facts = {"normalisation": {"where": "inside the graph", "mean": mean, "std": std}}
        self.texts = {
            LABELS: "".join(f"{label}\n" for label in config.labels),
            DESCRIPTION: describe(config, bundle.metrics(), facts),
        }
        means = bundle.path / CLASS_MEANS
        self.with_means = self.texts | ({CLASS_MEANS: means.read_bytes()} if means.is_file() else {})
        self._onnx: Any = None
        self._lowered: LoweredNetwork | None = None

    def onnx_model(self) -> Any:
        """Return the float32 ONNX model, exported on the first call."""
        from image_classification_trash.export import to_onnx as export_onnx  # noqa: PLC0415  the export extra

        self._onnx = self._onnx or export_onnx.to_onnx(self.network, self.bundle.config.input_size)
        return self._onnx

    def lowered(self) -> "LoweredNetwork":
        """Return the network in TensorFlow, translated on the first call."""
        from image_classification_trash.export.torch_to_tensorflow import LoweredNetwork  # noqa: PLC0415

        if self._lowered is None:
            self._lowered = LoweredNetwork(trace(self.network, self.bundle.config.input_size))
        return self._lowered

    def onnx_files(self, target: Target, path: Path) -> Iterator[Made]:
        """Write one ONNX file; for int8, keep more layers in float32 with each further variant."""
        from image_classification_trash.export import to_onnx as export_onnx  # noqa: PLC0415  the export extra

        model = self.onnx_model()
        if target.precision == "float32":
            path.write_bytes(export_onnx.with_metadata(model, self.texts))
            yield Made()
            return
        layers = export_onnx.layers(model)
        head = export_onnx.head(model) if self.bundle.config.negative_label else []
        for count in KEPT_LAYERS:
            kept = layers[:count] + head
            quantised = export_onnx.quantise(model, self.calibration, kept)
            path.write_bytes(export_onnx.with_metadata(quantised, self.texts))
            yield Made(len(self.calibration), kept)

    def tflite_files(self, target: Target, path: Path) -> Iterator[Made]:
        """Write one TFLite file; for int8, keep more layers in float32 with each further variant."""
        from image_classification_trash.export import to_tensorflow as export_tensorflow  # noqa: PLC0415
        from image_classification_trash.export.tflite_metadata import with_metadata  # noqa: PLC0415
        from image_classification_trash.export.tflite_writer import with_half_matrices  # noqa: PLC0415

        network, config, photos = self.lowered(), self.bundle.config, self.calibration
        if target.precision != "int8":
            model = export_tensorflow.convert_to_tflite(network, config, target.precision)
            path.write_bytes(with_metadata(model, config, self.with_means))
            yield Made()
            return
        for model, layers in export_tensorflow.int8_tflites(network, config, photos, KEPT_LAYERS):
            path.write_bytes(with_metadata(with_half_matrices(model), config, self.with_means))
            yield Made(len(photos), layers)

    def saved_model_files(self, target: Target, path: Path) -> Iterator[Made]:
        """Write the SavedModel, which exists in one variant."""
        from image_classification_trash.export.to_tensorflow import write_saved_model  # noqa: PLC0415

        sample = self.gate.pixels[0]
        write_saved_model(self.lowered(), self.bundle.config, path, self.texts, sample)
        yield Made()

    def openvino_files(self, target: Target, path: Path) -> Iterator[Made]:
        """Write the graph and weights of OpenVINO, which exist in one variant."""
        from image_classification_trash.export.to_openvino import write_openvino  # noqa: PLC0415  the openvino extra

        path.mkdir()
        write_openvino(self.onnx_model(), path, self.texts)
        yield Made()


def trace(network: TrashNetwork, size: tuple[int, int]) -> torch.export.ExportedProgram:
    """Trace the network with torch.export, with a dynamic batch size."""
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    traced = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    program: torch.export.ExportedProgram = traced.run_decompositions({})
    return program


def _make(workshop: Workshop, target: Target, folder: Path, allow_drift: bool) -> ExportRecord:
    """Write one file below `folder` and compare it with the trained model; returns the record of the comparison.

    Raises:
        ExportError: it deviates too much from the trained model in every variant that was tried.
    """
    path = folder / target.name
    path.parent.mkdir(parents=True, exist_ok=True)
    record = None
    for made in MAKERS[target.format](workshop, target, path):
        parities = dict(_measure(workshop, target, path))
        problem = None
        for way, parity in parities.items():
            # Pixels decoded in the graph may differ from Pillow's by 1, so float32's tolerance does not apply to them.
            short = shortfall(parity, "fp16" if way == BYTES else target.precision)
            if short is not None:
                problem = f"{way}: {short}; the probability of {parity.moved_most!r} moved most"
                break
        files = path.rglob("*") if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files if file.is_file())
        record = ExportRecord(target.format, target.precision, size, problem, parities, **vars(made))
        if problem is None:
            return record
    assert record is not None, "every maker writes its file at least once"
    if not allow_drift:
        found = f"{target.name} is too far from the trained model: {record.problem}. Nothing was written."
        raise ExportError(
            found, "Train longer or with other settings, or accept it as it is with --allow-drift."
        )
    return record


MAKERS: dict[str, Callable[[Workshop, Target, Path], Iterator[Made]]] = {
    "onnx": Workshop.onnx_files,
    "saved_model": Workshop.saved_model_files,
    "tflite": Workshop.tflite_files,
    "openvino": Workshop.openvino_files,
}
"""By format: writes its file and yields how; if the gate rejects it, the next variant is requested."""


def _measure(workshop: Workshop, target: Target, path: Path) -> Iterator[tuple[str, Parity]]:
    """Yield each signature of a file and how its answers in its own engine compare with the trained model's."""
    gate, config = workshop.gate, workshop.bundle.config
    labels = config.labels

    def against_model(answers: Probabilities, latency_ms: float) -> Parity:
        return compare(
            workshop.reference,
            answers,
            gate.y_true,
            labels,
            latency_ms,
            gate.backgrounds,
            config.negative_threshold,
        )

    if target.format != "saved_model":
        run: Runtime
        if target.format == "openvino":
            from image_classification_trash.export.to_openvino import OpenVinoRuntime  # noqa: PLC0415

            run = OpenVinoRuntime(path)
        else:
            _, run = open_file(path)
        answers = run_all(run, gate.pixels, target.name)
        yield "file", against_model(answers, latency(run, gate.pixels[:1]))
        return
    from image_classification_trash.export.to_tensorflow import DEFAULT, SavedModelRuntime  # noqa: PLC0415

    model = SavedModelRuntime(path)
    answers = run_all(model, gate.pixels, target.name)
    yield DEFAULT, against_model(answers, latency(model, gate.pixels[:1]))
    known = len(gate.y_true)
    encoded = [file.read_bytes() for file in gate.files]
    answers = np.concatenate([model.run_bytes(encoded[i : i + 16]) for i in range(0, known, 16)])
    time = latency(lambda _: model.run_bytes(encoded[:1]), gate.pixels[:1])
    yield BYTES, compare(workshop.reference[:known], answers, gate.y_true, labels, time)


def _gate_photos(bundle: Bundle, manifest: Manifest, interim: Path) -> GatePhotos:
    config = bundle.config
    caches = SplitCaches(manifest, PixelSettings(config.input_size, config.resize_mode), interim)
    backgrounds = _backgrounds(bundle, HELD_OUT)
    together = np.concatenate([caches.pixels("val"), odd_pictures(config.input_size), *backgrounds])
    files = tuple(manifest.path_of(photo) for photo in manifest.photos_of("val"))
    return GatePhotos(together, caches.y_true("val"), files, sum(map(len, backgrounds)))


def _backgrounds(bundle: Bundle, family: Sequence[Rule]) -> list[Pixels]:
    """Draw backgrounds without waste for a model with a rejection head; none for others."""
    config = bundle.config
    return [draw_backgrounds(family, BACKGROUNDS, config.input_size, seed=0)] if config.negative_label else []


def _calibration_photos(bundle: Bundle, manifest: Manifest) -> Pixels:
    """Read training photos (N, H, W, 3), shuffled and without augmentation; with backgrounds for a model with a rejection head."""
    photos = manifest.photos_of("train")
    order = np.random.default_rng(0).permutation(len(photos))[:CALIBRATION_PHOTOS]
    config = bundle.config
    read = [read_photo(manifest.path_of(photos[i]), config.input_size, config.resize_mode) for i in order]
    return np.concatenate([np.stack(read), *_backgrounds(bundle, TRAINING)])

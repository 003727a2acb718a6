"""A trained bundle as ONNX, TFLite and SavedModel files, each proven equal to the trained model before it is kept.

    trash-classifier export models/trashnet --format tflite --quantize int8

Every file takes raw uint8 photos (N, H, W, 3), returns calibrated probabilities in the order of labels.txt, and
carries its own description. Calibration photos of integer files come from the training split, the gate's photos from
the validation split; test photos are not touched.
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
from image_classification_trash.errors import DatasetError, ExportError, MissingExtraError, SettingsError
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
from image_classification_trash.features.synthesis.backgrounds import (
    HELD_OUT,
    TRAINING,
    Rule,
    draw_backgrounds,
)
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
from image_classification_trash.inference.runtimes import DESCRIPTION, Probabilities, open_file
from image_classification_trash.networks.network import TrashNetwork, load_network
from image_classification_trash.provenance import machine, versions_of
from image_classification_trash.show import Result, Shown, Table

if TYPE_CHECKING:
    from image_classification_trash.export.torch_to_tensorflow import LoweredNetwork

LIBRARIES = ("torch", "tensorflow-cpu", "onnx", "onnxruntime", "ai-edge-litert")
CALIBRATION_PHOTOS = 200
BACKGROUNDS = 20
"""Drawn without waste, for a model that knows of it: these many to calibrate on, and as many of another family at the gate."""
SAVED_MODEL = "saved_model/1"
BYTES = "serving_bytes"
KEPT_LAYERS = (0, 3, 6, 12, 18)
"""How many of the first layers stay in float32, in the order in which it is tried: rounding there does most harm."""


@dataclass(frozen=True)
class Target:
    """One file to make."""

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
)


@dataclass(frozen=True)
class Exported(Result):
    """What an export made.

    Attributes:
        folder: the bundle's export folder.
        records: what the gate saw, by file name, as in report.json.
    """

    ascii_json = True
    folder: Path
    records: Mapping[str, ExportRecord]

    def for_people(self) -> Iterator[Shown]:
        """Yield a row a file and way into it, and where the files are."""
        header = ["file", "size", "largest difference", "same top class", "accuracy", "one photo", "gate"]
        rows = [
            [
                name if way == "file" else f"{name} {way}",
                f"{record.bytes / 1e6:.1f} MB",
                f"{parity.largest_difference:.1g}",
                f"{parity.top1_agreement:.1%}",
                f"{parity.accuracy:.1%} (was {parity.accuracy_of_model:.1%})",
                f"{parity.latency_ms:.1f} ms",
                "good" if record.problem is None else f"kept all the same: {record.problem}",
            ]
            for name, record in self.records.items()
            for way, parity in record.parity.items()
        ]
        yield Table(header, rows)
        yield f"in {self.folder}, with report.json"

    def as_json(self) -> dict[str, Any]:
        """Return what the gate saw of each file."""
        return {name: record.as_json() for name, record in self.records.items()}


def export(settings: ExportSettings) -> Exported:
    """Make the files that the settings ask for, verify each, and put them into the bundle.

    Raises:
        SettingsError: no chosen format comes in a chosen precision.
        BundleError: not a bundle, or damaged.
        DatasetError: the data set that the bundle learned from is not prepared here.
        ExportError: the network cannot be translated, or a file is too far from it; the bundle stays as it was.
        MissingExtraError: the export extra is not installed.
    """
    targets = chosen_targets(settings)
    _check_installed(targets)
    workshop = Workshop(read_bundle(chosen_bundle(settings.bundle, settings.models_dir)), settings)
    with tempfile.TemporaryDirectory(prefix="trash-export-") as folder:
        records, made = {}, Path(folder) / EXPORT
        for target in (bar := tqdm(targets, desc="export", unit="file")):
            bar.set_postfix_str(target.name)
            records[target.name] = _make(workshop, target, made, settings.allow_drift)
        return _keep(workshop, made, records)


def chosen_targets(settings: ExportSettings) -> list[Target]:
    """The files to make: float32 of every chosen format, and the chosen smaller precisions it comes in.

    Raises:
        SettingsError: a chosen precision comes in none of the chosen formats.
    """
    targets = [
        target
        for target in TARGETS
        if target.format in settings.format and target.precision in ("float32", *settings.quantize)
    ]
    idle = set(settings.quantize) - {target.precision for target in targets}
    if idle and "quantize" in settings.model_fields_set:
        found = f"{', '.join(sorted(idle))} cannot be made in the formats {', '.join(settings.format)}."
        raise SettingsError(found, "fp16 and dynamic are TFLite's; int8 is TFLite's and ONNX's.")
    return targets


def _check_installed(targets: Sequence[Target]) -> None:
    needed = {"onnx", "onnxruntime"} if any(target.format == "onnx" for target in targets) else set()
    if any(target.format != "onnx" for target in targets):
        needed.add("tensorflow")
    missing = sorted(name for name in needed if importlib.util.find_spec(name) is None)
    if missing:
        hint = 'Install them with: pip install "image-classification-trash[export]"'
        raise MissingExtraError(f"Exporting needs {', '.join(missing)}, not installed here.", hint)


class Workshop:
    """What all files of one export share, made when it is first asked for."""

    def __init__(self, bundle: Bundle, settings: ExportSettings) -> None:
        self.bundle = bundle
        self.measured, self.exported = read_metrics(bundle), exported_files(bundle)
        self.network: TrashNetwork = load_network(bundle)
        manifest = _manifest_of(bundle, settings)
        self.gate = _gate_photos(bundle, manifest, settings.interim_dir)
        self.calibration = _calibration_photos(bundle, manifest)
        self.reference = run_all(self._run_torch, self.gate.pixels, "trained model")
        self.texts = {
            LABELS: "".join(f"{label}\n" for label in bundle.config.labels),
            DESCRIPTION: describe(bundle.config, bundle.metrics(), self._facts()),
        }
        self._onnx: Any = None
        self._lowered: LoweredNetwork | None = None

    def onnx_model(self) -> Any:
        """The float32 ONNX model."""
        from image_classification_trash.export import to_onnx as export_onnx  # noqa: PLC0415  the export extra

        self._onnx = self._onnx or export_onnx.to_onnx(self.network, self.bundle.config.input_size)
        return self._onnx

    def lowered(self) -> "LoweredNetwork":
        """The network in TensorFlow."""
        from image_classification_trash.export.torch_to_tensorflow import LoweredNetwork  # noqa: PLC0415

        if self._lowered is None:
            self._lowered = LoweredNetwork(trace(self.network, self.bundle.config.input_size))
        return self._lowered

    def _run_torch(self, photos: Pixels) -> Probabilities:
        with torch.inference_mode():
            return np.asarray(self.network(torch.from_numpy(photos)).numpy())

    def _facts(self) -> dict[str, Any]:
        mean, std = (buffer.flatten().tolist() for buffer in (self.network.mean, self.network.std))
        return {"normalisation": {"where": "inside the graph", "mean": mean, "std": std}}


def trace(network: TrashNetwork, size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The network as torch.export writes it down, with a dynamic batch."""
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    traced = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    program: torch.export.ExportedProgram = traced.run_decompositions({})
    return program


def _make(workshop: Workshop, target: Target, folder: Path, allow_drift: bool) -> ExportRecord:
    """Make one file below `folder` and hold it against the trained model; returns the record of that.

    Raises:
        ExportError: it is too far from the trained model, whatever was tried.
    """
    path = folder / target.name
    path.parent.mkdir(parents=True, exist_ok=True)
    record = None
    for made in MAKERS[target.format](workshop, target, path):
        parities = dict(_measure(workshop, target, path))
        problem = _problem(target, parities)
        record = ExportRecord(target.format, target.precision, _size(path), problem, parities, **vars(made))
        if problem is None:
            return record
    assert record is not None, "every maker makes its file at least once"
    if not allow_drift:
        found = f"{target.name} is too far from the trained model: {record.problem}. Nothing was written."
        raise ExportError(
            found, "Train it longer or with other settings, or take it as it is with --allow-drift."
        )
    return record


def _problem(target: Target, parities: Mapping[str, Parity]) -> str | None:
    for way, parity in parities.items():
        # Pixels that were decoded in the graph may be 1 away from Pillow's: no reason to expect float32's equality.
        short = shortfall(parity, "fp16" if way == BYTES else target.precision)
        if short is not None:
            return f"{way}: {short}; the probability of {parity.moved_most!r} moved most"
    return None


@dataclass(frozen=True)
class Made:
    """A file was written; of one of integers, from how many photos and which layers stayed in float32."""

    calibration_photos: int | None = None
    kept_in_float32: Sequence[str] | None = None


def _make_onnx(workshop: Workshop, target: Target, path: Path) -> Iterator[Made]:
    from image_classification_trash.export import to_onnx as export_onnx  # noqa: PLC0415  the export extra

    model = workshop.onnx_model()
    if target.precision == "float32":
        path.write_bytes(export_onnx.with_metadata(model, workshop.texts))
        yield Made()
        return
    layers = export_onnx.layers(model)
    head = export_onnx.head(model) if workshop.bundle.config.negative_label else []
    for count in KEPT_LAYERS:
        kept = layers[:count] + head
        quantised = export_onnx.quantise(model, workshop.calibration, kept)
        path.write_bytes(export_onnx.with_metadata(quantised, workshop.texts))
        yield Made(len(workshop.calibration), kept)


def _make_tflite(workshop: Workshop, target: Target, path: Path) -> Iterator[Made]:
    from image_classification_trash.export import to_tensorflow as export_tensorflow  # noqa: PLC0415
    from image_classification_trash.export.tflite_metadata import with_metadata  # noqa: PLC0415

    network, config, photos = workshop.lowered(), workshop.bundle.config, workshop.calibration
    if target.precision != "int8":
        model = export_tensorflow.convert_to_tflite(network, config, target.precision)
        path.write_bytes(with_metadata(model, config, workshop.texts))
        yield Made()
        return
    for model, layers in export_tensorflow.int8_tflites(network, config, photos, KEPT_LAYERS):
        path.write_bytes(with_metadata(model, config, workshop.texts))
        yield Made(len(photos), layers)


def _make_saved_model(workshop: Workshop, target: Target, path: Path) -> Iterator[Made]:
    from image_classification_trash.export.to_tensorflow import write_saved_model  # noqa: PLC0415

    sample = workshop.gate.pixels[0]
    write_saved_model(workshop.lowered(), workshop.bundle.config, path, workshop.texts, sample)
    yield Made()


MAKERS: dict[str, Callable[[Workshop, Target, Path], Iterator[Made]]] = {
    "onnx": _make_onnx,
    "saved_model": _make_saved_model,
    "tflite": _make_tflite,
}
"""Each writes its file and yields how; if the gate refuses it and there is another way, it is asked again."""


def _measure(workshop: Workshop, target: Target, path: Path) -> Iterator[tuple[str, Parity]]:
    """What the file itself answers in its own engine, by the ways there are into it."""
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


def _keep(workshop: Workshop, folder: Path, records: Mapping[str, ExportRecord]) -> Exported:
    """Put the files into the bundle, with the report and the card: all of it, or none."""
    bundle = workshop.bundle
    conditions = ExportConditions(
        machine=machine(),
        versions=versions_of(LIBRARIES),
        photos=f"validation split of {bundle.config.data['name']}, {_made_up(workshop.gate)}",
        fingerprint=bundle.config.data["fingerprint"],
    )
    report = ExportReport(conditions, {**workshop.exported, **records})
    (folder / REPORT).write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    card = model_card(bundle.config, workshop.measured, report)
    add_files(bundle, {EXPORT: folder}, {CARD: card})
    return Exported(bundle.path / EXPORT, records)


def _manifest_of(bundle: Bundle, settings: ExportSettings) -> Manifest:
    data = bundle.config.data
    manifest = read_manifest(settings.processed_dir / data["name"])
    if manifest.fingerprint != data["fingerprint"]:
        found = f"{settings.processed_dir / data['name']} is not what {bundle.path} learned from."
        raise DatasetError(
            found, f"Export where it was trained, or train again: trash-classifier train {data['name']}"
        )
    return manifest


def _gate_photos(bundle: Bundle, manifest: Manifest, interim: Path) -> GatePhotos:
    config = bundle.config
    caches = SplitCaches(manifest, PixelSettings(config.input_size, config.resize_mode), interim)
    backgrounds = _backgrounds(bundle, HELD_OUT)
    together = np.concatenate([caches.pixels("val"), odd_pictures(config.input_size), *backgrounds])
    files = tuple(manifest.path_of(photo) for photo in manifest.photos_of("val"))
    return GatePhotos(together, caches.y_true("val"), files, sum(map(len, backgrounds)))


def _made_up(gate: GatePhotos) -> str:
    odd = f"{len(gate.pixels) - len(gate.y_true) - gate.backgrounds} odd pictures"
    return f"{odd} and {gate.backgrounds} drawn backgrounds" if gate.backgrounds else odd


def _backgrounds(bundle: Bundle, family: Sequence[Rule]) -> list[Pixels]:
    """Drawn backgrounds without waste, for a model that knows of it; else none."""
    config = bundle.config
    return [draw_backgrounds(family, BACKGROUNDS, config.input_size, seed=0)] if config.negative_label else []


def _calibration_photos(bundle: Bundle, manifest: Manifest) -> Pixels:
    """Training photos (N, H, W, 3), mixed and without augmentation; backgrounds without waste where the model knows of it."""
    photos = manifest.photos_of("train")
    order = np.random.default_rng(0).permutation(len(photos))[:CALIBRATION_PHOTOS]
    config = bundle.config
    read = [read_photo(manifest.path_of(photos[i]), config.input_size, config.resize_mode) for i in order]
    return np.concatenate([np.stack(read), *_backgrounds(bundle, TRAINING)])


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())

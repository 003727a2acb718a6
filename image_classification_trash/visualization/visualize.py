"""Draw pictures and write reports: `explore` of a data set, `report_evaluation` of an evaluation.

python -m image_classification_trash.visualization.visualize sample
trash-classifier explore trashnet
"""

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from image_classification_trash.config.data import ExploreSettings
from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.config.training import AugmentationSettings
from image_classification_trash.data.inspection import PROBLEM_COLUMNS
from image_classification_trash.data.make_dataset import NEAR_DUPLICATES, PROBLEMS
from image_classification_trash.data.manifest import Manifest, read_manifest
from image_classification_trash.errors import MissingExtraError, TrainingError
from image_classification_trash.evaluation.formatting import confusion_table, summary, with_interval
from image_classification_trash.evaluation.metrics import risk_coverage
from image_classification_trash.evaluation.result import Evaluation, Metrics
from image_classification_trash.evaluation.verdict import verdict
from image_classification_trash.features.augmentation import Augmentation
from image_classification_trash.features.build_features import near_duplicate_embedder
from image_classification_trash.files import write_bytes
from image_classification_trash.inference.images import Pixels, read_photo
from image_classification_trash.models.evaluate_model import evaluate
from image_classification_trash.networks.network import load_network
from image_classification_trash.show import GOOD, SOME_UNREADABLE, Result, Shown, Table
from image_classification_trash.tables import read_table, table_file
from image_classification_trash.training.checkpoints import HISTORY
from image_classification_trash.visualization import plots
from image_classification_trash.visualization.gradcam import grad_cam
from image_classification_trash.visualization.report import Picture, Section, write_report

THUMBNAIL = (96, 128)
PER_CLASS, PAIRS, PREVIEWS, WORST = 16, 8, 4, 8
MOST_ROWS = 500
"""Largest number of left-out files, and of classes, that a page lists."""
MOST_POINTS = 5_000
"""Largest number of photos on the map of embeddings; the time of t-SNE grows faster than their number."""


@dataclass(frozen=True)
class Explored(Result):
    """The path of a data set's report."""

    page: Path

    def for_people(self) -> Iterator[Shown]:
        """Yield the path of the report."""
        yield str(self.page)

    def as_json(self) -> dict[str, str]:
        """Return the path of the report."""
        return {"page": str(self.page)}


@dataclass(frozen=True)
class EvaluationReport(Result):
    """An evaluation and the path of its report."""

    evaluation: Evaluation
    page: Path

    @property
    def metrics(self) -> Metrics:
        """Return the figures of the evaluation."""
        return self.evaluation.metrics

    @property
    def verdict(self) -> str:
        """Return the verdict in plain words, a paragraph that starts with `Verdict:`."""
        return verdict(self.evaluation.bundle.config, self.metrics)

    def for_people(self) -> Iterator[Shown]:
        """Yield the model, the main metrics, the confusion matrix, the path of the report and the verdict."""
        yield f"model: {self.evaluation.bundle.config.title}"
        yield Table(["measure", "value (95% interval)"], summary(self.evaluation))
        if confusion := confusion_table(self.metrics):
            yield confusion
        yield f"report: {self.page}"
        yield self.verdict

    def as_json(self) -> dict[str, Any]:
        """Return all metrics, as in metrics.json."""
        return self.evaluation.metrics.as_json()

    @property
    def exit_status(self) -> int:
        """Return `SOME_UNREADABLE` if any photo could not be read, else `GOOD`."""
        return SOME_UNREADABLE if self.evaluation.unreadable else GOOD


def explore(settings: ExploreSettings) -> Explored:
    """Draw a prepared data set and write its report.

    Raises:
        DatasetError: the data set is not prepared.
    """
    folder = settings.processed_dir / settings.name
    manifest = read_manifest(folder)
    figures: dict[str, tuple[Figure, str]] = {
        "class_balance": (plots.class_balance(manifest.counts()), "Photos per class and split."),
        "near_duplicates": (
            _pairs(manifest, folder),
            "Near-duplicates; a pair across train and test is a leak.",
        ),
        "augmentation": (_augmentation(manifest), "Training photos and their augmented copies."),
    }
    if (drawn := _embedding_map(manifest, settings)) is not None:
        figures["embedding_map"] = drawn
    shown_labels = _some(list(manifest.labels), plots.MOST_CLASSES)
    figures |= {f"contact_sheet_{label}": _contact_sheet(manifest, label) for label in shown_labels}
    pictures = save_figures(figures, settings.reports_dir / "figures" / f"explore-{settings.name}")
    left_out = sum(manifest.metadata.problems.values())
    problems = [
        list(PROBLEM_COLUMNS),
        *(list(row.values()) for row in islice(read_table(folder, PROBLEMS), MOST_ROWS)),
    ]
    some_labels = f"{len(shown_labels)} of the {len(manifest.labels)} classes, drawn at random."
    sections = [
        Section("Balance and overlap", pictures=pictures[:2]),
        Section(
            "Left out", *_left_out(left_out, problems, f", all of them in {table_file(folder, PROBLEMS)}")
        ),
        Section("Augmentation and embeddings", pictures=pictures[2 : -len(shown_labels)]),
        Section(
            "Photos",
            some_labels if len(shown_labels) < len(manifest.labels) else "",
            pictures=pictures[-len(shown_labels) :],
        ),
    ]
    path = settings.reports_dir / f"explore-{settings.name}.html"
    write_report(path, f"Data set {manifest.name}", _data_summary(manifest), sections)
    return Explored(path)


def evaluate_with_report(settings: EvaluateSettings) -> EvaluationReport:
    """Evaluate a bundle and write the report; raises as `evaluate` does."""
    evaluation = evaluate(settings)
    return EvaluationReport(evaluation, report_evaluation(evaluation, settings))


def report_evaluation(evaluation: Evaluation, settings: EvaluateSettings) -> Path:
    """Write the report of an evaluation, with its figures; returns the report's path."""
    config, metrics = evaluation.bundle.config, evaluation.metrics
    name = config.name if evaluation.photos.name == "test" else f"{config.name}-{evaluation.photos.name}"
    pictures = save_figures(draw_evaluation(evaluation), settings.reports_dir / "figures" / name)
    per_class = [
        (label, str(s.n), *map(with_interval, (s.precision, s.recall, s.f1, s.roc_auc)))
        for label, s in metrics.per_class.items()
    ]
    few = (
        f"The first {MOST_ROWS} of {len(per_class)} classes; all: metrics.json."
        if len(per_class) > MOST_ROWS
        else ""
    )
    unreadable = [("photo", "why"), *((p.path, p.error or "") for p in evaluation.unreadable)]
    conditions = {
        **asdict(metrics.conditions),
        "architecture": config.architecture,
        "git commit": config.git_commit,
        "created": config.created,
        **config.versions,
    }
    header = ("class", "n", "precision", "recall", "F1", "ROC AUC")
    sources = [
        (name, str(m.n), *map(with_interval, (m.accuracy, m.macro_f1, m.ece)), f"{m.accepted.coverage:.1%}")
        for name, m in (metrics.by_source or {}).items()
    ]
    apart = [
        (name, str(o.n), *map(with_interval, (o.auroc, o.rejected, o.accepted_above)))
        for name, o in (metrics.not_waste_by_source or {}).items()
    ]
    source_header = ("source", "n", "accuracy", "macro F1", "ECE", "accepted")
    apart_header = ("source", "n", "AUROC", "rejected", "accepted above 0.9")
    sections = [
        Section("Right and wrong", few, [header, *per_class[:MOST_ROWS]], pictures[:2]),
        *([Section("By source", table=[source_header, *sources])] if sources else []),
        *([Section("Photos without waste by source", table=[apart_header, *apart])] if apart else []),
        Section("Trust", "Calibration and abstention.", pictures=pictures[2:4]),
        Section("Training and errors", pictures=pictures[4:]),
        Section("Left out", *_left_out(len(evaluation.unreadable), unreadable)),
        Section("Conditions", table=[("condition", "value"), *((k, str(v)) for k, v in conditions.items())]),
    ]
    path = settings.reports_dir / f"{name}.html"
    sections = [section for section in sections if section.title != "Left out" or evaluation.unreadable]
    title = f"{config.name} on {evaluation.photos.name}"
    write_report(path, title, summary(evaluation), sections, verdict(config, metrics))
    return path


def draw_evaluation(evaluation: Evaluation) -> dict[str, tuple[Figure, str]]:
    """Draw the figures of an evaluation; returns each with its caption, by file name."""
    metrics, accepted = evaluation.metrics, evaluation.metrics.accepted
    curve = risk_coverage(evaluation.y_true, evaluation.probabilities)
    chosen = None if accepted.precision is None else (accepted.coverage, 1 - accepted.precision)
    figures = {
        "confusion_matrix": (
            plots.confusion_matrix(np.array(metrics.confusion), evaluation.bundle.config.classes),
            "Predicted classes (columns) of each true class (rows).",
        ),
        "per_class": (plots.per_class_scores(metrics.per_class), "Per class, with 95% intervals."),
        "reliability": (
            plots.reliability_diagram(metrics.reliability_before, metrics.reliability),
            "Whether a probability of 0.8 is right eight times in ten.",
        ),
        "risk_coverage": (
            plots.risk_coverage(curve.coverage, curve.risk, chosen),
            "How the error rate falls as the model rejects uncertain photos.",
        ),
    }
    history = evaluation.bundle.path / HISTORY
    if history.exists():
        rows = [
            {k: float(v) for k, v in row.items() if v}
            for row in csv.DictReader(history.open(encoding="utf-8"))
        ]
        figures["training_curves"] = (plots.training_curves(rows), "Training, epoch by epoch.")
    worst = _worst_errors(evaluation)
    if worst is not None:
        figures["worst_errors"] = worst
    return figures


def save_figures(figures: Mapping[str, tuple[Figure, str]], folder: Path) -> list[Picture]:
    """Write figures, given with their captions by name; names that make the same file name are numbered."""
    pictures, taken = [], set[str]()
    for number, (name, (figure, caption)) in enumerate(figures.items()):
        png = plots.to_png(figure)
        stem = plots.shortened(name.replace("/", "_"), 50)  # a file system allows 255 bytes
        stem = f"{stem}-{number}" if stem.casefold() in taken else stem
        taken.add(stem.casefold())
        write_bytes(folder / f"{stem}.png", png)
        pictures.append(Picture(png, caption))
    return pictures


def _left_out(
    count: int, table: Sequence[Sequence[str]], where: str = ""
) -> tuple[str, Sequence[Sequence[str]]]:
    """Return the text and the table (header first) of files that were left out, at most `MOST_ROWS` of them."""
    more = f" The first {MOST_ROWS} are listed here{where}." if count > MOST_ROWS else ""
    return f"{count} files were left out.{more}", table[: MOST_ROWS + 1] if count else ()


def _data_summary(manifest: Manifest) -> list[tuple[str, str]]:
    split, test = manifest.metadata.split, manifest.metadata.near_duplicates.overlap["test"]
    return [
        ("photos", str(len(manifest.photos))),
        ("classes", f"{len(manifest.labels)}: {', '.join(manifest.labels[:MOST_ROWS])}"),
        ("split", f"{split.method}, seed {split.seed}"),
        ("fingerprint", manifest.fingerprint),
        (
            "test photos with a near-duplicate in train",
            f"{test.with_near_duplicate_in_train} of {test.photos} ({test.share:.1%})"
            if test.photos
            else "no test photos",
        ),
    ]


def _pairs(manifest: Manifest, folder: Path) -> Figure:
    rows = list(read_table(folder, NEAR_DUPLICATES))
    leaking = [row for row in rows if {row["split_1"], row["split_2"]} == {"train", "test"}]
    shown = _some(leaking or rows, PAIRS)
    pictures, captions = [], []
    for row in shown:
        pictures.append([read_photo(manifest.root / row[f"path_{n}"], THUMBNAIL, "pad") for n in (1, 2)])
        captions.append(
            f"{Path(row['path_1']).stem} ({row['split_1']}), {Path(row['path_2']).stem} ({row['split_2']})"
        )
    if not shown:
        return plots.contact_sheet([], [], "No near-duplicates were found", columns=3)
    return _two_per_row(pictures, captions, f"Near-duplicates ({len(leaking)} pairs across train and test)")


def _augmentation(manifest: Manifest) -> Figure:
    chosen = AugmentationSettings().model_dump(include=set(Augmentation.__dataclass_fields__))
    augment = Augmentation(168, 216, **chosen)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for photo in _some(manifest.photos_of("train"), PREVIEWS):
        original = read_photo(manifest.path_of(photo), (208, 256))
        copies = augment(torch.from_numpy(np.stack([original] * 5)), generator)
        rows.append([original, *copies.permute(0, 2, 3, 1).byte().numpy()])
    return plots.image_rows(rows, [["original, then augmented"]] * len(rows), "Augmentation", columns=6)


def _contact_sheet(manifest: Manifest, label: str) -> tuple[Figure, str]:
    photos = [photo for photo in manifest.photos if photo.label == label]
    chosen = _some(photos, PER_CLASS)
    thumbnails = [read_photo(manifest.path_of(photo), THUMBNAIL, "pad") for photo in chosen]
    captions = [f"{Path(photo.path).stem} · {photo.split}" for photo in chosen]
    sheet = plots.contact_sheet(thumbnails, captions, f"{label} ({len(chosen)} of {len(photos)})")
    return sheet, f"Some photos of {label}."


def _embedding_map(manifest: Manifest, settings: ExploreSettings) -> tuple[Figure, str] | None:
    """Map at most `MOST_POINTS` photos to the plane, with a caption; None without a pretrained backbone."""
    photos = _some(list(manifest.photos), MOST_POINTS)
    try:
        vectors = near_duplicate_embedder(settings.interim_dir)(photos, manifest.root)
    except (MissingExtraError, TrainingError):
        return None
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    neighbours = min(30.0, (len(unit) - 1) / 3)
    points = TSNE(perplexity=neighbours, init="pca", random_state=0).fit_transform(unit)
    drawn = f" ({len(photos)} photos drawn at random)" if len(photos) < len(manifest.photos) else ""
    caption = f"Photos that the pretrained network finds similar lie close together{drawn}."
    return plots.embedding_map(points, [photo.label for photo in photos]), caption


def _worst_errors(evaluation: Evaluation) -> tuple[Figure, str] | None:
    y_pred = evaluation.probabilities.argmax(1)
    confidence = evaluation.probabilities.max(1)
    wrong = np.nonzero(y_pred != evaluation.y_true)[0]
    if not len(wrong):
        return None
    config, network = evaluation.bundle.config, load_network(evaluation.bundle)
    cells, captions = [], []
    for i in wrong[np.argsort(-confidence[wrong])][:WORST]:
        photo = read_photo(evaluation.paths[i], config.input_size, config.resize_mode)
        heat = grad_cam(network, photo)
        cells.append([photo] if heat is None else [photo, plots.overlay(photo, heat)])
        y_true, answer = config.labels[evaluation.y_true[i]], config.labels[y_pred[i]]
        captions.append(f"{evaluation.paths[i].stem}: {answer} ({confidence[i]:.0%}), is {y_true}")
    has_maps = any(len(cell) > 1 for cell in cells)
    caption = (
        f"Most confident errors{'; beside each, the regions that its answer rests on (Grad-CAM)' * has_maps}."
    )
    return _two_per_row(cells, captions, f"Most confident errors ({len(wrong)} in all)"), caption


def _two_per_row(cells: Sequence[list[Pixels]], captions: Sequence[str], title: str) -> Figure:
    """Draw cells, each of one or two pictures with a caption, two cells per row."""
    starts = range(0, len(cells), 2)
    rows = [[picture for cell in cells[i : i + 2] for picture in cell] for i in starts]
    return plots.image_rows(rows, [[*captions[i : i + 2], ""][:2] for i in starts], title)


def _some(items: list[Any], count: int) -> list[Any]:
    """Return up to `count` items, drawn at random with a fixed seed, in their original order."""
    chosen = sorted(random.Random(0).sample(range(len(items)), min(count, len(items))))
    return [items[i] for i in chosen]


if __name__ == "__main__":
    import sys

    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.show import carry_out

    sys.exit(carry_out("explore", lambda: load_settings(ExploreSettings, sys.argv[1:]), explore))

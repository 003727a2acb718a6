"""Evaluate a model and write its report: the verdict and three pictures, then tables, and every wrong answer on a page beside it.

    trash-classifier evaluate models/trashnet

reports/trashnet.html           the report
reports/trashnet-errors.html    the wrong answers, to browse
reports/figures/trashnet/       the pictures
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from matplotlib.figure import Figure

from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.evaluation.formatting import confusion_table, summary, with_interval
from image_classification_trash.evaluation.metrics import risk_coverage
from image_classification_trash.evaluation.result import Evaluation, Metrics
from image_classification_trash.evaluation.verdict import confused_pairs, verdict
from image_classification_trash.models.evaluate_model import evaluate
from image_classification_trash.show import GOOD, SOME_UNREADABLE, Result, Shown, Table
from image_classification_trash.training.checkpoints import HISTORY, read_history
from image_classification_trash.visualization import captions, plots
from image_classification_trash.visualization.report import (
    MOST_ROWS,
    Cell,
    Link,
    Picture,
    Section,
    left_out,
    save_figures,
    write_report,
)
from image_classification_trash.visualization.wrong_answers import (
    WORST,
    WrongAnswer,
    card_of,
    draw_worst,
    gallery,
    most_confident_first,
    wrong_answers,
)

PAIRS = 20
"""Largest number of confused pairs that the report lists."""


@dataclass(frozen=True)
class EvaluationReport(Result):
    """An evaluation, the path of its report, and that of the page of wrong answers; None if there are none."""

    evaluation: Evaluation
    page: Path
    errors: Path | None

    @property
    def metrics(self) -> Metrics:
        """Return the figures of the evaluation."""
        return self.evaluation.metrics

    @property
    def verdict(self) -> str:
        """Return the verdict in plain words, a paragraph that starts with `Verdict:`."""
        return verdict(self.evaluation.bundle.config, self.metrics)

    def for_people(self) -> Iterator[Shown]:
        """Yield the model, the main metrics, the confusion matrix, the paths of the pages and the verdict."""
        yield f"model: {self.evaluation.bundle.config.title}"
        yield Table(["measure", "value (95% interval)"], summary(self.evaluation))
        if confusion := confusion_table(self.metrics):
            yield confusion
        yield f"report: {self.page}"
        if self.errors:
            yield f"wrong answers: {self.errors}"
        yield self.verdict

    def as_json(self) -> dict[str, Any]:
        """Return all metrics, as in metrics.json."""
        return self.evaluation.metrics.as_json()

    @property
    def exit_status(self) -> int:
        """Return `SOME_UNREADABLE` if any photo could not be read, else `GOOD`."""
        return SOME_UNREADABLE if self.evaluation.unreadable else GOOD


def evaluate_with_report(settings: EvaluateSettings) -> EvaluationReport:
    """Evaluate a bundle and write the report; raises as `evaluate` does."""
    return report_evaluation(evaluate(settings), settings.reports_dir)


def report_evaluation(evaluation: Evaluation, reports_dir: Path) -> EvaluationReport:
    """Write the report of an evaluation, its figures, and the page of its wrong answers."""
    config, metrics = evaluation.bundle.config, evaluation.metrics
    name = config.name if evaluation.photos.name == "test" else f"{config.name}-{evaluation.photos.name}"
    title = f"{config.name} on {evaluation.photos.name}"
    page = reports_dir / f"{name}.html"
    errors, worst = reports_dir / f"{name}-errors.html", list[WrongAnswer]()
    if most_confident_first(evaluation):
        cards = []
        for wrong in wrong_answers(evaluation):
            cards.append(card_of(wrong))
            worst = [*worst, wrong] if len(worst) < WORST else worst
        found = gallery(evaluation, cards, explained=worst[0].overlay is not None)
        back = [Link("Report", quote(page.name))]
        write_report(errors, f"Wrong answers of {title}", [], [], gallery=found, links=back)
    else:
        errors.unlink(missing_ok=True)  # of an earlier evaluation
    drawn = draw_evaluation(evaluation, worst)
    saved = save_figures(drawn, reports_dir / "figures" / name)
    pictures = {
        key: replace(picture, alt=captions.ALT[key], is_wide=key in captions.WIDE)
        for key, picture in zip(drawn, saved, strict=True)
    }
    first = ["confusion_matrix", "risk_coverage", "worst_errors" if worst else "reliability"]
    rest = {key: picture for key, picture in pictures.items() if key not in first}
    sections = report_sections(evaluation, rest, errors if worst else None)
    links = [Link("All wrong answers with their photos", quote(errors.name))] if worst else []
    opening, top = verdict(config, metrics), [pictures[key] for key in first]
    write_report(page, title, summary(evaluation), sections, opening, top, links=links)
    return EvaluationReport(evaluation, page, errors if worst else None)


def report_sections(
    evaluation: Evaluation, pictures: Mapping[str, Picture], errors: Path | None
) -> list[Section]:
    """Return what follows the first pictures and the summary: tables, the other pictures and the conditions."""
    metrics = evaluation.metrics
    by_class = [
        (label, str(s.n), *map(with_interval, (s.precision, s.recall, s.f1, s.roc_auc)))
        for label, s in metrics.per_class.items()
    ]
    few = (
        f"The first {MOST_ROWS} of {len(by_class)} classes; all: metrics.json."
        if len(by_class) > MOST_ROWS
        else ""
    )
    sources = [
        (name, str(m.n), *map(with_interval, (m.accuracy, m.macro_f1, m.ece)), f"{m.accepted.coverage:.1%}")
        for name, m in (metrics.by_source or {}).items()
    ]
    apart = [
        (name, str(o.n), *map(with_interval, (o.auroc, o.rejected, o.accepted_above)))
        for name, o in (metrics.not_waste_by_source or {}).items()
    ]
    unreadable = [("photo", "why"), *((p.path, p.error or "") for p in evaluation.unreadable)]
    shown = {key: [pictures[key]] if key in pictures else [] for key in captions.ALT}
    class_header = ("class", "n", "precision", "recall", "F1", "ROC AUC")
    source_header = ("source", "n", "accuracy", "macro F1", "ECE", "accepted")
    apart_header = ("source", "n", "AUROC", "rejected", "accepted above 0.9")
    sections = [
        *([confusions(metrics, errors)] if errors else []),
        Section("Classes", few, [class_header, *by_class[:MOST_ROWS]], shown["per_class"]),
        Section("By source", table=[source_header, *sources[:MOST_ROWS]] if sources else ()),
        Section("Photos without waste by source", table=[apart_header, *apart[:MOST_ROWS]] if apart else ()),
        Section("Calibration", pictures=shown["reliability"]),
        Section("Training", pictures=shown["training_curves"]),
        Section("Left out", *left_out(len(evaluation.unreadable), unreadable)),
        Section("Conditions", table=[("condition", "value"), *conditions(evaluation)]),
    ]
    return [section for section in sections if section.table or section.pictures]


def conditions(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield the conditions of the measurement, and what the model was made with."""
    config = evaluation.bundle.config
    measured = asdict(evaluation.metrics.conditions)
    made = {"architecture": config.architecture, "git commit": config.git_commit, "created": config.created}
    for name, value in {**measured, **made, **config.versions}.items():
        if value is not None:
            parts = (
                [f"{key} {one}" for key, one in value.items()] if isinstance(value, Mapping) else [str(value)]
            )
            yield name.replace("_", " "), ", ".join(parts)


def confusions(metrics: Metrics, errors: Path) -> Section:
    """Return the pairs of classes that are confused most, each of which leads to its photos."""
    pairs, table = (
        confused_pairs(metrics),
        list[Sequence[Cell]]([("taken for", "photos", "of the true class")]),
    )
    for count, true, answer in pairs[:PAIRS]:
        chosen = urlencode({"true class": true, "predicted class": answer})
        link = Link(f"{true} taken for {answer}", f"{quote(errors.name)}#{chosen}")
        table.append((link, str(count), f"{count / metrics.per_class[true].n:.1%}"))
    more = f", and {len(pairs) - PAIRS} more pairs" if len(pairs) > PAIRS else ""
    wrong = sum(count for count, *_ in pairs)
    return Section("Wrong answers", f"{wrong} in all{more}. Each pair leads to its photos.", table)


def draw_evaluation(evaluation: Evaluation, worst: Sequence[WrongAnswer]) -> dict[str, tuple[Figure, str]]:
    """Draw the figures of an evaluation; returns each with its caption, by file name."""
    metrics, accepted = evaluation.metrics, evaluation.metrics.accepted
    curve = risk_coverage(evaluation.y_true, evaluation.probabilities)
    chosen = None if accepted.precision is None else (accepted.coverage, 1 - accepted.precision)
    figures = {
        "confusion_matrix": (
            plots.confusion_matrix(np.array(metrics.confusion), evaluation.bundle.config.classes),
            captions.of_confusion(metrics),
        ),
        "per_class": (plots.per_class_scores(metrics.per_class), captions.of_classes(metrics)),
        "reliability": (
            plots.reliability_diagram(metrics.reliability_before, metrics.reliability),
            captions.of_reliability(metrics),
        ),
        "risk_coverage": (
            plots.risk_coverage(curve.coverage, curve.risk, chosen),
            captions.of_risk_coverage(metrics, curve.risk),
        ),
    }
    history = evaluation.bundle.path / HISTORY
    if history.exists():
        rows = read_history(history)
        figures["training_curves"] = (plots.training_curves(rows), captions.of_training(rows))
    if worst:
        figures["worst_errors"] = draw_worst(worst, len(most_confident_first(evaluation)))
    return figures

"""Format measured figures for tables and pages, without large libraries, so that a light install can list models."""

from collections.abc import Sequence

from image_classification_trash.evaluation.result import Evaluation, Interval, Metrics
from image_classification_trash.show import Table

MOST_COLUMNS = 10
"""Largest number of classes for which a confusion matrix fits in a terminal."""


def with_interval(figure: Interval | None, percent: bool = True) -> str:
    """Format a figure as `94.7% (92.3 to 96.7)`; a dash if it is undefined."""
    if figure is None:
        return "–"
    if percent:
        return f"{figure.value:.1%} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def summary(evaluation: Evaluation) -> Sequence[tuple[str, str]]:
    """Return the main figures of an evaluation as pairs of name and text."""
    m, config = evaluation.metrics, evaluation.bundle.config
    precision = "none" if m.accepted.precision is None else f"{m.accepted.precision:.1%} of them right"
    rows = [
        ("photos", f"{m.n} ({evaluation.photos.name}), {len(evaluation.unreadable)} unreadable"),
        ("accuracy", with_interval(m.accuracy)),
        ("balanced accuracy", with_interval(m.balanced_accuracy)),
        ("macro F1", with_interval(m.macro_f1)),
        ("ROC AUC, one against the rest", with_interval(m.roc_auc)),
        ("log loss", with_interval(m.log_loss, percent=False)),
        ("Brier score", with_interval(m.brier, percent=False)),
        ("ECE", f"{m.reliability.ece:.3f} ({m.reliability_before.ece:.3f} before temperature scaling)"),
        ("accuracy at 80% coverage", with_interval(m.at_coverage)),
        ("accepted", f"{m.accepted.coverage:.1%} at threshold {config.threshold:.2f}, {precision}"),
    ]
    if sets := m.prediction_set:
        text = f"contains the right class for {sets.right_among:.1%}, {sets.mean_size:.2f} classes on average"
        rows.append(("prediction set", f"{text}, a single class for {sets.single:.1%}"))
    if other := m.not_waste:
        waste = "waste" if config.is_of_trashnet else "the classes"
        sizes = f"{other.n} ({other.name}), {other.unreadable} unreadable"
        rows += [
            (f"photos without {waste}", f"{sizes}, score: {other.score}"),
            (f"{waste} against photos without, AUROC", with_interval(other.auroc)),
            (f"false positives at 95% of {waste} kept", with_interval(other.fpr_at_95)),
            ("rejected", with_interval(other.rejected)),
            ("accepted above 0.9", with_interval(other.accepted_above)),
        ]
    return rows


def confusion_table(metrics: Metrics) -> Table | None:
    """Return the confusion matrix as a table, true classes in rows; None for too many classes for a terminal."""
    labels = list(metrics.per_class)
    if len(labels) > MOST_COLUMNS:
        return None
    rows = [[label, *map(str, row)] for label, row in zip(labels, metrics.confusion, strict=True)]
    return Table(["true class, answered as:", *labels], rows)

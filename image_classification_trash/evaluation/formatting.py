"""Measured figures in words, as tables and pages show them; needs no large library, so that a light install can list models."""

from collections.abc import Sequence

from image_classification_trash.evaluation.result import Evaluation, Interval, NotWaste, PredictionSets


def with_interval(figure: Interval | None, percent: bool = True) -> str:
    """`94.7% (92.3 to 96.7)`, or a dash where the figure has no meaning."""
    if figure is None:
        return "–"
    if percent:
        return f"{figure.value:.1%} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def summary(evaluation: Evaluation) -> Sequence[tuple[str, str]]:
    """The figures that people ask for first, in words."""
    m, config = evaluation.metrics, evaluation.bundle.config
    precision = "none" if m.accepted.precision is None else f"{m.accepted.precision:.1%} of them right"
    return [
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
        *_prediction_set_rows(m.prediction_set),
        *_not_waste_rows(m.not_waste),
    ]


def _prediction_set_rows(measured: PredictionSets | None) -> list[tuple[str, str]]:
    if measured is None:
        return []
    found = f"right one among them {measured.right_among:.1%}, {measured.mean_size:.2f} classes on average"
    return [("prediction_set", f"{found}, one for {measured.single:.1%}")]


def _not_waste_rows(measured: NotWaste | None) -> list[tuple[str, str]]:
    if measured is None:
        return []
    sizes = f"{measured.n} ({measured.name}), {measured.unreadable} unreadable"
    return [
        ("photos of no waste", f"{sizes}, score: {measured.score}"),
        ("told from waste, AUROC", with_interval(measured.auroc)),
        ("false alarms at 95% of waste kept", with_interval(measured.fpr_at_95)),
        ("turned away", with_interval(measured.rejected)),
        ("answered with more than 0.9", with_interval(measured.accepted_above)),
    ]

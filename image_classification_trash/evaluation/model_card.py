"""The model card: a bundle's README.md, made from its description and its metrics, never typed."""

from collections.abc import Mapping
from typing import Any

from image_classification_trash.evaluation.export_report import ExportReport
from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.result import ClassScores, Interval, Metrics
from image_classification_trash.inference.bundle import BundleConfig

_CARD = """# {name}

{architecture} that tells {classes} classes of waste apart: {labels}.

- Input: one photo, uint8 RGB, {height} x {width} pixels (`{resize_mode}`); output: calibrated probabilities in the order of labels.txt.
- Learned from {data} (split {split}, {photos} photos, fingerprint {fingerprint}), commit {commit}, {created}.
- Temperature {temperature:.3f}; `unsure` below a top probability of {threshold:.3f}{negative}.{prediction_set}
- Licence of the weights: {license}. Keep the notice of the data it learned from.

## Intended use

Sorting photos of single pieces of waste, one object near and large in the frame, where a wrong answer costs little or a
person looks at the unsure ones. Not for: photos of several objects or of whole heaps, dangerous waste, or deciding alone
where a mistake harms. Use it in other light, on other objects or in another country only after measuring it there:
`trash-classifier evaluate BUNDLE --data YOUR-PHOTOS`.

## Measured

{measured}

## On validation photos under shift

{shift}

## Exported files

{exported}

## Training

{energy}

## Limits

It knows only what it was shown: the photos' objects, backgrounds and light. TrashNet shows single objects of one place and
time on white posterboard{field}. Litter where it lies, crushed, wet or half hidden, is harder than these test photos, and
figures on photos from the field, where they stand above, are the ones to go by.
"""

_FIELD = "; other backgrounds, faults of cameras and photos without waste were made from them by rule, none was taken in the field"

_MEASURED = """{table}

Intervals: 95%, bootstrap over photos. ECE: expected calibration error over 15 bins, after temperature scaling. Surest 80%:
accuracy on the four fifths of the photos with the most confident answers.
{not_waste}
{per_class}"""

_NO_WASTE = """
| photos without waste | n | against waste of | AUROC | false alarms at 95% kept | turned away | answered above 0.9 |
|---|---|---|---|---|---|---|
{rows}
"""

_EXPORTED = """Each was run by its own engine on {photos} and held against the trained model.

{table}

Difference: the largest, of a probability. Latency: median of one photo, one thread, {machine}."""


WATTS, WATTS_WITH_GPU = 65, 900
"""What a machine is assumed to draw while it trains: a small one with two to eight cores, and one with a data centre's GPU."""


def model_card(config: BundleConfig, measured: Mapping[str, Metrics], exports: ExportReport | None) -> str:
    """Markdown of the card.

    Args:
        config: the bundle's description.
        measured: metrics by what they were measured on.
        exports: what the export's gate saw; None before the first export.
    """
    data = config.data
    return _CARD.format(
        name=config.name,
        architecture=config.architecture,
        classes=len(config.classes),
        labels=", ".join(config.classes),
        height=config.input_height,
        width=config.input_width,
        resize_mode=config.resize_mode,
        data=data["name"],
        split=data["split"]["method"],
        photos=sum(sum(counts.values()) for counts in data["counts"].values()),
        fingerprint=data["fingerprint"][:12],
        commit=config.git_commit,
        created=config.created,
        temperature=config.temperature,
        threshold=config.threshold,
        negative=_negative(config),
        prediction_set=_prediction_sets(config, measured),
        license=config.license,
        measured=_measured(measured),
        shift=_shift(config.training),
        exported=_exported(exports),
        energy=_energy(config.training),
        field=_FIELD if config.training["settings"].get("copy_paste") else "",
    )


def _negative(config: BundleConfig) -> str:
    if config.negative_label is None:
        return ""
    return f"; `{config.negative_label}` from a probability of {config.negative_threshold:.2f} on that there is none"


def _prediction_sets(config: BundleConfig, measured: Mapping[str, Metrics]) -> str:
    if config.conformal_threshold is None:
        return ""
    aim = config.training["settings"].get("prediction_set_coverage", 0.99)
    figures = [
        f" On {part} it is in {c.right_among:.1%}, with {c.mean_size:.2f} classes on average."
        for part, metrics in measured.items()
        if (c := metrics.prediction_set)
    ]
    return (
        f"\n- Candidates: the most probable classes until they hold more than {config.conformal_threshold:.3f}; on photos like those of"
        f" validation the right class is among them in {aim:.0%} (split conformal prediction).{''.join(figures)}"
    )


def _measured(measured: Mapping[str, Metrics]) -> str:
    if not measured:
        return "Nothing yet: `trash-classifier evaluate` measures it."
    tables = [
        f"### Per class, {part} (n = {metrics.n})\n\n{_per_class(metrics.per_class)}"
        for part, metrics in measured.items()
    ]
    return _MEASURED.format(
        table=_overall(measured), not_waste=_not_waste(measured), per_class="\n\n".join(tables)
    )


def _not_waste(measured: Mapping[str, Metrics]) -> str:
    rows = []
    for part, metrics in measured.items():
        if m := metrics.not_waste:
            figures = map(_cell, (m.auroc, m.fpr_at_95, m.rejected, m.accepted_above))
            rows.append(_row([m.name, str(m.n), part, *figures]))
    return _NO_WASTE.format(rows="\n".join(rows)) if rows else ""


def _shift(training: Mapping[str, Any]) -> str:
    measured = training.get("validation_under_shift")
    if not measured:
        return "Not measured: it was trained without `--rejection-head`."
    rows = [_row([name, f"{value:.1%}"]) for name, value in measured.items()]
    rejection_head = training["rejection_head"]
    return (
        "| validation photos | accuracy |\n|---|---|\n"
        + "\n".join(rows)
        + "\n\nPasted: objects cut out and put on drawn backgrounds of a family that training did not see. The detector of waste tells"
        + f" these photos from such backgrounds without objects at an AUROC of {rejection_head['auroc']:.3f}."
    )


def _energy(training: Mapping[str, Any]) -> str:
    seconds, where = training["seconds"], training["machine"]
    with_gpu = any("no accelerator" not in machine for machine in where.split("; "))
    watts = WATTS_WITH_GPU if with_gpu else WATTS
    return (
        f"{seconds:.0f} seconds on {where}. At an assumed {watts} W for the whole machine that is {watts * seconds / 3600:.0f} Wh; "
        "this is an estimate from the time, not a measurement."
    )


def _exported(exports: ExportReport | None) -> str:
    if exports is None:
        return "None yet: `trash-classifier export` makes them."
    lines = [
        "| file | size | difference | same top class | accuracy | ECE | latency |\n|---|---|---|---|---|---|---|"
    ]
    for name, record in exports.files.items():
        for way, p in record.parity.items():
            cells = [
                name if way == "file" else f"{name}, {way}",
                f"{record.bytes / 1e6:.1f} MB",
                f"{p.largest_difference:.1g}",
                f"{p.top1_agreement:.1%}",
                f"{p.accuracy:.1%} (trained model {p.accuracy_of_model:.1%})",
                f"{p.ece:.3f}",
                f"{p.latency_ms:.1f} ms",
            ]
            lines.append(_row(cells))
    conditions = exports.conditions
    return _EXPORTED.format(table="\n".join(lines), photos=conditions.photos, machine=conditions.machine)


def _overall(measured: Mapping[str, Metrics]) -> str:
    head = "| measured on | n | accuracy | balanced accuracy | macro F1 | ROC AUC | ECE | surest 80% | answered |\n|---|---|---|---|---|---|---|---|---|"
    lines = [head]
    for name, m in measured.items():
        cells = [
            name,
            str(m.n),
            *map(_cell, (m.accuracy, m.balanced_accuracy, m.macro_f1, m.roc_auc)),
            f"{m.reliability.ece:.3f}",
            _cell(m.at_coverage),
            f"{m.accepted.coverage:.1%}",
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _per_class(per_class: Mapping[str, ClassScores]) -> str:
    lines = ["| class | n | precision | recall | F1 |\n|---|---|---|---|---|"]
    for label, scores in per_class.items():
        figures = map(_cell, (scores.precision, scores.recall, scores.f1))
        lines.append(_row([label, str(scores.n), *figures]))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(figure: Interval | None) -> str:
    return with_interval(figure, percent=False)

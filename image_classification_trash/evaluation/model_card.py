"""The model card: a bundle's README.md, generated from its description and its metrics."""

from collections.abc import Mapping
from typing import Any

from image_classification_trash.evaluation.export_report import ExportReport
from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.result import Interval, Metrics, StartComparison
from image_classification_trash.inference.bundle import BundleConfig

_CARD = """# {name}

{architecture} that tells {classes} classes of waste apart: {labels}.

- Input: one photo, uint8 RGB, {height} x {width} pixels (`{resize_mode}`); output: calibrated probabilities in the order of labels.txt.
- Trained on {data} (split {split}, {photos} photos, fingerprint {fingerprint}), commit {commit}, {created}.
- Temperature {temperature:.3f}; `unsure` below a top probability of {threshold:.3f}{negative}.{prediction_set}
- Licence of the weights: {license}. Keep the notice of its training data.

## Intended use

Classifying photos of single pieces of waste, one object close and large in the frame, where a wrong answer costs little or
a person checks the unsure ones. Not intended for photos of several objects or of whole heaps, for hazardous waste, or for
decisions without supervision where a mistake does harm. Before using it in other light, on other objects or in another country,
measure it there:
`trash-classifier evaluate BUNDLE --data YOUR-PHOTOS`.

## Measured

{measured}

## On validation photos under shift

{shift}

## Exported files

{exported}

## Training

{comparison}{energy}

## Limits

It knows only the objects, backgrounds and light of its training photos. TrashNet shows single objects of one place and time
on white posterboard{field}. Litter on the ground, crushed, wet or half hidden, is harder than these test photos; where figures on
photos from the field are listed above, rely on those.
"""

_FIELD = "; other backgrounds, camera corruptions and photos without waste were synthesised from them, none was taken in the field"

_MEASURED = """{table}

Intervals: 95%, bootstrap over photos. ECE: expected calibration error over 15 bins, after temperature scaling.
Most confident 80%: accuracy on the four fifths of the photos with the most confident answers.
{not_waste}
{per_class}"""

_NOT_WASTE = """
| photos without waste | n | against waste of | AUROC | false positives at 95% of waste kept | rejected | accepted above 0.9 |
|---|---|---|---|---|---|---|
{rows}
"""

_EXPORTED = """Each file was run by its own engine on {photos} and compared with the trained model.

{table}

Difference: the largest difference of a probability. Latency: median for one photo on one thread, {machine}."""


WATTS, WATTS_WITH_GPU = 65, 900
"""Assumed power of a machine while it trains: a small one with two to eight cores, and one with a data-centre GPU."""


def model_card(config: BundleConfig, measured: Mapping[str, Metrics], exports: ExportReport | None) -> str:
    """Write the card as Markdown.

    Args:
        config: the bundle's description.
        measured: metrics by the name of the photos they were measured on.
        exports: the export report; None before the first export.
    """
    data, negative = config.data, ""
    if config.negative_label is not None:
        negative = f"; `{config.negative_label}` from a probability of {config.negative_threshold:.2f} that there is no waste"
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
        negative=negative,
        prediction_set=_prediction_sets(config, measured),
        license=config.license,
        measured=_measured(measured),
        shift=_shift(config.training),
        exported=_exported(exports),
        comparison=f"{StartComparison(**config.training['comparison'])}\n\n"
        if "comparison" in config.training
        else "",
        energy=_energy(config.training),
        field=_FIELD if config.training["settings"].get("copy_paste") else "",
    )


def _prediction_sets(config: BundleConfig, measured: Mapping[str, Metrics]) -> str:
    if config.conformal_threshold is None:
        return ""
    aim = config.training["settings"].get("prediction_set_coverage", 0.99)
    figures = [
        f" On {part} it does in {c.right_among:.1%}, with {c.mean_size:.2f} classes on average."
        for part, metrics in measured.items()
        if (c := metrics.prediction_set)
    ]
    return (
        f"\n- Prediction set: the most probable classes until their probabilities exceed {config.conformal_threshold:.3f}; on photos"
        f" like those of validation it contains the right class in {aim:.0%} (split conformal prediction).{''.join(figures)}"
    )


def _measured(measured: Mapping[str, Metrics]) -> str:
    if not measured:
        return "Nothing yet: `trash-classifier evaluate` measures it."
    tables, not_waste = [], []
    for photos, metrics in measured.items():
        lines = ["| class | n | precision | recall | F1 |\n|---|---|---|---|---|"]
        for label, scores in metrics.per_class.items():
            figures = map(_cell, (scores.precision, scores.recall, scores.f1))
            lines.append(_row([label, str(scores.n), *figures]))
        tables.append(f"### Per class, {photos} (n = {metrics.n})\n\n" + "\n".join(lines))
        if m := metrics.not_waste:
            figures = map(_cell, (m.auroc, m.fpr_at_95, m.rejected, m.accepted_above))
            not_waste.append(_row([m.name, str(m.n), photos, *figures]))
    return _MEASURED.format(
        table=_overall(measured),
        not_waste=_NOT_WASTE.format(rows="\n".join(not_waste)) if not_waste else "",
        per_class="\n\n".join(tables),
    )


def _shift(training: Mapping[str, Any]) -> str:
    measured = training.get("validation_under_shift")
    if not measured:
        return "Not measured: the model was trained without `--rejection-head`."
    rows = [_row([name, f"{value:.1%}"]) for name, value in measured.items()]
    rejection_head = training["rejection_head"]
    return (
        "| validation photos | accuracy |\n|---|---|\n"
        + "\n".join(rows)
        + "\n\nCopy-pasted: objects cut out and placed on drawn backgrounds of a family held out from training. The rejection head tells"
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
    head = "| measured on | n | accuracy | balanced accuracy | macro F1 | ROC AUC | ECE | most confident 80% | accepted |\n|---|---|---|---|---|---|---|---|---|"
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


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(figure: Interval | None) -> str:
    return with_interval(figure, percent=False)

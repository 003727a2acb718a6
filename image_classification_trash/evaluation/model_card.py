"""The model card: a bundle's README.md, generated from its description and its metrics."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from image_classification_trash.evaluation.attribution import notice_sentence, source_rows
from image_classification_trash.evaluation.export_report import ExportReport
from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.result import (
    AdaptationRecord,
    ClassScores,
    Interval,
    Metrics,
    StartComparison,
)
from image_classification_trash.evaluation.verdict import verdict
from image_classification_trash.inference.bundle import TRASHNET_LABELS, BundleConfig

_CARD = """# {name}

{verdict}{architecture} that tells {classes} classes{of_waste} apart: {labels}.

{adapted}- Input: one photo, uint8 RGB, {height} x {width} pixels (`{resize_mode}`); output: calibrated probabilities in the order of labels.txt.
- Trained on {data} (split {split}, {photos} photos, fingerprint {fingerprint}), commit {commit}, {created}.
- Temperature {temperature:.3f}; `unsure` below a top probability of {threshold:.3f}{negative}.{prediction_set}
- Licence of the weights: {license}.{notice}

## Intended use

{use}
`trash-classifier evaluate BUNDLE --data YOUR-PHOTOS`.

## Measured

{measured}

{sources}## On validation photos under shift

{shift}

## Exported files

{exported}

## Training

{comparison}{energy}

## Limits

It knows only the objects, backgrounds and light of its training photos. {limits}
"""

_USE = """Classifying photos like those of its training data, where a wrong answer costs little or a person checks the unsure ones. Not
intended for other kinds of photos, or for decisions without supervision where a mistake does harm. Before using it in other
light, on other objects or with another camera, measure it there:"""
_USE_OF_TRASHNET = """Classifying photos of single pieces of waste, one object close and large in the frame, where a wrong answer costs little or
a person checks the unsure ones. Not intended for photos of several objects or of whole heaps, for hazardous waste, or for
decisions without supervision where a mistake does harm. Before using it in other light, on other objects or in another country,
measure it there:"""

_LIMITS = """{field}Photos of other places, objects and
cameras are usually harder than these test photos; where figures on such photos are listed above, rely on those."""
_LIMITS_OF_TRASHNET = """TrashNet shows single objects of one place and time
on white posterboard{field}. Litter on the ground, crushed, wet or half hidden, is harder than these test photos; where figures on
photos from the field are listed above, rely on those."""

_FIELD = "Other backgrounds, camera corruptions and photos without objects were synthesised from them. "
_FIELD_OF_TRASHNET = "; other backgrounds, camera corruptions and photos without waste were synthesised from them, none was taken in the field"

_MEASURED = """{table}

Intervals: 95%, bootstrap over photos; at 0 and 100%, Wilson's. ECE: expected calibration error over 15 bins, after temperature scaling.
Most confident 80%: accuracy on the four fifths of the photos with the most confident answers.
{not_waste}
{per_class}"""

_NOT_WASTE = """
| photos without {waste} | n | against {waste} of | AUROC | false positives at 95% of {waste} kept | rejected | accepted above 0.9 |
|---|---|---|---|---|---|---|
{rows}
"""

_EXPORTED = """Each file was run by its own engine on {photos} and compared with the trained model.

{table}

Difference: the largest difference of a probability. Latency: median for one photo on one thread, {machine}."""


MOST_CLASSES = 40
"""Largest number of classes that a card names."""
WATTS, WATTS_WITH_GPU = 65, 900
"""Assumed power of a machine while it trains: a small one with two to eight cores, and one with a data-centre GPU."""


def model_card(config: BundleConfig, measured: Mapping[str, Metrics], exports: ExportReport | None) -> str:
    """Write the card as Markdown.

    Args:
        config: the bundle's description.
        measured: metrics by the name of the photos they were measured on.
        exports: the export report; None before the first export.
    """
    judged = measured.get("test", next(iter(measured.values()), None))
    data, negative, known = config.data, "", config.is_of_trashnet
    sources: Sequence[Mapping[str, Any]] = data.get("sources") or ()
    of_waste = known or (bool(sources) and config.classes == TRASHNET_LABELS)
    waste, nothing = ("waste", "no waste") if of_waste else ("the classes", "no object of these classes")
    field = (_FIELD_OF_TRASHNET if known else _FIELD) if config.training["settings"].get("copy_paste") else ""
    if config.negative_label is not None:
        negative = f"; `{config.negative_label}` from a probability of {config.negative_threshold:.2f} that there is {nothing}"
    return _CARD.format(
        name=config.name,
        verdict=f"{_text(verdict(config, judged))}\n\n" if judged else "",
        architecture=config.architecture,
        adapted=adapted_to(config.training),
        classes=len(config.classes),
        of_waste=" of waste" if of_waste else "",
        labels=_listed(config.classes),
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
        notice=" Keep the notice of its training data." if known else notice_sentence(sources),
        use=_USE_OF_TRASHNET if known else _USE,
        measured=_measured(measured, waste),
        sources=training_photos(sources),
        shift=_shift(config.training),
        exported=_exported(exports),
        comparison=f"{StartComparison(**config.training['comparison'])}\n\n"
        if "comparison" in config.training
        else "",
        energy=_energy(config.training),
        limits=(_LIMITS_OF_TRASHNET if known else _LIMITS).format(field=field),
    )


def adapted_to(training: Mapping[str, Any]) -> str:
    """Return the paragraph on what the model was adapted to; empty if it was not."""
    if "adaptation" not in training:
        return ""
    record = AdaptationRecord(**training["adaptation"])
    origin, said = _text(record.origin), []
    if record.n:
        counts = _text(", ".join(f"{n} of {label}" for label, n in record.photos.items()))
        said.append(
            f"To {record.n} labelled photos of its owner: {counts}. Left out {record.left_out}, {record.right_after} of them are "
            f"right, {record.right_before} before; that is optimistic if several show the same object. "
        )
    if record.shares is not None:
        shares = _text(", ".join(f"{share:.0%} {label}" for label, share in record.shares.items()))
        said.append(
            f"To the classes' shares in {record.unlabelled} unlabelled photos, as estimated: {shares}. "
        )
    return (
        f"**Adapted** from {origin} (SHA-256 {record.origin_sha256[:12]}; fingerprint of the photos {record.fingerprint[:12]}). "
        f"{''.join(said)}Figures of {origin} from before that no longer hold, and none is repeated here. The threshold of `unsure` "
        f"and what is rejected are as they were; the temperature was {record.temperature_before:.3f}.\n\n"
    )


def training_photos(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return the section on the sources of the training photos; empty without a data sources file."""
    if not sources:
        return ""
    head = "| source | role | photos in train / val / test | licence | by | from |\n|---|---|---|---|---|---|"
    return "\n".join(["## Photos by source\n", head, *map(_row, source_rows(sources)), "\n"])


def by_source_table(photos: str, metrics: Metrics) -> str:
    """Return the figures of each source as Markdown; empty if the photos have no named sources."""
    if not metrics.by_source and not metrics.not_waste_by_source:
        return ""
    lines = [f"### By source, {_text(photos)}\n"]
    if metrics.by_source:
        lines.append(
            "| source | n | accuracy | macro F1 | ECE | most confident 80% | accepted |\n|---|---|---|---|---|---|---|"
        )
    for name, m in (metrics.by_source or {}).items():
        most = m.accuracy_at_coverage
        at_coverage = Interval(most.value, most.low, most.high)
        cells = map(_cell, (m.accuracy, m.macro_f1, m.ece, at_coverage))
        lines.append(_row([name, str(m.n), *cells, f"{m.accepted.coverage:.1%}"]))
    if metrics.not_waste_by_source:
        lines.append(
            "\n| photos without waste | n | AUROC | rejected | accepted above 0.9 |\n|---|---|---|---|---|"
        )
    for name, o in (metrics.not_waste_by_source or {}).items():
        lines.append(_row([name, str(o.n), *map(_cell, (o.auroc, o.rejected, o.accepted_above))]))
    return "\n".join(lines)


def _prediction_sets(config: BundleConfig, measured: Mapping[str, Metrics]) -> str:
    if config.conformal_threshold is None:
        return ""
    aim = config.training["settings"].get("prediction_set_coverage", 0.99)
    figures = [
        f" On {_text(part)} it does in {c.right_among:.1%}, with {c.mean_size:.2f} classes on average."
        for part, metrics in measured.items()
        if (c := metrics.prediction_set)
    ]
    return (
        f"\n- Prediction set: the most probable classes until their probabilities exceed {config.conformal_threshold:.3f}; on photos"
        f" like those of validation it contains the right class in {aim:.0%} (split conformal prediction).{''.join(figures)}"
    )


def _measured(measured: Mapping[str, Metrics], waste: str) -> str:
    if not measured:
        return "Nothing yet: `trash-classifier evaluate` measures it."
    tables, not_waste = [], []
    for photos, metrics in measured.items():
        lines = ["| class | n | precision | recall | F1 |\n|---|---|---|---|---|"]
        shown = sorted(metrics.per_class.items(), key=lambda item: _f1(item[1]))[:MOST_CLASSES]
        few = len(shown) < len(metrics.per_class)
        for label, scores in shown if few else metrics.per_class.items():
            figures = map(_cell, (scores.precision, scores.recall, scores.f1))
            lines.append(_row([label, str(scores.n), *figures]))
        which = (
            f", the {len(shown)} of {len(metrics.per_class)} with the lowest F1 (all: metrics.json)"
            if few
            else ""
        )
        tables.append(f"### Per class, {_text(photos)} (n = {metrics.n}){which}\n\n" + "\n".join(lines))
        if apart := by_source_table(photos, metrics):
            tables.append(apart)
        if m := metrics.not_waste:
            figures = map(_cell, (m.auroc, m.fpr_at_95, m.rejected, m.accepted_above))
            not_waste.append(_row([m.name, str(m.n), photos, *figures]))
    return _MEASURED.format(
        table=_overall(measured),
        not_waste=_NOT_WASTE.format(waste=waste, rows="\n".join(not_waste)) if not_waste else "",
        per_class="\n\n".join(tables),
    )


def _shift(training: Mapping[str, Any]) -> str:
    measured = training.get("validation_under_shift")
    if not measured and "adaptation" in training:
        return "Not measured since it was adapted."
    if not measured:
        return "Not measured: the model was trained without `--rejection-head`."
    rows = [_row([name, f"{value:.1%}"]) for name, value in measured.items()]
    table = "| validation photos | accuracy |\n|---|---|\n" + "\n".join(rows)
    if "clean" not in measured:  # real photos alone: nothing was altered
        return table
    return (
        table
        + "\n\nCopy-pasted: objects cut out and placed on drawn backgrounds of a family held out from training. The rejection head tells"
        + f" these photos from such backgrounds without objects at an AUROC of {training['rejection_head']['auroc']:.3f}."
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
    return "| " + " | ".join(map(_text, cells)) + " |"


def _text(name: str) -> str:
    """Return a name as Markdown that shows it literally, on one line."""
    return re.sub(r"([\\`*<>&$|\[\]])", r"\\\1", " ".join(name.split()))


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_CLASSES} more, in labels.txt" if len(labels) > MOST_CLASSES else ""
    return ", ".join(map(_text, labels[:MOST_CLASSES])) + more


def _f1(scores: ClassScores) -> float:
    return math.inf if scores.f1 is None else scores.f1.value


def _cell(figure: Interval | None) -> str:
    return with_interval(figure, percent=False)

"""The model card: a bundle's README.md, made from its description and its metrics, never typed."""

from collections.abc import Mapping
from typing import Any

from image_classification_trash.inference.bundle import BundleConfig

_CARD = """# {name}

{architecture} that tells {classes} classes of waste apart: {labels}.

- Input: one photo, uint8 RGB, {height} x {width} pixels (`{fit}`); output: calibrated probabilities in the order of labels.txt.
- Learned from {data} (split {split}, {photos} photos, fingerprint {fingerprint}), commit {commit}, {created}.
- Temperature {temperature:.3f}; `unsure` below a top probability of {threshold:.3f}.
- Licence of the weights: {license}. Keep the notice of the data it learned from.

## Measured

{measured}

## Exported files

{exported}

## Limits

It knows only what it was shown: the photos' grounds, light and objects. TrashNet shows single objects on white
posterboard; photos of litter where it lies, of several objects, or of no waste at all are outside of that, and the
answers there are worth less than these figures say.
"""


_MEASURED = """{table}

Intervals: 95%, bootstrap over photos. ECE: expected calibration error over 15 bins, after temperature scaling.

### Per class, {part}

{per_class}"""

_EXPORTED = """Each was run by its own engine on {photos} and held against the trained model.

{table}

Difference: the largest, of a probability. Latency: median of one photo, one thread, {machine}."""


def model_card(
    config: BundleConfig, measured: Mapping[str, Mapping[str, Any]], exports: Mapping[str, Any]
) -> str:
    """Markdown of the card.

    Args:
        config: the bundle's description.
        measured: metrics by what they were measured on, as in metrics.json.
        exports: what the export's gate saw, as in export/report.json.
    """
    data = config.data
    return _CARD.format(
        name=config.name,
        architecture=config.architecture,
        classes=len(config.classes),
        labels=", ".join(config.classes),
        height=config.input_height,
        width=config.input_width,
        fit=config.fit,
        data=data["name"],
        split=data["split"]["method"],
        photos=sum(sum(counts.values()) for counts in data["counts"].values()),
        fingerprint=data["fingerprint"][:12],
        commit=config.git_commit,
        created=config.created,
        temperature=config.temperature,
        threshold=config.threshold,
        license=config.license,
        measured=_measured(measured),
        exported=_exported(exports),
    )


def _measured(measured: Mapping[str, Mapping[str, Any]]) -> str:
    if not measured:
        return "Nothing yet: `trash-classifier evaluate` measures it."
    part, metrics = next(iter(measured.items()))
    return _MEASURED.format(
        table=_overall(measured),
        part=f"{part} (n = {metrics['n']})",
        per_class=_per_class(metrics["per_class"]),
    )


def _exported(exports: Mapping[str, Any]) -> str:
    if not exports:
        return "None yet: `trash-classifier export` makes them."
    lines = [
        "| file | size | difference | same top class | accuracy | ECE | latency |\n|---|---|---|---|---|---|---|"
    ]
    for name, record in exports["files"].items():
        for way, p in record["parity"].items():
            cells = [
                name if way == "file" else f"{name}, {way}",
                f"{record['bytes'] / 1e6:.1f} MB",
                f"{p['largest_difference']:.1g}",
                f"{p['top1_agreement']:.1%}",
                f"{p['accuracy']:.1%} (trained model {p['accuracy_of_model']:.1%})",
                f"{p['ece']:.3f}",
                f"{p['latency_ms']:.1f} ms",
            ]
            lines.append(_row(cells))
    conditions = exports["conditions"]
    return _EXPORTED.format(
        table="\n".join(lines), photos=conditions["photos"], machine=conditions["machine"]
    )


def _overall(measured: Mapping[str, Mapping[str, Any]]) -> str:
    head = "| measured on | n | accuracy | balanced accuracy | macro F1 | ROC AUC | ECE | answered |\n|---|---|---|---|---|---|---|---|"
    lines = [head]
    for name, m in measured.items():
        figures = [_cell(m[key]) for key in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")]
        cells = [
            name,
            str(m["n"]),
            *figures,
            f"{m['reliability']['ece']:.3f}",
            f"{m['answered']['coverage']:.1%}",
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _per_class(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| class | n | precision | recall | F1 |\n|---|---|---|---|---|"]
    for label, scores in per_class.items():
        lines.append(
            _row([label, str(scores["n"]), *(_cell(scores[key]) for key in ("precision", "recall", "f1"))])
        )
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "–"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"

"""A bundle's figures and its confusion matrix as Markdown, for a workflow's summary: write_job_summary.py models/sample"""

import sys
from collections.abc import Sequence

from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.result import read_metrics
from image_classification_trash.inference.bundle import Bundle, read_bundle


def main(path: str) -> None:
    bundle = read_bundle(path)
    if not bundle.metrics():
        sys.exit(f"{path} was not measured; run: trash-classifier evaluate {path}")
    print("\n".join(lines(bundle)))


def lines(bundle: Bundle) -> list[str]:
    config = bundle.config
    made = [
        f"## {config.name}",
        "",
        f"{config.architecture}, commit {config.git_commit}, {config.created}",
        "",
    ]
    made += [
        "| measured on | n | accuracy | balanced accuracy | macro F1 | ECE |",
        "|---|---|---|---|---|---|",
    ]
    for part, m in read_metrics(bundle).items():
        figures = " | ".join(map(with_interval, (m.accuracy, m.balanced_accuracy, m.macro_f1)))
        made.append(f"| {part} | {m.n} | {figures} | {m.reliability.ece:.3f} |")
    for part, m in read_metrics(bundle).items():
        made += ["", f"### Confusion matrix, {part}", "", *confusion(list(m.per_class), m.confusion)]
    return made


def confusion(labels: list[str], matrix: Sequence[Sequence[int]]) -> list[str]:
    """Rows are what the photos show, columns what was answered; the diagonal is bold."""
    head = ["| shows \\ answered | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    rows = [
        f"| **{label}** | " + " | ".join(f"**{n}**" if i == j else str(n) for j, n in enumerate(row)) + " |"
        for i, (label, row) in enumerate(zip(labels, matrix, strict=True))
    ]
    return head + rows


if __name__ == "__main__":
    main(sys.argv[1])

"""Write the README's tables of results from metrics; figures are never typed.

python scripts/write_results.py models/head models/lite0-s0 models/lite0-s1
python scripts/write_results.py --shipped

The first writes the table of bundles; the second that of the model which comes with the package.
"""

import json
import sys
from pathlib import Path

from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.result import Metrics, parse_metrics, read_metrics
from image_classification_trash.inference.bundle import Bundle, read_bundle
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.shipped import FOLDERS, SHIPPED

README = Path("README.md")
SHIPPED_HEAD = """| measured on | n | accuracy | balanced accuracy | accuracy at 80% coverage | `unsure` | waste against not-waste, AUROC | not-waste photos rejected |
|---|---|---|---|---|---|---|---|
"""
HEAD = """| network | trained | seed | measured on | n | accuracy | balanced accuracy | ECE |
|---|---|---|---|---|---|---|---|
"""


def main(paths: list[str]) -> None:
    bundles = [read_bundle(path) for path in paths]
    table = HEAD + "".join(row for bundle in bundles for row in rows(bundle))
    data = bundles[0].config.data
    conditions = (
        f"{data['name']}, {data['split']['method']} split (fingerprint {data['fingerprint'][:12]}), "
        "95% bootstrap intervals in brackets. Choices were made on the validation split; `test` was read once, at the end."
    )
    conditions += "".join(map(mean_line, groups(bundles)))
    put("results", f"{table}\n{conditions}")


def put(name: str, content: str) -> None:
    """Write between a table's markers in the README."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = README.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    README.write_text(f"{before}{begin}\n{content}\n{end}{after}", encoding="utf-8")


def shipped() -> None:
    file = FOLDERS[SHIPPED] / "metrics.json"
    measured = parse_metrics(json.loads(file.read_text(encoding="utf-8")), str(file))
    config = TrashClassifier.load().config
    seed = config.training["settings"]["seed"]
    others = len(config.data.get("sources", ())) - 1
    names = ["TrashNet", f"{others} other sources"] if others > 0 else [config.data["name"]]
    conditions = (
        f"{config.architecture} at {config.input_height} × {config.input_width}, seed {seed}, trained for the field on "
        f"{' and '.join(names)} (fingerprint {config.data['fingerprint'][:12]}); 95% bootstrap intervals in brackets."
    )
    table = SHIPPED_HEAD + "".join(shipped_row(name, m) for name, m in measured.items())
    put("shipped", f"{table}\n{conditions}")


def shipped_row(name: str, m: Metrics) -> str:
    unsure = f"{1 - m.accepted.coverage:.1%}"
    figures = map(with_interval, (m.accuracy, m.balanced_accuracy, m.at_coverage))
    none = m.not_waste
    about = [f"{none.auroc.value:.3f} (n {none.n})", with_interval(none.rejected)] if none else ["–", "–"]
    return f"| {' | '.join([name, str(m.n), *figures, unsure, *about])} |\n"


def groups(bundles: list[Bundle]) -> list[list[Bundle]]:
    """Bundles that differ in their seed alone, where there are several."""
    by_recipe: dict[tuple[object, ...], list[Bundle]] = {}
    for bundle in bundles:
        config = bundle.config
        key = (config.architecture, config.input_size, config.training["settings"]["epochs"])
        by_recipe.setdefault(key, []).append(bundle)
    return [group for group in by_recipe.values() if len(group) > 1]


def mean_line(group: list[Bundle]) -> str:
    figures = [read_metrics(bundle)["test"].accuracy for bundle in group]
    accuracies = [figure.value for figure in figures if figure is not None]
    config = group[0].config
    network = f"{config.architecture} at {config.input_height} × {config.input_width}"
    return f" Mean of {network} over {len(group)} seeds on `test`: {sum(accuracies) / len(accuracies):.1%}."


def rows(bundle: Bundle) -> list[str]:
    config, settings = bundle.config, bundle.config.training["settings"]
    trained = f"{settings['epochs']} epochs" if settings["epochs"] else "head only"
    network = f"{config.architecture}, {config.input_height} × {config.input_width}"
    made = []
    for name, m in read_metrics(bundle).items():
        figures = (
            f"{with_interval(m.accuracy)} | {with_interval(m.balanced_accuracy)} | {m.reliability.ece:.3f}"
        )
        made.append(f"| {network} | {trained} | {settings['seed']} | {name} | {m.n} | {figures} |\n")
    return made


if __name__ == "__main__":
    shipped() if sys.argv[1:] == ["--shipped"] else main(sys.argv[1:])

"""Write the README's table of results from the metrics of bundles; figures are never typed.

python scripts/write_results.py models/head models/lite0-s0 models/lite0-s1
"""

import sys
from pathlib import Path

from image_classification_trash.inference.bundle import Bundle, read_bundle
from image_classification_trash.models.evaluate_model import with_interval

README = Path("README.md")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEAD = """| network | trained | seed | measured on | n | accuracy | balanced accuracy | ECE |
|---|---|---|---|---|---|---|---|
"""


def main(paths: list[str]) -> None:
    bundles = [read_bundle(path) for path in paths]
    table = HEAD + "".join(row for bundle in bundles for row in rows(bundle))
    data = bundles[0].config.data
    conditions = (
        f"{data['name']}, {data['split']['method']} split (fingerprint {data['fingerprint'][:12]}), "
        "95% bootstrap intervals in brackets. Choices were made on the validation part; `test` was read once, at the end."
    )
    conditions += "".join(map(mean_line, groups(bundles)))
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{table}\n{conditions}\n{END}{after}", encoding="utf-8")


def groups(bundles: list[Bundle]) -> list[list[Bundle]]:
    """Bundles that differ in their seed alone, where there are several."""
    by_recipe: dict[tuple[object, ...], list[Bundle]] = {}
    for bundle in bundles:
        config = bundle.config
        key = (config.architecture, config.input_size, config.training["settings"]["epochs"])
        by_recipe.setdefault(key, []).append(bundle)
    return [group for group in by_recipe.values() if len(group) > 1]


def mean_line(group: list[Bundle]) -> str:
    accuracies = [bundle.metrics()["test"]["accuracy"]["value"] for bundle in group]
    config = group[0].config
    network = f"{config.architecture} at {config.input_height} × {config.input_width}"
    return f" Mean of {network} over {len(group)} seeds on `test`: {sum(accuracies) / len(accuracies):.1%}."


def rows(bundle: Bundle) -> list[str]:
    config, settings = bundle.config, bundle.config.training["settings"]
    trained = f"{settings['epochs']} epochs" if settings["epochs"] else "head only"
    network = f"{config.architecture}, {config.input_height} × {config.input_width}"
    made = []
    for name, m in bundle.metrics().items():
        figures = f"{with_interval(m['accuracy'])} | {with_interval(m['balanced_accuracy'])} | {m['reliability']['ece']:.3f}"
        made.append(f"| {network} | {trained} | {settings['seed']} | {name} | {m['n']} | {figures} |\n")
    return made


if __name__ == "__main__":
    main(sys.argv[1:])

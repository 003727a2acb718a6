"""Write references/field_training.md, and a section of the card of each shipped model, from references/field_training.json.

python scripts/field/write_field_report.py references/field_training.json references/field_training.md \
    --small references/field_card.md --large references/field_card_large.md
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Content = dict[str, Any]
HEADER = """# Training for the field: what was measured

Written by `scripts/field/write_field_report.py` from `field_training.json`, which has every figure with its recipe and seed.
Intervals are 95%, by a bootstrap over groups of photos. fieldwaste was not read for any figure on this page.

`shipped`, `shipped today` and the model "shipped before" are the one of TrashNet alone that was shipped when these trainings were made. What is shipped
now is the chosen small network with the rejection head below, calibrated on TrashNet's validation photos and the field slice together
(temperature 0.80). Its card, `image_classification_trash/shipped/README.md`, has its final figures; fieldwaste was read for them once.
`shipped-large` is the chosen large network with a head of its own, calibrated in the same way (temperature 0.64); its card is
`image_classification_trash/shipped_large/README.md`.
"""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def span(values: Sequence[float]) -> str:
    """A figure and its interval."""
    return f"{values[0]} ({values[1]} to {values[2]})"


def recipe_section(content: Content) -> str:
    """How the final networks were trained."""
    rows = []
    for name in ("final-0", "teacher-0", "teacher-1", "student-0", "student-1"):
        one = content["trainings"][name]
        job = one["job"]
        recipe = job["recipe"]
        rows.append(
            [
                name,
                recipe["architecture"],
                recipe["start"],
                ", ".join(job["teachers"]) or "none",
                job["seed"],
                f"{recipe['epochs']:.1f}",
                one["steps"],
                f"{one['seconds']:.0f}",
            ]
        )
    recipe = content["trainings"]["final-0"]["job"]["recipe"]
    text = (
        f"Input {recipe['height']}x{recipe['width']}, batches of {recipe['batch']}, AdamW, peak rate {recipe['learning_rate']} for the "
        f"head and {recipe['backbone_rate']} of it for the backbone (Lite2: the same rate), {recipe['frozen']} stages frozen, half of the "
        f"photos from the field, classes of the field drawn in proportion to the power {recipe['class_power']} of their frequency, copy-paste for "
        f"{recipe['paste']:.0%} of the photos, corruptions for about {recipe['corruption']:.0%}, {recipe['outliers']:.0%} backgrounds without waste. "
        f"Trained side by side on one H200 in bfloat16; the whole run took six minutes. An epoch is as many draws as there are photos "
        f"({content['trainings']['final-0']['photos']}). Networks that begin from `shipped` begin from the weights of the model shipped before."
    )
    header = ["network", "architecture", "begins from", "teachers", "seed", "epochs", "steps", "seconds"]
    return f"## Final networks\n\n{text}\n\n{table(header, rows)}"


def last_stages_section(content: Content) -> str:
    """How the last stages were trained further, on a CPU."""
    rows = []
    for name in ("last-0", "last-1"):
        one = content["last"][name]
        course = one["course"]
        rows.append(
            [
                name,
                course["seed"],
                course["steps"],
                course["altered"],
                course["gentle"],
                course["teacher_share"],
                f"{one['seconds']:.0f}",
            ]
        )
    text = (
        "Two trainings begin from `small`, which is 85% of the average of `final-0` and the students and 15% of `shipped`. They fine-tune the stages "
        "after the first seven, on a CPU. Photos were drawn and augmented once: 48,000 draws, a fifth of them TrashNet photos with little augmentation. The "
        "output of the frozen stages is stored and shared by all trainings. The targets mix the labels with the mean probabilities of the teachers, at the "
        "weight in the table: `small`, `large` and, for TrashNet's photos, `shipped`. Seven trainings with one family left out begin from `shipped`, "
        "without teachers, and take 140 steps each (`last stages` below)."
    )
    header = [
        "network",
        "seed",
        "steps",
        "augmented photos in a batch",
        "with little augmentation",
        "weight of the teachers",
        "seconds on one core",
    ]
    return f"## Last stages\n\n{text}\n\n{table(header, rows)}"


def families_section(content: Content) -> str:
    """Leave-one-family-out."""
    found = content["leave_one_family_out"]
    names = list(content["families"])
    header = [
        "model",
        *(f"{f} (n {content['families'][f]['n']})" for f in names),
        "mean",
        "more than shipped",
        "TrashNet val",
    ]
    rows = [
        [
            name,
            *(one["families"][f][0] for f in names),
            span(one["mean"]),
            span(one["gain_over_shipped"]),
            one.get("trashnet_val", ""),
        ]
        for name, one in found.items()
    ]
    cover = [
        [
            name,
            *(
                span(one[key])
                for key in (
                    "accuracy",
                    "accuracy_at_80_percent",
                    "gain_at_80_percent",
                    "pooled_gain_at_80_percent",
                )
            ),
        ]
        for name, one in found.items()
    ]
    text = (
        "Each network learned from TrashNet and all families but one, and is measured on that one: macro accuracy over its classes, in "
        "percent, then the mean over families. `blend` is the share of the fine-tuned weights, the rest being those that training began from "
        "(WiSE-FT); `and` is the mean of log probabilities. One seed each. `shipped today` reads the original files at 256x320; all other "
        "rows read WebP copies at 224x288. Families differ in size, and in `personal` cardboard is one photo, which moves the mean by 2.4 points."
    )
    return (
        f"## Families left out\n\n{text}\n\n{table(header, rows)}\n"
        "Accuracy (not macro) of all answers and of the 80% most confident in each family, mean over families; last, the difference where the most "
        "confident 80% are taken of all families together, each as heavy as the others:\n\n"
        f"{table(['model', 'all', 'most confident 80%', 'difference', 'difference, together'], cover)}\n"
        "In families where nearly all answers are right there is little to gain: if all wrong answers were the least confident, the mean difference "
        f"would be {found[SMALL.nearest]['most_possible_at_80_percent']} points for the last row.\n"
    )


def ingredients_section(content: Content) -> str:
    """Variants on the GPU, and heads."""
    parts = [
        "## Ingredients\n\nFine-tuning for four epochs, left-out families taco, trashnetpp, drinkwaste, retail_table and personal; mean macro accuracy "
        "and accuracy on TrashNet's validation split, in percent, at three blends. A row that is not complete lacks families or was cut short.\n"
    ]
    for file, variants in content["variants"].items():
        rows = []
        for name, by_blend in variants.items():
            cells = [
                f"{by_blend[blend]['mean']} / {by_blend[blend]['val']}" for blend in ("0.0", "0.7", "1.0")
            ]
            rows.append([name, *cells, "yes" if by_blend["1.0"]["complete"] else "no"])
        start = "the shipped model, 224x288" if "shipped" in file else "ImageNet's weights, 256x320"
        parts.append(
            f"Begun from {start}:\n\n{table(['change', 'blend 0', 'blend 0.7', 'blend 1', 'complete'], rows)}"
        )
    if "heads" in content:
        names = list(content["families"])
        rows = [
            [n, *(h["families"][f] for f in names), h["mean"], h["val"]] for n, h in content["heads"].items()
        ]
        parts.append(
            "Linear heads (ridge regression, its strength the best of four for each row on the very figures shown) on frozen ImageNet embeddings at "
            "256x320, all seven families left out in turn:\n\n"
            + table(["head", *names, "mean", "TrashNet val"], rows)
        )
    return "\n".join(parts)


def choice_section(content: Content) -> str:
    """Candidates on validation photos, and the test of those that were chosen."""
    rows = [
        [
            name,
            *(
                f"{100 * one[key]:.1f}"
                for key in ("val_accuracy", "val_macro", "slice_accuracy", "slice_macro")
            ),
        ]
        for name, one in content["candidates"].items()
    ]
    text = (
        f"Averages of weights and blends with the shipped model, on TrashNet's validation split (n {content['n_val']}) and on a tenth of the "
        f"groups of field photos that no final network learned from (n {content['n_slice']}; their sources were learned from). The average of "
        "final and students at a blend of 0.85 (families left out do best at 0.7, the field slice at 1, TrashNet's validation photos do not mind) is "
        "`small`, from which the trainings of the last stages begin. Of their blends with it, 0.5 is the best, but its integer file rejects too much and fails "
        "the export's gate. Chosen are the blend of 0.4 and, as the large network, the average of the teachers."
    )
    header = ["candidate", "val accuracy", "val macro", "field slice accuracy", "field slice macro"]
    out = f"## Which is chosen\n\n{text}\n\n{table(header, rows)}"
    if "test" in content:
        rows = [
            [
                name,
                one["n"],
                *(span(one[key]) for key in ("accuracy", "macro")),
                one["ece"],
                one["temperature"],
            ]
            for name, one in content["test"].items()
        ]
        header = ["network", "n", "accuracy", "macro accuracy", "ECE", "temperature"]
        out += f"\nTrashNet's official test, with every network that was measured on it; nothing was chosen by it:\n\n{table(header, rows)}"
    return out


def rejection_table(found: Content) -> str:
    """One protocol's table."""
    first = next(iter(found.values()))["families"]
    groups = [name for name in first if name != "all"]
    header = [
        "score",
        "mean AUROC",
        "mean rejected",
        f"all (n {first['all']['n']})",
        *(f"{g} (n {first[g]['n']})" for g in groups),
        "lost: val / field",
    ]
    rows = [
        [
            name,
            one["mean_auroc_field"],
            one["mean_rejected"],
            span(one["families"]["all"]["rejected"]),
            *(one["families"][g]["rejected"][0] for g in groups),
            f"{one['lost_val']} / {one['lost_field_mean']}",
        ]
        for name, one in found.items()
    ]
    return table(header, rows)


def heads_table(content: Content) -> str:
    """The heads that are shipped, each by both protocols."""
    found = {
        f"`{model}`, field waste left out by {by}": content[head][f"crossed_by_{by}"]
        for model, head in (("shipped", "rejection_head"), ("shipped-large", "rejection_head_large"))
        for by in ("group", "family")
        if f"crossed_by_{by}" in content.get(head, {})
    }
    return rejection_table(found)


def rejection_section(content: Content) -> str:
    """Scores that tell waste from no waste."""
    text = (
        "Embeddings of EfficientNet-Lite0 at 224x288, before fine-tuning (ImageNet) and after it (the chosen small network, which learned from "
        "most of the field waste that is left out here: its rows flatter it). Each family of negatives is scored by a fit without it; field "
        "waste by a fit without a seventh of its groups, and in the second table without its whole family. The threshold rejects at most 3% "
        "of TrashNet's validation photos and 8% of that field waste, mean over families, and looks at no negative. AUROC is against that field "
        "waste; means are over the seven families of negatives; shares are in percent. The row of half a linear map on unit length with 512 prototypes was added, "
        "and chosen, after all above it had been seen on these photos: expect a little less of it elsewhere. The rows below it were tried later, without gain."
    )
    own = content["rejection_group"]["shipped today"]["rejected_at_its_own_threshold"]
    parts = [
        f"## Rejection\n\n{text}\n\nField waste left out by group:\n\n{rejection_table(content['rejection_group'])}",
        f"Field waste left out by family:\n\n{rejection_table(content['rejection_family'])}",
        f"The model shipped today rejects {span(own)}% of these negatives at its own threshold.\n",
    ]
    if "rejection_head" in content:
        head = content["rejection_head"]
        parts.append(
            f"Fitted on everything, with {head['prototypes']} prototypes of half precision ({head['bytes_in_half_precision']} bytes), as it is shipped: "
            f"it rejects {span(head['trashnet_test_rejected'])}% of TrashNet's test (n {head['n_test']}). The same head, each photo left out as in the "
            f"tables above, and that of the large model, on embeddings of ImageNet's EfficientNet-Lite2:\n\n{heads_table(content)}"
        )
    if "prototypes" in content:
        rows = [
            [name, *(value for by in ("group", "family") for value in one[by].values())]
            for name, one in content["prototypes"].items()
        ]
        header = [
            "prototypes, weight of the linear map",
            "AUROC",
            "rejected",
            "AUROC, by family",
            "rejected, by family",
        ]
        parts.append(
            "How many prototypes, and how heavy the linear map (of unit length, before fine-tuning); means over families of negatives, field waste "
            f"left out by group and by family:\n\n{table(header, rows)}\n192 and 0.5 were chosen: any from 128 on would do, and with 384, the best of the first protocol, the shipped file would pass 14 MB.\n"
        )
    return "\n".join(parts)


def timing_section(content: Content) -> str:
    """What two tails cost."""
    rows = [
        [name, f"{one['ms']:.1f} ({one['q25']:.1f} to {one['q75']:.1f})"]
        for name, one in content["timing"].items()
    ]
    return (
        "## Time of one photo\n\nProcessor time on one thread in eager PyTorch, normalisation folded, median and middle half, in milliseconds.\n\n"
        + table(["network", "ms"], rows)
        + "\nFiles with half-precision weights in LiteRT, in turns in one process: 15.8 (15.7 to 15.9) ms for the one shipped before at 256x320, "
        "19.9 (19.8 to 20.0) for the small one of now.\n" + files_table(content)
    )


def files_table(content: Content) -> str:
    """The files of both sizes, side by side."""
    rows = [
        [
            name,
            f"{one['bytes'] / 1e6:.1f}",
            f"{one['ms']:.1f} ({one['q25']:.1f} to {one['q75']:.1f})",
            f"{one['ratio']:.2f}",
        ]
        for name, one in content.get("timing_files", {}).items()
    ]
    return (
        "\nBoth sizes, by `time_field_files.py`:\n\n" + table(["file", "MB", "ms", "relative"], rows)
        if rows
        else ""
    )


def adaptation_section(content: Content) -> str:
    """What an owner's photos bring."""
    rows = []
    for count, families in content["adaptation"].items():
        for family, one in families.items():
            rows.append([count, family, one["before"], one["after"], one["gain"][0], one["repeats"]])
    return (
        "## A few photos of an owner's place\n\nA ridge correction of the head of the left-out family's student, fitted on a few photos a class "
        "of that family and measured on its other groups; macro accuracy, mean over draws of photos. Which classes occur there is learned along.\n\n"
        + table(["photos a class", "family", "before", "after", "gain", "draws"], rows)
    )


def errors_section(content: Content) -> str:
    """What left-out families are taken for."""
    rows = []
    for family, classes in content["errors"].items():
        for name, guesses in classes.items():
            total = sum(guesses.values())
            wrong = sorted(((n, g) for g, n in guesses.items() if g != name and n), reverse=True)[:2]
            rows.append(
                [
                    family,
                    name,
                    total,
                    f"{100 * guesses[name] / total:.0f}",
                    ", ".join(f"{g} {n}" for n, g in wrong),
                ]
            )
    return "## What fails\n\nSmall, student and last stages at blend 0.7, each family left out.\n\n" + table(
        ["family", "class", "n", "right, %", "taken for"], rows
    )


LEAST = 10
"""Photos of a class in a family for the card to name its errors."""


@dataclass(frozen=True)
class Card:
    """What the section of a model's card is made of.

    Attributes:
        nearest: of the networks with families left out, those most like the shipped one.
        says: how they differ from it, and how it compares.
        head, errors: names of the figures of its rejection head and of its errors.
        fails: what the errors have in common.
        credits: where each photo's origin and licence stand, if not beside the card.
    """

    nearest: str
    says: str
    head: str
    errors: str
    fails: str
    credits: str = ""


SMALL = Card(
    "small, student and last stages, blend 0.7", "", "rejection_head", "errors",
    "Trash (wrappers, cups, cigarette ends, full packets) is mostly taken for plastic or paper, cans on the ground for plastic, printed boxes for "
    "paper, scraps of paper for cardboard. Of photos without waste, goods in shops (fruit, vegetables, cartons) and bare ground are accepted most "
    "often.",
)  # fmt: skip
LARGE = Card(
    "large, fine-tuned",
    " Those trainings were half as long, and one network stands for the average of two. They give no reason to expect more of the large "
    "model than of the small one (`shipped`, second row) where it learned from nothing of the place.",
    "rejection_head_large", "errors_large",
    "In a place that it did not learn from, it takes more for plastic than `shipped` does: glass, cans, trash and scraps of paper on the ground. Glass on "
    "tables is taken for metal, printed boxes for paper. Of photos without waste, goods in shops (fruit, vegetables, cartons) and bare ground are "
    "accepted most often.",
    "## Credits\n\n`ATTRIBUTION.csv` has the origin and licence of each photo from the field. It lies beside the small model, in the package's folder "
    "`shipped`.\n",
)  # fmt: skip


def with_wilson(figure: Sequence[float], n: int) -> list[float]:
    """Percent with an interval, which at 100% is Wilson's, since a bootstrap's is empty."""
    return [100.0, round(100 * n / (n + 1.96**2), 1), 100.0] if figure[0] == 100 else list(figure)


def card_section(content: Content, card: Card) -> str:
    """What a shipped model's card says of photos from elsewhere."""
    left = content["leave_one_family_out"]
    models = {"shipped before": "shipped today", "this recipe": card.nearest}
    if card is LARGE:
        models = {"shipped before": "shipped today", "`shipped`": SMALL.nearest, "this recipe": card.nearest}
    rows = [
        [
            called,
            *(left[name]["families"][f][0] for f in content["families"]),
            span(left[name]["mean"]),
            span(left[name]["gain_over_shipped"]),
        ]
        for called, name in models.items()
    ]
    header = [
        "model",
        *(f"{f} (n {one['n']})" for f, one in content["families"].items()),
        "mean",
        "difference",
    ]
    families = content[card.head]["crossed_by_group"]["families"]
    negatives = [
        [f, one["n"], one["auroc_field"], span(with_wilson(one["rejected"], one["n"]))]
        for f, one in families.items()
    ]
    failing = []
    for family, classes in content[card.errors].items():
        for name, guesses in classes.items():
            total, right = sum(guesses.values()), guesses[name]
            if total >= LEAST and right < total / 2:
                wrong = sorted(((n, g) for g, n in guesses.items() if g != name and n), reverse=True)[:2]
                failing.append(
                    [name, family, total, f"{100 * right / total:.0f}", ", ".join(g for _, g in wrong)]
                )
    return "\n".join(
        [
            "## On photos of places it did not learn from\n",
            "From `references/field_training.md`: trainings by the same recipe that left out one family of sources each, measured on that family; "
            "macro accuracy in percent, mean over families. The model itself has learned from all of these sources: expect such figures, not "
            f"those of validation, on photos of another place.{card.says}\n",
            table(header, rows),
            "Photos without waste, each family rejected by a head that learned from none of it, at a threshold that rejects 3% of TrashNet's validation "
            "photos and 8% of field waste left out by groups; where all waste of a place is new, about a third fewer are rejected.\n",
            table(["photos without waste", "n", "AUROC", "rejected, %"], negatives),
            "What fails: classes of left-out families that are right less than half of the time.\n",
            table(["class", "family", "n", "right, %", "taken for"], failing),
            f"{card.fails}\n",
            *([card.credits] if card.credits else []),
        ]
    )


def main() -> None:
    """Write the page, and the section of the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--small", type=Path, required=True, help="section for the card of shipped")
    parser.add_argument("--large", type=Path, required=True, help="section for the card of shipped-large")
    options = parser.parse_args()
    content = json.loads(options.source.read_text())
    parts = [HEADER, recipe_section(content), last_stages_section(content)]
    parts += [families_section(content), ingredients_section(content)]
    for name, section in (
        ("candidates", choice_section),
        ("rejection_group", rejection_section),
        ("timing", timing_section),
        ("adaptation", adaptation_section),
    ):
        if name in content:
            parts.append(section(content))
    parts.append(errors_section(content))
    options.page.write_text("\n".join(parts))
    options.small.write_text(card_section(content, SMALL))
    options.large.write_text(card_section(content, LARGE))


if __name__ == "__main__":
    main()

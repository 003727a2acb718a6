"""Turn the results of `train_field.py` and `train_last_stages.py` into figures with intervals: references/field_training.json.

    python scripts/field/analyse_field_training.py --packed packed --results results --work work --output references/field_training.json

Reads scores of left-out families, of TrashNet's validation split, and of the model shipped today on the same photos.
Intervals are 95%, by a bootstrap over groups of photos within each family: photos of one object are drawn together.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from field_jobs import BLENDS, CHOSEN_BY, CLASSES, FAMILIES, Job, Recipe, Table

DRAWS = 1000
COVERAGE = 0.8
OTHER_STEPS = {
    "candidates": "candidates",
    "test": "test",
    "rejection_group": "rejection-group",
    "rejection_family": "rejection-family",
    "rejection_head": "small/rejection_head",
    "rejection_head_large": "large/rejection_head",
    "prototypes": "prototypes",
    "timing": "timing",
    "timing_files": "timing_files",
    "adaptation": "adaptation",
    "heads": "heads",
}
"""Files in the work folder that are taken over as they are, by their names in the result."""
Part = tuple[str, float]
"""A job's name without its family, and a blend."""
MODELS: dict[str, tuple[Part, ...]] = {
    "shipped, 224x288": (("lofo-lite0", 0.0),),
    "small, fine-tuned": (("lofo-lite0", 1.0),),
    "small, blend 0.7": (("lofo-lite0", 0.7),),
    "small, blend 0.5": (("lofo-lite0", 0.5),),
    "large, head alone": (("lofo-lite2", 0.0),),
    "large, fine-tuned": (("lofo-lite2", 1.0),),
    "student, fine-tuned": (("lofo-student", 1.0),),
    "student, blend 0.7": (("lofo-student", 0.7),),
    "small and student, blend 0.5": (("lofo-lite0", 0.5), ("lofo-student", 0.5)),
    "small and student, blend 0.7": (("lofo-lite0", 0.7), ("lofo-student", 0.7)),
    "small, student and large": (("lofo-lite0", 0.7), ("lofo-student", 0.7), ("lofo-lite2", 1.0)),
    "last stages, fine-tuned": (("last", 1.0),),
    "last stages, blend 0.7": (("last", 0.7),),
    "last stages, blend 0.5": (("last", 0.5),),
    "small, student and last stages, blend 0.7": (("lofo-lite0", 0.7), ("lofo-student", 0.7), ("last", 0.7)),
}
"""What is averaged, as log probabilities, where there are several."""


class Scores:
    """Log probabilities of the leave-one-family-out trainings, and the labels of their photos."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.table = Table.read(options.packed)
        self.arrays = {
            **np.load(options.results / "final.npz"),
            **np.load(options.results / "last-left-out.npz"),
        }
        with np.load(options.work / "shipped_predictions.npz") as stored:
            row = {name: i for i, name in enumerate(stored["name"])}
            self._shipped = stored["probabilities"]
        self._row = row

    def left(self, family: str) -> np.ndarray:
        """Rows of a left-out family."""
        return np.asarray(self.arrays[f"lofo-lite0/{family}/left_rows"])

    def of(self, parts: tuple[Part, ...], family: str, which: str) -> np.ndarray:
        """Mean log probabilities (n, C); `which` is left or val."""
        found = [
            log_softmax(self.arrays[f"{job}/{family}/{which}_scores"][BLENDS.index(blend)].astype(np.float64))
            for job, blend in parts
        ]
        return np.mean(found, axis=0)

    def shipped(self, rows: np.ndarray) -> np.ndarray:
        """Log probabilities (n, C) of the model shipped today on the original files at 256x320."""
        own = self._shipped[[self._row[name] for name in self.table.name[rows]], : len(CLASSES)]
        return np.log(np.maximum(own / own.sum(1, keepdims=True), 1e-9))


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Log probabilities over the last axis."""
    x = x - x.max(-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))


def macro(right: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
    """Mean over the classes that occur of the weighted share that is right."""
    per_class = np.bincount(label, weight * right, len(CLASSES))
    count = np.bincount(label, weight, len(CLASSES))
    return float(np.mean(per_class[count > 0] / count[count > 0]))


def most_confident(scores: np.ndarray, right: np.ndarray, weight: np.ndarray) -> float:
    """Accuracy of the most confident share of the photos."""
    order = np.argsort(-scores.max(1))
    kept = np.cumsum(weight[order]) <= COVERAGE * weight.sum() + 1e-9
    return float(np.average(right[order][kept], weights=weight[order][kept] + 1e-12))


def group_weights(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each photo is drawn when groups are drawn with replacement, (n,)."""
    names, number = np.unique(group, return_inverse=True)
    return np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[number].astype(float)


class Families:
    """Figures of one model on all left-out families."""

    def __init__(self, scores: Scores, parts: tuple[Part, ...] | None) -> None:
        self.label = [scores.table.label[scores.left(f)] for f in FAMILIES]
        self.group = [scores.table.group[scores.left(f)] for f in FAMILIES]
        self.scores = [
            scores.shipped(scores.left(f)) if parts is None else scores.of(parts, f, "left") for f in FAMILIES
        ]
        self.right = [one.argmax(1) == label for one, label in zip(self.scores, self.label, strict=True)]

    def macro(self, weights: list[np.ndarray]) -> np.ndarray:
        """Macro accuracy of each family."""
        return np.array([macro(*one) for one in zip(self.right, self.label, weights, strict=True)])

    def coverage(self, weights: list[np.ndarray]) -> np.ndarray:
        """Accuracy at full and at 80% coverage, both the mean over families."""
        full = np.mean([np.average(r, weights=w) for r, w in zip(self.right, weights, strict=True)])
        sure = np.mean([most_confident(*one) for one in zip(self.scores, self.right, weights, strict=True)])
        return np.array([full, sure])

    def most_possible(self) -> float:
        """What the most confident 80% could gain at most, in percent, mean over families: were all wrong answers the least confident."""
        right = np.array([one.mean() for one in self.right])
        return round(100 * float((np.minimum(1.0, right / COVERAGE) - right).mean()), 1)

    def pooled(self, weights: list[np.ndarray]) -> np.ndarray:
        """Accuracy at full and at 80% coverage of all photos together, each family as heavy as the others."""
        weight = np.concatenate([w / w.sum() for w in weights])
        scores, right = np.concatenate(self.scores), np.concatenate(self.right)
        return np.array([np.average(right, weights=weight), most_confident(scores, right, weight)])

    def ones(self) -> list[np.ndarray]:
        """Every photo once."""
        return [np.ones(len(label)) for label in self.label]

    def drawn(self, seed: int) -> list[np.ndarray]:
        """One draw of the bootstrap; the same for all models."""
        rng = np.random.default_rng(seed)
        return [group_weights(group, rng) for group in self.group]


def percent(values: np.ndarray, found: float) -> list[float]:
    """A figure in percent and its interval."""
    low, high = np.quantile(values, [0.025, 0.975])
    return [round(100 * float(value), 1) for value in (found, low, high)]


def leave_one_family_out(scores: Scores) -> dict[str, Any]:
    """Every model's figures, and its difference from the model shipped today, paired by draw."""
    models = {"shipped today": Families(scores, None)}
    models |= {name: Families(scores, parts) for name, parts in MODELS.items()}
    first = models["shipped today"]
    draws = [first.drawn(seed) for seed in range(DRAWS)]
    sampled = {name: np.array([one.macro(w) for w in draws]) for name, one in models.items()}
    table = {}
    for name, one in models.items():
        found, base = one.macro(one.ones()), first.macro(first.ones())
        covered = np.array([one.coverage(w) for w in draws[:300]])
        full, sure = one.coverage(one.ones())
        pooled = np.array([one.pooled(w) for w in draws[:300]])
        pooled_full, pooled_sure = one.pooled(one.ones())
        gained = sampled[name].mean(1) - sampled["shipped today"].mean(1)
        table[name] = {
            "families": {f: percent(sampled[name][:, i], found[i]) for i, f in enumerate(FAMILIES)},
            "mean": percent(sampled[name].mean(1), found.mean()),
            "gain_over_shipped": percent(gained, found.mean() - base.mean()),
            "accuracy": percent(covered[:, 0], full),
            "accuracy_at_80_percent": percent(covered[:, 1], sure),
            "gain_at_80_percent": percent(covered[:, 1] - covered[:, 0], sure - full),
            "most_possible_at_80_percent": one.most_possible(),
            "pooled_at_80_percent": percent(pooled[:, 1], pooled_sure),
            "pooled_gain_at_80_percent": percent(pooled[:, 1] - pooled[:, 0], pooled_sure - pooled_full),
        }
        if name in MODELS:
            table[name]["trashnet_val"] = round(100 * val_accuracy(scores, MODELS[name]), 1)
    return table


def val_accuracy(scores: Scores, parts: tuple[Part, ...]) -> float:
    """Accuracy on TrashNet's validation split, the mean over the seven trainings."""
    label = scores.table.label[scores.arrays[f"lofo-lite0/{FAMILIES[0]}/val_rows"]]
    return float(np.mean([(scores.of(parts, f, "val").argmax(1) == label).mean() for f in FAMILIES]))


def per_class(scores: Scores, parts: tuple[Part, ...]) -> dict[str, Any]:
    """For each family and class: how many, and what they were taken for."""
    found: dict[str, Any] = {}
    for family in FAMILIES:
        label, guess = scores.table.label[scores.left(family)], scores.of(parts, family, "left").argmax(1)
        found[family] = {
            CLASSES[c]: {CLASSES[g]: int(((label == c) & (guess == g)).sum()) for g in range(len(CLASSES))}
            for c in np.unique(label)
        }
    return found


def variants(file: Path) -> dict[str, Any]:
    """For each ingredient and blend: left-out families, their mean and TrashNet's validation accuracy, in percent."""
    records = json.loads(file.read_text())
    table: dict[str, Any] = {}
    for name in dict.fromkeys(key.split("/")[0] for key in records):
        own = {f: records[f"{name}/{f}"] for f in CHOSEN_BY if f"{name}/{f}" in records}
        for blend in map(str, BLENDS):
            left = {f: 100 * record["left"][blend]["macro"] for f, record in own.items()}
            val = np.mean([100 * record["val"][blend]["accuracy"] for record in own.values()])
            table.setdefault(name, {})[blend] = {
                "families": {f: round(value, 1) for f, value in left.items()},
                "mean": round(float(np.mean(list(left.values()))), 1),
                "val": round(float(val), 1),
                "complete": all(record["steps"] == record["planned"] for record in own.values())
                and len(own) == len(CHOSEN_BY),
            }
        table[name]["recipe"] = next(iter(own.values()))["job"]["recipe"]
    return table


def trainings(file: Path) -> dict[str, Any]:
    """Of each job what it was: seed, epochs, steps, teachers, seconds, and its figures at every blend."""
    keep = (
        "steps",
        "planned",
        "photos",
        "seconds",
        "rate",
        "temperature",
        "left",
        "val",
        "n_left",
        "n_val",
        "job",
    )
    return {name: {key: record[key] for key in keep} for name, record in json.loads(file.read_text()).items()}


def last_stages(results: Path) -> dict[str, Any]:
    """Of each training of the last stages what it was, and its figures at every blend."""
    files = [results / "last-final.json", results / "last-left-out.json"]
    records = {name: record for file in files for name, record in json.loads(file.read_text()).items()}
    return {
        name: {key: record[key] for key in ("course", "seconds", "rate", "left", "val")}
        for name, record in records.items()
    }


def main() -> None:
    """Compute and write, over what another run wrote of steps whose files are not here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--packed", type=Path, required=True)
    parser.add_argument(
        "--results", type=Path, required=True, help="folder of final.json, final.npz and variants*.json"
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder of shipped_predictions.npz and the other steps' results",
    )
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    scores = Scores(options)
    content = json.loads(options.output.read_text()) if options.output.exists() else {}
    content |= {
        "families": {
            f: {
                "n": len(scores.left(f)),
                "groups": len(np.unique(scores.table.group[scores.left(f)])),
                "classes": len(np.unique(scores.table.label[scores.left(f)])),
            }
            for f in FAMILIES
        },
        "n_val": len(scores.table.validation()),
        "n_slice": len(scores.table.left_out(Job("", Recipe(), "slice"))),
        "leave_one_family_out": leave_one_family_out(scores),
        "errors": per_class(scores, MODELS["small, student and last stages, blend 0.7"]),
        "errors_large": per_class(scores, MODELS["large, fine-tuned"]),
        "variants": {file.stem: variants(file) for file in sorted(options.results.glob("variants*.json"))},
        "trainings": trainings(options.results / "final.json"),
        "last": last_stages(options.results),
    }
    for name, step in OTHER_STEPS.items():
        file = options.work / f"{step}.json"
        if file.exists():
            found = json.loads(file.read_text())
            content[name] = content.get(name, {}) | found if name == "test" else found  # every reading stays
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

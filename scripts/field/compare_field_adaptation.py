"""Measure what a few labelled photos of an owner's place bring: a correction of the head, on families left out of training.

    python scripts/field/compare_field_adaptation.py --packed packed --results results --output adaptation.json

The head's scores get a linear correction of the embedding, fitted on 5, 10 or 20 photos a class and held near zero by a
ridge. Groups of photos are in either the owner's photos or those measured on. The ridge for a family is the one that does
best on the other families.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from field_jobs import BLENDS, CLASSES, FAMILIES, Table

RIDGES = (0.0003, 0.001, 0.003, 0.01, 0.03)
COUNTS = (5, 10, 20)
REPEATS = 20
STEPS = 150


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    x = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(x / x.sum(1, keepdims=True))


def correction(x: np.ndarray, scores: np.ndarray, label: np.ndarray, ridge: float) -> np.ndarray:
    """A matrix (D, C) to add to the head: balanced cross-entropy with a ridge, by gradient descent with momentum."""
    target = np.eye(len(CLASSES))[label]
    weight = 1 / np.bincount(label, minlength=len(CLASSES))[label]
    weight = weight / weight.sum()
    matrix, speed = np.zeros((x.shape[1], len(CLASSES))), 0.0
    rate = 1 / (0.5 * np.mean((x**2).sum(1)) + ridge)
    for _ in range(STEPS):
        slope = x.T @ ((softmax(scores + x @ matrix) - target) * weight[:, None]) + ridge * matrix
        speed = 0.9 * speed - rate * slope
        matrix = matrix + speed
    return np.asarray(matrix)


def owner_photos(label: np.ndarray, group: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Mark up to `count` photos a class, whole groups at a time in random order, never more than half of a class."""
    chosen = np.zeros(len(label), bool)
    for number in np.unique(label):
        own = label == number
        for name in rng.permutation(np.unique(group[own])):
            members = own & (group == name)
            if chosen[own].sum() + members.sum() <= min(count, own.sum() // 2):
                chosen |= members
    return chosen


def macro(scores: np.ndarray, label: np.ndarray) -> float:
    """Mean over classes of the share that is right, in percent."""
    right = scores.argmax(1) == label
    return 100 * float(np.mean([right[label == c].mean() for c in np.unique(label)]))


def repeat(
    x: np.ndarray, scores: np.ndarray, label: np.ndarray, group: np.ndarray, count: int, seed: int
) -> list[float]:
    """Macro accuracy before, and after with each ridge, on photos of other groups than the owner's."""
    chosen = owner_photos(label, group, count, np.random.default_rng(seed))
    rest = ~np.isin(group, group[chosen])
    if not chosen.any() or not rest.any():
        return []
    found = [macro(scores[rest], label[rest])]
    for ridge in RIDGES:
        matrix = correction(x[chosen], scores[chosen], label[chosen], ridge)
        found.append(macro(scores[rest] + x[rest] @ matrix, label[rest]))
    return found


def main() -> None:
    """Measure all families and numbers of photos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--packed", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True, help="folder of final.npz")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    table, arrays = Table.read(options.packed), np.load(options.results / "final.npz")
    families = [f for f in FAMILIES if f != "bhaktapur"]  # of one class, which any adaptation would learn
    found: dict[str, dict[str, object]] = {}
    for count in COUNTS:
        runs = {}
        for family in families:
            key = f"lofo-student/{family}"
            rows = arrays[f"{key}/left_rows"]
            x = arrays[f"{key}/left_embeddings"].astype(np.float64)
            x = x / np.linalg.norm(x, axis=1).mean()
            scores = arrays[f"{key}/left_scores"][BLENDS.index(1.0)].astype(np.float64)
            label, group = table.label[rows], table.group[rows]
            own = [repeat(x, scores, label, group, count, seed) for seed in range(REPEATS)]
            runs[family] = np.array([one for one in own if one])
        gains = {f: one.mean(0)[1:] - one.mean(0)[0] for f, one in runs.items() if len(one)}
        for family, one in runs.items():
            if len(one):
                others = np.mean([gain for f, gain in gains.items() if f != family], axis=0)
                best = int(others.argmax())
                gain = one[:, 1 + best] - one[:, 0]
                found.setdefault(str(count), {})[family] = {
                    "before": round(float(one[:, 0].mean()), 1),
                    "after": round(float(one[:, 1 + best].mean()), 1),
                    "gain": [round(float(v), 1) for v in (gain.mean(), *np.quantile(gain, [0.1, 0.9]))],
                    "ridge": RIDGES[best],
                    "repeats": len(one),
                }
        print(count, found[str(count)], flush=True)
    options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

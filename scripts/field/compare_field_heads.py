"""Compare ingredients by linear heads on frozen ImageNet embeddings, leaving one family out at a time.

    python scripts/field/compare_field_heads.py --packed packed --embeddings embeddings --output heads.json

A head is a ridge regression onto the classes, weighted as `train_field.py` draws photos: a closed form, a second each. Regularisation
is the one that does best on TrashNet's validation split and left-out families together, among four, chosen per row.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from field_jobs import CLASSES, FAMILIES, Job, Recipe, Table, draw_weights

RIDGES = (0.03, 0.1, 0.3, 1.0)
ROWS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "TrashNet alone": (("lite0",), {"field_share": 0.0}),
    "field 0.3": (("lite0",), {"field_share": 0.3}),
    "field 0.5": (("lite0",), {}),
    "field 0.7": (("lite0",), {"field_share": 0.7}),
    "field 0.5, classes alike": (("lite0",), {"class_power": 0.0}),
    "field 0.5, classes as frequent as they are": (("lite0",), {"class_power": 1.0}),
    "field 0.5, without taco_trashe": (("lite0",), {"without": ("taco_trashe",)}),
    "field 0.5, Lite2": (("lite2",), {}),
    "field 0.5, both networks": (("lite0", "lite2"), {}),
}


def fit(x: np.ndarray, label: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    """Weighted ridge regression (D + 1, C) of centred one-hot targets on embeddings (N, D) with a constant."""
    target = np.eye(len(CLASSES))[label] - 1 / len(CLASSES)
    weighted = x * weight[:, None]
    return np.linalg.solve(weighted.T @ x + ridge * np.eye(x.shape[1]), weighted.T @ target)


def standardised(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Embeddings in units of the training rows' deviation, with a constant, (N, D + 1)."""
    mean, spread = x[rows].mean(0), x[rows].std(0) + 1e-2
    return np.c_[(x - mean) / spread / np.sqrt(x.shape[1]), np.ones(len(x))].astype(np.float64)


def measure(table: Table, x: np.ndarray, recipe: Recipe) -> dict[str, Any]:
    """The best of the regularisations: macro accuracy by left-out family, and TrashNet's validation accuracy."""
    found: dict[float, tuple[list[float], list[float]]] = {ridge: ([], []) for ridge in RIDGES}
    for family in FAMILIES:
        job = Job("", recipe, family)
        rows, left, val = table.training(job), table.left_out(job), table.validation()
        inputs, weight = standardised(x, rows), draw_weights(table, rows, recipe)
        for ridge in RIDGES:
            matrix = fit(inputs[rows], table.label[rows], weight, ridge / 100)
            right = (inputs[left] @ matrix).argmax(1) == table.label[left]
            classes = np.unique(table.label[left])
            found[ridge][0].append(float(np.mean([right[table.label[left] == c].mean() for c in classes])))
            found[ridge][1].append(float(((inputs[val] @ matrix).argmax(1) == table.label[val]).mean()))
    ridge = max(RIDGES, key=lambda one: np.mean(found[one][0]) + np.mean(found[one][1]))
    left, val = found[ridge]
    return {
        "families": {f: round(100 * value, 1) for f, value in zip(FAMILIES, left, strict=True)},
        "mean": round(100 * float(np.mean(left)), 1),
        "val": round(100 * float(np.mean(val)), 1),
        "ridge": ridge,
    }


def main() -> None:
    """Measure every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--packed", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, required=True, help="folder of frozen-<network>.npz")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    table = Table.read(options.packed)
    stored = {
        name: np.load(options.embeddings / f"frozen-efficientnet_{name}.npz")["embeddings"].astype(np.float32)
        for name in ("lite0", "lite2")
    }
    found = {}
    for name, (networks, changes) in ROWS.items():
        found[name] = measure(
            table, np.concatenate([stored[n] for n in networks], 1), replace(Recipe(), **changes)
        )
        print(name, found[name], flush=True)
    options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

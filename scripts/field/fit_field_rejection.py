"""Fit the rejection head that was chosen on all photos, and count what it rejects of TrashNet's test, if that was embedded.

    python scripts/field/fit_field_rejection.py --work work/small --output work/small/rejection_head.npz

The score of an embedding e before fine-tuning, scaled to length 1, is `max(prototypes @ e) + weight @ e`, as in the package's
`training/rejection_head.py`. The threshold is that of the fits by group, which left out each photo, or a lower one that
rejects few enough of TrashNet's validation photos; there the score becomes 0. Its scale makes its sigmoid the probability of waste, as far as those fits tell.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from compare_field_rejection import LOST_VAL, Photos, Score, figures, interval, threshold
from sklearn.linear_model import LogisticRegression

from image_classification_trash.training.rejection_head import (
    PROTOTYPES,
    prototype_scores,
    waste_prototypes,
)


def score_of(waste: np.ndarray, other: np.ndarray) -> Score:
    """Fit, and return the score of embeddings (N, D)."""
    prototypes, weight = waste_prototypes(waste, other)
    return lambda new: prototype_scores(new, prototypes, weight)


def main() -> None:
    """Fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of embeddings.npz, and of test.npz if that is there"
    )
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    photos = Photos(options.work)
    by = {
        by: photos.crossed("before", lambda waste, other, label: score_of(waste, other), by)
        for by in ("group", "family")
    }
    crossed = by["group"]
    families = np.unique(photos.family[photos.split == "field"])
    cut = threshold(
        [crossed[0][(photos.split == "field") & (photos.family == f)] for f in families],
        crossed[1].reshape(-1),
    )
    x = photos.stored["before"].astype(np.float32)
    waste = (photos.split == "train") | (photos.split == "field")
    prototypes, weight = (
        part.astype(np.float16).astype(np.float32)
        for part in waste_prototypes(x[waste], x[photos.split == "notwaste"])
    )
    scored = np.isfinite(crossed[0])
    by_score = LogisticRegression(C=100, class_weight="balanced").fit(
        (crossed[0][scored, None] - cut) * 10, photos.split[scored] == "field"
    )
    steepness = float(by_score.coef_[0, 0]) * 10

    def score(new: np.ndarray) -> np.ndarray:
        return prototype_scores(new, prototypes, weight)

    val = score(x[photos.split == "val"])
    cut = min(
        cut, float(np.quantile(val, LOST_VAL, method="lower"))
    )  # fitted on all, it may reject more of them
    record = {
        "crossed_by_group": figures(photos, *by["group"]),
        "crossed_by_family": figures(photos, *by["family"]),
        "threshold": cut,
        "trashnet_val_rejected": round(100 * float((val < cut).mean()), 1),
        "bytes_in_half_precision": 2 * prototypes.size + 2 * weight.size,
        "prototypes": PROTOTYPES,
        "steepness": steepness,
    }
    if (options.work / "test.npz").is_file():
        with np.load(options.work / "test.npz") as stored:
            tested = score(stored["before"][int((photos.split == "val").sum()) :].astype(np.float32))
        rejected = interval((tested < cut).astype(float), np.arange(len(tested)))
        record |= {"trashnet_test_rejected": rejected, "n_test": len(tested)}
    np.savez(
        options.output,
        prototypes=steepness * prototypes,
        weight=steepness * weight,
        bias=-steepness * cut,
        auroc=record["crossed_by_group"]["families"]["all"]["auroc_field"],
    )
    (options.work / "rejection_head.json").write_text(json.dumps(record, indent=1))
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

"""Fit the rejection head that was chosen on all photos, and count what it rejects of TrashNet's test.

    python scripts/field/fit_field_rejection.py --work work --output rejection_head.npz

The score of an embedding e before fine-tuning, scaled to length 1, is `max(prototypes @ e) + weight @ e`, prototypes
being stored as 8-bit whole numbers with one scale. The threshold is that of the fits by group, which left out each photo.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from compare_field_rejection import Photos, Score, figures, interval, threshold, unit
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression

COUNT, SHARE = 512, 0.5
Head = tuple[np.ndarray, np.ndarray]


def fit_head(waste: np.ndarray, other: np.ndarray) -> Head:
    """Prototypes (K, D), rounded to 8 bits, and the linear weight (D,) in units of the prototypes' score."""
    centres = unit(MiniBatchKMeans(COUNT, n_init=1, random_state=0).fit(unit(waste)).cluster_centers_)
    step = np.abs(centres).max() / 127
    centres = np.round(centres / step) * step
    truth = np.r_[np.ones(len(waste)), np.zeros(len(other))]
    fitted = LogisticRegression(C=1.0, class_weight="balanced", max_iter=200).fit(
        unit(np.r_[waste, other]), truth
    )
    weight = fitted.coef_[0]
    near, along = (unit(waste) @ centres.T).max(1), unit(waste) @ weight
    return centres, weight * SHARE * near.std() / along.std()


def as_score(head: Head) -> Score:
    """The score of embeddings (N, D)."""
    centres, weight = head
    return lambda new: (unit(new) @ centres.T).max(1) + unit(new) @ weight


def main() -> None:
    """Fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of embeddings.npz and test.npz")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    photos = Photos(options.work)
    crossed = photos.crossed("before", lambda waste, other, label: as_score(fit_head(waste, other)), "group")
    families = np.unique(photos.family[photos.split == "field"])
    cut = threshold(
        [crossed[0][(photos.split == "field") & (photos.family == f)] for f in families],
        crossed[1].reshape(-1),
    )
    x = photos.stored["before"].astype(np.float32)
    waste = (photos.split == "train") | (photos.split == "field")
    head = fit_head(x[waste], x[photos.split == "notwaste"])
    score = as_score(head)
    with np.load(options.work / "test.npz") as stored:
        tested = score(stored["before"][int((photos.split == "val").sum()) :].astype(np.float32))
    record = {
        "crossed_by_group": figures(photos, *crossed),
        "threshold": cut,
        "trashnet_test_rejected": interval((tested < cut).astype(float), np.arange(len(tested))),
        "n_test": len(tested),
        "trashnet_val_rejected": round(100 * float((score(x[photos.split == "val"]) < cut).mean()), 1),
        "bytes": COUNT * x.shape[1] + 4 * x.shape[1],
    }
    step = np.abs(head[0]).max() / 127
    np.savez(
        options.output,
        prototypes=np.round(head[0] / step).astype(np.int8),
        step=step,
        weight=head[1].astype(np.float32),
        threshold=cut,
    )
    (options.work / "rejection_head.json").write_text(json.dumps(record, indent=1))
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

"""Compare scores that tell waste from photos without waste, each measured on kinds of photos that it never learned from.

    python scripts/field/compare_field_rejection.py --work work/small --shipped shipped_predictions.npz --by group --output rejection-group.json

Each of seven fits leaves out one family of natural negatives, and of field waste either one whole family (`family`) or a
seventh of the groups of all families (`group`): every negative and every waste photo of the field is scored once, by a
fit that saw nothing of it. The threshold rejects at most 3% of TrashNet's validation photos and 8% of field waste (mean
over families), and looks at no negative.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

NEGATIVES = {
    "ground": ("taco_rf", "beach_ground", "tidybot"),
    "shops": ("grocery", "vegetables"),
    "things on floors": ("floor_objects",),
    "scenes": ("coco_open", "coco_objects", "openimages"),
    "objects in use": ("datacluster", "trashnetpp_more"),
    "coins": ("coins",),
    "hands": ("hands",),
}
PAIRED = ("trashnetpp", "drinkwaste", "bhaktapur", "personal", "one_class", "retail_table", "taco")
"""The family of field waste that is left out together with each family of negatives, in their order."""
HARD = ("coins", "objects in use")
"""Things of metal or glass that are not waste."""
LOST_VAL, LOST_FIELD = 0.03, 0.08
Score = Callable[[np.ndarray], np.ndarray]
"""Embeddings (N, D) to scores (N,), higher for waste."""


def scaled(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """In units of the deviation plus the median of all deviations (Tusher et al., 2001)."""
    spread = reference.std(0)
    return (x - reference.mean(0)) / (spread + np.median(spread) + 1e-6)


def unit(x: np.ndarray) -> np.ndarray:
    """Of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def linear(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
    """A logistic regression of waste against negatives, both as heavy."""
    truth = np.r_[np.ones(len(waste)), np.zeros(len(other))]
    x = scaled(np.r_[waste, other], waste)
    fitted = LogisticRegression(C=3e-3, class_weight="balanced", max_iter=150).fit(x, truth)
    return lambda new: fitted.decision_function(scaled(new, waste))


def perceptron(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
    """A network of one hidden layer of 64."""
    torch.manual_seed(0)
    x = torch.from_numpy(scaled(np.r_[waste, other], waste)).float()
    truth = torch.cat([torch.ones(len(waste)), torch.zeros(len(other))])
    weight = torch.where(truth > 0, 0.5 / len(waste), 0.5 / len(other))
    hidden = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 64), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 1)
    )
    optimizer = torch.optim.AdamW(hidden.parameters(), lr=2e-3, weight_decay=0.1)
    for _ in range(100):
        loss = (F.binary_cross_entropy_with_logits(hidden(x)[:, 0], truth, reduction="none") * weight).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    hidden.eval()
    with torch.no_grad():
        return lambda new: hidden(torch.from_numpy(scaled(new, waste)).float())[:, 0].detach().numpy()


def prototypes(count: int) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Score]:
    """The largest cosine to centres of k-means of waste."""

    def fit(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
        centres = unit(MiniBatchKMeans(count, n_init=1, random_state=0).fit(unit(waste)).cluster_centers_)
        return lambda new: (unit(new) @ centres.T).max(1)

    return fit


def soft_prototypes(count: int, steepness: float) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Score]:
    """As `prototypes`, with a soft maximum: the more prototypes are near, the higher."""

    def fit(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
        centres = unit(MiniBatchKMeans(count, n_init=1, random_state=0).fit(unit(waste)).cluster_centers_)
        return lambda new: np.log(np.exp(steepness * (unit(new) @ centres.T)).mean(1)) / steepness

    return fit


def powered(exponent: float, fit: Callable[..., Score]) -> Callable[..., Score]:
    """The same on embeddings to a power (square roots: Arandjelovic and Zisserman, 2012); they are never negative."""

    def fit_powered(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
        score = fit(waste**exponent, other**exponent, label)
        return lambda new: score(new**exponent)

    return fit_powered


def energy(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
    """The energy of a linear head for which no class is likely on negatives (Hendrycks et al., 2019; Liu et al., 2020)."""
    classes = int(label.max()) + 1
    x = torch.from_numpy(scaled(np.r_[waste, other], waste)).float()
    target = torch.cat(
        [F.one_hot(torch.from_numpy(label), classes).float(), torch.full((len(other), classes), 1 / classes)]
    )
    weight = torch.cat(
        [torch.full((len(waste),), 0.5 / len(waste)), torch.full((len(other),), 0.5 / len(other))]
    )
    head = torch.nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(150):
        loss = (F.cross_entropy(head(x), target, reduction="none") * weight).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lambda new: head(torch.from_numpy(scaled(new, waste)).float()).logsumexp(1).detach().numpy()


def neighbours(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
    """The cosine to the tenth nearest photo of waste (Sun et al., 2022)."""
    known = unit(waste)
    return lambda new: np.partition(unit(new) @ known.T, -10, axis=1)[:, -10]


def deviating(fit: Callable[[np.ndarray, np.ndarray, np.ndarray], Score]) -> Callable[..., Score]:
    """The same on embeddings in units of their deviation on waste, around its mean."""

    def fit_deviating(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
        score = fit(scaled(waste, waste), scaled(other, waste), label)
        return lambda new: score(scaled(new, waste))

    return fit_deviating


def unit_linear(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
    """A logistic regression on embeddings of length 1."""
    truth = np.r_[np.ones(len(waste)), np.zeros(len(other))]
    fitted = LogisticRegression(C=1.0, class_weight="balanced", max_iter=200).fit(
        unit(np.r_[waste, other]), truth
    )
    return lambda new: fitted.decision_function(unit(new))


def together(*fits: Callable[..., Score], weights: tuple[float, ...] = (1.0, 1.0)) -> Callable[..., Score]:
    """A weighted sum of two scores, each in units of its deviation on waste that was learned from."""

    def fit(waste: np.ndarray, other: np.ndarray, label: np.ndarray) -> Score:
        parts = [one(waste, other, label) for one in fits]
        factors = [weight / part(waste).std() for part, weight in zip(parts, weights, strict=True)]
        return lambda new: sum(part(new) * factor for part, factor in zip(parts, factors, strict=True))

    return fit


def heads(nearest: Callable[..., Score]) -> Callable[..., Score]:
    """What is shipped: half a linear map on embeddings of length 1, and likeness to prototypes."""
    return together(unit_linear, nearest, weights=(0.5, 1.0))


METHODS: dict[str, tuple[str, Callable[..., Score]]] = {
    "linear, before": ("before", linear),
    "64 prototypes, before": ("before", prototypes(64)),
    "512 prototypes, before": ("before", prototypes(512)),
    "64 prototypes in deviations, before": ("before", deviating(prototypes(64))),
    "10th neighbour, before": ("before", neighbours),
    "linear + 64 prototypes, before": ("before", together(linear, prototypes(64))),
    "linear + 512 prototypes, before": ("before", together(linear, prototypes(512))),
    "linear + 64 in deviations, before": ("before", together(linear, deviating(prototypes(64)))),
    "0.5 linear on unit length + 512 prototypes, before": (
        "before",
        heads(prototypes(512)),
    ),
    "the same with 192, of square roots": ("before", powered(0.5, heads(prototypes(192)))),
    "the same with 192, to the power of 0.75": ("before", powered(0.75, heads(prototypes(192)))),
    "the same with 192, to the power of 1.5": ("before", powered(1.5, heads(prototypes(192)))),
    "the same with 192, a soft maximum": ("before", heads(soft_prototypes(192, 30.0))),
    "linear, after": ("after", linear),
    "64 prototypes, after": ("after", prototypes(64)),
    "linear + 64 prototypes, after": ("after", together(linear, prototypes(64))),
    "energy with outlier exposure, before": ("before", energy),
    "MLP of 64, before": ("before", perceptron),
}
"""On embeddings before or after fine-tuning."""


class Photos:
    """Embeddings, and which photo belongs where."""

    def __init__(self, work: Path) -> None:
        with np.load(work / "embeddings.npz") as stored:
            self.stored = {name: stored[name] for name in stored.files}
        self.source, self.family = self.stored["source"], self.stored["family"]
        self.split, self.label = self.stored["split"], self.stored["label"]
        self.group, self.name = self.stored["group"], self.stored["name"]

    def negative(self, family: str) -> np.ndarray:
        """Rows of a family of natural negatives."""
        return (self.split == "notwaste") & np.isin(self.source, NEGATIVES[family])

    def left_out(self, number: int, by: str) -> np.ndarray:
        """Rows that fit `number` leaves out: a family of negatives, and field waste by family or by group."""
        if by == "family":
            waste = self.family == PAIRED[number]
        else:
            waste = np.array(
                [int(hashlib.sha256(g.encode()).hexdigest(), 16) % 7 == number for g in self.group]
            )
        return self.negative(list(NEGATIVES)[number]) | ((self.split == "field") & waste)

    def crossed(
        self, features: str, method: Callable[..., Score], by: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score each photo by a fit that did not see it: negatives and field waste (N,), val (7, n), held-out made ones (7, m)."""
        x = self.stored[features].astype(np.float32)
        scores, val, held_out = np.full(len(x), np.nan), [], []
        made, natural = self.source == "made", np.isin(self.source, sum(NEGATIVES.values(), ()))
        for number in range(len(NEGATIVES)):
            left = self.left_out(number, by)
            waste = ((self.split == "train") | (self.split == "field")) & ~left
            other = (((self.split == "notwaste") & natural) | made) & ~left
            score = method(x[waste], x[other], self.label[waste])
            scores[left] = score(x[left])
            val.append(score(x[self.split == "val"]))
            held_out.append(score(x[self.source == "made_held_out"]))
        return scores, np.array(val), np.array(held_out)


def threshold(field: list[np.ndarray], val: np.ndarray) -> float:
    """The largest score that rejects few enough of both."""
    for candidate in np.sort(np.concatenate([*field, val]))[::-1]:
        lost = np.mean([(one < candidate).mean() for one in field])
        if lost <= LOST_FIELD and (val < candidate).mean() <= LOST_VAL:
            return float(candidate)
    raise ValueError("no threshold")


def interval(values: np.ndarray, group: np.ndarray, draws: int = 500) -> list[float]:
    """A share in percent, and its 95% interval by a bootstrap over groups."""
    names, number = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(0)
    total, right = np.bincount(number), np.bincount(number, values)
    found = []
    for _ in range(draws):
        drawn = rng.integers(len(names), size=len(names))
        found.append(right[drawn].sum() / total[drawn].sum())
    return [round(100 * float(v), 1) for v in (values.mean(), *np.quantile(found, [0.025, 0.975]))]


def figures(photos: Photos, scores: np.ndarray, val: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    """AUROC and rejected shares by family of negatives, and what waste is lost."""
    field = [scores[(photos.split == "field") & (photos.family == f)] for f in PAIRED]
    cut = threshold(field, val.reshape(-1))
    waste = np.concatenate(field)
    families = {}
    rows = {name: photos.negative(name) for name in NEGATIVES}
    rows["glass and metal that is not waste"] = np.any([rows[name] for name in HARD], axis=0)
    rows["all"] = np.any([rows[name] for name in NEGATIVES], axis=0)
    for name, chosen in rows.items():
        truth = np.r_[np.ones(len(waste)), np.zeros(chosen.sum())]
        families[name] = {
            "n": int(chosen.sum()),
            "auroc_field": round(float(roc_auc_score(truth, np.r_[waste, scores[chosen]])), 3),
            "rejected": interval((scores[chosen] < cut).astype(float), photos.group[chosen]),
        }
    natural = [families[name] for name in NEGATIVES]
    truth = np.r_[np.ones(val.size), np.zeros(int(rows["all"].sum()))]
    return {
        "families": families,
        "mean_auroc_field": round(float(np.mean([one["auroc_field"] for one in natural])), 3),
        "mean_rejected": round(float(np.mean([one["rejected"][0] for one in natural])), 1),
        "auroc_trashnet_val": round(
            float(roc_auc_score(truth, np.r_[val.reshape(-1), scores[rows["all"]]])), 3
        ),
        "lost_val": round(100 * float((val < cut).mean()), 1),
        "lost_field": {
            f: round(100 * float((one < cut).mean()), 1) for f, one in zip(PAIRED, field, strict=True)
        },
        "lost_field_mean": round(100 * float(np.mean([(one < cut).mean() for one in field])), 1),
        "made_rejected": round(100 * float((made < cut).mean()), 1) if made.size else None,
    }


def shipped_figures(photos: Photos, file: Path) -> dict[str, Any]:
    """The detector of the model shipped today, at its own threshold moved to the same losses."""
    with np.load(file) as stored:
        row = {name: i for i, name in enumerate(stored["name"])}
        waste = 1 - stored["probabilities"][:, -1]
    logit = np.log(np.clip(waste, 1e-7, 1 - 1e-7) / np.clip(1 - waste, 1e-7, 1))
    scores = np.array([logit[row[name]] if name in row else np.nan for name in photos.name])
    found = figures(photos, scores, scores[photos.split == "val"], np.zeros(0))
    natural = np.any([photos.negative(name) for name in NEGATIVES], axis=0)
    found["rejected_at_its_own_threshold"] = interval(
        (scores[natural] < 0).astype(float), photos.group[natural]
    )
    return found


def main() -> None:
    """Compare all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of embeddings.npz")
    parser.add_argument("--shipped", type=Path, required=True, help="predictions of the model shipped today")
    parser.add_argument(
        "--by", choices=["family", "group"], default="group", help="how field waste is left out"
    )
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = Photos(options.work)
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    found["shipped today"] = shipped_figures(photos, options.shipped)
    for name, (features, method) in METHODS.items():
        if name in found:
            continue
        began = time.monotonic()
        found[name] = figures(photos, *photos.crossed(features, method, options.by))
        one = found[name]
        print(
            f"{name:40s} AUROC {one['mean_auroc_field']} rejected {one['mean_rejected']} all {one['families']['all']['rejected']}"
            f" val {one['lost_val']} field {one['lost_field_mean']} {time.monotonic() - began:.0f} s",
            flush=True,
        )
        options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

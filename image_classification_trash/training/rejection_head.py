"""Fit the rejection head on embeddings of waste and of none, with drawn backgrounds as negatives.

`fit_to_embeddings` fits a linear map. `fit_prototypes` needs the photos without waste of a data sources file, and
embeddings from before fine-tuning: a linear map against them, plus the likeness to the nearest of a few hundred
prototypes of waste (references/field_training.md compares both with others).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression

from image_classification_trash.arrays import Embeddings, Floats
from image_classification_trash.evaluation.rejection import auroc

INVERSE_REGULARISATIONS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Values of C to try; the one with the best AUROC of validation photos against held-out backgrounds is kept."""


PROTOTYPES = 192
"""Number of prototypes: 1 MB in single precision, and as good as 512 on families of negatives left out."""
SHARE = 0.5
"""Weight of the linear map against the prototypes, both in units of their deviation on waste."""


@dataclass(frozen=True)
class RejectionHead:
    """A fitted rejection head: a photo shows waste if `embeddings @ weight + bias` is above 0; weight (D,).

    Attributes:
        weight: (D,).
        bias: added to the scores.
        auroc: of validation photos against held-out backgrounds.
        kept: share of validation photos with a score above 0.
    """

    weight: Embeddings
    bias: float
    auroc: float
    kept: float

    def logits(self, embeddings: Embeddings) -> Floats:
        """Return the scores (N,) of embeddings (N, D)."""
        return np.asarray(embeddings @ self.weight + self.bias, dtype=np.float64)


def fit_to_embeddings(
    waste: Embeddings, other: Embeddings, val_waste: Embeddings, val_other: Embeddings, rejected: float
) -> RejectionHead:
    """Fit on training photos; choose C on validation, and the bias on validation photos of waste.

    Args:
        waste: embeddings (N, D) of photos with waste.
        other: embeddings (M, D) of photos without.
        val_waste: embeddings of validation photos with waste.
        val_other: embeddings of photos without waste from a family held out from training.
        rejected: share of `val_waste` that may be rejected.
    """
    tried = [
        _fit(waste, other, val_waste, val_other, inverse_regularisation, rejected)
        for inverse_regularisation in INVERSE_REGULARISATIONS
    ]
    return max(tried, key=lambda rejection_head: rejection_head.auroc)


@dataclass(frozen=True)
class PrototypeRejectionHead:
    """A fitted rejection head: a photo shows waste if `max(e @ prototypes.T) + e @ weight + bias` is above 0.

    e is its embedding, scaled to length 1.

    Attributes:
        prototypes: (K, D).
        weight: (D,).
        bias: added to the scores.
        auroc: of validation photos against held-out photos without waste.
        kept: share of validation photos with a score above 0.
    """

    prototypes: Embeddings
    weight: Embeddings
    bias: float
    auroc: float
    kept: float

    def logits(self, embeddings: Embeddings) -> Floats:
        """Return the scores (N,) of embeddings (N, D)."""
        return np.asarray(prototype_scores(embeddings, self.prototypes, self.weight) + self.bias, np.float64)


def fit_prototypes(
    waste: Embeddings, other: Embeddings, val_waste: Embeddings, val_other: Embeddings, rejected: float
) -> PrototypeRejectionHead:
    """Fit prototypes of waste and a linear map; the arguments are those of `fit_to_embeddings`."""
    prototypes, weight = waste_prototypes(waste, other)
    scores, others = (prototype_scores(given, prototypes, weight) for given in (val_waste, val_other))
    steepness, lowest = _steepness(scores, others), float(np.quantile(scores, rejected))
    return PrototypeRejectionHead(
        steepness * prototypes,
        steepness * weight,
        -float(steepness) * lowest,
        auroc(scores, others),
        float((scores >= lowest).mean()),
    )


def waste_prototypes(
    waste: Embeddings, other: Embeddings, count: int = PROTOTYPES, share: float = SHARE
) -> tuple[Embeddings, Embeddings]:
    """Return prototypes of waste (K, D), of length 1, and a linear weight (D,) that adds to the largest cosine.

    Args:
        waste: embeddings (N, D) of photos with waste.
        other: embeddings (M, D) of photos without.
        count: number of prototypes, which are the centres of k-means; at most one a distinct photo.
        share: weight of the linear map, where the prototypes have 1.
    """
    known, unknown = unit(waste), unit(other)
    clusters = MiniBatchKMeans(min(count, len(np.unique(known, axis=0))), n_init=1, random_state=0).fit(known)
    prototypes = unit(clusters.cluster_centers_.astype(np.float32))
    y_true = np.r_[np.ones(len(known)), np.zeros(len(unknown))]
    fitted = LogisticRegression(C=1.0, class_weight="balanced", max_iter=200).fit(
        np.concatenate([known, unknown]), y_true
    )
    weight = fitted.coef_[0]
    spread = (known @ prototypes.T).max(1).std() / ((known @ weight).std() + 1e-12)
    return prototypes, np.asarray(share * spread * weight, np.float32)


def prototype_scores(embeddings: Embeddings, prototypes: Embeddings, weight: Embeddings) -> Floats:
    """Return the largest product with a prototype (K, D) plus that with the weight (D,), of embeddings (N, D) at length 1."""
    scaled = unit(embeddings)
    return np.asarray((scaled @ prototypes.T).max(1) + scaled @ weight, np.float64)


def unit(embeddings: Embeddings) -> Embeddings:
    """Scale embeddings (N, D) to length 1."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(length, 1e-6), np.float32)


def _fit(waste: Embeddings, other: Embeddings, val_waste: Embeddings, val_other: Embeddings,
         inverse_regularisation: float, rejected: float) -> RejectionHead:  # fmt: skip
    mean, spread = waste.mean(0), _spread(waste)
    x = (np.concatenate([waste, other]) - mean) / spread
    y_true = np.r_[np.ones(len(waste)), np.zeros(len(other))]
    fitted = LogisticRegression(C=inverse_regularisation, class_weight="balanced", max_iter=500).fit(
        x, y_true
    )
    weight = (fitted.coef_[0] / spread).astype(np.float32)
    weight *= _steepness(val_waste @ weight, val_other @ weight)
    scores, others = val_waste @ weight, val_other @ weight
    bias = -float(np.quantile(scores, rejected))
    return RejectionHead(weight, bias, auroc(scores, others), float((scores + bias >= 0).mean()))


def _spread(waste: Embeddings) -> Embeddings:
    """Return the scale (D,) of each dimension: its standard deviation plus their median (Tusher et al., 2001).

    Without the median, a nearly constant dimension would get so large a weight that it dominates the score whenever it
    varies, and that int8 quantisation rounds all other weights to zero.
    """
    deviations = waste.std(0)
    return np.asarray(deviations + np.median(deviations) + 1e-6, dtype=np.float32)


def _steepness(waste: Floats, other: Floats) -> np.float32:
    """Return the factor that scales scores to log odds on validation (Platt, 1999)."""
    scores = np.r_[waste, other]
    y_true = np.r_[np.ones(len(waste)), np.zeros(len(other))]
    spread = scores.std() + 1e-12
    fitted = LogisticRegression(C=10, class_weight="balanced").fit((scores / spread)[:, None], y_true)
    return np.float32(max(fitted.coef_[0, 0], 1e-3) / spread)

"""Does a photo show waste at all? A linear detector on the backbone's embeddings, fitted on drawn backgrounds without waste."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from image_classification_trash.arrays import Embeddings, Floats

INVERSE_REGULARISATIONS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Inverse regularisation strengths tried; the one that parts held-out backgrounds from validation photos best is kept."""


@dataclass(frozen=True)
class RejectionHead:
    """Shows waste where `embeddings @ weight + bias` is above 0; weight (D,).

    Attributes:
        auroc: of validation photos against held-out backgrounds.
        kept: share of the validation photos above 0.
    """

    weight: Embeddings
    bias: float
    auroc: float
    kept: float

    def logits(self, embeddings: Embeddings) -> Floats:
        """Scores (N,) of embeddings (N, D)."""
        return np.asarray(embeddings @ self.weight + self.bias, dtype=np.float64)


def fit_to_embeddings(
    waste: Embeddings, other: Embeddings, val_waste: Embeddings, val_other: Embeddings, rejected: float
) -> RejectionHead:
    """Fit on training photos, choose the strength on validation, and set the bias by validation photos of waste.

    Args:
        waste: embeddings (N, D) of photos with waste.
        other: embeddings (M, D) of photos without.
        val_waste: of validation photos with waste.
        val_other: of photos without waste of a family that training has not seen.
        turned_away: share of `val_waste` that may be taken for no waste.
    """
    tried = [
        _fit(waste, other, val_waste, val_other, inverse_regularisation, rejected)
        for inverse_regularisation in INVERSE_REGULARISATIONS
    ]
    return max(tried, key=lambda rejection_head: rejection_head.auroc)


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
    auroc = roc_auc_score(np.r_[np.ones(len(scores)), np.zeros(len(others))], np.r_[scores, others])
    return RejectionHead(weight, bias, float(auroc), float((scores + bias >= 0).mean()))


def _spread(waste: Embeddings) -> Embeddings:
    """The unit of each number of an embedding (D,): its deviation plus their median (Tusher et al., 2001).

    Without the median, one that is nearly always the same would get a weight so large that it decides alone where it
    is not, and that in 8 bits no other weight is left beside it.
    """
    deviations = waste.std(0)
    return np.asarray(deviations + np.median(deviations) + 1e-6, dtype=np.float32)


def _steepness(waste: Floats, other: Floats) -> np.float32:
    """The factor that makes differences of scores differences of log odds on validation (Platt, 1999)."""
    scores = np.r_[waste, other]
    y_true = np.r_[np.ones(len(waste)), np.zeros(len(other))]
    spread = scores.std() + 1e-12
    fitted = LogisticRegression(C=10, class_weight="balanced").fit((scores / spread)[:, None], y_true)
    return np.float32(max(fitted.coef_[0, 0], 1e-3) / spread)

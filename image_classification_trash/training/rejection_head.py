"""Fit the rejection head: a linear classifier of waste against none on embeddings, with drawn backgrounds as negatives.

The photos without waste of a data sources file are further negatives.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from image_classification_trash.arrays import Embeddings, Floats
from image_classification_trash.evaluation.rejection import auroc

INVERSE_REGULARISATIONS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Values of C to try; the one with the best AUROC of validation photos against held-out backgrounds is kept."""


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

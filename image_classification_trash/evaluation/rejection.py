"""Measure how well a model rejects photos that show no waste."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from image_classification_trash.arrays import Floats
from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.errors import DatasetError
from image_classification_trash.evaluation.bootstrap import bootstrap_weights, interval
from image_classification_trash.evaluation.metrics import roc_auc
from image_classification_trash.evaluation.result import NotWaste
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.inference.classifier import Prediction
from image_classification_trash.inference.images import PHOTO_SUFFIXES

KEPT = 0.95


def measure_rejection(
    bundle: Bundle,
    waste: Sequence[Prediction],
    answers: Sequence[Prediction],
    settings: EvaluateSettings,
    name: str | None = None,
) -> NotWaste:
    """Compare the answers for photos of waste, all readable, with those for photos without.

    Args:
        bundle: the model.
        waste: answers for photos of waste.
        answers: for photos without.
        settings: resamples and seed of the intervals.
        name: of the photos without waste; None for that of the folder `settings.not_waste`.
    """
    other = [answer for answer in answers if answer.error is None]
    kept, scores = _scores(bundle, waste), _scores(bundle, other)  # (N,), (M,)
    rejected = np.array([answer.decision != answer.label for answer in other])
    certain = np.array([a.decision == a.label and (a.probability or 0.0) > 0.9 for a in other])
    n, generator = len(other), np.random.default_rng(settings.seed)
    of_kept = bootstrap_weights(len(waste), settings.resamples, generator)  # (R, N)
    weights = bootstrap_weights(len(other), settings.resamples, generator)  # (R, M)
    both, y_true = np.r_[kept, scores], np.r_[np.zeros(len(waste), int), np.ones(n, int)]
    area = roc_auc(y_true, np.stack([both, -both], 1), np.hstack([of_kept, weights]))[:, 0]
    limits = [np.quantile(np.repeat(kept, row.astype(int)), 1 - KEPT) for row in of_kept]
    passing = scores >= np.array(limits)[:, None]  # (R, M)
    figures = {
        "auroc": interval(area, min(len(waste), n)),
        "fpr_at_95": interval((weights * passing).sum(1) / n, n),
        "rejected": interval(weights @ rejected / n, n),
        "accepted_above": interval(weights @ certain / n, n),
    }
    detects = bundle.config.negative_label is not None
    return NotWaste(
        name=name or (settings.not_waste.name if settings.not_waste else ""),
        n=n,
        unreadable=len(answers) - len(other),
        score="waste score" if detects else "largest probability",
        **figures,
    )


def photos_in(folder: Path) -> list[Path]:
    """List the photos in a folder and the folders below it.

    Raises:
        DatasetError: the folder does not exist or contains no photos.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        found = f"{folder} holds no photos." if folder.is_dir() else f"There is no folder {folder}."
        raise DatasetError(found, "Give --not-waste a folder of photos that show no waste.")
    return files


def auroc(positive: Floats, negative: Floats) -> float:
    """Return the area under the ROC curve of the scores (N,) of positive and (M,) of negative photos."""
    y_true = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return float(roc_auc_score(y_true, np.r_[positive, negative]))


def _scores(bundle: Bundle, answers: Sequence[Prediction]) -> Floats:
    if bundle.config.negative_label is None:
        return np.array([answer.probability for answer in answers], float)
    return np.array([answer.waste_score for answer in answers], float)

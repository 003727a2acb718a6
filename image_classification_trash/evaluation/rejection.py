"""Measure how well a model rejects photos that show no waste."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from image_classification_trash.arrays import Floats
from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.errors import DatasetError
from image_classification_trash.evaluation.result import Interval, NotWaste
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.inference.classifier import Prediction
from image_classification_trash.inference.images import PHOTO_SUFFIXES

KEPT = 0.95


def measure_rejection(
    bundle: Bundle, waste: Sequence[Prediction], answers: Sequence[Prediction], settings: EvaluateSettings
) -> NotWaste:
    """Compare the answers for photos of waste, all readable, with those for the photos in the folder `settings.not_waste`."""
    other = [answer for answer in answers if answer.error is None]
    scores = _scores(bundle, waste), _scores(bundle, other)
    rejected = np.array([answer.decision != answer.label for answer in other], float)
    certain = np.array([a.decision == a.label and (a.probability or 0.0) > 0.9 for a in other], float)
    interval = partial(_with_interval, np.random.default_rng(settings.seed), settings.resamples)
    detects = bundle.config.negative_label is not None
    assert settings.not_waste is not None
    return NotWaste(
        name=settings.not_waste.name,
        n=len(other),
        unreadable=len(answers) - len(other),
        score="waste score" if detects else "largest probability",
        auroc=interval(auroc, *scores),
        fpr_at_95=interval(lambda w, o: float((o >= np.quantile(w, 1 - KEPT)).mean()), *scores),
        rejected=interval(_share, scores[0], rejected),
        accepted_above=interval(_share, scores[0], certain),
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


def _share(_: Floats, rows: Floats) -> float:
    return float(rows.mean())


def _with_interval(
    rng: np.random.Generator,
    resamples: int,
    figure: Callable[[Floats, Floats], float],
    waste: Floats,
    other: Floats,
) -> Interval:
    """Return the figure with its 95% interval, from resampling both sets of photos."""
    drawn = [
        figure(
            waste[rng.integers(len(waste), size=len(waste))], other[rng.integers(len(other), size=len(other))]
        )
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(figure(waste, other), float(low), float(high))

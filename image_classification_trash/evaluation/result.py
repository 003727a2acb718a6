"""What an evaluation measured, and on what."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.inference.bundle import (
    Bundle,
)
from image_classification_trash.inference.classifier import Prediction


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos to measure on: where, what they show, and what to call them."""

    name: str
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what pictures of it need.

    Attributes:
        bundle: the bundle, its metrics and card on disk brought up to date.
        photos: what it was measured on.
        truth: class numbers (N,) of the photos that could be read.
        probabilities: calibrated, (N, C), of the classes of waste, given that there is some.
        paths: of the photos that could be read.
        metrics: ready for JSON, conditions included.
        unreadable: predictions of the photos that could not be read.
    """

    bundle: Bundle
    photos: LabelledPhotos
    truth: Ints
    probabilities: Floats
    paths: tuple[Path, ...]
    metrics: dict[str, Any]
    unreadable: tuple[Prediction, ...]

"""A model without weights, for the tests of serving: the mean colour of a photo decides. No engine is needed."""

from collections.abc import Callable

import numpy as np
from fastapi.testclient import TestClient

from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.images import Pixels
from image_classification_trash.inference.runtimes import Probabilities

SIZE = (64, 80)
LABELS = ("glass", "métal, fin", "紙 箱")
CONFIG = BundleConfig(
    name="tiny", architecture="mean_colour", labels=LABELS, input_height=64, input_width=80, resize_mode="stretch",
    temperature=1.0, threshold=0.5, data={"fingerprint": "abc"}, training={}, git_commit="0", versions={}, created="now",
)  # fmt: skip
MakeClient = Callable[..., TestClient]


def mean_colour(photos: Pixels) -> Probabilities:
    """uint8 (B, H, W, 3) to float32 (B, 3)."""
    scores = np.exp(photos.mean((1, 2)) / 25.5)
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)

"""Training for the field, its last step: a rejection head, fitted on backgrounds without waste, and what a shift costs."""

from dataclasses import dataclass

import numpy as np
import torch

from image_classification_trash.arrays import Floats
from image_classification_trash.features.synthesis.shifted_photos import accuracy_under_shift
from image_classification_trash.inference.images import Pixels
from image_classification_trash.networks.device import training_device
from image_classification_trash.networks.network import EmbeddingBackbone, TrashNetwork
from image_classification_trash.training.data import TrainingData
from image_classification_trash.training.rejection_head import RejectionHead, fit_to_embeddings

LOST = 0.01
"""Share of the validation photos that the detector may take for no waste."""


@dataclass(frozen=True)
class RejectionHeadRecord:
    """How well a detector does on validation, as in `Detector`."""

    auroc: float
    kept: float


@dataclass(frozen=True)
class ShiftRecord:
    """What was measured on shifted validation photos; the names are those in a bundle's config.json.

    Attributes:
        validation_under_shift: accuracy by the name of the shift, `clean` among them.
        detector: the rejection head's figures.
    """

    validation_under_shift: dict[str, float]
    rejection_head: RejectionHeadRecord


def fit_rejection_head(network: TrashNetwork, data: TrainingData, accelerator: str) -> ShiftRecord:
    """Fit the network's detector of waste, and measure on shifted validation photos.

    On the accelerator that trained, where there is one: thousands of made-up photos are embedded. Leaves the network on the CPU.
    """
    device = training_device(accelerator)
    backbone = EmbeddingBackbone(network.to(device))
    rejection_head = _fit_to_embeddings(backbone, data)

    def scores(photos: Pixels) -> Floats:
        embedded = torch.from_numpy(backbone.embed(photos))
        with torch.inference_mode():
            return np.asarray(network.head(embedded.to(device)).cpu().numpy(), dtype=np.float64)

    right = accuracy_under_shift(scores, data.shifted)
    network.cpu().set_rejection_head(rejection_head.weight, rejection_head.bias)
    return ShiftRecord(right, RejectionHeadRecord(rejection_head.auroc, rejection_head.kept))


def _fit_to_embeddings(backbone: EmbeddingBackbone, data: TrainingData) -> RejectionHead:
    """Photos as they are and pasted against drawn backgrounds and bare posterboard; chosen on the held-out family."""
    copy_pasted, other = data.rejection_photos()
    waste = backbone.embed(np.array(data.train_pixels)), backbone.embed(copy_pasted)
    val_waste = backbone.embed(data.shifted.clean_and_copy_pasted)
    val_other = backbone.embed(data.shifted.not_waste)
    return fit_to_embeddings(np.concatenate(waste), backbone.embed(other), val_waste, val_other, LOST)

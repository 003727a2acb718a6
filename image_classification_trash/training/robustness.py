"""The last step of training for the field: fit the rejection head, and measure accuracy under shift."""

from dataclasses import dataclass

import numpy as np
import torch

from image_classification_trash.arrays import Embeddings, Floats
from image_classification_trash.features.synthesis.shifted_photos import accuracy_under_shift
from image_classification_trash.inference.images import Pixels
from image_classification_trash.networks.network import EmbeddingBackbone, TrashNetwork
from image_classification_trash.training.data import TrainingData
from image_classification_trash.training.rejection_head import (
    PrototypeRejectionHead,
    RejectionHead,
    fit_prototypes,
    fit_to_embeddings,
)

LOST = 0.01
"""Share of the validation photos of waste that a linear rejection head may reject."""
LOST_TO_PROTOTYPES = 0.03
"""The same for one of prototypes, which rejects several times as many photos without waste of other places."""


@dataclass(frozen=True)
class RejectionHeadRecord:
    """Figures of a rejection head on validation, named as in `RejectionHead`."""

    auroc: float
    kept: float


@dataclass(frozen=True)
class ShiftRecord:
    """Figures on shifted validation photos, named as in a bundle's config.json.

    Attributes:
        validation_under_shift: accuracy by the name of the shift, including `clean`.
        rejection_head: figures of the rejection head.
    """

    validation_under_shift: dict[str, float]
    rejection_head: RejectionHeadRecord


def fit_rejection_head(network: TrashNetwork, data: TrainingData, train: Embeddings) -> ShiftRecord:
    """Fit the rejection head of the network, and measure accuracy on shifted validation photos.

    With a rejection tail the head has prototypes, else it is linear. Thousands of synthetic photos are embedded, on the
    device that the network is on. The network ends on the CPU.

    Args:
        network: after fine-tuning.
        data: of the training.
        train: embeddings of the train split, as `EmbeddingBackbone` returns them.
    """
    backbone = EmbeddingBackbone(network)

    def embed(photos: Pixels) -> Embeddings:  # those of the rejection tail, if there is one, are the last
        return backbone.embed(np.array(photos))[:, -network.width :]

    copy_pasted, other = data.rejection_photos()
    waste = np.concatenate([train[:, -network.width :], embed(copy_pasted)])
    val_waste = embed(data.shifted.clean_and_copy_pasted)
    val_other = embed(data.shifted.not_waste)  # of the family held out from training
    natural = data.natural_not_waste("val")
    if natural is not None:
        val_other = np.concatenate([val_other, embed(natural)])

    def scores(photos: Pixels) -> Floats:
        embedded = torch.from_numpy(backbone.embed(photos)).to(network.mean.device)
        with torch.inference_mode():
            return np.asarray(network.head(embedded[:, : network.width]).cpu().numpy(), dtype=np.float64)

    right = accuracy_under_shift(scores, data.shifted)
    network.cpu()
    fitted: RejectionHead | PrototypeRejectionHead
    if network.rejection_tail is None:
        fitted = fit_to_embeddings(waste, embed(other), val_waste, val_other, LOST)
        network.set_rejection_head(fitted.weight, fitted.bias)
    else:
        fitted = fit_prototypes(waste, embed(other), val_waste, val_other, LOST_TO_PROTOTYPES)
        network.set_prototype_head(fitted.prototypes, fitted.weight, fitted.bias)
    return ShiftRecord(right, RejectionHeadRecord(fitted.auroc, fitted.kept))

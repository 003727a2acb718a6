"""Adjust the scores of a trained network: logit adjustment, and calibration on the val split."""

import numpy as np
import torch

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.config.training import CalibrationSettings
from image_classification_trash.evaluation.calibration import Calibration, calibrate
from image_classification_trash.networks.network import PIECE, TrashNetwork, to_planes
from image_classification_trash.training.batches import OrderedBatches, SplitPhotos


def adjust_logits(
    network: TrashNetwork, y_true: Ints, share: float, photo_weights: Floats | None = None
) -> None:
    """Subtract `share` of the log class frequencies in training from the scores (logit adjustment, Menon et al., 2021).

    Class frequencies in training say little about those in use. A loss weighted by frequency to the power of -w has
    already subtracted a share w; a further 1 - w treats all classes as equally likely. `photo_weights` (N,), of mean 1,
    are those that the photos had in training.
    """
    network.shift_scores(-share * np.log(np.bincount(y_true, photo_weights) / len(y_true)))


def calibrate_network(network: TrashNetwork, val: SplitPhotos, settings: CalibrationSettings) -> Calibration:
    """Calibrate on the val split, and set the temperature of the network, which ends on the CPU."""
    scores, waste = validation_scores(network, val)
    calibration = calibrate(
        val.y_true,
        scores,
        waste,
        settings.target_precision,
        settings.max_rejected,
        settings.prediction_set_coverage,
    )
    network.temperature.fill_(calibration.temperature)
    return calibration


def validation_scores(network: TrashNetwork, val: SplitPhotos) -> tuple[Floats, Floats | None]:
    """Return the scores (N, C) before the temperature, and with a rejection head the probability of waste (N,)."""
    network = network.eval().cpu()
    with torch.inference_mode():
        vectors = [network.embed_all(to_planes(photos)) for photos, _ in OrderedBatches(val, PIECE)]
        embedded = torch.cat(vectors)  # (N, D); with a rejection tail (N, 2D), of which its own are the last
        scores = network.head(embedded[:, : network.width]).numpy().astype(np.float64)
        waste = (
            None
            if network.rejection_head is None
            else torch.sigmoid(network.rejection_head(embedded[:, -network.width :])).numpy()
        )
    return scores, None if waste is None else waste[:, 0]

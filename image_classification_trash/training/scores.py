"""What is done to the scores of a trained network: logit adjustment, and calibration on the val split."""

import numpy as np
import torch

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.evaluation.calibration import Calibration, calibrate
from image_classification_trash.networks.network import PIECE, TrashNetwork, to_planes
from image_classification_trash.training.batches import OrderedBatches, SplitPhotos


def adjust_logits(network: TrashNetwork, y_true: Ints, share: float) -> None:
    """Take `share` of the classes' log frequencies among training photos off their scores (logit adjustment, Menon et al., 2021).

    How frequent a class is where photos will be taken is not known from how frequent it is among those of training. A
    loss weighted by frequency to the power of minus w has taken off w of it already; 1 - w more makes all classes alike.
    """
    network.shift_scores(-share * np.log(np.bincount(y_true) / len(y_true)))


def calibrate_network(network: TrashNetwork, val: SplitPhotos, settings: TrainSettings) -> Calibration:
    """Calibrate on the val split and put the temperature into the network, which is on the CPU afterwards."""
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
    """Scores (N, C) before the temperature, and with a rejection head the probability (N,) that there is waste."""
    network = network.eval().cpu()
    with torch.inference_mode():
        vectors = [network.embed(to_planes(photos)) for photos, _ in OrderedBatches(val, PIECE)]
        embedded = torch.cat(vectors)  # (N, D)
        scores = network.head(embedded).numpy().astype(np.float64)
        waste = (
            None
            if network.rejection_head is None
            else torch.sigmoid(network.rejection_head(embedded)).numpy()
        )
    return scores, None if waste is None else waste[:, 0]

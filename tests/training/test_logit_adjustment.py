"""Taking the classes' frequencies among training photos off their scores."""

import numpy as np
import pytest
import torch

from image_classification_trash.networks.network import TrashNetwork
from image_classification_trash.training.scores import adjust_logits

TRUTH = np.repeat([0, 1, 2], [80, 15, 5])


def scores_after(share: float) -> torch.Tensor:
    torch.manual_seed(0)
    network = TrashNetwork("sequential_cnn", 3).eval()
    photos = torch.rand(2, 3, 64, 80) * 255
    with torch.inference_mode():
        before = network.logits(photos)
    adjust_logits(network, TRUTH, share)
    with torch.inference_mode():
        return network.logits(photos) - before


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_rare_classes_gain_what_their_rarity_took(share: float) -> None:
    """Sixteen times as rare is a share of log 16 more, on every photo; nothing changes where nothing is asked for."""
    gained = scores_after(share)
    assert gained[:, 2] - gained[:, 0] == pytest.approx(share * np.log(16), abs=1e-4)
    assert gained[0] == pytest.approx(gained[1], abs=1e-4)
    assert (share == 0) == bool((gained == 0).all())


def test_a_model_that_only_knows_frequencies_ends_without_a_preference() -> None:
    """Scores that are the log frequencies, as a network without any features learns them, all become equal."""
    network = TrashNetwork("sequential_cnn", 3)
    network.set_linear_head(
        np.zeros((3, network.width), np.float32), np.log([0.8, 0.15, 0.05]).astype(np.float32)
    )
    adjust_logits(network, TRUTH, 1.0)
    with torch.inference_mode():
        assert torch.softmax(network.eval().logits(torch.zeros(1, 3, 64, 80)), 1) == pytest.approx(
            torch.full((1, 3), 1 / 3), abs=1e-6
        )

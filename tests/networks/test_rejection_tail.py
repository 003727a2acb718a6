"""A network whose last stages exist twice: fine-tuned for the classes, and as they were for the rejection head."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from image_classification_trash.errors import BundleError
from image_classification_trash.inference.bundle import (
    NEGATIVE_LABEL,
    WEIGHTS,
    Bundle,
    BundleConfig,
    write_bundle,
)
from image_classification_trash.networks.network import (
    EmbeddingBackbone,
    TrashNetwork,
    first_piece,
    load_network,
    network_bytes,
    to_planes,
)
from image_classification_trash.networks.rejection import PrototypeHead

PHOTOS = np.random.default_rng(0).integers(0, 256, (4, 64, 80, 3), dtype=np.uint8)
CONFIG = BundleConfig(
    name="tiny", architecture="sequential_cnn", labels=("a", "b", NEGATIVE_LABEL), input_height=64, input_width=80,
    resize_mode="stretch", temperature=1.0, threshold=0.5, data={"name": "mine", "fingerprint": "abc"}, training={},
    git_commit="0", versions={}, created="now", negative_label=NEGATIVE_LABEL,
)  # fmt: skip


def twin(architecture: str = "sequential_cnn", shared: int = 4) -> TrashNetwork:
    """Its last stages changed after they were copied, as by fine-tuning; the rejection head has three prototypes."""
    torch.manual_seed(0)
    network = TrashNetwork(architecture, 2).eval()
    network.rejection_tail = network.copy_tail(shared)
    with torch.no_grad():
        for stage in network.stages()[shared:]:
            for value in stage.parameters():
                value.mul_(0.9)
    rng = np.random.default_rng(1)
    prototypes = rng.normal(size=(3, network.width)).astype(np.float32)
    network.set_prototype_head(prototypes, rng.normal(size=network.width).astype(np.float32), -1.0)
    return network


def bundle_of(network: TrashNetwork, folder: Path) -> Bundle:
    return write_bundle(folder / "tiny", CONFIG, {WEIGHTS: network_bytes(network)})


@pytest.mark.parametrize("architecture", ["sequential_cnn", "resnet18", "efficientnet_lite0"])
def test_the_classes_see_the_tuned_stages_and_the_rejection_head_those_of_before(architecture: str) -> None:
    torch.manual_seed(0)
    start = TrashNetwork(architecture, 2).eval()
    network = twin(architecture)
    x = to_planes(torch.from_numpy(PHOTOS))
    with torch.inference_mode():
        probabilities, embedded = network(torch.from_numpy(PHOTOS)), network.embed_all(x)
        assert torch.equal(embedded[:, : network.width], network.embed(x))
        assert torch.equal(embedded[:, network.width :], start.embed(x)), (
            "the copy kept the weights of before"
        )
        assert torch.equal(network.from_embeddings(embedded), probabilities)
        waste = torch.sigmoid(network.rejection_head(start.embed(x)))
        classes = network.class_probabilities(network.logits(x))
    assert torch.allclose(probabilities, torch.cat([classes * waste, 1 - waste], 1))
    assert torch.allclose(probabilities.sum(1), torch.ones(4))
    assert not any(value.requires_grad for value in network.rejection_tail.parameters())


def test_prototypes_count_by_the_angle_and_the_nearest_alone() -> None:
    head = PrototypeHead(2, 2)
    with torch.no_grad():
        head.prototypes.copy_(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
        head.weight.copy_(torch.tensor([[1.0, 0.0]]))
        head.bias.fill_(-2.0)
        scores = head(torch.tensor([[5.0, 0.0], [0.0, 0.01], [-1.0, 0.0], [0.0, 0.0]]))
    assert scores[:, 0].tolist() == pytest.approx([3 + 1 - 2, 3 - 2, 0 - 1 - 2, -2], abs=1e-3)


def test_stages_that_cannot_be_copied_are_not() -> None:
    network = TrashNetwork("sequential_cnn", 2)
    assert network.copy_tail(0) is None and network.copy_tail(len(network.stages())) is None
    tail = network.copy_tail(3)
    assert tail is not None and network.pieces()[first_piece(tail)] is network.stages()[3]
    alone = network.backbone.forward
    network.backbone.forward = lambda x: 2 * alone(x)  # type: ignore[method-assign]
    assert network.copy_tail(3) is None, "the backbone does more than run its pieces"


def test_a_bundle_carries_both(tmp_path: Path) -> None:
    network = twin()
    bundle = bundle_of(network, tmp_path)
    again = load_network(bundle)
    with torch.inference_mode():
        assert torch.equal(again(torch.from_numpy(PHOTOS)), network(torch.from_numpy(PHOTOS)))
    assert not again.rejection_tail.training and network_bytes(again) == network_bytes(network)
    plain = load_network(bundle_of(TrashNetwork("sequential_cnn", 2, detects_waste=True), tmp_path / "plain"))
    assert plain.rejection_tail is None and isinstance(plain.rejection_head, torch.nn.Linear)
    ours, theirs = (EmbeddingBackbone(one) for one in (network, plain))
    assert ours.embed(PHOTOS).shape == (4, 2 * network.width) and ours.key != theirs.key
    assert theirs.embed(PHOTOS).shape == (4, network.width)


@pytest.mark.parametrize("fault", ["no head", "a gap in the tail", "a number that is none"])
def test_weights_that_contradict_each_other_are_refused(tmp_path: Path, fault: str) -> None:
    state = safetensors.torch.load(network_bytes(twin()))
    tail = next(name for name in state if name.startswith("rejection_tail."))
    if fault == "no head":
        state = {name: value for name, value in state.items() if not name.startswith("rejection_head.")}
    elif fault == "a gap in the tail":
        state["rejection_tail.1.weight"] = state[tail].clone()
    else:
        state["rejection_tail.x.weight"] = state.pop(tail)
    path = tmp_path / "tiny"
    bundle = write_bundle(path, replace(CONFIG), {WEIGHTS: safetensors.torch.save(state)})
    with pytest.raises(BundleError, match="does not fit a sequential_cnn"):
        load_network(bundle)

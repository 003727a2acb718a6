"""Networks for `scripts/field/train_field.py`: EfficientNet-Lites cut into frozen first stages and a trained rest.

The names of the weights are those of the package's networks, so that what is saved here loads there. It needs torch,
timm and safetensors alone.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import nn

MEAN, STD = 127.0, 128.0
LAYOUT = torch.channels_last
"""How photos and filters lie in memory; which is faster depends on the accelerator."""
_CONV_BEFORE_BN = {"bn1": ("conv_pw", "conv_dw"), "bn2": ("conv_dw", "conv_pw"), "bn3": ("conv_pwl",)}
StateDict = Mapping[str, torch.Tensor]


class FieldNetwork(nn.Module):
    """A backbone (timm's `tf_efficientnet_lite*`) and a linear head with dropout.

    The first `frozen` stages run in half precision with their batch normalisation folded into the convolutions: they
    hold three fifths of the activations and never change.
    """

    def __init__(self, architecture: str, classes: int, frozen: int, dropout: float) -> None:
        super().__init__()
        self.architecture, self.frozen = architecture, frozen
        self.backbone = timm.create_model(f"tf_{architecture}", pretrained=False, num_classes=0)
        self.width = int(self.backbone.num_features)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.width, classes))
        self._stem: list[nn.Module] = []  # a list, so that the folded copy is no part of the weights

    def stages(self) -> list[nn.Module]:
        """List the backbone's stages from input to output, as the package counts them."""
        b = self.backbone
        return [b.conv_stem, b.bn1, *b.blocks, b.conv_head, b.bn2]

    def freeze(self, half: bool) -> None:
        """Stop the first stages from learning and fold them; call it after the weights are loaded."""
        for stage in self.stages()[: self.frozen]:
            stage.requires_grad_(False)
        folded = fold_stages(self.stages()[: self.frozen])
        self._stem = [folded.half() if half else folded]

    def train(self, mode: bool = True) -> "FieldNetwork":
        """Frozen stages stay in evaluation mode."""
        super().train(mode)
        for stage in self.stages()[: self.frozen]:
            stage.eval()
        return self

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """Float (B, 3, H, W), 0 to 255, to what the frozen stages make of it."""
        folded = self._stem[0]
        dtype = next((value.dtype for value in folded.parameters()), torch.float32)
        x = ((x - MEAN) / STD).to(dtype).contiguous(memory_format=LAYOUT)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return folded(x)

    def tail(self, x: torch.Tensor) -> torch.Tensor:
        """What the stem made to embeddings (B, D)."""
        for stage in self.stages()[self.frozen :]:
            x = stage(x)
        return x.float().mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float (B, 3, H, W), 0 to 255, to embeddings (B, D)."""
        return self.tail(self.stem(x).float())

    def trained(self) -> list[nn.Module]:
        """List what learns: the later stages and the head."""
        return [*self.stages()[self.frozen :], self.head]

    def averaged_tensors(self) -> list[torch.Tensor]:
        """List parameters and batch statistics of what learns, for weight averaging."""
        tensors = [value for module in self.trained() for value in module.state_dict(keep_vars=True).values()]
        return [value.data for value in tensors if value.is_floating_point()]


def fold_stages(stages: list[nn.Module]) -> nn.Sequential:
    """Copy stages for inference, each convolution holding the batch normalisation behind it."""
    copies = [copy.deepcopy(stage).eval() for stage in stages]
    if len(copies) > 1:  # conv_stem and bn1 are stages of their own
        copies[1] = _fold(copies[0], copies[1])
    for stage in copies[2:]:
        for block in stage.children():
            _fold_block(block)
    return nn.Sequential(*copies).requires_grad_(False).to(memory_format=LAYOUT)


def _fold_block(block: nn.Module) -> None:
    """Fold the normalisations of one MBConv block."""
    inverted = hasattr(block, "conv_pwl")
    for name, convolutions in _CONV_BEFORE_BN.items():
        if hasattr(block, name):
            before = convolutions[0] if inverted else convolutions[-1]
            setattr(block, name, _fold(getattr(block, before), getattr(block, name)))


def _fold(convolution: nn.Module, norm: nn.Module) -> nn.Module:
    """Multiply a normalisation into the convolution before it; returns the activation that is left."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = convolution.bias if convolution.bias is not None else torch.zeros_like(norm.bias)
    convolution.weight = nn.Parameter(convolution.weight * scale.view(-1, 1, 1, 1))
    convolution.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
    return norm.act


def load_backbone(network: FieldNetwork, file: Path) -> None:
    """Load ImageNet weights under timm's names."""
    weights = {name: value.float() for name, value in safetensors.torch.load_file(file).items()}
    missing, foreign = network.backbone.load_state_dict(weights, strict=False)
    if foreign or any(not name.endswith("num_batches_tracked") for name in missing):
        raise SystemExit(f"{file} is not of {network.architecture}: {missing[:2]} {foreign[:2]}")


def save_network(network: FieldNetwork, file: Path, temperature: float) -> None:
    """Write the weights: matrices and filters in half precision, what is small in single."""
    state = {
        name: (value.half() if value.ndim > 1 else value.float()).contiguous()
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }
    state["temperature"] = torch.tensor(temperature)
    partial = file.with_suffix(".partial")
    safetensors.torch.save_file(state, partial)
    partial.rename(file)


def load_weights(network: FieldNetwork, file: Path) -> float:
    """Load what `save_network` wrote; returns the temperature."""
    state = {name: value.float() for name, value in safetensors.torch.load_file(file).items()}
    temperature = float(state.pop("temperature"))
    missing, foreign = network.load_state_dict(state, strict=False)
    if foreign or any(not name.endswith("num_batches_tracked") for name in missing):
        raise SystemExit(f"{file} is not of {network.architecture}: {missing[:2]} {foreign[:2]}")
    return temperature


def read_network(file: Path, architecture: str, classes: int, frozen: int) -> tuple[FieldNetwork, float]:
    """Read a network that `save_network` wrote, and its temperature; call `freeze` on it before use."""
    network = FieldNetwork(architecture, classes, frozen, 0.0)
    temperature = load_weights(network, file)
    return network.eval(), temperature

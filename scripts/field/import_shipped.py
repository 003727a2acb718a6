"""Ready the model of TrashNet alone, which was shipped before, for training for the field.

    python scripts/field/import_shipped.py --bundle models/trashnet-base --output packed/shipped.safetensors
    python scripts/field/import_shipped.py --model model.tflite --packed packed --state state --output packed/shipped.safetensors

The first takes a bundle's weights over. The second reads the TFLite file that was shipped until commit 1b2ae20, where its
weights are not at hand; the networks of references/field_training.md began from that. The file holds convolutions with their batch normalisation folded in. Each is split again: the normalisation gets the mean and
variance that the convolution has on a batch of altered training photos, and a scale and shift that undo them, so that
the network computes the same and trains as usual. Its `temperature` is 1: the scores are those before calibration.
"""

import argparse
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from ai_edge_litert.interpreter import Interpreter
from field_jobs import CLASSES, Job, Recipe
from field_networks import FieldNetwork, load_backbone, save_network
from field_training import Batches, Material, decode_all
from torch import nn

from image_classification_trash.inference.bundle import WEIGHTS

TEMPERATURE = 0.758
"""By which the shipped file's scores were divided, from its card."""
Filter = tuple[np.ndarray, np.ndarray]


def read_filters(file: Path) -> list[Filter]:
    """Read weights and biases of all convolutions and of the head, in the order in which they run."""
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    operations = interpreter._get_ops_details()
    source = {
        int(op["outputs"][0]): int(op["inputs"][0]) for op in operations if op["op_name"] == "DEQUANTIZE"
    }

    def constant(index: int) -> np.ndarray:
        return np.asarray(interpreter.get_tensor(source.get(index, index)), np.float32)

    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    found = []
    for op in operations:
        if op["op_name"] in kinds:
            weight, bias = constant(int(op["inputs"][1])), constant(int(op["inputs"][2]))
            if op["op_name"] == "CONV_2D":
                weight = weight.transpose(0, 3, 1, 2)  # OHWI to OIHW
            elif op["op_name"] == "DEPTHWISE_CONV_2D":
                weight = weight.transpose(3, 0, 1, 2)  # 1HWO to O1HW
            found.append((weight, bias))
    return found


def convolutions(network: FieldNetwork) -> list[tuple[nn.Module, nn.Module]]:
    """Pairs of a convolution and its normalisation, in the order in which they run."""
    leaves = [
        module for module in network.backbone.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    ]
    return list(zip(leaves[::2], leaves[1::2], strict=True))


@torch.no_grad()
def put_filters(network: FieldNetwork, filters: list[Filter], x: torch.Tensor) -> None:
    """Fill the network; x (B, 3, H, W), 0 to 255, is what statistics are taken on."""
    pairs = convolutions(network)
    for number, ((convolution, norm), (weight, bias)) in enumerate(zip(pairs, filters, strict=False)):
        scale = (
            128.0 if number == 0 else 1.0
        )  # the shipped graph folds the division by 128 into the first filter
        convolution.weight.copy_(torch.from_numpy(weight.copy()) * scale)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.copy_(torch.from_numpy(bias.copy()))
        convolution.register_forward_hook(lambda _, __, y, norm=norm: _normalise_by(norm, y))
    network.eval()
    for stage in network.stages():
        x = stage(x if stage is not network.backbone.conv_stem else (x - 127) / 128)
    weight, bias = filters[len(pairs)]
    network.head[-1].weight.copy_(torch.from_numpy(weight) * TEMPERATURE)
    network.head[-1].bias.copy_(torch.from_numpy(bias) * TEMPERATURE)


def _normalise_by(norm: nn.Module, y: torch.Tensor) -> None:
    """Give the normalisation the statistics of its input (B, C, H, W), and have it undo them."""
    mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.add_(mean)


def main() -> None:
    """Read, split, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="bundle of such a model, instead of the file")
    parser.add_argument("--model", type=Path, help="file of the model that was shipped")
    parser.add_argument("--packed", type=Path, help="for a file: what pack_field_photos.py wrote")
    parser.add_argument("--state", type=Path, help="for a file: folder of decoded photos")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.bundle is not None:
        network = FieldNetwork("efficientnet_lite0", len(CLASSES), 5, 0.0)
        state = safetensors.torch.load_file(options.bundle / WEIGHTS)
        own = network.state_dict()
        network.load_state_dict({name: state[name] for name in own})
        save_network(network, options.output, 1.0)
        return
    options.state.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    decode_all(options.packed, options.state, 20)
    material = Material.load(options.packed, options.state, torch.device("cpu"), False, False)
    x = torch.cat([Batches(Job("", Recipe(), ""), material).draw()[0] for _ in range(2)])
    network = FieldNetwork("efficientnet_lite0", len(CLASSES), 5, 0.0)
    load_backbone(network, options.packed / "efficientnet_lite0.safetensors")
    put_filters(network, read_filters(options.model), x)
    save_network(network, options.output, 1.0)


if __name__ == "__main__":
    main()

"""Measure what it costs to run a network's last stages twice: before and after fine-tuning, on shared first stages.

    python scripts/field/time_field_twins.py --weights weights --output timing.json

Processor time of one photo on one thread, batch normalisation folded, the variants in turn; medians with their middle half.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from field_networks import FieldNetwork, fold_stages, load_backbone

ROUNDS = 40
SIZES = ((256, 320), (224, 288))


def timed(parts: list[torch.nn.Module], x: torch.Tensor) -> float:
    """Milliseconds of processor time for the first part and then each of the others on its output."""
    began = time.process_time()
    stem = parts[0](x)
    for tail in parts[1:]:
        tail(stem).mean((2, 3))
    return 1000 * (time.process_time() - began)


@torch.inference_mode()
def measure(weights: Path) -> dict[str, dict[str, float]]:
    """Times of one and of two tails, for five and for seven shared stages, at both sizes."""
    network = FieldNetwork("efficientnet_lite0", 6, 5, 0.0)
    load_backbone(network, weights / "efficientnet_lite0.safetensors")
    folded = fold_stages(network.eval().stages())
    variants = {
        f"{shared} shared stages, {len(tails)} tail(s), {h}x{w}": ([folded[:shared], *tails], (h, w))
        for h, w in SIZES
        for shared in (5, 7)
        for tails in ([folded[shared:]], [folded[shared:]] * 2)
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, (parts, size) in variants.items():
            x = torch.rand(1, 3, *size).contiguous(memory_format=torch.channels_last)
            found[name].append(timed(parts, x))
    quartiles = {name: np.quantile(values[5:], [0.25, 0.5, 0.75]) for name, values in found.items()}
    return {
        name: dict(zip(("q25", "ms", "q75"), map(float, q), strict=True)) for name, q in quartiles.items()
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.weights)
    print(json.dumps(found, indent=1))
    options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Average weights: of several trainings (model soups), of the steps of one (EMA), and of its end and start (WiSE-FT)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from image_classification_trash.errors import TrainingError
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.networks.network import TrashNetwork, load_network


def init_from_average(network: TrashNetwork, bundles: Sequence[Bundle], labels: Sequence[str]) -> None:
    """Load the average of the bundles' backbones and heads into `network`.

    Networks fine-tuned from the same start can be averaged, and the average often generalises better than each of them
    ("model soups", Wortsman et al., 2022).

    Raises:
        TrainingError: one has another architecture or other classes.
    """
    for bundle in bundles:
        config = bundle.config
        if config.architecture != network.architecture or config.classes != tuple(labels):
            found = f"{bundle.path} is a {config.architecture} for {', '.join(config.classes)}."
            hint = f"Start from bundles of {network.architecture} for {', '.join(labels)}, or without --init-from."
            raise TrainingError(found, hint)
    trained = [load_network(bundle) for bundle in bundles]
    for part in ("backbone", "head"):
        states = [one.get_submodule(part).state_dict() for one in trained]
        mean = {name: average([state[name] for state in states]) for name in states[0]}
        network.get_submodule(part).load_state_dict(mean)


def average(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean of tensors of one shape; for integers (counters), the first."""
    return torch.stack(list(tensors)).mean(0) if tensors[0].is_floating_point() else tensors[0]


def wise_ft(
    start: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Interpolate between the weights before (share 0) and after (1) fine-tuning: WiSE-FT, Wortsman et al., 2022."""
    return {
        name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value
        for name, value in tuned.items()
    }


def warm_average(decay: float) -> Any:
    """Return an averaging function for `WeightAveraging`: an exponential moving average with a warm-up of its decay.

    Without the warm-up, the average of a short training would still be close to the initial weights.
    """

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        seen = float(count)  # synchronises with the accelerator: once per step, not once per tensor
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + seen) / (10 + seen)))

    return average

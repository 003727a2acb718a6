"""Averages of weights: of several trainings, of the steps of one, and of its end with its start."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from image_classification_trash.errors import TrainingError
from image_classification_trash.inference.bundle import (
    Bundle,
)
from image_classification_trash.networks.network import TrashNetwork, load_network


def init_from_average(network: TrashNetwork, bundles: Sequence[Bundle], labels: Sequence[str]) -> None:
    """Put the average of the bundles' backbones and heads into `network`.

    Networks that went apart from one start can be averaged, and the average is often better than each of them in
    places that none has seen ("model soups", Wortsman et al., 2022).

    Raises:
        TrainingError: one is another architecture, or tells other classes apart.
    """
    for bundle in bundles:
        config = bundle.config
        if config.architecture != network.architecture or config.classes != tuple(labels):
            found = f"{bundle.path} is a {config.architecture} for {', '.join(config.classes)}."
            hint = f"Begin from bundles of {network.architecture} for {', '.join(labels)}, or without --init-from."
            raise TrainingError(found, hint)
    trained = [load_network(bundle) for bundle in bundles]
    for part in ("backbone", "head"):
        states = [one.get_submodule(part).state_dict() for one in trained]
        mean = {name: average([state[name] for state in states]) for name in states[0]}
        network.get_submodule(part).load_state_dict(mean)


def average(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean of tensors of one shape; of counters, which have none, the first."""
    return torch.stack(list(tensors)).mean(0) if tensors[0].is_floating_point() else tensors[0]


def wise_ft(
    start: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Weights on the line from those before fine-tuning (share 0) to those after (1): WiSE-FT, Wortsman et al., 2022."""
    return {
        name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value
        for name, value in tuned.items()
    }


def warm_average(decay: float) -> Any:
    """An averaging function, of all tensors of a kind, for `WeightAveraging`: exponential, its memory growing with the first steps.

    A plain average with a long memory would still be the starting point after a short training.
    """

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        seen = float(count)  # waits for an accelerator: once a step, and not once a tensor
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + seen) / (10 + seen)))

    return average

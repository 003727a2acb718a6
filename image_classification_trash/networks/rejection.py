"""A rejection head that compares a photo with what waste looks like, besides a linear map."""

import torch
import torch.nn.functional as F
from torch import nn

_TINY = 1e-12
"""Keeps an embedding of zeros from a division by zero."""


class PrototypeHead(nn.Module):
    """Scores of waste on embeddings scaled to length 1: a linear map, plus the largest product with K prototypes of waste.

    The prototypes are scaled by the steepness of the score, so that its sigmoid is the probability of waste. `forward`
    maps embeddings (B, D) to scores (B, 1), above 0 for waste.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, width))
        self.bias = nn.Parameter(torch.zeros(1))
        self.prototypes = nn.Parameter(torch.zeros(count, width))

    def forward(self, embedded: torch.Tensor) -> torch.Tensor:
        """Map embeddings (B, D) to scores (B, 1)."""
        length = torch.sqrt((embedded * embedded).sum(1, keepdim=True) + _TINY)
        unit = embedded / length
        nearest = F.linear(unit, self.prototypes).amax(1, keepdim=True)  # (B, K) to (B, 1)
        return F.linear(unit, self.weight, self.bias) + nearest


def run_pieces(pieces: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    """Run the pieces of a backbone one after the other."""
    for piece in pieces:
        x = piece(x)
    return x

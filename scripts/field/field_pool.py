"""A pool of altered photos for `scripts/field/train_last_stages.py`: each is drawn once and kept as the frozen stages see it.

On a CPU most of a training's time goes into drawing photos and running them through stages that never change. Here both are
done once for all trainings: what seven stages make of a photo lies in files of half-precision numbers, beside the scores of the
networks that may serve as teachers. Each shard has its own seed and is written whole, so a run that was stopped can be resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from field_jobs import CLASSES, Ints, Job, Recipe
from field_networks import MEAN, STD, FieldNetwork, fold_stages, read_network
from field_training import Batches, Material
from torch import nn

FROZEN, SHARED = 7, 5
"""Stages that never change here, and those that all networks of one architecture share."""
BATCHES = 10
"""Batches of a shard."""
ALTERED = Recipe(frozen=FROZEN)
GENTLE = replace(
    ALTERED,
    batch=24,
    field_share=0.0,
    paste=0.0,
    corruption=0.0,
    outliers=0.0,
    min_scale=0.75,
    rotation=15.0,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.01,
    erasing=0.0,
)
"""Photos of TrashNet nearly as they are, drawn beside the altered ones of all sources."""
ANY_GROUND, OTHER_GROUND, GENTLY = 0, 1, 2
"""Kinds of draws: on any ground, on none of the family of most grounds, and nearly unaltered."""
GROUND_FAMILY = "taco"


@dataclass(frozen=True)
class Pool:
    """All draws.

    Attributes:
        rows: (N,), of the packed photos; -1 for backgrounds without waste.
        kinds: (N,), `ANY_GROUND`, `OTHER_GROUND` or `GENTLY`.
        stems: per network the activations after `FROZEN` stages, one float16 array (n, h, w, C) a shard.
        scores: of each teacher, (N, classes), divided by its temperature.
    """

    rows: Ints
    kinds: Ints
    stems: dict[str, list[np.ndarray]]
    scores: dict[str, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> "Pool":
        """Open what `draw_pool` wrote."""
        shards = sorted(folder.glob("*.npz"))
        opened = [dict(np.load(shard)) for shard in shards]
        if not opened:
            raise SystemExit(f"{folder} has no shards: run the step `draw` first.")
        teachers = [name for name in opened[0] if name not in ("rows", "kinds")]
        stems = [file.stem.split("-", 1)[1] for file in sorted(folder.glob(f"{shards[0].stem}-*.npy"))]
        return cls(
            np.concatenate([one["rows"] for one in opened]),
            np.concatenate([one["kinds"] for one in opened]),
            {
                name: [np.load(f"{s.with_suffix('')}-{name}.npy", mmap_mode="r") for s in shards]
                for name in stems
            },
            {name: np.concatenate([one[name] for one in opened]).astype(np.float32) for name in teachers},
        )

    def activations(self, name: str, draws: Ints) -> torch.Tensor:
        """What the frozen stages of a network made of draws, float32 (B, C, h, w), channels last."""
        size = len(self.stems[name][0])
        picked = np.stack([self.stems[name][draw // size][draw % size] for draw in draws])
        return torch.from_numpy(picked).float().permute(0, 3, 1, 2)


class Watchers:
    """Networks that see every draw: their frozen stages are kept, and their scores teach."""

    def __init__(self, kept: dict[str, Path], teachers: dict[str, Path]) -> None:
        self._kept = {name: self._read(file, "efficientnet_lite0") for name, file in kept.items()}
        self._others = {name: self._read(file, "efficientnet_lite2") for name, file in teachers.items()}

    @staticmethod
    def _read(file: Path, architecture: str) -> tuple[nn.Sequential, FieldNetwork, float]:
        network, temperature = read_network(file, architecture, len(CLASSES), SHARED)
        return fold_stages(network.stages()).to(torch.bfloat16), network, temperature

    @torch.inference_mode()
    def __call__(self, x: torch.Tensor) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Photos (B, 3, H, W), 0 to 255: activations (B, h, w, C) of the kept networks, and scores of all."""
        x = ((x - MEAN) / STD).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        stems, scores = {}, {}
        shared = next(iter(self._kept.values()))[0][:SHARED](x)
        for name, (folded, network, temperature) in self._kept.items():
            stem = folded[SHARED:FROZEN](shared)
            stems[name] = stem.permute(0, 2, 3, 1).half().contiguous().numpy()
            scores[name] = _scores(folded[FROZEN:](stem), network, temperature)
        for name, (folded, network, temperature) in self._others.items():
            scores[name] = _scores(folded(x), network, temperature)
        return stems, scores


def _scores(last: torch.Tensor, network: FieldNetwork, temperature: float) -> np.ndarray:
    return (network.head(last.float().mean((2, 3))) / temperature).numpy().astype(np.float16)


def drawers(material: Material) -> list[tuple[int, Batches]]:
    """What a shard is drawn from: each kind with its batches."""
    table = material.table
    other = table.grounds(Job("", ALTERED, GROUND_FAMILY))
    return [
        (ANY_GROUND, Batches(Job("", ALTERED), material)),
        (OTHER_GROUND, Batches(Job("", ALTERED), material, other)),
        (GENTLY, Batches(Job("", GENTLE), material)),
    ]


def draw_shard(folder: Path, number: int, sources: Sequence[tuple[int, Batches]], watch: Watchers) -> None:
    """Draw one shard from its own seed and write it."""
    torch.manual_seed(7000 + number)
    altered, other, gentle = sources
    rows, kinds, stems, scores = [], [], [], []
    for batch in range(BATCHES):
        for kind, source in ((altered, other)[batch % 2], gentle):
            x, drawn = source.pictures()
            stem, score = watch(x)
            rows.append(drawn.numpy())
            kinds.append(np.full(len(drawn), kind))
            stems.append(stem)
            scores.append(score)
    for name in stems[0]:
        np.save(folder / f"{number:03d}-{name}.npy", np.concatenate([stem[name] for stem in stems]))
    columns = {name: np.concatenate([score[name] for score in scores]) for name in scores[0]}
    partial = folder / f"{number:03d}.partial"
    with partial.open("wb") as opened:
        np.savez(opened, rows=np.concatenate(rows), kinds=np.concatenate(kinds), **columns)
    partial.replace(folder / f"{number:03d}.npz")

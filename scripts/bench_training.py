"""Throughput of training and of embedding, each as a ratio against a named baseline, measured in turns in one run.

    python scripts/bench_training.py trashnet

- training: our batches (memory map, augmentation, loss) against the same network fed with one ready tensor, and
  against torchvision's ImageFolder and DataLoader with the transforms that people write;
- embedding: photos to embeddings against the bare network's forward.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision import datasets
from torchvision.transforms import v2

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import read_manifest
from image_classification_trash.features.augmentation import Augmentation
from image_classification_trash.features.build_features import PixelSettings, _batches
from image_classification_trash.networks.device import keep_freed_memory
from image_classification_trash.networks.network import EmbeddingBackbone, build_network, to_planes
from image_classification_trash.training.batches import Shuffled, batches
from image_classification_trash.training.data import TrainingData

STEPS, ROUNDS, BATCH = 8, 5, 32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--default-malloc", action="store_true", help="leave glibc's malloc as it is")
    options = parser.parse_args()
    if not options.default_malloc:
        keep_freed_memory()
    settings = TrainSettings(name=options.name, input_height=256, input_width=320)
    manifest = read_manifest(settings.processed_dir / options.name)
    network = build_network("efficientnet_lite0", len(manifest.labels)).train()
    for stage in network.stages()[: settings.freeze_stages]:
        stage.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])

    def step(x: torch.Tensor, y_true: torch.Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(network.logits(x), y_true).backward()
        optimizer.step()

    ready = torch.rand(BATCH, 3, *settings.input_size).mul(255).contiguous(memory_format=torch.channels_last)
    y_true = torch.zeros(BATCH, dtype=torch.long)
    part = TrainingData(manifest, settings).train
    augment = Augmentation(
        *settings.input_size,
        **{
            k: getattr(settings, k) for k in Augmentation.__dataclass_fields__ if k not in ("height", "width")
        },
    )
    generator = torch.Generator().manual_seed(0)
    ours = iter(batches(part, Shuffled(len(part.y_true), BATCH, lambda: 0), 0))
    plain = iter(plain_loader(settings.processed_dir / options.name / "train", settings.input_size))

    def train_ours() -> None:
        photos, labels = next(ours)
        step(augment(photos, generator), labels)

    def train_plain() -> None:
        x, labels = next(plain)
        step(x.contiguous(memory_format=torch.channels_last), labels)

    rates = in_turns(
        {"ready tensors": lambda: step(ready, y_true), "ours": train_ours, "ImageFolder": train_plain}
    )
    report("training", rates)

    backbone = EmbeddingBackbone(network)
    paths = [manifest.path_of(photo) for photo in manifest.photos_of("train")]
    photos = _batches(paths, PixelSettings(settings.input_size, "stretch"))
    fixed = np.stack([np.zeros((*settings.input_size, 3), np.uint8)] * BATCH)

    def forward() -> None:
        with torch.inference_mode():
            network.embed(to_planes(torch.from_numpy(fixed)))

    report("embedding", in_turns({"bare forward": forward, "ours": lambda: backbone.embed(next(photos))}))


def plain_loader(folder: Path, size: tuple[int, int]) -> torch.utils.data.DataLoader:
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.6, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(20),
            v2.ColorJitter(0.25, 0.25, 0.3, 0.02),
            v2.ToImage(),
            v2.ToDtype(torch.float32),
        ]
    )
    data = datasets.ImageFolder(folder, transform)
    return torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=2, drop_last=True)


def in_turns(tasks: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Photos a second of each task, measured in turns so that the machine's drift meets all alike."""
    rates: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            began = time.perf_counter()
            for _ in range(STEPS):
                task()
            rates[name].append(STEPS * BATCH / (time.perf_counter() - began))
    return rates


def report(what: str, rates: dict[str, list[float]]) -> None:
    names = list(rates)
    print(f"{what}: {torch.get_num_threads()} threads, medians of {ROUNDS} rounds in turns")
    for name in names:
        ratio = statistics.median(a / b for a, b in zip(rates[name], rates[names[0]], strict=True))
        print(f"  {name:<14} {statistics.median(rates[name]):7.1f} photos/s, {ratio:.2f} of {names[0]}")


if __name__ == "__main__":
    main()

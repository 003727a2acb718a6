"""Choose the batch size by the memory there is: the default where it fits, else the largest half of it that does."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.networks.device import training_device
from image_classification_trash.networks.network import TrashNetwork
from image_classification_trash.show import say

PROCESS = 1500 * 10**6
"""Bytes of a training process without a batch: 1.0 GB of libraries on a CPU, weights, optimiser and caches."""
SLACK = 2.0
"""What a photo takes at the peak, as a multiple of the tensors kept for the gradient: measured 1.0 (EfficientNet-Lite0 with
frozen stages), 1.3 (with none), 1.7 (ResNet18) and 1.8 (the plain network)."""
USABLE = 0.8
"""Share of all memory that a training may take."""
SMALLEST = 4
"""Batch statistics of fewer photos are of little use."""
CGROUPS = Path("/sys/fs/cgroup")
SettingsT = TypeVar("SettingsT", bound=TrainSettings)


@dataclass(frozen=True)
class Memory:
    """Memory that a training may take a share of, in bytes, and where it lies."""

    total: int
    place: str

    def __str__(self) -> str:
        return f"the {self.total / 1e9:.1f} GB of {self.place}"


def with_batch_that_fits(settings: SettingsT, memory: Memory | None = None) -> SettingsT:
    """Return the settings with a batch size that the memory allows, and say which one and why.

    All memory counts, not what other processes leave of it, so that two trainings on one machine are the same.

    Args:
        settings: of the training; a batch size that was given stays, as does one that no fine-tuning would use.
        memory: to use; by default that of the device that the settings choose.
    """
    if "batch_size" in settings.model_fields_set or not settings.epochs:
        return settings
    memory = memory or device_memory(settings)
    needed = None if memory is None else bytes_of_a_photo(settings)
    if memory is None or needed is None:
        say(f"batches of {settings.batch_size} photos, the default: memory is not known here")
        return settings
    size = settings.batch_size
    while size > SMALLEST and PROCESS + size * needed > USABLE * memory.total:
        size //= 2
    estimate = f"about {(PROCESS + size * needed) / 1e9:.1f} GB of {memory}"
    why = "the default" if size == settings.batch_size else f"as {settings.batch_size} would not fit"
    say(f"batches of {size} photos, {why}: {estimate}")
    return settings if size == settings.batch_size else settings.model_copy(update={"batch_size": size})


def device_memory(settings: TrainSettings) -> Memory | None:
    """Return the memory of the device to train on, for one of its processes; None if the system does not tell."""
    if training_device(settings.accelerator).type == "cuda":
        return Memory(torch.cuda.get_device_properties(0).total_memory, torch.cuda.get_device_name(0))
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    limit = min(memory_limits(Path("/proc/self/cgroup"), CGROUPS), default=machine)
    total, place = (limit, "this container") if limit < machine else (machine, "this machine")
    return Memory(total // settings.devices, place)


def memory_limits(own_groups: Path, root: Path) -> Iterator[int]:
    """Yield the memory limits of this process's control groups, in bytes.

    Args:
        own_groups: the file that lists the groups of the process.
        root: the folder where they are mounted: v2 at its top, v1 below `memory/`.
    """
    try:
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        v2 = not controllers
        if not v2 and "memory" not in controllers.split(","):
            continue
        top, file = (root, "memory.max") if v2 else (root / "memory", "memory.limit_in_bytes")
        group = Path(name.lstrip("/"))
        for folder in (top / group, *(top / parent for parent in group.parents)):  # the last one is the top
            try:
                yield int((folder / file).read_text(encoding="utf-8"))
            except (OSError, ValueError):  # no such file, or "max"
                continue


def bytes_of_a_photo(settings: TrainSettings) -> int | None:
    """Return what a photo of a batch takes at the peak of a training step, in bytes; None if that cannot be told.

    The tensors that a step keeps for the gradient are counted on PyTorch's `meta` device, which computes no values.
    """
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    try:
        with torch.device("meta"):
            network = TrashNetwork(settings.architecture, classes=2).train()
            for stage in network.stages()[: settings.freeze_stages]:
                stage.requires_grad_(False).eval()
            photo = torch.empty(1, 3, *settings.input_size)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                network.logits(photo)
    except (RuntimeError, NotImplementedError):  # a network that needs values to be built
        return None
    for weights in network.parameters():
        kept.pop(weights.untyped_storage()._cdata, None)
    return int(SLACK * sum(kept.values()))

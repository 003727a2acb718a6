"""The device to train on, and process settings that make torch fast on a CPU."""

import ctypes
import functools
import os
import platform
import sys

import torch

from image_classification_trash.errors import TrainingError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


@functools.cache
def keep_freed_memory() -> bool:
    """Make glibc's malloc keep freed memory instead of returning it to the kernel after every layer.

    Activations of a few megabytes exceed malloc's default threshold, so that each is mapped, zeroed page by page and
    unmapped again. Keeping them made EfficientNet-Lite0's inference several times faster (`docs/reference/training.md`
    describes the measurement). Returns False, and changes nothing, without glibc. Call it before the first tensor.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    settings = {_M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * 2**20}
    return all(mallopt(option, value) == 1 for option, value in settings.items())


def is_first_process() -> bool:
    """Return whether this is the process that writes: the only one, or the first of all on all machines of a training.

    `torchrun` numbers its processes over all machines (RANK), and Lightning those that it starts on one (LOCAL_RANK).
    """
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def machines_and_devices(devices: int) -> tuple[int, int]:
    """Return how many machines train together, and on how many devices each: as torchrun started them, else one and `devices`."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    return (int(os.environ.get("WORLD_SIZE", here)) // here, here) if here else (1, devices)


def checked_device(accelerator: str, devices: int) -> torch.device:
    """Return the device to train on; refuse a GPU that torch does not find, and more GPUs or CPU cores than there are.

    Raises:
        TrainingError: says what there is.
    """
    cores, cuda = os.cpu_count() or 1, torch.cuda.is_available()
    gpus = torch.cuda.device_count() if cuda else int(torch.backends.mps.is_available())
    there = f"torch finds {gpus or 'no'} GPU{'s' * (gpus > 1)} and {cores} CPU core{'s' * (cores > 1)} here"
    if accelerator == "gpu" and not gpus:
        hint = "Give --accelerator cpu, or install the GPU's driver and a torch that is built for it."
        raise TrainingError(f"--accelerator gpu needs a GPU, but {there}.", hint)
    on_gpu = accelerator == "gpu" or (accelerator == "auto" and cuda)
    most = gpus if on_gpu else cores
    if devices > most:
        hint = f"Give --devices {most} or fewer."
        needed = f"{devices} {'GPUs' if on_gpu else 'CPU cores'}"
        raise TrainingError(f"--devices {devices} needs {needed}, but {there}.", hint)
    return training_device(accelerator)


def training_device(accelerator: str) -> torch.device:
    """Return the device to embed and train on for an `accelerator` of `TrainSettings`: CUDA if present and allowed."""
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")

"""Where torch works, and settings of the process that make it fast on a CPU; applied once, before the first tensor."""

import ctypes
import functools
import platform
import sys

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed memory instead of handing it back to the kernel after every layer.

    Activations of a few megabytes lie above malloc's default threshold, so each is mapped, zeroed page by page and
    unmapped again. Keeping them made EfficientNet-Lite0's inference several times faster (`docs/reference/training.md` says how
    that was measured). Returns False where there is no glibc; then nothing changes.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    settings = {_M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * 2**20}
    return all(mallopt(option, value) == 1 for option, value in settings.items())


def training_device(accelerator: str) -> torch.device:
    """Where photos are embedded and learned from, by `accelerator` of `TrainSettings`: CUDA, where it is there and wanted."""
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")

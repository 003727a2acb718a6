"""The torch runtime, which runs the trained network itself; registered as an entry point, see inference/runtimes.py."""

import threading

import numpy as np
import numpy.typing as npt
import torch

from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference.bundle import WEIGHTS, Bundle
from image_classification_trash.inference.images import Pixels
from image_classification_trash.networks.network import load_network


class TorchRuntime:
    """Runs a bundle in torch on the CPU: the reference that exported files are compared with."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._network = load_network(bundle)
        self.digest = sha256_of_file(bundle.path / WEIGHTS)
        self._lock = (
            threading.Lock()
        )  # torch spreads one run over all cores; concurrent runs would slow each other

    def __call__(self, photos: Pixels) -> npt.NDArray[np.float32]:
        """Map photos, uint8 (B, H, W, 3), to probabilities, float32 (B, C)."""
        with self._lock, torch.inference_mode():
            return np.asarray(self._network(torch.from_numpy(np.ascontiguousarray(photos))).numpy())

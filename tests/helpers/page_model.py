"""A small .tflite whose answers differ from photo to photo, and a browser: for the tests and the pictures of the page."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from image_classification_trash.inference.bundle import BundleConfig, describe
from image_classification_trash.inference.images import Pixels, ResizeMode, read_photo

SIZE = (64, 80)
LABELS = ("glass", "metal", "paper")
SAMPLE = Path(__file__).parents[2] / "data" / "sample"
CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip


def sample_photos(count: int) -> list[Path]:
    """So many photos of the sample, evenly from all classes."""
    files = sorted((SAMPLE / "test").glob("*/*.jpg"))
    return [files[i * len(files) // count] for i in range(count)]


def config_of(resize_mode: ResizeMode) -> BundleConfig:
    return BundleConfig(
        name="tiny", architecture="sequential_cnn", labels=LABELS, input_height=SIZE[0], input_width=SIZE[1], resize_mode=resize_mode,
        temperature=1.0, threshold=0.6, data={"fingerprint": "abc"}, training={}, git_commit="0", versions={}, created="now",
        conformal_threshold=0.5,
    )  # fmt: skip


def write_tflite(path: Path, resize_mode: ResizeMode = "crop") -> Path:
    """A network without training, its answers spread out over the photos of the sample."""
    import torch

    from image_classification_trash.export.tflite_metadata import with_metadata
    from image_classification_trash.export.to_tensorflow import convert_to_tflite
    from image_classification_trash.export.torch_to_tensorflow import LoweredNetwork
    from image_classification_trash.models.export_model import trace
    from image_classification_trash.networks.network import TrashNetwork, to_planes

    torch.manual_seed(0)
    network, config = TrashNetwork("sequential_cnn", len(LABELS)).eval(), config_of(resize_mode)
    photos = np.stack([read_photo(file, SIZE, resize_mode) for file in sample_photos(24)])
    with torch.inference_mode():
        scores = network.logits(to_planes(torch.from_numpy(photos)))
        network.head[-1].bias -= scores.mean(0)
        network.temperature.fill_(float((scores - scores.mean(0)).std()) / 2)
    model = convert_to_tflite(LoweredNetwork(trace(network, SIZE)), config, "float32")
    texts = {"labels.txt": "".join(f"{label}\n" for label in LABELS), "bundle.json": describe(config, {}, {})}
    path.write_bytes(with_metadata(model, config, texts))
    return path


def encoded(pixels: Pixels, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """uint8 (H, W, 3 or 4) as a file."""
    from PIL import Image

    image, buffer = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


@contextmanager
def chromium(flags: Sequence[str] = FLAGS) -> Iterator[Any]:
    """A browser of Debian's, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(flags))
        yield browser
        browser.close()

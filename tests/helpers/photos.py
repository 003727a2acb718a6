"""Where things are, and small photos made from seeded noise."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
MakeTree = Callable[..., Path]
MakeOnce = Callable[[str, Callable[[Path], None]], Path]


def picture(seed: int, size: tuple[int, int] = (48, 64)) -> Image.Image:
    """A photo-like picture (height, width): soft coloured blobs, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()

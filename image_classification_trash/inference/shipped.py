"""The model that comes with the package, to classify photos right after installation."""

from pathlib import Path

from image_classification_trash.errors import BundleError
from image_classification_trash.files import sha256_of
from image_classification_trash.inference.bundle import CHECKSUMS

FOLDER = Path(__file__).parents[1] / "shipped"
MODEL = "model.tflite"
"""Beside it: labels.txt, the model card README.md, metrics.json, the notices of what it is made from, and SHA256SUMS."""
_HINT = "Install the package again, or give a model of your own with --model."


def shipped_model() -> Path:
    """Return the path of the shipped model; `check_shipped` compares its content where that is read.

    Raises:
        BundleError: the file is missing from the installation.
    """
    model = FOLDER / MODEL
    if not model.is_file() or not (FOLDER / CHECKSUMS).is_file():
        raise BundleError(f"This installation has no model in {FOLDER}.", _HINT)
    return model


def is_shipped(path: Path) -> bool:
    """Return whether a path is that of the shipped model."""
    return path == FOLDER / MODEL


def check_shipped(content: bytes) -> None:
    """Raise a BundleError unless the bytes of the shipped model's file match the installation's checksum."""
    lines = (FOLDER / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    if f"{sha256_of(content)}  {MODEL}" not in lines:
        raise BundleError(
            f"{FOLDER / MODEL} does not match its checksum: it was changed or cut short.", _HINT
        )

"""The model that comes with the package, to classify photos right after installation."""

from pathlib import Path

from image_classification_trash.errors import BundleError
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference.bundle import CHECKSUMS

FOLDER = Path(__file__).parents[1] / "shipped"
MODEL = "model.tflite"
"""Beside it: labels.txt, the model card README.md, metrics.json, the notices of what it is made from, and SHA256SUMS."""


def shipped_model() -> Path:
    """Return the path of the shipped model, after a check of its checksum.

    Raises:
        BundleError: the file is missing from the installation, or was changed.
    """
    model, listing = FOLDER / MODEL, FOLDER / CHECKSUMS
    hint = "Install the package again, or give a model of your own with --model."
    if not model.is_file() or not listing.is_file():
        raise BundleError(f"This installation has no model in {FOLDER}.", hint)
    lines = listing.read_text(encoding="utf-8").splitlines()
    if f"{sha256_of_file(model)}  {MODEL}" not in lines:
        raise BundleError(f"{model} does not match its checksum: it was changed or cut short.", hint)
    return model

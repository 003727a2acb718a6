"""The model that comes with the package, so that a photo can be classified right after the install."""

from pathlib import Path

from image_classification_trash.errors import BundleError
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference.bundle import CHECKSUMS

FOLDER = Path(__file__).parents[1] / "shipped"
MODEL = "model.tflite"
"""Beside it: labels.txt, the model card README.md, metrics.json, the notices of what it is made from, and SHA256SUMS."""


def shipped_model() -> Path:
    """The shipped model's file, whose checksum was looked at.

    Raises:
        BundleError: it is missing from the installation, or it was changed.
    """
    model, listing = FOLDER / MODEL, FOLDER / CHECKSUMS
    hint = "Install the package again, or give a model of your own with --model."
    if not model.is_file() or not listing.is_file():
        raise BundleError(f"This installation has no model in {FOLDER}.", hint)
    lines = listing.read_text(encoding="utf-8").splitlines()
    if f"{sha256_of_file(model)}  {MODEL}" not in lines:
        raise BundleError(f"{model} does not match its checksum: it was changed or cut short.", hint)
    return model

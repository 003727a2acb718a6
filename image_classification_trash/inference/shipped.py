"""The models that come with the package: a small one, which answers where none is named, and a larger one.

    trash-classifier predict photo.jpg --model shipped
    trash-classifier predict photo.jpg --model shipped-large

Either is a folder with the exported file, labels.txt, the model card README.md, metrics.json, the notices of what it is made
from, and SHA256SUMS.
"""

from pathlib import Path

from image_classification_trash.errors import BundleError
from image_classification_trash.files import sha256_of
from image_classification_trash.inference.bundle import CHECKSUMS

PACKAGE = Path(__file__).parents[1]
MODEL = "model.tflite"
SHIPPED, LARGE = "shipped", "shipped-large"
FOLDERS = {SHIPPED: PACKAGE / "shipped", LARGE: PACKAGE / "shipped_large"}
"""By the reserved names, which mean these models wherever a model is named."""
_HINT = "Install the package again, or give a model of your own with --model."


def shipped_model(name: str = SHIPPED) -> Path:
    """Return the path of a shipped model; `check_shipped` compares its content where that is read.

    Args:
        name: one of the names of `FOLDERS`.

    Raises:
        BundleError: the file is missing from the installation.
    """
    folder = FOLDERS[name]
    if not (folder / MODEL).is_file() or not (folder / CHECKSUMS).is_file():
        raise BundleError(f"This installation has no model in {folder}.", _HINT)
    return folder / MODEL


def shipped_name(path: Path) -> str | None:
    """Return the name of the shipped model that a path leads to; None if it leads to another."""
    return next((name for name, folder in FOLDERS.items() if path == folder / MODEL), None)


def check_shipped(path: Path, content: bytes) -> None:
    """Raise a BundleError unless the bytes of a shipped model's file match the installation's checksum."""
    lines = (path.parent / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    if f"{sha256_of(content)}  {MODEL}" not in lines:
        raise BundleError(f"{path} does not match its checksum: it was changed or cut short.", _HINT)

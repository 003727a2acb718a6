"""The models that the project ships: a small one that comes with the package, and a larger one that lies in `models/`.

    trash-classifier predict photo.jpg --model shipped
    trash-classifier predict photo.jpg --model shipped-large

Either is a folder with the exported file, labels.txt, the model card README.md, metrics.json, the notices of what it is made
from, and SHA256SUMS.
"""

from pathlib import Path

from image_classification_trash.errors import BundleError
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference.bundle import CHECKSUMS

FOLDER = Path(__file__).parents[1] / "shipped"
MODEL = "model.tflite"
SHIPPED, LARGE = "shipped", "shipped-large"
RESERVED = (SHIPPED, LARGE)
"""Names that mean these models wherever a model is named."""


def shipped_model(name: str = SHIPPED, models_dir: Path = Path("models")) -> Path:
    """Return the path of a shipped model's file, after a check of its checksum.

    Args:
        name: one of `RESERVED`.
        models_dir: folder of trained models, which holds the larger one.

    Raises:
        BundleError: the file is missing, or was changed.
    """
    folder = FOLDER if name == SHIPPED else models_dir / LARGE
    model, listing = folder / MODEL, folder / CHECKSUMS
    hint = "Install the package again, or give a model of your own with --model."
    if name == LARGE:
        hint = (
            f"Unpack the archive model-large of the release into {models_dir}, or make it: make release-model"
        )
    if not model.is_file() or not listing.is_file():
        place = (
            "This installation"
            if name == SHIPPED
            else f"{LARGE} does not come with the package, and {models_dir}"
        )
        raise BundleError(f"{place} has no model in {folder}.", hint)
    lines = listing.read_text(encoding="utf-8").splitlines()
    if f"{sha256_of_file(model)}  {MODEL}" not in lines:
        raise BundleError(f"{model} does not match its checksum: it was changed or cut short.", hint)
    return model

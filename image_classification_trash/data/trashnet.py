"""Download TrashNet, verify it, and read its authors' split.

TrashNet (Gary Thung and Mindy Yang, 2016, MIT): 2,527 photos of six classes on white posterboard, 512 x 384.
Only the zip is used. The hub's row view of the same data set lists every photo twice (originals and resized
copies), so a random split of those rows puts nearly every test photo into training as well.
"""

import csv
from importlib.resources import files
from pathlib import Path

from image_classification_trash.errors import (
    ArchiveError,
    DownloadError,
    MissingExtraError,
    first_line,
    install_hint,
)
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference.bundle import TRASHNET_LABELS

LABELS = TRASHNET_LABELS
REPOSITORY, ARCHIVE = "garythung/trashnet", "dataset-resized.zip"
HUB_BYTES = 42_834_870
HUB_SHA256 = "c060e8abfe5d6de0578ca15be1ed8ad0794a865d333c3473d53d1d9ad6e38b8c"
FOLDER = "dataset-resized"


def download_trashnet() -> Path:
    """Download the zip from the Hugging Face hub, or find it in the hub's cache, and verify it; return its path.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        DownloadError: the network is unavailable, or the hub refused the request.
        ArchiveError: the size or checksum differs from the known file's.
    """
    try:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415  the network is optional
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    except ImportError as error:
        hint = f"{install_hint('train')}, or use --source."
        raise MissingExtraError("Downloading TrashNet needs the library huggingface_hub.", hint) from error
    try:
        path = Path(hf_hub_download(REPOSITORY, ARCHIVE, repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error).rstrip(".")
        found = f"{ARCHIVE} could not be downloaded from the Hugging Face data set {REPOSITORY}: {reason}."
        raise DownloadError(found, _OFFLINE_HINT) from error
    check_trashnet_zip(path)
    return path


_OFFLINE_HINT = (
    f"Download {ARCHIVE} on another machine and run: trash-classifier data trashnet --source {ARCHIVE}, "
    "or start with the 300 photos in the repository: trash-classifier data sample"
)


def check_trashnet_zip(path: Path) -> None:
    """Compare a zip's size and SHA-256 with those of the hub's file.

    Raises:
        ArchiveError: the size or the SHA-256 differs.
    """
    hint = "Delete it from the hub's cache and download it again; pass a file of your own with --source."
    size = path.stat().st_size
    if size != HUB_BYTES:
        raise ArchiveError(f"{path} has {size} bytes; the known TrashNet zip has {HUB_BYTES}.", hint)
    digest = sha256_of_file(path)
    if digest != HUB_SHA256:
        raise ArchiveError(f"{path} has SHA-256 {digest}; the known TrashNet zip has {HUB_SHA256}.", hint)


def official_split() -> dict[str, str]:
    """Return the authors' split: file name (`glass1.jpg`) to train, val or test; 1,768 / 328 / 431 photos."""
    table = files("image_classification_trash.data") / "trashnet_split.csv"
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return {row["file"]: row["split"] for row in rows}

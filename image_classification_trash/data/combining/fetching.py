"""Find the file or folder of a source on disk; fetch it first if a URL or the Hugging Face hub has it."""

import http.client
import urllib.request
from pathlib import Path

from image_classification_trash.data.combining.sources_file import SourceSpec
from image_classification_trash.errors import (
    ArchiveError,
    DatasetError,
    DownloadError,
    MissingExtraError,
    first_line,
)
from image_classification_trash.files import atomic_path, sha256_of_file

MAX_DOWNLOAD_BYTES = 32 * 2**30
"""Bytes of a file that is fetched from a URL."""
SILENT_SECONDS = 60.0
"""Seconds that a server may say nothing."""


def place_of(spec: SourceSpec, folder: Path) -> Path:
    """Return the file or folder of a source, fetched into `folder` unless it is there already.

    Raises:
        DatasetError: the path does not exist, or is not a file whose checksum could be compared.
        ArchiveError: the file has another SHA-256 than stated; what was fetched is deleted, everything else is kept.
        DownloadError: the network is unavailable, or the server refused.
        MissingExtraError: huggingface_hub is not installed.
    """
    if spec.url:
        return fetched(spec, folder)
    path = from_hub(spec) if spec.hub else spec.path
    assert path is not None
    if not path.exists():
        raise DatasetError(
            f"Source {spec.name!r}: {path} does not exist.", "Paths start at the data sources file's folder."
        )
    if spec.sha256:
        if not path.is_file():
            raise DatasetError(
                f"Source {spec.name!r}: {path} is a folder, which has no SHA-256.", "Leave sha256 out."
            )
        check_sha256(spec, path)
    return path


def fetched(spec: SourceSpec, folder: Path) -> Path:
    """Return the file behind a source's URL, named after its checksum; fetch it unless it is there and undamaged."""
    suffix = Path(spec.url.partition("?")[0]).suffix.lower()
    file = folder / f"{spec.sha256.lower()}{suffix if suffix in ('.zip', '.csv') else '.zip'}"
    if file.is_file() and sha256_of_file(file) == spec.sha256.lower():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    hint = f"Check the address and the network; or download it elsewhere, and give the file as path instead of url, or as {file}."
    try:
        request = urllib.request.Request(spec.url, headers={"User-Agent": "trash-classifier"})  # noqa: S310  http(s) only
        with (
            urllib.request.urlopen(request, timeout=SILENT_SECONDS) as answer,  # noqa: S310  http(s) only
            atomic_path(file) as temporary,
        ):
            if int(answer.headers.get("Content-Length") or 0) > MAX_DOWNLOAD_BYTES:
                raise OSError(f"it is longer than {MAX_DOWNLOAD_BYTES:,} bytes")
            with temporary.open("wb") as sink:
                while piece := answer.read(2**20):
                    sink.write(piece)
                    if sink.tell() > MAX_DOWNLOAD_BYTES:
                        raise OSError(f"it is longer than {MAX_DOWNLOAD_BYTES:,} bytes")
            check_sha256(spec, temporary)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DownloadError(
            f"Source {spec.name!r}: {spec.url} could not be fetched: {first_line(error)}.", hint
        ) from error
    return file


def check_sha256(spec: SourceSpec, file: Path) -> None:
    """Raise an ArchiveError if a file has another SHA-256 than its source states."""
    digest = sha256_of_file(file)
    if digest != spec.sha256.lower():
        found = f"Source {spec.name!r}: {spec.url or file} has SHA-256 {digest}, not {spec.sha256.lower()}."
        hint = "The file was changed or is incomplete: compare it with its publisher's before you correct sha256."
        raise ArchiveError(found, hint)


def from_hub(spec: SourceSpec) -> Path:
    """Return a data set of the Hugging Face hub at its revision, or one file of it, from the hub's cache or the network."""
    try:
        from huggingface_hub import hf_hub_download, snapshot_download  # noqa: PLC0415  the network is optional
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    except ImportError as error:
        hint = 'Install it with: pip install "image-classification-trash[train]", or give a path.'
        raise MissingExtraError("Data sets of the hub need the library huggingface_hub.", hint) from error
    try:
        if spec.file:
            return Path(hf_hub_download(spec.hub, spec.file, repo_type="dataset", revision=spec.revision))
        return Path(snapshot_download(spec.hub, repo_type="dataset", revision=spec.revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        found = f"Source {spec.name!r}: {spec.hub} could not be fetched from the Hugging Face hub: {reason}."
        raise DownloadError(
            found, "Check its name and revision and the network, or download it and give a path."
        ) from error

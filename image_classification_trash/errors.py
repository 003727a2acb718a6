"""Define every error that users can meet.

::

    TrashClassifierError
    ├── SettingsError            a flag, an environment variable or a YAML file has an invalid value
    ├── MissingExtraError        a library is not installed; names the extra that installs it
    ├── PhotoError               one photo cannot be used
    │   ├── PhotoTooLargeError   decoding the photo exceeds its budget
    │   └── FetchError           the photo at a URL cannot be fetched
    │       ├── UrlRefusedError      the URL is not allowed
    │       └── FetchTooLargeError   the response is longer than allowed
    ├── DatasetError             a data set as a whole cannot be used
    │   ├── ArchiveError         a zip file is damaged, unexpected or hostile
    │   └── DownloadError        a download from the network or the hub failed
    ├── CacheError               a cached file under data/interim is damaged
    ├── BusyError                another process is writing the same output
    ├── BundleError              a trained model on disk is incomplete, damaged or of an unknown format
    ├── StoreError               a folder or bucket of photos fails, after repeated attempts
    ├── ShardError               a shard cannot be answered
    ├── ModelServerError         a model server is unreachable, refuses, or returns an invalid response
    │   └── ModelServerTimeoutError  the model server takes too long
    ├── PromotionError           a model fails the promotion gates, or there is none to roll back to
    ├── TrainingError            training cannot start or continue
    │   └── DivergedError        its loss is no longer a finite number
    └── ExportError              a model cannot be exported, or its export differs too much from it

Each has two sentences: what was found and where, and what to do next.
"""

TYPE_CHECKING = False  # not from typing: this is imported before anything else
if TYPE_CHECKING:
    from pathlib import Path


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, or its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def install_hint(extras: str, checkout: "Path | None" = None) -> str:
    """Say how extras are installed from where this package came from, as no package index has it.

    Args:
        extras: their names, with commas between them.
        checkout: the folder that holds the package, if not this file's: a clone, or an environment's packages.
    """
    import json  # noqa: PLC0415  all of them are for an error alone
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    checkout = checkout or Path(__file__).parents[1]
    if (checkout / "pyproject.toml").is_file():
        return f'Install it with: pip install -e "{checkout}[{extras}]"'
    try:
        origin = json.loads(distribution("image-classification-trash").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    if "url" in origin:
        return f'Install it with: pip install "image-classification-trash[{extras}] @ {origin["url"]}"'
    return (
        f'Install it with: pip install ".[{extras}]", in a clone of the repository, or "FILE.whl[{extras}]"'
    )


class TrashClassifierError(Exception):
    """Base class of all errors that the user can fix.

    Args:
        found: one sentence: what was found, and where.
        hint: one sentence: what to do next; may be empty.
    """

    def __init__(self, found: str, hint: str = "") -> None:
        super().__init__(found, hint)
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.found} {self.hint}".strip()


class SettingsError(TrashClassifierError):
    """A flag, an environment variable or a YAML file has an invalid value."""


class MissingExtraError(TrashClassifierError):
    """A library is not installed; the message names the extra that installs it."""


class PhotoError(TrashClassifierError):
    """One photo cannot be used: it is missing, empty, truncated, or not an image.

    Attributes:
        code: the kind of error, stable, for programs; subclasses have their own.
    """

    code = "not_a_photo"


class PhotoTooLargeError(PhotoError):
    """Decoding a photo needs more pixels, memory, work or parts than its budget allows, or its file is too long."""

    code = "too_large"


class FetchError(PhotoError):
    """The photo at a URL cannot be fetched."""

    code = "url_failed"


class UrlRefusedError(FetchError):
    """A URL is not allowed, because of its syntax, scheme, port or host, or the address that the host resolves to."""

    code = "url_refused"


class FetchTooLargeError(FetchError):
    """The response to a URL is longer than allowed."""

    code = "too_large"


class DatasetError(TrashClassifierError):
    """A data set as a whole cannot be used."""


class ArchiveError(DatasetError):
    """A zip file is damaged, unexpected or hostile."""


class DownloadError(DatasetError):
    """A download from the network or the hub failed."""


class CacheError(TrashClassifierError):
    """A cached file is damaged, or differs from its description."""


class BusyError(TrashClassifierError):
    """Another process is writing the same output."""


class OutputError(TrashClassifierError):
    """The place to write to holds something that this program did not make, and would be lost."""


class BundleError(TrashClassifierError):
    """A trained model on disk is incomplete, damaged or of an unknown format."""


class StoreError(TrashClassifierError):
    """A folder or bucket fails in a way that says nothing about the photo, and did so after repeated attempts."""


class ShardError(TrashClassifierError):
    """Work cannot be done where it was given to: a shard changed since it was listed, photos end their process, Ray fails."""


class ModelServerError(TrashClassifierError):
    """A model server cannot be reached, refuses the request, or returns an invalid response."""


class ModelServerTimeoutError(ModelServerError):
    """A model server takes too long."""


class PromotionError(TrashClassifierError):
    """A model fails the promotion gates, or there is no model to roll back to."""


class TrainingError(TrashClassifierError):
    """Training cannot start or continue."""


class DivergedError(TrainingError):
    """The loss of a training, or a weight, is NaN or infinite."""


class ExportError(TrashClassifierError):
    """A model cannot be exported, or its exported file differs too much from it."""

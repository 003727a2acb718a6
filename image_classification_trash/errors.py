"""Every error that a user can meet.

::

    TrashClassifierError
    ├── SettingsError            a flag, an environment variable or a YAML file says something impossible
    ├── MissingExtraError        a library is not installed; names the extra that brings it
    ├── PhotoError               one photo cannot be used
    │   ├── PhotoTooLargeError   decoding it asks for more than its budget allows
    │   └── FetchError           the photo behind an address cannot be had
    │       ├── UrlRefusedError      the address is not one that may be asked
    │       └── FetchTooLargeError   it is longer than allowed
    ├── DatasetError             a data set as a whole cannot be used
    │   ├── ArchiveError         a zip file is damaged, foreign or hostile
    │   └── DownloadError        the network or the hub did not give what was asked for
    ├── CacheError               a file under data/interim is not what it says it is
    ├── BusyError                another process is writing the same output
    ├── BundleError              a trained model on disk is incomplete, damaged or foreign
    ├── ModelServerError         a model server refuses, or answers with something that is no answer
    │   └── ModelServerTimeoutError  it takes too long
    ├── PromotionError           a model may not take another's place, or there is none to go back to
    ├── TrainingError            training cannot start or continue
    │   └── DivergedError        its loss is no longer a finite number
    └── ExportError              a model cannot be exported, or its export differs too much from it

Each carries two sentences: what was found and where, and what to do next.
"""


def first_line(error: BaseException) -> str:
    """Shorten another library's error to its first line, or to its type where it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class TrashClassifierError(Exception):
    """Base of all errors that are the user's to mend.

    Args:
        found: what was found, and where; one sentence.
        hint: what to do next; one sentence, may be empty.
    """

    def __init__(self, found: str, hint: str = "") -> None:
        super().__init__(found, hint)
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.found} {self.hint}".strip()


class SettingsError(TrashClassifierError):
    """A flag, an environment variable or a YAML file says something impossible."""


class MissingExtraError(TrashClassifierError):
    """A library is not installed; the message names the extra that brings it."""


class PhotoError(TrashClassifierError):
    """One photo cannot be used: missing, empty, truncated, or not a picture at all."""


class PhotoTooLargeError(PhotoError):
    """Decoding a picture asks for more pixels, memory, work or parts than its budget allows, or its file is too long."""


class FetchError(PhotoError):
    """The photo behind an address cannot be had."""


class UrlRefusedError(FetchError):
    """An address is not one that may be asked: its form, its scheme, its port, its host or where that leads."""


class FetchTooLargeError(FetchError):
    """What lies behind an address is longer than allowed."""


class DatasetError(TrashClassifierError):
    """A data set as a whole cannot be used."""


class ArchiveError(DatasetError):
    """A zip file is damaged, foreign or hostile."""


class DownloadError(DatasetError):
    """The network or the hub did not give what was asked for."""


class CacheError(TrashClassifierError):
    """A cached file is not what its description says."""


class BusyError(TrashClassifierError):
    """Another process is writing the same output."""


class BundleError(TrashClassifierError):
    """A trained model on disk is incomplete, damaged or foreign."""


class ModelServerError(TrashClassifierError):
    """A model server cannot be reached, refuses, or answers with something that is no answer."""


class ModelServerTimeoutError(ModelServerError):
    """A model server takes too long."""


class PromotionError(TrashClassifierError):
    """A model does not pass the gates before its promotion, or there is none to go back to."""


class TrainingError(TrashClassifierError):
    """Training cannot start or continue."""


class DivergedError(TrainingError):
    """The loss of a training, or a weight, is NaN or infinite."""


class ExportError(TrashClassifierError):
    """A model cannot be exported, or its exported file differs too much from it."""

"""Folders of this machine, and buckets (S3, GCS, Azure) through obstore, behind one small interface.

    store = store_at("s3://bucket/photos")
    for file in store.files(): print(file.name, file.size)

Errors that say something about one photo (it is missing, it may not be read) are `FileNotFoundError` and
`PermissionError`. All others are the store's: they are retried, and then raised as a `StoreError`.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from image_classification_trash.errors import MissingExtraError, StoreError, first_line
from image_classification_trash.files import write_bytes

SCHEMES = ("s3://", "gs://", "az://", "abfs://", "abfss://")
UNFINISHED = "_unfinished"
"""Folder, inside a store on disk, of files that are still being written."""
ATTEMPTS = 3
"""Number of attempts after which an error is the store's; obstore has repeated each request by then too."""
OF_THE_STORE = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ENOTCONN",
        "ECONNRESET", "ECONNABORTED", "EMFILE", "ENFILE", "EAGAIN", "EBUSY", "EREMOTEIO", "ENOMEM", "ENODEV",
    )
    if hasattr(errno, name)
)  # fmt: skip
"""Codes of errors that say nothing about a photo: a network file system that is gone, no more handles."""
_RETRIES = {
    "max_retries": 6,
    "retry_timeout": timedelta(minutes=2),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class File:
    """A file in a store: its name, with `/` between folders, and its size in bytes."""

    name: str
    size: int


class Store(Protocol):
    """A folder or a bucket."""

    def files(self) -> Iterator[File]:
        """Yield all files below, of any depth, in no certain order; raise FileNotFoundError where there is no store."""
        ...

    def read(self, name: str, begin: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a file from `begin` to before `end`."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which is there as a whole or not at all."""
        ...

    def full(self, name: str) -> str:
        """Return the path or address that names a file anywhere."""
        ...


def is_bucket(location: str) -> bool:
    """Return whether a location is an address in object storage."""
    return location.lower().startswith(SCHEMES)


def absolute(location: str) -> str:
    """Return a location as every process knows it: an address unchanged, a path from the root."""
    return location if "://" in location else os.path.abspath(os.path.expanduser(location))  # noqa: PTH100, PTH111  any name passes


@lru_cache(maxsize=64)
def store_at(location: str) -> Store:
    """Return the store at a path or address; nothing is asked of it yet.

    Raises:
        MissingExtraError: it is a bucket and obstore is not installed.
        StoreError: the address is no bucket's, or the account that it needs is not configured.
    """
    return Bucket(location) if is_bucket(location) else Folder(Path(location))


def object_at(address: str) -> tuple[Store, str]:
    """Return the bucket of a photo's address, and the photo's name in it."""
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    return store_at(f"{scheme}://{bucket}"), key


def repeated(
    work: Callable[[], _T], is_of_the_store: Callable[[Exception], bool], where: str, attempts: int = ATTEMPTS
) -> _T:
    """Return what `work` does; repeat it where an error is the store's.

    Raises:
        StoreError: it failed `attempts` times.
    """
    for attempt in range(1, attempts + 1):
        try:
            return work()
        except Exception as error:
            if not is_of_the_store(error):
                raise
            if attempt == attempts:
                often = f", after {attempts} attempts" if attempts > 1 else ""
                found = f"{where} fails{often}: {first_line(error)}."
                hint = "Check the network, the address and the credentials, and run the command again."
                raise StoreError(found, hint) from error
        time.sleep(attempt)
    raise AssertionError


class Folder:
    """A folder of this machine, or of a file system that several machines share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> Iterator[File]:
        """Yield all files below; a subfolder that may not be read raises an OSError, so that nothing is left out.

        A file that another process moves away meanwhile, such as one that was unfinished, is no file.
        """
        folders, begin = [os.fspath(self.path)], len(self.full(""))
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file():
                        with suppress(FileNotFoundError):
                            yield File(entry.path[begin:], entry.stat().st_size)

    def read(self, name: str, begin: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a file from `begin` to before `end`."""

        def work() -> bytes:
            with (self.path / name).open("rb") as file:
                file.seek(begin)
                return file.read(-1 if end is None else end - begin)

        return repeated(work, is_of_the_disk, self.full(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file under `_unfinished/` and move it to its place, so that a listing never shows half of one."""
        waiting = self.path / UNFINISHED / name
        waiting.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(waiting, content)
        waiting.replace(self.path / name)

    def full(self, name: str) -> str:
        """Return the path of a file."""
        return os.path.join(self.path, name)  # noqa: PTH118  any name passes


class Bucket:
    """A folder in object storage; credentials and endpoint come from the environment, as the provider names them."""

    def __init__(self, address: str) -> None:
        try:
            import obstore.exceptions  # noqa: PLC0415  an extra
            from obstore.store import from_url  # noqa: PLC0415
        except ImportError as error:
            hint = "Install it with: pip install 'image-classification-trash[cloud]'"
            raise MissingExtraError(f"{address} needs the library obstore.", hint) from error
        scheme, _, rest = address.partition("://")
        bucket, _, below = rest.partition("/")
        self.root, self.below = f"{scheme}://{bucket}", below.strip("/")
        self._obstore, self._errors = obstore, obstore.exceptions
        endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
        client: Any = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}
        if endpoint.startswith("http://"):  # of a server of one's own
            client["allow_http"] = True
        retries: Any = _RETRIES
        try:
            self._store: Any = from_url(self.root, client_options=client, retry_config=retries)
        except (self._errors.BaseError, ValueError) as error:
            hint = "Set the account, region or credentials in the environment, as the provider's tools take them."
            raise StoreError(f"{self.root} cannot be used: {first_line(error)}.", hint) from error

    def files(self) -> Iterator[File]:
        """Yield all objects below, a thousand at a time.

        A listing is not continued after an error, which obstore raises when it has repeated a request: as if it had come to
        its end, it would yield nothing more.
        """
        begin = len(self.below) + 1 if self.below else 0
        pages = iter(self._store.list(self.below or None, chunk_size=1000))
        while page := self._asked(lambda: next(pages, None), self.root, attempts=1):
            yield from (File(found["path"][begin:], found["size"]) for found in page)

    def read(self, name: str, begin: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from `begin` to before `end`."""
        key = self._key(name)
        if end is not None:
            return self._asked(
                lambda: bytes(self._store.get_range(key, start=begin, end=end)), self.full(name)
            )
        return self._asked(lambda: bytes(self._store.get(key).bytes()), self.full(name))[begin:]

    def write(self, name: str, content: bytes) -> None:
        """Write an object; the store shows it when all of it has arrived."""
        self._asked(lambda: self._store.put(self._key(name), content), self.full(name))

    def full(self, name: str) -> str:
        """Return the address of an object."""
        return f"{self.root}/{self._key(name)}"

    def read_up_to(self, name: str, most: int) -> bytes | int:
        """Return the bytes of an object in one request; its size, where that is more than `most`, without its bytes."""

        def work() -> bytes | int:
            found = self._store.get(self._key(name))
            size = int(found.meta["size"])
            return size if size > most else bytes(found.bytes())

        return self._asked(work, self.full(name))

    def _key(self, name: str) -> str:
        return f"{self.below}/{name}" if self.below else name

    def _asked(self, work: Callable[[], _T], where: str, attempts: int = ATTEMPTS) -> _T:
        errors = self._errors

        def is_of_the_store(error: Exception) -> bool:
            if isinstance(error, errors.NotFoundError | FileNotFoundError):
                return "NoSuchBucket" in str(error)  # says nothing about the photo
            about_photo = (errors.PermissionDeniedError, errors.InvalidPathError, PermissionError, ValueError)
            return not isinstance(error, about_photo)

        try:
            return repeated(work, is_of_the_store, where, attempts)
        except (errors.NotFoundError, errors.InvalidPathError, FileNotFoundError, ValueError) as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", where) from error
        except (errors.PermissionDeniedError, PermissionError) as error:
            raise PermissionError(errno.EACCES, "the store forbids it", where) from error


def is_of_the_disk(error: BaseException | None) -> bool:
    """Return whether an error says nothing about a file: its disk or network file system fails."""
    return isinstance(error, OSError) and error.errno in OF_THE_STORE

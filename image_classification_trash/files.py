"""Write files and folders atomically; all output of the project goes through this module.

A killed run must leave no half-written output, so files and folders are written under a temporary name in the same folder
and renamed when they are complete. A temporary file or folder is locked while its writer runs; the next writer of the same
name deletes what a killed writer left behind.
"""

import ctypes
import errno
import hashlib
import json
import math
import os
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from reprlib import Repr
from typing import Any

from image_classification_trash.errors import BusyError, OutputError, TrashClassifierError

if sys.platform != "win32":
    import fcntl

_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2  # <fcntl.h>, <linux/fs.h>, macOS' <sys/stdio.h>
MAX_JSON_BYTES = 2**26
"""Bytes of a JSON file that the program reads; descriptions and figures of thousands of classes take a few million."""
_SHORT = Repr()
_SHORT.maxstring = 200
_STREAMS = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}


class RepeatedKeyError(ValueError):
    """A JSON object has a key twice; the message begins with `it gives`."""


def as_text(name: str) -> str:
    """Return a file name as valid Unicode text; bytes that are not UTF-8 are escaped, as in `\\xe9`."""
    try:
        return name.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that does not stand for a byte
        return name.encode("utf-8", errors="backslashreplace").decode("utf-8")


def sha256_of(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in chunks, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_limited(path: Path, most: int) -> bytes:
    """Return a file's content, of at most `most` bytes; a device that never ends is not read further.

    Raises:
        OSError: the file is longer, or cannot be read.
    """
    with path.open("rb") as file:
        is_long = os.fstat(file.fileno()).st_size > most
        content = bytearray()
        while not is_long and (piece := file.read(2**20)):
            content += piece
            is_long = len(content) > most
    if is_long:
        raise OSError(errno.EFBIG, f"it is longer than {most:,} bytes", str(path))
    return bytes(content)


def read_json(path: Path, most: int = MAX_JSON_BYTES, finite: bool = False) -> Any:
    """Read a JSON file of at most `most` bytes; `finite` as in `parse_json`.

    Raises:
        OSError: the file is longer, or cannot be read.
        ValueError: as of `parse_json`, or it is not in UTF-8.
    """
    return parse_json(read_limited(path, most).decode("utf-8"), finite)


def parse_json(text: str | bytes, finite: bool = False) -> Any:
    """Parse JSON in which no object has a key twice.

    Args:
        text: the document.
        finite: refuse NaN and infinity, which Python writes, as earlier versions did for missing figures, but JSON has not.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or an object has a key twice, of which the first would be lost;
            or a number is not finite and `finite` is set.
    """
    strict: dict[str, Any] = {"parse_constant": finite_number, "parse_float": finite_number} if finite else {}
    try:
        return json.loads(text, object_pairs_hook=without_repeats, **strict)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def finite_number(text: str) -> float:
    """Return the number that JSON text stands for; raise a ValueError for NaN, infinity and numbers beyond a float's range."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has a number that is not finite: {text[:20]}")
    return value


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dictionary; raise a RepeatedKeyError for a key that stands there twice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        key = repeated([key for key, _ in pairs])
        raise RepeatedKeyError(f"it gives {_SHORT.repr(key)} twice in one object")
    return members


def repeated(names: Sequence[str]) -> str:
    """Return the first name that stands among `names` more than once; empty if none does."""
    return next((name for name, count in Counter(names).items() if count > 1), "")


def read_yaml(path: Path, most: int, flag: str, refusal: type[TrashClassifierError]) -> Any:
    """Read a YAML file of at most `most` bytes in which no mapping has a key twice.

    Args:
        path: the file.
        most: limit on its bytes.
        flag: the flag that named it, for messages.
        refusal: the class of the errors that are raised.

    Raises:
        TrashClassifierError: a `refusal`: the file cannot be read, is not YAML, or gives a key twice.
    """
    import yaml  # noqa: PLC0415 - most commands read none

    class Loader(yaml.SafeLoader):
        """Refuses a key that a mapping has twice, of which the first would be lost."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            lines: dict[tuple[str, str], int] = {}
            for key in keys:
                line, name = key.start_mark.line + 1, (key.tag, key.value)
                if name in lines:
                    where = f"line {line}" if line == lines[name] else f"lines {lines[name]} and {line}"
                    found = f"{path} gives {_SHORT.repr(key.value)} twice in one mapping: {where}."
                    raise refusal(found, "Keep one of them.")
                lines[name] = line
            return node

    try:
        return yaml.load(read_limited(path, most).decode("utf-8"), Loader)  # noqa: S506  a SafeLoader
    except OSError as error:
        raise refusal(f"{path} cannot be read: {error.strerror}.", f"Give {flag} a YAML file.") from error
    except RecursionError as error:
        raise refusal(
            f"{path} is nested too deeply.", f"Give {flag} a file that a person could write."
        ) from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        # The last four: values such as 2025-99-99.
        raise refusal(f"{path} is not YAML: {error}.", "Correct that line.") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it replaces `path`, on failure it is deleted.

    If `path` is a symbolic link, its target is replaced and the link is kept. A pipe or a device is written to, not
    replaced.

    Raises:
        IsADirectoryError: `path` is a folder; raised before anything is written.
        PermissionError: `path` is a file that may not be written.
    """
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            temporary.touch()
            yield temporary
            with temporary.open("rb") as source, path.open("ab") as sink:
                shutil.copyfileobj(source, sink, 2**20)
        return
    path = target_of(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    check_writable(path)
    with _temporary_beside(path, folder=False) as temporary:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # so that a full disk fails here, before the rename
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically, as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with line endings unchanged."""
    write_bytes(path, text.encode())


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, on failure it is deleted.

    An existing folder is replaced as a whole: readers see the old one or the new one. If `path` is a symbolic link, its
    target is replaced and the link is kept.

    Raises:
        NotADirectoryError: `path` is a file; raised before anything is written.
    """
    path = target_of(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    recover_directory(path)
    with _temporary_beside(path, folder=True) as temporary:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _swap(temporary, path)


def check_writable(path: Path) -> None:
    """Raise a PermissionError for a file that may not be written: renaming another over it would ignore that."""
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def check_replaceable(path: Path, *marks: str) -> None:
    """Refuse to replace a file, or a folder that holds files but none of `marks`, which this program writes there.

    Raises:
        OutputError: what stands there would be lost.
    """
    path = target_of(path)
    held = sorted(entry.name for entry in path.iterdir() if entry.name[0] != ".") if path.is_dir() else []
    if path.exists() and not path.is_dir():
        found = f"{path} is a file, where a folder is to be written."
    elif held and not set(marks) & set(held):
        found = f"{path} holds other files, such as {as_text(held[0])}, which would be lost."
    else:
        return
    raise OutputError(found, "Move it away, or choose another name.")


def recover_directory(path: Path) -> None:
    """Restore a folder whose writer was killed between the two renames of a swap; otherwise do nothing.

    Needed only on file systems that cannot exchange two names in one step.
    """
    if path.exists() or not path.parent.is_dir():
        return
    retired = _leftovers(path, ".old")
    if retired:
        retired[-1].replace(path)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on writing `path` for the duration of a long task, with a lock file beside it.

    Raises:
        BusyError: another process holds the lock.
        OSError: nothing can be written beside `path`.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  slow to import, and only long tasks need it

    path = target_of(path)
    new_folders = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        file.touch()  # where nothing can be written, that fails as what it is
        hint = "Wait until it has finished, stop it, or choose another output."
        raise BusyError(f"Another process is writing {path}.", hint) from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # before the release: the next process creates a new lock file
        lock.release()
        with suppress(OSError):  # something was written there
            for folder in new_folders:
                folder.rmdir()


@contextmanager
def _temporary_beside(path: Path, folder: bool) -> Iterator[Path]:
    """Create a locked temporary file or folder beside `path`; delete it at the end if it still exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in _leftovers(path, ".tmp", ".old"):
        abandoned = _locked(leftover)
        if abandoned is not None:
            _delete(leftover)
            os.close(abandoned)
    prefix = f".{path.name}."
    if folder:
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=path.parent))
    else:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
    lock = _locked(temporary)
    try:
        yield temporary
    finally:
        _delete(temporary)
        if lock is not None:
            os.close(lock)


def _leftovers(path: Path, *endings: str) -> list[Path]:
    """Return the temporary files and folders of `path`, oldest first, including those of running writers."""
    prefix = f".{path.name}."
    with os.scandir(path.parent) as entries:
        found = [Path(e.path) for e in entries if e.name.startswith(prefix) and e.name.endswith(endings)]
    return sorted(found, key=lambda leftover: leftover.lstat().st_mtime_ns)


def _locked(path: Path) -> int | None:
    """Lock a file or folder; return the handle to close, or None if it is already locked or cannot be locked."""
    if sys.platform == "win32":
        return None
    handle = None
    with suppress(OSError):  # deleted, or on a file system without locks: then nothing is ever cleaned up
        handle = os.open(path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    if handle is not None:
        os.close(handle)
    return None


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def target_of(path: Path) -> Path:
    """Return a symbolic link's target, even if it does not exist yet; return any other path unchanged.

    Raises:
        OSError: the link leads to itself.
    """
    try:
        return path.resolve() if path.is_symlink() else path
    except RuntimeError as error:  # until Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


def is_stream(path: Path) -> bool:
    """Return whether `path` is a pipe, a device or a stream such as /dev/stdout, which is written to, not replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return path.parent in _STREAMS or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.replace(path)
    elif not _exchange(new, path):
        retired = new.with_suffix(".old")
        path.replace(retired)
        try:
            new.replace(path)
        except BaseException:
            retired.replace(path)
            raise
        shutil.rmtree(retired, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return False if the system or the file system does not support it."""
    if sys.platform == "win32":
        return False
    system, names = ctypes.CDLL(None, use_errno=True), (os.fsencode(one), os.fsencode(other))
    if sys.platform == "linux" and hasattr(system, "renameat2"):
        failed = system.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    elif sys.platform == "darwin" and hasattr(system, "renamex_np"):
        failed = system.renamex_np(*names, _RENAME_SWAP)
    else:
        return False
    code = ctypes.get_errno()
    if failed and code not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(other))
    return not failed


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Files that are either whole or absent: everything the project writes goes through here.

A killed run must leave nothing half-written behind, so files and folders are made under a temporary name in the same
place and take the final name when they are complete. A temporary name is locked while its writer lives; what a killed
writer left behind is deleted by the next writer of the same name.
"""

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from image_classification_trash.errors import BusyError

if sys.platform != "win32":
    import fcntl

_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2  # <fcntl.h>, <linux/fs.h>, macOS' <sys/stdio.h>
_STREAMS = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}


def as_text(name: str) -> str:
    """A file's name as text that every file and every program can hold: bytes that are not UTF-8 become `\\xe9`."""
    try:
        return name.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which is no file's name
        return name.encode("utf-8", errors="backslashreplace").decode("utf-8")


def sha256_of(data: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's content, read in pieces, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose bytes become those of `path` on success and vanish on failure.

    A symbolic link stays: the file that it leads to is replaced. A pipe or a device is written into, not replaced.

    Raises:
        IsADirectoryError: `path` is a folder; raised before anything is written.
    """
    if is_stream(path):
        with _streamed_into(path) as temporary:
            yield temporary
        return
    path = target_of(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with _temporary_beside(path, folder=False) as temporary:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with the line ends given."""
    write_bytes(path, text.encode())


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes `path`'s place on success and vanishes on failure.

    A folder that stood at `path` is replaced whole: readers see the old one or the new one. A symbolic link stays: the
    folder that it leads to is replaced.

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


def recover_directory(path: Path) -> None:
    """Bring back a folder whose writer was killed between the two renames of a swap; else do nothing.

    Only file systems that cannot exchange two names at once need this.
    """
    if path.exists() or not path.parent.is_dir():
        return
    retired = _leftovers(path, ".old")
    if retired:
        retired[-1].replace(path)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the right to write `path`, which takes long; a lock file beside it is kept while this lasts.

    Raises:
        BusyError: another process holds it.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  slow to import, and for long work alone

    path = target_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        hint = "Wait until it has finished, stop it, or choose another output."
        raise BusyError(f"Another process is writing {path} at this moment.", hint) from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is held: a process that waits for the name makes a new file
        lock.release()


@contextmanager
def _temporary_beside(path: Path, folder: bool) -> Iterator[Path]:
    """Make a locked temporary file or folder beside `path`, and delete it in the end if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in _leftovers(path, ".tmp", ".old"):
        _delete_if_abandoned(leftover)
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
    """Temporary names of `path`, oldest first, its living writers' among them."""
    prefix = f".{path.name}."
    with os.scandir(path.parent) as entries:
        found = [Path(e.path) for e in entries if e.name.startswith(prefix) and e.name.endswith(endings)]
    return sorted(found, key=lambda leftover: leftover.lstat().st_mtime_ns)


def _delete_if_abandoned(leftover: Path) -> None:
    lock = _locked(leftover)
    if lock is not None:
        _delete(leftover)
        os.close(lock)


def _locked(path: Path) -> int | None:
    """Lock a file or folder; returns what to close, or None where it is locked already or cannot be."""
    if sys.platform == "win32":
        return None
    handle = None
    with suppress(OSError):  # gone, or a file system without locks: then nothing is ever deleted
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
    """Where a link leads, even if nothing is there yet; any other path as it is."""
    return path.resolve() if path.is_symlink() else path


def is_stream(path: Path) -> bool:
    """Whether bytes go into what is at `path` rather than in its place: a pipe, a device, /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return path.parent in _STREAMS or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def _streamed_into(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / path.name
        temporary.touch()
        yield temporary
        with temporary.open("rb") as source, path.open("ab") as sink:
            shutil.copyfileobj(source, sink, 2**20)


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
    """Exchange two names in one step; False where the system or the file system cannot."""
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


def _flush(path: Path) -> None:
    """Ask the disk for the space now, so that a full disk is noticed before the rename."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

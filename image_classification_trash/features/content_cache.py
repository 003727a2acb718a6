"""Caches of what is computed from photos: where they are kept, and arrays in .npz files by the photo's SHA-256.

A folder of caches that cannot be written is read all the same; what it lacks is kept in a temporary folder until the
process ends.
"""

import errno
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from image_classification_trash.errors import CacheError
from image_classification_trash.files import atomic_path

logger = logging.getLogger(__name__)
_STANDS_IN: dict[Path, tempfile.TemporaryDirectory[str]] = {}
"""The temporary folder that stands in for each folder of caches that cannot be written; deleted at the process's end."""


def writable(folder: Path) -> Path:
    """Return a folder of caches, created if need be, or a temporary one if it cannot be written, which is said once."""
    if folder in _STANDS_IN:
        return Path(_STANDS_IN[folder].name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        stand_in = tempfile.TemporaryDirectory(prefix="trash-caches-")
        logger.warning(
            "%s cannot be written (%s): what is computed from photos is kept in %s until this run ends",
            folder, error.strerror, stand_in.name,
        )  # fmt: skip
        _STANDS_IN[folder] = stand_in
    return Path(_STANDS_IN[folder].name)


def readable(folder: Path) -> list[Path]:
    """Return the folders in which caches of `folder` may be: itself, and the temporary one if it has one."""
    stand_in = _STANDS_IN.get(folder)
    return [folder] if stand_in is None else [folder, Path(stand_in.name)]


def read_rows(file: Path, name: str, what: str) -> dict[str, Any]:
    """Read the stored arrays by SHA-256; return an empty dict if the file does not exist.

    Args:
        file: the .npz file.
        name: the name of the array in it whose rows are the stored arrays.
        what: what an error message calls the arrays.

    Raises:
        CacheError: the file cannot be read.
    """
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(zip(stored["sha256"].tolist(), stored[name], strict=True))
    except Exception as error:  # a damaged zip makes numpy and zipfile raise almost anything
        hint = "Delete it; it will be created again."
        raise CacheError(f"The {what} in {file} cannot be read: {error}.", hint) from error


def write_rows(
    file: Path, name: str, known: Mapping[str, npt.NDArray[Any]], compressed: bool = False
) -> None:
    """Write arrays of one shape and dtype atomically, by SHA-256."""
    save = np.savez_compressed if compressed else np.savez
    columns: dict[str, Any] = {"sha256": np.array(list(known)), name: np.stack(list(known.values()))}
    with atomic_path(file) as temporary, temporary.open("wb") as sink:
        save(sink, **columns)

"""Arrays by the SHA-256 of the photo they were made from, in one .npz file: made once, then read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from image_classification_trash.errors import CacheError
from image_classification_trash.files import atomic_path


def read_rows(file: Path, name: str, what: str) -> dict[str, Any]:
    """The arrays stored under `name`, by checksum; none, where there is no file.

    Args:
        file: the .npz file.
        name: of the array in it whose rows they are.
        what: they are called in an error.

    Raises:
        CacheError: the file cannot be read.
    """
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(zip(stored["sha256"].tolist(), stored[name], strict=True))
    except Exception as error:  # a damaged zip makes numpy and zipfile raise almost anything
        hint = "Delete it; it will be made again."
        raise CacheError(f"The {what} in {file} cannot be read: {error}.", hint) from error


def write_rows(
    file: Path, name: str, known: Mapping[str, npt.NDArray[Any]], compressed: bool = False
) -> None:
    """Store arrays of one shape and dtype, by checksum, whole or not at all."""
    save = np.savez_compressed if compressed else np.savez
    columns: dict[str, Any] = {"sha256": np.array(list(known)), name: np.stack(list(known.values()))}
    with atomic_path(file) as temporary, temporary.open("wb") as sink:
        save(sink, **columns)

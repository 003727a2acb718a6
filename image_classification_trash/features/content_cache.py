"""Store arrays computed from photos in an .npz file, by the photo's SHA-256, so that each is computed once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from image_classification_trash.errors import CacheError
from image_classification_trash.files import atomic_path


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

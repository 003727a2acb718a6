"""Engines that run a bundle: each takes uint8 photos and returns probabilities.

Engines are found through the entry-point group ``image_classification_trash.runtimes``, so that this package
never imports torch: the torch engine registers itself from ``models/torch_runtime.py``.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

import numpy as np
import numpy.typing as npt

from image_classification_trash.errors import BundleError, MissingExtraError
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.inference.images import Pixels

GROUP = "image_classification_trash.runtimes"


class Runtime(Protocol):
    """One loaded model: uint8 photos (B, H, W, 3) in, float32 probabilities (B, C) out, rows summing to 1."""

    def __call__(self, photos: Pixels) -> npt.NDArray[np.float32]:
        """Run one batch."""
        ...


class RuntimeFactory(Protocol):
    """What an entry point names: loads a bundle into an engine with so many threads (None: the engine's choice)."""

    def __call__(self, bundle: Bundle, threads: int | None) -> Runtime:
        """Load the bundle's artifact for this engine."""
        ...


def runtime_names() -> list[str]:
    """Names of all registered engines, whether or not their libraries are installed."""
    return sorted(_registered())


def open_runtime(bundle: Bundle, name: str = "auto", threads: int | None = None) -> Runtime:
    """Load a bundle into an engine; `auto` takes the first that is installed.

    Raises:
        BundleError: no engine of that name.
        MissingExtraError: the engine's library is not installed; names the extra.
    """
    found = _registered()
    if name != "auto":
        if name not in found:
            known = ", ".join(["auto", *sorted(found)])
            raise BundleError(f"There is no runtime named {name!r}.", f"Choose one of: {known}.")
        return _load(found[name])(bundle, threads)
    for entry in found.values():
        try:
            factory = _load(entry)
        except MissingExtraError:
            continue
        return factory(bundle, threads)
    raise _missing("no engine is installed")


def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> RuntimeFactory:
    try:
        factory: RuntimeFactory = entry.load()
    except ImportError as error:
        raise _missing(f"the runtime {entry.name!r} cannot be loaded: {error}") from error
    return factory


def _missing(what: str) -> MissingExtraError:
    hint = 'Install one with: pip install "image-classification-trash[train]"'
    return MissingExtraError(f"A model cannot be run: {what}.", hint)

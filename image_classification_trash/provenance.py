"""Record where a result comes from: the commit, the library versions, the machine."""

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LIBRARIES = (
    "image-classification-trash",
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "scikit-learn",
    "numpy",
    "pillow",
)


def git_commit() -> str:
    """Return the commit of the checkout that the program runs from, with `-dirty` if files differ from it, or `unknown`."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that training depends on."""
    return versions_of(LIBRARIES)


def versions_of(libraries: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of those `libraries` that are installed."""
    versions = {"python": platform.python_version()}
    for library in libraries:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> str:
    """Return a short description of the machine: system, processor, threads, accelerator."""
    import torch  # noqa: PLC0415  a model can be adapted without it

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    return f"{sys.platform} {platform.machine()}, {torch.get_num_threads()} threads, {device}"

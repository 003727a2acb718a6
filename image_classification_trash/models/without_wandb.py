"""Import a library without its taking wandb along, which costs time and is wanted with `--tracker wandb` alone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden_wandb() -> Iterator[None]:
    """Have `import wandb` fail within, as if it were not installed; a wandb already imported stays."""
    if "wandb" in sys.modules:
        yield
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["wandb"]

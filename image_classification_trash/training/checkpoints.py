"""What a killed training leaves behind, and how it is taken up."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from image_classification_trash.errors import TrainingError, first_line

HISTORY = "history.csv"


CHECKPOINTS, LAST = "checkpoints", "last.ckpt"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        TrainingError: missing or damaged.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise TrainingError(
            f"{path} cannot be read as a checkpoint: {first_line(error)}", "Train without --resume."
        ) from error
    return content


def seconds_trained(folder: Path) -> float:
    """Seconds that a run took up to its last whole epoch, with those of runs that it resumed; 0 where there is no checkpoint.

    Raises:
        TrainingError: the checkpoint is damaged.
    """
    last = folder / CHECKPOINTS / LAST
    return float(read_checkpoint(last).get("seconds", 0.0)) if last.exists() else 0.0


def history_csv(history: Sequence[Mapping[str, float]]) -> str:
    """The history as CSV text."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": int(row["epoch"])} for row in history)
    return buffer.getvalue()


def checkpoint_to_resume(folder: Path, architecture: str) -> Path:
    """The last checkpoint of a run that trains this architecture.

    Raises:
        TrainingError: there is none, or it is one of another network.
    """
    last = folder / LAST
    if not last.exists():
        raise TrainingError(f"There is nothing to resume: {last} does not exist.", "Train without --resume.")
    found = read_checkpoint(last).get("architecture")
    if found != architecture:
        hint = f"Give --architecture {found}, or train without --resume."
        raise TrainingError(f"{last} is a checkpoint of {found}, not of {architecture}.", hint)
    return last

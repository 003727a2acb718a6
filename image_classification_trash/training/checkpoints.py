"""Read and check the checkpoints of a training that is to be resumed."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from image_classification_trash.continuation import Difference, differences, listed
from image_classification_trash.errors import BundleError, TrainingError, first_line

HISTORY = "history.csv"
CHECKPOINTS, LAST = "checkpoints", "last.ckpt"
CONDITIONS = "made_with"
"""Key of a checkpoint: the data and the settings that its weights depend on."""

logger = logging.getLogger(__name__)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        TrainingError: it is missing or damaged.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many exceptions for damaged files
        raise TrainingError(
            f"{path} cannot be read as a checkpoint: {first_line(error)}", "Train without --resume."
        ) from error
    return content


def seconds_trained(folder: Path) -> float:
    """Return the seconds that a run took up to its last complete epoch, resumed runs included; 0 without a checkpoint.

    Raises:
        TrainingError: the checkpoint is damaged.
    """
    last = folder / CHECKPOINTS / LAST
    return float(read_checkpoint(last).get("seconds", 0.0)) if last.exists() else 0.0


def history_csv(history: Sequence[Mapping[str, float]]) -> str:
    """Format the history as CSV; what a row lacks (the start has no training loss) is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(history[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": int(row["epoch"])} for row in history)
    return buffer.getvalue()


def read_history(file: Path) -> list[dict[str, float]]:
    """Read what `history_csv` wrote, a row per epoch.

    Raises:
        BundleError: it is no table of epochs.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            table = csv.DictReader(lines)
            rows = [{name: float(cell) for name, cell in row.items() if cell} for row in table]
    except (OSError, TypeError, ValueError, csv.Error):
        rows = []
    if not rows or not all({"epoch", "val_macro_f1"} <= row.keys() for row in rows):
        raise BundleError(
            f"{file} is not a table of epochs.", "Copy the whole folder again, or delete the file."
        )
    return rows


def check_resumable(folder: Path, conditions: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other data or settings; warn where the number of epochs changes.

    A checkpoint of an earlier version, which does not say what it was made with, is checked for its architecture and
    its epochs only.

    Args:
        folder: logs of the run.
        conditions: data and settings of the run that resumes, as the checkpoint keeps them.

    Raises:
        TrainingError: there is no checkpoint, it is damaged, or it belongs to another run; lists what differs.
    """
    last = folder / CHECKPOINTS / LAST
    if not last.exists():
        raise TrainingError(f"There is nothing to resume: {last} does not exist.", "Train without --resume.")
    checkpoint = read_checkpoint(last)
    before, trained = checkpoint.get(CONDITIONS, {}), len(checkpoint["history"])
    found, wanted = checkpoint.get("architecture"), conditions["architecture"]
    if found != wanted:
        hint = f"Give --architecture {found}, or train without --resume."
        raise TrainingError(f"{last} is a checkpoint of {found}, not of {wanted}.", hint)
    changes = [change for change in differences(before, conditions) if change.name != "epochs"]
    epochs = conditions["epochs"]
    if epochs < trained:
        changes.append(Difference("epochs", f"{trained}, already trained", epochs))
    if changes:
        hint = f"Give its data and settings again ({folder / 'config.yaml'}), or train without --resume."
        raise TrainingError(f"{last} belongs to a run with other settings: {listed(changes)}.", hint)
    if before.get("epochs", epochs) != epochs:
        logger.warning(
            "resuming with %d epochs instead of %d: from epoch %d on, learning rates follow the cosine schedule of %d epochs",
            epochs, before["epochs"], trained, epochs,
        )  # fmt: skip


def follow_move(checkpoint: dict[str, Any], callbacks: Sequence[Any]) -> None:
    """Let the checkpoint of a project that was moved name its files where they are now, in place.

    Lightning stores absolute paths; in another folder it would forget the best epoch so far, or look for it where it was.

    Args:
        checkpoint: as Lightning stores it.
        callbacks: Lightning's `ModelCheckpoint`s, which know their folder.
    """
    for callback in callbacks:
        state = checkpoint.get("callbacks", {}).get(callback.state_key)
        if state is None or callback.dirpath is None:
            continue
        before, now = Path(state["dirpath"]), Path(callback.dirpath)

        def moved(path: str, before: Path = before, now: Path = now) -> str:
            return (
                str(now / Path(path).relative_to(before)) if path and before in Path(path).parents else path
            )

        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = moved(state[name])
        state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
        state["dirpath"] = str(now)

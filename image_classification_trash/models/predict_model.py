"""Photos, folders, globs, URLs or a list on standard input, to a table. Needs no torch.

python -m image_classification_trash.models.predict_model photo.jpg
trash-classifier predict ~/Pictures --csv predictions.csv
"""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from image_classification_trash.config.models import PredictSettings
from image_classification_trash.errors import PhotoError, SettingsError
from image_classification_trash.files import as_text, sha256_of
from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.classifier import Prediction, TrashClassifier
from image_classification_trash.inference.images import PHOTO_SUFFIXES
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.inference.prediction_table import PredictionFile
from image_classification_trash.inference.web_photos import fetch_url, is_url


@dataclass(frozen=True)
class Predictions:
    """Answers that are still to come, one a photo, in the order of `names`; memory stays flat while they come."""

    classifier: TrashClassifier
    names: Sequence[str]
    batch_size: int

    def stream(self, start: int = 0) -> Iterator[Prediction]:
        """The answers, from photo number `start` on; photos are read as this is read."""
        return _classify(self.classifier, self.names[start:], self.batch_size)


def predict(settings: PredictSettings, stdin: TextIO = sys.stdin) -> Predictions:
    """Classify everything the settings name; a bad photo is a prediction with its error.

    Raises:
        SettingsError: a folder or glob holds no photos.
        BundleError: there is no model, or it is damaged.
    """
    names = list(photo_names(settings.photos, stdin))
    classifier = TrashClassifier.load(
        chosen_model(settings.model, settings.models_dir), settings.runtime, settings.threads
    )
    return Predictions(classifier, names, settings.batch_size)


def predict_to_file(settings: PredictSettings, stdin: TextIO = sys.stdin) -> tuple[int, int]:
    """Classify into the table that the settings name, each answer written as it comes.

    Returns:
        How many photos were answered for, and how many of them could not be read.

    Raises:
        As `predict` does, and SettingsError where a run cannot be resumed.
    """
    ((kind, path),) = settings.tables.items()
    work = predict(settings, stdin)
    config = work.classifier.config
    with PredictionFile(path, kind, _fingerprint(config, settings), config.labels, settings.resume) as table:
        done = len(table.answered)
        if table.answered != list(map(as_text, work.names[:done])):
            hint = "Give the same photos in the same order, or leave --resume out to start anew."
            raise SettingsError(f"{table.partial} holds answers to other photos.", hint)
        for prediction in tqdm(
            work.stream(done), total=len(work.names), initial=done, desc="classify", unit="photo"
        ):
            table.add(prediction)
    return len(work.names), table.errors


def photo_names(arguments: Iterable[str], stdin: TextIO) -> Iterator[str]:
    """Paths and URLs that arguments stand for: `-` reads names from stdin, folders and globs are listed.

    Raises:
        SettingsError: a folder or glob without photos.
    """
    for argument in map(os.path.expanduser, arguments):
        if argument == "-":
            names = (
                name.strip() for line in stdin for name in line.split("\0")
            )  # find -print0 sends no lines
            yield from (name for name in names if name)
        elif is_url(argument) or Path(argument).is_file():
            yield argument
        elif Path(argument).is_dir():
            yield from _listed(argument, Path(argument).rglob("*"))
        elif glob.has_magic(argument):
            matches = glob.glob(argument, recursive=True)  # noqa: PTH207  a pattern may be absolute
            yield from _listed(argument, map(Path, matches))
        else:
            yield argument  # a missing file becomes a row with its error, like any bad photo


def _classify(classifier: TrashClassifier, names: Sequence[str], batch_size: int) -> Iterator[Prediction]:
    """In order; URLs are fetched as they come, and one that cannot be is a row with its error."""
    for behind_addresses, group in _runs(names):
        if not behind_addresses:
            yield from classifier.stream(group, batch_size)
            continue
        for url in group:
            try:
                answer = classifier.predict([fetch_url(url)])[0]
                yield Prediction(**{**vars(answer), "path": url})
            except PhotoError as error:
                yield Prediction(url, error=str(error))


def _runs(names: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    run: list[str] = []
    for name in names:
        if run and is_url(name) != is_url(run[0]):
            yield is_url(run[0]), run
            run = []
        run.append(name)
    if run:
        yield is_url(run[0]), run


def _listed(argument: str, found: Iterable[Path]) -> list[str]:
    photos = sorted(str(path) for path in found if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())
    if not photos:
        raise SettingsError(
            f"{argument} holds no photos.", f"Photos are named *{', *'.join(sorted(PHOTO_SUFFIXES))}."
        )
    return photos


def _fingerprint(config: BundleConfig, settings: PredictSettings) -> str:
    """Tells models apart, and their exported files from one another."""
    return sha256_of(f"{config} {settings.model} {settings.runtime}".encode())


if __name__ == "__main__":
    from image_classification_trash.cli import main

    main(["predict"])

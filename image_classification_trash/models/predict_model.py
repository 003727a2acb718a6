"""Photos, folders, globs, URLs or a list on standard input, to a table. Needs no torch.

python -m image_classification_trash.models.predict_model photo.jpg
trash-classifier predict ~/Pictures --csv predictions.csv
"""

import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from image_classification_trash.config.models import PredictSettings
from image_classification_trash.errors import PhotoError, SettingsError
from image_classification_trash.files import as_text, sha256_of
from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.classifier import Prediction, TrashClassifier
from image_classification_trash.inference.images import PHOTO_SUFFIXES
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.inference.prediction_table import PredictionFile, row_of
from image_classification_trash.inference.web_photos import fetch_url, is_url
from image_classification_trash.show import GOOD, SOME_UNREADABLE, Note, Result, Shown, line

NAMED = 3
"""Candidates that a line of the table names; the rest are `others`."""


@dataclass
class Predictions(Result):
    """Answers that are still to come, one a photo, in the order of `names`; memory stays flat while they come.

    Attributes:
        classifier: that answers.
        names: of the photos.
        batch_size: photos run at once.
        unreadable: how many of the answers read so far are errors.
    """

    classifier: TrashClassifier
    names: Sequence[str]
    batch_size: int
    unreadable: int = 0

    def stream(self, start: int = 0) -> Iterator[Prediction]:
        """The answers, from photo number `start` on; photos are read as this is read."""
        for prediction in _classify(self.classifier, self.names[start:], self.batch_size):
            self.unreadable += prediction.error is not None
            yield prediction

    def for_people(self) -> Iterator[Shown]:
        """Yield a line a photo as the answers come."""
        decisions = [*self.classifier.config.labels, "decision"]
        widths = (max(map(len, ["photo", *self.names])), max(map(len, decisions)), len("probability"))
        yield line(("photo", "decision", "probability", "label"), widths)
        for p in self.stream():
            probability = "" if p.probability is None else f"{p.probability:.1%}"
            yield line((p.path, p.decision or "error", probability, label_or_prediction_set(p)), widths)

    def as_json(self) -> dict[str, Any]:
        """Return all answers at once."""
        config = self.classifier.config
        rows = [row_of(prediction, config.labels) for prediction in self.stream()]
        return {"model": config.name, "predictions": rows}

    def json_text(self) -> Iterator[str]:
        """Yield one document, a photo a piece."""
        config, total = self.classifier.config, len(self.names)
        yield f'{{"model": {json.dumps(config.name, ensure_ascii=False)}, "predictions": ['
        bar = tqdm(self.stream(), total=total, desc="classify", unit="photo", disable=total < 2)
        for number, prediction in enumerate(bar):
            row = json.dumps(row_of(prediction, config.labels), ensure_ascii=False)
            yield f"{',' if number else ''}\n  {row}"
        yield "\n]}\n"

    @property
    def exit_status(self) -> int:
        """Whether all photos that were answered for could be read."""
        return SOME_UNREADABLE if self.unreadable else GOOD


@dataclass(frozen=True)
class PredictionsWritten(Result):
    """A table of answers on disk: its file, how many photos it answers for, and how many of them could not be read."""

    table: Path
    photos: int
    unreadable: int

    def for_people(self) -> Iterator[Shown]:
        """Yield where it is and how many answers it holds, on standard error."""
        yield Note(f"{self.table}: {self.photos} photos, {self.unreadable} of them unreadable")

    def as_json(self) -> dict[str, Any]:
        """Return where it is and how many answers it holds."""
        return {"table": str(self.table), "photos": self.photos, "unreadable": self.unreadable}

    @property
    def exit_status(self) -> int:
        """Whether all photos could be read."""
        return SOME_UNREADABLE if self.unreadable else GOOD


def classify(settings: PredictSettings) -> Predictions | PredictionsWritten:
    """Classify what the settings name, into a table where they name one; raises as `predict` and `predict_to_file` do."""
    return predict_to_file(settings) if settings.tables else predict(settings)


def label_or_prediction_set(prediction: Prediction) -> str:
    """The label, the first candidates where it is unsure, or the error."""
    if prediction.prediction_set and prediction.decision != prediction.label:
        more = ("others",) if len(prediction.prediction_set) > NAMED else ()
        return " or ".join((*prediction.prediction_set[:NAMED], *more))
    return prediction.label or prediction.error or ""


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


def predict_to_file(settings: PredictSettings, stdin: TextIO = sys.stdin) -> PredictionsWritten:
    """Classify into the table that the settings name, each answer written as it comes.

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
    return PredictionsWritten(path, len(work.names), table.errors)


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
    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.show import carry_out

    sys.exit(carry_out("predict", lambda: load_settings(PredictSettings, sys.argv[1:]), classify))

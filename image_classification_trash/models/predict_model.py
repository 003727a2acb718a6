"""Classify photos, folders, globs, URLs or a list on standard input into a table. Needs no torch.

python -m image_classification_trash.models.predict_model photo.jpg
trash-classifier predict ~/Pictures --csv predictions.csv
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from image_classification_trash.config.photos_alone import PhotosAlone
from image_classification_trash.continuation import Difference, listed
from image_classification_trash.errors import SettingsError
from image_classification_trash.files import as_text, sha256_of, sha256_of_file
from image_classification_trash.inference.bundle import WEIGHTS
from image_classification_trash.inference.classifier import Prediction, TrashClassifier, photos_below
from image_classification_trash.inference.images import NAMED_AS
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.inference.photo_cost import DEFAULT_BUDGET, Budget
from image_classification_trash.show import GOOD, SOME_UNREADABLE, Note, Result, Shown, line

if TYPE_CHECKING:
    from image_classification_trash.config.models import PredictSettings
    from image_classification_trash.inference.prediction_table import PredictionFile

MAX_NAME = 2**16
"""Characters of a path or URL on standard input."""
NAMED = 3
"""Number of classes of a prediction set that a line of the table names, and of photos that a message names."""


@dataclass
class Predictions(Result):
    """Predictions, one per photo in the order of `names`, computed as they are read; memory use stays flat.

    Attributes:
        classifier: the model.
        names: paths and URLs of the photos.
        batch_size: number of photos in a batch.
        budget: what decoding one photo may cost.
        unreadable: number of errors among the predictions read so far.
    """

    classifier: TrashClassifier
    names: Sequence[str]
    batch_size: int
    budget: Budget = DEFAULT_BUDGET
    unreadable: int = 0

    def stream(self, start: int = 0) -> Iterator[Prediction]:
        """Yield the predictions from photo number `start` on, in order; files and URLs are read a few batches ahead."""
        for prediction in self.classifier.stream(self.names[start:], self.batch_size, budget=self.budget):
            self.unreadable += prediction.error is not None
            yield prediction

    def for_people(self) -> Iterator[Shown]:
        """Yield the model, then one line per photo as soon as it is classified."""
        yield f"model: {self.classifier.config.title}, {self.classifier.engine}"
        decisions = [*self.classifier.config.labels, "decision"]
        widths = (max(map(len, ["photo", *self.names])), max(map(len, decisions)), len("probability"))
        yield line(("photo", "decision", "probability", "label"), widths)
        for p in self.stream():
            probability = "" if p.probability is None else f"{p.probability:.1%}"
            yield line((p.path, p.decision or "error", probability, label_or_prediction_set(p)), widths)

    def as_json(self) -> dict[str, Any]:
        """Return all predictions at once."""
        predictions = [prediction.as_json() for prediction in self.stream()]
        return {"model": self.classifier.as_json(), "predictions": predictions}

    def json_text(self) -> Iterator[str]:
        """Yield one JSON document in pieces, one photo at a time."""
        from tqdm import tqdm  # noqa: PLC0415  a table does without, and it takes long to import

        total = len(self.names)
        yield f'{{"model": {json.dumps(self.classifier.as_json(), ensure_ascii=False)}, "predictions": ['
        idle = total < 2 or sys.stdout.isatty()  # in a terminal it would stand between the answers
        bar = tqdm(self.stream(), total=total, desc="classify", unit="photo", disable=idle)
        for number, prediction in enumerate(bar):
            answer = json.dumps(prediction.as_json(), ensure_ascii=False)
            yield f"{',' if number else ''}\n  {answer}"
        yield "\n]}\n"

    @property
    def exit_status(self) -> int:
        """Return `SOME_UNREADABLE` if any photo could not be read, else `GOOD`."""
        return SOME_UNREADABLE if self.unreadable else GOOD


@dataclass(frozen=True)
class PredictionsWritten(Result):
    """A table of predictions on disk: its path, its number of photos, and how many of them could not be read."""

    table: Path
    photos: int
    unreadable: int

    def for_people(self) -> Iterator[Shown]:
        """Yield the path and the counts, for standard error."""
        yield Note(f"{self.table}: {self.photos} photos, {self.unreadable} of them unreadable")

    def as_json(self) -> dict[str, Any]:
        """Return the path and the counts."""
        return {"table": str(self.table), "photos": self.photos, "unreadable": self.unreadable}

    @property
    def exit_status(self) -> int:
        """Return `SOME_UNREADABLE` if any photo could not be read, else `GOOD`."""
        return SOME_UNREADABLE if self.unreadable else GOOD


def classify(settings: "PredictSettings") -> Predictions | PredictionsWritten:
    """Classify the photos that the settings name, into a file if they name one.

    Raises:
        As `predict` and `predict_to_file` do.
    """
    return predict_to_file(settings) if settings.tables else predict(settings)


def label_or_prediction_set(prediction: Prediction) -> str:
    """Return the label, the first classes of the prediction set where the decision is `unsure`, or the error."""
    if prediction.prediction_set and prediction.decision != prediction.label:
        more = ("others",) if len(prediction.prediction_set) > NAMED else ()
        return " or ".join((*prediction.prediction_set[:NAMED], *more))
    return prediction.label or prediction.error or ""


def predict(settings: "PredictSettings | PhotosAlone", stdin: TextIO = sys.stdin) -> Predictions:
    """Classify everything that the settings name; an unreadable photo becomes a prediction with an error.

    Raises:
        SettingsError: a folder or glob holds no photos.
        BundleError: there is no model, or it is damaged.
    """
    names = list(photo_names(settings.photos, stdin))
    model = chosen_model(settings.model, settings.models_dir)
    classifier = TrashClassifier.load(model, settings.runtime, settings.threads)
    return Predictions(classifier, names, settings.batch_size, budget_of(settings.max_pixels))


def budget_of(max_pixels: int | None) -> Budget:
    """Return what decoding one photo may cost, with the user's limit of its pixels, if there is one."""
    return DEFAULT_BUDGET if max_pixels is None else DEFAULT_BUDGET.with_max_pixels(max_pixels)


def predict_to_file(settings: "PredictSettings", stdin: TextIO = sys.stdin) -> PredictionsWritten:
    """Classify into the file that the settings name, writing each prediction as soon as it is computed.

    Raises:
        As `predict` does, and SettingsError if a run cannot be resumed.
    """
    from tqdm import tqdm  # noqa: PLC0415  see above

    from image_classification_trash.inference.prediction_table import PredictionFile  # noqa: PLC0415

    ((kind, path),) = settings.tables.items()
    work = predict(settings, stdin)
    config = work.classifier.config
    # Tells models apart, the exported files of one model, and runs that read larger photos than others.
    limit = "" if settings.max_pixels is None else f" {settings.max_pixels}"
    fingerprint = sha256_of(f"{config} {settings.model} {settings.runtime}{limit}".encode())
    model = chosen_model(settings.model, settings.models_dir)
    made_with = answers_depend_on(work.classifier, model, settings.max_pixels)
    with PredictionFile(path, kind, fingerprint, config.labels, settings.resume, made_with) as table:
        check_same_photos(table, work.names)
        done = len(table.answered)
        for prediction in tqdm(
            work.stream(done), total=len(work.names), initial=done, desc="classify", unit="photo"
        ):
            table.add(prediction)
    return PredictionsWritten(path, len(work.names), table.errors)


def answers_depend_on(classifier: TrashClassifier, model: Path, max_pixels: int | None) -> dict[str, object]:
    """Return what the answers of a run depend on besides its photos, by name, as plain data.

    Args:
        classifier: the model, loaded.
        model: the bundle or file that it was loaded from.
        max_pixels: limit of a photo's pixels, if the user set one.
    """
    config = classifier.config
    return {
        "model": config.name,
        "weights": sha256_of_file(model if model.is_file() else model / WEIGHTS)[:12],
        "classes": list(config.classes),
        "input_size": list(config.input_size),
        "threshold": config.threshold,
        "configuration": sha256_of(str(config).encode())[:12],
        "engine": classifier.engine,
        "max_pixels": max_pixels or "default",
    }


def check_same_photos(table: "PredictionFile", names: Sequence[str]) -> None:
    """Raise a SettingsError unless the photos that are answered are the first ones of `names`; more may follow."""
    now = list(map(as_text, names[: len(table.answered)]))
    if len(now) < len(table.answered):
        changes = [Difference("number of photos", f"{len(table.answered)}, already answered", len(names))]
    else:
        pairs = enumerate(zip(table.answered, now, strict=True), start=1)
        changes = [Difference(f"photo {number}", old, new) for number, (old, new) in pairs if old != new]
    if changes:
        more = f"; and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
        found = f"{table.partial} holds predictions for other photos: {listed(changes[:NAMED])}{more}."
        hint = "Give the same photos in the same order, with more after them or none, or leave --resume out to start over."
        raise SettingsError(found, hint)


def photo_names(arguments: Iterable[str], stdin: TextIO) -> Iterator[str]:
    """Yield the paths and URLs that arguments stand for: `-` reads names from stdin, folders and globs are expanded.

    Raises:
        SettingsError: a folder or glob holds no photos.
    """
    for argument in map(os.path.expanduser, arguments):
        if argument == "-":
            yield from listed_names(stdin)
            continue
        found = photos_below(argument)
        if found is None:
            yield argument  # a missing file becomes a row with its error, like any unreadable photo
        elif found:
            yield from found
        else:
            raise SettingsError(f"{argument} holds no photos.", NAMED_AS)


def listed_names(stdin: TextIO) -> Iterator[str]:
    """Yield the names in a list, which line breaks or, as `find -print0` writes them, NUL characters separate.

    Raises:
        SettingsError: a name is longer than any path or URL is, or the list is UTF-16.
    """
    rest = stdin.read(1)
    if rest in ("\udcff", "\udcfe"):  # the mark at the beginning of UTF-16, as bytes that are not UTF-8
        raise SettingsError("The list is UTF-16 text.", "Save it as UTF-8.")
    rest = rest.removeprefix("\ufeff")  # which Windows puts before UTF-8
    while piece := stdin.read(MAX_NAME):
        *whole, rest = (rest + piece).replace("\0", "\n").split("\n")
        yield from filter(None, map(str.strip, whole))
        if len(rest) > MAX_NAME:
            found = f"The list on standard input has a name of more than {MAX_NAME:,} characters."
            raise SettingsError(found, "Give one path or URL a line.")
    yield from filter(None, [rest.strip()])


if __name__ == "__main__":
    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.config.models import PredictSettings
    from image_classification_trash.show import carry_out

    sys.exit(carry_out("predict", lambda: load_settings(PredictSettings, sys.argv[1:]), classify))

"""A model's answer for each photo that it was evaluated on, in its bundle as `predictions/PHOTOS.csv`.

    path,y_true,y_pred,probability,decision,waste_score,group
    glass/glass121.jpg,glass,plastic,0.613,unsure,,0007

Paths are relative to the folder of the photos, so that a bundle names no folder of the machine it was evaluated on.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from image_classification_trash.errors import BundleError
from image_classification_trash.files import as_text, sha256_of
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.tables import csv_records, csv_text

PREDICTIONS = "predictions"
_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer for one photo.

    Attributes:
        path: of the photo, relative to the photos' folder, with forward slashes.
        y_true: its class; empty for a photo that shows none of the classes.
        y_pred: the most probable class.
        probability: of `y_pred`, as `predict` states it.
        decision: `y_pred`, `unsure`, or the negative label.
        waste_score: probability that the photo shows waste; None without a rejection head.
        group: name shared by photos of one object or one take; empty where that is not known.
    """

    path: str
    y_true: str
    y_pred: str
    probability: float
    decision: str
    waste_score: float | None = None
    group: str = ""

    @property
    def is_right(self) -> bool:
        """Return whether the most probable class is the photo's."""
        return self.y_pred == self.y_true

    @property
    def is_accepted(self) -> bool:
        """Return whether the decision is a class."""
        return self.decision == self.y_pred

    @property
    def confidence(self) -> float:
        """Return the probability of `y_pred`, given that the photo shows waste: what calibration is measured on."""
        waste = 1.0 if self.waste_score is None else max(self.waste_score, 1e-12)
        return min(1.0, self.probability / waste)


COLUMNS = tuple(field.name for field in fields(Answer))


def predictions_file(photos: str) -> str:
    """Return the name, inside a bundle, of the file of the answers for photos of this name, which may be any text."""
    plain = photos if _PLAIN.fullmatch(photos) else sha256_of(as_text(photos).encode())[:16]
    return f"{PREDICTIONS}/{plain}.csv"


def answers_csv(answers: Iterable[Answer]) -> str:
    """Return the content of the file."""
    return csv_text(COLUMNS, map(astuple, answers))


def read_answers(bundle: Bundle, photos: str) -> tuple[Answer, ...] | None:
    """Read the answers for the photos of this name; None where there are none, as in bundles of earlier versions.

    Raises:
        BundleError: the file is damaged.
    """
    file = bundle.path / predictions_file(photos)
    if not file.is_file():
        return None
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return tuple(_parse(**row) for row in csv_records(lines))
    except (ValueError, TypeError, csv.Error) as error:
        hint = f"Evaluate the model again: trash-classifier evaluate {bundle.path}"
        raise BundleError(f"{file} is not a table of answers: {error}.", hint) from error


def _parse(probability: str, waste_score: str, **texts: str) -> Answer:
    return Answer(
        **texts, probability=float(probability), waste_score=float(waste_score) if waste_score else None
    )

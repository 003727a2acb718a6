"""What an evaluation measured, and on what: typed records, kept in a bundle's metrics.json by what they were measured on.

{"test": {"conditions": {...}, "n": 48, "accuracy": {"value": 0.93, "low": 0.9, "high": 0.96}, ...}}
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.errors import BundleError
from image_classification_trash.inference.bundle import METRICS, Bundle, renamed
from image_classification_trash.inference.classifier import Prediction

ABOVE = "accepted_above_0.9"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the ends of its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of one class, one against the rest, and how many photos it has; None where a score has no meaning."""

    n: int
    precision: Interval | None
    recall: Interval | None
    f1: Interval | None
    roc_auc: Interval | None


@dataclass(frozen=True)
class Scores:
    """What labels and probabilities give.

    Attributes:
        n: photos.
        accuracy: share of photos whose most probable class is the right one.
        balanced_accuracy: mean recall of the classes.
        macro_f1: mean F1 of the classes.
        roc_auc: mean over the classes of one against the rest.
        log_loss: mean negative log likelihood of the true classes.
        brier: mean squared distance of the probabilities to the truth.
        ece: expected calibration error.
        per_class: by class name.
        confusion: counts (C, C); rows are true classes, columns predicted ones.
    """

    n: int
    accuracy: Interval | None
    balanced_accuracy: Interval | None
    macro_f1: Interval | None
    roc_auc: Interval | None
    log_loss: Interval | None
    brier: Interval | None
    ece: Interval | None
    per_class: Mapping[str, ClassScores]
    confusion: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Mean confidence, accuracy and count of equal-width bins of the top probability (None: empty), and the ECE over them."""

    confidence: Sequence[float | None]
    accuracy: Sequence[float | None]
    count: Sequence[int]
    ece: float


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Error among the answered photos as more of them are answered, surest first, and the area under that curve."""

    coverage: Sequence[float]
    risk: Sequence[float]
    area: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """How many photos are answered at a threshold, their share, and how many of these rightly; None where none is answered."""

    threshold: float
    accepted: int
    coverage: float
    precision: float | None


@dataclass(frozen=True, slots=True)
class PredictionSets:
    """How often the right class is among the candidates, how many there are on average, and how often it is only one."""

    right_among: float
    mean_size: float
    single: float


@dataclass(frozen=True, slots=True)
class AccuracyAtCoverage:
    """Accuracy on the share `coverage` of photos whose answers are most confident, with its 95% interval and n."""

    coverage: float
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotWaste:
    """What a model makes of photos that show no waste.

    Attributes:
        name: of their folder.
        n: how many could be read.
        unreadable: how many could not.
        score: what told them from waste: `waste score`, or `largest probability`.
        auroc: chance that a photo of waste scores above one without.
        fpr_at_95: share of photos without waste that pass where 95% of those with waste do.
        turned_away: share answered with `unsure` or as no waste.
        answered_above: share answered with a class and a probability above 0.9.
    """

    name: str
    n: int
    unreadable: int = 0
    score: str
    auroc: Interval
    fpr_at_95: Interval
    rejected: Interval
    accepted_above: Annotated[Interval, Field(alias=ABOVE)]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What figures were measured on and how.

    Attributes:
        data: name of the data set, or of the folder.
        part: `test`, or the name of the folder.
        fingerprint: of the photos and their labels.
        split: how the data set was split; None for a folder.
        training_seed: of the training.
        interval: how the intervals were made.
        machine: that it ran on.
    """

    data: str
    part: str
    fingerprint: str
    split: Mapping[str, Any] | None
    training_seed: int
    interval: str
    machine: str


@dataclass(frozen=True)
class Metrics(Scores):
    """All that an evaluation measures.

    Attributes:
        conditions: what it was measured on, and how.
        reliability_before: without temperature scaling.
        reliability: with it.
        risk_coverage_area: area under the risk-coverage curve.
        answered: at the bundle's threshold.
        prediction_set: the candidate sets; None where the bundle names none.
        most_confident: accuracy on the surest 80%; None in files from before it was measured.
        unreadable: photos that could not be read.
        no_waste: photos without waste; None where none were given.
    """

    conditions: Conditions
    reliability_before: Reliability
    reliability: Reliability
    risk_coverage_area: float
    accepted: Accepted
    prediction_set: PredictionSets | None = None
    accuracy_at_coverage: AccuracyAtCoverage | None = None
    unreadable: int = 0
    not_waste: NotWaste | None = None

    @property
    def at_coverage(self) -> Interval | None:
        """Accuracy on the most confident answers, as a figure like the others."""
        most = self.accuracy_at_coverage
        return None if most is None else Interval(most.value, most.low, most.high)

    def as_json(self) -> dict[str, Any]:
        """Return it as metrics.json keeps it, conditions first."""
        document = asdict(self)
        not_waste = document.pop("not_waste")
        document = {"conditions": document.pop("conditions"), **document}
        if not_waste is not None:
            document["not_waste"] = {(ABOVE if k == "accepted_above" else k): v for k, v in not_waste.items()}
        return document


_METRICS_FILE = TypeAdapter(dict[str, Metrics])


def parse_metrics(document: Mapping[str, Any], origin: str) -> dict[str, Metrics]:
    """What a metrics.json holds, by the name of the photos.

    Raises:
        BundleError: another program wrote it; names `origin`.
    """
    try:
        return _METRICS_FILE.validate_python(
            {photos: renamed(figures) for photos, figures in document.items()}
        )
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        hint = "Use the version of the program that wrote it, or train again."
        raise BundleError(f"{origin} does not hold the figures of an evaluation: {place}.", hint) from error


def read_metrics(bundle: Bundle) -> dict[str, Metrics]:
    """What a bundle's evaluations measured; empty before the first one. Raises as `parse_metrics` does."""
    return parse_metrics(bundle.metrics(), str(bundle.path / METRICS))


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos to measure on: where, what they show, and what to call them."""

    name: str
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what pictures of it need.

    Attributes:
        bundle: the bundle, its metrics and card on disk brought up to date.
        photos: what it was measured on.
        y_true: class numbers (N,) of the photos that could be read.
        probabilities: calibrated, (N, C), of the classes of waste, given that there is some.
        paths: of the photos that could be read.
        metrics: what was measured, conditions included.
        unreadable: predictions of the photos that could not be read.
    """

    bundle: Bundle
    photos: LabelledPhotos
    y_true: Ints
    probabilities: Floats
    paths: tuple[Path, ...]
    metrics: Metrics
    unreadable: tuple[Prediction, ...]

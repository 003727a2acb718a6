"""Records of what an evaluation measured, stored in a bundle's metrics.json by the name of the photos.

{"test": {"conditions": {...}, "n": 48, "accuracy": {"value": 0.93, "low": 0.9, "high": 0.96}, ...}}
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, ValidationError

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.errors import BundleError
from image_classification_trash.evaluation.comparison.answers import Answer
from image_classification_trash.inference.bundle import METRICS, Bundle, renamed
from image_classification_trash.inference.classifier import Prediction

ABOVE = "accepted_above_0.9"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the bounds of its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of_share(cls, share: float, n: float) -> Self:
        """Return a share of `n` photos with its score interval, which has a width at 0 and 1 too (Wilson, 1927)."""
        z = 1.959964  # the normal distribution's 97.5% quantile
        centre = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return cls(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Number of photos of one class, and its scores against the rest; None if a score is undefined."""

    n: int
    precision: Interval | None
    recall: Interval | None
    f1: Interval | None
    roc_auc: Interval | None


@dataclass(frozen=True)
class Scores:
    """Scores that follow from labels and probabilities.

    Attributes:
        n: number of photos.
        accuracy: share of photos whose most probable class is the right one.
        balanced_accuracy: mean recall of the classes.
        macro_f1: mean F1 of the classes.
        roc_auc: mean over the classes, each against the rest.
        log_loss: mean negative log likelihood of the true classes.
        brier: mean squared distance between the probabilities and the one-hot label.
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
    """Mean confidence, accuracy and count per equal-width bin of the top probability (None: empty bin), and the ECE."""

    confidence: Sequence[float | None]
    accuracy: Sequence[float | None]
    count: Sequence[int]
    ece: float


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Error among accepted photos as coverage grows, most confident first, and the area under that curve."""

    coverage: Sequence[float]
    risk: Sequence[float]
    area: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """Number and share of photos accepted at a threshold, and their precision; None if no photo is accepted."""

    threshold: float
    accepted: int
    coverage: float
    precision: float | None


@dataclass(frozen=True, slots=True)
class PredictionSets:
    """How often prediction sets contain the right class, their mean size, and the share that contain a single class."""

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
    """Rejection metrics: how a model answers photos that show no waste.

    Attributes:
        name: of their folder.
        n: number of readable photos.
        unreadable: number of unreadable photos.
        score: the score that ranks them: `waste score`, or `largest probability`.
        auroc: probability that a photo of waste outscores one without.
        fpr_at_95: share of photos without waste above the threshold that keeps 95% of the photos of waste.
        rejected: share answered `unsure` or `not waste`.
        accepted_above: share answered with a class at a probability above 0.9.
    """

    name: str
    n: int
    unreadable: int = 0
    score: str
    auroc: Interval | None
    fpr_at_95: Interval | None
    rejected: Interval | None
    accepted_above: Annotated[Interval | None, Field(alias=ABOVE)]


@dataclass(frozen=True)
class StartComparison:
    """What fine-tuning gained over its start on the photos that select the best epoch, and which of the two was kept.

    Attributes:
        candidate: what fine-tuning started from: "fitted head" or "initial model".
        start_macro_f1: macro F1 of the start.
        fine_tuned_macro_f1: macro F1 of the best epoch; with WiSE-FT, of its average with the start.
        kept_epoch: number of the epoch whose weights were kept, from 1; 0 for the start.
    """

    candidate: str
    start_macro_f1: float
    fine_tuned_macro_f1: float
    kept_epoch: int

    def __str__(self) -> str:
        figures = f"Validation macro F1: {self.candidate} {self.start_macro_f1:.1%}, fine-tuned {self.fine_tuned_macro_f1:.1%}"
        if self.kept_epoch:
            return f"{figures} (epoch {self.kept_epoch} kept)."
        return (
            f"{figures}: the {self.candidate} is kept, since no epoch improved on it. "
            "More photos help most; try a lower --learning-rate or a higher --freeze-stages."
        )


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a measurement.

    Attributes:
        data: name of the data set, or of the folder.
        part: `test`, or the name of the folder.
        fingerprint: of the photos and their labels.
        split: how the data set was split; None for a folder.
        training_seed: seed of the training.
        interval: method of the intervals.
        machine: machine that it ran on.
    """

    data: str
    part: str
    fingerprint: str
    split: Mapping[str, Any] | None
    training_seed: int
    interval: str
    machine: str


@dataclass(frozen=True)
class SourceFigures(Scores):
    """The figures of the photos of one source; attributes as in `Metrics`."""

    accepted: Accepted
    accuracy_at_coverage: AccuracyAtCoverage


@dataclass(frozen=True)
class Metrics(Scores):
    """All figures of an evaluation.

    Attributes:
        conditions: of the measurement.
        reliability_before: before temperature scaling.
        reliability: after temperature scaling.
        risk_coverage_area: area under the risk-coverage curve.
        accepted: at the bundle's threshold.
        prediction_set: None if the bundle has no conformal threshold.
        accuracy_at_coverage: accuracy on the most confident 80%; None in files of earlier versions.
        unreadable: number of unreadable photos.
        not_waste: rejection metrics; None without photos that show no waste.
        by_source: figures by source; None for photos without named sources.
        not_waste_by_source: rejection metrics by source, each against all photos of waste; None as `by_source`.
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
    by_source: Mapping[str, SourceFigures] | None = None
    not_waste_by_source: Mapping[str, NotWaste] | None = None

    @property
    def at_coverage(self) -> Interval | None:
        """Return the accuracy on the most confident answers with its interval."""
        most = self.accuracy_at_coverage
        return None if most is None else Interval(most.value, most.low, most.high)

    def as_json(self) -> dict[str, Any]:
        """Return the document that metrics.json stores, conditions first."""
        document = asdict(self)
        not_waste, by_source, apart = (
            document.pop(name) for name in ("not_waste", "by_source", "not_waste_by_source")
        )
        document = {"conditions": document.pop("conditions"), **document}

        def named(figures: Mapping[str, Any]) -> dict[str, Any]:
            return {(ABOVE if name == "accepted_above" else name): value for name, value in figures.items()}

        if not_waste is not None:
            document["not_waste"] = named(not_waste)
        if by_source is not None:
            document["by_source"] = by_source
        if apart is not None:
            document["not_waste_by_source"] = {source: named(figures) for source, figures in apart.items()}
        return document


def without_undefined(document: Any) -> Any:
    """Return a document of metrics.json with null for intervals that are not finite, which earlier versions wrote."""
    if isinstance(document, list):
        return [without_undefined(item) for item in document]
    if not isinstance(document, dict):
        return document
    if document.keys() == {"value", "low", "high"}:
        numbers = [value for value in document.values() if isinstance(value, int | float)]
        return document if all(map(math.isfinite, numbers)) else None
    return {key: without_undefined(value) for key, value in document.items()}


_METRICS_FILE = TypeAdapter(dict[str, Metrics])


def parse_metrics(document: Mapping[str, Any], origin: str) -> dict[str, Metrics]:
    """Parse the content of a metrics.json, by the name of the photos.

    Raises:
        BundleError: it has another format; names `origin`.
    """
    try:
        return _METRICS_FILE.validate_python(
            {photos: without_undefined(renamed(figures)) for photos, figures in document.items()}
        )
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        hint = "Use the version of the program that wrote it, or train again."
        raise BundleError(f"{origin} does not hold the figures of an evaluation: {place}.", hint) from error


def read_metrics(bundle: Bundle) -> dict[str, Metrics]:
    """Read the figures of a bundle's evaluations; empty before the first. Raises as `parse_metrics` does."""
    return parse_metrics(bundle.metrics(), str(bundle.path / METRICS))


@dataclass(frozen=True)
class AdaptationRecord:
    """What a model was adapted from, and to, as `training.adaptation` in its description keeps it.

    Attributes:
        origin: name of the model that was adapted.
        origin_sha256: of its weights, or of its file.
        photos: number of labelled photos of each class, 0 included.
        unreadable: number of further photos that could not be read.
        fingerprint: SHA-256 of the photos and their labels.
        right_before: number of these photos that the origin is right on.
        right_after: number that a head adapted to the others is right on.
        fits: number of such heads; each left out one photo, or a group of them if that is fewer than the photos.
        temperature_before: of the origin.
        ridge: strength of the penalty on the correction.
        class_means: whether the means of the training photos were known.
        git_commit: of the program that adapted it.
        unlabelled: number of unlabelled photos, without those that are rejected.
        shares: share of each class among these, by which the scores were shifted; None without such photos.
    """

    origin: str
    origin_sha256: str
    photos: Mapping[str, int]
    unreadable: int
    fingerprint: str
    right_before: int
    right_after: int
    fits: int
    temperature_before: float
    ridge: float
    class_means: bool
    git_commit: str
    unlabelled: int = 0
    shares: Mapping[str, float] | None = None

    @property
    def n(self) -> int:
        """Return the number of labelled photos."""
        return sum(self.photos.values())

    @property
    def left_out(self) -> str:
        """Describe how the photos were left out, as a phrase."""
        return "one at a time" if self.fits == self.n else f"in {self.fits} groups"


TEST = "test"
"""Name of the test split, under which its figures are kept."""


def photos_name(data: Path) -> str:
    """Return the name under which the figures of a labelled folder, zip or CSV are kept."""
    name = data.stem if data.suffix.lower() == ".zip" and data.is_file() else data.resolve().stem
    return f"{name} (folder)" if name == TEST else name


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos to measure on.

    Attributes:
        name: of the photos.
        paths: of N photos.
        labels: of each.
        fingerprint: of the photos and their labels.
        sources: source of each; empty for photos without named sources.
        not_waste: photos without waste that belong to them, by source.
        root: the folder that they lie below.
        groups: group of each, of photos of one object or one take; empty where that is not known.
    """

    name: str
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    fingerprint: str
    sources: tuple[str, ...] = ()
    not_waste: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    root: Path = Path()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation, with what its figures are drawn from.

    Attributes:
        bundle: the evaluated bundle, whose metrics and card on disk are up to date; or an exported file, which stays as it is.
        photos: the photos measured on.
        y_true: class numbers (N,) of the readable photos.
        probabilities: calibrated, (N, C), of the classes, given that the photo shows waste.
        paths: of the readable photos.
        metrics: figures, conditions included.
        unreadable: predictions of the unreadable photos.
        answers: what a bundle keeps of the answer for each readable photo.
    """

    bundle: Bundle
    photos: LabelledPhotos
    y_true: Ints
    probabilities: Floats
    paths: tuple[Path, ...]
    metrics: Metrics
    unreadable: tuple[Prediction, ...]
    answers: tuple[Answer, ...]

"""Compare two models, photo by photo, on the photos that both were evaluated on.

    trash-classifier models compare trashnet production
    trash-classifier models compare trashnet@1 trashnet@2 --data ~/photos-of-my-own

Nothing is classified: `evaluate` keeps the answer for each photo in the bundle.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from image_classification_trash.config.models import ModelsSettings
from image_classification_trash.errors import BundleError
from image_classification_trash.evaluation.comparison.answers import Answer, read_answers
from image_classification_trash.evaluation.comparison.conclusion import (
    NAMES,
    conclude,
    difference_text,
    value_text,
)
from image_classification_trash.evaluation.comparison.paired import RESAMPLES, SEED, Paired, compare_answers
from image_classification_trash.evaluation.model_list import bundle_of, same_photos
from image_classification_trash.evaluation.result import TEST, Conditions, photos_name, read_metrics
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.show import Note, Result, Shown, Table


@dataclass(frozen=True)
class ComparedOn:
    """Two models on one set of photos.

    Attributes:
        photos: name of the photos.
        conditions: of the first model's evaluation on them.
        answers: of both models, photo by photo in the same order.
        paired: the paired differences.
        conclusion: what they show, a paragraph that starts with `Conclusion:`.
    """

    photos: str
    conditions: Conditions
    answers: tuple[tuple[Answer, ...], tuple[Answer, ...]]
    paired: Paired
    conclusion: str

    @property
    def interval(self) -> str:
        """Return how the intervals were computed."""
        drawn = "photos" if self.paired.groups == self.paired.n else f"{self.paired.groups} groups of photos"
        return f"95%, paired bootstrap over {drawn}, {RESAMPLES} resamples, seed {SEED}"

    def rows(self) -> list[list[str]]:
        """Return a row for each measure: its name, both figures, and the difference."""
        return [
            [
                NAMES[f.measure] if f.n == self.paired.n else f"{NAMES[f.measure]} (n {f.n})",
                value_text(f, f.first),
                value_text(f, f.second),
                difference_text(f),
            ]
            for f in self.paired.figures
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the figures and the conclusion, without the answers."""
        counts = asdict(self.paired)
        return {
            "photos": self.photos,
            "fingerprint": self.conditions.fingerprint,
            **{"n": counts.pop("n"), "groups": counts.pop("groups"), "interval": self.interval},
            **{**counts, "figures": [asdict(figure) for figure in self.paired.figures]},
            "conclusion": self.conclusion,
        }


@dataclass(frozen=True)
class ModelComparison(Result):
    """Two models, under the names that the user gave.

    Attributes:
        names: of both.
        bundles: both models.
        compared: on each set of photos that both were evaluated on, the test split first.
        left_out: names of the photos that only one was evaluated on, or that were others of the same name.
    """

    names: tuple[str, str]
    bundles: tuple[Bundle, Bundle]
    compared: tuple[ComparedOn, ...]
    left_out: tuple[str, ...]

    def for_people(self) -> Iterator[Shown]:
        """Yield a table of paired differences and the conclusion, for each set of photos."""
        for on in self.compared:
            yield f"photos: {on.photos}, {on.paired.n}; differences: second minus first, {on.interval}"
            yield Table(["measure", *self.names, "difference (95% interval)"], on.rows())
            yield on.conclusion
        if self.left_out:
            yield Note(f"not the same photos for both, so not compared: {', '.join(self.left_out)}")

    def as_json(self) -> dict[str, Any]:
        """Return the names, the comparison on each set of photos, and what was left out."""
        compared = [on.as_json() for on in self.compared]
        return {"models": list(self.names), "compared": compared, "left_out": list(self.left_out)}


def compare_models(settings: ModelsSettings) -> ModelComparison:
    """Compare the two models that the settings name.

    Raises:
        BundleError: there is no such model, it is damaged, the two have other classes, they were never evaluated on the same
            photos, or an earlier version evaluated them, which did not keep the answers.
    """
    first, second = settings.models
    names = (first, second)
    bundles = (bundle_of(first, settings.models_dir), bundle_of(second, settings.models_dir))
    check_classes(names, bundles)
    measured = [read_metrics(bundle) for bundle in bundles]
    parts = sorted({*measured[0], *measured[1]}, key=lambda name: (name != TEST, name))
    if settings.data is not None:
        parts = [name for name in parts if name == photos_name(settings.data)]
    same = [
        name for name in parts
        if all(name in of for of in measured) and same_photos(measured[0][name], measured[1][name])
    ]  # fmt: skip
    if not same:
        where = "" if settings.data is None else f" of {settings.data}"
        raise BundleError(
            f"{first} and {second} were never evaluated on the same photos{where}.",
            "Evaluate both on the same photos: trash-classifier evaluate MODEL --data FOLDER",
        )
    compared = tuple(compare_on(name, measured[0][name].conditions, names, bundles) for name in same)
    return ModelComparison(names, bundles, compared, tuple(name for name in parts if name not in same))


def compare_on(
    photos: str, conditions: Conditions, names: tuple[str, str], bundles: tuple[Bundle, Bundle]
) -> ComparedOn:
    """Compare two models on one set of photos; raises as `compare_models` does."""
    found = []
    for name, bundle in zip(names, bundles, strict=True):
        answers = read_answers(bundle, photos)
        if not answers:
            again = f"trash-classifier evaluate {name}{'' if photos == TEST else ' --data FOLDER'}"
            raise BundleError(
                f"{name} was evaluated on {photos} by an earlier version, which did not keep the answer for each photo.",
                f"Evaluate it again: {again}",
            )
        found.append(answers)
    labelled = [[(a.path, a.y_true) for a in answers if a.y_true] for answers in found]
    if labelled[0] != labelled[1]:
        raise BundleError(
            f"{names[0]} and {names[1]} could not read the same photos of {photos}.",
            "Evaluate both again, on the same machine.",
        )
    paired = compare_answers(found[0], found[1])
    return ComparedOn(photos, conditions, (found[0], found[1]), paired, conclude(names, paired))


def check_classes(names: tuple[str, str], bundles: tuple[Bundle, Bundle]) -> None:
    """Raise a BundleError if the classes of the two are not the same."""
    classes = [set(bundle.config.classes) for bundle in bundles]
    if classes[0] == classes[1]:
        return
    alone = [
        f"only {name} knows {', '.join(sorted(own - other)[:5])}{' and more' if len(own - other) > 5 else ''}"
        for name, own, other in zip(names, classes, reversed(classes), strict=True)
        if own - other
    ]
    raise BundleError(
        f"{names[0]} and {names[1]} have other classes: {'; '.join(alone)}.",
        "Compare models of the same classes.",
    )

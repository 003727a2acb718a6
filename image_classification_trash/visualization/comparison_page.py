"""Compare two models and write a page with both side by side: the photos on which they differ come first.

    trash-classifier models compare trashnet production

reports/compare-trashnet-production.html    the page
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_classification_trash.config.models import ModelsSettings
from image_classification_trash.data.manifest import read_manifest
from image_classification_trash.errors import PhotoError, TrashClassifierError
from image_classification_trash.evaluation.comparison.answers import Answer, predictions_file
from image_classification_trash.evaluation.comparison.conclusion import NAMES, difference_text
from image_classification_trash.evaluation.result import TEST
from image_classification_trash.inference.images import read_photo
from image_classification_trash.models.compare_models import ComparedOn, ModelComparison, compare_models
from image_classification_trash.show import Result, Shown

if TYPE_CHECKING:
    from image_classification_trash.visualization.report import Card, Picture

SAME = "both wrong, the same answer"
Pair = tuple[Answer, Answer]


@dataclass(frozen=True)
class ComparisonReport(Result):
    """A comparison and the path of its page; None if the libraries that draw it are not installed."""

    comparison: ModelComparison
    page: Path | None

    def for_people(self) -> Iterator[Shown]:
        """Yield the comparison and the path of the page."""
        yield from self.comparison.for_people()
        yield f"page: {self.page}" if self.page else "no page: jinja2 or matplotlib is not installed"

    def as_json(self) -> dict[str, Any]:
        """Return the comparison and the path of the page."""
        return self.comparison.as_json() | {"page": str(self.page) if self.page else None}


def compare_with_page(settings: ModelsSettings) -> ComparisonReport:
    """Compare two models and write the page; raises as `compare_models` does."""
    comparison = compare_models(settings)
    drawn = all(importlib.util.find_spec(library) for library in ("jinja2", "matplotlib"))
    return ComparisonReport(comparison, write_comparison_page(comparison, settings) if drawn else None)


def write_comparison_page(comparison: ModelComparison, settings: ModelsSettings) -> Path:
    """Write the page and return its path; its photos are those of the first set that both were evaluated on."""
    from image_classification_trash.visualization.report import (  # noqa: PLC0415  large
        MOST_CARDS,
        Gallery,
        Section,
        file_name,
        write_report,
    )

    on, names = comparison.compared[0], comparison.names
    pairs = differing_first(names, on)
    root, missing = photos_root(comparison, settings)
    cards = [card_of(names, kind, pair, root) for kind, pair in pairs[:MOST_CARDS]]
    differing = sum(kind != SAME for kind, _ in pairs)
    text = (
        f"The two differ on {differing} of {on.paired.n} photos of {on.photos}, which come first, and are wrong in the same way on "
        f"{len(pairs) - differing}."
    )
    if len(pairs) > len(cards):
        text += f" The first {len(cards)} are shown, {len(pairs) - len(cards)} are left out."
    tables = " and ".join(str(bundle.path / predictions_file(on.photos)) for bundle in comparison.bundles)
    gallery = Gallery("Photos", f"{text} The answers for all photos: {tables}. {missing}", cards)
    header = ("measure", *names, "difference (95% interval)")
    sections = [
        Section(f"On {one.photos}", one.interval if one is on else one.conclusion, [header, *one.rows()])
        for one in comparison.compared  # the page opens with the first one's conclusion
    ]
    path = settings.reports_dir / f"{file_name(['compare', *names])}.html"
    title = f"{names[0]} and {names[1]} on {on.photos}"
    write_report(path, title, [], sections, on.conclusion, [picture_of(names, on)], gallery)
    return path


def differing_first(names: tuple[str, str], on: ComparedOn) -> list[tuple[str, Pair]]:
    """Return the pairs of answers that are worth a look, each with its kind: those that differ, then errors of both.

    Of each kind, those with the most confident answer come first; the photos that only one gets right lead.
    """
    kinds = [
        f"only {names[0]} is right",
        f"only {names[1]} is right",
        "both wrong, other answers",
        "one accepted",
        SAME,
    ]
    found: dict[str, list[Pair]] = {kind: [] for kind in kinds}
    for pair in zip(*([a for a in answers if a.y_true] for answers in on.answers), strict=True):
        first, second = pair
        if first.is_right != second.is_right:
            found[kinds[second.is_right]].append(pair)
        elif first.y_pred != second.y_pred:
            found[kinds[2]].append(pair)
        elif first.is_accepted != second.is_accepted:
            found[kinds[3]].append(pair)
        elif not first.is_right:
            found[SAME].append(pair)
    ranks = {kind: max(0, place - 1) for place, kind in enumerate(kinds)}
    listed = [(kind, pair) for kind in kinds for pair in found[kind]]
    return sorted(listed, key=lambda one: (ranks[one[0]], -max(answer.confidence for answer in one[1])))


def photos_root(comparison: ModelComparison, settings: ModelsSettings) -> tuple[Path | None, str]:
    """Return the folder that the photos lie below; or None, and a sentence that says why they are not shown."""
    on = comparison.compared[0]
    try:
        if settings.data is not None:
            from image_classification_trash.models.evaluate_model import labelled_folder  # noqa: PLC0415  large

            photos = labelled_folder(settings.data, settings.interim_dir, comparison.bundles[0])
            if photos.fingerprint != on.conditions.fingerprint:
                return (
                    None,
                    f"They are not shown, because {settings.data} holds other photos than were evaluated.",
                )
            return photos.root, ""
        if on.photos != TEST:
            return None, "Name their folder to see the photos too: --data FOLDER."
        return read_manifest(settings.processed_dir / on.conditions.data).root, ""
    except TrashClassifierError as error:
        return None, f"The photos are not shown: {error.found}"


def card_of(names: tuple[str, str], kind: str, pair: Pair, root: Path | None) -> "Card":
    """Return the card of a photo: its class, both answers, and a thumbnail if the photo is there."""
    from image_classification_trash.visualization.report import Card, thumbnail  # noqa: PLC0415  large

    path, y_true = pair[0].path, pair[0].y_true
    lines = [
        f"{name}: {answer.y_pred}, {answer.probability:.1%}, {'accepted' if answer.is_accepted else answer.decision}"
        for name, answer in zip(names, pair, strict=True)
    ]
    try:
        pictures = [(thumbnail(read_photo(root / path)), f"{path}, a photo of {y_true}")] if root else []
    except PhotoError:
        pictures = []
    return Card(y_true, [*lines, path], pictures, {"who is right": kind, "true class": y_true})


def picture_of(names: Sequence[str], on: ComparedOn) -> "Picture":
    """Return the picture of the paired differences."""
    from image_classification_trash.visualization import plots  # noqa: PLC0415  large
    from image_classification_trash.visualization.report import Picture  # noqa: PLC0415  large

    rows = [
        (NAMES[figure.measure], difference_text(figure), figure.difference)
        for figure in on.paired.figures
        if figure.difference is not None
    ]
    shown = [name for name, _, difference in rows if not difference.low <= 0 <= difference.high]
    beyond = f"beyond chance for {', '.join(shown)}" if shown else "not beyond chance for any measure"
    caption = f"{names[1]} minus {names[0]} on {on.paired.n} photos, with 95% intervals: {beyond}. A lower ECE is better."
    return Picture(plots.to_png(plots.paired_differences(rows, names)), caption, is_wide=True)

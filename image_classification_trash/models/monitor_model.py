"""Detect drift: compare photos, or the statistics of a gateway, with the validation split of a bundle.

    trash-classifier monitor answers.json --model models/trashnet

Three tests: predicted classes and largest probabilities by population stability index, embeddings by maximum mean discrepancy.
They share the significance level (Bonferroni), so that `alpha` bounds the false alarms of all of them together.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from image_classification_trash.arrays import Embeddings, Ints
from image_classification_trash.config.models import MonitorSettings
from image_classification_trash.drift.reference import (
    Reference,
    counts,
    make_reference,
    probabilities_of,
    reference_of,
    write_reference,
)
from image_classification_trash.drift.two_sample_tests import (
    LARGE,
    SLIGHT,
    Comparison,
    compare_counts,
    compare_embeddings,
    merged,
)
from image_classification_trash.errors import BundleError, DatasetError, PhotoError, SettingsError
from image_classification_trash.inference.bundle import Bundle, BundleConfig, read_bundle
from image_classification_trash.inference.images import Pixels, read_photo
from image_classification_trash.inference.model_store import chosen_bundle
from image_classification_trash.inference.prediction_counts import AnswerStatistics, read_statistics
from image_classification_trash.models.predict_model import photo_names
from image_classification_trash.networks.network import EmbeddingBackbone, load_network
from image_classification_trash.show import DRIFTED, GOOD, SOME_UNREADABLE, Note, Result, Shown, Table, say

BATCH = 16
CLASSES, CONFIDENCE, EMBEDDINGS = "predicted classes (PSI)", "largest probability (PSI)", "embeddings (MMD²)"


@dataclass(frozen=True)
class Stream:
    """The data to compare: counts as in `Reference`, and embeddings (N, D), which a gateway's statistics lack."""

    classes: Ints
    confidence: Ints
    vectors: Embeddings | None
    unreadable: tuple[str, ...] = ()

    @property
    def photos(self) -> int:
        """Return the number of photos counted."""
        return int(self.classes.sum())


@dataclass(frozen=True)
class Monitored(Result):
    """The comparison of a stream with the reference.

    Attributes:
        bundle: the bundle that the reference belongs to.
        photos: number of photos in the stream.
        reference_photos: number of photos in the validation split.
        unreadable: photos that could not be read, and why.
        comparisons: one per statistic.
        level: significance level of each comparison; all together keep `alpha`.
    """

    bundle: Bundle
    photos: int
    reference_photos: int
    unreadable: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    level: float

    @property
    def has_drifted(self) -> bool:
        """Return whether the verdict of any comparison is `other`."""
        return any(verdict(comparison, self.level) == "other" for comparison in self.comparisons)

    def for_people(self) -> Iterator[Shown]:
        """Yield a row per comparison, the unreadable photos, and the conclusion."""
        rows = [
            [
                c.name,
                f"{c.value:.4f}",
                f"{c.p_value:.3f}",
                f"{c.limit:.4f}",
                "" if c.power is None else f"{c.power:.0%}",
                verdict(c, self.level),
            ]
            for c in self.comparisons
        ]
        yield Table(["compared", "value", "p", "chance reaches", "power", "stream is"], rows)
        yield from (Note(f"unreadable: {message}") for message in self.unreadable)
        says = "no longer looks like" if self.has_drifted else "looks like"
        sizes = f"n = {self.photos}, against {self.reference_photos} validation photos"
        data = self.bundle.config.data["name"]
        yield f"The stream {says} {data} ({sizes}; each p against {self.level:.4f})."

    def as_json(self) -> dict[str, Any]:
        """Return all attributes, the comparisons with their verdicts."""
        return {
            "model": self.bundle.config.name,
            "data": self.bundle.config.data["name"],
            "photos": self.photos,
            "reference_photos": self.reference_photos,
            "unreadable": list(self.unreadable),
            "level_of_each": self.level,
            "comparisons": [
                {**asdict(comparison), "verdict": verdict(comparison, self.level)}
                for comparison in self.comparisons
            ],
            "drift": self.has_drifted,
        }

    @property
    def exit_status(self) -> int:
        """Return `DRIFTED` if the stream drifted, else `SOME_UNREADABLE` if any photo could not be read, else `GOOD`."""
        if self.has_drifted:
            return DRIFTED
        return SOME_UNREADABLE if self.unreadable else GOOD


@dataclass(frozen=True)
class ReferenceStored(Result):
    """A reference that was written into its bundle, without photos to compare."""

    def for_people(self) -> Iterator[Shown]:
        """Yield nothing: the path was printed when the reference was written."""
        yield from ()

    def as_json(self) -> None:
        """Return nothing."""

    def json_text(self) -> Iterator[str]:
        """Yield no document."""
        yield from ()


def store_and_monitor(settings: MonitorSettings) -> Monitored | ReferenceStored:
    """Write the reference if requested, then compare the photos or statistics, if any; raises as `monitor` does."""
    if settings.write_reference:
        # Printed at once: the reference is in the bundle even if the comparison fails.
        say(f"reference: {store_reference(settings)}")
    return monitor(settings) if settings.sources else ReferenceStored()


def store_reference(settings: MonitorSettings) -> Path:
    """Write the reference into the bundle and return its path; raises as `make_reference` does."""
    bundle = _bundle(settings)
    return write_reference(bundle, make_reference(bundle, settings.processed_dir, settings.interim_dir))


def monitor(settings: MonitorSettings) -> Monitored:
    """Compare the settings' photos or statistics with the bundle's reference.

    Raises:
        BundleError: there is no model, it is damaged, or the statistics are of another model.
        DatasetError: there is no reference, or there are too few photos.
        SettingsError: photos and statistics are mixed, or a folder holds no photos.
    """
    bundle = _bundle(settings)
    files = [Path(source) for source in settings.sources if source.lower().endswith(".json")]
    if files and len(files) < len(settings.sources):
        raise SettingsError("Photos and statistics cannot be compared together.", "Give one or the other.")
    reference = reference_of(bundle, settings.processed_dir, settings.interim_dir)
    if files:
        stream = stream_of_statistics([read_statistics(file) for file in files], files, bundle.config)
    else:
        stream = _stream_of_photos(bundle, settings)
    return compare(bundle, reference, stream, settings)


def compare(bundle: Bundle, reference: Reference, stream: Stream, settings: MonitorSettings) -> Monitored:
    """Compare a stream with a reference.

    Raises:
        DatasetError: either has fewer photos than `min_photos`.
    """
    _check_size("to compare", stream.photos, settings.min_photos)
    _check_size("in the validation split", int(reference.classes.sum()), settings.min_photos)
    level = settings.alpha / (2 if stream.vectors is None else 3)
    with_chance = (level, settings.permutations, settings.seed)
    expected, found = merged(reference.confidence, stream.confidence)
    comparisons = [
        compare_counts(CLASSES, reference.classes, stream.classes, *with_chance),
        compare_counts(CONFIDENCE, expected, found, *with_chance),
    ]
    if stream.vectors is not None:
        comparisons.append(compare_embeddings(EMBEDDINGS, reference.vectors, stream.vectors, *with_chance))
    total = int(reference.classes.sum())
    return Monitored(bundle, stream.photos, total, stream.unreadable, tuple(comparisons), level)


def verdict(comparison: Comparison, level: float) -> str:
    """Return `same` if chance explains the value, else `other`, or `slightly other` for an index below the conventional 0.25."""
    if comparison.p_value > level or (comparison.power is not None and comparison.value < SLIGHT):
        return "same"
    return "slightly other" if comparison.power is not None and comparison.value < LARGE else "other"


def stream_of_statistics(
    statistics: Sequence[AnswerStatistics], files: Sequence[Path], config: BundleConfig
) -> Stream:
    """Add up the counts of all workers.

    Raises:
        BundleError: they belong to another model.
    """
    for found, file in zip(statistics, files, strict=True):
        if found.model.get("created") != config.created or set(found.labels) != set(config.labels):
            is_of = f"{found.model.get('name')} of {found.model.get('created')}"
            hint = "Give the bundle that the gateway served with --model."
            raise BundleError(
                f"{file} counts answers of {is_of}, not of {config.name} of {config.created}.", hint
            )
    classes = [[found.labels[label] for label in config.labels] for found in statistics]
    confidence = [found.probability for found in statistics]
    return Stream(np.sum(classes, axis=0, dtype=np.int64), np.sum(confidence, axis=0, dtype=np.int64), None)


def _bundle(settings: MonitorSettings) -> Bundle:
    return read_bundle(chosen_bundle(settings.model, settings.models_dir))


def _check_size(where: str, count: int, least: int) -> None:
    if count < least:
        found = f"{count} photos {where} are too few to compare; at least {least} are needed."
        raise DatasetError(found, "Collect more, or lower --min-photos and trust the answer less.")


def _stream_of_photos(bundle: Bundle, settings: MonitorSettings) -> Stream:
    names = list(photo_names(settings.sources, sys.stdin))
    if len(names) > settings.max_photos:
        chosen = np.random.default_rng(settings.seed).choice(len(names), settings.max_photos, replace=False)
        names = [names[i] for i in sorted(chosen)]
    network = load_network(bundle)
    backbone, unreadable, vectors = EmbeddingBackbone(network), [], []
    for batch in _decoded(names, bundle.config):
        unreadable += [outcome for outcome in batch if isinstance(outcome, str)]
        good = [outcome for outcome in batch if not isinstance(outcome, str)]
        if good:
            vectors.append(backbone.embed(np.stack(good)))
    _check_size("that can be read", len(names) - len(unreadable), settings.min_photos)
    together = np.concatenate(vectors)
    classes, confidence = counts(probabilities_of(network, together))
    return Stream(classes, confidence, together, tuple(unreadable))


def _decoded(names: Sequence[str], config: BundleConfig) -> Iterator[list[Pixels | str]]:
    """Yield batches of photos, uint8 (H, W, 3) each, or the error message of one."""

    def decode(name: str) -> Pixels | str:
        try:
            return read_photo(name, config.input_size, config.resize_mode)
        except PhotoError as error:
            return str(error)

    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(names), desc="embed photos", unit="photo", disable=len(names) < 2) as bar,
    ):
        for start in range(0, len(names), BATCH):
            batch = list(pool.map(decode, names[start : start + BATCH]))
            yield batch
            bar.update(len(batch))

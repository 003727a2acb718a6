"""Draw a prepared data set and write its report.

python -m image_classification_trash.visualization.visualize sample
trash-classifier explore trashnet
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from image_classification_trash.config.data import ExploreSettings
from image_classification_trash.config.training import AugmentationSettings
from image_classification_trash.data.inspection import PROBLEM_COLUMNS
from image_classification_trash.data.make_dataset import NEAR_DUPLICATES, PROBLEMS
from image_classification_trash.data.manifest import Manifest, read_manifest
from image_classification_trash.errors import MissingExtraError, TrainingError
from image_classification_trash.features.augmentation import Augmentation
from image_classification_trash.features.build_features import near_duplicate_embedder
from image_classification_trash.inference.images import read_photo
from image_classification_trash.show import Result, Shown
from image_classification_trash.tables import read_table, table_file
from image_classification_trash.visualization import plots
from image_classification_trash.visualization.report import (
    MOST_ROWS,
    Section,
    left_out,
    save_figures,
    write_report,
)

THUMBNAIL = (96, 128)
PER_CLASS, PAIRS, PREVIEWS = 16, 8, 4
MOST_POINTS = 5_000
"""Largest number of photos on the map of embeddings; the time of t-SNE grows faster than their number."""


@dataclass(frozen=True)
class Explored(Result):
    """The path of a data set's report."""

    page: Path

    def for_people(self) -> Iterator[Shown]:
        """Yield the path of the report."""
        yield str(self.page)

    def as_json(self) -> dict[str, str]:
        """Return the path of the report."""
        return {"page": str(self.page)}


def explore(settings: ExploreSettings) -> Explored:
    """Draw a prepared data set and write its report.

    Raises:
        DatasetError: the data set is not prepared.
    """
    folder = settings.processed_dir / settings.name
    manifest = read_manifest(folder)
    figures: dict[str, tuple[Figure, str]] = {
        "class_balance": (plots.class_balance(manifest.counts()), "Photos per class and split."),
        "near_duplicates": (
            _pairs(manifest, folder),
            "Near-duplicates; a pair across train and test is a leak.",
        ),
        "augmentation": (_augmentation(manifest), "Training photos and their augmented copies."),
    }
    if (drawn := _embedding_map(manifest, settings)) is not None:
        figures["embedding_map"] = drawn
    shown_labels = _some(list(manifest.labels), plots.MOST_CLASSES)
    figures |= {f"contact_sheet_{label}": _contact_sheet(manifest, label) for label in shown_labels}
    pictures = save_figures(figures, settings.reports_dir / "figures" / f"explore-{settings.name}")
    count = sum(manifest.metadata.problems.values())
    problems = [
        list(PROBLEM_COLUMNS),
        *(list(row.values()) for row in islice(read_table(folder, PROBLEMS), MOST_ROWS)),
    ]
    some_labels = f"{len(shown_labels)} of the {len(manifest.labels)} classes, drawn at random."
    sections = [
        Section("Balance and overlap", pictures=pictures[:2]),
        Section("Left out", *left_out(count, problems, f", all of them in {table_file(folder, PROBLEMS)}")),
        Section("Augmentation and embeddings", pictures=pictures[2 : -len(shown_labels)]),
        Section(
            "Photos",
            some_labels if len(shown_labels) < len(manifest.labels) else "",
            pictures=pictures[-len(shown_labels) :],
        ),
    ]
    path = settings.reports_dir / f"explore-{settings.name}.html"
    write_report(path, f"Data set {manifest.name}", _data_summary(manifest), sections)
    return Explored(path)


def _data_summary(manifest: Manifest) -> list[tuple[str, str]]:
    split, test = manifest.metadata.split, manifest.metadata.near_duplicates.overlap["test"]
    return [
        ("photos", str(len(manifest.photos))),
        ("classes", f"{len(manifest.labels)}: {', '.join(manifest.labels[:MOST_ROWS])}"),
        ("split", f"{split.method}, seed {split.seed}"),
        ("fingerprint", manifest.fingerprint),
        (
            "test photos with a near-duplicate in train",
            f"{test.with_near_duplicate_in_train} of {test.photos} ({test.share:.1%})"
            if test.photos
            else "no test photos",
        ),
    ]


def _pairs(manifest: Manifest, folder: Path) -> Figure:
    rows = list(read_table(folder, NEAR_DUPLICATES))
    leaking = [row for row in rows if {row["split_1"], row["split_2"]} == {"train", "test"}]
    shown = _some(leaking or rows, PAIRS)
    pictures, captions = [], []
    for row in shown:
        pictures.append([read_photo(manifest.root / row[f"path_{n}"], THUMBNAIL, "pad") for n in (1, 2)])
        captions.append(
            f"{Path(row['path_1']).stem} ({row['split_1']}), {Path(row['path_2']).stem} ({row['split_2']})"
        )
    if not shown:
        return plots.contact_sheet([], [], "No near-duplicates were found", columns=3)
    return plots.two_per_row(
        pictures, captions, f"Near-duplicates ({len(leaking)} pairs across train and test)"
    )


def _augmentation(manifest: Manifest) -> Figure:
    chosen = AugmentationSettings().model_dump(include=set(Augmentation.__dataclass_fields__))
    augment = Augmentation(168, 216, **chosen)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for photo in _some(manifest.photos_of("train"), PREVIEWS):
        original = read_photo(manifest.path_of(photo), (208, 256))
        copies = augment(torch.from_numpy(np.stack([original] * 5)), generator)
        rows.append([original, *copies.permute(0, 2, 3, 1).byte().numpy()])
    return plots.image_rows(rows, [["original, then augmented"]] * len(rows), "Augmentation", columns=6)


def _contact_sheet(manifest: Manifest, label: str) -> tuple[Figure, str]:
    photos = [photo for photo in manifest.photos if photo.label == label]
    chosen = _some(photos, PER_CLASS)
    thumbnails = [read_photo(manifest.path_of(photo), THUMBNAIL, "pad") for photo in chosen]
    captions = [f"{Path(photo.path).stem} · {photo.split}" for photo in chosen]
    sheet = plots.contact_sheet(thumbnails, captions, f"{label} ({len(chosen)} of {len(photos)})")
    return sheet, f"Some photos of {label}."


def _embedding_map(manifest: Manifest, settings: ExploreSettings) -> tuple[Figure, str] | None:
    """Map at most `MOST_POINTS` photos to the plane, with a caption; None without a pretrained backbone."""
    photos = _some(list(manifest.photos), MOST_POINTS)
    try:
        vectors = near_duplicate_embedder(settings.interim_dir)(photos, manifest.root)
    except (MissingExtraError, TrainingError):
        return None
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    neighbours = min(30.0, (len(unit) - 1) / 3)
    points = TSNE(perplexity=neighbours, init="pca", random_state=0).fit_transform(unit)
    drawn = f" ({len(photos)} photos drawn at random)" if len(photos) < len(manifest.photos) else ""
    caption = f"Photos that the pretrained network finds similar lie close together{drawn}."
    return plots.embedding_map(points, [photo.label for photo in photos]), caption


def _some(items: list[Any], count: int) -> list[Any]:
    """Return up to `count` items, drawn at random with a fixed seed, in their original order."""
    chosen = sorted(random.Random(0).sample(range(len(items)), min(count, len(items))))
    return [items[i] for i in chosen]


if __name__ == "__main__":
    import sys

    from image_classification_trash.config.loader import load_settings
    from image_classification_trash.show import carry_out

    sys.exit(carry_out("explore", lambda: load_settings(ExploreSettings, sys.argv[1:]), explore))

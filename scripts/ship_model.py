"""Put a trained, exported and measured bundle where `shipped` or `shipped-large` is looked for.

python scripts/ship_model.py models/trashnet-fieldphotos --card references/field_card.md --attribution fieldphotos/sources.csv
python scripts/ship_model.py models/trashnet-fieldphotos-large --size large --card references/field_card_large.md

Both lie in the package, so that everyone has them after the install.
"""

import argparse
import csv
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from re import fullmatch

from image_classification_trash.evaluation.export_report import exported_files
from image_classification_trash.files import atomic_directory
from image_classification_trash.inference.bundle import (
    CARD,
    LABELS,
    METRICS,
    NOTICE,
    read_bundle,
    write_checksums,
)
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.shipped import FOLDERS, LARGE, MODEL, SHIPPED


@dataclass(frozen=True)
class Place:
    """Where a size of the shipped model lies, and the most bytes that its file may have."""

    folder: Path
    largest: int


SOURCE = "model_int8.tflite"
PLACES = {
    "small": Place(FOLDERS[SHIPPED], 8_000_000),
    "large": Place(FOLDERS[LARGE], 12_000_000),
}
NOTICES = FOLDERS[SHIPPED] / NOTICE
PHOTOS_BY = "\n\nTraining photos of the model "
"""Begins the part of the notices that is the bundle's own; what stands before it, of the small model, is kept."""
LITE0, LITE2 = ("Lite0", "lite0"), ("Lite2", "lite2")
ATTRIBUTION = "ATTRIBUTION.csv"
CREDITED = ("file", "source_repo", "commit", "original_path", "licence")


def main(folder: Path, size: str, section: Path | None, attribution: Path | None) -> None:
    bundle, place = read_bundle(folder), PLACES[size]
    if not fullmatch("[0-9a-f]{12,40}", commit := bundle.config.git_commit):
        sys.exit(f"{folder} names the commit {commit}, which nobody can look up; commit, and make it again.")
    record = exported_files(bundle).get(SOURCE)
    if record is None or record.problem is not None:
        sys.exit(
            f"{folder} has no {SOURCE} that passed the export's gate; run: trash-classifier export {folder}"
        )
    if "test" not in bundle.metrics():
        sys.exit(f"{folder} was not measured; run: trash-classifier evaluate {folder}")
    model = bundle.exported(SOURCE)
    if model.stat().st_size > place.largest:
        sys.exit(f"{model} has {model.stat().st_size:,} bytes, more than {place.largest:,}.")
    notices = NOTICES.read_text(encoding="utf-8").partition(PHOTOS_BY)[0].rstrip()
    if bundle.config.architecture.endswith(LITE2[1]):
        for one, other in zip(LITE0, LITE2, strict=True):
            notices = notices.replace(one, other)
    if (bundle.path / NOTICE).is_file():
        notices += "\n\n" + (bundle.path / NOTICE).read_text(encoding="utf-8")
    card = (bundle.path / CARD).read_text(encoding="utf-8")
    if section is not None:  # before the limits, which refer to it
        before, limits, after = card.partition("## Limits\n")
        card = f"{before}{section.read_text(encoding='utf-8')}\n{limits}{after}"
    with atomic_directory(place.folder) as new:
        shutil.copyfile(model, new / MODEL)
        for name in (LABELS, METRICS):
            shutil.copyfile(bundle.path / name, new / name)
        (new / CARD).write_text(card, encoding="utf-8")
        (new / NOTICE).write_text(notices.rstrip() + "\n", encoding="utf-8")
        if attribution is not None:
            write_attribution(attribution, new / ATTRIBUTION)
        write_checksums(new)
    file = place.folder / MODEL
    shipped = TrashClassifier.load(file)
    print(
        json.dumps({"model": shipped.config.name, "bytes": file.stat().st_size, "folder": str(place.folder)})
    )


def write_attribution(table: Path, output: Path) -> None:
    """Write where each training photo comes from and its licence, which its licence asks to pass on."""
    with table.open(encoding="utf-8", newline="") as opened:
        rows = [{name: row[name] for name in CREDITED} for row in csv.DictReader(opened)]
    with output.open("w", encoding="utf-8", newline="") as written:
        writer = csv.DictWriter(written, CREDITED, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--size", choices=list(PLACES), default="small", help="of the shipped model that it is"
    )
    parser.add_argument("--card", type=Path, help="section to add to the model card, before its limits")
    parser.add_argument(
        "--attribution", type=Path, help="table of the training photos to pass on with the model"
    )
    options = parser.parse_args()
    main(options.bundle, options.size, options.card, options.attribution)

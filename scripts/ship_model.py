"""Put a trained, exported and measured bundle into the package, as the model that everyone has after the install.

python scripts/ship_model.py models/trashnet-fieldphotos --card references/field_card.md --attribution fieldphotos/sources.csv
"""

import argparse
import csv
import json
import shutil
import sys
from pathlib import Path

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
from image_classification_trash.inference.shipped import FOLDER, MODEL

SOURCE = "model_fp16.tflite"
LARGEST = 14_000_000
NOTICES = FOLDER / NOTICE
PHOTOS_BY = "\n\nTraining photos of the model "
"""Begins the part of the notices that is the bundle's own; what stands before it is kept."""


ATTRIBUTION = "ATTRIBUTION.csv"
CREDITED = ("file", "source_repo", "commit", "original_path", "licence")


def main(folder: Path, section: Path | None, attribution: Path | None) -> None:
    bundle = read_bundle(folder)
    record = exported_files(bundle).get(SOURCE)
    if record is None or record.problem is not None:
        sys.exit(
            f"{folder} has no {SOURCE} that passed the export's gate; run: trash-classifier export {folder}"
        )
    if "test" not in bundle.metrics():
        sys.exit(f"{folder} was not measured; run: trash-classifier evaluate {folder}")
    model = bundle.exported(SOURCE)
    if model.stat().st_size > LARGEST:
        sys.exit(f"{model} has {model.stat().st_size:,} bytes, more than {LARGEST:,}.")
    notices = NOTICES.read_text(encoding="utf-8").partition(PHOTOS_BY)[0].rstrip()
    if (bundle.path / NOTICE).is_file():
        notices += "\n\n" + (bundle.path / NOTICE).read_text(encoding="utf-8")
    card = (bundle.path / CARD).read_text(encoding="utf-8")
    if section is not None:  # before the limits, which refer to it
        before, limits, after = card.partition("## Limits\n")
        card = f"{before}{section.read_text(encoding='utf-8')}\n{limits}{after}"
    with atomic_directory(FOLDER) as new:
        shutil.copyfile(model, new / MODEL)
        for name in (LABELS, METRICS):
            shutil.copyfile(bundle.path / name, new / name)
        (new / CARD).write_text(card, encoding="utf-8")
        (new / NOTICE).write_text(notices.rstrip() + "\n", encoding="utf-8")
        if attribution is not None:
            write_attribution(attribution, new / ATTRIBUTION)
        write_checksums(new)
    shipped = TrashClassifier.load()
    print(
        json.dumps(
            {"model": shipped.config.name, "bytes": (FOLDER / MODEL).stat().st_size, "folder": str(FOLDER)}
        )
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
    parser.add_argument("--card", type=Path, help="section to add to the model card, before its limits")
    parser.add_argument(
        "--attribution", type=Path, help="table of the training photos to pass on with the model"
    )
    options = parser.parse_args()
    main(options.bundle, options.card, options.attribution)

"""Put a trained, exported and measured bundle into the package, as the model that everyone has after the install.

python scripts/ship_model.py models/trashnet-field
"""

import json
import shutil
import sys
from pathlib import Path

from image_classification_trash.evaluation.export_report import exported_files
from image_classification_trash.files import atomic_directory
from image_classification_trash.inference.bundle import CARD, LABELS, METRICS, read_bundle, write_checksums
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.shipped import FOLDER, MODEL

SOURCE = "model_fp16.tflite"
LARGEST = 10_000_000
NOTICES = Path("image_classification_trash/shipped/NOTICE.txt")


def main(folder: str) -> None:
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
    notices = NOTICES.read_bytes()
    with atomic_directory(FOLDER) as new:
        shutil.copyfile(model, new / MODEL)
        for name in (LABELS, METRICS, CARD):
            shutil.copyfile(bundle.path / name, new / name)
        (new / "NOTICE.txt").write_bytes(notices)
        write_checksums(new)
    shipped = TrashClassifier.load()
    print(
        json.dumps(
            {"model": shipped.config.name, "bytes": (FOLDER / MODEL).stat().st_size, "folder": str(FOLDER)}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])

"""Make docs/images/predictions.png: test photos of a prepared data set with a bundle's answers.

python scripts/make_readme_picture.py models/trashnet
"""

import random
import sys
from pathlib import Path

from image_classification_trash import TrashClassifier
from image_classification_trash.data.manifest import read_manifest
from image_classification_trash.inference.bundle import read_bundle
from image_classification_trash.inference.images import read_photo
from image_classification_trash.visualization import plots

PER_CLASS = 2


def main(path: Path) -> None:
    bundle = read_bundle(path)
    manifest = read_manifest(Path("data/processed") / bundle.config.data["name"])
    draw = random.Random(2)
    photos = [
        photo
        for label in manifest.labels
        for photo in draw.sample([p for p in manifest.photos_of("test") if p.label == label], PER_CLASS)
    ]
    paths = [manifest.path_of(photo) for photo in photos]
    answers = TrashClassifier.load(bundle).predict(paths)
    captions = [f"{answer.decision} {answer.probability:.0%}" for answer in answers]
    pictures = [read_photo(path, (192, 256)) for path in paths]
    figure = plots.contact_sheet(pictures, captions, "Test photos and what the model says of them", columns=6)
    Path("docs/images/predictions.png").write_bytes(plots.to_png(figure, dpi=100))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

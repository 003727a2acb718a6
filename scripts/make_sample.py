"""Make data/sample/ from the full set: 50 photos a class in the proportions of the official split, at most 4 MB.

python scripts/make_sample.py dataset-resized.zip
"""

import random
import sys
import tempfile
from pathlib import Path

from PIL import Image

from image_classification_trash.data.archive import unpack
from image_classification_trash.data.trashnet import LABELS, official_split

DESTINATION = Path("data/sample")
PER_PART = {"train": 35, "val": 7, "test": 8}
CONTRADICTORY = {"glass115", "metal91", "glass176", "plastic152", "glass389", "plastic332"}
SIZE, QUALITY, SEED = (384, 288), 72, 0


def main(archive: Path) -> None:
    part_of = official_split()
    draw = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        unpack(archive, Path(folder) / "photos")
        photos = {path.name: path for path in Path(folder).rglob("*.jpg") if path.stem not in CONTRADICTORY}
        for label in LABELS:
            for part, count in PER_PART.items():
                names = sorted(name for name in photos if part_of[name] == part and name.startswith(label))
                for name in draw.sample(names, count):
                    shrink(photos[name], DESTINATION / part / label / name)
    total = sum(path.stat().st_size for path in DESTINATION.rglob("*.jpg"))
    print(f"{DESTINATION}: {len(list(DESTINATION.rglob('*.jpg')))} photos, {total} bytes")


def shrink(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        small = image.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR)
    small.save(target, "JPEG", quality=QUALITY, subsampling="4:2:0", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

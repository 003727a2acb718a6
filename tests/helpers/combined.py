"""Sources for a data sources file: folders of photos that differ from one another, and the file itself."""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from helpers.photos import encoded, picture
from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.make_dataset import Prepared, make_dataset


def make_photos(folder: Path, classes: Mapping[str, int], seed: int) -> Path:
    """Write photos by class; the same seed gives the same pictures, other seeds (1,000 apart) give others."""
    for label, count in classes.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / label / f"{number}.jpg").write_bytes(encoded(picture(seed)))
            seed += 1
    return folder


def write_sources(folder: Path, *sources: Mapping[str, object], **more: object) -> Path:
    """Write a data sources file."""
    path = folder / "sources.yaml"
    path.write_text(yaml.safe_dump({**more, "sources": [dict(source) for source in sources]}))
    return path


def prepare(folder: Path, *sources: Mapping[str, object], **settings: object) -> Prepared:
    """Prepare the combined data set `field` below `folder`, by hashes alone."""
    more = {"classes": ["a", "b"]} if "classes" not in settings else {"classes": settings.pop("classes")}
    file = write_sources(folder, *sources, **more)
    return make_dataset(DataSettings(name="field", sources=file, data_dir=folder / "data", **settings))


def problems(prepared: Prepared) -> dict[str, str]:
    """Return the kind of every file that was left out, by path."""
    with (prepared.folder / "problems.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["kind"] for row in csv.DictReader(file)}


def splits_of(prepared: Prepared) -> dict[str, set[str]]:
    """Return the splits that the photos of each source are in."""
    found: dict[str, set[str]] = {}
    for photo in prepared.manifest.rows:
        found.setdefault(photo.source, set()).add(photo.split)
    return found


def zipped(folder: Path, name: str) -> Path:
    """Zip a folder with its own name as the enclosing folder."""
    return Path(shutil.make_archive(str(folder.parent / name), "zip", folder.parent, folder.name))

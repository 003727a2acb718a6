"""Photos that are trained on by their path: tell them from a prepared data set, and keep a record of them.

    trash-classifier train trashnet      a prepared data set
    trash-classifier train ~/photos      a folder, zip or CSV, prepared under the name `photos`

The record is `data/processed/NAME.json`, beside the data set that was prepared from the photos.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from image_classification_trash.config.loader import read_recipe
from image_classification_trash.config.training import (
    PRESETS,
    PresetName,
    TrainCommandSettings,
    TrainSettings,
)
from image_classification_trash.data.manifest import BUILT_IN, MANIFEST
from image_classification_trash.errors import DatasetError
from image_classification_trash.files import read_json, write_text
from image_classification_trash.inference.bundle import CONFIG, read_bundle
from image_classification_trash.show import say

NAME = re.compile(r"\w[\w .-]*")
"""Names of data sets and models."""


@dataclass(frozen=True)
class OwnPhotos:
    """Photos to train on.

    Attributes:
        path: absolute path of the folder, zip or CSV.
        name: name of the data set that is prepared from them.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Record:
    """The photos that a data set was prepared from, and how often `train` measured models on its test split."""

    source: str
    test_reads: int = 0


def data_set_or_photos(settings: TrainCommandSettings) -> OwnPhotos | str:
    """Return the prepared data set that the settings name, or the photos whose path they give.

    The name of a prepared data set comes first, then a folder, zip or CSV of that spelling. `data/processed/NAME` is another
    spelling of the data set, `./NAME` of the folder.

    Raises:
        DatasetError: both are there, and the data set was not prepared from these photos; neither can be; or the name
            that the photos get belongs to something else.
    """
    given, processed = settings.name, settings.processed_dir
    path = Path(given).expanduser()
    if path.resolve().parent == processed.resolve() and (path / MANIFEST).is_file():
        return path.resolve().name
    are_photos = path.is_dir() or (path.suffix.lower() in (".zip", ".csv") and path.is_file())
    is_name = NAME.fullmatch(given) is not None
    if is_name and (processed / given / MANIFEST).is_file():
        record = read_record(processed, given)
        if not are_photos:
            return given
        if record is None or Path(record.source) != path.resolve():
            hint = f"Data set: trash-classifier train {processed / given}\n  Photos: trash-classifier train ./{given}"
            raise DatasetError(f"{given} is both a prepared data set and a path of photos.", hint)
    if not are_photos and is_name:
        return given
    if not are_photos:
        what = "is neither a folder nor a .zip or .csv file" if path.exists() else "does not exist"
        hint = (
            "Give a prepared data set by its name, or a folder of class folders, a zip of one, or a CSV file."
        )
        raise DatasetError(f"{given} {what}.", hint)
    photos = OwnPhotos(path.resolve(), settings.output or derived_name(path))
    if photos.name in BUILT_IN:
        photos = OwnPhotos(photos.path, f"{photos.name}-photos")
    check_name(photos, settings)
    return photos


def training_settings(
    settings: TrainCommandSettings, name: str, preset: PresetName | None = None
) -> TrainSettings:
    """Return the settings of the training alone, and say which preset they begin with.

    Args:
        settings: of the command; a setting that was given overrides the preset's.
        name: of the prepared data set.
        preset: to begin with if the settings name none.
    """
    chosen = settings.preset or preset
    recipe = read_recipe(PRESETS / f"{chosen}.yaml", TrainSettings) if chosen else {}
    given = {
        field: getattr(settings, field)
        for field in settings.model_fields_set
        if field in TrainSettings.model_fields
    }
    made = TrainSettings(**{**recipe, **given, "name": name})
    if chosen:
        why = (
            "as asked"
            if settings.preset
            else "the default for photos; --preset quick and best are the others"
        )
        size = f"{made.input_height} x {made.input_width} pixels"
        say(f"preset {chosen} ({why}): at most {made.epochs} epochs of fine-tuning at {size}")
    return made


def derived_name(path: Path) -> str:
    """Return the name of the data set of a folder, zip or CSV: the file's or folder's, in characters that names have."""
    resolved = path.resolve()
    name = resolved.name if path.is_dir() else resolved.stem
    return re.sub(r"[^\w .-]+", "-", name).strip(" .-") or "photos"


def check_name(photos: OwnPhotos, settings: TrainCommandSettings) -> None:
    """Refuse to overwrite a data set or a model of other photos.

    Raises:
        DatasetError: the data set of that name, or the model, was made from something else.
    """
    folder = settings.processed_dir / photos.name
    model = settings.models_dir / (settings.output or photos.name)
    record = read_record(settings.processed_dir, photos.name)
    hint = f"Choose another name: trash-classifier train {settings.name} --output NAME"
    if (folder / MANIFEST).is_file() and (record is None or record.source != str(photos.path)):
        source = "with `trash-classifier data`" if record is None else f"from {record.source}"
        found = f"{folder} was prepared {source}, so {photos.path} cannot be prepared under the name {photos.name}."
        raise DatasetError(found, f"{hint}\n  Train on that data set: trash-classifier train {folder}")
    if (model / CONFIG).is_file():
        other = read_bundle(model).config.data.get("name")
        if record is None or other != photos.name:
            raise DatasetError(f"{model} is a model of other photos, the data set {other}.", hint)


def record_file(processed: Path, name: str) -> Path:
    """Return the file of a data set's record, given the folder of prepared data sets."""
    return processed / f"{name}.json"


def read_record(processed: Path, name: str) -> Record | None:
    """Return the record of a data set; None if it was not prepared by `train`.

    Raises:
        DatasetError: the file is damaged.
    """
    file = record_file(processed, name)
    try:
        return Record(**read_json(file))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{file} cannot be read: {error}.", "Delete it, and the data set and the model of that name."
        ) from error


def write_record(processed: Path, name: str, record: Record) -> None:
    """Write the record of a data set."""
    write_text(record_file(processed, name), json.dumps(asdict(record), indent=2) + "\n")

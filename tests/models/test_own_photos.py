"""Training on photos by their path: which of a data set and a folder is meant, and whose a name is."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.photos import MakeTree
from pydantic import ValidationError

from image_classification_trash.config.data import DataSettings
from image_classification_trash.config.training import TrainCommandSettings, TrainSettings
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.errors import DatasetError
from image_classification_trash.models.own_photos import (
    OwnPhotos,
    Record,
    data_set_or_photos,
    derived_name,
    read_record,
    record_file,
    training_settings,
    write_record,
)


@pytest.fixture
def photos(make_tree: MakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos in the working directory."""
    monkeypatch.chdir(tmp_path)
    return make_tree({"can": 6, "cup": 6})


def named(name: str, **more: object) -> OwnPhotos | str:
    return data_set_or_photos(TrainCommandSettings(name=name, **more))


def prepared(name: str, source: Path) -> None:
    make_dataset(DataSettings(name=name, source=[source], embeddings=False))


def test_a_folder_a_zip_and_a_csv_are_photos_and_give_their_names(photos: Path, tmp_path: Path) -> None:
    shutil.make_archive("more", "zip", photos)
    Path("list.csv").write_text("filepath,label\n")
    for spelled in ("photos", "./photos", str(photos), "photos/"):
        assert named(spelled) == OwnPhotos(photos, "photos")
    assert named("more.zip") == OwnPhotos(tmp_path / "more.zip", "more")
    assert named("list.csv") == OwnPhotos(tmp_path / "list.csv", "list")


def test_home_is_found_where_no_shell_expands_it(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos.parent))
    assert named("~/photos") == OwnPhotos(photos, "photos")


def test_a_name_is_a_data_set_where_no_path_is_spelled_so(photos: Path) -> None:
    prepared("mine", photos)
    assert named("mine") == "mine" and named("data/processed/mine") == "mine"
    assert named("not yet") == "not yet"  # `data` is asked for, as before


def test_a_data_set_and_a_folder_of_one_spelling_are_refused_with_both_spellings(photos: Path) -> None:
    prepared("photos", photos)
    with pytest.raises(DatasetError, match="both a prepared data set and a path") as caught:
        named("photos")
    assert "train data/processed/photos" in caught.value.hint and "train ./photos" in caught.value.hint
    assert named("data/processed/photos") == "photos"


def test_photos_that_train_prepared_are_not_in_doubt(photos: Path) -> None:
    prepared("photos", photos)
    write_record(Path("data/processed"), "photos", Record(str(photos)))
    assert named("photos") == named("./photos") == OwnPhotos(photos, "photos")
    shutil.move(photos, "elsewhere")
    assert named("photos") == "photos"


@pytest.mark.parametrize("recorded", [False, True])
def test_a_data_set_of_other_photos_is_not_overwritten(photos: Path, recorded: bool) -> None:
    other = shutil.copytree(photos, photos.parent / "other/photos")
    prepared("photos", photos)
    if recorded:
        write_record(Path("data/processed"), "photos", Record(str(photos)))
    with pytest.raises(DatasetError, match="was prepared") as caught:
        named("other/photos")
    assert "--output NAME" in caught.value.hint
    assert named("other/photos", output="second") == OwnPhotos(other, "second")


def test_neither_a_data_set_nor_photos(photos: Path) -> None:
    with pytest.raises(DatasetError, match=r"\./nowhere does not exist"):
        named("./nowhere")
    Path("notes.txt").touch()
    with pytest.raises(DatasetError, match=r"neither a folder nor a \.zip or \.csv file"):
        named("./notes.txt")


def test_names_that_trashnets_lists_split_are_not_taken(photos: Path) -> None:
    folder = photos.rename("sample")
    assert named("sample") == OwnPhotos(photos.parent / folder, "sample-photos")


@pytest.mark.parametrize(
    ("folder", "name"), [("my photos", "my photos"), ("a+b (2)", "a-b -2"), ("+++", "photos"), ("…/ü", "ü")]
)
def test_a_name_has_only_the_characters_of_names(folder: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / folder
    path.mkdir(parents=True)
    assert derived_name(path) == name


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    record_file(tmp_path, "photos").write_text(json.dumps({"sauce": 1}))
    with pytest.raises(DatasetError, match=r"photos\.json cannot be read"):
        read_record(tmp_path, "photos")
    assert read_record(tmp_path, "other") is None


def test_a_preset_is_a_recipe_that_what_is_given_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert training_settings(TrainCommandSettings(), "mine") == TrainSettings(name="mine")
    assert capsys.readouterr().err == ""  # by name, nothing is chosen
    chosen = training_settings(TrainCommandSettings(), "mine", "balanced")
    assert "preset balanced (the default for photos" in capsys.readouterr().err
    assert chosen.epochs == 20 and "freeze_stages" not in chosen.model_fields_set
    quick = training_settings(TrainCommandSettings(preset="quick", dropout=0.1), "mine", "balanced")
    assert (quick.epochs, quick.dropout, quick.name) == (0, 0.1, "mine")
    best = training_settings(TrainCommandSettings(preset="best", epochs=3), "mine")
    assert (best.epochs, best.input_size) == (3, (256, 320))
    assert "preset best (as asked): at most 3 epochs of fine-tuning at 256 x 320" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_a_time_limit_has_a_unit(text: str, seconds: float) -> None:
    assert TrainCommandSettings(time_limit=text).seconds == seconds


@pytest.mark.parametrize(
    "wrong", [{"time_limit": "10"}, {"time_limit": "-1m"}, {"time_limit": "1m", "devices": 2}]
)
def test_a_time_limit_that_cannot_be_kept_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainCommandSettings(**wrong)

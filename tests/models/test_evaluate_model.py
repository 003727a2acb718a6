"""A data set's test photos are those that it was prepared with, or nothing is measured."""

from pathlib import Path

import pytest
from helpers.combined import make_photos

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.errors import DatasetError
from image_classification_trash.models.evaluate_model import check_unchanged


def test_a_test_photo_that_became_a_training_photo_is_refused(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"a": 12, "b": 12}, 1000)
    manifest = make_dataset(DataSettings(name="mine", source=photos, data_dir=tmp_path / "data")).manifest
    tested = manifest.photos_of("test")
    check_unchanged(manifest, tested)
    changed, missing = map(manifest.path_of, tested[:2])
    changed.write_bytes(manifest.path_of(manifest.photos_of("train")[0]).read_bytes())
    missing.unlink()  # is answered as an unreadable photo
    with pytest.raises(DatasetError, match=f"^1 of {len(tested)} test photos") as caught:
        check_unchanged(manifest, tested)
    assert tested[0].path in str(caught.value) and caught.value.hint.endswith("trash-classifier data mine")

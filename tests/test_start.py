"""What makes a command start quickly stays so, and does not outlast the start."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.models import PredictSettings
from image_classification_trash.config.photos_alone import PhotosAlone, photos_alone
from image_classification_trash.inference.images import DECODERS

ROOT = Path(__file__).parents[1]
PHOTO = next((ROOT / "data/sample/test/metal").glob("*.jpg"))
AFTERWARDS = """
import gc, sys
from image_classification_trash.__main__ import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
print(gc.isenabled(), gc.get_freeze_count() > 1000, *sorted(sys.modules))
"""


def test_one_photo_imports_one_decoder_and_garbage_is_collected_again(tmp_path: Path) -> None:
    line = [sys.executable, "-c", AFTERWARDS, "predict", str(PHOTO)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    enabled, frozen, *loaded = done.stdout.splitlines()[-1].split()
    assert (enabled, frozen) == ("True", "True")
    assert {name for name in loaded if name.startswith("PIL.") and name.endswith("ImagePlugin")} == {
        "PIL.JpegImagePlugin"
    }
    assert not {"tqdm", "torch", "image_classification_trash.inference.photo_headers.heif"} & {*loaded}
    assert not {"pydantic", "yaml", "importlib.metadata"} & {*loaded}  # a third of the start


@pytest.mark.parametrize("arguments", [["--json", "a.jpg"], ["a.jpg", "--threads=2"], ["--", "-a.jpg"], []])
def test_settings_that_are_given_or_missing_are_validated(arguments: list[str]) -> None:
    assert photos_alone(arguments) is None


def test_variables_are_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert photos_alone(["a.jpg", "-"]) == PhotosAlone(["a.jpg", "-"])
    monkeypatch.setenv("trash_predict_threads", "2")
    assert photos_alone(["a.jpg", "-"]) is None


def test_photos_alone_are_classified_with_the_defaults_of_the_settings() -> None:
    settings = load_settings(PredictSettings, ["a.jpg", "b.jpg"])
    for name, value in asdict(PhotosAlone(["a.jpg", "b.jpg"])).items():
        assert getattr(settings, name) == value, name
    assert not settings.tables and settings.shards is None and not settings.json_output


def test_every_kind_has_its_decoder() -> None:
    code = (
        "from importlib import import_module\nfrom PIL import Image\n"
        "from image_classification_trash.inference.images import DECODERS\n"
        "for name in DECODERS.values(): import_module(f'PIL.{name}ImagePlugin')\n"
        "print(*Image.OPEN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {*DECODERS} <= {*done.stdout.split()}
    Image.init()
    assert {*DECODERS} <= {*Image.OPEN}

"""`shipped` and `shipped-large` mean the same models wherever a model is named: on the command line, in Python, in the gateway."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import patient
from helpers.commands import command
from helpers.gateways import serving

from image_classification_trash import TrashClassifier, adapt_model, evaluate
from image_classification_trash.distributed.shard_work import absolute_model
from image_classification_trash.errors import BundleError, DatasetError
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference.model_store import chosen_bundle, chosen_model
from image_classification_trash.inference.shipped import FOLDERS, LARGE, MODEL, SHIPPED, shipped_model

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
GLASS = sorted((SAMPLE / "test" / "glass").glob("*.jpg"))[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a few photos and an empty models/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for label in ("glass", "metal"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for photo in sorted((SAMPLE / "test" / label).glob("*.jpg"))[:4]:
            shutil.copy(photo, tmp_path / "own" / label)
    return tmp_path


@pytest.mark.parametrize("choose", [chosen_model, chosen_bundle])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_name_means_its_file(name: str, choose: Callable[..., Path], place: Path) -> None:
    assert choose(name, Path("models")) == choose(Path(name), Path("models")) == shipped_model(name)
    (place / "models" / name).mkdir(exist_ok=True)  # without a bundle in it, it is no model
    assert choose(name, Path("models")) == shipped_model(name)


@pytest.mark.parametrize("choose", [chosen_model, chosen_bundle])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_folder_or_bundle_of_that_name_comes_first(
    name: str, choose: Callable[..., Path], place: Path
) -> None:
    (place / "models" / name).mkdir(exist_ok=True)
    (place / "models" / name / "config.json").write_text("{}")
    assert choose(name, Path("models")) == Path("models") / name
    (place / name).mkdir()
    assert choose(name, Path("models")) == Path(name)
    with pytest.raises(BundleError, match=f"{name} is not a trained model: it has no config.json"):
        TrashClassifier.load(name)


@pytest.mark.parametrize("name", FOLDERS)
def test_it_answers_on_the_command_line_and_in_python(name: str, place: Path) -> None:
    said = json.loads(command(place, "predict", str(GLASS), "--model", name, "--json").stdout)
    digest = sha256_of_file(shipped_model(name))
    assert said["model"]["digest"] == digest
    answer = TrashClassifier.load(name)(GLASS)
    assert answer.label == said["predictions"][0]["label"]
    assert TrashClassifier.load(name).digest == digest


def test_the_gateway_serves_it_by_name(place: Path) -> None:
    with serving(Path(LARGE)) as (url, _):
        served = patient.get(f"{url}/model.tflite").content  # what the page runs in the browser
    assert served == shipped_model(LARGE).read_bytes()


def test_shards_are_answered_by_a_path_that_other_processes_find(place: Path) -> None:
    assert [absolute_model(shipped_model(name)) for name in FOLDERS] == [*FOLDERS]
    assert absolute_model(Path("models") / MODEL) == str(place / "models" / MODEL)


@pytest.mark.parametrize("name", FOLDERS)
def test_it_is_evaluated_on_photos_of_ones_own_and_stays_as_it_is(name: str, place: Path) -> None:
    model = shipped_model(name)
    before = {file: file.read_bytes() for file in model.parent.iterdir()}
    report = evaluate(name, data="own", resamples=100)
    right = TrashClassifier.load(name).predict(sorted(Path("own").rglob("*.jpg")))
    assert report.metrics.n == 8
    assert report.metrics.accuracy.value == sum(a.label == Path(a.path).parent.name for a in right) / 8
    assert report.page.is_file() and report.verdict.startswith("Verdict:")
    assert {file: file.read_bytes() for file in model.parent.iterdir()} == before


def test_the_page_of_wrong_answers_says_why_it_explains_none(place: Path) -> None:
    (place / "own" / "glass").rename(place / "own" / "paper")  # so that some are wrong
    report = evaluate(SHIPPED, data="own", resamples=100)
    assert report.errors is not None
    assert "Grad-CAM needs the weights of a bundle" in report.errors.read_text(encoding="utf-8")


def test_without_its_data_set_evaluation_asks_for_photos(place: Path) -> None:
    with pytest.raises(DatasetError, match="not in data/processed") as caught:
        evaluate(SHIPPED)
    assert "--data" in caught.value.hint


def test_an_adapted_file_is_evaluated_too(place: Path) -> None:
    adapted = adapt_model(LARGE, "own", "mine")
    assert evaluate(adapted.path, data="own", resamples=100).metrics.accuracy.value >= 0.75


def test_it_is_timed(place: Path) -> None:
    done = command(place, "benchmark", LARGE, "--photos", "own", "--count", "2", "--rounds", "1", "--json")
    timings = json.loads(done.stdout)["timings"]
    assert {(timing["engine"], timing["file"]) for timing in timings} == {("litert", MODEL)}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("arguments", [["export"], ["monitor", str(GLASS), "--model"], ["models", "show"]])
def test_what_needs_weights_says_that_the_file_has_none(arguments: list[str], name: str, place: Path) -> None:
    said = command(place, *arguments, name, status=1).stderr
    assert "is one exported file, without the weights of a bundle" in said and "bundle's folder" in said

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
from image_classification_trash.inference.bundle import write_checksums
from image_classification_trash.inference.model_store import chosen_bundle, chosen_model
from image_classification_trash.inference.shipped import (
    FOLDER,
    LARGE,
    MODEL,
    RESERVED,
    SHIPPED,
    shipped_model,
)

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
GLASS = sorted((SAMPLE / "test" / "glass").glob("*.jpg"))[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a larger model in models/, which the small one's file stands for, and a few photos."""
    monkeypatch.chdir(tmp_path)
    large = tmp_path / "models" / LARGE
    shutil.copytree(FOLDER, large)
    write_checksums(large)
    for label in ("glass", "metal"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for photo in sorted((SAMPLE / "test" / label).glob("*.jpg"))[:4]:
            shutil.copy(photo, tmp_path / "own" / label)
    return tmp_path


def file_of(name: str, place: Path) -> Path:
    return FOLDER / MODEL if name == SHIPPED else Path("models") / LARGE / MODEL


@pytest.mark.parametrize("choose", [chosen_model, chosen_bundle])
@pytest.mark.parametrize("name", RESERVED)
def test_a_name_means_its_file(name: str, choose: Callable[..., Path], place: Path) -> None:
    assert choose(name, Path("models")) == choose(Path(name), Path("models")) == file_of(name, place)
    (place / "models" / name).mkdir(exist_ok=True)  # without a bundle in it, it is no model
    assert choose(name, Path("models")) == file_of(name, place)


@pytest.mark.parametrize("choose", [chosen_model, chosen_bundle])
@pytest.mark.parametrize("name", RESERVED)
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", str(GLASS), "--model", LARGE],
        ["serve", LARGE, "--port", "0"],
        ["evaluate", LARGE, "--data", str(SAMPLE / "test")],
        ["benchmark", LARGE],
        ["export", LARGE],
        ["monitor", str(GLASS), "--model", LARGE],
        ["models", "show", LARGE],
        ["adapt", LARGE, "--photos", str(SAMPLE / "test"), "--output", "mine"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_where_the_larger_model_is_absent_every_command_says_how_to_get_it(
    arguments: list[str], tmp_path: Path
) -> None:
    said = command(tmp_path, *arguments, status=1).stderr
    assert "shipped-large does not come with the package" in said and "models/shipped-large" in said
    assert "model-large" in said and "make release-model" in said


def test_in_python_an_absent_larger_model_is_the_same_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for ask in (TrashClassifier.load, evaluate, lambda name: adapt_model(name, SAMPLE / "test", "mine")):
        with pytest.raises(BundleError, match="does not come with the package"):
            ask(LARGE)
    assert not list(tmp_path.iterdir())


def test_a_larger_model_that_was_cut_short_is_refused(place: Path) -> None:
    file = Path("models") / LARGE / MODEL
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BundleError, match="does not match its checksum") as caught:
        shipped_model(LARGE)
    assert "model-large" in caught.value.hint


@pytest.mark.parametrize("name", RESERVED)
def test_it_answers_on_the_command_line_and_in_python(name: str, place: Path) -> None:
    said = json.loads(command(place, "predict", str(GLASS), "--model", name, "--json").stdout)
    digest = sha256_of_file(file_of(name, place))
    assert said["model"]["digest"] == digest
    answer = TrashClassifier.load(name)(GLASS)
    assert answer.label == said["predictions"][0]["label"]
    assert TrashClassifier.load(name).digest == digest


def test_the_gateway_serves_it_by_name(place: Path) -> None:
    with serving(Path(LARGE)) as (url, _):
        served = patient.get(f"{url}/model.tflite").content  # what the page runs in the browser
    assert served == file_of(LARGE, place).read_bytes()


def test_shards_are_answered_by_a_path_that_other_processes_find(place: Path) -> None:
    assert absolute_model(file_of(SHIPPED, place)) == SHIPPED
    assert absolute_model(file_of(LARGE, place)) == str(place / "models" / LARGE / MODEL)


@pytest.mark.parametrize("name", RESERVED)
def test_it_is_evaluated_on_photos_of_ones_own_and_stays_as_it_is(name: str, place: Path) -> None:
    model = file_of(name, place)
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


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("arguments", [["export"], ["monitor", str(GLASS), "--model"], ["models", "show"]])
def test_what_needs_weights_says_that_the_file_has_none(arguments: list[str], name: str, place: Path) -> None:
    said = command(place, *arguments, name, status=1).stderr
    assert "is one exported file, without the weights of a bundle" in said and "bundle's folder" in said

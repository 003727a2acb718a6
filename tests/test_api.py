"""What the package exports: light to import, never hidden by a room, and the same results as the commands."""

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import command
from helpers.photos import MakeTree

import image_classification_trash
from image_classification_trash import TrashClassifier, adapt_model, api, evaluate, export_model, train
from image_classification_trash.errors import BundleError, DatasetError, SettingsError

ROOT = Path(__file__).parents[1]
TINY = {
    "architecture": "sequential_cnn", "head": False, "epochs": 1, "freeze_stages": 0, "input_height": 32, "input_width": 32,
}  # fmt: skip
RECIPE = "data: {embeddings: false}\nevaluate: {resamples: 100}\n"
AFTER_ALL_ROOMS = """
import importlib, pkgutil, sys
import image_classification_trash as package

for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name.split(".")[-1] != "__main__":
        importlib.import_module(module.name)
model = package.train("photos", config="tiny.yaml", **{tiny})
assert package.evaluate(model, resamples=100).verdict.startswith("Verdict: ")
assert package.export_model(model, format=["onnx"], quantize=["float32"], allow_drift=True).folder.is_dir()
answer = package.TrashClassifier.load(model, runtime="torch")("photos/can/0.jpg")
assert isinstance(answer, package.Prediction)
for error in (package.BundleError, package.PhotoError):
    assert isinstance(error("no", "hint"), package.TrashClassifierError)
print(package.__version__)
"""


@pytest.fixture
def photos(make_tree: MakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos in the working directory, beside a recipe for its preparation."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)
    return make_tree({"can": 10, "cup": 10})


def test_every_public_name_works_after_every_module_was_imported(photos: Path) -> None:
    line = [sys.executable, "-c", AFTER_ALL_ROOMS.replace("{tiny}", str(TINY))]
    done = subprocess.run(line, cwd=photos.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == image_classification_trash.__version__


def test_the_functions_do_what_the_commands_do(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRASH_TRAIN_EPOCHS", "0")  # not read from Python, nor those of the other steps
    monkeypatch.setenv("TRASH_DATA_SEED", "5")
    model = train(photos, config="tiny.yaml", **TINY)
    flags = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    flags[2:4] = ["--no-head"]
    done = command(photos.parent, "train", "photos", "--config", "tiny.yaml", "--output", "other", *flags)
    other = Path("models/other")
    assert model.path == Path("models/photos")
    assert model.weights.read_bytes() == (other / "model.safetensors").read_bytes()
    assert (
        model.metrics()["test"]["confusion"]
        == json.loads((other / "metrics.json").read_text())["test"]["confusion"]
    )
    report = evaluate(model, resamples=100)
    assert report.verdict == done.stdout.splitlines()[-1] and report.page.is_file()
    again = train("data/processed/photos", output="again", **TINY)  # by name: the test split is not read
    assert again.weights.read_bytes() == model.weights.read_bytes() and again.metrics() == {}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"epoch": 3}, "argument: train: 'epoch' is not known"),
        ({"epochs": -1}, "argument: train: epochs = -1"),
        ({"devices": 2}, "one device"),
    ],
)
def test_wrong_settings_are_refused_as_on_the_command_line(settings: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        train("sample", **settings)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        train(tmp_path / "nowhere")
    with pytest.raises(BundleError):
        evaluate(tmp_path / "nowhere")
    with pytest.raises(BundleError):
        export_model("nowhere", models_dir=tmp_path)
    with pytest.raises(BundleError):
        adapt_model("nowhere", tmp_path, "mine", models_dir=tmp_path)
    with pytest.raises(SettingsError, match="'models_dir'"):
        adapt_model("shipped", tmp_path, "mine", model_dir=tmp_path)
    with pytest.raises(SettingsError, match="'format'"):
        export_model("nowhere", formats=["onnx"])


def test_the_functions_are_light_until_they_are_called() -> None:
    code = "import sys; from image_classification_trash import train, evaluate, export_model, adapt_model; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "pydantic", "sklearn", "lightning", "tensorflow"}


def test_the_examples_in_docstrings_run() -> None:
    assert doctest.testmod(api).failed == 0
    assert all(">>>" in str(function.__doc__) for function in (train, evaluate, export_model, adapt_model))
    assert TrashClassifier.__doc__


def test_type_checkers_see_what_the_functions_return(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from image_classification_trash import TrashClassifier, adapt_model, evaluate, export_model, train\n"
        "model = train(Path('photos'), epochs=3, output='bottles')\n"
        "report = evaluate(model, data='elsewhere')\n"
        "print(report.verdict, report.page.name, report.metrics.n, export_model('models/bottles').folder / 'a')\n"
        "TrashClassifier.load(model)\n"
        "reveal_type(model)\nreveal_type(report.verdict)\nreveal_type(export_model())\n"
        "reveal_type(adapt_model(model, Path('photos'), 'mine'))\n"
        "train(3)\n"
    )
    # Installed, the package is not followed for errors; here it lies in the working directory.
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path}"]
    line = [sys.executable, "-m", "mypy", *options, str(script)]
    environment = {**os.environ, "MYPYPATH": ""}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    revealed = [said.partition('"')[2].rstrip('"') for said in done.stdout.splitlines() if "Revealed" in said]
    assert [name.rpartition(".")[2] for name in revealed] == ["Bundle", "str", "Exported", "Adapted"], (
        done.stdout
    )
    errors = [said for said in done.stdout.splitlines() if "error:" in said]
    assert len(errors) == 1 and "script.py:11" in errors[0] and 'Argument 1 to "train"' in errors[0], (
        done.stdout
    )

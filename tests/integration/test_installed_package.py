"""`pip install .` alone, in a fresh environment: small, and a photo is classified offline at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import GUARD

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LARGEST_INSTALL, LARGEST_MEMORY = 350e6, 400e6


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the package and what it needs, no extra."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    found = venv / "bin" / "python"
    subprocess.run([found, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    return found


def without_network() -> list[str]:
    """What runs a command in a network of its own, where there is nothing but itself; nothing where that is not allowed."""
    line = ["unshare", "--net"]
    try:
        return (
            line if subprocess.run([*line, "true"], capture_output=True, check=False).returncode == 0 else []
        )
    except FileNotFoundError:
        return []


def test_the_install_is_small(python: Path) -> None:
    packages = next((python.parents[1] / "lib").glob("python*/site-packages"))
    files = (
        file
        for file in packages.rglob("*")
        if file.is_file() and file.relative_to(packages).parts[0] != "pip"
    )
    assert sum(file.stat().st_size for file in files) <= LARGEST_INSTALL


def test_recipes_are_found_by_name(python: Path, tmp_path: Path) -> None:
    code = (
        "from image_classification_trash.config.recipes import RECIPES, recipe_file\n"
        "print(*(recipe_file(name) for name in RECIPES if recipe_file(name).is_file()), sep='\\n')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [python, "-c", code]
    found = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    recipes = {Path(path) for path in found.stdout.splitlines()}
    assert {path.name for path in recipes} == {
        path.name for path in (ROOT / "configs").glob("[!s]*.yaml")
    } | {"sequential_cnn.yaml"}
    assert all(python.parents[1] in path.parents for path in recipes)


def test_a_photo_is_classified_offline(python: Path, tmp_path: Path) -> None:
    """Memory is the largest of the child's processes."""
    photo = next((ROOT / "data/sample/test/metal").glob("*.jpg"))
    command = [str(python.parent / "trash-classifier"), "predict", str(photo), "--json"]
    code = (
        "import json, resource, subprocess, sys\n"
        f"done = subprocess.run(sys.argv[1:], capture_output=True, text=True, timeout={GUARD})\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "print(json.dumps([done.returncode, done.stdout, done.stderr, peak]))\n"
    )
    offline = without_network()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, *offline, *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, output, errors, peak = json.loads(done.stdout)
    assert status == 0, errors
    (answer,) = json.loads(output)["predictions"]
    assert answer["label"] == "metal" and answer["error"] is None
    assert peak <= LARGEST_MEMORY
    if not offline:
        pytest.skip(
            "answered; that it needs no network could not be seen, as a network of its own is not allowed here"
        )

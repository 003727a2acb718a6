"""The commands do the same in any environment: locale, encoding, no home, nothing writable but the outputs, odd paths."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.commands import GUARD, command
from helpers.photos import MakeOnce, encoded, picture

pytestmark = pytest.mark.slow
PLAIN = ["--architecture", "sequential_cnn", "--no-pretrained", "--epochs", "1", "--batch-size", "8",
         "--input-height", "32", "--input-width", "32"]  # fmt: skip
PROJECT = "my ♻ project 😀"
LABEL = "été ♻"
# One process runs all commands, because most of the time of each would be spent on importing torch.
RUN = """
import json, sys
from image_classification_trash.cli import run
for line in json.loads(sys.argv[1]):
    try:
        status = run(line)
    except SystemExit as end:
        status = end.code or 0
    if status:
        sys.exit(f"{line} ended with {status}")
"""


@pytest.fixture(scope="module")
def project(make_once: MakeOnce) -> Path:
    """A project with a prepared data set of two classes, whose names are not ASCII."""

    def fill(folder: Path) -> None:
        place = folder / PROJECT
        for number, label in enumerate((LABEL, "paper")):
            (place / "photos" / label).mkdir(parents=True)
            for i in range(8):
                photo = encoded(picture(10 * number + i))
                (place / "photos" / label / f"{label} {i}.jpg").write_bytes(photo)
        command(place, "data", "mine", "--source", "photos", "--no-embeddings")

    return make_once("environments", fill) / PROJECT


def lines(project: str, data: str) -> list[list[str]]:
    """The commands, with all folders named or none."""
    at = {name: [f"--{name}-dir", f"{project}/{name}"] for name in ("models", "reports")}
    if not project:
        at, data = {name: [] for name in at}, ""
    source, table = os.path.join(project, "photos"), os.path.join(project, "answers.csv")  # noqa: PTH118
    data_dir = ["--data-dir", data] if data else []
    return [
        ["data", "again", "--source", source, "--no-embeddings", *data_dir],
        ["train", "again", *PLAIN, *data_dir, *at["models"], *at["reports"]],
        ["evaluate", "again", *data_dir, *at["models"], *at["reports"]],
        ["explore", "again", *data_dir, *at["reports"]],
        ["predict", source, "--csv", table, "--model", os.path.join(project, "models", "again")],  # noqa: PTH118
        ["predict", source, "--model", os.path.join(project, "models", "again"), "--json"],  # noqa: PTH118
        ["predict", source, "--model", os.path.join(project, "models", "again")],  # noqa: PTH118
        ["export", "--help"],
    ]


def run_all(
    folder: Path,
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str | None],
    before: Sequence[str] = (),
    errors: bool = False,
    status: int = 0,
) -> str:
    """Run commands in one process; return its standard output, which `check` reads, or its standard error if `errors`."""
    kept = {**os.environ, "TRASH_TRAIN_WORKERS": "0", **environment}
    kept = {name: value for name, value in kept.items() if value is not None}
    line = [*before, sys.executable, "-c", RUN, json.dumps(commands)]
    done = subprocess.run(line, cwd=folder, env=kept, capture_output=True, check=False, timeout=GUARD)
    assert done.returncode == status, done.stderr.decode(errors="replace")[-3000:]
    assert b"Traceback" not in done.stderr
    return (done.stderr if errors else done.stdout).decode(
        "cp1252" if "cp1252" in environment.values() else "utf-8"
    )


def check(project: Path, output: str) -> None:
    """The answers are in the table and in the JSON, with the names as they are."""
    names = {f"{label} {i}.jpg" for label in (LABEL, "paper") for i in range(8)}
    document = json.loads(output[output.index('{"model"') : output.rindex("]}") + 2])
    assert {Path(row["photo"]).name for row in document["predictions"]} == names
    table = (project / "answers.csv").read_text(encoding="utf-8")
    assert LABEL in table and "error" not in table.splitlines()[1]
    assert (project / "reports" / "explore-again.html").is_file()
    assert list((project / "models").iterdir()) == [project / "models" / "again"]


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "LANG": None},
        {"PYTHONIOENCODING": "cp1252"},
        {"HOME": None},
        {"HOME": "/nonexistent", "XDG_CACHE_HOME": None},
    ],
    ids=["C locale", "cp1252", "no home", "home that does not exist"],
)
def test_commands_do_the_same(environment: Mapping[str, str | None], project: Path, tmp_path: Path) -> None:
    place = tmp_path / PROJECT
    shutil.copytree(project, place, symlinks=True)
    check(place, run_all(place, lines("", ""), environment))


def test_commands_do_the_same_from_elsewhere(project: Path, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / PROJECT, tmp_path / "elsewhere"
    shutil.copytree(project, place, symlinks=True)
    elsewhere.mkdir()
    check(place, run_all(elsewhere, lines(str(place), str(place / "data")), {}))
    assert list(elsewhere.iterdir()) == []


def without_rights() -> list[str]:
    """What a command line begins with so that root cannot write what others cannot."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root can write everything, and there is no setpriv to take that from it")
    drop = "-dac_override,-dac_read_search,-fowner"
    return ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write from a folder and all below it."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in folders:
            path.chmod(0o755)


def test_photos_in_folders_that_cannot_be_written_are_read(project: Path, tmp_path: Path) -> None:
    place = tmp_path / PROJECT
    shutil.copytree(project, place, symlinks=True)
    with read_only(place / "photos"):
        check(place, run_all(place, lines("", ""), {}, without_rights()))


def test_prepared_data_that_cannot_be_written_is_used_without_caches(project: Path, tmp_path: Path) -> None:
    place = tmp_path / PROJECT
    shutil.copytree(project, place, symlinks=True)
    (place / "unlabelled").mkdir()
    shutil.copy(place / "photos" / "paper" / "paper 0.jpg", place / "unlabelled")
    shutil.make_archive(str(place / "zipped"), "zip", place / "photos")
    before = sorted((place / "data").rglob("*"))
    commands = [
        ["train", "mine", *PLAIN, "--copy-paste", "0.5"],
        ["evaluate", "mine"],
        ["evaluate", "mine", "--data", "zipped.zip"],
        ["explore", "mine"],
        ["audit", "mine"],
        ["predict", "unlabelled", "--model", "models/mine"],
    ]
    with read_only(place / "data"):
        said = run_all(place, commands, {}, without_rights(), errors=True)
        refused = run_all(place, [["features", "mine"]], {}, without_rights(), errors=True, status=1)
    assert sorted((place / "data").rglob("*")) == before
    assert said.count("cannot be written") == 1 and "until this run ends" in said
    assert "where the caches belong" in refused and "--data-dir" in refused

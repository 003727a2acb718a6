"""Output that cannot be written ends any command with one line and status 1; a reader that closes it, silently with 141."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PHOTO = next((Path(__file__).parents[1] / "data/sample/test/metal").glob("*.jpg"))
FULL = Path("/dev/full")
COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "schema": ["--schema"],
    "completion": ["--completion", "bash"],
    "help of a command": ["train", "--help"],
    "all help of a command": ["train", "--help-all"],
    "table": ["models", "list"],
    "json": ["models", "list", "--json"],
    "answers": ["predict", str(PHOTO)],
    "answers as json": ["predict", str(PHOTO), "--json"],
}
"""More and less than a buffer, by argparse, by the command's own actions and by results."""


def started(folder: Path, output: int | None, *arguments: str) -> tuple[int, list[str]]:
    """The exit status of a command, and the lines on standard error."""
    line = [sys.executable, "-m", "image_classification_trash", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        line, cwd=folder, stdout=output, stderr=subprocess.PIPE, env=environment, text=True, check=False
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
@pytest.mark.parametrize("kind", COMMANDS)
def test_a_full_device_is_said_in_a_line(kind: str, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        status, said = started(tmp_path, full.fileno(), *COMMANDS[kind])
    assert (status, said) == (1, ["error: standard output cannot be written: No space left on device."])


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_reader_that_is_gone_ends_a_command_silently(kind: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert started(tmp_path, writing, *COMMANDS[kind]) == (141, [])
    finally:
        os.close(writing)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", ["--help", "models list", "predict -"])
def test_a_stream_that_is_closed_is_an_empty_one(closed: str, arguments: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m image_classification_trash {arguments} {closed}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr


def test_a_list_of_no_models_says_what_answers_and_how_to_train_one(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "image_classification_trash", "models", "list"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no models yet: the one that comes with the package answers")

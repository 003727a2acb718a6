"""Ctrl-C ends a command with a word and its status from its first moment on: while it imports, works and leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.commands import GUARD

from image_classification_trash.__main__ import stop
from image_classification_trash.config.verbs import VERBS

STARTED = """
import runpy, signal, sys
sys.argv = ["trash-classifier", *sys.argv[1:]]
handle = signal.signal
handle(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with it ignored

def handled(number, handler):
    # Until then, Python itself starts, which takes the longer the busier the machine is.
    signal.signal = handle
    handle(number, handler)
    print("started", flush=True)

signal.signal = handled
runpy.run_module("image_classification_trash", run_name="__main__", alter_sys=True)
"""
LINES = {
    "data": ["sample"],
    "predict": ["photo.jpg"],
    "monitor": ["photo.jpg"],
    "models": ["list"],
    "serve": ["--port", "0"],
}


def stopped_after(folder: Path, seconds: float, *arguments: str) -> tuple[int, str]:
    """The exit status and standard error of a command that gets SIGINT so long after it began."""
    line = [sys.executable, "-c", STARTED, *arguments]
    with subprocess.Popen(
        line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=GUARD)
    return process.returncode, said


def check(status: int, said: str) -> None:
    """A command is stopped, or had ended before; `serve` ends in its own way once it serves."""
    assert "Traceback" not in said and "KeyboardInterrupt" not in said, said
    assert status in (0, 1, 2, 3, 130), said
    if status == 130:
        assert said.splitlines()[-1] == "stopped"


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_is_stopped_while_it_starts(verb: str, tmp_path: Path) -> None:
    check(*stopped_after(tmp_path, 0.05, verb, *LINES.get(verb, ["nope"])))


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4, 0.8, 1.6])
def test_a_command_is_stopped_at_any_moment(seconds: float, prepared: Path, tmp_path: Path) -> None:
    plain = ["--architecture", "sequential_cnn", "--no-pretrained", "--epochs", "500", "--patience", "500"]
    folders = ["--data-dir", str(prepared / "data"), "--models-dir", str(tmp_path / "models")]
    status, said = stopped_after(tmp_path, seconds, "train", "sample", *plain, *folders)
    check(status, said)
    assert (status == 130 and not (tmp_path / "models").exists()) or not list((tmp_path / "models").iterdir())


def test_settings_that_are_made_are_cut_off() -> None:
    """pydantic's compiled core can swallow an interrupt, so the process ends inside a validator."""
    code = """
import os, signal
from typing import Annotated
from pydantic import BaseModel, BeforeValidator
from image_classification_trash.__main__ import stop
signal.signal(signal.SIGINT, stop)
def validate(value):
    os.kill(os.getpid(), signal.SIGINT)
    return value
class Settings(BaseModel):
    name: Annotated[str, BeforeValidator(validate)]
Settings(name="a")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_work_is_interrupted_and_not_cut_off() -> None:
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT, sys._getframe())

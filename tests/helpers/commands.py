"""The command line: run in this process, which has imported torch already, or as a process of its own.

A process of its own is for what only that shows: signals, standard input, several processes, what is imported or what the
two output streams carry. `command` is for everything else.
"""

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from image_classification_trash.cli import run

CLI = [sys.executable, "-m", "image_classification_trash"]
GUARD = 3600
"""Seconds after which a process counts as hanging: far more than any needs on a busy machine."""
Completed = subprocess.CompletedProcess[str]


def command(
    folder: Path, *arguments: str, status: int = 0, environment: Mapping[str, str] = MappingProxyType({})
) -> Completed:
    """Run `trash-classifier ARGUMENTS` in `folder`, in this process, and check its exit status.

    `environment` is set beside what is set already; TRASH_* variables count only if they stand there.
    """
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        _own_environment(environment),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        _own_log(),
    ):
        try:
            found = run(arguments)
        except SystemExit as end:  # argparse: --help, or a command that there is not
            found = end.code if isinstance(end.code, int) else 1
    done = Completed(["trash-classifier", *arguments], found, output.getvalue(), errors.getvalue())
    return _checked(done, status)


def process(
    folder: Path,
    *arguments: str,
    stdin: str = "",
    status: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run `trash-classifier ARGUMENTS` in `folder` as a process of its own and check its exit status."""
    done = subprocess.run(
        [*CLI, *arguments], cwd=folder, env=_without_settings(environment or os.environ), input=stdin, capture_output=True, text=True, timeout=GUARD,
        check=False,
    )  # fmt: skip
    return _checked(done, status)


def _checked(done: Completed, status: int) -> Completed:
    assert done.returncode == status, f"{done.args}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done


@contextlib.contextmanager
def _own_environment(more: Mapping[str, str]) -> Iterator[None]:
    """What the command sets in the environment ends with it. Photos are read without forked workers: this process has threads."""
    before = dict(os.environ)
    _replace_environment({**_without_settings(before), "TRASH_TRAIN_WORKERS": "0", **more})
    try:
        yield
    finally:
        _replace_environment(before)


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the developer's own TRASH_* variables."""
    return {name: value for name, value in environment.items() if not name.upper().startswith("TRASH_")}


def _replace_environment(wanted: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(wanted)


@contextlib.contextmanager
def _own_log() -> Iterator[None]:
    """The command logs to its standard error, as in a process of its own, and not to pytest's handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)

"""Shells complete commands, flags and values; the scripts are made from the parsers."""

import shutil
import subprocess
from pathlib import Path

import pytest

from image_classification_trash.config.completion import SCRIPTS, flags_of
from image_classification_trash.config.verbs import VERBS

ASK = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_trash_classifier
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(tmp_path: Path, *words: str) -> set[str]:
    script = tmp_path / "completion.bash"
    script.write_text(SCRIPTS["bash"]())
    line = ["bash", "-c", ASK, "bash", str(script), "trash-classifier", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("tr",), {"train"}),
        (("--ver",), {"--version"}),
        (("--completion", ""), {"bash", "zsh", "fish"}),
        (("train", "--learning"), {"--learning-rate"}),
        (("train", "mine", "--resize-mode", ""), {"stretch", "crop", "pad"}),
        (("export", "--format", "t"), {"tflite"}),
        (("predict", "photo"), set()),  # a file: bash's own completion follows
    ],
)
def test_bash_completes(words: tuple[str, ...], found: set[str], tmp_path: Path) -> None:
    assert completed(tmp_path, *words) == found


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_command_and_flag_is_in_every_script(shell: str) -> None:
    script = SCRIPTS[shell]()
    for verb in VERBS:
        assert verb in script
        assert all(flag.spelling.removeprefix("--") in script for flag in flags_of(verb))


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_shell_reads_its_script(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell]())
    subprocess.run([shell, "-n", script], check=True)

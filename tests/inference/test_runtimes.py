"""An engine's notices about itself stay from standard error; whatever else is written there meanwhile does not get lost."""

import subprocess
import sys

SCRIPT = """
import os, sys
from image_classification_trash import TrashClassifier
from image_classification_trash.inference.runtimes import LiteRtRuntime, without_notices

with without_notices():
    os.write(2, b"INFO: of an engine\\nERROR: of an engine\\n")
    print("of Python", file=sys.stderr, flush=True)
with without_notices():
    os.write(2, b"INFO: later\\n")
"""


def said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_notices_are_dropped_once_and_all_else_follows() -> None:
    assert said(SCRIPT) == ["ERROR: of an engine", "of Python", "INFO: later"]


def test_a_model_opens_without_a_word_and_where_standard_error_is_closed() -> None:
    load = "from image_classification_trash import TrashClassifier; TrashClassifier.load().warm_up()"
    assert said(load) == [] and said(f"import os; os.close(2); {load}") == []

"""A photo that ends the process that reads it, as a decoder with an error does: processes with this environment obey it."""

import os
from pathlib import Path

KILLER = "killer.jpg"
HOOK = f"""
import os, sys
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith({KILLER!r}):
        os.kill(os.getpid(), 9)
sys.addaudithook(hook)
"""


def environment_with_killer(folder: Path) -> dict[str, str]:
    """Return the environment of processes that end when they open a file named `killer.jpg`."""
    (folder / "sitecustomize.py").write_text(HOOK)
    here = str(Path(__file__).parents[2])
    paths = [str(folder), here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

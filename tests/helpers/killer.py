"""A photo that ends the process that reads it, as a decoder with an error does, and photos that take their time.

Processes with this environment obey both.
"""

import os
from pathlib import Path

KILLER = "killer.jpg"
SLOW = "slow.jpg"
"""End of the names of photos that take a twentieth of a second each: a test has time to end what reads them."""
HOOK = f"""
import os, sys, time
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith({KILLER!r}):
        os.kill(os.getpid(), 9)
    if event == "open" and str(arguments[0]).endswith({SLOW!r}):
        time.sleep(0.05)
sys.addaudithook(hook)
"""


def environment_with_killer(folder: Path) -> dict[str, str]:
    """Return the environment of processes that end when they open a file named `killer.jpg`, and wait at `SLOW` ones."""
    (folder / "sitecustomize.py").write_text(HOOK)
    here = str(Path(__file__).parents[2])
    paths = [str(folder), here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

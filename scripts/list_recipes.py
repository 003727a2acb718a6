"""The recipes in configs/ that changed since a commit and train a model by themselves, as JSON: list_recipes.py HEAD^

Or the one that a person asked for, once it is known to be one: list_recipes.py --recipe configs/field.yaml
A recipe whose name ends in _finish goes on from another's model, and is left out; so is what has no `train:` section.
It needs the standard library alone: a workflow runs it before anything is installed.
"""

import json
import re
import subprocess
import sys
from pathlib import Path


def main(since: str) -> None:
    line = ["git", "diff", "--name-only", "--diff-filter=d", since, "HEAD", "--", "configs"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{since} cannot be compared with: {done.stderr.strip()}")
    print(json.dumps([path for path in done.stdout.splitlines() if trains_alone(Path(path))]))


def one(recipe: str) -> None:
    path = Path(recipe)
    if path.parts != ("configs", path.name) or not path.is_file() or not trains_alone(path):
        sys.exit(f"{recipe!r} is no recipe in configs/ that trains a model by itself")
    print(json.dumps([recipe]))


def trains_alone(path: Path) -> bool:
    if path.suffix != ".yaml" or path.stem.endswith("_finish"):
        return False
    return re.search(r"^train:", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


if __name__ == "__main__":
    one(sys.argv[2]) if sys.argv[1] == "--recipe" else main(sys.argv[1])

"""What holds for every source of photos: each file is used, or is named as left out."""

import os
from pathlib import Path

from image_classification_trash.data.layouts import Source


def left_out(source: Source) -> dict[str, str]:
    return {row.path: row.kind for row in source.left_out}


def everything_is_used_or_named(root: Path, source: Source) -> None:
    used, named = {file.path for file in source.files}, set(left_out(source))
    assert not used & named
    for where, _, names in os.walk(root):
        for name in names:
            path = Path(os.path.relpath(Path(where) / name, source.root)).as_posix()
            folders = [path[:i] for i, character in enumerate(path) if character == "/"]
            ways = {path, ascii(path), *(f"{way}/" for folder in folders for way in (folder, ascii(folder)))}
            assert ways & (used | named), path

"""Random folders, zips and tables, alone or several: each file is used or named, and only our own errors are raised."""

import csv
import io
import posixpath
import zipfile
from pathlib import Path

import pytest
from helpers.sources import everything_is_used_or_named, left_out
from hypothesis import given, settings
from hypothesis import strategies as st

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.layouts import Source
from image_classification_trash.data.make_dataset import locate_source
from image_classification_trash.data.sources import read_csv
from image_classification_trash.errors import DatasetError

FOLDERS = st.sampled_from(["train", "test", "cat", "dog", "cat", "dog", "_x", ".git", "été♻", "bad\nname"])
FILES = st.sampled_from(
    ["1.jpg", "2.PNG", "notes.txt", ".DS_Store", "odd\x07.jpg", "\udce9.jpg", "=1.jpg", "a,b.jpg"]
)
PATHS = st.lists(st.tuples(st.lists(FOLDERS, max_size=3), FILES), max_size=8)
LINKS = st.lists(st.tuples(FOLDERS, st.sampled_from([".", "..", "cat", "nowhere", "cat/1.jpg"])), max_size=2)
MEMBERS = st.lists(
    st.text(alphabet="ab./\\:\0é", max_size=8).map(lambda name: f"{name}.jpg") | st.text("a./\\", max_size=4),
    max_size=5,
)
CELLS = st.text(alphabet='ab/\\,;"\n\r\0 é\t.\u2028', max_size=6) | st.sampled_from(
    ["a/1.jpg", "cat", "train", ""]
)
SOURCES = st.lists(st.tuples(PATHS, LINKS), min_size=1, max_size=3)


def grow(root: Path, paths: list[tuple[list[str], str]], links: list[tuple[str, str]]) -> None:
    root.mkdir()
    for label in ("cat", "dog"):
        (root / label).mkdir()
        (root / label / "0.jpg").touch()
    for folders, name in paths:
        folder = root.joinpath(*folders)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name, target in links:
        if not (root / name).exists() and not (root / name).is_symlink():
            (root / name).symlink_to(target)


def located(root: Path, *sources: Path, **given: object) -> Source | None:
    """What is read from sources; None if they are refused."""
    try:
        return locate_source(DataSettings(name="mine", source=list(sources), data_dir=root / "data", **given))
    except DatasetError:
        return None


@settings(max_examples=25)
@given(SOURCES)
def test_folders(
    tmp_path_factory: pytest.TempPathFactory,
    trees: list[tuple[list[tuple[list[str], str]], list[tuple[str, str]]]],
) -> None:
    root = tmp_path_factory.mktemp("trees")
    roots = [root / f"source {number}" for number in range(len(trees))]
    for place, (paths, links) in zip(roots, trees, strict=True):
        grow(place, paths, links)
    source = located(root, *roots)
    if source is None:
        return
    assert len({file.path for file in source.files}) == len(source.files)
    assert not {file.path for file in source.files} & set(left_out(source))
    for file in source.files:
        assert (source.root / file.path).is_file() or (source.root / file.path).is_symlink()
    for place in roots:
        everything_is_used_or_named(place, source)


@settings(max_examples=25)
@given(MEMBERS, PATHS)
def test_zips(
    tmp_path_factory: pytest.TempPathFactory, members: list[str], paths: list[tuple[list[str], str]]
) -> None:
    root = tmp_path_factory.mktemp("zips")
    inside = [posixpath.join(*folders, name) for folders, name in paths if "\udce9" not in name]
    with zipfile.ZipFile(root / "x.zip", "w") as packed:
        for name in dict.fromkeys(["cat/0.jpg", "dog/0.jpg", *inside, *members]):
            packed.writestr(zipfile.ZipInfo(name), b"")
    source = located(root, root / "x.zip")
    if source is not None:
        (unpacked,) = (root / "data/raw/mine").iterdir()
        everything_is_used_or_named(unpacked, source)


@settings(max_examples=100)
@given(st.lists(st.lists(CELLS, max_size=5), max_size=5), st.booleans(), st.binary(max_size=4))
def test_tables(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], quoted: bool, noise: bytes
) -> None:
    file = tmp_path_factory.mktemp("tables") / "t.csv"
    text = io.StringIO()
    if quoted:
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["filepath", "label", "split", "group"], *rows])
    else:
        text.write("filepath,label\n" + "\n".join(",".join(row) for row in rows))
    file.write_bytes(text.getvalue().encode() + noise)
    try:
        source = read_csv(file)
    except DatasetError:
        return
    assert all(row.path and row.label for row in source.files)
    blank = sum(not any(row) for row in rows)
    assert noise or len(source.files) >= len(rows) - blank or not quoted

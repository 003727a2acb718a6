"""Shards list every photo once, in order, in little memory; a repeated or interrupted listing spoils nothing."""

import os
import random
from pathlib import Path

import pytest
from helpers.commands import command

from image_classification_trash.distributed.shards import (
    INDEX,
    Shard,
    in_order,
    names_as_parquet,
    read_index,
    read_shard,
    write_shards,
)
from image_classification_trash.distributed.stores import Folder
from image_classification_trash.errors import ShardError


def names_in(folder: Path) -> list[str]:
    store = Folder(folder)
    return [name for shard in read_index(str(folder)).shards() for name in read_shard(store, shard)]


def test_a_folder_is_listed_whole_and_sorted(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = ["b/2.jpg", "a/1.JPG", "a/10.png", "a/notes.txt", "top.webp", "a/line\nbreak.jpg"]
    for name in names:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()
    found = command(tmp_path, "shards", "photos", "--output", "out", "--shard-photos", "2", "--json")
    assert '"shards": 3' in found.stdout and '"photos": 5' in found.stdout
    assert names_in(tmp_path / "out") == sorted(str(photos / name) for name in names if "notes" not in name)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "000000.parquet", "000001.parquet", "000002.parquet", INDEX,
    ]  # fmt: skip


def test_a_list_keeps_its_order(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        "z.jpg\ns3://bucket/key with space.jpg\n\na.jpg\nhttps://example.org/x\n"
    )
    command(tmp_path, "shards", "list.txt", "--output", "out")
    assert names_in(tmp_path / "out") == [
        str(tmp_path / "z.jpg"), "s3://bucket/key with space.jpg", str(tmp_path / "a.jpg"), "https://example.org/x",
    ]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
def test_names_that_are_not_unicode_are_kept(tmp_path: Path) -> None:
    shard = write_shards(["/plain.jpg", os.fsdecode(b"/caf\xe9.jpg")], Folder(tmp_path), 10, "x")
    (only,) = shard.shards()
    assert read_shard(Folder(tmp_path), only) == ["/plain.jpg", os.fsdecode(b"/caf\xe9.jpg")]


def test_a_second_listing_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("z.jpg\n")
    command(tmp_path, "shards", "list.txt", "--output", "out")
    before = (tmp_path / "out" / INDEX).read_bytes()
    done = command(tmp_path, "shards", "list.txt", "--output", "out", status=2)
    assert "out holds shards already" in done.stderr and (tmp_path / "out" / INDEX).read_bytes() == before


def test_a_listing_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for source, words in [
        ("photos", "holds no photos"),
        ("missing", "is neither a folder"),
        ("a.jpg", "is neither"),
    ]:
        assert words in command(tmp_path, "shards", source, "--output", "out", status=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_sorting_uses_files_when_names_are_many() -> None:
    names = [f"{number}\n{number % 7}" for number in range(5000)]
    random.Random(0).shuffle(names)
    assert list(in_order(iter(names), run=300, runs=4)) == sorted(names)


def test_a_shard_that_changed_is_refused(tmp_path: Path) -> None:
    (shard,) = write_shards(["/a.jpg", "/b.jpg"], Folder(tmp_path), 10, "x").shards()
    (tmp_path / shard.name).write_bytes(names_as_parquet(["/a.jpg", "/c.jpg"]))
    with pytest.raises(ShardError, match="changed since it was listed"):
        read_shard(Folder(tmp_path), shard)
    (tmp_path / shard.name).write_bytes(b"PAR1 damaged")
    with pytest.raises(ShardError, match="missing or damaged"):
        read_shard(Folder(tmp_path), shard)
    with pytest.raises(ShardError, match="missing or damaged"):
        read_shard(Folder(tmp_path), Shard(7, ""))

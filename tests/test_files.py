import errno
import os
from pathlib import Path
from typing import Any

import pytest

from image_classification_trash.files import (
    atomic_directory,
    sha256_of,
    sha256_of_file,
    write_bytes,
    write_text,
)


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_whole_with_its_parents(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "größe\r\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "größe\r\n".encode()
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_the_two_checksums_agree(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"abc")
    assert sha256_of_file(tmp_path / "x") == sha256_of(b"abc")
    assert sha256_of(b"abc").startswith("ba7816bf")


def test_files_get_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "x", b"abc")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("call", ["write_bytes", "replace", "fsync"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"old")
    monkeypatch.setattr(os if call == "fsync" else Path, call, full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(file, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
    assert file.read_bytes() == b"old"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_directory(tmp_path / "d") as folder:
            (folder / content).write_text(content)
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]
    assert [entry.name for entry in (tmp_path / "d").iterdir()] == ["new"]


def test_a_failure_inside_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()

    def write_half() -> None:
        with atomic_directory(tmp_path / "d") as folder:
            (folder / "new").touch()
            full_disk()

    with pytest.raises(OSError, match="No space left"):
        write_half()
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]
    assert (tmp_path / "d" / "old").exists()


def test_a_failure_while_changing_places_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    real = Path.replace

    def fails_for_the_new(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            full_disk()
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fails_for_the_new)
    with pytest.raises(OSError, match="No space left"), atomic_directory(tmp_path / "d"):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]
    assert (tmp_path / "d" / "old").exists()

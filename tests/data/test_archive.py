import errno
import io
import os
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from image_classification_trash.data import archive as archive_module
from image_classification_trash.data.archive import unpack
from image_classification_trash.errors import ArchiveError


def make_zip(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, data in members.items():
            opened.writestr(zipfile.ZipInfo(name), data, compression)
    return path


def names_below(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_leftovers_of_macos_and_windows_are_ignored(tmp_path: Path) -> None:
    members = ["a/größe 1.jpg", "__MACOSX/a/._1.jpg", "a/.DS_Store", "a/Thumbs.db", "a/._2.jpg"]
    packed = make_zip(tmp_path / "x.zip", dict.fromkeys(members, b"x"))
    unpack(packed, tmp_path / "out")
    assert names_below(tmp_path / "out") == ["a/größe 1.jpg"]


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg", ".", ""]
)
def test_a_member_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    packed = make_zip(tmp_path / "x.zip", {"a/1.jpg": b"x", name: b"x"})
    with pytest.raises(ArchiveError, match="leads out of its folder") as caught:
        unpack(packed, tmp_path / "in" / "out")
    assert str(packed) in caught.value.found
    assert "Do not use this archive" in caught.value.hint
    assert names_below(tmp_path) == ["x.zip"]


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/link.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match=r"'a/link\.jpg', which leads out"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    packed = make_zip(tmp_path / "x.zip", {"a/1.jpg": bytes(20 * 2**20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ArchiveError, match="would unpack to 20971520 bytes in 1 files") as caught:
        unpack(packed, tmp_path / "out")
    assert "zip bomb" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_FILES", 2)
    packed = make_zip(tmp_path / "x.zip", {f"a/{n}.jpg": b"x" for n in range(3)})
    with pytest.raises(ArchiveError, match="in 3 files"):
        unpack(packed, tmp_path / "out")


def damaged(kind: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a/1.jpg", os.urandom(100) * 20)
    data = bytearray(buffer.getvalue())
    if kind == "cut":
        return bytes(data[: len(data) // 2])
    if kind == "deflate":
        data[37:60] = b"\xff" * 23  # after the local header of 30 bytes and the name of 7
    if kind == "encrypted":
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(mark) + offset] |= 1
    return b"Dear reader, this is a text." if kind == "text" else bytes(data)


@pytest.mark.parametrize("kind", ["text", "cut", "deflate", "encrypted"])
def test_what_is_no_sound_zip_is_refused_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.zip"
    file.write_bytes(damaged(kind))
    with pytest.raises(ArchiveError, match=r"x\.zip is not a readable zip file") as caught:
        unpack(file, tmp_path / "out")
    assert "Download it again" in caught.value.hint
    assert names_below(tmp_path) == ["x.zip"]
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_both_file_and_folder_is_refused(tmp_path: Path) -> None:
    packed = make_zip(tmp_path / "x.zip", {"a": b"x", "a/1.jpg": b"x"})
    with pytest.raises(
        ArchiveError, match=r"a/1\.jpg is both a file and a folder|is there already: as a folder"
    ):
        unpack(packed, tmp_path / "out")


def repeated_zip(path: Path, *contents: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as opened, warnings.catch_warnings(action="ignore"):
        for content in contents:
            opened.writestr("a/1.jpg", content)
    return path


def test_two_different_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"contains two different files 'a/1\.jpg'"):
        unpack(repeated_zip(tmp_path / "x.zip", b"first", b"second"), tmp_path / "out")
    assert names_below(tmp_path) == ["x.zip"]


def test_the_same_file_twice_is_unpacked_once(tmp_path: Path) -> None:
    unpack(repeated_zip(tmp_path / "x.zip", b"x", b"x"), tmp_path / "out")
    assert names_below(tmp_path / "out") == ["a/1.jpg"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    packed = make_zip(tmp_path / "x.zip", {"a/1.jpg": b"x"})
    monkeypatch.setattr(shutil, "copyfileobj", full_disk)
    with pytest.raises(OSError, match="No space left"):
        unpack(packed, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zip"]

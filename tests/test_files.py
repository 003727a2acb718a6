import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from image_classification_trash import files
from image_classification_trash.errors import BusyError, OutputError
from image_classification_trash.files import (
    atomic_directory,
    atomic_path,
    check_replaceable,
    only_writer,
    recover_directory,
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

    monkeypatch.setattr(files, "_exchange", lambda one, other: False)  # a file system that cannot
    monkeypatch.setattr(Path, "replace", fails_for_the_new)
    with pytest.raises(OSError, match="No space left"), atomic_directory(tmp_path / "d"):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]
    assert (tmp_path / "d" / "old").exists()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_link_stays_and_the_file_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere" / "real.csv")
    for text in ("first", "second"):  # the link leads nowhere at first
        write_text(tmp_path / "link.csv", text)
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "elsewhere" / "real.csv").read_text() == text
    assert names(tmp_path / "elsewhere") == ["real.csv"]


def test_a_linked_folder_stays_linked(tmp_path: Path) -> None:
    (tmp_path / "disk" / "models").mkdir(parents=True)
    (tmp_path / "models").symlink_to(tmp_path / "disk" / "models")
    with atomic_directory(tmp_path / "models") as folder:
        (folder / "new").touch()
    assert (tmp_path / "models").is_symlink()
    assert names(tmp_path / "disk" / "models") == ["new"]


def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = "import sys; sys.stdout.write(open(sys.argv[1]).read())"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "pipe"], stdout=subprocess.PIPE, text=True
    ) as reader:
        write_text(tmp_path / "pipe", "through")
        assert reader.communicate()[0] == "through"
    assert (tmp_path / "pipe").is_fifo()


def test_standard_output_is_written_into_even_where_it_is_a_file(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from image_classification_trash.files import write_text\n"
        "write_text(Path('/dev/stdout'), 'table\\n'); write_text(Path('/dev/null'), 'gone')"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "table\n"
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("writer", [atomic_path, atomic_directory])
def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(tmp_path: Path, writer: Any) -> None:
    there = tmp_path / "there"
    if writer is atomic_path:
        there.mkdir()
    else:
        there.touch()
    with pytest.raises(OSError, match="directory"), writer(there):
        pytest.fail("was asked for its content")
    assert names(tmp_path) == ["there"]


def test_only_what_this_program_wrote_is_replaced(tmp_path: Path) -> None:
    theirs, ours, empty = (tmp_path / name for name in ("theirs", "ours", "empty"))
    for folder in (theirs, ours, empty):
        folder.mkdir()
    (theirs / "letters.txt").touch()
    (ours / "config.json").touch()
    (empty / ".DS_Store").touch()
    (tmp_path / "link").symlink_to(theirs)
    (tmp_path / "file").touch()
    for free in (ours, empty, tmp_path / "new"):
        check_replaceable(free, "config.json", "other")
    for taken in (theirs, tmp_path / "link"):
        with pytest.raises(
            OutputError, match=r"theirs holds other files, such as letters\.txt, which would be lost"
        ):
            check_replaceable(taken, "config.json")
    with pytest.raises(OutputError, match="file is a file, where a folder is to be written"):
        check_replaceable(tmp_path / "file", "config.json")


def test_a_file_that_may_not_be_written_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "table.csv"
    file.write_text("kept")
    file.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    with pytest.raises(PermissionError, match=r"table\.csv"):
        write_text(file, "new")
    assert file.read_text() == "kept" and names(tmp_path) == ["table.csv"]
    write_text(tmp_path / "new.csv", "new")


def test_a_link_that_leads_to_itself_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for writer in (atomic_path, atomic_directory, only_writer):
        with pytest.raises(OSError, match="Too many levels of symbolic links"), writer(tmp_path / "loop"):
            pytest.fail("was asked for its content")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_where_nothing_can_be_written_no_other_process_is_blamed() -> None:
    with pytest.raises(OSError, match="No such file or directory"), only_writer(Path("/proc/table.csv")):
        pytest.fail("was asked for its content")


def test_a_killed_writer_leaves_nothing_that_the_next_one_does_not_sweep(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from image_classification_trash.files import *\n"
        "with atomic_path(Path(sys.argv[1])) as file, atomic_directory(Path(sys.argv[2])):\n"
        "    file.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "x", tmp_path / "d"], check=False)
    assert len(names(tmp_path)) == 2 and all(name.endswith(".tmp") for name in names(tmp_path))
    write_text(tmp_path / "x", "whole")
    with atomic_directory(tmp_path / "d"):
        pass
    assert names(tmp_path) == ["d", "x"]


def test_a_living_writers_half_is_not_swept(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x") as slow:
        slow.write_text("slow")
        write_text(tmp_path / "x", "quick")
        assert slow.exists()
    assert (tmp_path / "x").read_text() == "slow"
    assert names(tmp_path) == ["x"]


def test_two_folders_change_places_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    with atomic_directory(tmp_path / "d") as folder:
        (folder / "new").touch()
        monkeypatch.setattr(Path, "replace", full_disk)  # no name is ever free in between
    assert names(tmp_path / "d") == ["new"]


def test_a_folder_whose_writer_was_killed_between_two_renames_is_brought_back(tmp_path: Path) -> None:
    (tmp_path / ".d.1234.old").mkdir()
    (tmp_path / ".d.1234.old" / "old").touch()
    recover_directory(tmp_path / "d")
    assert names(tmp_path) == ["d"]
    assert names(tmp_path / "d") == ["old"]
    recover_directory(tmp_path / "never was")
    recover_directory(tmp_path / "no folder" / "d")
    assert names(tmp_path) == ["d"]


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    second = only_writer(tmp_path / "x")
    with only_writer(tmp_path / "x"), pytest.raises(BusyError, match="Another process is writing"), second:
        pytest.fail("two writers at once")
    with only_writer(tmp_path / "x"):
        pass
    assert names(tmp_path) == []

"""Zip files from elsewhere: unpacked without path tricks and without bombs."""

import lzma
import os
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from image_classification_trash.errors import ArchiveError
from image_classification_trash.files import atomic_directory

MAX_UNPACKED_BYTES = 32 * 2**30
MAX_FILES = 1_000_000
MAX_RATIO = 200  # photos hardly compress; a file that grows more than this is a bomb
_DAMAGED = (
    zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error, lzma.LZMAError,
)  # fmt: skip
_UTF8_NAME = 0x800
_LEFTOVERS = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}


def unpack(archive: Path, destination: Path, encoding: str | None = None) -> None:
    """Unpack a zip into `destination`, whole or not at all; macOS and Windows leftovers are ignored.

    Args:
        archive: the zip file.
        destination: a folder that is made, or replaced.
        encoding: of file names that the zip does not state to be UTF-8; None: UTF-8, if they are that.

    Raises:
        ArchiveError: not a zip, damaged, encrypted, leading out of the folder, far larger than it looks, or with file
            names in an encoding that cannot be told.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                member.filename = _decoded_name(archive, member, encoding)
            members = _checked_members(archive, opened)
            with atomic_directory(destination) as folder:
                for member in tqdm(members, desc="unpack", unit="file", leave=False):
                    _extract(opened, member, folder)
    except _DAMAGED as error:
        hint = "Fetch it again; the download may have been cut short."
        raise ArchiveError(f"{archive} is not a zip file that can be read: {error}.", hint) from error


def _checked_members(archive: Path, opened: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [m for m in opened.infolist() if not m.is_dir() and not _is_leftover(m.filename)]
    for member in members:
        if _leads_out(member):
            hint = "It was made to harm, or by a broken program: do not use it."
            raise ArchiveError(f"{archive} holds {member.filename!r}, which leads out of its folder.", hint)
    total = sum(member.file_size for member in members)
    packed = max(1, archive.stat().st_size)
    if total > MAX_UNPACKED_BYTES or len(members) > MAX_FILES or total > packed * MAX_RATIO:
        found = f"{archive} ({packed} bytes) would unpack to {total} bytes in {len(members)} files."
        raise ArchiveError(found, "That is a zip bomb, or too much for one data set: unpack it by hand.")
    return members


def _decoded_name(archive: Path, member: zipfile.ZipInfo, encoding: str | None) -> str:
    """The member's name; zipfile takes one that is not marked as UTF-8 for code page 437, which few programs write."""
    if member.flag_bits & _UTF8_NAME or member.filename.isascii():
        return member.filename
    raw = member.orig_filename.encode("cp437", errors="surrogateescape")
    try:
        return raw.decode(encoding or "utf-8").replace("\\", "/")
    except LookupError as error:
        raise ArchiveError(
            f"There is no encoding {encoding!r}.", "Try gbk, shift_jis, cp437 or cp866."
        ) from error
    except UnicodeDecodeError as error:
        found = (
            f"{archive} holds file names that are not in {encoding or 'UTF-8'}, such as {member.filename!r}."
        )
        raise ArchiveError(
            found, "Say what they are in: --zip-encoding gbk (or shift_jis, cp437, cp866)."
        ) from error


def _leads_out(member: zipfile.ZipInfo) -> bool:
    name = member.filename.replace("\\", "/")
    path = PurePosixPath(name)
    is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
    return not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link


def _is_leftover(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part in _LEFTOVERS or part.startswith("._") for part in parts)


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write one member; the size in its header is a claim, so the bytes themselves are counted."""
    target = folder / member.filename.replace("\\", os.sep)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = target.open("wb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise zipfile.BadZipFile(f"{member.filename} is both a file and a folder") from error
    with opened.open(member) as source, sink:
        shutil.copyfileobj(source, sink, 2**20)
    if target.stat().st_size != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} is not as long as its header says")

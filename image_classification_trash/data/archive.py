"""Unpack untrusted zip files: no path traversal, no zip bombs."""

import lzma
import os
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from image_classification_trash.errors import ArchiveError
from image_classification_trash.files import atomic_directory, sha256_of_file

MAX_UNPACKED_BYTES = 32 * 2**30
MAX_FILES = 1_000_000
MAX_RATIO = 200  # photos hardly compress; an archive that grows more than this is a bomb
_DAMAGED = (
    zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error, lzma.LZMAError,
)  # fmt: skip
_UTF8_NAME = 0x800
_LEFTOVERS = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}


def unpack(archive: Path, destination: Path, encoding: str | None = None) -> None:
    """Unpack a zip file into `destination`, completely or not at all; ignore macOS and Windows metadata files.

    Args:
        archive: the zip file.
        destination: the folder to create or replace.
        encoding: encoding of file names that the zip does not mark as UTF-8; None tries UTF-8.

    Raises:
        ArchiveError: the file is not a zip, is damaged or encrypted, writes outside the folder, unpacks to far more
            than its size, has file names in an unknown encoding, or two different files of one name.
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
        hint = "Download it again; the download may be incomplete."
        raise ArchiveError(f"{archive} is not a readable zip file: {error}.", hint) from error


def unpacked(path: Path, folder: Path, encoding: str | None = None) -> Path:
    """Return the folder below `folder` that a zip file is unpacked into, once; return any other path unchanged.

    Raises:
        ArchiveError: the zip file is damaged, encrypted or hostile, or has file names in an unknown encoding.
    """
    if path.suffix.lower() != ".zip" or not path.is_file():
        return path
    target = folder / (sha256_of_file(path)[:16] + (f"-{encoding}" if encoding else ""))
    if not target.is_dir():
        unpack(path, target, encoding)
    return target


def _checked_members(archive: Path, opened: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    by_path: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in opened.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if member.filename.endswith("/") or any(
            part in _LEFTOVERS or part.startswith("._") for part in path.parts
        ):
            continue
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link:
            hint = "Do not use this archive: it is malicious, or a faulty program made it."
            raise ArchiveError(
                f"{archive} contains {member.filename!r}, which leads out of its folder.", hint
            )
        first = by_path.setdefault(path, member)
        if (first.CRC, first.file_size) != (member.CRC, member.file_size):
            hint = "Unpack it by hand, keep the right one, and pass the folder."
            raise ArchiveError(f"{archive} contains two different files {member.filename!r}.", hint)
    members = list(by_path.values())
    total = sum(member.file_size for member in members)
    packed = max(1, archive.stat().st_size)
    if total > MAX_UNPACKED_BYTES or len(members) > MAX_FILES or total > packed * MAX_RATIO:
        found = f"{archive} ({packed} bytes) would unpack to {total} bytes in {len(members)} files."
        raise ArchiveError(found, "It is a zip bomb, or too large for one data set: unpack it by hand.")
    return members


def _decoded_name(archive: Path, member: zipfile.ZipInfo, encoding: str | None) -> str:
    """Return the member's name, undoing zipfile's assumption that names not marked as UTF-8 are in code page 437."""
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
            f"{archive} contains file names that are not {encoding or 'UTF-8'}, such as {member.filename!r}."
        )
        hint = "Name their encoding: --zip-encoding gbk (or shift_jis, cp437, cp866)."
        raise ArchiveError(found, hint) from error


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write one member and compare its length with the size that its header claims."""
    target = folder / member.filename.replace("\\", os.sep)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = target.open("xb")
    except FileExistsError as error:  # or one in other letters, on a disk that does not tell them apart
        raise zipfile.BadZipFile(
            f"{member.filename} is there already: as a folder, or in other letters"
        ) from error
    except (NotADirectoryError, IsADirectoryError) as error:
        raise zipfile.BadZipFile(f"{member.filename} is both a file and a folder") from error
    with opened.open(member) as source, sink:
        shutil.copyfileobj(source, sink, 2**20)
    if target.stat().st_size != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} is not as long as its header says")

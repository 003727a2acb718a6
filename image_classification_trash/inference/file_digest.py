"""A digest inside every exported file, so that a file damaged in transit is refused.

It is the SHA-256 of all bytes before it. A .tflite file carries it as the last member of the zip behind the model, an
.onnx file as a metadata property at its end (protocol buffers may be concatenated). Files from earlier versions, which
have none, are accepted.
"""

import io
import zipfile
from pathlib import Path

from image_classification_trash.errors import BundleError
from image_classification_trash.files import sha256_of

MEMBER = "sha256"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same file gives the same bytes
_PROPERTY, _KEY, _VALUE = (
    b"\x72",
    b"\x0a",
    b"\x12",
)  # ModelProto.metadata_props, its key and its value (onnx.proto3)


def sealed_tflite(model: bytes) -> bytes:
    """Append the digest to a .tflite file that has a zip behind the model."""
    out = io.BytesIO(model)
    with zipfile.ZipFile(out, "a") as packed:
        digest = sha256_of(model[: packed.start_dir])
        packed.writestr(zipfile.ZipInfo(MEMBER, _EPOCH), digest)
    return out.getvalue()


def files_in_tflite(model: bytes) -> dict[str, bytes]:
    """Return the files in the zip behind a .tflite file that was read, by name, without the digest."""
    with zipfile.ZipFile(io.BytesIO(model)) as packed:
        return {name: packed.read(name) for name in packed.namelist() if name != MEMBER}


def sealed_onnx(model: bytes) -> bytes:
    """Append the digest to an .onnx file."""
    return model + _property(sha256_of(model))


def check_digest(content: bytes, path: Path) -> None:
    """Compare the bytes of a file with the digest inside, if there is one.

    Raises:
        BundleError: they differ.
    """
    covered: bytes | memoryview
    if path.suffix == ".onnx":
        size = len(_property("0" * 64))
        tail, covered = content[-size:], content[:-size]
        digest = tail[-64:].decode("ascii", errors="replace")
        expected = digest if tail == _property(digest) else None
    else:
        expected, covered = _tflite_digest(content)
    if expected is not None and sha256_of(covered) != expected:
        hint = "Copy the file again, or export the model again."
        raise BundleError(f"{path} does not match the digest inside: it was changed or damaged.", hint)


def _tflite_digest(content: bytes) -> tuple[str | None, bytes | memoryview]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            member = packed.getinfo(MEMBER)
            covered = memoryview(content)[: member.header_offset]
            return packed.read(member).decode("ascii", errors="replace"), covered
    except KeyError:
        return None, b""
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError):
        return None, b""  # no zip: the engine and the missing description report it


def _property(digest: str) -> bytes:
    key, value = MEMBER.encode(), digest.encode("ascii", errors="replace")
    entry = _KEY + bytes([len(key)]) + key + _VALUE + bytes([len(value)]) + value
    return _PROPERTY + bytes([len(entry)]) + entry

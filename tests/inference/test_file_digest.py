"""A digest inside every exported file: damage anywhere before it is refused, files of earlier versions are taken."""

import io
import zipfile
from pathlib import Path

import pytest

from image_classification_trash.errors import BundleError
from image_classification_trash.inference.file_digest import check_digest, sealed_onnx, sealed_tflite

TFLITE, ONNX = Path("model.tflite"), Path("model.onnx")


def with_zip(model: bytes) -> bytes:
    out = io.BytesIO(model)
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "a") as packed:
        packed.writestr("labels.txt", "glass")
    return out.getvalue()


SEALED = {TFLITE: sealed_tflite(with_zip(bytes(range(256)) * 4)), ONNX: sealed_onnx(bytes(range(256)) * 4)}


@pytest.mark.parametrize("path", [TFLITE, ONNX], ids=str)
def test_a_whole_file_is_taken_and_any_changed_byte_refused(path: Path) -> None:
    check_digest(SEALED[path], path)
    for place in range(0, 1024, 31):
        damaged = bytearray(SEALED[path])
        damaged[place] ^= 1
        with pytest.raises(BundleError, match="does not match the digest inside"):
            check_digest(bytes(damaged), path)


@pytest.mark.parametrize("path", [TFLITE, ONNX], ids=str)
@pytest.mark.parametrize("content", [b"", b"x", b"no zip at all" * 20, with_zip(b"of an earlier version")])
def test_files_without_a_digest_are_taken_as_they_are(path: Path, content: bytes) -> None:
    check_digest(content, path)


def test_the_same_file_gives_the_same_bytes() -> None:
    assert sealed_tflite(with_zip(b"abc"))[-200:] and sealed_onnx(b"abc") == sealed_onnx(b"abc")
    with zipfile.ZipFile(io.BytesIO(SEALED[TFLITE])) as packed:
        assert packed.namelist() == ["labels.txt", "sha256"]


def test_a_digest_that_is_no_text_is_a_mismatch() -> None:
    damaged = bytearray(SEALED[ONNX])
    damaged[-1] = 0xFF
    check_digest(bytes(damaged), ONNX)  # no longer recognised as a digest: the engine decides
    with pytest.raises(BundleError):
        check_digest(SEALED[TFLITE].replace(b"\x00\x01\x02", b"\x00\x01\x03", 1), TFLITE)

"""Decoding in processes of their own: the same pixels and errors, and an end to whatever takes too much."""

import errno
import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.huffman_bomb import webp_of_many_tables
from helpers.patient import PATIENCE, wait_until
from helpers.photo_bombs import BOMBS, png
from helpers.processes import DECODER, command, descendants, is_running, stop_and_go
from helpers.processes import decoders as decoders_below
from PIL import Image

from image_classification_trash.errors import PhotoError, PhotoTooLargeError
from image_classification_trash.inference.images import RESIZE_MODES, read_photo
from image_classification_trash.inference.photo_cost import SERVING
from image_classification_trash.serving.http.api_errors import RefusalError
from image_classification_trash.serving.operations import isolation
from image_classification_trash.serving.operations.access import KEYS
from image_classification_trash.serving.operations.isolation import Decoders

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="limits and processes as Linux has them"
)

SIZE = (64, 80)
PLENTY = 2**28


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(cpu_seconds=PATIENCE)
    yield made
    made.close()


def decode(decoders: Decoders, data: bytes, memory: int = PLENTY, seconds: float = PATIENCE) -> np.ndarray:  # type: ignore[type-arg]
    return decoders.decode(data, SIZE, "stretch", memory, time.monotonic() + seconds)


def encoded(kind: str, mode: str = "RGB") -> bytes:
    rng, buffer = np.random.default_rng(3), io.BytesIO()
    image = Image.fromarray(rng.integers(0, 256, (90, 130, 3), dtype=np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[274] = 6
    image.save(buffer, kind, exif=exif)
    return buffer.getvalue()


PHOTOS = [
    encoded("JPEG"), encoded("JPEG", "CMYK"), encoded("PNG", "RGBA"), encoded("PNG", "P"), encoded("WEBP"), encoded("AVIF"),
]  # fmt: skip


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
def test_pixels_are_those_of_the_same_process(decoders: Decoders, resize_mode) -> None:  # type: ignore[no-untyped-def]
    for data in PHOTOS:
        pixels = decoders.decode(data, SIZE, resize_mode, PLENTY, time.monotonic() + PATIENCE)
        assert np.array_equal(pixels, read_photo(data, SIZE, resize_mode, SERVING))


@pytest.mark.parametrize("data", [b"", b"no photo", PHOTOS[0][:200], BOMBS["webp_8944_a_side"]()])
def test_errors_are_those_of_the_same_process(decoders: Decoders, data: bytes) -> None:
    with pytest.raises(PhotoError) as here:
        read_photo(data, SIZE, budget=SERVING)
    with pytest.raises(PhotoError) as there:
        decode(decoders, data)
    assert (type(there.value), there.value.args) == (type(here.value), here.value.args)


def test_a_photo_that_takes_too_much_memory_is_too_large(decoders: Decoders) -> None:
    with pytest.raises(PhotoTooLargeError, match="memory"):
        decode(decoders, png(5000, 8, 2), memory=2**24)
    assert decode(decoders, PHOTOS[0]).shape == (*SIZE, 3)


def test_memory_that_no_header_tells_of_is_bounded(decoders: Decoders) -> None:
    """Huffman tables of a lossless WebP take more than its header says: over 100 MiB, without a limit."""
    memory = 2**26
    decode(decoders, PHOTOS[0])
    before = max(map(most_memory, decoders_below(os.getpid())))
    with pytest.raises(PhotoError):
        decode(decoders, webp_of_many_tables(), memory)
    after = max(map(most_memory, decoders_below(os.getpid())))
    assert 2**24 < after - before <= memory
    assert decode(decoders, PHOTOS[0]).shape == (*SIZE, 3)


def most_memory(pid: int) -> int:
    """The most bytes that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_a_photo_that_takes_too_much_computing_is_too_large() -> None:
    decoders = Decoders(cpu_seconds=0.02)
    with pytest.raises(PhotoTooLargeError, match=r"more than 0\.02 seconds"):
        decode(decoders, png(5000, 8, 2))
    decoders.close()


def test_a_decoder_that_hangs_is_ended_at_the_deadline(decoders: Decoders) -> None:
    decode(decoders, PHOTOS[0])
    stuck = decoders_below(os.getpid())
    stop_and_go(stuck, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        decode(decoders, PHOTOS[0], seconds=0.2)
    wait_until(lambda: not all(map(is_running, stuck)))
    stop_and_go(stuck, signal.SIGCONT)
    assert decode(decoders, PHOTOS[0]).shape == (*SIZE, 3)


def test_lost_processes_are_replaced(decoders: Decoders) -> None:
    """A decoder, then the parent of all."""
    for lost in (
        decoders_below,
        lambda pid: [child for child in descendants(pid) if DECODER in command(child)],
    ):
        decode(decoders, PHOTOS[0])
        pids = lost(os.getpid())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda pids=pids: not any(map(is_running, pids)))
        assert decode(decoders, PHOTOS[0]).shape == (*SIZE, 3)


def test_no_file_descriptor_left_costs_no_other_photo_its_decoder(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode(decoders, PHOTOS[0])
    (parent, *_), idle = descendants(os.getpid()), decoders_below(os.getpid())

    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(isolation.socket, "socketpair", none_left)
        patched.setattr(decoders, "_idle", [])
        with pytest.raises(RefusalError):
            decode(decoders, PHOTOS[0])
    assert decode(decoders, PHOTOS[0]).shape == (*SIZE, 3)
    assert is_running(parent) and decoders_below(os.getpid()) == idle


def test_no_api_key_is_in_the_environment_of_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS, "first-key-0123456789")
    monkeypatch.setenv("TRASH_OTHER", "kept")
    before = set(descendants(os.getpid()))
    decoders = Decoders(cpu_seconds=PATIENCE)
    decoders.warm_up()
    for pid in set(descendants(os.getpid())) - before:
        environment = Path(f"/proc/{pid}/environ").read_text()
        assert KEYS not in environment and "TRASH_OTHER=kept" in environment
    decoders.close()


def test_a_decoder_that_may_not_be_kept_ends(decoders: Decoders) -> None:
    before = len(decoders_below(os.getpid()))
    for _ in range(2):
        decoders.decode(PHOTOS[0], SIZE, "stretch", PLENTY, time.monotonic() + PATIENCE, keep=False)
    assert len(decoders_below(os.getpid())) <= before


def test_nobody_is_left_after_the_close() -> None:
    before = set(descendants(os.getpid()))
    decoders = Decoders(cpu_seconds=PATIENCE)
    decoders.warm_up()
    stop_and_go(new := [pid for pid in descendants(os.getpid()) if pid not in before], signal.SIGCONT)
    assert len(new) == 2
    decoders.close()
    wait_until(lambda: not any(map(is_running, new)))

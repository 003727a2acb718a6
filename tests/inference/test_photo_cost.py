"""What photos ask for, known from their headers; and bombs of every kind, decoded or refused within bounds."""

import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from helpers.photo_bombs import BOMBS, canvas, exif_of, grid, jpeg_of, lossless_frame, lying, riff
from helpers.photos import ROOT, encoded, picture
from PIL import Image

from image_classification_trash.errors import PhotoError, PhotoTooLargeError
from image_classification_trash.inference import photo_cost
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import open_photo, read_photo
from image_classification_trash.inference.photo_cost import (
    DEFAULT_BUDGET,
    SERVING,
    Budget,
    Cost,
    check_budget,
    photo_header,
)
from image_classification_trash.inference.photo_headers.av1 import inspect_av1
from image_classification_trash.inference.photo_headers.boxes import read_container

pillow_heif.register_heif_opener()
SIZE = (224, 288)
KINDS = ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP"]
CHILD = Path(__file__).parents[1] / "helpers" / "read_bombs.py"


def kinds_of_bombs() -> list[str]:
    return sorted({name.partition("_")[0] for name in BOMBS})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(48, 64), (131, 77)])
def test_a_header_tells_a_photos_format_and_size(kind: str, size: tuple[int, int]) -> None:
    header = photo_header(encoded(picture(1, size), kind))
    assert header is not None
    slack = 64 if kind == "HEIF" else 1  # coded in blocks, and cut
    assert header.kind == kind
    assert 0 <= header.height - size[0] < slack
    assert 0 <= header.width - size[1] < slack


@pytest.mark.parametrize("sequence", ["WEBP", "AVIF", "GIF", "PNG"])
def test_an_animations_header_tells_the_size_of_its_first_picture(sequence: str) -> None:
    frames = [picture(seed) for seed in range(3)]
    header = photo_header(encoded(frames[0], sequence, save_all=True, append_images=frames[1:]))
    assert header is not None
    assert (header.height, header.width) == (48, 64)


@pytest.mark.parametrize("budget", [DEFAULT_BUDGET, SERVING])
@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_photos_of_12_megapixels_are_within_every_budget(kind: str, budget: Budget) -> None:
    open_photo(twelve_megapixels(kind), "photo", budget, SIZE)


@cache
def twelve_megapixels(kind: str) -> bytes:
    if kind == "HEIF":
        return grid("HEIF", 7)  # in tiles, as phones make them
    options = {"speed": 10} if kind == "AVIF" else {}
    return encoded(Image.new("RGB", (4032, 3024), (90, 120, 40)), kind, **options)


def test_a_50_megapixel_jpeg_of_a_phone_is_within_the_budget_of_serving() -> None:
    assert read_photo(jpeg_of_side(7000), SIZE, budget=SERVING).shape == (*SIZE, 3)


def jpeg_of_side(side: int) -> bytes:
    return encoded(Image.new("L", (side, side), 90), "JPEG")


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_is_seen_through_in_little_time(name: str) -> None:
    """The scan alone: linear, bounded, and without a decoder. No tight time, for other work may share the cores."""
    data = BOMBS[name]()
    start = time.process_time()
    header = photo_header(data)
    spent = time.process_time() - start
    assert header is not None
    assert header.parts <= 2 * DEFAULT_BUDGET.max_parts
    assert spent < 2


def refused(name: str, budget: Budget = DEFAULT_BUDGET) -> str:
    with pytest.raises(PhotoTooLargeError) as caught:
        read_photo(BOMBS[name](), SIZE, budget=budget)
    assert "Scale the photo down" in caught.value.hint
    return caught.value.found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("jpeg_65500_a_side", "photo would decode to 65500 x 65500 pixels, more than 80 million pixels."),
        ("webp_8944_a_side", r"photo \(8944 x 8944 WEBP\) would take \d+ MiB to decode, more than 384\."),
        (
            "jpeg_500_scans",
            r"photo \(8944 x 8944 JPEG\) would take about \d+\.\d s to decode, more than 3\.0\.",
        ),
        ("jpeg_million_comments", "photo has more than 65536 segments, chunks or table rows."),
        ("AVIF_grids_of_grids", r"photo \(64 x 64 AVIF\) would take \d+ MiB to decode, more than 384\."),
    ],
)
def test_a_refusal_says_what_the_header_asks_for(name: str, found: str) -> None:
    assert re.fullmatch(found, refused(name))


@pytest.mark.parametrize("kind", kinds_of_bombs())
def test_bombs_of_each_kind_stay_within_memory_and_time(kind: str, tmp_path: Path) -> None:
    """In one child for each kind, under limits of the system that a decoder which ran off would meet."""
    names = [name for name in BOMBS if name.startswith(f"{kind}_")]
    line = [sys.executable, str(CHILD), *names]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout)
    assert list(outcomes) == names
    for name, outcome in outcomes.items():
        assert outcome["answer"] in ("pixels", "refused"), (name, outcome)
        assert outcome["mebibytes"] <= 400, (name, outcome)
        assert outcome["seconds"] <= 10, (name, outcome)  # 5 on a core of its own; see docs/pixels.md


def test_a_budget_for_more_pixels_has_more_of_everything() -> None:
    more = DEFAULT_BUDGET.with_max_pixels(160_000_000)
    assert more == Budget(160_000_000, 768 * 2**20, 6 * 10**9, 131_072)
    less = DEFAULT_BUDGET.with_max_pixels(1_000_000)
    assert less == replace(DEFAULT_BUDGET, max_pixels=1_000_000)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        DEFAULT_BUDGET.with_max_pixels(0)


def test_a_raised_budget_reads_what_the_default_refuses() -> None:
    data = encoded(Image.new("1", (20_000, 9_500)), "PNG")  # beyond Pillow's own limit too
    with pytest.raises(PhotoTooLargeError, match="20000 x 9500 pixels, more than 80 million pixels"):
        read_photo(data, SIZE)
    pixels = read_photo(data, SIZE, budget=DEFAULT_BUDGET.with_max_pixels(200_000_000))
    assert pixels.shape == (*SIZE, 3)
    assert not pixels.any()


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (Budget(max_pixels=99), "more than 9.9e-05 million pixels"),
        (Budget(max_memory=2**14), "MiB to decode"),
        (Budget(max_work=1000), "s to decode"),
        (Budget(max_parts=3), "more than 3 segments"),
    ],
)
def test_each_limit_of_a_budget_is_kept(limit: Budget, found: str) -> None:
    data = encoded(picture(1), "JPEG")
    read_photo(data)
    with pytest.raises(PhotoTooLargeError, match=found):
        read_photo(data, budget=limit)


def test_the_decoders_word_on_the_size_counts_where_it_is_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that is read otherwise than its decoder reads it does not open a way around the budget."""
    data = encoded(Image.new("L", (400, 300)), "PNG")
    header = photo_header(data)
    assert header is not None
    monkeypatch.setattr(
        "image_classification_trash.inference.images.photo_header",
        lambda *_: replace(header, width=8, height=8),
    )
    with pytest.raises(PhotoTooLargeError, match="400 x 300 pixels"):
        read_photo(data, budget=Budget(max_pixels=100_000))


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_what_the_codec_says_counts_where_the_container_says_less(kind: str) -> None:
    header = photo_header(lying(kind, 1024, 64))
    assert header is not None
    honest = photo_header(lying(kind, 1024, 1024))
    assert honest is not None
    assert header.work == honest.work > 1024 * 1024 * 20


def test_pictures_that_are_coded_but_not_shown_count() -> None:
    container = read_container(lying("AVIF", 512, 512), 1000)
    data = bytes(container.body(container.primary))
    once, thrice = inspect_av1(data, 1000), inspect_av1(data * 3, 1000)
    assert (once.pixels, once.pictures, once.plane_bytes) == (512 * 512, 1, 1.5)
    assert (thrice.pixels, thrice.pictures) == (512 * 512, 3)


@pytest.mark.parametrize(
    ("options", "plane_bytes"), [({"subsampling": "4:4:4"}, 3), ({"subsampling": "4:0:0"}, 1), ({}, 1.5)]
)
def test_the_planes_of_an_avif_are_told_from_its_sequence_header(
    options: dict[str, str], plane_bytes: float
) -> None:
    container = read_container(encoded(picture(1, (64, 64)), "AVIF", **options), 1000)
    assert inspect_av1(container.body(container.primary), 1000).plane_bytes == plane_bytes


def test_progressive_scans_and_restarts_of_an_ordinary_photo_cost_little() -> None:
    photo = picture(1, (3000, 4000))
    for options in ({"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "optimize": True}):
        header = photo_header(encoded(photo, "JPEG", quality=90, **options))
        assert header is not None
        check_budget(header, Cost(header.memory, header.work), SERVING)


def test_a_header_that_breaks_off_is_no_error_of_the_scan() -> None:
    for kind in KINDS:
        data = encoded(picture(1), kind)
        for length in (12, 20, 30, 41, 60, 100, len(data) // 2, len(data) - 3):
            with suppress(PhotoError):
                read_photo(data[:length])


def test_random_changes_to_headers_never_break_the_scan() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        data = np.frombuffer(encoded(picture(1), kind), np.uint8)
        for _ in range(150):
            changed = data.copy()
            places = rng.integers(4, min(len(data), 700), 6)
            changed[places] = rng.integers(0, 256, 6)
            header = photo_header(bytes(changed))
            assert header is None or header.parts <= 2 * DEFAULT_BUDGET.max_parts


def test_a_classifier_answers_within_the_budget_that_it_is_given() -> None:
    photo = encoded(picture(1), "JPEG")
    classifier = TrashClassifier.load()
    assert classifier.predict([photo])[0].error is None
    (answer,) = classifier.predict([photo], budget=Budget(max_pixels=1000))
    assert answer.error is not None
    assert "more than 0.001 million pixels" in answer.error
    assert [a.error is None for a in classifier.stream([photo] * 20, budget=SERVING)] == [True] * 20


def test_an_image_that_is_open_is_its_owners() -> None:
    assert read_photo(picture(1), SIZE, budget=Budget(max_pixels=1)).shape == (*SIZE, 3)


def test_ordinary_exif_of_64_kilobytes_is_within_the_budget_of_serving() -> None:
    exif = b"Exif\0\0" + exif_of(0x010E, 2, 60_000, 1)
    data = encoded(picture(1), "JPEG", exif=exif)
    assert read_photo(data, budget=SERVING).shape == (48, 64, 3)
    heavy = riff(canvas(64, 64, 8), lossless_frame(64, 64))
    assert read_photo(heavy, budget=SERVING).shape == (64, 64, 3)
    assert read_photo(jpeg_of(b"\xff\xe1\xff\xff" + bytes(65_533)), budget=SERVING).shape == (64, 64, 3)


def test_serving_is_stricter_than_the_default_in_everything() -> None:
    stricter = vars(SERVING)
    assert all(stricter[name] < value for name, value in vars(DEFAULT_BUDGET).items())
    assert photo_cost.STEPS_A_SECOND == 10**9

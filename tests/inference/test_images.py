import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from image_classification_trash.errors import PhotoError, PhotoTooLargeError
from image_classification_trash.inference import images
from image_classification_trash.inference.images import RESIZE_MODES, ResizeMode, photo_bytes, read_photo

PhotoMaker = Callable[..., Image.Image]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiny_huge_png(width: int, height: int) -> bytes:
    """A 1-bit PNG of a few KB that would decode to width x height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP"])
def test_every_format_gives_the_same_shape_and_nearly_the_same_colour(kind: str) -> None:
    pixels = read_photo(encoded(Image.new("RGB", (40, 30), (200, 100, 50)), kind))
    assert pixels.shape == (30, 40, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 4


def test_heic_is_read_where_its_library_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    pixels = read_photo(encoded(Image.new("RGB", (64, 48), (200, 100, 50)), "HEIF"))
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 6


def test_bytes_path_string_and_open_image_give_the_same_pixels(
    tmp_path: Path, make_photo: PhotoMaker
) -> None:
    file = tmp_path / "größe ü.png"
    make_photo(1).save(file)
    expected = read_photo(file, (32, 40))
    for source in (file.read_bytes(), str(file), Image.open(file)):
        assert np.array_equal(read_photo(source, (32, 40)), expected)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "PA"])
def test_every_colour_mode_of_an_open_image_becomes_rgb(mode: str, make_photo: PhotoMaker) -> None:
    assert read_photo(make_photo(1).convert(mode), (16, 20)).shape == (16, 20, 3)


def test_cmyk_jpeg_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    pixels = read_photo(encoded(cmyk, "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 6


def test_sixteen_bits_are_scaled_not_cut() -> None:
    values = (np.arange(0, 256, dtype=np.uint16) * 257).reshape(16, 16)
    pixels = read_photo(encoded(Image.fromarray(values), "PNG"))
    assert np.array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_transparency_is_laid_over_white() -> None:
    rgba = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    rgba.paste((255, 0, 0, 128), (8, 0, 16, 16))
    pixels = read_photo(encoded(rgba, "PNG"))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.abs(pixels[0, 15].astype(int) - (255, 127, 127)).max() <= 1


def test_a_palette_with_a_transparent_colour_is_laid_over_white() -> None:
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.paste(1, (8, 0, 16, 16))
    pixels = read_photo(encoded(palette, "PNG", transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 15].tolist() == [10, 20, 30]


@pytest.mark.parametrize("size", [None, (300, 300)])
def test_exif_orientation_6_turns_the_photo_upright(size: tuple[int, int] | None) -> None:
    stored = Image.new("RGB", (80, 40), "blue")
    stored.paste("red", (0, 0, 40, 40))  # left as stored is top as displayed
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_photo(encoded(stored, "JPEG", exif=exif, quality=95), size)
    assert pixels.shape[:2] == (size or (80, 40))
    top, bottom = pixels[4, pixels.shape[1] // 2], pixels[-4, pixels.shape[1] // 2]
    assert top[0] > 200 and top[2] < 60
    assert bottom[2] > 200 and bottom[0] < 60


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
@pytest.mark.parametrize("frame", [(100, 20), (20, 100), (9, 500), (48, 64)])
def test_each_fit_gives_the_size_that_was_asked_for(resize_mode: ResizeMode, frame: tuple[int, int]) -> None:
    assert read_photo(Image.new("RGB", frame), (36, 48), resize_mode).shape == (36, 48, 3)


def plainly(
    image: Image.Image, size: tuple[int, int] | None, resize_mode: ResizeMode
) -> np.ndarray[Any, Any]:
    """What `read_photo` must give, with a copy of the whole frame for each step."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float32)
        rgb = Image.fromarray(np.clip(values / 257.0 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        rgb = image.convert("RGB")
    return np.asarray(images.fit_photo(rgb, size, resize_mode))


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "1", "P", "transparent P", "16", "CMYK"])
def test_pixels_made_in_strips_are_those_of_the_whole_frame(
    mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(orientation)
    monkeypatch.setattr(images, "STRIP_PIXELS", 700)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for frame, size in (
        ((90, 131), (40, 50)),
        ((211, 64), (40, 50)),
        ((64, 211), (50, 40)),
        ((70, 80), (96, 75)),
    ):
        noise = Image.fromarray(rng.integers(0, 256, (*frame, 4), dtype=np.uint8))
        options: dict[str, Any] = {"exif": exif}
        if mode == "16":
            photo = Image.fromarray(rng.integers(0, 65536, frame, dtype=np.uint16))
        elif mode.endswith("P"):
            photo = noise.convert("RGB").quantize(64)
            options |= {"transparency": bytes(range(64))} if mode != "P" else {}
        else:
            photo = noise.convert(mode)
        data = encoded(photo, "JPEG" if mode == "CMYK" else "PNG", **options)
        for resize_mode in RESIZE_MODES:
            expected = plainly(Image.open(io.BytesIO(data)), size, resize_mode)
            assert np.array_equal(read_photo(data, size, resize_mode), expected), (frame, resize_mode)
        assert np.array_equal(read_photo(data), plainly(Image.open(io.BytesIO(data)), None, "stretch"))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "GIF", "BMP"])
def test_pixels_in_strips_of_other_formats(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "STRIP_PIXELS", 700)
    rng = np.random.default_rng(1)
    for mode in ("RGB", "RGBA", "L"):
        photo = Image.fromarray(rng.integers(0, 256, (120, 90, 4), dtype=np.uint8)).convert(mode)
        data = encoded(photo, kind)
        assert np.array_equal(
            read_photo(data, (40, 50)), plainly(Image.open(io.BytesIO(data)), (40, 50), "stretch")
        )


@pytest.mark.parametrize("frame", [(101, 79), (97, 131), (139, 47), (53, 148)])
def test_a_crop_is_read_whatever_the_last_digit_of_its_box(frame: tuple[int, int]) -> None:
    for height in range(8, 150, 7):
        for width in range(9, 150, 13):
            assert read_photo(Image.new("L", frame), (height, width), "crop").shape == (height, width, 3)


def test_crop_takes_the_centre_and_pad_adds_white() -> None:
    photo = Image.new("RGB", (120, 40), "red")
    photo.paste("blue", (40, 0, 80, 40))
    assert (read_photo(photo, (40, 40), "crop") == (0, 0, 255)).all()
    padded = read_photo(photo, (40, 40), "pad")
    assert (padded[0] == 255).all()
    assert padded[20, 20].tolist() == [0, 0, 255]
    stretched = read_photo(photo, (40, 40), "stretch")
    assert stretched[0, 2].tolist() == [255, 0, 0]


def test_decoding_a_large_jpeg_at_a_fraction_changes_pixels_by_less_than_a_grey_level() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (45, 60, 3), dtype=np.uint8))
    data = encoded(coarse.resize((3000, 2250), Image.Resampling.BICUBIC), "JPEG", quality=92)
    full = Image.fromarray(read_photo(data)).resize((288, 224), images.RESIZE_FILTER)
    difference = np.abs(read_photo(data, (224, 288)).astype(int) - np.asarray(full).astype(int))
    assert difference.mean() <= 1.0


def test_a_picture_that_would_fill_memory_is_refused_from_its_header() -> None:
    data = tiny_huge_png(20_000, 20_000)
    assert len(data) < 4096
    with pytest.raises(PhotoTooLargeError, match="more than 80 million pixels") as caught:
        read_photo(data)
    assert "Scale the photo down" in caught.value.hint


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_000, 10_000])
def test_the_limit_is_ours_not_pillows(side: int) -> None:
    with pytest.raises(PhotoTooLargeError, match=f"{side} x {side} pixels, more than 80 million"):
        read_photo(tiny_huge_png(side, side))


def test_a_photo_of_one_pixel_is_refused() -> None:
    with pytest.raises(PhotoError, match="1 x 1 pixels; at least 8 a side") as caught:
        read_photo(encoded(Image.new("RGB", (1, 1)), "PNG"))
    assert "original" in caught.value.hint


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_truncated_jpeg_is_refused_and_never_filled_with_grey(keep: float, make_photo: PhotoMaker) -> None:
    data = encoded(make_photo(1, (400, 300)), "JPEG")
    with pytest.raises(PhotoError, match="truncated") as caught:
        read_photo(data[: int(len(data) * keep)])
    assert "Save it again" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "found", "hint"),
    [
        (b"", "x.jpg is empty (0 bytes)", "Copy the photo again"),
        (b"Dear reader, this is a text.", "x.jpg is not a picture that can be read", "Save it again as JPEG"),
        (b"\xff\xd8\xff\xe0", "x.jpg is not a picture that can be read", "Save it again as JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "x.jpg is not a picture", "Save it again as JPEG"),
    ],
)
def test_what_is_no_photo_is_refused_by_name(tmp_path: Path, content: bytes, found: str, hint: str) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(content)
    with pytest.raises(PhotoError) as caught:
        read_photo(file)
    assert found in caught.value.found
    assert str(tmp_path) in caught.value.found
    assert hint in caught.value.hint


def test_formats_that_are_not_listed_are_refused(make_photo: PhotoMaker) -> None:
    with pytest.raises(PhotoError, match="JPEG, PNG, WebP"):
        read_photo(encoded(make_photo(1), "TIFF"))


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_path_without_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.jpg"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(PhotoError, match=r"x\.jpg cannot be read: (No such file|Is a directory)") as caught:
        read_photo(path)
    assert caught.value.hint == "Check the path and its permissions."


def test_pipes_and_devices_are_refused_and_a_shells_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for target in ("/dev/zero", "/dev/null"):
        link = tmp_path / f"{Path(target).name}.jpg"
        link.symlink_to(target)
        with pytest.raises(PhotoError, match=r"\.jpg is a pipe or a device, which may never end") as caught:
            photo_bytes(link)
    assert "Give a file" in caught.value.hint
    with pytest.raises(PhotoError, match="is a pipe or a device"):
        photo_bytes(tmp_path / "pipe.jpg")
    reading, writing = os.pipe()
    os.write(writing, b"photo")
    os.close(writing)
    assert photo_bytes(Path(f"/dev/fd/{reading}")) == b"photo"
    os.close(reading)


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(b"x")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PhotoError, match=r"x\.jpg cannot be read: Permission denied") as caught:
        read_photo(file)
    assert "permissions" in caught.value.hint


def test_a_file_above_the_limit_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    file = tmp_path / "x.jpg"
    with file.open("wb") as sparse:
        sparse.truncate(3 * 2**20)
    with pytest.raises(PhotoTooLargeError, match="has 3 MiB; the limit is 1 MiB"):
        photo_bytes(file)

"""Photos decoded inside the TensorFlow graph are what Pillow makes of them, within 1."""

import numpy as np
import pytest
from helpers.photos import ROOT, encoded
from PIL import Image

from image_classification_trash.export.quiet_tensorflow import tf
from image_classification_trash.export.tensorflow_decoding import decode_photos, orientation_of
from image_classification_trash.inference.images import RESIZE_MODES, ResizeMode, read_photo

SIZE = (96, 128)


def photo() -> Image.Image:
    with Image.open(sorted((ROOT / "data/sample/test/glass").iterdir())[0]) as image:
        return image.convert("RGB")


def with_orientation(value: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0131] = "A maker of cameras", value, "software"
    return encoded(photo().crop((30, 0, 400, 384)), exif=exif, **options)


def with_alpha() -> Image.Image:
    rgba = np.array(photo().convert("RGBA"))
    rgba[..., 3] = np.linspace(0, 255, rgba.shape[1])
    return Image.fromarray(rgba)


CASES = {
    "jpeg": encoded(photo()),
    "progressive": encoded(photo(), progressive=True),
    "twelve megapixels": encoded(photo().resize((4032, 3024), Image.Resampling.BICUBIC), quality=90),
    "smaller than the input": encoded(photo().resize((50, 40))),
    "grey": encoded(photo().convert("L")),
    "cmyk": encoded(photo().convert("CMYK")),
    "png": encoded(photo(), "PNG"),
    "png with alpha": encoded(with_alpha(), "PNG"),
    "png of 16 bits": encoded(
        Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257), "PNG"
    ),
    "palette": encoded(photo().convert("P"), "PNG"),
    "webp": encoded(photo(), "WEBP"),
    "bmp": encoded(photo(), "BMP"),
    "gif": encoded(photo().convert("P"), "GIF"),
    **{f"turned {value}": with_orientation(value) for value in range(1, 9)},
}


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
def test_pixels_are_pillows_within_one(resize_mode: ResizeMode) -> None:
    decode = tf.function(
        lambda data: decode_photos(data, SIZE, resize_mode),
        input_signature=[tf.TensorSpec((None,), tf.string)],
    )
    got = decode(tf.constant(list(CASES.values()))).numpy().astype(int)
    for pixels, (name, data) in zip(got, CASES.items(), strict=True):
        difference = np.abs(pixels - read_photo(data, SIZE, resize_mode))
        assert difference.max() <= 1 and difference.mean() < 0.05, name


@pytest.mark.parametrize("value", range(1, 9))
def test_orientation_is_found(value: int) -> None:
    assert int(orientation_of(tf.constant(with_orientation(value)))) == value


@pytest.mark.parametrize(
    "data",
    [
        CASES["jpeg"],
        b"\xff\xd8Exif\0\0",
        b"\xff\xd8Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(20),
        b"\xff\xd8Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40,
        with_orientation(9),
    ],
)
def test_exif_that_makes_no_sense_turns_nothing(data: bytes) -> None:
    assert int(orientation_of(tf.constant(data))) == 1


@pytest.mark.parametrize("data", [b"", b"no photo", CASES["jpeg"][:2000], CASES["png"][:2000]])
def test_what_is_no_photo_is_an_error_of_the_request(data: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_photos(tf.constant([data]), SIZE, "stretch")
